"""Scores of reconstructions and of drawn samples, against plain loops, SciPy and cases that are known."""

import numpy as np
import pytest
from scipy import linalg
from scipy.spatial.distance import cdist

from behavejax.evaluation import sample_metrics as metrics


def ssim_by_hand(x, y, peak):
  """Pixel by pixel, with the part of the window that lies inside the image."""
  height, width = x.shape
  values = []
  for row in range(height):
    for column in range(width):
      weights = np.array([
        [np.exp(-((i - row) ** 2 + (j - column) ** 2) / (2 * 1.5**2)) * (abs(i - row) <= 5 and abs(j - column) <= 5)
         for j in range(width)] for i in range(height)
      ])  # fmt: skip
      weights /= weights.sum()
      mx, my = (weights * x).sum(), (weights * y).sum()
      vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
      cov = (weights * (x - mx) * (y - my)).sum()
      a, b = (0.01 * peak) ** 2, (0.03 * peak) ** 2
      values.append((2 * mx * my + a) * (2 * cov + b) / ((mx**2 + my**2 + a) * (vx + vy + b)))
  return np.mean(values)


@pytest.mark.parametrize("shape", [(8, 8), (13, 6)])
def test_ssim_equals_a_plain_loop(shape):
  rng = np.random.default_rng(0)
  x = rng.uniform(0, 16, (2, *shape, 2))
  y = np.clip(x + rng.normal(size=x.shape) * 3, 0, 16)
  expected = [np.mean([ssim_by_hand(x[i, ..., c], y[i, ..., c], 16.0) for c in range(2)]) for i in range(2)]
  np.testing.assert_allclose(metrics.ssim(x, y, peak=16.0), expected, rtol=1e-9)
  np.testing.assert_allclose(metrics.ssim(x, x, peak=16.0), 1.0)
  assert (metrics.ssim(x, 16 - x, peak=16.0) < 0).all()


def test_frechet_equals_scipy_and_the_known():
  rng = np.random.default_rng(0)
  mix = rng.normal(size=(5, 5))
  a, b = rng.normal(size=(400, 5)) @ mix, rng.normal(size=(300, 5)) * [1, 2, 3, 0.1, 1] + 1
  s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
  expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s + t - 2 * linalg.sqrtm(s @ t).real)
  np.testing.assert_allclose(metrics.frechet(a, b), expected, rtol=1e-8)
  np.testing.assert_allclose(metrics.frechet(a, a), 0, atol=1e-8)
  np.testing.assert_allclose(metrics.frechet(a, a + 3), 45, rtol=1e-8)
  constant = np.zeros((10, 5))
  np.testing.assert_allclose(metrics.frechet(constant, a), np.trace(s) + np.sum(a.mean(0) ** 2), rtol=1e-8)


def test_precision_and_recall_equal_brute_force():
  rng = np.random.default_rng(0)
  real, drawn = rng.normal(size=(60, 3)), rng.normal(size=(700, 3)) * 0.7 + 0.5
  found = metrics.precision_recall(real, drawn, neighbours=3)
  reach = [np.sort(cdist(a, a), axis=1)[:, 3] for a in (real, drawn)]
  assert found.precision == np.mean((cdist(drawn, real) <= reach[0]).any(1))
  assert found.recall == np.mean((cdist(real, drawn) <= reach[1]).any(1))
  assert metrics.precision_recall(real, real + 100, neighbours=3) == (0, 0)
  assert metrics.precision_recall(real, np.repeat(real[:1], 50, axis=0), neighbours=3).precision == 1
  assert metrics.precision_recall(real, np.repeat(real[:1], 50, axis=0), neighbours=3).recall <= 1 / 60


def test_nearest_and_copies():
  rng = np.random.default_rng(0)
  train, held_out = rng.normal(size=(200, 4, 4, 1)), rng.normal(size=(300, 4, 4, 1))
  found = metrics.nearest(train, held_out)
  table = cdist(held_out.reshape(300, -1), train.reshape(200, -1))
  np.testing.assert_array_equal(found.rows, table.argmin(1))
  np.testing.assert_allclose(found.distances, table.min(1) / 4)
  remembered = metrics.nearest(train, train[:50] + 0.01 * rng.normal(size=(50, 4, 4, 1)))
  fresh = metrics.nearest(train, rng.normal(size=(500, 4, 4, 1)))
  assert metrics.copies(remembered.distances, found.distances) == 1
  assert metrics.copies(fresh.distances, found.distances) < 0.05
