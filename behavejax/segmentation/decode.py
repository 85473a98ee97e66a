"""Segmentations of a sequence: the best one, random ones from the posterior, and a filter that runs online.

As in `messages`, functions take one sequence of `log_likelihoods [T, K]` and are lifted with `jax.vmap`;
`mask` is true for the steps of the sequence and false for padding behind them. All run in log space.
"""

from collections.abc import Callable
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

  Max-product over how long each segment has lasted: O(T (K D + K^2)) time, O(T K) memory. On the way forward only the
  best scores are kept; which duration gave one is looked for again on the way back, for one state instead of all.

  Raises:
    ValueError: shapes that do not fit.
  """
  mask = checked_mask(model, log_likelihoods, mask)

  def step(elapsed: Array, inputs: tuple) -> tuple:
    time, log_likelihood, on = inputs
    ended = jnp.max(elapsed + _timed(model.log_durations, model.log_first_durations, time), axis=1)
    starts = jnp.max(ended[:, None] + model.log_transitions, axis=0)
    scale = logspace.finite_or_zero(jnp.max(ended))
    following = logspace.shift_in(starts, elapsed) + (log_likelihood - scale)[:, None]
    return jnp.where(on, following, elapsed), (ended, starts, jnp.where(on, scale, 0.0))

  elapsed = jnp.full_like(model.log_durations, -jnp.inf).at[:, 0].set(model.log_initial + log_likelihoods[0])
  inputs = (jnp.arange(1, len(mask)), log_likelihoods[1:], mask[1:])
  elapsed, (ended, starts, scales) = jax.lax.scan(step, elapsed, inputs)
  durations, first = model.log_durations, model.log_first_durations
  if right_censored:
    durations = _log_survival(durations)
    first = None if first is None else _log_survival(first)
  final = elapsed + _timed(durations, first, jnp.sum(mask))
  last, left = jnp.unravel_index(jnp.argmax(final), final.shape)
  weights = _duration_weights(model, log_likelihoods, starts, scales)

  def choose(state: Array, time: Array, ended: Array) -> tuple[Array, Array]:
    origin = jnp.argmax(ended + model.log_transitions[:, state])
    return origin, jnp.argmax(weights(origin, time - 1)) + 1

  return _path(*_walk_back((last, left + 1), choose, ended, mask), mask, jnp.max(final) + jnp.sum(scales))


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
  weights = _duration_weights(model, likelihoods, log_starts, scales)

  def choose(state: Array, time: Array, log_ends: Array) -> tuple[Array, Array]:
    state_key, duration_key = jax.random.split(jax.random.fold_in(key, time))
    origin = jax.random.categorical(state_key, log_ends + model.log_transitions[:, state])
    return origin, jax.random.categorical(duration_key, weights(origin, time - 1)) + 1

  evidence = logspace.logsumexp(final.ravel(), axis=0) + jnp.sum(scales)
  return _path(*_walk_back((state, left), choose, log_ends, mask), mask, evidence)


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


def _timed(
  durations: Float[Array, "state duration"], first: Float[Array, "state duration"] | None, time: Int[Array, ""]
) -> Float[Array, "state duration"]:
  """Log pmf after `time` steps: a segment that has lasted all of them is the one met at the first step."""
  if first is None:
    return durations
  return jnp.where(jnp.arange(durations.shape[1])[None] == time - 1, first, durations)


def _duration_weights(
  model: HSMM,
  log_likelihoods: Float[Array, "time state"],
  log_starts: Float[Array, "rest state"],
  scales: Float[Array, "rest"],
) -> Callable[[Int[Array, ""], Int[Array, ""]], Float[Array, "duration"]]:
  """`(state, end) -> ` log weights of the durations 1..D of a segment whose last step is `end`.

  Args:
    model: the model.
    log_likelihoods: of the steps.
    log_starts: log mass, or best score, of what starts at every step but the first, without that step's likelihood.
    scales: what a step has lowered all masses by.
  """
  longest = model.log_durations.shape[1]

  def before(array: Array, filler: float) -> Array:
    return jnp.concatenate([jnp.full((longest, array.shape[1]), filler), array])

  gains = before(log_likelihoods - jnp.concatenate([jnp.zeros(1), scales])[:, None], 0.0)
  starts = before(jnp.concatenate([model.log_initial[None], log_starts]), -jnp.inf)

  def weights(state: Array, end: Array) -> Array:
    window = [jax.lax.dynamic_slice(a, (end + 1, state), (longest, 1))[::-1, 0] for a in (starts, gains)]
    first = None if model.log_first_durations is None else model.log_first_durations[state][None]
    durations = _timed(model.log_durations[state][None], first, end + 1)[0]
    return durations + window[0] + jnp.cumsum(window[1])

  return weights


def _log_survival(log_durations: Float[Array, "state duration"]) -> Float[Array, "state duration"]:
  """`log P(duration >= d)`; the largest log is added last, so that light tails keep their digits."""
  return jax.lax.cumlogsumexp(log_durations, axis=1, reverse=True)


def _walk_back(
  last: tuple[Int[Array, ""], Int[Array, ""]], choose: Callable, log_ends: Float[Array, "rest state"], mask: Array
) -> tuple[Int[Array, ""], Int[Array, "rest"], Bool[Array, "rest"]]:
  """State of the first step, states of the others, and where these start.

  Args:
    last: state of the last segment and how many steps of it there are.
    choose: `(state, time, log_ends before) -> (state, duration)` of the segment before one that starts at `time`.
    log_ends: log mass, or best score, of what ends at every step but the last.
    mask: as everywhere.
  """

  def back(carry: tuple, inputs: tuple) -> tuple:
    state, left = carry
    time, on, ended = inputs
    earlier = jax.tree.map(
      lambda new, old: jnp.where(left == 1, new, old), choose(state, time, ended), (state, left - 1)
    )  # fmt: skip
    carry = jax.tree.map(lambda new, old: jnp.where(on, new, old), earlier, carry)
    return carry, (state, left == 1)

  times = jnp.arange(1, len(mask))
  (first_state, _), rest = jax.lax.scan(back, last, (times, mask[1:], log_ends), reverse=True)
  return first_state, *rest


def _path(
  first_state: Int[Array, ""], states: Int[Array, "rest"], starts: Bool[Array, "rest"], mask: Array, score: Array
) -> Path:
  on = mask & (score > -jnp.inf)
  states = jnp.concatenate([first_state[None], states])
  starts = jnp.concatenate([jnp.ones(1, bool), starts])
  return Path(jnp.where(on, states, -1), on & starts, jnp.where(mask[0], score, 0.0))
