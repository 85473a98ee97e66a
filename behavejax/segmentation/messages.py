"""Exact inference in a hidden semi-Markov model by message passing: evidence, posterior, gradient.

Every function is written for one sequence of `log_likelihoods [T, K]` and lifted with `jax.vmap`. A padded
sequence comes with a `mask [T]`, true for its steps and false behind them; padding changes no result. With
`right_censored` the last segment may go on after the recording; without, it ends with it.

Cost is O(T (K D + K^2)). No `[T, K, D]` array is ever kept: the forward pass leaves the log mass that starts
and ends in each state at each step, and its message at every sqrt(T)-th step, which is all that a backward
pass needs for the marginals. Peak memory is O(T K + sqrt(T) K D), for the gradient too.

Messages live in linear space with one scale per state where that is exact (`rescaled.is_exact`, a rule
about the input), else in log space. Recursions: Yu (2010), Artificial Intelligence 174, sections 2 and 3.
"""

import functools
import math
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float

from behavejax.errors import InputError
from behavejax.segmentation import logspace, rescaled
from behavejax.segmentation.model import HSMM, Weights

SPACES = ("auto", "rescaled", "log")


class Posterior(NamedTuple):
  """What a sequence says about its segmentation.

  Attributes:
    log_likelihood: evidence of the sequence, nats.
    state_probs: `[T, K]` of each step's state; rows sum to 1, zero where masked.
    start_probs: `[T, K]` that a segment of a state starts at a step. The first row is the state of the first step.
    end_probs: `[T, K]` that a segment of a state ends at a step; a cut-off last segment has not ended.
    transitions: `[K, K]` expected number of changes from one state to another.
    durations: `[K, D]` expected number of segments of each duration. A cut-off last segment counts with the
      durations it may have had, so a row sums to the expected number of segments that started.
    first_durations: the same for the segment met at the first step, when the model has durations for it.
  """

  log_likelihood: Float[Array, ""]
  state_probs: Float[Array, "time state"]
  start_probs: Float[Array, "time state"]
  end_probs: Float[Array, "time state"]
  transitions: Float[Array, "state state"]
  durations: Float[Array, "state duration"]
  first_durations: Float[Array, "state duration"] | None


def log_likelihood(
  model: HSMM,
  log_likelihoods: Float[Array, "time state"],
  mask: Bool[Array, "time"] | None = None,
  *,
  right_censored: bool = True,
  space: str = "auto",
) -> Float[Array, ""]:
  """Log evidence of one sequence, nats, with exact gradients by one backward recursion.

  Its gradient with respect to `log_likelihoods` is `state_probs`, to the model's logs the expected counts.

  Args:
    log_likelihoods: `log p(observation | state)` per step; -inf forbids a state.
    mask: true for the steps of the sequence, false for padding behind them.
    right_censored: the last segment may continue after the last step.
    space: "rescaled" or "log" forces one form of messages; "auto" follows `rescaled.is_exact`.

  Returns:
    -inf when no segmentation is possible; NaN when a log likelihood is NaN or +inf.

  Raises:
    ValueError: shapes that do not fit, no step at all, or an unknown `space`.
  """
  mask = checked_mask(model, log_likelihoods, mask)
  _check_space(space)
  return _evidence(model, log_likelihoods, mask, right_censored, space)


def smooth(
  model: HSMM,
  log_likelihoods: Float[Array, "time state"],
  mask: Bool[Array, "time"] | None = None,
  *,
  right_censored: bool = True,
  space: str = "auto",
) -> Posterior:
  """Posterior of one sequence: marginals and expected counts. Arguments as in `log_likelihood`."""
  mask = checked_mask(model, log_likelihoods, mask)
  _check_space(space)
  return _choose(_smooth, model, log_likelihoods, mask, right_censored, space)


