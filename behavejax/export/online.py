"""Online filter of a hidden semi-Markov model over codes, in NumPy: which syllable it is, and for how long still.

The same recursion as `behavejax.segmentation.decode.filter_step`, in float64. Yu (2010), Artificial Intelligence 174,
section 2.2. Probabilities are kept as they are, with a log scale per state, which is several times as fast as logs of
all; where some would come near the end of what a float holds, that step is done in logs.
"""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from behavejax.errors import InputError

if TYPE_CHECKING:
  from jaxtyping import Float, Int

NAME = "hsmm.npz"
_LOG_LEAST = -320.0  # of probabilities relative to their scale: a product of two of them is still a normal float
_LEAST = float(np.exp(_LOG_LEAST))


class State(NamedTuple):
  """What the filter carries from step to step.

  Attributes:
    message: `[K, D]`, joint probability of state and steps left, the coming one included, given the past.
    log_scale: `[K]`, what the rows of `message` are to be multiplied by; None where `message` holds logs.
    log_likelihood: evidence of the steps seen so far, nats.
    state: the most probable state of the last step, -1 before the first.
    lasted: steps in a row of which it was the most probable.
  """

  message: Float[np.ndarray, "state duration"]
  log_scale: Float[np.ndarray, " state"] | None
  log_likelihood: float
  state: int
  lasted: int

  @property
  def log_message(self) -> Float[np.ndarray, "state duration"]:
    """Logs of what `message` and `log_scale` say."""
    if self.log_scale is None:
      return self.message
    with np.errstate(divide="ignore"):
      return np.log(self.message) + self.log_scale[:, None]


class Step(NamedTuple):
  """Answer of the filter at a step.

  Attributes:
    state: the most probable one, -1 where no state explains the steps so far.
    state_probs: `[K]`, given the steps up to this one; zeros where no state explains them.
    remaining: `[K]`, expected number of steps that the segment goes on after this one, were it of that state.
    remaining_s: of `state`, in seconds; NaN without a state.
    lasted_s: for how long `state` has been the most probable one, this step included, in seconds. The filter knows how
      many steps are left, not how many have passed, so that this is a count and not an expectation.
  """

  state: int
  state_probs: Float[np.ndarray, " state"]
  remaining: Float[np.ndarray, " state"]
  remaining_s: float
  lasted_s: float


