"""Baselines and measures of reconstructions against scikit-learn, brute force and known answers."""

import itertools

import numpy as np
from sklearn.decomposition import PCA

from behavejax.evaluation import rates


def correlated(count, seed=0):
  rng = np.random.default_rng(seed)
  mixing = np.random.default_rng(9).normal(size=(6, 6)) * np.array([4, 2, 1, 0.5, 0.2, 0.1])[:, None]
  return (rng.normal(size=(count, 6)) @ mixing + 3).astype(np.float32)


def test_projection_equals_scikit_learn():
  train, test = correlated(200), correlated(50, seed=1)
  components = rates.principal_components(train)
  for count in (0, 1, 3, 6):
    pca = PCA(count).fit(train) if count else None
    there = pca.inverse_transform(pca.transform(test)) if count else np.broadcast_to(train.mean(0), test.shape)
    np.testing.assert_allclose(
      rates.by_numbers(components, test, count), np.mean((there - test) ** 2), rtol=1e-3, atol=1e-6
    )
  wanted = PCA().fit(train.astype(np.float64)).explained_variance_ * 199 / 200
  np.testing.assert_allclose(components.variances, wanted, rtol=1e-4)


def test_bits_are_given_as_brute_force_would():
  variances = np.array([9.0, 4.0, 1.0, 0.3])
  for bits in range(7):
    given = rates.allocate(variances, bits)
    best = min(
      np.sum(variances / 4.0 ** np.array(choice))
      for choice in itertools.product(range(bits + 1), repeat=4)
      if sum(choice) == bits
    )
    np.testing.assert_allclose(np.sum(variances / 4.0**given), best)


def test_more_bits_are_better_and_none_are_the_mean():
  train, test = correlated(800), correlated(100, seed=1)
  components = rates.principal_components(train)
  errors = [rates.by_bits(components, train, test, bits) for bits in (0, 2, 6, 12, 24)]
  np.testing.assert_allclose(errors[0], np.mean((test - train.mean(0)) ** 2), rtol=1e-5)
  assert all(later < earlier for earlier, later in itertools.pairwise(errors))
  gauss = np.random.default_rng(0).normal(size=(20000, 1)).astype(np.float32)
  one = rates.by_bits(rates.principal_components(gauss), gauss, gauss, 2)
  np.testing.assert_allclose(one, 0.1175, atol=0.004)  # the best four levels of a Gaussian (Max 1960)


def test_similarity_equals_its_definition_and_is_one_for_equal_pictures():
  rng = np.random.default_rng(0)
  a, b = rng.uniform(0, 255, (2, 3, 9, 8, 2))
  found = rates.ssim(a, b, 255.0)
  expected = np.zeros(3)
  for n in range(3):
    values = []
    for c, i, j in itertools.product(range(2), range(3), range(2)):
      x, y = (p[n, i : i + 7, j : j + 7, c].ravel() for p in (a, b))
      cov = np.cov(x, y)
      first, second = (0.01 * 255) ** 2, (0.03 * 255) ** 2
      values.append(
        (2 * x.mean() * y.mean() + first)
        * (2 * cov[0, 1] + second)
        / ((x.mean() ** 2 + y.mean() ** 2 + first) * (cov[0, 0] + cov[1, 1] + second))
      )
    expected[n] = np.mean(values)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  np.testing.assert_allclose(rates.ssim(a, a, 255.0), 1)
  assert rates.ssim(a[:, :5, :4], b[:, :5, :4], 255.0).shape == (3,)
