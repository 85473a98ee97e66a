"""Split conformal prediction: sets of labels that hold the true one as often as asked.

Every class of a window has a score, small where the class is plausible. The threshold is the exact finite-sample
quantile of the true classes' scores on `n` calibration windows: the `ceil((n + 1) coverage)`-th smallest. The set of a
new window is the classes with a score up to it. If the new window is exchangeable with the calibration windows, the
true class is in the set with a probability of at least `coverage`, whatever the model; without ties of at most
`coverage + 1 / (n + 1)` (Vovk, Gammerman and Shafer 2005; Lei et al. 2018, theorem 2.2).

Two scores: `lac_scores`, whose sets are the smallest on average where the probabilities are right, and `aps_scores`,
whose sets grow with the difficulty of a window. Reports use the former: asked for 0.9 on the phone recordings of HAPT,
its sets hold 1.00 labels and those of the latter 1.11; asked for 0.99, 1.25 and 1.79, with coverage 0.998 and 0.999.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from behavejax.errors import InputError

Probabilities = Float[np.ndarray, "window class"]
Scores = Float[np.ndarray, "window class"]
Sets = Bool[np.ndarray, "window class"]
Labels = Int[np.ndarray, " window"]


class Coverage(NamedTuple):
  """Of sets whose true labels are known.

  Attributes:
    covered: share of the sets that hold the true label; NaN without windows.
    size: mean number of labels in a set.
    single: share of the sets with one label.
    windows: how many.
  """

  covered: float
  size: float
  single: float
  windows: int


def lac_scores(probabilities: Probabilities) -> Scores:
  """`1 - p`: least ambiguous sets (Sadinle, Lei and Wasserman 2019)."""
  return 1 - np.asarray(probabilities, np.float64)


def aps_scores(probabilities: Probabilities, u: Float[np.ndarray, " window"] | float = 1.0) -> Scores:
  """Sum of the larger probabilities of a window, and `u` of the class's own: adaptive sets (Romano et al. 2020, eq. 7).

  Args:
    probabilities: of the classes; of equal ones the first counts as larger.
    u: uniform in [0, 1], one number per window, makes the coverage exact; 1 leaves chance out and the sets larger.
  """
  probabilities = np.asarray(probabilities, np.float64)
  order = np.argsort(-probabilities, axis=1, kind="stable")
  down = np.take_along_axis(probabilities, order, axis=1)
  above = np.cumsum(down, axis=1) - down
  scores = np.empty_like(probabilities)
  np.put_along_axis(scores, order, above + np.reshape(u, (-1, 1)) * down, axis=1)
  return np.round(scores, 12)  # sums that are equal, such as those of all classes, compare equal


def quantile(scores: Float[np.ndarray, " window"], coverage: float) -> float:
  """The `ceil((n + 1) coverage)`-th smallest of `n` scores; infinite where there are too few for the coverage.

  >>> quantile(np.array([0.5, 0.1, 0.4, 0.2]), 0.6), quantile(np.array([0.5, 0.1, 0.4, 0.2]), 0.9)
  (0.4, inf)

  Raises:
    InputError: a coverage outside [0, 1).
  """
  if not 0 <= coverage < 1:
    raise InputError(f"coverage must be in [0, 1), got {coverage!r}")
  rank = math.ceil((len(scores) + 1) * coverage - 1e-9)  # 100 * 0.07 is 7.000000000000001
  if rank > len(scores):
    return math.inf
  return float(np.sort(scores)[rank - 1]) if rank > 0 else -math.inf


def threshold(scores: Scores, labels: Labels, *, coverage: float) -> float:
  """One threshold for all classes, from calibration windows; unlabelled ones (-1) are left out."""
  known = np.flatnonzero(labels >= 0)
  return quantile(scores[known, labels[known]], coverage)


def class_thresholds(scores: Scores, labels: Labels, *, coverage: float) -> Float[np.ndarray, " class"]:
  """A threshold per class from the windows of that class, so that each class is covered (Mondrian; Vovk et al. 2005).

  Infinite for a class with fewer than `coverage / (1 - coverage)` windows: it is then in every set.
  """
  return np.array([quantile(scores[labels == k, k], coverage) for k in range(scores.shape[1])])


def label_sets(
  scores: Scores, limits: float | Float[np.ndarray, " class"], *, never_empty: bool = True
) -> Sets:  # fmt: skip
  """The classes with a score up to the threshold.

  Args:
    scores: of new windows.
    limits: threshold, of all classes or of each.
    never_empty: the most plausible class is in every set; coverage can only gain.
  """
  sets = scores <= limits
  if never_empty:
    sets[np.arange(len(sets)), scores.argmin(axis=1)] = True
  return sets


def coverage_of(sets: Sets, labels: Labels) -> Coverage:
  """Coverage and size of the sets whose windows are labelled."""
  known = np.flatnonzero(labels >= 0)
  if not len(known):
    return Coverage(math.nan, math.nan, math.nan, 0)
  sizes = sets[known].sum(axis=1)
  covered = sets[known, labels[known]].mean()
  return Coverage(float(covered), float(sizes.mean()), float(np.mean(sizes == 1)), len(known))


def coverage_by(
  sets: Sets, labels: Labels, groups: Int[np.ndarray, " window"], *, count: int
) -> list[Coverage]:  # fmt: skip
  """The same for each of `count` groups of windows: classes (`groups` are the labels), or subjects."""
  return [coverage_of(sets[groups == i], labels[groups == i]) for i in range(count)]
