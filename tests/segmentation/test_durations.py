"""Families of durations against SciPy's distributions and optimizer, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats as ss
from hypothesis import given, settings
from hypothesis import strategies as st

from behavejax.segmentation import durations

PARAMETRIC = tuple(durations.FAMILIES)
EVERY = pytest.mark.parametrize("family", PARAMETRIC)
LONGEST = 60
THETA = {
  "geometric": [[2.0], [-1.0]],
  "poisson": [[2.5], [-0.5]],
  "negative_binomial": [[1.2, 2.6], [-0.3, 1.0]],
  "log_normal": [[2.7, -0.7], [1.0, -1.0]],
  "gaussian": [[3.2, 1.8], [1.6, 0.0]],
}
"""Two states of each family, their mass well within `LONGEST`."""
CUT = {
  "geometric": [4.0],
  "poisson": [4.1],
  "negative_binomial": [1.0, 4.0],
  "log_normal": [4.0, -0.5],
  "gaussian": [4.0, 2.8],
}
"""A state that loses a fifth of its mass and more."""

fit = jax.jit(durations.fit, static_argnums=0, static_argnames="shortest")


@functools.partial(jax.jit, static_argnums=0)
def log_pmf_and_slope(family, theta):
  def one(theta):
    return durations.log_pmf(family, theta[None], longest=LONGEST)[0]

  return one(theta), jax.jacobian(one)(theta)


def mass(family, theta, longest):
  """log pmf of d = 1..longest before truncation."""
  d, theta = np.arange(1, longest + 1), np.asarray(theta, np.float64)
  if family == "geometric":
    return ss.geom(1 / (1 + np.exp(theta[0]))).logpmf(d)
  if family == "poisson":
    return ss.poisson(np.exp(theta[0]), loc=1).logpmf(d)
  if family == "negative_binomial":
    r, mean = np.exp(theta)
    return ss.nbinom(r, r / (r + mean), loc=1).logpmf(d)
  edges = np.arange(longest + 1) + 0.5
  if family == "log_normal":
    scaled = (np.log(edges) - theta[0]) / np.exp(theta[1])
  else:
    scaled = (edges - np.exp(theta[0])) / np.exp(theta[1])
  low, high = scaled[:-1], scaled[1:]
  low, high = np.where(low > 0, -high, low), np.where(low > 0, -low, high)
  return ss.norm.logcdf(high) + np.log(-np.expm1(ss.norm.logcdf(low) - ss.norm.logcdf(high)))


def truncated(family, theta, longest=LONGEST):
  logs = mass(family, theta, longest)
  return logs - np.logaddexp.reduce(logs)


def pmf(family, longest=LONGEST):
  return np.exp([truncated(family, theta, longest) for theta in THETA[family]])


def log_pmf(family, longest=LONGEST):
  return durations.log_pmf(family, jnp.array(THETA[family]), longest=longest)


@EVERY
@pytest.mark.parametrize("longest", [1, 2, 60, 400])
def test_log_pmf_equals_scipy(family, longest):
  found = np.asarray(log_pmf(family, longest), np.float64)
  expected = np.array([truncated(family, theta, longest) for theta in THETA[family]])
  np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-5)
  np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=2e-6)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-4)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(PARAMETRIC), st.floats(-3, 4), st.floats(-2, 3))
def test_log_pmf_far_from_the_usual_equals_scipy(family, first, second):
  """Far in the tails too: a log may be -1e5 but not -inf or NaN."""
  theta = np.float32([first, second][: durations.theta_size(family, longest=LONGEST)])
  found, slope = log_pmf_and_slope(family, jnp.asarray(theta))
  assert np.isfinite(found).all()
  np.testing.assert_allclose(found, truncated(family, theta), rtol=2e-4, atol=1e-3)
  assert np.isfinite(slope).all()


def test_categorical_is_a_softmax():
  theta = jnp.array([[0.0, 1.0, -jnp.inf], [2.0, 2.0, 2.0]])
  found = jnp.exp(durations.log_pmf("categorical", theta, longest=3))
  np.testing.assert_allclose(found, scipy.special.softmax(theta, axis=1), atol=1e-6)
  np.testing.assert_array_equal(durations.lost_tail("categorical", theta, longest=3), [0, 0])


@EVERY
def test_lost_tail_equals_scipy(family):
  theta = jnp.array(THETA[family])
  for longest in (3, 10, 60):
    expected = [1 - np.exp(mass(family, one, longest)).sum() for one in THETA[family]]
    np.testing.assert_allclose(durations.lost_tail(family, theta, longest=longest), expected, atol=1e-5)


@EVERY
def test_mean_and_survival_equal_sums(family):
  expected = pmf(family)
  np.testing.assert_allclose(durations.mean(log_pmf(family)), expected @ np.arange(1, LONGEST + 1), rtol=1e-5)
  survival = durations.survival(log_pmf(family))
  np.testing.assert_allclose(survival, expected[:, ::-1].cumsum(axis=1)[:, ::-1], atol=1e-5)
  np.testing.assert_allclose(survival[:, 0], 1, atol=1e-5)
  tail = np.asarray(survival)[:, -1]
  np.testing.assert_allclose(tail, expected[:, -1], rtol=1e-3, atol=1e-37)  # light tails keep their digits


@EVERY
def test_draws_follow_the_pmf(family):
  count = 5000
  drawn = np.asarray(durations.draw(log_pmf(family), jax.random.key(1), count=count))
  assert drawn.shape == (2, count)
  assert drawn.min() >= 1
  assert drawn.max() <= LONGEST
  for values, expected in zip(drawn, pmf(family) * count, strict=True):
    seen = np.bincount(values - 1, minlength=LONGEST)
    common = expected >= 5
    observed, wanted = (np.append(part[common], part[~common].sum()) for part in (seen, expected))
    if wanted[-1] < 1:
      observed, wanted = observed[:-1], wanted[:-1] * observed[:-1].sum() / wanted[:-1].sum()
    assert ss.chisquare(observed, wanted * observed.sum() / wanted.sum()).pvalue > 1e-3


@EVERY
def test_fit_recovers_what_made_the_counts(family):
  counts = jnp.asarray(pmf(family) * 1e5, jnp.float32)
  theta = fit(family, counts, jnp.zeros(LONGEST))
  np.testing.assert_allclose(theta, THETA[family], atol=0.02)
  found = np.exp(durations.log_pmf(family, theta, longest=LONGEST))
  np.testing.assert_allclose(found, pmf(family), atol=1e-3)


@EVERY
def test_fit_recovers_under_truncation(family):
  """Much of the mass is cut off, which the moments know nothing of."""
  expected = np.exp([truncated(family, CUT[family])] * 2)
  assert float(durations.lost_tail(family, jnp.array([CUT[family]]), longest=LONGEST)[0]) > 0.2
  theta = fit(family, jnp.asarray(expected * 1e5, jnp.float32), jnp.zeros(LONGEST))
  found = np.exp(durations.log_pmf(family, theta, longest=LONGEST))
  np.testing.assert_allclose(found, expected, atol=5e-4)


@pytest.mark.parametrize("family", durations.NAMES)
def test_short_durations_are_ruled_out_and_not_counted(family):
  """From 4 on, truncated at both ends; what is counted below 4 changes nothing."""
  made = family if family in PARAMETRIC else "poisson"
  expected = np.exp([truncated(made, theta) for theta in THETA[made]])
  expected[:, :3] = 0
  expected /= expected.sum(axis=1, keepdims=True)
  counts = expected * 1e5 + np.array([5e4, 2e4, 1e4] + [0] * (LONGEST - 3))
  theta = fit(family, jnp.asarray(counts, jnp.float32), jnp.zeros(LONGEST), shortest=4)
  found = np.exp(durations.log_pmf(family, theta, longest=LONGEST, shortest=4))
  np.testing.assert_array_equal(found[:, :3], 0)
  np.testing.assert_allclose(found, expected, atol=1e-3)
  moved = durations.metropolis(
    family, theta, jnp.asarray(counts, jnp.float32), jnp.full(LONGEST, 0.02), jax.random.key(0), shortest=4
  )
  shares = np.exp(durations.log_pmf(family, moved, longest=LONGEST, shortest=4))
  np.testing.assert_allclose(shares @ np.arange(LONGEST), expected @ np.arange(LONGEST), rtol=0.05)


def best_mean_log(family, counts):
  """Largest mean log likelihood under SciPy's optimizer, from several starts."""

  def loss(theta):
    with np.errstate(all="ignore"):
      value = -counts @ truncated(family, theta, len(counts)) / counts.sum()
    return value if np.isfinite(value) else 1e6

  starts = [np.add(THETA[family][0], shift) for shift in (-1.5, -0.5, 0.5)]
  return -min(scipy.optimize.minimize(loss, start, method="Nelder-Mead").fun for start in starts)


