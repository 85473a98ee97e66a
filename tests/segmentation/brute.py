"""Exact answers for small hidden semi-Markov models: every segmentation is listed and weighed, in float64.

No recursion over time, no rescaling and nothing from the package: a segmentation is a list of segments, its
weight a sum of logs, and every answer a sum over the list.
"""

from typing import NamedTuple

import numpy as np

from behavejax.segmentation import durations
from behavejax.segmentation.model import HSMM, hsmm


class Segment(NamedTuple):
  state: int
  start: int
  duration: int  # may reach beyond the last step


class Exact(NamedTuple):
  """Everything that a sequence says about its segmentation; zeros when no segmentation is possible.

  Attributes:
    paths: log probability, jointly with the sequence, of each `(states, starts)`: two tuples of length T.
    remaining: `[K]`, expected steps after the last one of the segment under way there, were it of that state.
    The others are named as in `messages.Posterior`.
  """

  log_likelihood: float
  state_probs: np.ndarray
  start_probs: np.ndarray
  end_probs: np.ndarray
  transitions: np.ndarray
  durations: np.ndarray
  first_durations: np.ndarray
  remaining: np.ndarray
  paths: dict[tuple[tuple, tuple], float]


def smooth(model: HSMM, log_likelihoods: np.ndarray, *, right_censored: bool = True) -> Exact:
  log_likelihoods = np.asarray(log_likelihoods, np.float64)
  (steps, states), longest = log_likelihoods.shape, np.shape(model.log_durations)[1]
  listed = segmentations(model, log_likelihoods, right_censored=right_censored)
  logs = np.array([log_weight for log_weight, _ in listed])
  top = logs.max(initial=-np.inf)
  total = np.exp(logs - top).sum() if listed else 0.0
  fresh = model.log_first_durations is None
  exact = Exact(
    float(top + np.log(total)) if listed else -np.inf,
    *(np.zeros((steps, states)) for _ in range(3)),
    np.zeros((states, states)),
    *(np.zeros((states, longest)) for _ in range(2)),
    np.zeros(states),
    {},
  )
  for log_weight, segments in listed:
    probability = np.exp(log_weight - top) / total
    path, starts, before = np.zeros(steps, int), np.zeros(steps, bool), None
    for state, start, duration in segments:
      end = start + duration
      path[start:end] = state
      starts[start] = True
      exact.state_probs[start:end, state] += probability
      exact.start_probs[start, state] += probability
      if end <= steps:
        exact.end_probs[end - 1, state] += probability
      counts = exact.durations if fresh or before is not None else exact.first_durations
      counts[state, duration - 1] += probability
      if before is not None:
        exact.transitions[before, state] += probability
      before = state
    exact.remaining[before] += probability * (end - steps)
    key = (tuple(path.tolist()), tuple(starts.tolist()))
    exact.paths[key] = np.logaddexp(exact.paths.get(key, -np.inf), log_weight)
  exact.remaining[:] /= np.where(exact.state_probs[-1] > 0, exact.state_probs[-1], 1.0)
  return exact


def segmentations(model: HSMM, log_likelihoods: np.ndarray, *, right_censored: bool) -> list[tuple[float, tuple]]:
  """`(log weight, segments)` of every possible segmentation; the last duration is told apart beyond the end too."""
  steps, states = log_likelihoods.shape
  initial, transitions, later = (np.asarray(a, np.float64).tolist() for a in model[:3])
  first = later if model.log_first_durations is None else np.asarray(model.log_first_durations, np.float64).tolist()
  spans = [
    [log_likelihoods[start:end].sum(axis=0).tolist() if end > start else None for end in range(steps + 1)]
    for start in range(steps)
  ]
  found = []

  def extend(segments: tuple, log_weight: float) -> None:
    start = segments[-1].start + segments[-1].duration if segments else 0
    if start >= steps:
      found.append((log_weight, segments))
      return
    for state in range(states):
      arrival = transitions[segments[-1].state][state] if segments else initial[state]
      for duration, log_duration in enumerate((later if segments else first)[state], start=1):
        end = start + duration
        if end > steps and not right_censored:
          break
        weight = log_weight + arrival + log_duration + spans[start][min(end, steps)][state]
        if weight > -np.inf:
          extend((*segments, Segment(state, start, duration)), weight)

  extend((), 0.0)
  return found


def random_model(
  seed: int, *, states: int = 3, longest: int = 4, start: str = "fresh", family: str = "categorical"
) -> HSMM:
  rng = np.random.default_rng(seed)
  theta = rng.normal(size=(states, durations.theta_size(family, longest=longest))) * 0.5
  pmf = np.exp(np.asarray(durations.log_pmf(family, theta.astype(np.float32), longest=longest), np.float64))
  return hsmm(
    rng.dirichlet(np.ones(states)),
    random_transitions(rng, states, diagonal=longest == 1),
    pmf / pmf.sum(axis=1, keepdims=True),
    start=start,
  )


def random_transitions(rng: np.random.Generator, states: int, *, diagonal: bool = False) -> np.ndarray:
  matrix = rng.random((states, states)) + 0.1
  if not diagonal:
    np.fill_diagonal(matrix, 0)
  return matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-9)


def random_log_likelihoods(seed: int, *, steps: int = 8, states: int = 3, spread: float = 2.0) -> np.ndarray:
  return (np.random.default_rng(seed).normal(size=(steps, states)) * spread).astype(np.float32)
