"""Forwards in linear space with one scale per state: two to three times faster than log space.

Forward, `a[j, r]` is the mass of segments of `j` with `r` steps left, this one included; backward,
`beta[j, r]` is the likelihood of the steps after this one given those. Each state has its own log scale, so
an observation changes `K` numbers and not `K D`, and no gap between states can wipe one out. What float32
can lose is mass within a state, or a state's entries, 130 nats below the state's own; `is_exact` says when
that mass could not have mattered.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from behavejax.segmentation.model import HSMM, Weights

_UNIT = 2.0**64  # stored for a mass of 1: both halves of float32's range are used
_LOG_UNIT = 64 * math.log(2.0)
RANGE = 100.0  # nats: exp(-130) of a state's mass is represented, but a factor of one step only down to exp(-88)
_NOTHING = -1e30


class Forward(NamedTuple):
  """`exp(log_scale[j]) * profile[j, r] / 2**64`, and the `log_mass [K]` of each state over all `r`."""

  log_scale: Float[Array, "state"]
  profile: Float[Array, "state duration"]
  log_mass: Float[Array, "state"]


class Backward(NamedTuple):
  """`exp(log_scale[j]) * profile[j, r] / 2**64`."""

  log_scale: Float[Array, "state"]
  profile: Float[Array, "state duration"]


def is_exact(model: HSMM, log_likelihoods: Float[Array, "time state"]) -> Bool[Array, ""]:
  """Whether rescaled messages equal log-space ones on this input: the rule for choosing between them.

  A path whose mass was lost stays in some state `j` for some time; the mass that was kept in `j` can copy it: end
  early, spend one step in another state `k`, come back with the duration needed. That costs at most twice the rarest
  duration, the way there and back, one step's duration in `k`, and what `k` explains worse than `j` at that step.
  While that stays below 85 nats, mass lost at `exp(-130)` adds nothing, and every factor of one step, a transition or
  the fall of a state's mass when most of it has ended, stays within float32's `exp(-88)`. `k`
  may be chosen freely: the rule holds if it does with all states to choose from, or with those only that every other
  state reaches within 25 nats.
  """
  states = model.log_initial.shape[0]
  if states == 1:
    return jnp.array(False)  # nowhere to spend that step
  itself = jnp.eye(states, dtype=bool)
  there = jnp.where(itself, 0.0, -model.log_transitions)
  detour = there + there.T - jnp.where(itself, 0.0, model.log_durations[:, 0][None])
  rarest_duration = jnp.min(model.log_durations)
  if model.log_first_durations is not None:
    rarest_duration = jnp.minimum(rarest_duration, jnp.min(model.log_first_durations))
  best = jnp.max(log_likelihoods, axis=1)

  def holds(choice: Bool[Array, "state"]) -> Bool[Array, ""]:
    choosable = jnp.where(choice[None], log_likelihoods, -jnp.inf)
    first = jnp.argmax(choosable, axis=1)[:, None] == jnp.arange(states)[None]
    second = jnp.max(jnp.where(first, -jnp.inf, choosable), axis=1)  # whatever `j` is, a `k` is as good as this
    longest = jnp.max(jnp.where(choice[None], detour, 0.0))
    return jnp.max(best - second) + longest - 2 * rarest_duration + 15 < RANGE  # NaN and infinities say no

  chosen = holds(jnp.ones(states, bool)) | holds(jnp.max(there, axis=0) < 25.0)
  return chosen & jnp.all(jnp.isfinite(log_likelihoods))


def prepare(model: HSMM) -> Weights:
  """Exponentials that every step needs, taken once."""
  return Weights(model.log_initial, *jax.tree.map(jnp.exp, tuple(model[1:])))


def forward_init(weights: Weights, log_likelihood: Float[Array, "state"]) -> Forward:
  entered = jnp.maximum(weights.log_initial + log_likelihood, _NOTHING)
  durations = weights.durations if weights.first_durations is None else weights.first_durations
  return Forward(entered, durations * _UNIT, entered)


def ends(weights: Weights, message: Forward) -> Float[Array, "state"]:
  """Log mass of the segments that end at this step."""
  del weights
  return message.log_scale + _log(message.profile[:, 0])


def forward_step(weights: Weights, message: Forward, log_likelihood: Float[Array, "state"]) -> tuple:
  """`(message, log_ends before, log_starts, scale)`: one step on; the message is lowered by `scale`."""
  log_ends = ends(weights, message)
  top = jnp.maximum(jnp.max(log_ends), _NOTHING)
  log_starts = _log(_exp(log_ends - top) @ weights.transitions) + top
  base = jnp.maximum(jnp.maximum(message.log_mass, log_starts), _NOTHING)
  profile = message.profile
  profile = (
    jnp.concatenate([profile[:, 1:], jnp.zeros_like(profile[:, :1])], axis=1)
    * jnp.exp(message.log_scale - base)[:, None]
    + weights.durations * _exp(log_starts - base)[:, None]
  )
  log_scale = base + log_likelihood
  scale = jnp.max(log_scale)
  log_scale = log_scale - scale
  return Forward(log_scale, profile, log_scale + _log(jnp.sum(profile, axis=1))), log_ends, log_starts, scale


def backward_init(weights: Weights, *, right_censored: bool) -> Backward:
  profile = jnp.full_like(weights.durations, _UNIT)
  return Backward(jnp.zeros_like(weights.log_initial), profile if right_censored else profile.at[:, 1:].set(0.0))


def backward_starts(
  durations: Float[Array, "state duration"], beta: Backward, log_likelihood: Float[Array, "state"]
) -> tuple[Float[Array, "state"], Float[Array, "state duration"], Float[Array, "state"]]:
  """Log likelihood of all from this step on given a segment that starts here; its durations' weights and their sum.

  The weights lack the factor `durations`, which `duration_counts` puts in once instead of at every step.
  """
  total = (durations * beta.profile) @ jnp.ones(durations.shape[1])  # XLA's CPU sum over rows is up to 5 times slower
  return _log(total) + beta.log_scale + log_likelihood, beta.profile, total


def duration_counts(
  durations: Float[Array, "state duration"], weights: Float[Array, "state duration"]
) -> Float[Array, "state duration"]:
  """Expected segments of each duration from the summed weights of `backward_starts`."""
  return durations * weights


def backward_step(
  weights: Weights,
  beta: Backward,
  from_start: Float[Array, "state"],
  log_likelihood: Float[Array, "state"],
  on: Bool[Array, ""],
  right_censored: bool,
) -> tuple:
  """`(beta one step earlier, log beta of an end there, scale)`; beta and that end are lowered by `scale`.

  `from_start`, the likelihood averaged over durations, sets a state's scale: no sum of its own is needed.
  Off the end of the sequence (`on` false) beta stays `backward_init`, which shifting reproduces.
  """
  top = jnp.max(from_start)
  from_end = _log(weights.transitions @ _exp(from_start - top)) + top
  base = jnp.maximum(from_start, from_end)
  kept = jnp.exp(beta.log_scale + log_likelihood - base)
  entering, kept, log_scale, from_end, top = (
    jnp.where(on, inside, outside)
    for inside, outside in (
      (_exp(from_end - base), _UNIT),
      (kept, float(right_censored)),
      (base - top, 0.0),
      (from_end - top, 0.0),
      (top, 0.0),
    )
  )
  profile = jnp.concatenate([entering[:, None], beta.profile[:, :-1] * kept[:, None]], axis=1)
  return Backward(log_scale, profile), from_end, top


def pair(weights: Weights, message: Forward, beta: Backward) -> Float[Array, "state"]:
  """Log probability of each state at this step with everything observed: `sum_r a[j, r] beta[j, r]`."""
  del weights
  heights = (jnp.max(m.profile, axis=1, keepdims=True) for m in (message, beta))
  ours, theirs = (jnp.where(height > 0, height, 1.0) for height in heights)
  products = jnp.sum(message.profile / ours * (beta.profile / theirs), axis=1)
  return jnp.log(products) + _log(ours)[:, 0] + _log(theirs)[:, 0] + message.log_scale + beta.log_scale


def transitions(
  weights: Weights, log_ends: Float[Array, "time state"], crossings: Float[Array, "time state"]
) -> Float[Array, "state state"]:
  """Expected changes of state, from the logs of what ends at a step and of what follows from the next one.

  One matrix product: a step's two factors share its scale between them, so that each stays in range. Only
  the diagonal, which no path uses, can overflow.
  """
  before, after = (jnp.max(a, axis=1, keepdims=True) for a in (log_ends, crossings))
  half = jnp.where(jnp.isfinite(before + after), (before + after) / 2, 0.0)
  before, after = (jnp.where(jnp.isfinite(a), a, 0.0) for a in (before, after))
  products = jnp.exp(log_ends - before + half).T @ jnp.exp(crossings - after + half)
  return jnp.where(weights.transitions > 0, weights.transitions * products, 0.0)


def _exp(log_mass: Float[Array, "..."]) -> Float[Array, "..."]:
  """Stored form of a mass, without adding a large constant to a small logarithm."""
  return jnp.where(log_mass > -20.0, jnp.exp(log_mass) * _UNIT, jnp.exp(log_mass + _LOG_UNIT))


def _log(stored: Float[Array, "..."]) -> Float[Array, "..."]:
  """Log of the mass that a stored number stands for."""
  return jnp.where(stored > 1.0, jnp.log(stored / _UNIT), jnp.log(stored) - _LOG_UNIT)
