"""Smoothing over time: bouts are counted, and a doubtful moment goes with its neighbours."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from behavejax.models import behaviours
from behavejax.models.autoencoder import class_weights
from behavejax.segmentation import durations


def sequences(seed, count=6):
  """Three behaviours in turn, 8, 12 and 16 steps long on average."""
  rng = np.random.default_rng(seed)
  found = []
  for _ in range(count):
    parts = [np.repeat(i % 3, max(1, rng.poisson((8, 12, 16)[i % 3]))) for i in range(20)]
    found.append(np.concatenate(parts))
  return found


def test_bouts_are_counted():
  assert list(behaviours._bouts(np.array([1, 1, -1, 0, 0, 0, 1]))) == [(1, 2), (-1, 1), (0, 3), (1, 1)]
  model = behaviours.fit(sequences(0), classes=3, longest=40)
  transitions = np.exp(np.asarray(model.log_transitions))
  np.testing.assert_allclose(transitions.sum(axis=1), 1, rtol=1e-5)
  assert np.all(np.diag(transitions) == 0)
  assert all(transitions[i, (i + 1) % 3] > 0.9 for i in range(3))
  means = np.exp(np.asarray(model.log_durations)) @ np.arange(1, 41)
  np.testing.assert_allclose(means, [8, 12, 16], rtol=0.15)


def test_unknown_steps_join_no_behaviours():
  with_gap = [np.array([0] * 5 + [-1] * 3 + [1] * 5)]
  model = behaviours.fit(with_gap, classes=3, longest=10)
  transitions = np.exp(np.asarray(model.log_transitions))
  np.testing.assert_allclose(transitions[0, 1], transitions[1, 0], rtol=1e-5)  # from the prior alone


def test_what_lasts_longer_than_the_longest_follows_itself():
  model = behaviours.fit([np.array([0] * 90 + [1] * 5 + [0] * 80)], classes=2, longest=20)
  stay = np.exp(np.asarray(model.log_transitions))[0, 0]
  np.testing.assert_allclose(stay, 2 / 3, rtol=1e-5)
  assert durations.FAMILIES


@pytest.mark.parametrize("seed", range(3))
def test_smoothing_mends_doubtful_moments(seed):
  truth = sequences(100 + seed, count=3)
  rng = np.random.default_rng(seed)
  lengths = np.array([len(t) for t in truth])
  noisy = np.zeros((3, lengths.max(), 3))
  for row, states in zip(noisy, truth, strict=True):
    row[: len(states)] = np.eye(3)[states] * 1.2 + rng.normal(size=(len(states), 3))
  log_probs = noisy - np.log(np.exp(noisy).sum(axis=2, keepdims=True))
  model = behaviours.fit(sequences(seed), classes=3, longest=40)
  smooth = behaviours.smooth(model, log_probs, lengths, log_prior=np.log(np.ones(3) / 3), weight=1.0)
  before = np.concatenate([np.argmax(row[:n], axis=1) for row, n in zip(noisy, lengths, strict=True)])
  after = np.concatenate([np.argmax(row, axis=1) for row in smooth])
  true = np.concatenate(truth)
  assert np.mean(after == true) > np.mean(before == true) + 0.1
  for row in smooth:
    np.testing.assert_allclose(row.sum(axis=1), 1, rtol=1e-4)


def test_no_weight_leaves_nothing_but_time():
  truth = sequences(5, count=1)
  model = behaviours.fit(sequences(0), classes=3, longest=40)
  flat = np.log(np.full((1, len(truth[0]), 3), 1 / 3))
  lengths = np.array([len(truth[0])])
  probs = behaviours.smooth(model, flat, lengths, log_prior=np.log(np.ones(3) / 3), weight=1.0)[0]
  np.testing.assert_allclose(probs[0], np.exp(np.asarray(model.log_initial)), rtol=1e-4)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_prior_is_what_a_classifier_of_weighted_classes_holds(power):
  rng = np.random.default_rng(0)
  labels = (rng.random(200_000) < 0.03).astype(np.int64)
  x = rng.normal(size=labels.size) + labels  # log p(x | 1) - log p(x | 0) = x - 1/2
  weights = class_weights(labels, classes=2, power=power)[labels]
  classifier = LogisticRegression(C=1e6).fit(x[:, None], labels, weights)
  places = np.array([-1.0, 0.0, 2.0])
  evidence = classifier.predict_log_proba(places[:, None]) - behaviours.log_prior(labels, classes=2, power=power)
  np.testing.assert_allclose(evidence[:, 1] - evidence[:, 0], places - 0.5, atol=0.06)