def validate(log_likelihoods: Any) -> None:
  """Checks values that a jitted function cannot check: raises ValueError for NaN or +inf, naming the place."""
  values = jax.device_get(log_likelihoods)
  wrong = ~(values < math.inf)
  if wrong.any():
    place = tuple(int(i) for i in next(zip(*wrong.nonzero(), strict=True)))
    raise InputError(
      f"log_likelihoods{list(place)} is {values[place]}: {int(wrong.sum())} of {values.size} values are NaN or +inf; "
      "the likely cause is a missing value in the features or a scale of zero in an emission"
    )


def forward_trace(model: HSMM, log_likelihoods: Float[Array, "time state"], mask: Bool[Array, "time"]) -> tuple:
  """Log-space forward pass, for sampling backwards.

  Returns:
    The message after the last step; for the steps from the second on, `log_starts [T - 1, K]` and
    `log_ends [T - 1, K]` of the step before, both before `scales [T - 1]` is taken off.
  """
  last, trace = _forward(logspace, logspace.prepare(model), log_likelihoods, mask)
  rest = (a.reshape(-1, *a.shape[2:])[: len(mask) - 1] for a in (trace.log_starts, trace.log_ends, trace.scales))
  return last, *rest


def checked_mask(model: HSMM, log_likelihoods: Array, mask: Array | None) -> Bool[Array, "time"]:
  """The mask, all true when there is none; ValueError for shapes that do not fit the model."""
  states = model.log_initial.shape[0]
  if log_likelihoods.ndim != 2 or log_likelihoods.shape[1] != states or log_likelihoods.shape[0] == 0:
    raise InputError(
      f"log_likelihoods must be [time, {states}] with at least one step, got {log_likelihoods.shape}; "
      "use jax.vmap for a batch"
    )
  if mask is None:
    return jnp.ones(log_likelihoods.shape[:1], bool)
  if mask.shape != log_likelihoods.shape[:1]:
    raise InputError(f"mask must be [{log_likelihoods.shape[0]}], got {mask.shape}")
  return mask


def _check_space(space: str) -> None:
  if space not in SPACES:
    raise InputError(f"space must be one of {', '.join(SPACES)}, got {space!r}")


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _evidence(model: HSMM, log_likelihoods: Array, mask: Array, right_censored: bool, space: str) -> Float[Array, ""]:
  return _choose(_forward_only, model, log_likelihoods, mask, right_censored, space)


def _evidence_forward(model: HSMM, log_likelihoods: Array, mask: Array, right_censored: bool, space: str) -> tuple:
  posterior = _choose(_smooth, model, log_likelihoods, mask, right_censored, space)
  counts = HSMM(
    posterior.start_probs[0], posterior.transitions, posterior.durations, posterior.first_durations
  )  # fmt: skip
  return posterior.log_likelihood, (counts, posterior.state_probs)


def _evidence_backward(right_censored: bool, space: str, residual: tuple, cotangent: Float[Array, ""]) -> tuple:
  counts, state_probs = jax.tree.map(lambda a: a * cotangent, residual)
  return counts, state_probs, None


_evidence.defvjp(_evidence_forward, _evidence_backward)


@custom_vmap
def _all_of_batch(holds: Bool[Array, ""]) -> Bool[Array, ""]:
  """One answer for a whole batch, so that a `cond` on it stays a branch under `vmap`."""
  return holds


@_all_of_batch.def_vmap
def _all_of_batch_rule(axis_size: int, in_batched: list, holds: Array) -> tuple:
  del axis_size, in_batched
  return _all_of_batch(jnp.all(holds)), False


