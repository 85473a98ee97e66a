"""Baselines on data where the answer is known."""

import numpy as np
from scipy import stats

from behavejax.evaluation import baselines


def test_features_equal_naive_ones():
  x = np.random.default_rng(0).normal(size=(5, 2, 20, 3)).astype(np.float32)
  found = baselines.hand_features(x)
  assert found.shape == (5, 3 * 8 + 15 * 3)
  one = x[2].reshape(40, 3)[:, 1]
  np.testing.assert_allclose(found[2, [1, 4, 7, 10]], [one.mean(), one.std(), one.min(), one.max()], atol=1e-5)
  np.testing.assert_allclose(found[2, 16], np.median(one), atol=1e-5)
  np.testing.assert_allclose(found[2, 22], np.abs(np.diff(one)).mean(), atol=1e-5)
  np.testing.assert_allclose(found[2, 24 + 3 * 4 + 1], np.abs(np.fft.rfft(one))[5], atol=1e-4)


def test_majority_and_random():
  labels = np.array([2, 2, 1, -1, -1, -1])
  np.testing.assert_array_equal(baselines.majority(labels, 3), [2, 2, 2])
  drawn = baselines.random_draw(labels, 3000, seed=0)
  assert stats.chisquare([(drawn == 1).sum(), (drawn == 2).sum()], [1000, 2000]).pvalue > 1e-3


def test_forest_tells_frequencies_apart():
  rng = np.random.default_rng(0)
  time = np.arange(40) / 20
  labels = rng.integers(0, 2, 80)
  waves = np.sin(2 * np.pi * (2 + 4 * labels[:, None]) * time + rng.uniform(0, 6, (80, 1)))
  x = (waves + 0.3 * rng.normal(size=(80, 40))).reshape(80, 2, 20, 1).astype(np.float32)
  found = baselines.random_forest(x[:60], np.where(np.arange(60) < 5, -1, labels[:60]), x[60:], seed=0)
  assert (found == labels[60:]).mean() > 0.9
