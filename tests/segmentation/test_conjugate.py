"""Matrix-normal inverse-Wishart updates against scipy, sampling, and exact linear algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from behavejax.segmentation import conjugate


@pytest.fixture(scope="module")
def problem():
  rng = np.random.default_rng(0)
  inputs, outputs, count = 3, 2, 30
  prior = conjugate.Prior(
    jnp.asarray(rng.normal(size=(inputs, outputs)), jnp.float32),
    2 * jnp.eye(inputs),
    1.5 * jnp.eye(outputs),
    jnp.asarray(5.0),
  )
  x = rng.normal(size=(count, inputs))
  y = x @ rng.normal(size=(inputs, outputs)) + 0.5 * rng.normal(size=(count, outputs))
  x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
  posterior = conjugate.update(prior, conjugate.moments(x, y, jnp.ones(count)))
  draws = jax.jit(jax.vmap(lambda key: conjugate.draw(posterior, key)))(jax.random.split(jax.random.key(0), 20_000))
  return prior, posterior, x, y, draws


def log_density(q, draws, count):
  """Of drawn regressions under a prior or posterior, by scipy."""
  found = []
  for weights, whitener in zip(draws.weights[:count], draws.whitener[:count], strict=True):
    root = np.asarray(whitener, np.float64)
    noise = np.linalg.inv(root.T @ root)
    noise = (noise + noise.T) / 2
    rows = np.linalg.inv(np.asarray(q.precision, np.float64))
    found.append(
      stats.invwishart.logpdf(noise, df=float(q.freedom), scale=np.asarray(q.scale, np.float64))
      + stats.matrix_normal.logpdf(np.asarray(weights), np.asarray(q.mean), rows, noise)
    )
  return np.array(found)


@pytest.mark.parametrize("size", [1, 2, 7, 20])
def test_inverse_root_is_the_inverse(size):
  matrix = np.random.default_rng(size).normal(size=(size, size))
  matrix = matrix @ matrix.T + 0.5 * np.eye(size)
  root, log_det = jax.jit(conjugate.inverse_root)(jnp.asarray(matrix, jnp.float32))
  np.testing.assert_allclose(root.T @ root @ matrix, np.eye(size), atol=2e-4)
  np.testing.assert_allclose(log_det, np.linalg.slogdet(matrix)[1], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(
    conjugate.cholesky(jnp.asarray(matrix, jnp.float32)), np.linalg.cholesky(matrix), rtol=1e-3, atol=1e-4
  )


def test_update_does_not_depend_on_how_the_samples_are_cut(problem):
  prior, posterior, x, y, _ = problem
  first = conjugate.update(prior, conjugate.moments(x[:7], y[:7], jnp.ones(7)))
  both = conjugate.update(first, conjugate.moments(x[7:], y[7:], jnp.ones(23)))
  for a, b in zip(both, posterior, strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


def test_weights_of_zero_leave_samples_out(problem):
  prior, _, x, y, _ = problem
  half = jnp.arange(30) < 15
  a = conjugate.update(prior, conjugate.moments(x, y, half.astype(jnp.float32)))
  b = conjugate.update(prior, conjugate.moments(x[:15], y[:15], jnp.ones(15)))
  np.testing.assert_allclose(a.scale, b.scale, rtol=1e-5)


def test_draws_have_the_posterior_mean(problem):
  _, posterior, _, _, draws = problem
  np.testing.assert_allclose(draws.weights.mean(0), posterior.mean, atol=0.01)
  precision = np.mean(np.einsum("nij,nik->njk", draws.whitener, draws.whitener), axis=0)
  np.testing.assert_allclose(precision, posterior.freedom * np.linalg.inv(posterior.scale), rtol=0.03, atol=0.05)


def test_expected_log_likelihood_is_the_average_over_draws(problem):
  _, posterior, x, y, draws = problem
  over_draws = jax.vmap(lambda p: conjugate.log_likelihoods(p, x, y))(draws).mean(axis=0)
  expected = conjugate.log_likelihoods(conjugate.expected(posterior), x, y)
  np.testing.assert_allclose(expected, over_draws, atol=0.03)


def test_log_likelihood_is_the_normal_density(problem):
  _, posterior, x, y, _ = problem
  mode = conjugate.mode(posterior)
  noise = np.linalg.inv(np.asarray(mode.whitener.T @ mode.whitener, np.float64))
  wanted = [stats.multivariate_normal.logpdf(b, a @ np.asarray(mode.weights), noise) for a, b in zip(x, y, strict=True)]
  np.testing.assert_allclose(conjugate.log_likelihoods(mode, x, y), wanted, rtol=1e-4, atol=1e-4)


def test_divergence_is_the_average_log_ratio(problem):
  prior, posterior, _, _, draws = problem
  ratio = log_density(posterior, draws, 2000) - log_density(prior, draws, 2000)
  assert abs(conjugate.divergence(posterior, prior) - ratio.mean()) < 4 * ratio.std() / np.sqrt(2000)
  np.testing.assert_allclose(conjugate.divergence(prior, prior), 0.0, atol=1e-5)


def test_mode_is_where_the_joint_density_is_largest(problem):
  prior, posterior, x, y, _ = problem

  def objective(parameters):
    return jnp.sum(conjugate.log_likelihoods(parameters, x, y)) + conjugate.log_density(prior, parameters)

  best = conjugate.mode(posterior)
  for key in jax.random.split(jax.random.key(1), 20):
    weight_key, noise_key = jax.random.split(key)
    weights = best.weights + 0.02 * jax.random.normal(weight_key, best.weights.shape)
    whitener = best.whitener + 0.02 * jax.random.normal(noise_key, best.whitener.shape)
    log_det = 2 * jnp.linalg.slogdet(whitener)[1]
    assert objective(best._replace(weights=weights, whitener=whitener, log_det=log_det)) < objective(best) + 1e-3
