"""What a segmenter with a model of durations has to beat: clusters of single samples, smoothed afterwards.

Features are taken as they are: scale them first, distances depend on it. Samples with a value that is not finite get
no state (-1).
"""

import heapq
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from behavejax.errors import InputError
from behavejax.evaluation.segments import runs

Features = Float[np.ndarray, "time feature"]
States = Int[np.ndarray, " time"]


class Mixture(NamedTuple):
  """Clusters of a Gaussian mixture.

  Attributes:
    states: per recording, the most probable component of each sample.
    bic: Bayesian information criterion by number of components; the smallest was chosen.
  """

  states: list[States]
  bic: dict[int, float]


def kmeans(
  features: Sequence[Features], k: int, *, seed: int, learn_from: Sequence[Features] | None = None
) -> list[States]:  # fmt: skip
  """k-means on the samples of all recordings together, the best of five starts.

  Args:
    features: per recording.
    k: number of clusters.
    seed: of the starts.
    learn_from: where the centres come from instead.

  Raises:
    InputError: `k` is below 1 or above the number of samples that can be clustered.
  """
  samples, _ = _pooled(features if learn_from is None else learn_from)
  _check_count(k, len(samples))
  pooled, known = _pooled(features)
  return _split(KMeans(k, n_init=5, random_state=seed).fit(samples).predict(pooled), known)


def gaussian_mixture(
  features: Sequence[Features],
  counts: Sequence[int],
  *,
  seed: int,
  covariance: Literal["full", "diag"] = "full",
  learn_from: Sequence[Features] | None = None,
) -> Mixture:
  """Gaussian mixtures on the samples of all recordings together; the number of components has the smallest BIC.

  Args:
    features: per recording.
    counts: numbers of components to try.
    seed: of the starts.
    covariance: "full" or "diag".
    learn_from: where the components come from instead.

  Raises:
    InputError: `counts` is empty, or one of them is below 1 or above the number of samples that can be clustered.
  """
  if not counts:
    raise InputError("no number of mixture components to try, expected at least one")
  samples, _ = _pooled(features if learn_from is None else learn_from)
  fitted = {}
  for count in counts:
    _check_count(count, len(samples))
    fitted[count] = GaussianMixture(count, covariance_type=covariance, random_state=seed).fit(samples)
  bic = {count: float(mixture.bic(samples)) for count, mixture in fitted.items()}
  pooled, known = _pooled(features)
  return Mixture(_split(fitted[min(bic, key=bic.get)].predict(pooled), known), bic)


def mode_filter(states: States, width: int) -> States:
  """Replaces each state by the most frequent one among the `width` samples around it.

  Numbers of states have no order, so this is what a median filter is for them. Of several equally frequent states the
  sample keeps its own if that is one of them, and gets the lowest otherwise. At the ends the window holds what is
  there. Samples without a state have no vote and keep none.

  Args:
    states: of one recording.
    width: samples, odd.

  Raises:
    InputError: the width is even or below 1.
  """
  if width < 1 or width % 2 == 0:
    raise InputError(f"mode filter over {width} samples, expected an odd number of at least 1")
  states = np.asarray(states)
  place = np.arange(len(states))
  low, high = np.maximum(place - width // 2, 0), np.minimum(place + width // 2 + 1, len(states))
  best, most = np.full(len(states), -1), np.zeros(len(states))
  for state in np.unique(states[states >= 0]):
    votes = np.concatenate([[0], np.cumsum(states == state)])
    count = votes[high] - votes[low] + 0.5 * (states == state)  # half a vote decides ties and nothing else
    best, most = np.where(count > most, state, best), np.maximum(count, most)
  return np.where(states >= 0, best, -1)


def minimum_dwell(states: States, samples: int) -> States:
  """Merges runs shorter than `samples` into the longer of the two runs beside them, the shortest run first.

  Of equally short runs the earlier goes first; of equally long neighbours the earlier receives. Runs that become
  neighbours and have the same state are one from then on. Samples without a state keep none and separate runs, so a
  short run survives only when nothing lies beside it.

  Args:
    states: of one recording.
    samples: the shortest run that may stay, at least 1.

  Raises:
    InputError: `samples` is below 1.
  """
  if samples < 1:
    raise InputError(f"minimum dwell of {samples} samples, expected at least 1")
  result = np.array(states)
  for start, end, segmented in zip(*runs(result >= 0), strict=True):
    if segmented:
      result[start:end] = _merged(result[start:end], samples)
  return result


def _merged(states: States, samples: int) -> States:
  """`minimum_dwell` of a stretch without gaps: a linked list of runs and a heap of those that are too short."""
  starts, ends, values = runs(states)
  count, lengths = len(values), (ends - starts).tolist()
  before, after = [*range(-1, count - 1)], [*range(1, count), -1]
  short = [(length, run) for run, length in enumerate(lengths) if length < samples]
  heapq.heapify(short)

  def absorb(run: int, into: int) -> None:
    lengths[into], lengths[run] = lengths[into] + lengths[run], 0
    if before[run] >= 0:
      after[before[run]] = after[run]
    if after[run] >= 0:
      before[after[run]] = before[run]

  while short:
    length, run = heapq.heappop(short)
    left, right = before[run], after[run]
    if length != lengths[run] or max(left, right) < 0:  # merged in the meantime, or alone
      continue
    into = max((side for side in (left, right) if side >= 0), key=lambda side: lengths[side])
    absorb(run, into)
    if min(left, right) >= 0 and values[left] == values[right]:
      absorb(right, left)
      into = left
    if lengths[into] < samples:
      heapq.heappush(short, (lengths[into], into))
  return np.repeat(values, lengths)


def _pooled(features: Sequence[Features]) -> tuple[Features, list[np.ndarray]]:
  known = [np.isfinite(recording).all(axis=1) for recording in features]
  return np.concatenate([recording[rows] for recording, rows in zip(features, known, strict=True)]), known


def _split(found: Int[np.ndarray, " sample"], known: Sequence[np.ndarray]) -> list[States]:
  states = [np.full(len(rows), -1) for rows in known]
  parts = np.split(found, np.cumsum([rows.sum() for rows in known])[:-1])
  for recording, rows, part in zip(states, known, parts, strict=True):
    recording[rows] = part
  return states


def _check_count(count: int, samples: int) -> None:
  if not 1 <= count <= samples:
    raise InputError(f"{count} clusters of {samples} finite samples, expected between 1 and {samples}")
