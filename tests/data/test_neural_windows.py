"""Clips of a recording: every frame where it belongs, nothing across the ends of trials."""

import numpy as np
import pytest

from behavejax.data.neural import NeuralRecording
from behavejax.data.neural_windows import Clips, Scaling

LENGTHS = (10, 3, 7)


def recording(*, signals=2, neurons=3, seed=0):
  rng = np.random.default_rng(seed)
  frames = sum(LENGTHS)
  return NeuralRecording(
    video=rng.integers(0, 256, (frames, 4, 5, 1), dtype=np.uint8),
    spikes=rng.poisson(1.0, (frames, neurons)).astype(np.float32),
    behaviour=rng.normal(size=(frames, signals)).astype(np.float32) if signals else None,
    mask=rng.random((frames, neurons)) < 0.8,
    trial=np.repeat([0, 1, 2], LENGTHS),
    condition=np.full(3, -1),
    rate_hz=30.0,
    name="mouse",
  )


def clips(own, *, first=(0, 4, 10, 13), trial=(0, 0, 1, 2), length=6, context=2, lags=(0,)):
  signals = own.signals
  scaling = Scaling(
    np.float32(100), np.float32(50), np.full(signals, 0.5, np.float32), np.full(signals, 2, np.float32),
    np.ones(own.neurons, np.float32), np.arange(own.neurons),
  )  # fmt: skip
  return Clips(own, scaling, np.array(first), np.array(trial), length, context, lags)


def test_a_batch_frame_by_frame():
  own = recording()
  found = clips(own, lags=(0, 2)).gather(np.arange(4))
  assert found.video.shape == (4, 6, 4, 5, 1)
  assert found.behaviour.shape == (4, 6, 4)
  assert [a.dtype.name for a in found] == ["float32", "float32", "float32", "bool"]
  edges = own.trial_edges
  for row, (first, trial) in enumerate(((0, 0), (4, 0), (10, 1), (13, 2))):
    for step in range(6):
      frame = first + step
      if frame >= edges[trial + 1]:
        assert not found.video[row, step].any()
        assert not found.behaviour[row, step].any()
        assert not found.mask[row, step].any()
        assert not found.spikes[row, step].any()
        continue
      np.testing.assert_allclose(found.video[row, step], (own.video[frame] - 100.0) / 50, rtol=1e-6)
      back = max(frame - 2, edges[trial])
      expected = np.r_[own.behaviour[frame], own.behaviour[back]] / 2 - 0.25
      np.testing.assert_allclose(found.behaviour[row, step], expected, atol=1e-6)
      mask = own.mask[frame] & (step >= 2)
      np.testing.assert_array_equal(found.mask[row, step], mask)
      np.testing.assert_array_equal(found.spikes[row, step], own.spikes[frame] * mask)


def test_no_behaviour_and_one_neuron():
  found = clips(recording(signals=0, neurons=1))
  assert found.signals == 0
  batch = found.gather(np.array([0, 3]))
  assert batch.behaviour.shape == (2, 6, 0)
  assert batch.spikes.shape == (2, 6, 1)
  assert found.shape == (6, 4, 5, 1)


@pytest.mark.parametrize("neurons", [1, 3])
def test_predictions_go_back_to_their_frames(neurons):
  own = recording(neurons=neurons)
  found = clips(own)
  number = found.first[:, None, None] + np.arange(6)[None, :, None] + np.zeros((1, 1, neurons))
  placed = found.place(number)
  frames = np.flatnonzero(np.isfinite(placed[:, 0]))
  assert frames.tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 18]
  np.testing.assert_array_equal(placed[frames], np.repeat(frames[:, None], neurons, 1))
  counted = np.zeros_like(own.mask)
  counted[frames] = own.mask[frames]
  np.testing.assert_array_equal(found.counted_frames(), counted)
