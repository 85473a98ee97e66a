"""Label sets hold the true label as often as they say, and the quantile is exact."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import softmax

from behavejax.errors import InputError
from behavejax.evaluation import conformal


def draw(rng, n, classes=5, sharpness=1.5):
  """Exchangeable windows whose probabilities are overconfident by a factor."""
  logits = sharpness * rng.normal(size=(n, classes))
  p = softmax(logits, axis=1)
  labels = (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
  return softmax(2 * logits, axis=1), labels


def aps_brute(p, label, u):
  above = sum(
    p[j] for j in range(len(p)) if p[j] > p[label] or (p[j] == p[label] and j < label)
  )  # fmt: skip
  return round(above + u * p[label], 12)


def test_quantile_by_hand():
  scores = np.array([0.9, 0.1, 0.5, 0.3, 0.7])  # five scores: ranks of (5 + 1) times the coverage
  for coverage, expected in ((0.5, 0.5), (0.51, 0.7), (0.6, 0.7), (0.8, 0.9), (0.84, math.inf), (0.1, 0.1)):
    assert conformal.quantile(scores, coverage) == expected
  assert conformal.quantile(scores, 0.0) == -math.inf
  assert conformal.quantile(np.zeros(0), 0.5) == math.inf
  assert conformal.quantile(np.arange(1.0, 100.0), 0.07) == 7  # 100 * 0.07 is a little more than 7
  for coverage in (1.0, -0.1):
    with pytest.raises(InputError, match="coverage"):
      conformal.quantile(scores, coverage)


@settings(max_examples=60, deadline=None)
@given(scores=st.lists(st.integers(0, 20), min_size=1, max_size=40), percent=st.integers(1, 99))
def test_quantile_is_the_smallest_that_covers(scores, percent):
  """At least `coverage (n + 1)` of the n scores are up to it, and that is so for no smaller one."""
  scores = np.array(scores, float)
  limit = conformal.quantile(scores, percent / 100)
  assert 100 * np.sum(scores <= limit) >= percent * (len(scores) + 1) or limit == math.inf
  smaller = scores[scores < limit]
  if len(smaller):
    assert 100 * np.sum(scores <= smaller.max()) < percent * (len(scores) + 1)


@pytest.mark.parametrize("kind", ["lac", "aps"])
@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_coverage_of_exchangeable_windows(kind, coverage):
  """Over fresh calibration sets, a new window is covered with a probability from `coverage` to `coverage + 1/(n+1)`."""
  rng, repeats, n = np.random.default_rng(0), 4000, 39
  hits = 0
  for _ in range(repeats):
    p, labels = draw(rng, n + 1)
    scores = conformal.lac_scores(p) if kind == "lac" else conformal.aps_scores(p, rng.random(n + 1))
    limit = conformal.threshold(scores[:n], labels[:n], coverage=coverage)
    sets = conformal.label_sets(scores[n:], limit, never_empty=False)
    hits += bool(sets[0, labels[n]])
  rank = math.ceil((n + 1) * coverage - 1e-9)
  low, high = stats.binom.ppf([1e-4, 1 - 1e-4], repeats, rank / (n + 1))  # exact without ties
  assert low <= hits <= high
  assert coverage <= rank / (n + 1) <= coverage + 1 / (n + 1) + 1e-9


def test_each_class_is_covered_by_its_own_threshold():
  rng = np.random.default_rng(1)
  p, labels = draw(rng, 6000)
  p[labels == 0] = p[labels == 0][:, [1, 0, 2, 3, 4]]  # a class that the model gets wrong
  scores, half = conformal.lac_scores(p), np.arange(6000) < 3000
  one = conformal.threshold(scores[half], labels[half], coverage=0.9)
  own = conformal.class_thresholds(scores[half], labels[half], coverage=0.9)
  marginal, mondrian = (
    conformal.coverage_by(conformal.label_sets(scores[~half], limit), labels[~half], labels[~half], count=5)
    for limit in (one, own)
  )
  assert marginal[0].covered < 0.8
  assert min(found.covered for found in mondrian) > 0.87
  assert sum(found.windows for found in mondrian) == 3000


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(1, 6), n=st.integers(1, 30), coverage=st.floats(0.05, 0.95))
def test_sets_equal_brute_force(seed, classes, n, coverage):
  rng = np.random.default_rng(seed)
  p = rng.dirichlet(np.ones(classes), 2 * n)
  if classes > 2:
    p[0, :2] = p[0, :2].mean()  # a tie
  labels, u = rng.integers(-1, classes, 2 * n), rng.random(2 * n)
  for scores, brute in (
    (conformal.lac_scores(p), lambda i, k: 1 - p[i, k]),
    (conformal.aps_scores(p, u), lambda i, k: aps_brute(p[i], k, u[i])),
    (conformal.aps_scores(p), lambda i, k: aps_brute(p[i], k, 1.0)),
  ):
    own = sorted(brute(i, labels[i]) for i in range(n) if labels[i] >= 0)
    rank = math.ceil((len(own) + 1) * coverage - 1e-9)
    limit = own[rank - 1] if rank <= len(own) else math.inf
    found = conformal.threshold(scores[:n], labels[:n], coverage=coverage)
    assert found == pytest.approx(limit)
    sets = conformal.label_sets(scores[n:], found)
    for i in range(n, 2 * n):
      wanted = {k for k in range(classes) if brute(i, k) <= limit} | {int(p[i].argmax())}
      assert set(np.flatnonzero(sets[i - n])) == wanted


@settings(max_examples=40, deadline=None)
@given(
  seed=st.integers(0, 10**6), low=st.floats(0, 0.99), high=st.floats(0, 0.99), kind=st.sampled_from(["lac", "aps"])
)  # fmt: skip
def test_more_coverage_never_takes_a_label_away(seed, low, high, kind):
  rng = np.random.default_rng(seed)
  p, labels = draw(rng, 60)
  scores = conformal.lac_scores(p) if kind == "lac" else conformal.aps_scores(p, rng.random(60))
  small, large = (
    conformal.label_sets(scores[30:], conformal.threshold(scores[:30], labels[:30], coverage=c))
    for c in sorted((low, high))
  )
  assert np.all(small <= large)
  assert np.all(small.any(axis=1))


def test_empty_sets_are_filled_with_the_most_probable_label():
  p = np.array([[0.5, 0.3, 0.2], [0.9, 0.1, 0.0]])
  scores = conformal.lac_scores(p)
  assert conformal.label_sets(scores, 0.2, never_empty=False).tolist() == [[False] * 3, [True, False, False]]
  assert conformal.label_sets(scores, 0.2).tolist() == [[True, False, False]] * 2
  assert conformal.label_sets(scores, math.inf).all()
  assert not conformal.label_sets(scores, -math.inf, never_empty=False).any()


def test_coverage_counts_labelled_windows_only():
  sets = np.array([[True, False], [True, True], [False, True], [True, False]])
  labels = np.array([0, 1, 0, -1])
  found = conformal.coverage_of(sets, labels)
  assert found == (pytest.approx(2 / 3), pytest.approx(4 / 3), pytest.approx(2 / 3), 3)
  assert np.isnan(conformal.coverage_of(sets, np.full(4, -1)).covered)
  groups = np.array([0, 0, 1, 1])
  assert [part.windows for part in conformal.coverage_by(sets, labels, groups, count=3)] == [2, 1, 0]


def test_too_few_windows_of_a_class_put_it_into_every_set():
  scores = np.random.default_rng(0).random((30, 2))
  labels = np.array([0] * 27 + [1] * 3)
  limits = conformal.class_thresholds(scores, labels, coverage=0.9)
  assert np.isfinite(limits[0])
  assert limits[1] == math.inf
  assert conformal.label_sets(scores, limits)[:, 1].all()
