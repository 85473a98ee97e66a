"""Recordings cut into segments of discrete states: what the states look like and how well they fit the behaviours.

A segment is a run of one state. Which number a state carries never matters to a score. Samples without a label take
part in none; labelled samples without a state count as a state of their own that is never right, so that leaving out
the difficult samples gains nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, v_measure_score

from behavejax.errors import InputError
from behavejax.evaluation.metrics import confusion

States = Int[np.ndarray, " time"]
Labels = Int[np.ndarray, " time"]
IN_USE = 0.01


class Segmentation(NamedTuple):
  """States and labels of a set of recordings, sample by sample.

  Attributes:
    states: per recording, the state of each sample; -1 where nothing was segmented.
    probabilities: per recording, the posterior probability of that state, 0 to 1; 1 where it is not known.
    labels: per recording, the behaviour of each sample; -1 where it is not labelled.
    names: of the recordings.
    subjects: of the recordings.
    classes: names of the behaviours.
    rate_hz: samples per second.
    entropies: per recording, entropy of the posterior over all states at each sample, nats; none where not known.
  """

  states: list[States]
  probabilities: list[Float[np.ndarray, " time"]]
  labels: list[Labels]
  names: tuple[str, ...]
  subjects: tuple[str, ...]
  classes: tuple[str, ...]
  rate_hz: float
  entropies: Sequence[Float[np.ndarray, " time"]] = ()


class Segment(NamedTuple):
  """One run of one state; times in seconds from the start of its recording, `posterior` the mean over its samples."""

  recording: str
  subject: str
  start_s: float
  end_s: float
  duration_s: float
  state: int
  posterior: float


class BoundaryCounts(NamedTuple):
  """Boundaries that were matched, that are true, and that were found; they add up over recordings."""

  matched: int
  true: int
  found: int

  @property
  def precision(self) -> float:
    """Share of the found boundaries that is true, 0 to 1; with none found, 1 if there are none and 0 otherwise."""
    return self.matched / self.found if self.found else float(self.true == 0)

  @property
  def recall(self) -> float:
    """Share of the true boundaries that was found, 0 to 1; with none true, 1 if none was found and 0 otherwise."""
    return self.matched / self.true if self.true else float(self.found == 0)

  @property
  def f1(self) -> float:
    """Harmonic mean of precision and recall, 0 to 1; 1 where nothing was to be found and nothing was."""
    return 2 * self.matched / (self.true + self.found) if self.true + self.found else 1.0


def runs(states: States) -> tuple[Int[np.ndarray, " run"], Int[np.ndarray, " run"], Int[np.ndarray, " run"]]:
  """Run-length encoding: first sample, one past the last sample, and value of each run.

  >>> [part.tolist() for part in runs(np.array([4, 4, -1, 4]))]
  [[0, 2, 3], [2, 3, 4], [4, -1, 4]]
  """
  states = np.asarray(states)
  starts = np.flatnonzero(np.concatenate([[len(states) > 0], states[1:] != states[:-1]]))
  return starts, np.append(starts[1:], len(states))[: len(starts)], states[starts]


def state_name(state: int) -> str:
  """How a state is called in files and figures: "S3"."""
  return f"S{state}"


def segment_rows(segmentation: Segmentation) -> list[Segment]:
  """All segments in the order of the recordings and of time; samples without a state belong to none."""
  rate, rows = segmentation.rate_hz, []
  for states, p, name, subject in zip(
    segmentation.states, segmentation.probabilities, segmentation.names, segmentation.subjects, strict=True
  ):
    for start, end, state in zip(*runs(states), strict=True):
      if state >= 0:
        posterior = float(p[start:end].mean())
        rows.append(Segment(name, subject, start / rate, end / rate, (end - start) / rate, int(state), posterior))
  return rows


def usage(states: Sequence[States], *, num_states: int) -> Float[np.ndarray, " state"]:
  """Share of the segmented time spent in each state; zeros where nothing is segmented."""
  pooled = _pooled(states)
  counts = np.bincount(pooled[pooled >= 0], minlength=num_states)
  return counts / max(counts.sum(), 1)


def subject_usage(
  segmentation: Segmentation, *, num_states: int
) -> tuple[list[str], Float[np.ndarray, "subject state"]]:
  """Subjects in the order in which they appear, and how the time of each divides among the states."""
  names = list(dict.fromkeys(segmentation.subjects))
  pairs = list(zip(segmentation.subjects, segmentation.states, strict=True))
  own = [[states for subject, states in pairs if subject == name] for name in names]
  return names, np.array([usage(states, num_states=num_states) for states in own])


def states_in_use(states: Sequence[States], *, share: float = IN_USE) -> Int[np.ndarray, " used"]:
  """The states with more than `share` (0 to 1) of the segmented time, ascending; the others are noise or unused."""
  pooled = _pooled(states)
  return np.flatnonzero(usage(states, num_states=max(int(pooled.max(initial=-1)) + 1, 1)) > share)


def transition_counts(states: Sequence[States], *, num_states: int) -> Int[np.ndarray, "from to"]:
  """How often a segment of one state is followed at once by one of another, within recordings.

  Stretches without a state interrupt the sequence: what lies on their two sides is not a transition.
  """
  counts = np.zeros((num_states, num_states), int)
  for recording in states:
    values = runs(recording)[2]
    known = (values[:-1] >= 0) & (values[1:] >= 0)
    np.add.at(counts, (values[:-1][known], values[1:][known]), 1)
  return counts


def durations(states: Sequence[States], *, rate_hz: float) -> dict[int, Float[np.ndarray, " segment"]]:
  """Durations in seconds of the segments of every state that occurs.

  Segments cut off by the end of a recording are included with the length that was seen.
  """
  pairs = [(ends - starts, values) for starts, ends, values in map(runs, states)]
  lengths, values = (np.concatenate([np.zeros(0, int), *part]) for part in zip(*pairs, strict=True))
  return {int(state): lengths[values == state] / rate_hz for state in np.unique(values[values >= 0])}


def state_entropy(segmentation: Segmentation, *, num_states: int) -> Float[np.ndarray, " state"]:
  """Mean entropy of the posterior, in nats, while each state is the chosen one; NaN where it is not known."""
  if not segmentation.entropies:
    return np.full(num_states, np.nan)
  states, entropy = _pooled(segmentation.states), np.concatenate(segmentation.entropies)
  known = states >= 0
  total = np.bincount(states[known], entropy[known], minlength=num_states)
  count = np.bincount(states[known], minlength=num_states)
  return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def mean_durations(states: Sequence[States], *, num_states: int, rate_hz: float) -> Float[np.ndarray, " state"]:
  """Mean duration in seconds of the segments of each state, NaN for states that do not occur."""
  found = durations(states, rate_hz=rate_hz)
  return np.array([found[state].mean() if state in found else np.nan for state in range(num_states)])


def median_dwell(states: Sequence[States], *, rate_hz: float) -> float:
  """Median duration in seconds over all segments of all states, NaN if there are none."""
  found = list(durations(states, rate_hz=rate_hz).values())
  return float(np.median(np.concatenate(found))) if found else float("nan")


def hungarian_accuracy(labels: Labels, states: States) -> float:
  """Share of the labelled samples that is right when each behaviour gets at most one state, the best way.

  0 to 1. More states than behaviours cannot all be right: a behaviour split over two states loses the smaller part.
  """
  known = labels >= 0
  both = known & (states >= 0)
  if not both.any():
    return 0.0
  size = int(max(labels.max(), states.max())) + 1
  joint = confusion(labels[both], states[both], classes=size)
  return float(joint[linear_sum_assignment(joint, maximize=True)].sum() / known.sum())


def boundary_counts(labels: Labels, states: States, tolerance: float) -> BoundaryCounts:
  """Boundaries of one recording matched one to one; a boundary at `p` lies between the samples `p - 1` and `p`.

  A true boundary is a change between successive labelled runs. Where an unlabelled gap lies between two different
  behaviours, the change happened somewhere in it: the boundary is the whole gap, ends included. Gaps between equal
  behaviours and the ends of a recording claim no boundary. A found boundary is a change of state, those over samples
  without a state at the sample where the new state begins. It matches a true one at most `tolerance` away.

  No found boundary is wrong where the truth is not known: one beside or between unlabelled samples counts if it is
  matched and is left out of `found` otherwise.

  Matching: as many pairs as possible, and among those ways the one that leaves the fewest found boundaries to be
  counted as false. Every true boundary accepts an interval of positions, and both ends of these intervals ascend in
  time. Going left to right, giving each found boundary to the earliest interval still open to it is then
  optimal: in any best matching the earliest pair that differs can be exchanged for the greedy one, because no later
  boundary could make better use of an interval that closes earlier. Found boundaries that can all be matched remain
  matched while augmenting paths complete the matching, so the fewest false ones follow from a second matching without
  those that cost nothing.

  Args:
    labels: behaviour of each sample, -1 unlabelled.
    states: state of each sample, -1 not segmented.
    tolerance: in samples, at least 0.

  Raises:
    InputError: the tolerance is negative.
  """
  if tolerance < 0:
    raise InputError(f"boundary tolerance {tolerance:g} samples, expected at least 0")
  first, last = _true_boundaries(labels)
  found = _changes(states)
  known = np.asarray(labels) >= 0
  strict = found[known[found - 1] & known[found]]
  matched = _most_pairs(first - tolerance, last + tolerance, found)
  false = len(strict) - _most_pairs(first - tolerance, last + tolerance, strict)
  return BoundaryCounts(matched, len(first), matched + false)


def scores(segmentation: Segmentation, *, tolerance_s: float) -> dict[str, float]:
  """Agreement of states and behaviours; names start with `segments/`.

  Always the number of states in use (`states`, those with more than 1 % of the time) and the median duration of a
  segment in seconds (`median_dwell_s`). Where there are labels, pooled over all recordings and, as `recording_*`,
  averaged over the recordings that have labels: `v_measure` (Rosenberg and Hirschberg 2007, 0 to 1), `adjusted_rand`
  (-0.5 to 1, 0 for chance), `hungarian_accuracy`, `boundary_f1`, `boundary_precision` and `boundary_recall` (0 to 1).

  Args:
    segmentation: states and labels.
    tolerance_s: how far a found boundary may be from a true one, in seconds, at least 0.

  Raises:
    InputError: the tolerance is negative.
  """
  values = {
    "segments/states": float(len(states_in_use(segmentation.states))),
    "segments/median_dwell_s": median_dwell(segmentation.states, rate_hz=segmentation.rate_hz),
  }
  tolerance = np.floor(tolerance_s * segmentation.rate_hz + 1e-6)  # 0.29 s at 100 Hz are 29 samples, not 28.99...
  pairs = zip(segmentation.labels, segmentation.states, strict=True)
  labelled = [(labels, states) for labels, states in pairs if (labels >= 0).any()]
  if not labelled:
    return values
  boundaries = [boundary_counts(*pair, tolerance) for pair in labelled]
  each = [_agreement(*pair, counts) for pair, counts in zip(labelled, boundaries, strict=True)]
  total = BoundaryCounts(*(sum(column) for column in zip(*boundaries, strict=True)))
  labels, states = (np.concatenate(part) for part in zip(*labelled, strict=True))
  values |= {f"segments/{name}": value for name, value in _agreement(labels, states, total).items()}
  return values | {f"segments/recording_{name}": float(np.mean([row[name] for row in each])) for name in each[0]}


def behaviour_table(
  labels: Sequence[Labels], states: Sequence[States], *, num_states: int, classes: int
) -> Float[np.ndarray, "state class"]:
  """Share of each behaviour in the labelled samples of each state; a row of zeros where a state has none."""
  pooled, found = _pooled(labels), _pooled(states)
  both = (pooled >= 0) & (found >= 0)
  counts = np.zeros((num_states, classes))
  np.add.at(counts, (found[both], pooled[both]), 1)
  return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def _pooled(recordings: Sequence[Int[np.ndarray, " time"]]) -> Int[np.ndarray, " time"]:
  return np.concatenate([np.zeros(0, int), *recordings])


def _agreement(labels: Labels, states: States, counts: BoundaryCounts) -> dict[str, float]:
  known = labels >= 0
  return {
    "v_measure": float(v_measure_score(labels[known], states[known])),
    "adjusted_rand": float(adjusted_rand_score(labels[known], states[known])),
    "hungarian_accuracy": hungarian_accuracy(labels, states),
    "boundary_f1": counts.f1,
    "boundary_precision": counts.precision,
    "boundary_recall": counts.recall,
  }


def _true_boundaries(labels: Labels) -> tuple[Int[np.ndarray, " boundary"], Int[np.ndarray, " boundary"]]:
  """First and last position at which each change of behaviour can have happened; equal where no gap lies between."""
  starts, ends, values = runs(labels)
  labelled = values >= 0
  starts, ends, values = starts[labelled], ends[labelled], values[labelled]
  changes = values[1:] != values[:-1]
  return ends[:-1][changes], starts[1:][changes]


def _changes(states: States) -> Int[np.ndarray, " boundary"]:
  """Positions at which a new state begins, stretches without a state passed over."""
  starts, _, values = runs(states)
  starts, values = starts[values >= 0], values[values >= 0]
  return starts[1:][values[1:] != values[:-1]]


def _most_pairs(
  low: Float[np.ndarray, " interval"], high: Float[np.ndarray, " interval"], points: Int[np.ndarray, " point"]
) -> int:
  """Size of the largest one-to-one matching of points and intervals that hold them; all arguments ascend."""
  pairs = interval = point = 0
  while interval < len(low) and point < len(points):
    if points[point] < low[interval]:
      point += 1
    elif points[point] > high[interval]:
      interval += 1
    else:
      pairs, interval, point = pairs + 1, interval + 1, point + 1
  return pairs