@EVERY
def test_fit_of_few_noisy_counts_reaches_scipy_s_maximum(family):
  rng = np.random.default_rng(3)
  counts = np.array([rng.multinomial(size, row) for size, row in zip((40, 9), pmf(family)[[0, 0]], strict=True)], float)
  counts += rng.random(counts.shape) * 0.02  # expected counts are no integers
  theta = fit(family, jnp.asarray(counts, jnp.float32), jnp.zeros(LONGEST))
  for row, one in zip(counts, np.asarray(theta), strict=True):
    reached = row @ truncated(family, one) / row.sum()
    assert reached > best_mean_log(family, row) - 1e-3


@pytest.mark.parametrize("family", durations.NAMES)
def test_prior_is_counts_seen_before(family):
  rng = np.random.default_rng(4)
  shape = np.exp(truncated("poisson", [2.0]))
  counts = jnp.asarray(rng.random((2, LONGEST)) * shape * 20, jnp.float32)
  prior = jnp.asarray((rng.random(LONGEST) + 0.1) * shape, jnp.float32)
  both = jnp.stack([prior, prior])
  for seen_before, at_once in (((counts, prior), counts + both), ((jnp.zeros_like(counts), prior), both)):
    found, expected = fit(family, *seen_before), fit(family, at_once, jnp.zeros(LONGEST))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert found.shape == (2, durations.theta_size(family, longest=LONGEST))


