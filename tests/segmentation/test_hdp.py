"""The hierarchy of weights: sticks, tables, Dirichlet formulas, and recovery of known weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import digamma

from behavejax.segmentation import hdp


def test_sticks_match_the_loop_and_sum_to_one():
  fractions = np.random.default_rng(0).beta(1, 3, size=12)
  left, wanted = 1.0, []
  for fraction in fractions:
    wanted.append(left * fraction)
    left *= 1 - fraction
  found = hdp.stick_breaking(jnp.asarray(fractions, jnp.float32))
  np.testing.assert_allclose(found, [*wanted, left], rtol=1e-4)
  np.testing.assert_allclose(found.sum(), 1.0, rtol=1e-5)


def test_transition_prior_has_no_diagonal_and_the_given_strength():
  prior = hdp.transition_prior(jnp.array([0.5, 0.3, 0.2]), 4.0)
  np.testing.assert_allclose(jnp.diagonal(prior), 0.0)
  np.testing.assert_allclose(prior.sum(axis=1), 4.0, rtol=1e-6)
  np.testing.assert_allclose(prior[0], [0.0, 2.4, 1.6], rtol=1e-5)


def test_random_tables_have_the_expected_number():
  counts, concentration = jnp.array([[5.0, 40.0, 0.0]]), jnp.array([[0.5, 2.0, 3.0]])
  drawn = jax.vmap(lambda key: hdp.draw_tables(counts, concentration, key))(jax.random.split(jax.random.key(0), 4000))
  expected = hdp.expected_tables(counts, concentration)
  np.testing.assert_allclose(drawn.mean(axis=0), expected, atol=0.12)
  wanted = [sum(c / (c + i) for i in range(n)) for n, c in ((5, 0.5), (40, 2.0), (0, 3.0))]
  np.testing.assert_allclose(expected[0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("drawn", [False, True], ids=["point", "gibbs"])
def test_weights_of_groups_are_recovered(drawn):
  truth = np.array([[0.6, 0.25, 0.1, 0.05], [0.1, 0.2, 0.3, 0.4]])
  rng = np.random.default_rng(1)
  counts = np.zeros((2, 4, 4))
  for group in range(2):
    for state in range(4):
      row = truth[group] * (np.arange(4) != state)
      counts[group, state] = rng.multinomial(60, rng.dirichlet(200 * row / row.sum() + 1e-9))
  weights, options = hdp.uniform(2, 4), {"alpha": 20.0, "kappa": 5.0, "gamma": 2.0}
  counts, initial = jnp.asarray(counts, jnp.float32), jnp.zeros((2, 4))
  if drawn:
    step = jax.jit(lambda weights, key: (hdp.draw_weights(weights, counts, initial, key, **options),) * 2)
    groups = jax.lax.scan(step, weights, jax.random.split(jax.random.key(0), 300))[1].groups[50:].mean(axis=0)
  else:
    for _ in range(10):
      weights = hdp.update_weights(weights, counts, initial, **options)
    groups = weights.groups
  np.testing.assert_allclose(groups.sum(axis=1), 1.0, rtol=1e-5)
  np.testing.assert_allclose(groups, truth, atol=0.12)
  assert np.abs(groups[0] - groups[1]).sum() > 0.6


def test_dirichlet_formulas_match_scipy():
  counts, allowed = jnp.array([0.7, 2.0, 0.0, 5.0]), jnp.array([True, True, False, True])
  used = np.array([0.7, 2.0, 5.0])
  found = hdp.dirichlet_expected_log(counts, allowed)
  assert found[2] == -jnp.inf
  np.testing.assert_allclose(found[jnp.array([0, 1, 3])], digamma(used) - digamma(used.sum()), rtol=1e-5)
  draws = jax.vmap(lambda key: hdp.dirichlet_draw_log(counts, allowed, key))(
    jax.random.split(jax.random.key(0), 20_000)
  )
  np.testing.assert_allclose(jnp.exp(draws).mean(axis=0)[3], 5 / 7.7, atol=0.01)
  other = jnp.array([1.0, 1.0, 0.0, 1.0])
  shares = np.maximum(np.exp(np.asarray(draws, np.float64)[:4000][:, [0, 1, 3]]), 1e-12)
  shares /= shares.sum(axis=1, keepdims=True)
  ratio = [stats.dirichlet.logpdf(p, used) - stats.dirichlet.logpdf(p, np.ones(3)) for p in shares]
  np.testing.assert_allclose(hdp.dirichlet_divergence(counts, other, allowed), np.mean(ratio), atol=0.05)
  np.testing.assert_allclose(hdp.dirichlet_divergence(counts, counts, allowed), 0.0, atol=1e-5)
  nothing = jnp.zeros(4, bool)
  np.testing.assert_array_equal(hdp.dirichlet_divergence(counts, other, nothing), 0.0)
  shares = np.array([0.2, 0.3, 0.5])
  density = hdp.dirichlet_log_density(jnp.log(jnp.array([0.2, 0.3, 0.0, 0.5])), counts, allowed)
  wanted = stats.dirichlet.logpdf(shares, used) + np.log(shares).sum()  # the Jacobian of log-odds
  np.testing.assert_allclose(density, wanted, rtol=1e-5)
