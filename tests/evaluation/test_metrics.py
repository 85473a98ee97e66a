"""Scores against scikit-learn and naive loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics as sk

from behavejax.evaluation import metrics


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 6), size=st.integers(1, 60))
def test_scores_equal_sklearn(seed, classes, size):
  rng = np.random.default_rng(seed)
  labels, predicted = rng.integers(0, classes, size), rng.integers(0, classes, size)
  table = metrics.confusion(np.append(labels, -1), np.append(predicted, 0), classes=classes)
  np.testing.assert_array_equal(table, sk.confusion_matrix(labels, predicted, labels=range(classes)))
  assert metrics.accuracy(table) == pytest.approx(sk.accuracy_score(labels, predicted))
  assert metrics.macro_f1(table) == pytest.approx(sk.f1_score(labels, predicted, average="macro", zero_division=0))
  occurring = np.unique(labels)
  assert metrics.balanced_accuracy(table) == pytest.approx(
    sk.recall_score(labels, predicted, labels=occurring, average="macro", zero_division=0)
  )
  expected = sk.precision_recall_fscore_support(labels, predicted, labels=range(classes), zero_division=0)
  for found, wanted in zip(metrics.class_scores(table), expected, strict=True):
    np.testing.assert_allclose(found, wanted)


@pytest.fixture
def calibrated():
  """Logits whose softmax at temperature 2 is the true distribution of the labels."""
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(20000, 4)) * 3
  p = softmax(logits / 2, axis=-1)
  return logits, (p.cumsum(-1) > rng.random((20000, 1))).argmax(-1)


def test_temperature_is_recovered(calibrated):
  logits, labels = calibrated
  temperature = metrics.fit_temperature(logits, labels)
  assert temperature == pytest.approx(2.0, rel=0.05)
  before, after = (metrics.reliability(logits, labels, temperature=t) for t in (1.0, temperature))
  assert metrics.expected_calibration_error(after) < 0.02 < metrics.expected_calibration_error(before)


def test_calibration_error_equals_a_loop(calibrated):
  logits, labels = (a[:500] for a in calibrated)
  p = softmax(logits, axis=-1)
  confidence, right = p.max(-1), p.argmax(-1) == labels
  error = 0.0
  for i in range(15):
    inside = (confidence >= i / 15) & ((confidence < (i + 1) / 15) | (i == 14))
    if inside.any():
      error += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
  assert metrics.expected_calibration_error(metrics.reliability(logits, labels)) == pytest.approx(error)
  assert metrics.negative_log_likelihood(logits, labels) == pytest.approx(sk.log_loss(labels, p))
  assert metrics.brier(logits, labels) == pytest.approx(((p - np.eye(4)[labels]) ** 2).sum(1).mean())


def test_bootstrap_draws_groups():
  rng = np.random.default_rng(0)
  groups = np.repeat(np.arange(20), 30)
  labels = rng.integers(0, 3, 600)
  predicted = np.where(rng.random(600) < 0.5 + 0.4 * (groups % 2), labels, 0)
  table = metrics.confusion(labels, predicted, classes=3)
  low, high = metrics.bootstrap_interval(labels, predicted, groups, score=metrics.accuracy, classes=3)
  assert low < metrics.accuracy(table) < high
  one = metrics.bootstrap_interval(labels, predicted, groups * 0, score=metrics.accuracy, classes=3)
  assert one == pytest.approx((metrics.accuracy(table),) * 2)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 3), channels=st.integers(1, 4))
def test_psnr_follows_its_definition(seed, rows, channels):
  rng = np.random.default_rng(seed)
  x, y = rng.normal(size=(2, 5, rows, 30, channels))
  square = ((x - y) ** 2).mean(axis=(0, 2))
  signal = x.transpose(0, 2, 1, 3).reshape(-1, channels)
  ranges = metrics.channel_ranges(signal)
  found = metrics.psnr(metrics.by_channel(square), ranges)
  for i in range(channels):
    low, high = np.percentile(x[..., i], [0.1, 99.9])
    error = np.mean((x[..., i] - y[..., i]) ** 2)
    assert found[i] == pytest.approx(10 * np.log10((high - low) ** 2 / error))


def test_psnr_at_its_edges():
  assert metrics.psnr(np.array([0.01]), np.array([1.0])) == pytest.approx(20)
  assert np.isnan(metrics.psnr(np.array([0.5]), np.array([0.0])))
  assert np.isfinite(metrics.psnr(np.array([0.0]), np.array([1.0])))
  rows = np.array([[1.0, 2.0], [3.0, 4.0]])
  np.testing.assert_array_equal(metrics.by_channel(rows), [2.0, 3.0])
  np.testing.assert_array_equal(metrics.by_channel(rows, devices=2), [1.0, 2.0, 3.0, 4.0])


def test_silhouette_equals_sklearn_and_knows_where_there_is_none():
  rng = np.random.default_rng(0)
  clusters = rng.integers(-1, 3, 200)
  vectors = rng.normal(size=(200, 2)) + 3 * clusters[:, None]
  known = clusters >= 0
  expected = sk.silhouette_score(vectors[known], clusters[known])
  assert metrics.silhouette(vectors, clusters) == pytest.approx(expected)
  assert abs(metrics.silhouette(vectors, clusters, most=50) - expected) < 0.2
  assert np.isnan(metrics.silhouette(vectors, np.zeros(200, int)))
  assert np.isnan(metrics.silhouette(vectors[:5], np.arange(5)))
  assert np.isnan(metrics.silhouette(vectors, np.full(200, -1)))


def test_codes():
  tokens = np.array([[[0, 1]], [[1, 1]], [[3, 3]], [[0, 0]]])
  labels = np.array([0, 0, 1, -1])
  statistics = metrics.code_statistics(tokens, num_codes=5)
  np.testing.assert_array_equal(statistics.counts, [3, 3, 0, 2, 0])
  assert statistics.usage == 0.6
  p = np.array([3, 3, 2]) / 8
  assert statistics.perplexity == pytest.approx(np.exp(-(p * np.log(p)).sum()))
  found = metrics.code_dictionary(tokens, labels, num_codes=5, classes=2)
  np.testing.assert_array_equal(found.joint, [[1, 0], [3, 0], [0, 0], [0, 2], [0, 0]])
  np.testing.assert_array_equal(found.behaviour, [0, 0, -1, 1, -1])
  np.testing.assert_array_equal(found.purity, [1, 1, 0, 1, 0])
  expected = sk.normalized_mutual_info_score([0, 1, 1, 1, 3, 3], [0, 0, 0, 0, 1, 1])
  assert found.information == pytest.approx(expected)
