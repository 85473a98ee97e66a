"""Conjugate updates for linear regression with unknown noise: the matrix-normal inverse-Wishart family.

`y = x W + noise`, noise covariance `Sigma`: with `x = 1` this is a Gaussian, with past samples in `x` an
autoregression. Everything is written for one regression and lifted with `jax.vmap` over states and blocks.
Murphy (2012), section 13; Fox et al. (2011), "Bayesian nonparametric inference of switching dynamic models".
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, multigammaln
from jaxtyping import Array, Float

from behavejax.types import Key


class Moments(NamedTuple):
  """Weighted sums over samples, the sufficient statistics: they add over sequences and devices.

  Attributes:
    count: sum of weights.
    xx, xy, yy: sums of products, `[P, P]`, `[P, Y]`, `[Y, Y]`.
  """

  count: Float[Array, ""]
  xx: Float[Array, "input input"]
  xy: Float[Array, "input output"]
  yy: Float[Array, "output output"]


class Prior(NamedTuple):
  """`Sigma ~ InverseWishart(scale [Y, Y], freedom)`, `W | Sigma ~ MatrixNormal(mean [P, Y], precision^-1, Sigma)`."""

  mean: Float[Array, "input output"]
  precision: Float[Array, "input input"]
  scale: Float[Array, "output output"]
  freedom: Float[Array, ""]


class Regression(NamedTuple):
  """Parameters as the likelihood needs them: `log p = (log_det - Y log 2 pi - |R (y - x W)|^2 - |x C|^2) / 2`.

  Attributes:
    weights: `W [P, Y]`.
    whitener: `R [Y, Y]`, `R^T R` is the noise precision (its expectation, for a variational posterior).
    log_det: log determinant of the noise precision (its expectation).
    spread: `C [P, P]`, what uncertain weights add to the variance; zero for a point estimate.
  """

  weights: Float[Array, "input output"]
  whitener: Float[Array, "output output"]
  log_det: Float[Array, ""]
  spread: Float[Array, "input input"]


def moments(x: Float[Array, "time input"], y: Float[Array, "time output"], weights: Float[Array, "time"]) -> Moments:
  weighted = x * weights[:, None]
  return Moments(jnp.sum(weights), weighted.T @ x, weighted.T @ y, (y * weights[:, None]).T @ y)


def update(prior: Prior, data: Moments) -> Prior:
  """Posterior, in the form of a prior."""
  precision = prior.precision + data.xx
  target = prior.precision @ prior.mean + data.xy
  root, _ = inverse_root(precision)
  mean = root.T @ (root @ target)
  scale = prior.scale + data.yy + prior.mean.T @ prior.precision @ prior.mean - mean.T @ target
  return Prior(mean, precision, (scale + scale.T) / 2, prior.freedom + data.count)


def mode(posterior: Prior) -> Regression:
  """Joint mode of weights and noise precision."""
  inputs, outputs = posterior.mean.shape
  root, log_det = inverse_root(posterior.scale)
  freedom = posterior.freedom + inputs - outputs - 1
  spread = jnp.zeros((inputs, inputs))
  return Regression(posterior.mean, jnp.sqrt(freedom) * root, outputs * jnp.log(freedom) - log_det, spread)


def expected(posterior: Prior) -> Regression:
  """Expectation of the log likelihood under the posterior: what variational message passing takes."""
  outputs = posterior.mean.shape[1]
  root, log_det = inverse_root(posterior.scale)
  digammas = jnp.sum(digamma((posterior.freedom - jnp.arange(outputs)) / 2))
  spread = jnp.sqrt(outputs) * inverse_root(posterior.precision)[0].T
  whitener = jnp.sqrt(posterior.freedom) * root
  return Regression(posterior.mean, whitener, digammas + outputs * jnp.log(2.0) - log_det, spread)


def draw(posterior: Prior, key: Key) -> Regression:
  """A random regression: noise precision by Bartlett's decomposition, then the weights."""
  inputs, outputs = posterior.mean.shape
  chi_key, normal_key, weight_key = jax.random.split(key, 3)
  chi = jnp.sqrt(2 * jax.random.gamma(chi_key, (posterior.freedom - jnp.arange(outputs)) / 2))
  bartlett = jnp.tril(jax.random.normal(normal_key, (outputs, outputs)), -1) + jnp.diag(chi)
  root, log_det = inverse_root(posterior.scale)
  deviation = cholesky(posterior.scale) @ _inverse_lower(bartlett).T  # its square is the noise covariance
  noise = jax.random.normal(weight_key, (inputs, outputs))
  weights = posterior.mean + inverse_root(posterior.precision)[0].T @ noise @ deviation.T
  return Regression(weights, bartlett.T @ root, 2 * jnp.sum(jnp.log(chi)) - log_det, jnp.zeros((inputs, inputs)))


