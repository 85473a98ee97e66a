"""Families of segment durations: how long a state lasts, in steps from 1 to `longest`.

A family describes one state by a few unconstrained numbers `theta [P]`; every pmf is cut off at `longest`
and renormalised, and `lost_tail` says how much was cut. Fitting sees expected counts `[K, D]` only, so that
maximum likelihood under the truncation is exact and a conjugate prior is nothing but pseudo-counts.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, log_ndtr
from jaxtyping import Array, Float

from behavejax.errors import InputError
from behavejax.types import Key


class Family(NamedTuple):
  """Durations of one state.

  Attributes:
    log_mass: `theta [P], durations [D]` -> log pmf before truncation.
    start: `mean, variance` -> the theta that roughly has them.
  """

  log_mass: Callable[[Array, Array], Array]
  start: Callable[[Array, Array], Array]


def _geometric(theta: Array, d: Array) -> Array:
  """`theta = logit(stay)`: p(d) = stay^(d-1) (1 - stay); the HSMM is then an HMM."""
  return (d - 1) * jax.nn.log_sigmoid(theta[0]) + jax.nn.log_sigmoid(-theta[0])


def _poisson(theta: Array, d: Array) -> Array:
  """`theta = log rate`: d - 1 ~ Poisson(rate)."""
  return (d - 1) * theta[0] - jnp.exp(theta[0]) - gammaln(d)


def _negative_binomial(theta: Array, d: Array) -> Array:
  """`theta = log r, log mean`: d - 1 ~ NB with real r and that mean; variance mean + mean^2 / r."""
  r, mean = jnp.exp(theta[0]), jnp.exp(theta[1])
  # gammaln(d - 1 + r) - gammaln(r) as a sum of logs: the difference of two large numbers has no digits left
  rising = jnp.concatenate([jnp.zeros(1), jnp.cumsum(jnp.log(r + d[:-1] - 1))])
  return rising - gammaln(d) - r * jnp.log1p(mean / r) + (d - 1) * (theta[1] - jnp.log(r + mean))


def _log_normal(theta: Array, d: Array) -> Array:
  """`theta = mean, log sd` of log duration; p(d) is the mass between d - 1/2 and d + 1/2."""
  scale = jnp.exp(theta[1])
  return _log_interval((jnp.log(d - 0.5) - theta[0]) / scale, (jnp.log(d + 0.5) - theta[0]) / scale)


def _gaussian(theta: Array, d: Array) -> Array:
  """`theta = log mean, log sd`; p(d) is the mass between d - 1/2 and d + 1/2."""
  mean, scale = jnp.exp(theta)
  return _log_interval((d - 0.5 - mean) / scale, (d + 0.5 - mean) / scale)


def _log_interval(low: Array, high: Array) -> Array:
  """Log mass of a standard normal between two points, on the side where it is a small number."""
  low, high = jnp.where(low > 0, -high, low), jnp.where(low > 0, -low, high)
  ratio = jnp.minimum(log_ndtr(low) - log_ndtr(high), -1e-7)
  return log_ndtr(high) + jnp.log(-jnp.expm1(ratio))


def _log(value: Array) -> Array:
  return jnp.log(jnp.maximum(value, 1e-3))


FAMILIES: dict[str, Family] = {
  "geometric": Family(_geometric, lambda mean, var: _log(mean - 1)[None]),
  "poisson": Family(_poisson, lambda mean, var: _log(mean - 1)[None]),
  "negative_binomial": Family(
    _negative_binomial,
    lambda mean, var: jnp.stack([jnp.clip(2 * _log(mean - 1) - _log(var - mean + 1), -3.0, 6.0), _log(mean - 1)]),
  ),
  "log_normal": Family(
    _log_normal,
    lambda mean, var: jnp.stack([_log(mean) - jnp.log1p(var / mean**2) / 2, _log(jnp.log1p(var / mean**2)) / 2]),
  ),
  "gaussian": Family(_gaussian, lambda mean, var: jnp.stack([_log(mean), _log(jnp.maximum(var, 0.25)) / 2])),
}
"""Parametric families by name; "categorical" has one free number per duration and is handled beside them."""

NAMES = (*FAMILIES, "categorical")


def support(longest: int) -> Float[Array, "duration"]:
  return jnp.arange(1, longest + 1, dtype=jnp.float32)


def log_pmf(
  family: str, theta: Float[Array, "state parameter"], *, longest: int, shortest: int = 1
) -> Float[Array, "state duration"]:
  """Log pmf of d = 1..longest, truncated to shortest..longest and renormalised, one row per state.

  Raises:
    ValueError: no such family, or not 1 <= `shortest` <= `longest`.

  >>> log_pmf("geometric", jnp.zeros((1, 1)), longest=2).round(3).tolist()
  [[-0.405..., -1.09...]]
  """
  if family not in NAMES or not 1 <= shortest <= longest:
    raise InputError(
      f"durations: family must be one of {', '.join(NAMES)} and 1 <= shortest <= longest, "
      f"got {family!r}, {shortest}, {longest}"
    )
  masses = theta if family == "categorical" else _masses(family, theta, longest)
  return jax.nn.log_softmax(_from(shortest, masses), axis=1)


def lost_tail(family: str, theta: Float[Array, "state parameter"], *, longest: int) -> Float[Array, "state"]:
  """Probability per state that truncation at `longest` cut off; 0 for a categorical."""
  if family == "categorical":
    return jnp.zeros(len(theta))
  return jnp.clip(1 - jnp.exp(jax.nn.logsumexp(_masses(family, theta, longest), axis=1)), 0.0, 1.0)


def survival(log_durations: Float[Array, "state duration"]) -> Float[Array, "state duration"]:
  """`P(duration >= d)` for d = 1..D."""
  return jnp.exp(jax.lax.cumlogsumexp(log_durations, axis=1, reverse=True))


def mean(log_durations: Float[Array, "state duration"]) -> Float[Array, "state"]:
  """Expected duration, steps."""
  return jnp.exp(log_durations) @ support(log_durations.shape[1])


def draw(log_durations: Float[Array, "state duration"], key: Key, *, count: int) -> Float[Array, "state count"]:
  """`count` random durations of each state, steps."""
  return jax.random.categorical(key, log_durations[:, None], shape=(len(log_durations), count)) + 1


def log_probability(
  counts: Float[Array, "*state duration"], log_durations: Float[Array, "*state duration"], *, shortest: int = 1
) -> Float[Array, "*state"]:
  """`sum_d counts[d] log p(d)` over d >= `shortest`: what shorter durations count is not explained by them."""
  return jnp.sum(counts[..., shortest - 1 :] * log_durations[..., shortest - 1 :], axis=-1)


def fit(
  family: str, counts: Float[Array, "state duration"], prior: Float[Array, "duration"], *, shortest: int = 1
) -> Float[Array, "state parameter"]:
  """Maximises `sum_d (counts + prior)[k, d] log p_k(d)` over d >= `shortest`, truncation included, for every state.

  With `prior` counts of segments seen beforehand this is the posterior mode under the family's conjugate
  prior. Parametric families take damped Newton steps from the moments; each step that would lower the
  objective is halved until it does not.
  """
  total = counts + prior[None]
  if family == "categorical":
    return jnp.log(total / jnp.sum(total, axis=1, keepdims=True))
  return jax.vmap(lambda row: _fit_one(family, row, shortest))(total)


def theta_size(family: str, *, longest: int) -> int:
  """Number of parameters per state."""
  if family == "categorical":
    return longest
  return FAMILIES[family].start(jnp.array(2.0), jnp.array(2.0)).shape[0]


def metropolis(
  family: str,
  theta: Float[Array, "state parameter"],
  counts: Float[Array, "state duration"],
  prior: Float[Array, "duration"],
  key: Key,
  *,
  shortest: int = 1,
  steps: int = 8,
) -> Float[Array, "state parameter"]:
  """Draws parameters given counts: exactly for a categorical (Dirichlet), else by random-walk Metropolis steps.

  The step size follows the number of segments, so that it fits both rare and frequent states.
  """
  total = counts + prior[None]
  if family == "categorical":
    return jnp.log(jnp.maximum(jax.random.gamma(key, total), 1e-30))
  longest = counts.shape[1]
  size = 1.5 / jnp.sqrt(1.0 + jnp.sum(total, axis=1, keepdims=True))

  def score(theta: Array) -> Array:
    log_p = log_pmf(family, theta, longest=longest, shortest=shortest)
    return log_probability(total, log_p, shortest=shortest) - 1e-6 * jnp.sum(theta**2, axis=1)

  def step(theta: Array, i: Array) -> tuple[Array, None]:
    move_key, accept_key = jax.random.split(jax.random.fold_in(key, i))
    proposal = theta + size * jax.random.normal(move_key, theta.shape)
    accepted = jnp.log(jax.random.uniform(accept_key, size.shape[:1])) < score(proposal) - score(theta)
    return jnp.where(accepted[:, None], proposal, theta), None

  return jax.lax.scan(step, theta, jnp.arange(steps))[0]


def _masses(family: str, theta: Array, longest: int) -> Float[Array, "state duration"]:
  return jax.vmap(lambda one: FAMILIES[family].log_mass(one, support(longest)))(theta)


def _from(shortest: int, log_masses: Float[Array, "*state duration"]) -> Float[Array, "*state duration"]:
  return jnp.where(support(log_masses.shape[-1]) >= shortest, log_masses, -jnp.inf)


def _fit_one(family: str, total: Float[Array, "duration"], shortest: int) -> Float[Array, "parameter"]:
  d = support(len(total))
  total = jnp.where(d >= shortest, total, 0.0)
  share = total / jnp.sum(total)
  center = share @ d
  theta = FAMILIES[family].start(center, share @ (d - center) ** 2 + 1e-2)

  def loss(theta: Array) -> Array:
    log_p = jax.nn.log_softmax(_from(shortest, FAMILIES[family].log_mass(theta, d)))
    return -log_probability(share, log_p, shortest=shortest) + 1e-6 * jnp.sum(theta**2)

  def newton(theta: Array, _: None) -> tuple[Array, None]:
    gradient, curvature = jax.grad(loss)(theta), jax.hessian(loss)(theta)
    step = _positive_inverse(curvature) @ gradient
    step *= jnp.minimum(1.0, 2.0 / jnp.maximum(jnp.max(jnp.abs(step)), 1e-9))
    sizes = 0.5 ** jnp.arange(8.0)
    losses = jax.vmap(lambda size: loss(theta - size * step))(sizes)
    best = jnp.argmin(jnp.where(jnp.isfinite(losses), losses, jnp.inf))
    better = losses[best] < loss(theta)
    return jnp.where(better, theta - sizes[best] * step, theta), None

  return jax.lax.scan(newton, theta, None, length=12)[0]


def _positive_inverse(matrix: Float[Array, "row row"]) -> Float[Array, "row row"]:
  """Inverse of a symmetric matrix of one or two rows with its eigenvalues made positive, at least 1e-3."""
  size = matrix.shape[0]
  middle = jnp.trace(matrix) / size
  rest = matrix - middle * jnp.eye(size)
  half = jnp.sqrt(jnp.sum(rest**2) / 2)  # the eigenvalues are middle +- half
  low, high = (1 / jnp.maximum(jnp.abs(value), 1e-3) for value in (middle - half, middle + half))
  return (low + high) / 2 * jnp.eye(size) + (high - low) / 2 * rest / jnp.maximum(half, 1e-12)