def test_categorical_fit_is_the_share_of_counts():
  theta = durations.fit("categorical", jnp.array([[3.0, 1.0, 0.0]]), jnp.ones(3))
  np.testing.assert_allclose(np.exp(theta), [[4 / 7, 2 / 7, 1 / 7]], rtol=1e-6)


@EVERY
@pytest.mark.parametrize("places", [(1, 2), (30, LONGEST)])
def test_fit_of_a_single_duration_stays_finite(family, places):
  """All segments equally long: the maximum is at the edge of the family, or beyond it."""
  counts = jnp.zeros((2, LONGEST)).at[jnp.arange(2), jnp.array(places) - 1].set(50.0)
  theta = fit(family, counts, jnp.full(LONGEST, 1e-4))
  found = durations.log_pmf(family, theta, longest=LONGEST)
  assert np.isfinite(theta).all()
  assert np.isfinite(found).all()
  means = durations.mean(found)
  for place, center in zip(places, means, strict=True):
    if place < LONGEST and family not in ("geometric", "negative_binomial"):
      assert float(center) == pytest.approx(place, abs=1.0)


def metropolis_draws(family, counts, prior, *, chains, steps):
  theta = fit(family, counts, prior)
  keys = jax.random.split(jax.random.key(0), chains)
  with jax.debug_key_reuse(False):  # it takes any scan over keys under vmap for a reuse (jax 0.10)
    return np.asarray(
      jax.jit(jax.vmap(lambda key: durations.metropolis(family, theta, counts, prior, key, steps=steps)))(keys)
    )


