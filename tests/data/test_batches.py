"""The order of batches: every epoch a permutation, shares that add up, a position that can be saved."""

import numpy as np
import pytest

from behavejax.data import batches
from tests.data.test_windows import make


@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_each_epoch_is_a_permutation(epoch):
  steps = batches.steps_per_epoch(23, 4)
  assert steps == 5
  drawn = [
    batches.batch_indices(epoch * steps + k, windows=23, batch_size=4, seed=3) for k in range(steps)
  ]  # fmt: skip
  flat = np.concatenate(drawn)
  assert len(set(flat.tolist())) == 20
  assert set(flat.tolist()) <= set(range(23))


def test_fewer_windows_than_a_batch_are_repeated():
  found = batches.batch_indices(0, windows=3, batch_size=8, seed=0)
  assert len(found) == 8
  assert set(found.tolist()) == {0, 1, 2}


def test_processes_share_each_batch():
  windows = make(400)
  settings = {"batch_size": 8, "seed": 1, "steps_per_call": 2}
  whole = next(batches.train_batches(windows, **settings))
  parts = [next(batches.train_batches(windows, **settings, process_index=i, process_count=2)) for i in range(2)]
  assert whole.x.shape == (2, 8, *windows.shape)
  np.testing.assert_array_equal(whole.x, np.concatenate([part.x for part in parts], axis=1))
  np.testing.assert_array_equal(whole.y, np.concatenate([part.y for part in parts], axis=1))


def test_state_continues_exactly():
  windows = make(400)
  iterator = batches.train_batches(windows, batch_size=8, seed=1)
  for _ in range(3):
    next(iterator)
  state = iterator.get_state()
  expected = [next(iterator).x for _ in range(20)]
  fresh = batches.train_batches(windows, batch_size=8, seed=1)
  fresh.set_state(state)
  for x in expected:
    np.testing.assert_array_equal(next(fresh).x, x)


def test_seeds_differ():
  first, second = (batches.batch_indices(0, windows=100, batch_size=50, seed=s) for s in (0, 1))
  assert not np.array_equal(first, second)


def test_evaluation_sees_every_window_once():
  windows = make(100)
  found = list(batches.eval_batches(windows, batch_size=7))
  mask = np.concatenate([batch.mask for batch in found])
  assert mask.sum() == len(windows)
  np.testing.assert_array_equal(np.concatenate([b.x for b in found])[mask], windows.gather(np.arange(len(windows))))
  assert all(batch.x.shape[0] == 7 for batch in found)