def _choose(run: Any, model: HSMM, log_likelihoods: Array, mask: Array, right_censored: bool, space: str) -> Any:
  """Runs in the space asked for; a batch goes to log space together when one of its sequences needs it."""
  run = functools.partial(run, right_censored=right_censored)
  log_likelihoods = jax.lax.stop_gradient(jnp.where(log_likelihoods < math.inf, log_likelihoods, math.nan))
  top = logspace.finite_or_zero(jnp.max(log_likelihoods, axis=1))  # the best state's is 0: small numbers are exact
  inputs = (
    jax.lax.stop_gradient(model),
    jnp.where(mask[:, None], log_likelihoods - top[:, None], 0.0),
    mask,
    jnp.where(mask, top, 0.0),
  )
  if space != "auto":
    return run({"rescaled": rescaled, "log": logspace}[space], *inputs)
  fast = _all_of_batch(rescaled.is_exact(inputs[0], inputs[1]))
  return jax.lax.cond(fast, functools.partial(run, rescaled), functools.partial(run, logspace), *inputs)


class _Trace(NamedTuple):
  """What the forward pass leaves, in chunks `[chunk, step, ...]` over the steps from the second on.

  Logs of a step are relative to the product of the scales of the steps before it.
  """

  log_starts: Array  # mass that starts at the step, before its observation
  log_ends: Array  # mass that ends at the step before
  scales: Array
  messages: Any  # after the step before each chunk


def _chunked(values: Array, size: int) -> Array:
  """`[T, ...]` -> `[chunk, step, ...]` of the steps from the second on, padded with zeros (masked)."""
  padding = -(values.shape[0] - 1) % size
  padded = jnp.concatenate([values[1:], jnp.zeros((padding, *values.shape[1:]), values.dtype)])
  return padded.reshape(-1, size, *values.shape[1:])


def _chunk_size(steps: int) -> int:
  return max(1, min(math.isqrt(steps) + 1, steps - 1))


def _forward(space: ModuleType, weights: Weights, log_likelihoods: Array, mask: Array) -> tuple[Any, _Trace]:
  size = _chunk_size(len(log_likelihoods))

  def step(message: Any, inputs: tuple) -> tuple:
    log_likelihood, on = inputs
    following, log_ends, log_starts, scale = space.forward_step(weights, message, log_likelihood)
    message = jax.tree.map(lambda new, old: jnp.where(on, new, old), following, message)
    return message, (log_starts, log_ends, jnp.where(on, scale, 0.0))

  def chunk(message: Any, inputs: tuple) -> tuple:
    last, steps = jax.lax.scan(step, message, inputs)
    return last, (*steps, message)

  start = space.forward_init(weights, log_likelihoods[0])
  last, trace = jax.lax.scan(chunk, start, (_chunked(log_likelihoods, size), _chunked(mask, size)))
  return last, _Trace(*trace)


def _total(space: ModuleType, weights: Weights, last: Any, trace: _Trace, tops: Array, right_censored: bool) -> tuple:
  """Evidence, and each state's log probability at the last step."""
  beta = space.backward_init(weights, right_censored=right_censored)
  pairs = space.pair(weights, last, beta)
  relative = logspace.logsumexp(pairs, axis=0)
  return relative + jnp.sum(trace.scales) + jnp.sum(tops), relative, pairs, beta


def _forward_only(
  space: ModuleType, model: HSMM, log_likelihoods: Array, mask: Array, tops: Array, *, right_censored: bool
) -> Float[Array, ""]:
  weights = space.prepare(model)
  last, trace = _forward(space, weights, log_likelihoods, mask)
  evidence = _total(space, weights, last, trace, tops, right_censored)[0]
  return jnp.where(mask[0], evidence, 0.0)


