"""Baselines of segmentation find separated clusters, and smoothing does what its rules say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from behavejax.errors import InputError
from behavejax.evaluation import segment_baselines as baselines
from behavejax.evaluation import segments

sequences = st.lists(st.integers(-1, 3), min_size=1, max_size=40).map(np.array)


def clusters(seed=0):
  """Two recordings of three well separated behaviours in two features, one sample lost."""
  rng = np.random.default_rng(seed)
  labels = [np.repeat(rng.permutation(3), 40) for _ in range(2)]
  centres = np.array([[0, 0], [6, 0], [0, 6]])
  features = [centres[x] + rng.normal(size=(len(x), 2)) for x in labels]
  features[1][5, 0] = np.nan
  return features, labels


@pytest.mark.parametrize("method", ["kmeans", "full", "diag"])
def test_separated_clusters_are_found(method):
  features, labels = clusters()

  def states(seed):
    if method == "kmeans":
      return baselines.kmeans(features, 3, seed=seed)
    return baselines.gaussian_mixture(features, [1, 2, 3, 4, 5], seed=seed, covariance=method).states

  found = states(0)
  assert found[1][5] == -1
  assert sum((s == -1).sum() for s in found) == 1
  assert adjusted_rand_score(np.concatenate(labels), np.concatenate(found)) > 0.95
  for first, second in zip(found, states(0), strict=True):
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("method", ["kmeans", "mixture"])
def test_what_is_not_learned_from_changes_nothing(method):
  features, _ = clusters()

  def states(features, learn_from):
    if method == "kmeans":
      return baselines.kmeans(features, 3, seed=0, learn_from=learn_from)
    return baselines.gaussian_mixture(features, [3], seed=0, learn_from=learn_from).states

  alone = states(features[:1], None)[0]
  beside = states([features[0], features[1] + 50.0], features[:1])
  np.testing.assert_array_equal(beside[0], alone)
  assert len(np.unique(beside[1][beside[1] >= 0])) < 3  # far from where the clusters were learned


def test_number_of_components_has_the_smallest_bic():
  mixture = baselines.gaussian_mixture(clusters()[0], [1, 3, 6], seed=0)
  assert list(mixture.bic) == [1, 3, 6]
  assert min(mixture.bic, key=mixture.bic.get) == 3
  assert len(np.unique(np.concatenate(mixture.states))) == 3 + 1  # and the lost sample


def test_impossible_counts_are_named():
  features = [np.zeros((4, 2)), np.full((2, 2), np.nan)]
  for call in (lambda: baselines.kmeans(features, 5, seed=0), lambda: baselines.kmeans(features, 0, seed=0),
               lambda: baselines.gaussian_mixture(features, [9], seed=0)):  # fmt: skip
    with pytest.raises(InputError, match="between 1 and 4"):
      call()
  with pytest.raises(InputError, match="at least one"):
    baselines.gaussian_mixture(features, [], seed=0)


@pytest.mark.parametrize(
  ("states", "width", "expected"),
  [
    ([0, 0, 1, 0, 0], 3, [0, 0, 0, 0, 0]),
    ([0, 1, 2, 1, 1], 3, [0, 1, 1, 1, 1]),  # a tie keeps the sample's own
    ([3, 0, 0, 2, 1, 1, 3], 7, [0, 0, 0, 0, 1, 1, 1]),
    ([0, 2, 1, 1, 0], 5, [0, 1, 1, 1, 1]),
    ([0, -1, 1, 1, -1], 3, [0, -1, 1, 1, -1]),  # no vote, no state
    ([4, 2], 1, [4, 2]),
  ],
)
def test_mode_filter_by_hand(states, width, expected):
  np.testing.assert_array_equal(baselines.mode_filter(np.array(states), width), expected)


def naive_mode(states, width):
  result = []
  for i, own in enumerate(states):
    around = states[max(i - width // 2, 0) : i + width // 2 + 1]
    votes = {int(s): int(np.sum(around == s)) for s in np.unique(around[around >= 0])}
    best = [state for state, count in votes.items() if count == max(votes.values())]
    result.append(-1 if own < 0 else own if own in best else min(best))
  return np.array(result)


@given(sequences, st.sampled_from([1, 3, 5, 9, 99]))
def test_mode_filter_counts_votes(states, width):
  np.testing.assert_array_equal(baselines.mode_filter(states, width), naive_mode(states, width))


@pytest.mark.parametrize("width", [0, 2, -1])
def test_mode_filter_wants_odd_widths(width):
  with pytest.raises(InputError, match="odd"):
    baselines.mode_filter(np.zeros(3, int), width)


@pytest.mark.parametrize(
  ("states", "samples", "expected"),
  [
    ([0, 0, 0, 1, 2, 2], 2, [0, 0, 0, 0, 2, 2]),  # into the longer neighbour
    ([0, 0, 1, 2, 2, 2], 2, [0, 0, 2, 2, 2, 2]),
    ([0, 0, 1, 2, 2], 2, [0, 0, 0, 2, 2]),  # equally long: the earlier
    ([0, 0, 1, 0, 0], 2, [0, 0, 0, 0, 0]),  # both sides become one
    ([0, 1, 1, 1, 1], 2, [1, 1, 1, 1, 1]),
    ([0, 1, 0, 1], 3, [1, 1, 1, 1]),  # the first goes into the second, which then is the longer neighbour
    ([0, -1, 1, 1], 9, [0, -1, 1, 1]),  # alone
    ([2, 1, 0], 1, [2, 1, 0]),
  ],
)
def test_minimum_dwell_by_hand(states, samples, expected):
  np.testing.assert_array_equal(baselines.minimum_dwell(np.array(states), samples), expected)


def naive_dwell(states, samples):
  """Rescans everything after each merge."""
  states = states.copy()
  while True:
    starts, ends, values = segments.runs(states)
    lengths = ends - starts
    for run in np.lexsort((starts, lengths)):
      sides = [side for side in (run - 1, run + 1) if 0 <= side < len(values) and values[side] >= 0]
      if values[run] >= 0 and lengths[run] < samples and sides:
        states[starts[run] : ends[run]] = values[max(sides, key=lambda side: lengths[side])]
        break
    else:
      return states


@settings(max_examples=200)
@given(sequences, st.integers(1, 8))
def test_minimum_dwell_is_that_of_rescanning(states, samples):
  found = baselines.minimum_dwell(states, samples)
  np.testing.assert_array_equal(found, naive_dwell(states, samples))
  starts, ends, values = segments.runs(found)
  for run in np.flatnonzero((values >= 0) & (ends - starts < samples)):
    assert all(values[side] < 0 for side in (run - 1, run + 1) if 0 <= side < len(values))


def test_minimum_dwell_wants_samples():
  with pytest.raises(InputError, match="at least 1"):
    baselines.minimum_dwell(np.zeros(3, int), 0)


def test_smoothing_leaves_its_input_alone():
  states = np.array([0, 1, 0, 0])
  baselines.minimum_dwell(states, 2)
  baselines.mode_filter(states, 3)
  assert states.tolist() == [0, 1, 0, 0]
