"""Messages in log space: exact for every input, one exponential per state and duration.

Forward, a segment is followed by how long it has lasted: `G[j, u]` holds the segments of `j` that started
`u` steps ago, with what they have emitted since. Whatever ends now is one sum over `u`, so mass that is
lost to rounding in it is negligible to everything that follows. Backward, `beta[j, r]` is the future of a
segment of `j` with `r` steps left, this one included.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from behavejax.segmentation.model import HSMM, Weights


class Forward(NamedTuple):
  """Message after a step, all logs.

  Attributes:
    elapsed: `[K, D]`, segments under way by the number of steps they have lasted.
    first: `[K, D]`, the segment met at the first step, by the steps it has left; None for a fresh start.
  """

  elapsed: Float[Array, "state duration"]
  first: Float[Array, "state duration"] | None


def prepare(model: HSMM) -> Weights:
  return Weights(*model)


def forward_init(weights: Weights, log_likelihood: Float[Array, "state"]) -> Forward:
  entered = weights.log_initial + log_likelihood
  empty = jnp.full_like(weights.durations, -jnp.inf)
  if weights.first_durations is None:
    return Forward(empty.at[:, 0].set(entered), None)
  return Forward(empty, entered[:, None] + weights.first_durations)


def ends(weights: Weights, message: Forward) -> Float[Array, "state"]:
  """Log mass of the segments that end at this step."""
  ended = logsumexp(message.elapsed + weights.durations, axis=1)
  return ended if message.first is None else jnp.logaddexp(ended, message.first[:, 0])


def forward_step(weights: Weights, message: Forward, log_likelihood: Float[Array, "state"]) -> tuple:
  """`(message, log_ends before, log_starts, scale)`: one step on; the message is lowered by `scale`."""
  log_ends = ends(weights, message)
  log_starts = logsumexp(log_ends[:, None] + weights.transitions, axis=0)
  scale = finite_or_zero(jnp.max(log_ends))
  log_likelihood = log_likelihood - scale
  elapsed = shift_in(log_starts, message.elapsed) + log_likelihood[:, None]
  first = message.first
  if first is not None:
    first = jnp.concatenate([first[:, 1:], jnp.full_like(first[:, :1], -jnp.inf)], axis=1) + log_likelihood[:, None]
  return Forward(elapsed, first), log_ends, log_starts, scale


def backward_init(weights: Weights, *, right_censored: bool) -> Float[Array, "state duration"]:
  beta = jnp.zeros_like(weights.durations)
  return beta if right_censored else beta.at[:, 1:].set(-jnp.inf)


def backward_starts(
  durations: Float[Array, "state duration"],
  beta: Float[Array, "state duration"],
  log_likelihood: Float[Array, "state"],
) -> tuple[Float[Array, "state"], Float[Array, "state duration"], Float[Array, "state"]]:
  """Log likelihood of all from this step on given a segment that starts here; its durations' weights and their sum."""
  joint = durations + beta
  top = finite_or_zero(jnp.max(joint, axis=1))
  joint = jnp.exp(joint - top[:, None])
  total = jnp.sum(joint, axis=1)
  return jnp.log(total) + top + log_likelihood, joint, total


def duration_counts(
  durations: Float[Array, "state duration"], weights: Float[Array, "state duration"]
) -> Float[Array, "state duration"]:
  """Expected segments of each duration from the summed weights of `backward_starts`."""
  del durations
  return weights


def backward_step(
  weights: Weights,
  beta: Float[Array, "state duration"],
  from_start: Float[Array, "state"],
  log_likelihood: Float[Array, "state"],
  on: Bool[Array, ""],
  right_censored: bool,
) -> tuple:
  """`(beta one step earlier, log beta of an end there, scale)`; beta and that end are lowered by `scale`.

  Off the end of the sequence (`on` false) beta stays `backward_init`, which shifting reproduces.
  """
  scale = jnp.where(on, finite_or_zero(jnp.max(from_start)), 0.0)
  from_end = jnp.where(on, logsumexp(weights.transitions + from_start[None], axis=1) - scale, 0.0)
  kept = jnp.where(on, log_likelihood - scale, 0.0 if right_censored else -jnp.inf)
  return shift_in(from_end, beta + kept[:, None]), from_end, scale


def pair(weights: Weights, message: Forward, beta: Float[Array, "state duration"]) -> Float[Array, "state"]:
  """Log probability of each state at this step with everything observed: `sum_r a[j, r] beta[j, r]`."""

  def tail(shifted: Float[Array, "state duration"], elapsed: Float[Array, "state"]) -> tuple:
    joint = logsumexp(shifted + beta, axis=1) + elapsed
    return jnp.concatenate([shifted[:, 1:], jnp.full_like(shifted[:, :1], -jnp.inf)], axis=1), joint

  _, joint = jax.lax.scan(tail, weights.durations, message.elapsed.T)
  total = logsumexp(joint, axis=0)
  if message.first is None:
    return total
  return jnp.logaddexp(total, logsumexp(message.first + beta, axis=1))


def transitions(
  weights: Weights, log_ends: Float[Array, "time state"], crossings: Float[Array, "time state"]
) -> Float[Array, "state state"]:
  """Expected changes of state, from the logs of what ends at a step and of what follows from the next one."""
  joint = log_ends[:, :, None] + crossings[:, None, :] + weights.transitions[None]
  return jnp.sum(jnp.exp(joint), axis=0)


def shift_in(column: Float[Array, "state"], table: Float[Array, "state duration"]) -> Float[Array, "state duration"]:
  """Moves every column one to the right and puts a new one in front."""
  return jnp.concatenate([column[:, None], table[:, :-1]], axis=1)


def logsumexp(values: Float[Array, "..."], *, axis: int) -> Float[Array, "..."]:
  """`log sum exp`, -inf for an empty sum; leaner than the library's, which also tracks signs."""
  top = finite_or_zero(jnp.max(values, axis=axis, keepdims=True))
  return jnp.log(jnp.sum(jnp.exp(values - top), axis=axis)) + jnp.squeeze(top, axis)


def finite_or_zero(value: Float[Array, "..."]) -> Float[Array, "..."]:
  return jnp.where(jnp.isfinite(value), value, 0.0)
