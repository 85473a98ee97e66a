"""Segments, their statistics and their scores: worked by hand, by brute force, and beside scikit-learn."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from behavejax.errors import InputError
from behavejax.evaluation import segments
from behavejax.evaluation.segments import BoundaryCounts, Segmentation

SCORES = ("v_measure", "adjusted_rand", "hungarian_accuracy", "boundary_f1", "boundary_precision", "boundary_recall")


def make(states, labels=None, *, rate_hz=10.0, classes=("walk", "sit", "lie")):
  states = [np.array(s) for s in states]
  labels = [np.full(len(s), -1) for s in states] if labels is None else [np.array(part) for part in labels]
  names = tuple(f"r{i}" for i in range(len(states)))
  subjects = tuple(f"p{i}" for i in range(len(states)))
  return Segmentation(states, [np.ones(len(s)) for s in states], labels, names, subjects, classes, rate_hz)


def counts(labels, states, tolerance=0):
  """From strings: a letter is a behaviour or a state, a dot is none."""
  codes = [np.array([-1 if c == "." else ord(c) - ord("A") for c in text.upper()]) for text in (labels, states)]
  return segments.boundary_counts(*codes, tolerance)


sequences = st.lists(st.tuples(st.integers(-1, 3), st.integers(1, 4)), min_size=1, max_size=9).map(
  lambda parts: np.repeat(*map(np.array, zip(*parts, strict=True)))
)


@st.composite
def labelled(draw):
  labels, states = draw(sequences), draw(sequences)
  length = min(len(labels), len(states))
  return labels[:length], states[:length]


@given(sequences)
def test_runs_rebuild_the_sequence(states):
  starts, ends, values = segments.runs(states)
  np.testing.assert_array_equal(np.repeat(values, ends - starts), states)
  assert (values[1:] != values[:-1]).all()
  assert starts[0] == 0
  assert ends[-1] == len(states)


def test_empty_recording_has_no_runs():
  assert [len(part) for part in segments.runs(np.zeros(0, int))] == [0, 0, 0]
  assert segments.segment_rows(make([[]])) == []
  assert segments.boundary_counts(np.zeros(0, int), np.zeros(0, int), 1) == (0, 0, 0)
  assert segments.states_in_use([]).tolist() == []


def test_rows_worked_by_hand():
  segmentation = make([[2, 2, -1, 0], [1]])._replace(probabilities=[np.array([0.5, 1.0, 1.0, 0.25]), np.array([0.75])])
  assert segments.segment_rows(segmentation) == [
    ("r0", "p0", 0.0, 0.2, 0.2, 2, 0.75), ("r0", "p0", 0.3, 0.4, 0.1, 0, 0.25), ("r1", "p1", 0.0, 0.1, 0.1, 1, 0.75),
  ]  # fmt: skip


def test_statistics_worked_by_hand():
  states = [np.array([0, 0, 1, 1, 1, 0, -1, 2]), np.array([1, 0])]
  np.testing.assert_allclose(segments.usage(states, num_states=4), [4 / 9, 4 / 9, 1 / 9, 0])
  assert segments.states_in_use(states, share=0.2).tolist() == [0, 1]
  np.testing.assert_array_equal(segments.transition_counts(states, num_states=3), [[0, 1, 0], [2, 0, 0], [0, 0, 0]])
  found = segments.durations(states, rate_hz=10.0)
  assert {state: values.tolist() for state, values in found.items()} == {0: [0.2, 0.1, 0.1], 1: [0.3, 0.1], 2: [0.1]}
  np.testing.assert_allclose(segments.mean_durations(states, num_states=4, rate_hz=10.0), [0.4 / 3, 0.2, 0.1, np.nan])
  assert segments.median_dwell(states, rate_hz=10.0) == pytest.approx(0.1)
  assert np.isnan(segments.median_dwell([np.array([-1])], rate_hz=10.0))


def test_behaviours_of_states():
  labels, states = [np.array([0, 0, 1, -1]), np.array([1, 1])], [np.array([0, 0, 0, 1]), np.array([2, -1])]
  table = segments.behaviour_table(labels, states, num_states=4, classes=2)
  np.testing.assert_allclose(table, [[2 / 3, 1 / 3], [0, 0], [0, 1], [0, 0]])


@pytest.mark.parametrize(
  ("labels", "states", "tolerance", "expected"),
  [
    ("aaabbb", "cccddd", 0, (1, 1, 1)),  # the same boundary
    ("aaabbb", "ccdddd", 0, (0, 1, 1)),
    ("aaabbb", "ccdddd", 1, (1, 1, 1)),  # within tolerance
    ("aaabbb", "cdcdcd", 1, (1, 1, 5)),  # one to one: four of five are false
    ("aaaaaa", "cccccc", 2, (0, 0, 0)),
    ("aabbaa", "cccccc", 2, (0, 2, 0)),
    ("aa..bb", "cccddd", 0, (1, 1, 1)),  # the boundary is the whole gap
    ("aa..bb", "ccdddd", 0, (1, 1, 1)),  # its first position included
    ("aa..bb", "ccccdd", 0, (1, 1, 1)),  # and its last
    ("aa..bb", "cccccd", 0, (0, 1, 1)),
    ("aa..bb", "cccccd", 1, (1, 1, 1)),  # within tolerance of the gap
    ("aa....bb", "ccdcdccc", 0, (1, 1, 1)),  # further ones in the gap are not counted
    ("aa....bb", "ccccdccd", 1, (1, 1, 1)),  # matched is the one that would be false
    ("aa..aa", "cccddd", 0, (0, 0, 0)),  # equal behaviours: no claim, no fault
    ("aa..aa", "cddddd", 0, (0, 0, 1)),  # but this one is among labelled samples
    ("aab.bb", "cccddd", 1, (1, 1, 1)),  # beside a missing label, and yet the boundary that was meant
    ("...abb", "cdcddd", 0, (0, 1, 0)),  # before the first label
    ("ab....", "ccdcdc", 0, (0, 1, 0)),  # after the last
    ("......", "cdcdcd", 0, (0, 0, 0)),
    ("aaabbb", "cc.ddd", 0, (1, 1, 1)),  # no state for a sample: the boundary is where the next begins
    ("aaabbb", "cc.ccc", 0, (0, 1, 0)),
    ("abcabc", "cccccd", 9, (1, 5, 1)),
  ],
)
def test_boundaries_worked_by_hand(labels, states, tolerance, expected):
  assert counts(labels, states, tolerance) == expected


def brute_force(labels, states, tolerance):
  """Every way to give true boundaries different found ones; most pairs first, then fewest false ones."""
  known = np.flatnonzero(labels >= 0)
  intervals = [(a + 1, b) for a, b in itertools.pairwise(known) if labels[a] != labels[b]]
  segmented = np.flatnonzero(states >= 0)
  found = [b for a, b in itertools.pairwise(segmented) if states[a] != states[b]]
  fits = [[i for i, p in enumerate(found) if low - tolerance <= p <= high + tolerance] for low, high in intervals]
  strict = {i for i, p in enumerate(found) if labels[p - 1] >= 0 and labels[p] >= 0}
  best = (-1, 0)

  def extend(interval, taken):
    nonlocal best
    if interval == len(intervals):
      best = max(best, (len(taken), -len(strict - taken)))
      return
    extend(interval + 1, taken)
    for i in set(fits[interval]) - taken:
      extend(interval + 1, taken | {i})

  extend(0, frozenset())
  return best[0], len(intervals), best[0] - best[1]


@settings(max_examples=400, deadline=None)
@given(labelled(), st.sampled_from([0, 1, 2, 5]))
def test_matching_is_that_of_brute_force(pair, tolerance):
  labels, states = pair[0][:14], pair[1][:14]
  assert segments.boundary_counts(labels, states, tolerance) == brute_force(labels, states, tolerance)


@given(labelled(), st.integers(0, 3))
def test_counts_are_consistent(pair, tolerance):
  found = segments.boundary_counts(*pair, tolerance)
  assert 0 <= found.matched <= min(found.true, found.found)
  assert found.matched <= segments.boundary_counts(*pair, tolerance + 1).matched
  mirrored = segments.boundary_counts(*(part[::-1] for part in pair), tolerance)
  if (pair[1] >= 0).all():
    assert mirrored == found


def test_rates_of_boundaries():
  found = BoundaryCounts(2, 4, 3)
  assert (found.precision, found.recall) == (pytest.approx(2 / 3), 0.5)
  assert found.f1 == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
  assert (BoundaryCounts(0, 3, 0).f1, BoundaryCounts(0, 3, 0).precision, BoundaryCounts(0, 0, 3).recall) == (0, 0, 0)
  assert (BoundaryCounts(0, 0, 0).f1, BoundaryCounts(0, 0, 0).precision, BoundaryCounts(0, 0, 0).recall) == (1, 1, 1)


def test_hungarian_accuracy_by_hand():
  labels, states = np.array([0, 0, 0, 0, 1, 1, -1]), np.array([5, 5, 5, 7, 7, 7, 9])
  assert segments.hungarian_accuracy(labels, states) == pytest.approx(5 / 6)
  assert segments.hungarian_accuracy(labels, np.full(7, 3)) == pytest.approx(4 / 6)  # one state, one behaviour
  assert segments.hungarian_accuracy(np.zeros(6, int), np.array([0, 0, 0, 1, 1, 2])) == pytest.approx(0.5)
  assert segments.hungarian_accuracy(labels, np.array([-1, -1, 5, 7, 7, 7, 9])) == pytest.approx(3 / 6)
  assert segments.hungarian_accuracy(np.full(3, -1), np.zeros(3, int)) == 0


@settings(deadline=None)
@given(labelled())
def test_hungarian_accuracy_by_permutations(pair):
  labels, states = pair
  known = labels >= 0
  ways = itertools.permutations(range(4))
  best = max(np.sum(np.array([*way, -2])[states[known]] == labels[known]) for way in ways)
  assert segments.hungarian_accuracy(labels, states) == pytest.approx(best / max(known.sum(), 1))


def random_segmentation(seed=0):
  rng = np.random.default_rng(seed)
  labels = [np.repeat(rng.integers(-1, 3, 12), rng.integers(2, 30, 12)) for _ in range(3)]
  states = [np.where(rng.random(len(x)) < 0.8, np.maximum(x, 0) + 2, rng.integers(0, 6, len(x))) for x in labels]
  return make(states, labels)


def test_scores_are_those_of_scikit_learn():
  segmentation = random_segmentation()
  values = segments.scores(segmentation, tolerance_s=0.2)
  pairs = list(zip(segmentation.labels, segmentation.states, strict=True))
  labels, states = (np.concatenate(part) for part in zip(*pairs, strict=True))
  known = labels >= 0
  assert values["segments/v_measure"] == pytest.approx(sk.v_measure_score(labels[known], states[known]))
  assert values["segments/adjusted_rand"] == pytest.approx(sk.adjusted_rand_score(labels[known], states[known]))
  each = [sk.v_measure_score(true[true >= 0], found[true >= 0]) for true, found in pairs]
  assert values["segments/recording_v_measure"] == pytest.approx(np.mean(each))
  total = np.sum([segments.boundary_counts(*pair, 2) for pair in pairs], axis=0)
  assert values["segments/boundary_f1"] == pytest.approx(2 * total[0] / (total[1] + total[2]))
  assert values["segments/boundary_precision"] == pytest.approx(total[0] / total[2])
  assert values["segments/boundary_recall"] == pytest.approx(total[0] / total[1])
  names = {f"segments/{kind}{name}" for kind in ("", "recording_") for name in SCORES}
  assert set(values) == names | {"segments/states", "segments/median_dwell_s"}


@given(st.integers(0, 10**6), st.permutations(range(6)))
@settings(max_examples=20, deadline=None)
def test_names_of_states_do_not_matter(seed, order):
  segmentation = random_segmentation(seed)
  renamed = segmentation._replace(states=[7 * np.array(order)[states] for states in segmentation.states])
  expected = segments.scores(segmentation, tolerance_s=0.1)
  assert segments.scores(renamed, tolerance_s=0.1) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_perfect_and_constant_segmentations(seed):
  segmentation = random_segmentation(seed)
  perfect = segments.scores(segmentation._replace(states=segmentation.labels), tolerance_s=0.0)
  constant = segments.scores(segmentation._replace(states=[0 * x for x in segmentation.labels]), tolerance_s=1.0)
  for name in SCORES:
    assert perfect[f"segments/{name}"] == pytest.approx(1), name
    assert perfect[f"segments/recording_{name}"] == pytest.approx(1), name
  for name in ("v_measure", "adjusted_rand", "boundary_f1", "boundary_precision", "boundary_recall"):
    assert constant[f"segments/{name}"] == pytest.approx(0), name


def test_samples_without_a_state_are_not_left_out():
  labels = [0, 0, 1, 1]
  half = segments.scores(make([[0, 0, -1, -1]], [labels]), tolerance_s=0.0)
  assert half["segments/hungarian_accuracy"] == 0.5


def test_tolerance_is_given_in_seconds():
  segmentation = make([[0] * 60 + [1] * 60], [[0] * 31 + [1] * 89], rate_hz=100.0)  # 29 samples too late
  assert segments.scores(segmentation, tolerance_s=0.29)["segments/boundary_f1"] == 1
  assert segments.scores(segmentation, tolerance_s=0.289)["segments/boundary_f1"] == 0
  with pytest.raises(InputError, match="at least 0"):
    segments.scores(segmentation, tolerance_s=-1.0)


def test_unlabelled_recordings_have_no_agreement():
  values = segments.scores(make([[0, 0, 1]]), tolerance_s=0.5)
  assert values == {"segments/states": 2.0, "segments/median_dwell_s": pytest.approx(0.15)}
  mixed = segments.scores(make([[0, 0, 1, 1], [0, 1]], [[0, 0, 1, 1], [-1, -1]]), tolerance_s=0.0)
  assert mixed["segments/recording_boundary_f1"] == 1
