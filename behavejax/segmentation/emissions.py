"""Emissions: what a state looks like. Each is a handful of functions around sufficient statistics.

An emission turns observations of one sequence into `log_likelihoods [T, K]`, and posterior state
probabilities into statistics that add over sequences and devices; from those come the parameters: their
posterior mode, an expectation of the log likelihood (variational), or a random draw (Gibbs).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, Int

from behavejax.errors import InputError
from behavejax.segmentation import conjugate, hdp
from behavejax.types import Key


class Emission(NamedTuple):
  """The functions of one kind of emission; `K` states throughout.

  Attributes:
    observe: features or codes of a sequence, `[T, ...]` -> what the functions below take.
    log_likelihoods: `parameters, observed` -> `[T, K]`, nats.
    statistics: `observed, state_probs [T, K]` -> sums, a pytree with `K` leading.
    mode: statistics -> parameters at the posterior mode.
    expected: statistics -> parameters whose log likelihood is the posterior's expectation.
    draw: `statistics, key` -> parameters drawn from the posterior.
    log_prior: parameters -> `[K]`, log prior density up to a constant.
    divergence: statistics -> `[K]`, divergence of the posterior from the prior, nats.
    constrain: parameters of any values, as gradient steps leave them -> valid ones.
    sample: `parameters, states [T], key` -> random observations `[T, ...]`.
  """

  observe: Callable[[Array], Any]
  log_likelihoods: Callable[[Any, Any], Array]
  statistics: Callable[[Any, Array], Any]
  mode: Callable[[Any], Any]
  expected: Callable[[Any], Any]
  draw: Callable[[Any, Key], Any]
  log_prior: Callable[[Any], Array]
  divergence: Callable[[Any], Array]
  constrain: Callable[[Any], Any]
  sample: Callable[[Any, Array, Key], Array]


class Regressed(NamedTuple):
  """Targets `y [T, block, Y]`, inputs `x [T, block, P]`, and `weight [T]`: 0 where the past is missing."""

  y: Float[Array, "time block output"]
  x: Float[Array, "time block input"]
  weight: Float[Array, "time"]


def gaussian(
  channels: int, *, covariance: str = "full", lags: int = 0, strength: float = 1.0, noise: float = 1.0
) -> Emission:
  """Gaussian (`lags` 0) or autoregressive Gaussian emission on features `[T, channels]`.

  Args:
    covariance: "full", or "diagonal": channels independent, each with its own past.
    lags: past samples that predict the present one, as in MoSeq's AR-HMM; steps without a full past
      count nowhere.
    strength: of the prior, in samples (standardised features are assumed: unit scale, zero mean).
    noise: variance of the noise that the prior expects.

  Raises:
    ValueError: unknown `covariance`, no channels or negative lags.
  """
  if covariance not in ("full", "diagonal") or channels < 1 or lags < 0:
    raise InputError(
      f"gaussian: covariance must be full or diagonal, channels at least 1 and lags 0 or more, got {covariance!r}, "
      f"{channels}, {lags}"
    )
  blocks, outputs = (1, channels) if covariance == "full" else (channels, 1)
  inputs = outputs * lags + 1
  mean = jnp.zeros((inputs, outputs))
  if lags:
    mean = mean.at[:outputs].set(jnp.eye(outputs))  # the next sample resembles the last one
  prior = conjugate.Prior(
    mean=mean,
    precision=strength * jnp.eye(inputs).at[-1, -1].set(0.1),
    scale=strength * noise * jnp.eye(outputs),
    freedom=jnp.asarray(outputs + 1.0 + strength),
  )

  def observe(features: Float[Array, "time channel"]) -> Regressed:
    y = features.reshape(len(features), blocks, outputs)
    past = [jnp.concatenate([jnp.repeat(y[:1], lag, axis=0), y[: len(y) - lag]]) for lag in range(1, lags + 1)]
    x = jnp.concatenate([*past, jnp.ones((len(y), blocks, 1))], axis=2)
    return Regressed(y, x, (jnp.arange(len(y)) >= lags).astype(jnp.float32))

  def over(function: Callable) -> Callable:
    """Lifts a function of one regression to `[state, block]`."""
    return jax.vmap(jax.vmap(function))

  def log_likelihoods(parameters: conjugate.Regression, observed: Regressed) -> Float[Array, "time state"]:
    by_block = jax.vmap(conjugate.log_likelihoods, in_axes=(0, 1, 1), out_axes=1)
    values = jax.vmap(lambda p: jnp.sum(by_block(p, observed.x, observed.y), axis=1), out_axes=1)(parameters)
    return values * observed.weight[:, None]

  def statistics(observed: Regressed, state_probs: Float[Array, "time state"]) -> conjugate.Moments:
    by_block = jax.vmap(conjugate.moments, in_axes=(1, 1, None))
    weights = state_probs * observed.weight[:, None]
    return jax.vmap(by_block, in_axes=(None, None, 1))(observed.x, observed.y, weights)

  def posterior(data: conjugate.Moments) -> conjugate.Prior:
    return over(lambda one: conjugate.update(prior, one))(data)

  def draw(data: conjugate.Moments, key: Key) -> conjugate.Regression:
    return over(conjugate.draw)(posterior(data), jax.random.split(key, data.count.shape))

  def constrain(parameters: conjugate.Regression) -> conjugate.Regression:
    diagonal = jnp.diagonal(parameters.whitener, axis1=2, axis2=3)
    whitener = jnp.tril(parameters.whitener, -1) + jax.vmap(jax.vmap(jnp.diag))(jnp.abs(diagonal) + 1e-6)
    log_det = 2 * jnp.sum(jnp.log(jnp.abs(diagonal) + 1e-6), axis=2)
    return conjugate.Regression(parameters.weights, whitener, log_det, jnp.zeros_like(parameters.spread))

  def sample(parameters: conjugate.Regression, states: Int[Array, "time"], key: Key) -> Float[Array, "time channel"]:
    def step(past: Array, inputs: tuple) -> tuple:
      state, key = inputs
      p = jax.tree.map(lambda a: a[state], parameters)
      x = jnp.concatenate([past.transpose(1, 0, 2).reshape(blocks, -1), jnp.ones((blocks, 1))], axis=1)
      noise = jax.random.normal(key, (blocks, outputs))
      scatter = jax.vmap(jnp.linalg.solve)(p.whitener, noise)
      y = jnp.einsum("gp,gpy->gy", x, p.weights) + scatter
      return jnp.concatenate([y[None], past[:-1]]) if lags else past, y.reshape(-1)

    past = jnp.zeros((lags, blocks, outputs))
    return jax.lax.scan(step, past, (states, jax.random.split(key, len(states))))[1]

  return Emission(
    observe=observe,
    log_likelihoods=log_likelihoods,
    statistics=statistics,
    mode=lambda data: over(conjugate.mode)(posterior(data)),
    expected=lambda data: over(conjugate.expected)(posterior(data)),
    draw=draw,
    log_prior=lambda p: jnp.sum(over(lambda one: conjugate.log_density(prior, one))(p), axis=1),
    divergence=lambda data: jnp.sum(over(lambda one: conjugate.divergence(one, prior))(posterior(data)), axis=1),
    constrain=constrain,
    sample=sample,
  )


def categorical(levels: tuple[int, ...], *, strength: float = 1.0) -> Emission:
  """Codes: `[T]` or `[T, digit]` integers, digits independent given the state.

  One number in `levels` is a codebook; several are the digits of finite scalar quantization, whose codes
  then share what they have in common. Statistics are counts `[K, digit, level]`.

  Raises:
    ValueError: no levels, or one below 1.
  """
  if not levels or min(levels) < 1:
    raise InputError(f"categorical: levels must be positive numbers of codes, got {levels}")
  digits, largest = len(levels), max(levels)
  allowed = jnp.arange(largest)[None, None] < jnp.array(levels)[None, :, None]
  prior = jnp.where(allowed, strength / jnp.array(levels)[None, :, None], 0.0)

  def observe(codes: Int[Array, "..."]) -> Int[Array, "time digit"]:
    return jnp.asarray(codes, jnp.int32).reshape(len(codes), digits)

  def log_likelihoods(
    log_probs: Float[Array, "state digit level"], codes: Int[Array, "time digit"]
  ) -> Float[Array, "time state"]:
    return sum(log_probs[:, i, codes[:, i]].T for i in range(digits))

  def statistics(
    codes: Int[Array, "time digit"], state_probs: Float[Array, "time state"]
  ) -> Float[Array, "state digit level"]:
    counts = jnp.zeros((digits, largest, state_probs.shape[1]))
    counts = counts.at[jnp.arange(digits)[None], codes].add(state_probs[:, None])
    return jnp.moveaxis(counts, 2, 0)

  def mode(counts: Float[Array, "state digit level"]) -> Float[Array, "state digit level"]:
    return hdp.dirichlet_mean_log(counts + prior, allowed)

  return Emission(
    observe=observe,
    log_likelihoods=log_likelihoods,
    statistics=statistics,
    mode=mode,
    expected=lambda counts: hdp.dirichlet_expected_log(counts + prior, allowed),
    draw=lambda counts, key: hdp.dirichlet_draw_log(counts + prior, allowed, key),
    log_prior=lambda p: jnp.sum(jnp.where(allowed, prior * p, 0.0), axis=(1, 2)),
    divergence=lambda counts: jnp.sum(hdp.dirichlet_divergence(counts + prior, prior, allowed), axis=1),
    constrain=lambda p: jax.nn.log_softmax(jnp.where(allowed, p, -jnp.inf), axis=2),
    sample=lambda p, states, key: jax.random.categorical(key, p[states], axis=2),
  )


def bags(levels: tuple[int, ...], *, strength: float = 1.0) -> Emission:
  """Bags of codes, as counts `[T, digit, level]`: the codes of a step are independent given its state.

  Counts need not be whole: codes may be shared out. With one code per step it is `categorical`.
  """
  single = categorical(levels, strength=strength)
  exists = jnp.arange(max(levels))[None, None] < jnp.array(levels)[None, :, None]

  def observe(counts: Array) -> Float[Array, "time digit level"]:
    return jnp.asarray(counts, jnp.float32).reshape(len(counts), len(levels), max(levels))

  def log_likelihoods(
    log_probs: Float[Array, "state digit level"], counts: Float[Array, "time digit level"]
  ) -> Float[Array, "time state"]:
    counts = counts.reshape(len(counts), -1)
    flat = jnp.where(exists, log_probs, 0.0).reshape(len(log_probs), -1).T
    impossible = jnp.isneginf(flat)
    values = counts @ jnp.where(impossible, 0.0, flat)
    return jnp.where(counts @ impossible.astype(counts.dtype) > 0, -jnp.inf, values)

  def statistics(
    counts: Float[Array, "time digit level"], state_probs: Float[Array, "time state"]
  ) -> Float[Array, "state digit level"]:
    return jnp.tensordot(state_probs, counts, axes=(0, 0))

  def sample(log_probs: Float[Array, "state digit level"], states: Int[Array, "time"], key: Key) -> Array:
    return jax.nn.one_hot(single.sample(log_probs, states, key), max(levels))

  return single._replace(observe=observe, log_likelihoods=log_likelihoods, statistics=statistics, sample=sample)


def poisson(channels: int, *, strength: float = 1.0, rate: float = 1.0) -> Emission:
  """Counts `[T, channels]`, such as spikes per bin, independent given the state; Gamma prior around `rate`."""
  shape = strength * rate

  def posterior(data: tuple[Array, Array]) -> tuple[Array, Array]:
    time, total = data
    return total + shape, (time + strength)[:, None]

  def statistics(counts: Float[Array, "time channel"], state_probs: Float[Array, "time state"]) -> tuple[Array, Array]:
    return jnp.sum(state_probs, axis=0), state_probs.T @ counts

  def log_likelihoods(
    parameters: tuple[Array, Array], counts: Float[Array, "time channel"]
  ) -> Float[Array, "time state"]:
    rates, log_rates = parameters
    return counts @ log_rates.T - jnp.sum(rates, axis=1)[None] - jnp.sum(gammaln(counts + 1), axis=1, keepdims=True)

  def expected(data: tuple[Array, Array]) -> tuple[Array, Array]:
    a, b = posterior(data)
    return a / b, jax.scipy.special.digamma(a) - jnp.log(b)

  def mode(data: tuple[Array, Array]) -> tuple[Array, Array]:
    a, b = posterior(data)
    return a / b, jnp.log(a / b)  # the mode in log rate

  def draw(data: tuple[Array, Array], key: Key) -> tuple[Array, Array]:
    a, b = posterior(data)
    rates = jnp.maximum(jax.random.gamma(key, a) / b, 1e-30)
    return rates, jnp.log(rates)

  def divergence(data: tuple[Array, Array]) -> Float[Array, "state"]:
    a, b = posterior(data)
    each = (
      (a - shape) * jax.scipy.special.digamma(a)
      - gammaln(a)
      + gammaln(shape)
      + shape * (jnp.log(b) - jnp.log(strength))
      + a * (strength - b) / b
    )
    return jnp.sum(each, axis=1)

  def observe(counts: Array) -> Float[Array, "time channel"]:
    return jnp.asarray(counts, jnp.float32).reshape(len(counts), channels)

  return Emission(
    observe=observe,
    log_likelihoods=log_likelihoods,
    statistics=statistics,
    mode=mode,
    expected=expected,
    draw=draw,
    log_prior=lambda p: jnp.sum(shape * p[1] - strength * p[0], axis=1),
    divergence=divergence,
    constrain=lambda p: (jnp.exp(p[1]), p[1]),
    sample=lambda p, states, key: jax.random.poisson(key, p[0][states]).astype(jnp.float32),
  )
