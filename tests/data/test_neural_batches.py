"""Batches of several data sets: a function of the number of the call, in the wanted proportions."""

import numpy as np
import pytest

from behavejax.data import neural_batches as batches
from tests.data.test_neural_windows import clips, recording


def two_sets():
  small = clips(recording(signals=0, neurons=1, seed=1), first=(0, 2, 4, 10), trial=(0, 0, 0, 1))
  return [clips(recording(), first=(*range(5), 13, 14), trial=(0,) * 5 + (2, 2)), small]


@pytest.mark.parametrize(
  ("sizes", "weights", "counts"),
  [
    ((100, 100), (), [32, 32]),
    ((300, 100), (), [48, 16]),
    ((300, 100), (1.0, 3.0), [16, 48]),
    ((10_000, 1), (), [63, 1]),
    ((5,), (), [64]),
    ((1,) * 3, (), [22, 21, 21]),
  ],
)
def test_shares(sizes, weights, counts):
  assert batches.shares(sizes, weights).tolist() == counts


def test_more_sets_than_a_round_has_calls():
  assert batches.shares((1,) * 100, ()).tolist() == [1] * 100


def test_which_set_is_a_function_of_the_call():
  counts = np.array([48, 12, 4])
  seen = [batches.data_set_of(call, counts, seed=5) for call in range(256)]
  for start in range(0, 256, 64):
    assert np.bincount([index for index, _ in seen[start : start + 64]]).tolist() == [48, 12, 4]
  for index in range(3):
    assert [before for own, before in seen if own == index] == list(range(sum(own == index for own, _ in seen)))
  assert seen[200] == batches.data_set_of(200, counts, seed=5)
  assert seen != [batches.data_set_of(call, counts, seed=6) for call in range(256)]


def same(a, b):
  assert a[0] == b[0]
  for x, y in zip(a[1], b[1], strict=True):
    np.testing.assert_array_equal(x, y)


def test_a_saved_position_continues_exactly():
  calls = batches.neural_calls(two_sets(), batch_size=3, seed=0, steps_per_call=2)
  first = [next(calls) for _ in range(5)]
  assert {index for index, _ in first} == {0, 1}
  state = calls.get_state()
  later = [next(calls) for _ in range(4)]
  again = batches.neural_calls(two_sets(), batch_size=3, seed=0, steps_per_call=2)
  again.set_state(state)
  for a in later:
    same(a, next(again))


def test_shapes_are_those_of_the_set():
  for index, batch in (
    c for c, _ in zip(batches.neural_calls(two_sets(), batch_size=3, seed=0), range(8), strict=False)
  ):
    assert batch.spikes.shape == (1, 3, 6, (3, 1)[index])
    assert batch.behaviour.shape == (1, 3, 6, (2, 0)[index])


def test_each_set_is_gone_through_epoch_by_epoch():
  sets = two_sets()
  calls = batches.neural_calls(sets, batch_size=2, seed=0, weights=(1.0, 1.0))
  seen = [batch.video[0] for index, batch in (next(calls) for _ in range(64)) if index == 1][:4]
  for start in (0, 2):  # two batches of two are all four clips
    epoch = {video.tobytes() for batch in seen[start : start + 2] for video in batch}
    assert epoch == {video.tobytes() for video in sets[1].gather(np.arange(4)).video}


def test_processes_share_a_batch():
  whole = batches.neural_calls(two_sets(), batch_size=4, seed=0)
  parts = [batches.neural_calls(two_sets(), batch_size=4, seed=0, process_index=i, process_count=2) for i in range(2)]
  for _ in range(3):
    (index, batch), halves = next(whole), [next(part) for part in parts]
    joined = [np.concatenate(pair, axis=1) for pair in zip(*(half for _, half in halves), strict=True)]
    same((index, batch), (halves[0][0], joined))


def test_evaluation_sees_every_clip_once():
  own = two_sets()[0]
  found = list(batches.neural_eval_batches(own, batch_size=3))
  assert len(found) == 3
  assert found[-1].mask[1:].sum() == 0
  assert found[-1].spikes[1:].sum() == 0
  whole = own.gather(np.arange(len(own)))
  np.testing.assert_array_equal(np.concatenate([b.mask for b in found])[: len(own)], whole.mask)
  placed = batches.predictions(own, [b.spikes + 0.5 for b in found])
  np.testing.assert_array_equal(placed, own.place(whole.spikes + 0.5))
