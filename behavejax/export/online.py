"""Online filter of a hidden semi-Markov model over codes, in NumPy: which syllable it is, and for how long still.

The same recursion as `behavejax.segmentation.decode.filter_step`, in log space and float64. Yu (2010), Artificial
Intelligence 174, section 2.2.
"""

from __future__ import annotations

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


class State(NamedTuple):
  """What the filter carries from step to step.

  Attributes:
    log_message: `[K, D]`, log joint probability of state and steps left, the coming one included, given the past.
    log_likelihood: evidence of the steps seen so far, nats.
    state: the most probable state of the last step, -1 before the first.
    lasted: steps in a row of which it was the most probable.
  """

  log_message: Float[np.ndarray, "state duration"]
  log_likelihood: float
  state: int
  lasted: int


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
  ones per digit of a code, `temperature` by which log likelihoods are divided, and `rate_hz` in steps per second.
  Natural logs, float64 or float32.

  Attributes:
    levels: number of values of each digit of a code.
    rate_hz: steps per second.
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
    self._emissions = [e / temperature for e in emissions]
    self._left = np.arange(shape[1], dtype=np.float64)

  @classmethod
  def load(cls, path: str | os.PathLike) -> OnlineHSMM:
    """Reads a file; `InputError` if it is missing, damaged or something else."""
    try:
      with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
      raise InputError(f"{path} holds no model of syllables: {error}") from error
    return cls(arrays, os.fspath(path))

  @property
  def states(self) -> int:
    return len(self._initial)

  def start(self) -> State:
    """The filter before the first step."""
    return State(self._initial[:, None] + self._first, 0.0, -1, 0)

  def step(self, carried: State, digits: Int[np.ndarray, " digit"] | None) -> tuple[State, Step]:
    """Takes in the code of one step; None is a step of which nothing was seen.

    >>> logs = {"log_initial": [0.0, -np.inf], "log_transitions": [[-np.inf, 0.0], [0.0, -np.inf]],
    ...         "log_durations": [[-np.inf, 0.0], [0.0, -np.inf]], "log_emission_0": [[-0.1, -2.4], [-2.4, -0.1]]}
    >>> others = {"temperature": 1.0, "rate_hz": 2.0}
    >>> model = OnlineHSMM({name: np.array(value) for name, value in {**logs, **others}.items()})
    >>> carried, answer = model.step(model.start(), np.array([0]))
    >>> answer.state, answer.remaining_s, answer.lasted_s
    (0, 0.5, 0.5)
    """
    joint = carried.log_message
    if digits is not None:
      joint = joint + sum(e[:, d] for e, d in zip(self._emissions, digits, strict=True))[:, None]
    by_state = _logsumexp(joint)
    evidence = float(_logsumexp(by_state[None])[0])
    scale = evidence if np.isfinite(evidence) else 0.0
    by_state -= scale
    top = np.where(np.isfinite(by_state), by_state, 0.0)
    remaining = np.exp(joint - (top + scale)[:, None]) @ self._left
    starts = _logsumexp((joint[:, :1] - scale + self._transitions).T)
    message = starts[:, None] + self._durations
    message[:, :-1] = np.logaddexp(joint[:, 1:] - scale, message[:, :-1])
    state = int(by_state.argmax()) if np.isfinite(evidence) else -1
    lasted = carried.lasted + 1 if state == carried.state else 1
    remaining_s = float(remaining[state]) / self.rate_hz if state >= 0 else float("nan")
    answer = Step(state, np.exp(by_state), remaining, remaining_s, lasted / self.rate_hz)
    return State(message, carried.log_likelihood + evidence, state, lasted), answer


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
