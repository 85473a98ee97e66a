"""The simulated cortex: its rates are the truth, its receptive fields are where it says."""

import dataclasses

import numpy as np
import pytest

from behavejax.config_neural import SimulateNeuralConfig
from behavejax.data import simulate_neural
from behavejax.data.simulate_neural import expected_counts

SMALL = SimulateNeuralConfig(
  neurons=(6, 3),
  heights=(16, 12),
  widths=(16, 18),
  rates_hz=(30.0, 20.0),
  trials=30,
  repeated=2,
  repeats=5,
  trial_s=2.0,
)


@pytest.fixture(scope="module")
def recording():
  return simulate_neural.simulate_neural(SMALL, 0, seed=3)


def test_sizes_trials_and_repeats(recording):
  assert recording.video.shape == (40 * 60, 16, 16, 1)
  assert recording.spikes.shape == (2400, 6)
  assert sorted(recording.condition.tolist()) == [-1] * 30 + [0] * 5 + [1] * 5
  edges = recording.trial_edges
  for number in (0, 1):
    shown = [recording.video[edges[r] : edges[r + 1]] for r in np.flatnonzero(recording.condition == number)]
    assert all(np.array_equal(video, shown[0]) for video in shown)
  assert len({recording.video[e].tobytes() for e in edges[:-1]}) == 32


def test_recordings_differ_and_each_is_its_own(recording):
  again = simulate_neural.simulate_neural(dataclasses.replace(SMALL, neurons=(6, 9), widths=(16, 8)), 0, seed=3)
  for name in ("video", "spikes", "behaviour"):
    np.testing.assert_array_equal(getattr(again, name), getattr(recording, name))
  other = simulate_neural.simulate_neural(SMALL, 1, seed=3)
  assert other.video.shape == (40 * 40, 12, 18, 1)
  assert other.spikes.shape[1] == 3


def test_counts_have_the_true_rates_as_their_mean():
  """Also right after rates jump and at the start of a trial: the refractory time is compensated exactly."""
  config = dataclasses.replace(SMALL, refractory_ms=6.0)
  rates = np.repeat(np.array([[0.2, 3.0], [3.7, 0.1], [0.5, 3.5], [0.0, 1.0]])[None], 20_000, axis=0)
  assert rates.max() < simulate_neural._highest(config, 30.0)
  spikes = simulate_neural._spikes(np.random.default_rng(0), rates, config, 30.0)
  error = spikes.std(0) / np.sqrt(len(spikes)) + 1e-12
  assert (np.abs(spikes.mean(0) - rates[0]) < 4.5 * error).all()
  assert (spikes.var(0)[rates[0] >= 3] < 0.6 * rates[0][rates[0] >= 3]).all()


@pytest.mark.parametrize("refractory_ms", [0.0, 4.0])
def test_no_two_spikes_within_the_refractory_time(refractory_ms):
  config = dataclasses.replace(SMALL, refractory_ms=refractory_ms)
  bins, silent = simulate_neural._bins(config, 30.0)
  assert (bins, silent) == (17, 2 if refractory_ms else 0)
  rates = np.full((50, 200, 1), simulate_neural._highest(config, 30.0))
  most = simulate_neural._spikes(np.random.default_rng(0), rates, config, 30.0).max()
  assert most <= -(-bins // (silent + 1))
  assert most > 4


def test_true_rates_are_the_best_prediction(recording):
  y, r = recording.spikes, recording.truth.rates
  likelihood = [np.sum(y * np.log(r * f) - r * f) for f in (0.8, 1.0, 1.25)]
  shifted = np.sum(y * np.log(np.roll(r, 1, 0)) - np.roll(r, 1, 0))
  assert likelihood[1] > max(likelihood[0], likelihood[2], shifted)
  np.testing.assert_allclose(y.mean(0), r.mean(0), rtol=0.15)


def test_neurons_see_only_the_past_and_only_around_their_centre():
  rng = np.random.default_rng(1)
  config = dataclasses.replace(SMALL, heights=(24,), widths=(24,), neurons=(8,), rates_hz=(30.0,), behaviour_gain=0.0)
  cells = simulate_neural._cells(rng, config, 0)
  video = rng.integers(0, 256, (1, 40, 24, 24), dtype=np.uint8)
  behaviour = np.zeros((1, 40, 2))
  rates = expected_counts(video, behaviour, cells)
  reach = round(simulate_neural.KERNEL_S * 30) + 1
  rows, columns = np.mgrid[:24, :24]
  for neuron in range(8):
    far = np.hypot(rows - cells.centres[neuron, 0], columns - cells.centres[neuron, 1]) > 9
    changed = np.where(far, 255 - video, video)
    found = expected_counts(changed, behaviour, cells)[0, :, neuron]
    np.testing.assert_allclose(found / found.mean(), rates[0, :, neuron] / rates[0, :, neuron].mean(), rtol=1e-2)
  weights = np.abs(cells.filters).sum(1)
  centre = np.stack([(weights * axis).sum((1, 2)) / weights.sum((1, 2)) for axis in (rows, columns)], axis=1)
  np.testing.assert_allclose(centre, cells.centres, atol=0.6)
  assert np.abs(cells.filters.sum((2, 3))).max() < 1e-9  # a grey screen drives no neuron, whatever its grey
  assert cells.kernels.shape[1] == reach
  assert (cells.kernels[:, 0] == 0).all()


def test_behaviour_multiplies_rates():
  rng = np.random.default_rng(2)
  cells = simulate_neural._cells(rng, dataclasses.replace(SMALL, behaviour_gain=0.5), 0)
  video = np.stack([simulate_neural._moving_video(rng, 90, 16, 16, 30.0)] * 2)
  behaviour = rng.normal(size=(2, 90, 2))
  rates = expected_counts(video, behaviour, cells)
  z = (behaviour - behaviour.mean((0, 1))) / behaviour.std((0, 1))
  np.testing.assert_allclose(np.log(rates[0] / rates[1]), (z[0] - z[1]) @ cells.gains.T, atol=1e-6)


def test_neighbouring_frames_and_pixels_are_alike():
  video = simulate_neural._moving_video(np.random.default_rng(0), 300, 24, 32, 30.0).astype(float) - 128
  assert np.corrcoef(video[1:].ravel(), video[:-1].ravel())[0, 1] > 0.8
  assert np.corrcoef(video[:, 1:].ravel(), video[:, :-1].ravel())[0, 1] > 0.5
  cuts = np.abs(np.diff(video, axis=0)).mean((1, 2))
  assert 5 < (cuts > 3 * np.median(cuts)).sum() < 60
