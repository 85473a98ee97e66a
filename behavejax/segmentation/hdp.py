"""The hierarchical Dirichlet process in its weak limit: how states share their weights.

`b` are the weights of all states over the whole data set; each group (animal) has its own weights
`w_g ~ Dirichlet(kappa b)`, and each state of a group hands over to others by
`pi_gj ~ Dirichlet(alpha w_g)` with itself left out. Teh et al. (2006); Johnson & Willsky (2013).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Bool, Float, Int

from behavejax.types import Key

_SMALLEST = 1e-6


class Weights(NamedTuple):
  """`shared [K]` over the whole data set and `groups [G, K]`; rows sum to 1."""

  shared: Float[Array, "state"]
  groups: Float[Array, "group state"]


def stick_breaking(fractions: Float[Array, "stick"]) -> Float[Array, "state"]:
  """`b_k = v_k prod_{l<k} (1 - v_l)`; the last state takes what is left (Sethuraman 1994).

  >>> stick_breaking(jnp.array([0.5, 0.5])).tolist()
  [0.5, 0.25, 0.25]
  """
  left = jnp.concatenate([jnp.zeros(1), jnp.cumsum(jnp.log1p(-fractions))])
  return jnp.exp(left) * jnp.concatenate([fractions, jnp.ones(1)])


def uniform(groups: int, states: int) -> Weights:
  return Weights(jnp.full(states, 1 / states), jnp.full((groups, states), 1 / states))


def transition_prior(weights: Float[Array, "state"], alpha: float) -> Float[Array, "state state"]:
  """Pseudo-counts of each row: `alpha w_k / (1 - w_j)`, 0 on the diagonal."""
  states = weights.shape[0]
  others = jnp.where(jnp.eye(states, dtype=bool), 0.0, weights)
  return alpha * others / jnp.maximum(jnp.sum(others, axis=1, keepdims=True), _SMALLEST)


def expected_tables(
  counts: Float[Array, "... state"], concentration: Float[Array, "... state"]
) -> Float[Array, "... state"]:
  """Mean number of tables at which `n` customers sit: `c (psi(c + n) - psi(c))`, between 0 and n.

  A state that is reached often from one place counts little more than once: what makes its weight is
  from how many places it is reached.
  """
  safe = jnp.maximum(concentration, _SMALLEST)
  return jnp.where(concentration > 0, safe * (digamma(safe + counts) - digamma(safe)), 0.0)


def draw_tables(
  counts: Float[Array, "... state"], concentration: Float[Array, "... state"], key: Key
) -> Float[Array, "... state"]:
  """A random number of tables (Chinese restaurant): customer `i` opens one with probability `c / (c + i)`."""
  customers = jnp.round(counts)

  def seat(i: Int[Array, ""], tables: Array) -> Array:
    opens = jax.random.uniform(jax.random.fold_in(key, i), counts.shape) * (concentration + i) < concentration
    return tables + (opens & (i < customers))

  return jax.lax.fori_loop(0, jnp.max(customers).astype(jnp.int32), seat, jnp.zeros_like(counts))


def expected_returns(
  opened: Float[Array, "from to"], weights: Float[Array, "state"]
) -> Float[Array, "state"]:  # fmt: skip
  """Mean number of tables that each state would have opened at itself, had it been allowed to.

  A table of row `j` is a draw from the weights, repeated until it is not `j`: the draws that were `j` are geometric
  with mean `w_j / (1 - w_j)`. Counted back in, the weights are Dirichlet again (Johnson & Willsky 2013, 4.3).
  """
  return jnp.sum(opened, axis=1) * weights / jnp.maximum(1 - weights, _SMALLEST)


def draw_returns(
  opened: Float[Array, "from to"], weights: Float[Array, "state"], key: Key
) -> Float[Array, "state"]:  # fmt: skip
  """A random number of such tables: negative binomial."""
  rate_key, count_key = jax.random.split(key)
  odds = weights / jnp.maximum(1 - weights, _SMALLEST)
  rates = jax.random.gamma(rate_key, jnp.maximum(jnp.sum(opened, axis=1), _SMALLEST)) * odds
  return jax.random.poisson(count_key, jnp.minimum(rates, 1e6)).astype(jnp.float32)


def update_weights(
  weights: Weights,
  transitions: Float[Array, "group state state"],
  initial: Float[Array, "group state"],
  *,
  alpha: float,
  kappa: float,
  gamma: float,
  rounds: int = 10,
) -> Weights:
  """Point estimate of all weights from expected counts, by the fixed point over expected numbers of tables.

  Each round seats transitions at the groups' tables and those at the shared ones, and takes the posterior
  mean of both levels of Dirichlet distributions.
  """

  def once(weights: Weights, _: None) -> tuple[Weights, None]:
    priors = jax.vmap(lambda w: transition_prior(w, alpha))(weights.groups)
    tables = expected_tables(transitions, priors)
    opened = jnp.sum(tables, axis=1) + jax.vmap(expected_returns)(tables, weights.groups)
    opened += expected_tables(initial, alpha * weights.groups)
    shared_tables = jnp.sum(expected_tables(opened, kappa * weights.shared[None]), axis=0)
    return _from_tables(opened, shared_tables, kappa, gamma), None

  return jax.lax.scan(once, weights, None, length=rounds)[0]


def draw_weights(
  weights: Weights,
  transitions: Float[Array, "group state state"],
  initial: Float[Array, "group state"],
  key: Key,
  *,
  alpha: float,
  kappa: float,
  gamma: float,
) -> Weights:
  """Gibbs draw of all weights: tables at random, then both levels of Dirichlet distributions."""
  keys = jax.random.split(key, 6)
  priors = jax.vmap(lambda w: transition_prior(w, alpha))(weights.groups)
  tables = draw_tables(transitions, priors, keys[0])
  return_keys = jax.random.split(keys[5], len(tables))
  opened = jnp.sum(tables, axis=1) + jax.vmap(draw_returns)(tables, weights.groups, return_keys)
  opened += draw_tables(initial, alpha * weights.groups, keys[4])
  shared_tables = jnp.sum(draw_tables(opened, kappa * weights.shared[None], keys[1]), axis=0)
  shared = _normalise(jax.random.gamma(keys[2], shared_tables + gamma / len(shared_tables)))
  groups = _normalise(jax.random.gamma(keys[3], opened + kappa * shared[None]))
  return Weights(shared, groups)


def _from_tables(opened: Array, shared_tables: Array, kappa: float, gamma: float) -> Weights:
  shared = _normalise(shared_tables + gamma / shared_tables.shape[0])
  return Weights(shared, _normalise(opened + kappa * shared[None]))


def _normalise(values: Float[Array, "... state"]) -> Float[Array, "... state"]:
  values = jnp.maximum(values, _SMALLEST)
  return values / jnp.sum(values, axis=-1, keepdims=True)


def dirichlet_expected_log(
  counts: Float[Array, "... state"], allowed: Bool[Array, "... state"]
) -> Float[Array, "... state"]:
  """`E log p` under a Dirichlet; -inf where not allowed."""
  total = jnp.sum(jnp.where(allowed, counts, 0.0), axis=-1, keepdims=True)
  values = digamma(jnp.maximum(counts, _SMALLEST)) - digamma(jnp.maximum(total, _SMALLEST))
  return jnp.where(allowed, values, -jnp.inf)


def dirichlet_mean_log(
  counts: Float[Array, "... state"], allowed: Bool[Array, "... state"]
) -> Float[Array, "... state"]:
  """Log of the posterior mean, which is the mode in log-odds coordinates; -inf where not allowed."""
  counts = jnp.where(allowed, jnp.maximum(counts, _SMALLEST), 0.0)
  return jnp.log(counts) - jnp.log(jnp.sum(counts, axis=-1, keepdims=True))


def dirichlet_draw_log(
  counts: Float[Array, "... state"], allowed: Bool[Array, "... state"], key: Key
) -> Float[Array, "... state"]:
  """Log of a draw from a Dirichlet, in logs all the way: tiny counts give tiny shares, not zeros."""
  values = jax.random.loggamma(key, jnp.maximum(counts, _SMALLEST))
  return jax.nn.log_softmax(jnp.where(allowed, values, -jnp.inf), axis=-1)


def dirichlet_divergence(
  posterior: Float[Array, "... state"], prior: Float[Array, "... state"], allowed: Bool[Array, "... state"]
) -> Float[Array, "..."]:
  """Divergence of one Dirichlet from another, nats."""
  posterior, prior = (jnp.where(allowed, jnp.maximum(a, _SMALLEST), 0.0) for a in (posterior, prior))
  expected = jnp.where(allowed, dirichlet_expected_log(posterior, allowed), 0.0)
  normalisers = _log_normaliser(prior, allowed) - _log_normaliser(posterior, allowed)
  return normalisers + jnp.sum((posterior - prior) * expected, axis=-1)


def dirichlet_log_density(
  log_probs: Float[Array, "... state"], counts: Float[Array, "... state"], allowed: Bool[Array, "... state"]
) -> Float[Array, "..."]:
  """Log density of a Dirichlet in log-odds coordinates, whose mode is its mean."""
  counts = jnp.where(allowed, jnp.maximum(counts, _SMALLEST), 0.0)
  return jnp.sum(counts * jnp.where(allowed, log_probs, 0.0), axis=-1) - _log_normaliser(counts, allowed)


def _log_normaliser(counts: Float[Array, "... state"], allowed: Bool[Array, "... state"]) -> Float[Array, "..."]:
  """`sum log Gamma(a) - log Gamma(sum a)`; 0 where nothing is allowed."""
  each = jnp.where(allowed, gammaln(jnp.where(allowed, counts, 1.0)), 0.0)
  total = jnp.sum(counts, axis=-1)
  return jnp.sum(each, axis=-1) - jnp.where(total > 0, gammaln(jnp.where(total > 0, total, 1.0)), 0.0)