def _smooth(
  space: ModuleType, model: HSMM, log_likelihoods: Array, mask: Array, tops: Array, *, right_censored: bool
) -> Posterior:
  weights = space.prepare(model)
  size = _chunk_size(len(log_likelihoods))
  last, trace = _forward(space, weights, log_likelihoods, mask)
  evidence, relative, pairs, beta = _total(space, weights, last, trace, tops, right_censored)
  normaliser = logspace.finite_or_zero(relative)

  def step(carry: tuple, inputs: tuple) -> tuple:
    beta, offset, states, durations = carry  # offset: what a forward plus a backward log lacks to a log probability
    log_likelihood, on, log_starts, log_ends, scale = inputs
    from_start, by_duration, total = space.backward_starts(weights.durations, beta, log_likelihood)
    crossings = jnp.where(on, from_start + offset - scale, -jnp.inf)
    starts = jnp.exp(log_starts + crossings)
    beta, from_end, lowered = space.backward_step(weights, beta, from_start, log_likelihood, on, right_censored)
    earlier_offset = offset - scale + lowered
    ends = jnp.where(on, jnp.exp(log_ends + from_end + earlier_offset), 0.0)
    earlier_states = jnp.clip(states - starts + ends, 0.0, 1.0)
    earlier_states /= jnp.maximum(jnp.sum(earlier_states), 1e-30)
    durations += _each(starts, total) * by_duration
    offset, next_states = (
      jnp.where(on, new, old) for new, old in ((earlier_offset, offset), (earlier_states, states))
    )  # fmt: skip
    return (beta, offset, next_states, durations), (jnp.where(on, states, 0.0), starts, ends, crossings)

  def chunk(carry: tuple, inputs: tuple) -> tuple:
    *state, transitions = carry
    *steps, message = inputs
    (beta, _, _, durations), (states, starts, ends, crossings) = jax.lax.scan(
      step, tuple(state), tuple(steps), reverse=True
    )
    transitions += space.transitions(weights, steps[3], crossings)
    pairs = space.pair(weights, message, beta)  # afresh: rounding adds up within a chunk only
    total = logspace.finite_or_zero(logspace.logsumexp(pairs, axis=0))
    return (beta, -total, jnp.exp(pairs - total), durations, transitions), (states, starts, ends)

  carry = (
    beta, -normaliser, jnp.exp(pairs - normaliser),
    jnp.zeros_like(model.log_durations), jnp.zeros_like(model.log_transitions),
  )  # fmt: skip
  steps = (_chunked(log_likelihoods, size), _chunked(mask, size), trace.log_starts, trace.log_ends, trace.scales)
  (beta, offset, first_states, durations, transitions), rest = jax.lax.scan(
    chunk, carry, (*steps, trace.messages), reverse=True
  )
  states, starts, ends = (a.reshape(-1, a.shape[-1])[: len(log_likelihoods) - 1] for a in rest)
  durations = space.duration_counts(weights.durations, durations)
  fresh = model.log_first_durations is None
  first = weights.durations if fresh else weights.first_durations
  from_start, by_duration, total = space.backward_starts(first, beta, log_likelihoods[0])
  first_starts = jnp.exp(model.log_initial + from_start + offset)
  first_durations = space.duration_counts(first, _each(first_starts, total) * by_duration)
  final_ends = jnp.exp(space.ends(weights, last) - normaliser)
  at_end = jnp.arange(len(mask)) == jnp.sum(mask) - 1
  posterior = Posterior(
    log_likelihood=evidence,
    state_probs=jnp.concatenate([first_states[None], states]),
    start_probs=jnp.concatenate([first_starts[None], starts]),
    end_probs=jnp.concatenate([ends, jnp.zeros_like(final_ends)[None]]) + at_end[:, None] * final_ends[None],
    transitions=transitions,
    durations=durations + first_durations if fresh else durations,
    first_durations=None if fresh else first_durations,
  )
  possible = jnp.isfinite(relative) & mask[0]
  nothing = jnp.where(jnp.isnan(relative), jnp.nan, 0.0)
  cleared = jax.tree.map(lambda a: jnp.where(possible, a, nothing), posterior)
  return cleared._replace(log_likelihood=jnp.where(mask[0], evidence, 0.0))


def _each(counts: Float[Array, "state"], total: Float[Array, "state"]) -> Float[Array, "state 1"]:
  return (counts / jnp.where(total > 0, total, 1.0))[:, None]