def log_likelihoods(
  parameters: Regression, x: Float[Array, "time input"], y: Float[Array, "time output"]
) -> Float[Array, "time"]:
  """Log density of each sample, nats."""
  errors = (y - x @ parameters.weights) @ parameters.whitener.T
  uncertain = x @ parameters.spread
  constant = parameters.log_det - y.shape[1] * jnp.log(2 * jnp.pi)
  return (constant - jnp.sum(errors**2, axis=1) - jnp.sum(uncertain**2, axis=1)) / 2


def log_density(prior: Prior, parameters: Regression) -> Float[Array, ""]:
  """Log prior density of weights and noise precision, without its normaliser."""
  inputs, outputs = prior.mean.shape
  deviation = parameters.weights - prior.mean
  penalty = parameters.whitener @ (prior.scale + deviation.T @ prior.precision @ deviation) @ parameters.whitener.T
  return ((prior.freedom - outputs - 1 + inputs) * parameters.log_det - jnp.trace(penalty)) / 2


def divergence(posterior: Prior, prior: Prior) -> Float[Array, ""]:
  """Kullback-Leibler divergence of the posterior from the prior, nats."""
  inputs, outputs = prior.mean.shape
  deviation = posterior.mean - prior.mean
  spread, precision_log_det = inverse_root(posterior.precision)
  root, scale_log_det = inverse_root(posterior.scale)
  (_, prior_precision_log_det), (_, prior_scale_log_det) = inverse_root(prior.precision), inverse_root(prior.scale)
  log_ratio = precision_log_det - prior_precision_log_det
  misfit = posterior.freedom * (deviation.T @ prior.precision @ deviation)
  weights = (outputs * (_trace(spread, prior.precision) - inputs + log_ratio) + _trace(root, misfit)) / 2
  half = (posterior.freedom / 2, prior.freedom / 2)
  wishart = (
    half[1] * (scale_log_det - prior_scale_log_det)
    + half[0] * (_trace(root, prior.scale) - outputs)
    + multigammaln(half[1], outputs)
    - multigammaln(half[0], outputs)
    + (half[0] - half[1]) * jnp.sum(digamma(half[0] - jnp.arange(outputs) / 2))
  )
  return weights + wishart


def cholesky(matrix: Float[Array, "row row"]) -> Float[Array, "row row"]:
  """Lower triangular `L`, `L L^T` the positive definite matrix, column by column.

  Written out because many small ones are wanted at once: on a CPU, XLA hands batches to LAPACK in tasks that wait
  for each other, and a pool of two threads comes to a standstill when several batches meet (jax 0.10).
  """
  rows = jnp.arange(matrix.shape[0])

  def column(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
    left, lower = carry
    pivot = jnp.maximum(left[i, i], 1e-12 * matrix[i, i])
    values = jnp.where(rows >= i, left[:, i], 0.0) / jnp.sqrt(pivot)
    values = values.at[i].set(jnp.sqrt(pivot))
    return left - jnp.outer(values, values), lower.at[:, i].set(values)

  return jax.lax.fori_loop(0, len(rows), column, (matrix, jnp.zeros_like(matrix)))[1]


def inverse_root(matrix: Float[Array, "row row"]) -> tuple[Float[Array, "row row"], Float[Array, ""]]:
  """Lower triangular `R` with `R^T R` the inverse of a positive definite matrix, and the matrix's log determinant."""
  lower = cholesky(matrix)
  return _inverse_lower(lower), 2 * jnp.sum(jnp.log(jnp.diagonal(lower)))


def _inverse_lower(lower: Float[Array, "row row"]) -> Float[Array, "row row"]:
  """Forward substitution."""
  unit = jnp.eye(lower.shape[0])

  def row(i: Array, inverse: Array) -> Array:
    return inverse.at[i].set((unit[i] - lower[i] @ inverse) / lower[i, i])

  return jax.lax.fori_loop(0, lower.shape[0], row, jnp.zeros_like(lower))


def _trace(root: Float[Array, "row row"], matrix: Float[Array, "row row"]) -> Float[Array, ""]:
  """`trace(root^T root matrix)`."""
  return jnp.sum((root @ matrix) * root)