class OnlineHSMM:
  """A hidden semi-Markov model of the arrays of an `hsmm.npz`.

  They are `log_initial [K]`, `log_transitions [K, K]`, `log_durations [K, D]` (column d for segments of d + 1
  steps), `log_first_durations [K, D]` where a recording begins inside a segment, `log_emission_0 [K, L]` and further
  ones per digit of a code, `temperature` by which log likelihoods are divided, `rate_hz` in steps per second, and
  `steps_per_window` into which the codes of a window are gathered. Natural logs, float64 or float32.

  Attributes:
    levels: number of values of each digit of a code.
    rate_hz: steps per second.
    steps_per_window: of codes.
  """

  def __init__(self, arrays: Mapping[str, np.ndarray], where: str = NAME):
    self._initial, self._transitions, self._durations = (
      _logs(arrays, name, where) for name in ("log_initial", "log_transitions", "log_durations")
    )
    states = self._initial.shape[0] if self._initial.ndim == 1 else 0
    shape = self._durations.shape
    if not states or self._transitions.shape != (states, states) or len(shape) != 2 or shape[0] != states:
      raise InputError(
        f"{where}: log_initial {self._initial.shape}, log_transitions {self._transitions.shape} and log_durations "
        f"{shape} do not fit, expected [K], [K, K] and [K, D]"
      )
    self._first = _logs(arrays, "log_first_durations", where) if "log_first_durations" in arrays else self._durations
    if self._first.shape != shape or 0 in shape:
      raise InputError(f"{where}: log_first_durations {self._first.shape}, expected the {shape} of log_durations")
    count = sum(name.startswith("log_emission_") for name in arrays)
    emissions = [_logs(arrays, f"log_emission_{i}", where) for i in range(count)]
    if not emissions or any(e.ndim != 2 or e.shape[0] != states or not e.size for e in emissions):
      raise InputError(f"{where}: log_emission_0, ... of shapes {[e.shape for e in emissions]}, expected [{states}, L]")
    self.levels = tuple(e.shape[1] for e in emissions)
    self.rate_hz, temperature = _positive(arrays, "rate_hz", where), _positive(arrays, "temperature", where)
    self.steps_per_window = int(_positive(arrays, "steps_per_window", where))
    self._emissions = [np.ascontiguousarray(e.T) / temperature for e in emissions]
    self._nothing = np.zeros(states)
    self._moments = np.stack([np.ones(shape[1]), np.arange(shape[1])], axis=1)
    self._tables()

  @classmethod
  def load(cls, path: str | os.PathLike) -> OnlineHSMM:
    """Reads a file; `InputError` if it is missing, damaged or something else."""
    try:
      with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
      raise InputError(f"{path} holds no model of syllables: {error}") from error
    return cls(arrays, os.fspath(path))

  def start(self) -> State:
    """The filter before the first step."""
    return State(*self._packed(self._initial[:, None] + self._first), 0.0, -1, 0)

  def edges(self, codes: int) -> Int[np.ndarray, " edge"]:
    """First code of each step of a window, and the number of codes: step i has those from edge i to edge i + 1."""
    return np.arange(self.steps_per_window + 1) * codes // self.steps_per_window

  def step(self, carried: State, digits: Int[np.ndarray, "code digit"] | None) -> tuple[State, Step]:
    """Takes in the codes of one step; None is a step of which nothing was seen.

    >>> logs = {"log_initial": [0.0, -np.inf], "log_transitions": [[-np.inf, 0.0], [0.0, -np.inf]],
    ...         "log_durations": [[-np.inf, 0.0], [0.0, -np.inf]], "log_emission_0": [[-0.1, -2.4], [-2.4, -0.1]]}
    >>> others = {"temperature": 1.0, "rate_hz": 2.0, "steps_per_window": 1}
    >>> model = OnlineHSMM({name: np.array(value) for name, value in {**logs, **others}.items()})
    >>> carried, answer = model.step(model.start(), np.array([[0]]))
    >>> answer.state, answer.remaining_s, answer.lasted_s
    (0, 0.5, 0.5)
    """
    emission = self._nothing
    if digits is not None:
      emission = sum(e[d].sum(axis=0) for e, d in zip(self._emissions, digits.T, strict=True))
    with np.errstate(divide="ignore"):
      moved = None if carried.log_scale is None else self._scaled_step(carried.message, carried.log_scale, emission)
      message, log_scale, by_state, remaining = moved or self._log_step(carried.log_message, emission)
    top = float(by_state.max())
    possible = top > -np.inf
    weights = np.exp(by_state - (top if possible else 0.0))
    total = float(weights.sum())
    evidence = top + math.log(total) if possible else -np.inf
    scale = evidence if possible else 0.0
    if log_scale is None:
      message -= scale
    else:
      log_scale -= scale
    state = int(by_state.argmax()) if possible else -1
    lasted = carried.lasted + 1 if state == carried.state else 1
    remaining_s = float(remaining[state]) / self.rate_hz if possible else float("nan")
    answer = Step(state, weights / total if possible else weights, remaining, remaining_s, lasted / self.rate_hz)
    return State(message, log_scale, carried.log_likelihood + evidence, state, lasted), answer

  def _tables(self) -> None:
    """Probabilities of the durations relative to the likeliest of each state, and of the transitions likewise."""
    self._peaks = self._durations.max(axis=1)
    relative = self._durations - _finite_or_zero(self._peaks)[:, None]
    self._scalable = _within_reach(relative)
    self._relative_durations = np.exp(relative)
    self._transition_peak = float(_finite_or_zero(self._transitions.max(keepdims=True)).item())
    self._relative_transitions = np.exp(self._transitions - self._transition_peak)

  def _packed(self, log_message: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """A message with a scale per state, or its logs where a float cannot hold all of a row."""
    if self._scalable:
      log_scale = log_message.max(axis=1)
      relative = log_message - _finite_or_zero(log_scale)[:, None]
      if _within_reach(relative):
        return np.exp(relative), log_scale
    return log_message, None

  def _scaled_step(
    self, message: np.ndarray, log_scale: np.ndarray, emission: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Message and its scale after a step, log probability by state, steps left; None where logs are needed."""
    weight = log_scale + emission
    mass, moment = (message @ self._moments).T
    by_state = weight + np.log(mass)
    remaining = np.where(by_state > -np.inf, moment / np.where(mass > 0, mass, 1.0), 0.0)
    starting = self._log_starts(weight + np.log(message[:, 0])) + self._peaks
    log_scale = np.maximum(by_state, starting)
    base = _finite_or_zero(log_scale)
    starting -= base
    weight -= base
    moved = np.exp(starting)[:, None] * self._relative_durations
    moved[:, :-1] += np.exp(weight)[:, None] * message[:, 1:]
    if moved.min() < _LEAST:  # some are impossible, or out of reach
      reached = _within_reach(starting) and _within_reach(weight)
      if not reached or np.where(moved > 0, moved, 1.0).min() < _LEAST:
        return None
    return moved, log_scale, by_state, remaining

  def _log_starts(self, ending: np.ndarray) -> np.ndarray:
    """Log probability that a segment of each state begins, of that of the states that end."""
    top = ending.max()
    if top > -np.inf:
      starts = np.exp(ending - top) @ self._relative_transitions
      if starts.min() > _LEAST:
        return np.log(starts) + (top + self._transition_peak)
    return _logsumexp((ending[:, None] + self._transitions).T)

  def _log_step(
    self, log_message: np.ndarray, emission: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    """The same as `_scaled_step`, whatever the probabilities."""
    joint = log_message + emission[:, None]
    by_state = _logsumexp(joint)
    left = np.exp(joint - _finite_or_zero(by_state)[:, None])
    message = _logsumexp((joint[:, :1] + self._transitions).T)[:, None] + self._durations
    message[:, :-1] = np.logaddexp(joint[:, 1:], message[:, :-1])
    return *self._packed(message), by_state, left @ self._moments[:, 1]


def _finite_or_zero(values: np.ndarray) -> np.ndarray:
  return np.where(values > -np.inf, values, 0.0)


def _within_reach(logs: np.ndarray) -> bool:
  """Whether a float holds the probabilities of these logs, where they are not 0."""
  return bool(((logs >= _LOG_LEAST) | (logs == -np.inf)).all())


def _logsumexp(values: Float[np.ndarray, "row column"]) -> Float[np.ndarray, " row"]:
  """Over columns; -inf for a row of -inf."""
  top = values.max(axis=1)
  top[~np.isfinite(top)] = 0.0
  with np.errstate(divide="ignore"):
    return np.log(np.exp(values - top[:, None]).sum(axis=1)) + top


def _logs(arrays: Mapping[str, np.ndarray], name: str, where: str) -> np.ndarray:
  if name not in arrays:
    raise InputError(f"{where} lacks {name}")
  values = arrays[name]
  if values.dtype.kind not in "fiu":
    raise InputError(f"{where}: {name} must hold numbers, got {values.dtype}")
  values = values.astype(np.float64)
  if not (values < np.inf).all():
    raise InputError(f"{where}: {name} must hold finite logs or -inf")
  return values


def _positive(arrays: Mapping[str, np.ndarray], name: str, where: str) -> float:
  values = arrays.get(name)
  if values is None or values.size != 1 or values.dtype.kind not in "fiu" or not 0 < float(values.item()) < np.inf:
    raise InputError(f"{where}: {name} must be one number above 0, got {values}")
  return float(values.item())