@pytest.mark.parametrize("family", ["geometric", "poisson"])
def test_metropolis_draws_the_posterior(family):
  """One parameter: mean and deviation by numerical integration; counts of a rare and of a frequent state."""
  counts = np.stack([pmf(family)[0] * 12, pmf(family)[1] * 400])
  prior = np.full(LONGEST, 0.02)
  drawn = metropolis_draws(
    family, jnp.asarray(counts, jnp.float32), jnp.asarray(prior, jnp.float32), chains=400, steps=40
  )  # fmt: skip
  grid = np.linspace(-3, 5, 2001)
  for state, row in enumerate(counts + prior):
    logs = np.array([row @ truncated(family, [theta]) for theta in grid])
    weights = np.exp(logs - logs.max())
    center = weights @ grid / weights.sum()
    deviation = np.sqrt(weights @ (grid - center) ** 2 / weights.sum())
    found = drawn[:, state, 0]
    assert found.mean() == pytest.approx(center, abs=4 * deviation / 20)
    assert found.std() == pytest.approx(deviation, rel=0.15)


@pytest.mark.parametrize("family", ["negative_binomial", "log_normal", "gaussian"])
def test_metropolis_stays_near_the_truth_and_moves(family):
  counts = jnp.asarray(pmf(family) * 500, jnp.float32)
  drawn = metropolis_draws(family, counts, jnp.full(LONGEST, 0.02), chains=50, steps=40)
  assert np.isfinite(drawn).all()
  assert (drawn.std(axis=0) > 1e-3).all()
  fitted = np.asarray(durations.mean(durations.log_pmf(family, jnp.asarray(drawn.mean(axis=0)), longest=LONGEST)))
  np.testing.assert_allclose(fitted, pmf(family) @ np.arange(1, LONGEST + 1), rtol=0.1)


def test_metropolis_of_a_categorical_is_dirichlet():
  counts, prior = jnp.array([[8.0, 1.0, 0.0], [0.0, 40.0, 10.0]]), jnp.array([0.5, 1.0, 2.0])
  theta = jnp.zeros((2, 3))
  keys = jax.random.split(jax.random.key(0), 4000)
  drawn = jax.vmap(lambda key: durations.metropolis("categorical", theta, counts, prior, key))(keys)
  shares = np.exp(durations.log_pmf("categorical", drawn.reshape(-1, 3), longest=3)).reshape(-1, 2, 3)
  for state, concentration in enumerate(np.asarray(counts + prior[None], np.float64)):
    expected = ss.dirichlet(concentration)
    error = np.sqrt(expected.var() / len(shares))
    assert (np.abs(shares[:, state].mean(axis=0) - expected.mean()) < 4.5 * error).all()
    np.testing.assert_allclose(shares[:, state].var(axis=0), expected.var(), rtol=0.15)


@pytest.mark.parametrize(("family", "size"), [
  ("geometric", 1), ("poisson", 1), ("negative_binomial", 2), ("log_normal", 2), ("gaussian", 2), ("categorical", 7),
])  # fmt: skip
def test_theta_size(family, size):
  assert durations.theta_size(family, longest=7) == size


@EVERY
def test_start_has_about_the_mean(family):
  theta = durations.FAMILIES[family].start(jnp.array(20.0), jnp.array(40.0))
  found = durations.mean(durations.log_pmf(family, theta[None], longest=400))[0]
  assert float(found) == pytest.approx(20, rel=0.05)


def test_bad_input():
  for family, longest in (("weibull", 5), ("poisson", 0), ("categorical", 0)):
    with pytest.raises(ValueError, match=f"family must be one of geometric, .*got '{family}', 1, {longest}"):
      durations.log_pmf(family, jnp.zeros((1, 1)), longest=longest)
  with pytest.raises(ValueError, match="1 <= shortest <= longest, got 'poisson', 6, 5"):
    durations.log_pmf("poisson", jnp.zeros((1, 1)), longest=5, shortest=6)
