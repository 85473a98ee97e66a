"""Segmentations of a sequence: the best one, random ones from the posterior, and a filter that runs online.

As in `messages`, functions take one sequence of `log_likelihoods [T, K]` and are lifted with `jax.vmap`;
`mask` is true for the steps of the sequence and false for padding behind them. All run in log space.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from behavejax.segmentation import logspace
from behavejax.segmentation.messages import checked_mask, forward_trace
from behavejax.segmentation.model import HSMM
from behavejax.types import Key


class Path(NamedTuple):
  """A segmentation of a sequence.

  Attributes:
    states: `[T]`, -1 where masked, and everywhere when no segmentation is possible.
    starts: `[T]`, true where a segment begins.
    log_probability: of the best segmentation together with the sequence, or, for a random one, the evidence
      of the sequence; nats.
  """

  states: Int[Array, "time"]
  starts: Bool[Array, "time"]
  log_probability: Float[Array, ""]


class Filter(NamedTuple):
  """What an online filter carries from step to step.

  Attributes:
    log_message: `[K, D]`, log joint probability of state and steps left, the coming one included, given the past.
    log_likelihood: evidence of the steps seen so far, nats.
  """

  log_message: Float[Array, "state duration"]
  log_likelihood: Float[Array, ""]


class Filtered(NamedTuple):
  """Answer of the filter at a step.

  Attributes:
    state_probs: `[K]`, given the steps up to this one.
    remaining: `[K]`, expected number of steps that the segment goes on after this one, were it of that state.
  """

  state_probs: Float[Array, "state"]
  remaining: Float[Array, "state"]


def viterbi(
  model: HSMM,
  log_likelihoods: Float[Array, "time state"],
  mask: Bool[Array, "time"] | None = None,
  *,
  right_censored: bool = True,
) -> Path:
  """The most probable segmentation; a last segment that is cut off counts with `P(duration >= its length)`.

  Max-product over how long each segment has lasted: O(T (K D + K^2)) time, O(T K) memory.

  Raises:
    ValueError: shapes that do not fit.
  """
  mask = checked_mask(model, log_likelihoods, mask)
  longest = model.log_durations.shape[1]

  def best_end(elapsed: Array, time: Array, durations: Array, first: Array | None) -> tuple[Array, Array]:
    weights = durations
    if first is not None:  # the segment of `time` steps is the one met at the first step
      weights = jnp.where(jnp.arange(longest)[None] == time - 1, first, durations)
    return jnp.max(elapsed + weights, axis=1), jnp.argmax(elapsed + weights, axis=1) + 1

  def step(carry: tuple, inputs: tuple) -> tuple:
    elapsed, time = carry
    log_likelihood, on = inputs
    ended, length = best_end(elapsed, time, model.log_durations, model.log_first_durations)
    arrivals = ended[:, None] + model.log_transitions
    scale = logspace.finite_or_zero(jnp.max(ended))
    following = logspace.shift_in(jnp.max(arrivals, axis=0), elapsed) + (log_likelihood - scale)[:, None]
    carry = (jnp.where(on, following, elapsed), time + on)
    return carry, (length, jnp.argmax(arrivals, axis=0), jnp.where(on, scale, 0.0))

  elapsed = jnp.full_like(model.log_durations, -jnp.inf).at[:, 0].set(model.log_initial + log_likelihoods[0])
  (elapsed, time), (lengths, origins, scales) = jax.lax.scan(step, (elapsed, 1), (log_likelihoods[1:], mask[1:]))
  durations, first = model.log_durations, model.log_first_durations
  if right_censored:
    durations = _log_survival(durations)
    first = None if first is None else _log_survival(first)
  ended, length = best_end(elapsed, time, durations, first)
  score = jnp.max(ended) + jnp.sum(scales)
  last = jnp.argmax(ended)

  def back(carry: tuple, inputs: tuple) -> tuple:
    state, left = carry
    lengths, origins, on = inputs
    before = origins[state]
    earlier = jax.tree.map(
      lambda new, old: jnp.where(left == 1, new, old), (before, lengths[before]), (state, left - 1)
    )  # fmt: skip
    carry = jax.tree.map(lambda new, old: jnp.where(on, new, old), earlier, carry)
    return carry, (state, left == 1)

  (first_state, _), rest = jax.lax.scan(back, (last, length[last]), (lengths, origins, mask[1:]), reverse=True)
  return _path(first_state, *rest, mask, score)


def sample_posterior(
  model: HSMM,
  log_likelihoods: Float[Array, "time state"],
  key: Key,
  mask: Bool[Array, "time"] | None = None,
  *,
  right_censored: bool = True,
) -> Path:
  """A random segmentation from the exact posterior: forward filter, backward sample.

  Raises:
    ValueError: shapes that do not fit.
  """
  mask = checked_mask(model, log_likelihoods, mask)
  longest = model.log_durations.shape[1]
  likelihoods = jnp.where(mask[:, None], log_likelihoods, 0.0)
  last, log_starts, log_ends, scales = forward_trace(model, likelihoods, mask)
  length = jnp.sum(mask)
  final = last.elapsed + (_log_survival(model.log_durations) if right_censored else model.log_durations)
  whole = jnp.full_like(final[:, :1], -jnp.inf)  # the segment met at the first step, still under way
  if last.first is not None:
    whole = logspace.logsumexp(last.first, axis=1)[:, None] if right_censored else last.first[:, :1]
  final = jnp.concatenate([final, whole], axis=1)
  final_key, key = jax.random.split(key)
  drawn = jax.random.categorical(final_key, final.ravel())
  state, column = drawn // (longest + 1), drawn % (longest + 1)
  left = jnp.where(column == longest, length, column + 1)

  def before(array: Array, filler: float) -> Array:
    return jnp.concatenate([jnp.full((longest, array.shape[1]), filler), array])

  starts = jnp.concatenate([model.log_initial[None], log_starts])
  gains = before(likelihoods - jnp.concatenate([jnp.zeros(1), scales])[:, None], 0.0)
  starts = before(starts, -jnp.inf)

  def log_weights(state: Array, end: Array) -> Array:
    """Of the durations 1..D of a segment of `state` whose last step is `end`."""
    window = [jax.lax.dynamic_slice_in_dim(a, end + 1, longest)[::-1, state] for a in (starts, gains)]
    durations = model.log_durations[state]
    if model.log_first_durations is not None:
      durations = jnp.where(jnp.arange(longest) == end, model.log_first_durations[state], durations)
    return durations + window[0] + jnp.cumsum(window[1])

  def back(carry: tuple, inputs: tuple) -> tuple:
    state, left = carry
    time, on, log_ends = inputs
    state_key, duration_key = jax.random.split(jax.random.fold_in(key, time))
    origin = jax.random.categorical(state_key, log_ends + model.log_transitions[:, state])
    duration = jax.random.categorical(duration_key, log_weights(origin, time - 1)) + 1
    earlier = jax.tree.map(lambda new, old: jnp.where(left == 1, new, old), (origin, duration), (state, left - 1))
    carry = jax.tree.map(lambda new, old: jnp.where(on, new, old), earlier, carry)
    return carry, (state, left == 1)

  inputs = (jnp.arange(1, len(mask)), mask[1:], log_ends)
  (first_state, _), rest = jax.lax.scan(back, (state, left), inputs, reverse=True)
  evidence = logspace.logsumexp(final.ravel(), axis=0) + jnp.sum(scales)
  return _path(first_state, *rest, mask, evidence)


def filter_init(model: HSMM) -> Filter:
  """The filter before the first step."""
  first = model.log_durations if model.log_first_durations is None else model.log_first_durations
  return Filter(model.log_initial[:, None] + first, jnp.zeros(()))


def filter_step(
  model: HSMM, carried: Filter, log_likelihood: Float[Array, "state"]
) -> tuple[Filter, Filtered]:  # fmt: skip
  """Takes in one step's log likelihoods; the same as filtering the whole sequence at once."""
  joint = carried.log_message + log_likelihood[:, None]
  evidence = logspace.logsumexp(joint.ravel(), axis=0)
  joint = joint - logspace.finite_or_zero(evidence)
  by_state = logspace.logsumexp(joint, axis=1)
  left = jnp.exp(joint - logspace.finite_or_zero(by_state)[:, None])  # normalised by state: it may be improbable
  remaining = left @ jnp.arange(joint.shape[1], dtype=jnp.float32)
  log_starts = logspace.logsumexp(joint[:, :1] + model.log_transitions, axis=0)
  continuing = jnp.concatenate([joint[:, 1:], jnp.full_like(joint[:, :1], -jnp.inf)], axis=1)
  message = jnp.logaddexp(continuing, log_starts[:, None] + model.log_durations)
  return Filter(message, carried.log_likelihood + evidence), Filtered(jnp.exp(by_state), remaining)


def filter_sequence(
  model: HSMM, log_likelihoods: Float[Array, "time state"]
) -> tuple[Filter, Filtered]:  # fmt: skip
  """Filters a whole sequence; the answers are stacked along time."""
  return jax.lax.scan(lambda carried, step: filter_step(model, carried, step), filter_init(model), log_likelihoods)


def _log_survival(log_durations: Float[Array, "state duration"]) -> Float[Array, "state duration"]:
  """`log P(duration >= d)`; the largest log is added last, so that light tails keep their digits."""
  return jax.lax.cumlogsumexp(log_durations, axis=1, reverse=True)


def _path(
  first_state: Int[Array, ""], states: Int[Array, "rest"], starts: Bool[Array, "rest"], mask: Array, score: Array
) -> Path:
  on = mask & (score > -jnp.inf)
  states = jnp.concatenate([first_state[None], states])
  starts = jnp.concatenate([jnp.ones(1, bool), starts])
  return Path(jnp.where(on, states, -1), on & starts, jnp.where(mask[0], score, 0.0))
