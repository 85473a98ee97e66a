"""The hidden semi-Markov model with explicit durations: parameters, checks, and sampling from it.

A segment of state `j` starts, lasts `d` steps with probability `p_j(d)`, and hands over to another state
`k` with probability `A_jk`; `A` has a zero diagonal. Yu (2010), Artificial Intelligence 174, section 2.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from behavejax.errors import InputError
from behavejax.types import Key


class HSMM(NamedTuple):
  """Parameters of a hidden semi-Markov model, as log probabilities.

  Attributes:
    log_initial: state of the first step, `[K]`.
    log_transitions: from one segment's state to the next one's, `[K, K]`; -inf on the diagonal, except in
      a model whose longest duration is one step, which is a hidden Markov model.
    log_durations: `[K, D]`, column `d` for a segment of `d + 1` steps.
    log_first_durations: `[K, D]`, what remains of the segment under way at the first step; None when the
      recording starts with a fresh segment.
  """

  log_initial: Float[Array, "state"]
  log_transitions: Float[Array, "state state"]
  log_durations: Float[Array, "state duration"]
  log_first_durations: Float[Array, "state duration"] | None = None


class Weights(NamedTuple):
  """A model in the form that messages are computed with: transitions and durations as logs or as probabilities.

  `first_durations` is None for a fresh start.
  """

  log_initial: Float[Array, "state"]
  transitions: Float[Array, "state state"]
  durations: Float[Array, "state duration"]
  first_durations: Float[Array, "state duration"] | None


class Sampled(NamedTuple):
  """A segmentation: `states [T]`, and `starts [T]`, true where a segment begins."""

  states: Int[Array, "time"]
  starts: Bool[Array, "time"]


def hsmm(
  initial_distribution: Float[Array, "state"],
  transition_matrix: Float[Array, "state state"],
  durations: Float[Array, "state duration"],
  *,
  start: str = "fresh",
) -> HSMM:
  """A model from probabilities, checked.

  Args:
    initial_distribution: of the state of the first step.
    transition_matrix: zero diagonal; a state that is never left (K = 1) has a row of zeros.
    durations: `p_j(d)` for d = 1..D, rows sum to 1.
    start: "fresh", a segment begins at the first step; "stationary", the recording begins somewhere
      inside a segment, whose remaining duration is `r` with probability `P(d >= r) / mean`.

  Raises:
    ValueError: a negative or non-finite probability, a row that does not sum to 1, a nonzero diagonal,
      shapes that do not fit, or an unknown `start`.

  >>> model = hsmm([0.5, 0.5], [[0, 1], [1, 0]], [[0.0, 1.0], [0.5, 0.5]])
  >>> model.log_durations.shape
  (2, 2)
  """
  if start not in ("fresh", "stationary"):
    raise InputError(f"start must be 'fresh' or 'stationary', got {start!r}")
  initial, transitions, pmf = (
    np.asarray(a, np.float64) for a in (initial_distribution, transition_matrix, durations)
  )  # fmt: skip
  states = initial.shape[0] if initial.ndim == 1 else 0
  if states == 0 or transitions.shape != (states, states) or pmf.ndim != 2 or pmf.shape[0] != states or pmf.size == 0:
    raise InputError(
      "initial_distribution [K], transition_matrix [K, K] and durations [K, D] do not fit each other: "
      f"{initial.shape}, {transitions.shape}, {pmf.shape}"
    )
  _check_rows("initial_distribution", initial[None])
  _check_rows("durations", pmf)
  if pmf.shape[1] > 1 and np.any(np.diag(transitions) != 0):
    raise InputError(
      "transition_matrix must have a zero diagonal (how long a state lasts is the durations' part), "
      f"got {np.diag(transitions)[np.diag(transitions) != 0][0]:.3g} on it"
    )
  if states > 1 or pmf.shape[1] == 1:
    _check_rows("transition_matrix", transitions)
  with np.errstate(divide="ignore"):
    logs = [jnp.asarray(np.log(a), jnp.float32) for a in (initial, transitions, pmf)]
    first = jnp.asarray(np.log(remaining(pmf)), jnp.float32) if start == "stationary" else None
  return HSMM(*logs, first)


def remaining(durations: Float[np.ndarray, "state duration"]) -> Float[np.ndarray, "state duration"]:
  """What is left, this step included, of a segment met at a random step: `P(d >= r) / mean`."""
  survival = np.cumsum(durations[:, ::-1], axis=1)[:, ::-1]
  return survival / survival.sum(axis=1, keepdims=True)


def occupancy(
  transition_matrix: Float[np.ndarray, "state state"], mean_durations: Float[np.ndarray, "state"]
) -> Float[np.ndarray, "state"]:
  """Share of the time in each state in the long run: the initial distribution of a stationary start.

  The jump chain's stationary distribution, weighted by the mean durations.
  """
  transitions = np.asarray(transition_matrix, np.float64)
  states = len(transitions)
  equations = np.vstack([transitions.T - np.eye(states), np.ones(states)])
  visits = np.linalg.lstsq(equations, np.append(np.zeros(states), 1.0), rcond=None)[0]
  time = np.maximum(visits, 0) * np.asarray(mean_durations, np.float64)
  return time / time.sum()


def sample(model: HSMM, key: Key, *, steps: int) -> Sampled:
  """Draws a segmentation of `steps` steps from the model; its last segment may be cut off."""
  first = model.log_durations if model.log_first_durations is None else model.log_first_durations
  state_key, duration_key, key = jax.random.split(key, 3)
  state = jax.random.categorical(state_key, model.log_initial)
  left = jax.random.categorical(duration_key, first[state]) + 1

  def step(carry: tuple, key: Key) -> tuple:
    state, left, starts = carry
    state_key, duration_key = jax.random.split(key)
    following = jax.random.categorical(state_key, model.log_transitions[state])
    duration = jax.random.categorical(duration_key, model.log_durations[following]) + 1
    ends = left == 1
    carry = (jnp.where(ends, following, state), jnp.where(ends, duration, left - 1), ends)
    return carry, (state, starts)

  _, (states, starts) = jax.lax.scan(step, (state, left, jnp.array(True)), jax.random.split(key, steps))
  return Sampled(states, starts)


def _check_rows(name: str, rows: Float[np.ndarray, "row column"]) -> None:
  if not np.all(np.isfinite(rows)) or rows.min() < 0:
    bad = rows[~np.isfinite(rows) | (rows < 0)][0]
    raise InputError(f"{name} must hold probabilities, got {bad:.3g}")
  worst = int(np.argmax(np.abs(rows.sum(axis=1) - 1)))
  if abs(rows[worst].sum() - 1) > 1e-4:
    row = f"row {worst} of {name}" if len(rows) > 1 else name
    raise InputError(f"{row} must sum to 1, got {rows[worst].sum():.6g}")
