"""Windows against naive loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavejax.data import windows as windows_lib


def make(samples=60, length=10, stride=4, *, fold=True, name="a"):
  rng = np.random.default_rng(samples)
  starts = windows_lib.window_starts(samples, length=length, stride=stride)
  count = len(starts)
  return windows_lib.Windows(
    signal=rng.normal(size=(samples, 3)).astype(np.float32), starts=starts, labels=rng.integers(-1, 2, count),
    subject=np.zeros(count, np.int32), recording=np.zeros(count, np.int32), time_s=starts / 10, length=length,
    fold=fold, rate_hz=10.0, subjects=(name,), recordings=(f"{name}/1",), classes=("rest", "move"),
    channels=("x", "y", "z"),
  )  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(samples=st.integers(0, 80), length=st.integers(1, 20), stride=st.integers(1, 9), seed=st.integers(0, 99))
def test_starts_and_labels_equal_a_loop(samples, length, stride, seed):
  labels = np.random.default_rng(seed).integers(-1, 3, samples)
  starts = windows_lib.window_starts(samples, length=length, stride=stride)
  assert starts.tolist() == [s for s in range(0, samples, stride) if s + length <= samples]
  found = windows_lib.majority_labels(labels, starts, length=length, classes=3)
  for start, label in zip(starts, found, strict=True):
    counts = [(labels[start : start + length] == k).sum() for k in (-1, 0, 1, 2)]
    assert label == int(np.argmax(counts)) - 1  # unlabelled wins a tie, then the lower class
  flags = labels == 0
  inside = windows_lib.contains(flags, starts, length=length)
  assert inside.tolist() == [bool(flags[s : s + length].any()) for s in starts]


@pytest.mark.parametrize("fold", [True, False])
def test_gather_equals_slicing(fold):
  windows = make(fold=fold)
  found = windows.gather(np.array([3, 0, 3]))
  assert found.shape == (3, *windows.shape)
  for row, index in zip(found, (3, 0, 3), strict=True):
    start = windows.starts[index]
    np.testing.assert_array_equal(row.reshape(10, 3), windows.signal[start : start + 10])


def test_subset_keeps_the_recordings():
  windows = make()
  chosen = windows.subset(np.array([5, 2]))
  assert chosen.recordings == windows.recordings
  np.testing.assert_array_equal(chosen.gather(np.arange(2)), windows.gather(np.array([5, 2])))
  np.testing.assert_array_equal(windows.subset(windows.labels == 1).labels, windows.labels[windows.labels == 1])


def test_odd_length_folds_to_even():
  assert windows_lib.window_length(0.5, 25.0, fold=True) == 12
  assert windows_lib.window_length(0.52, 25.0, fold=False) == 13
