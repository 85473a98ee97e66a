"""Samples against slicing."""

import numpy as np
import pytest

from behavejax.data.batches import eval_batches, train_batches
from behavejax.data.normalization import Normalization
from behavejax.data.samples import Samples, channel_names

MEAN, STD = np.array([3.0, 5.0], np.float32), np.array([2.0, 10.0], np.float32)


def make(space=(4, 5), *, length=3, dtype=np.uint8, normalized=False):
  """Two sources of 10 and 7 steps, or 17 images."""
  rng = np.random.default_rng(0)
  bounds = np.array([0, 10, 17]) if length else np.arange(18)
  starts = np.array([0, 2, 7, 10, 14]) if length else np.array([3, 0, 16, 2])
  return Samples(
    steps=rng.integers(0, 255, (17, *space, 2)).astype(dtype),
    starts=starts,
    length=length,
    labels=rng.integers(-1, 2, len(starts)),
    source=np.searchsorted(bounds, starts, side="right") - 1,
    bounds=bounds,
    sources=tuple(f"source{i}" for i in range(len(bounds) - 1)),
    classes=("a", "b"),
    channels=("x", "y"),
    normalization=None if normalized else Normalization(MEAN, STD, ("x", "y")),
    peak=255.0,
    rate_hz=10.0 if length else 0.0,
  )


@pytest.mark.parametrize(("space", "length"), [((), 3), ((4, 5), 0), ((4, 5), 3)])
def test_gather_equals_slicing(space, length):
  samples = make(space, length=length)
  chosen = np.array([2, 0, 2, 3])
  found = samples.gather(chosen)
  assert found.dtype == np.float32
  assert found.shape == (4, *samples.shape)
  for row, i in zip(found, chosen, strict=True):
    start = samples.starts[i]
    cut = samples.steps[start : start + length] if length else samples.steps[start]
    np.testing.assert_allclose(row, (cut.astype(np.float64) - MEAN) / STD, rtol=1e-6)


def test_a_source_is_whole():
  samples = make()
  found = samples.whole(1)
  assert found.shape == (7, 4, 5, 2)
  np.testing.assert_array_equal(found[:3], samples.gather(np.array([3]))[0])
  np.testing.assert_array_equal(samples.normalization.undo(found).round(), samples.steps[10:])


def test_normalized_steps_stay_as_they_are():
  samples = make((), dtype=np.float32, normalized=True)
  np.testing.assert_array_equal(samples.gather(np.array([1]))[0], samples.steps[2:5])


def test_subset_keeps_sources():
  samples = make()
  kept = samples.subset(np.array([4, 1]))
  assert kept.sources == samples.sources
  assert kept.source.tolist() == [1, 0]
  np.testing.assert_array_equal(kept.gather(np.arange(2)), samples.gather(np.array([4, 1])))
  assert len(samples.subset(samples.source == 0)) == 3


def test_batches_take_samples_as_they_take_windows():
  samples = make()
  batch = next(train_batches(samples, batch_size=2, seed=0, steps_per_call=3))
  assert batch.x.shape == (3, 2, 3, 4, 5, 2)
  assert batch.y.shape == (3, 2)
  last = list(eval_batches(samples, batch_size=2))[-1]
  assert last.mask.tolist() == [True, False]
  np.testing.assert_array_equal(last.x[0], samples.gather(np.array([4]))[0])


def test_channels_have_names():
  assert channel_names(1) == ("grey",)
  assert channel_names(6)[5] == "channel_5"
  assert len(channel_names(4)) == 4
