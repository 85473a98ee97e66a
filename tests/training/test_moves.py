"""Moves to fewer states: what is proposed, in which order, and never twice."""

import numpy as np

from behavejax.training import moves

LIKENESS = np.array([[0.0, -1.0, -50.0, 0.0], [-9.0, 0.0, -50.0, 0.0], [-50.0, -40.0, 0.0, 0.0], [0.0] * 4])
SEGMENTS = np.array([10.0, 5.0, 30.0, 0.0])


def names(refused=(), count=99):
  return [move.name for move in moves.propose(LIKENESS, SEGMENTS, refused, count=count)]


def test_the_cheapest_merge_and_the_smallest_removal_come_first():
  assert names() == ["0>1", "1>", "2>1", "0>", "2>0", "2>"]


def test_an_absent_state_takes_no_part():
  assert not any("3" in name for name in names())


def test_what_was_refused_is_not_proposed_again():
  assert names(("0>1", "2>")) == ["1>", "2>1", "0>", "2>0"]
  assert names(count=2) == ["0>1", "1>"]


def test_a_move_says_where_each_state_goes():
  merge, removal = moves.propose(LIKENESS, SEGMENTS, (), count=2)
  np.testing.assert_array_equal(merge.into, [1, 1, 2, 3])
  np.testing.assert_array_equal(removal.into, [0, 4, 2, 3])
  np.testing.assert_array_equal(moves.stay(4).into, np.arange(4))


def test_many_states_are_merged_in_pairs_that_share_none():
  states = 9
  likeness = -np.abs(np.subtract.outer(np.arange(states), np.arange(states))).astype(float)
  first = moves.propose(likeness, np.ones(states), (), count=1)[0]
  pairs = [tuple(map(int, pair.split(">"))) for pair in first.name.split()]
  assert len(pairs) > 1
  touched = [state for pair in pairs for state in pair]
  assert len(touched) == len(set(touched))


def test_one_state_cannot_become_fewer():
  assert moves.propose(np.zeros((2, 2)), np.array([3.0, 0.0]), (), count=3) == []
