"""The order of batches: every epoch a permutation, shares that add up, a position that can be saved."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
  options = {"batch_size": 8, "seed": 1, "steps_per_call": 2}
  whole = next(batches.train_batches(windows, **options))
  parts = [next(batches.train_batches(windows, **options, process_index=i, process_count=2)) for i in range(2)]
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


@settings(max_examples=40, deadline=None)
@given(
  windows=st.integers(1, 60), batch_size=st.integers(1, 20), epoch=st.integers(0, 9), seed=st.integers(0, 99),
)  # fmt: skip
def test_an_epoch_repeats_no_window(windows, batch_size, epoch, seed):
  steps = batches.steps_per_epoch(windows, batch_size)
  first = epoch * steps
  drawn = np.stack([
    batches.batch_indices(first + k, windows=windows, batch_size=batch_size, seed=seed) for k in range(steps)
  ])  # fmt: skip
  assert drawn.shape == (steps, batch_size)
  assert 0 <= drawn.min() <= drawn.max() < windows
  expected = np.random.default_rng((seed, epoch)).permutation(windows)
  np.testing.assert_array_equal(drawn.ravel(), np.resize(expected, drawn.size))


@settings(max_examples=10, deadline=None)
@given(processes=st.sampled_from([1, 2, 4]), before=st.integers(0, 5), seed=st.integers(0, 9))
def test_shares_after_a_restart_add_up_to_the_batch(processes, before, seed):
  windows = make(200)
  whole = batches.train_batches(windows, batch_size=8, seed=seed)
  parts = []
  for process in range(processes):
    iterator = batches.train_batches(
      windows, batch_size=8, seed=seed, process_index=process, process_count=processes
    )  # fmt: skip
    for _ in range(before):
      next(iterator)
    resumed = batches.train_batches(
      windows, batch_size=8, seed=seed, process_index=process, process_count=processes
    )  # fmt: skip
    resumed.set_state(iterator.get_state())
    parts.append(next(resumed))
  for _ in range(before):
    next(whole)
  np.testing.assert_array_equal(next(whole).x, np.concatenate([part.x for part in parts], axis=1))
