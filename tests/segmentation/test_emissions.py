"""Emissions: densities against scipy, statistics that add, modes that are maxima, draws that match samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from behavejax.segmentation import emissions

KINDS = {
  "full": emissions.gaussian(2),
  "diagonal": emissions.gaussian(2, covariance="diagonal"),
  "autoregressive": emissions.gaussian(2, lags=2),
  "categorical": emissions.categorical((5,)),
  "digits": emissions.categorical((4, 3)),
  "bags": emissions.bags((4, 3)),
  "poisson": emissions.poisson(2),
}
STATES, TIME = 3, 60


def data(name, seed=0):
  rng = np.random.default_rng(seed)
  if name == "categorical":
    return jnp.asarray(rng.integers(5, size=TIME))
  if name == "digits":
    return jnp.asarray(np.stack([rng.integers(4, size=TIME), rng.integers(3, size=TIME)], axis=1))
  if name == "bags":
    counts = [rng.multinomial(6, np.ones(n) / n, size=TIME) for n in (4, 3)]
    return jnp.asarray(np.stack([counts[0], np.pad(counts[1], ((0, 0), (0, 1)))], axis=1), jnp.float32)
  if name == "poisson":
    return jnp.asarray(rng.poisson(3.0, size=(TIME, 2)), jnp.float32)
  return jnp.asarray(rng.normal(size=(TIME, 2)).cumsum(axis=0) * 0.3, jnp.float32)


def assignments(seed=0):
  return jnp.asarray(np.random.default_rng(seed).dirichlet(np.ones(STATES), TIME), jnp.float32)


@pytest.fixture(params=list(KINDS))
def kind(request):
  emission = KINDS[request.param]
  observed = emission.observe(data(request.param))
  return request.param, emission, observed, emission.statistics(observed, assignments())


def test_log_likelihoods_are_those_of_scipy(kind):
  name, emission, observed, statistics = kind
  found = emission.log_likelihoods(emission.mode(statistics), observed)
  assert found.shape == (TIME, STATES)
  p, x = emission.mode(statistics), np.asarray(data(name))
  if name == "poisson":
    wanted = stats.poisson.logpmf(x[:, None], np.asarray(p[0])[None]).sum(axis=2)
  elif name == "bags":
    wanted = sum(x[:, i, :n] @ np.asarray(p)[:, i, :n].T for i, n in enumerate((4, 3)))
  elif name in ("categorical", "digits"):
    x = x.reshape(TIME, -1)
    wanted = sum(np.asarray(p)[:, i, x[:, i]].T for i in range(x.shape[1]))
    np.testing.assert_allclose(np.exp(np.asarray(p)).sum(axis=2), 1.0, rtol=1e-5)
  else:
    wanted = np.zeros((TIME, STATES))
    blocks = p.weights.shape[1]
    for state in range(STATES):
      for block in range(blocks):
        columns = slice(None) if blocks == 1 else slice(block, block + 1)
        y, lags = x[:, columns], 2 if name == "autoregressive" else 0
        past = [np.concatenate([np.repeat(y[:1], lag, axis=0), y[: TIME - lag]]) for lag in range(1, lags + 1)]
        inputs = np.concatenate([*past, np.ones((TIME, 1))], axis=1)
        root = np.asarray(p.whitener[state, block], np.float64)
        noise = np.linalg.inv(root.T @ root)
        errors = y - inputs @ np.asarray(p.weights[state, block])
        wanted[:, state] += stats.multivariate_normal.logpdf(errors, np.zeros(y.shape[1]), noise)
    if name == "autoregressive":
      wanted[:2] = 0  # no past, no evidence
  np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-4)


def test_statistics_add_over_sequences(kind):
  name, emission, observed, statistics = kind
  other = emission.observe(data(name, seed=1))
  whole = jax.tree.map(lambda a, b: a + b, statistics, emission.statistics(other, assignments(1)))
  both = jax.vmap(emission.statistics)(
    jax.tree.map(lambda a, b: jnp.stack([a, b]), observed, other), jnp.stack([assignments(), assignments(1)])
  )
  for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(both), strict=True):
    np.testing.assert_allclose(a, b.sum(axis=0), rtol=1e-5, atol=1e-5)


def test_mode_maximizes_likelihood_times_prior(kind):
  name, emission, observed, statistics = kind
  best, weights = emission.mode(statistics), assignments()

  def objective(parameters):
    return jnp.sum(weights * emission.log_likelihoods(parameters, observed)) + jnp.sum(emission.log_prior(parameters))

  free = best if name != "poisson" else (best[0], best[1])
  valid = emission.constrain(free)
  np.testing.assert_allclose(objective(valid), objective(best), rtol=1e-4)
  gradient = jax.grad(lambda p: objective(emission.constrain(p)))(free)
  for leaf in jax.tree.leaves(gradient):
    assert jnp.abs(leaf).max() < 0.05


def test_expected_log_likelihood_is_the_average_over_draws(kind):
  _, emission, observed, statistics = kind
  draws = jax.jit(jax.vmap(lambda key: emission.draw(statistics, key)))(jax.random.split(jax.random.key(0), 4000))
  average = jax.vmap(lambda p: emission.log_likelihoods(p, observed))(draws).mean(axis=0)
  np.testing.assert_allclose(emission.log_likelihoods(emission.expected(statistics), observed), average, atol=0.12)


def test_divergence_is_zero_without_data_and_positive_with(kind):
  _, emission, _, statistics = kind
  nothing = jax.tree.map(jnp.zeros_like, statistics)
  np.testing.assert_allclose(emission.divergence(nothing), 0.0, atol=1e-4)
  assert (emission.divergence(statistics) > 0.05).all()


def test_samples_lead_back_to_the_parameters(kind):
  name, emission, _, statistics = kind
  parameters = emission.mode(statistics)
  states = jnp.repeat(jnp.arange(STATES), 3000)
  sampled = emission.sample(parameters, states, jax.random.key(0))
  again = emission.mode(emission.statistics(emission.observe(sampled), jax.nn.one_hot(states, STATES)))
  if name in ("full", "diagonal", "autoregressive"):
    np.testing.assert_allclose(again.weights, parameters.weights, atol=0.15)
    np.testing.assert_allclose(again.log_det, parameters.log_det, atol=0.25)
  else:
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(parameters), strict=True):
      np.testing.assert_allclose(a, b, atol=0.2)


def test_a_code_that_cannot_be_makes_its_bag_impossible():
  emission = emissions.bags((2,))
  with np.errstate(divide="ignore"):
    log_probs = jnp.log(jnp.array([[[1.0, 0.0]], [[0.5, 0.5]]]))
  found = emission.log_likelihoods(log_probs, emission.observe(np.array([[[3.0, 0.0]], [[2.0, 1.0]]])))
  np.testing.assert_allclose(found, [[0.0, 3 * np.log(0.5)], [-np.inf, 3 * np.log(0.5)]], rtol=1e-6)


def test_digits_that_do_not_exist_have_no_probability():
  log_probs = KINDS["digits"].mode(jnp.zeros((STATES, 2, 4)))
  assert (log_probs[:, 1, 3] == -jnp.inf).all()


@pytest.mark.parametrize(
  "make",
  [
    lambda: emissions.gaussian(2, covariance="spherical"),
    lambda: emissions.gaussian(0),
    lambda: emissions.gaussian(2, lags=-1),
    lambda: emissions.categorical(()),
    lambda: emissions.categorical((4, 0)),
  ],
)
def test_bad_settings_are_refused(make):
  with pytest.raises(ValueError, match=r"gaussian|categorical"):
    make()
