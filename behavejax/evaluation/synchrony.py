"""How the states of two devices go together: mutual information, lead and lag, and what unrelated sequences show.

A state is a number from 0, -1 where it is not known; steps at which a state that is needed is not known count for
nothing. Recordings are pooled, and no pair of steps lies in two of them.

What could be chance is judged by circular shifts: the sequence of one device is turned in time, within its recording,
far enough that what was simultaneous is unrelated. That keeps how often each state occurs, how long it lasts and what
follows it, which reshuffled steps would not; and it keeps that some recordings are livelier than others.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import xlogy

from behavejax.errors import InputError

States = Int[np.ndarray, " step"]
STEP_S = 0.25
ALPHA = 0.05
_MEMORY = 0.1
_MOST_STATES = 100


class Curve(NamedTuple):
  """A measure over lags, beside what shifted sequences show.

  Attributes:
    values: of the sequences as they are.
    low: 2.5 % of the shifted sequences lie below, lag by lag.
    high: 2.5 % of the shifted sequences lie above, lag by lag.
    chance: mean over the shifted sequences, lag by lag.
  """

  values: Float[np.ndarray, " lag"]
  low: Float[np.ndarray, " lag"]
  high: Float[np.ndarray, " lag"]
  chance: Float[np.ndarray, " lag"]


class Transfer(NamedTuple):
  """Transfer entropy in bits per step, its mean over shifted sources, and the share of those that show as much."""

  bits: float
  chance: float
  p: float

  @property
  def effective(self) -> float:
    """Bits per step beyond chance (Marschinski and Kantz 2002); below 0 where there is less than by chance."""
    return self.bits - self.chance


class Synchrony(NamedTuple):
  """What two sequences of states have in common. A lag above 0 is one of the second device behind the first.

  Attributes:
    step_s: seconds per step.
    steps: at which both states are known, at lag 0.
    recordings: that were long enough to be shifted; the others are left out of everything.
    shuffles: shifted sequences that were compared.
    independent: about how many of all possible shifts are unrelated, added up over recordings: what they span, in units
      of the sequences' memory. With less than 20 of them p values below 0.05 come too often.
    lags_s: in seconds, ascending from `-lag_s` to `lag_s`.
    information: mutual information in bits, corrected for its bias.
    agreement: share of the steps with equal states.
    kappa: Cohen's kappa.
    normalized: mutual information at lag 0 as a share of the smaller entropy.
    p_information: share of the shifted sequences with as much mutual information at lag 0.
    peak_lag_s: lag with the most mutual information.
    p_peak: share of the shifted sequences with as much mutual information at any lag.
    highest_by_chance: 95 % of the shifted sequences have less mutual information at every lag.
    transfer_1_to_2: transfer entropy from the first to the second device.
    transfer_2_to_1: the other way.
    joint: steps with each pair of states at the peak lag.
    states: the states that the rows and columns of `joint` stand for.
  """

  step_s: float
  steps: int
  recordings: int
  shuffles: int
  independent: int
  lags_s: Float[np.ndarray, " lag"]
  information: Curve
  agreement: Curve
  kappa: Curve
  normalized: float
  p_information: float
  peak_lag_s: float
  p_peak: float
  highest_by_chance: float
  transfer_1_to_2: Transfer
  transfer_2_to_1: Transfer
  joint: Int[np.ndarray, "state state"]
  states: Int[np.ndarray, " state"]


def synchrony(
  first: Sequence[States],
  second: Sequence[States],
  *,
  rate_hz: float,
  lag_s: float,
  shuffles: int,
  rng: np.random.Generator,
  step_s: float = STEP_S,
) -> Synchrony:
  """Measures the states of two devices, recording by recording of the same length.

  Sequences are thinned to about one state per `step_s`: transfer entropy looks one step back, and at the rate of a
  sensor one step says nothing. Shifts are at least the furthest lag and the memory of the sequences, the lag at which
  both agree with themselves hardly more than by chance (kappa below 0.1); in recordings too short for that, a third
  of the recording.

  Args:
    first: states of the first device.
    second: states of the second device.
    rate_hz: of the states.
    lag_s: furthest lead or lag, at least one step.
    shuffles: number of shifted sequences; p values are at least `1 / (shuffles + 1)`.
    rng: source of randomness of the shifts.
    step_s: seconds per step.

  Raises:
    InputError: sequences that do not belong together, no state or too many, or no recording of three times the
      furthest lag.
  """
  if len(first) != len(second) or any(len(a) != len(b) for a, b in zip(first, second, strict=False)):
    raise InputError(
      f"two devices need states of the same steps, got lengths {[len(a) for a in first]} and {[len(b) for b in second]}"
    )
  every = max(round(step_s * rate_hz), 1)
  furthest = max(int(lag_s * rate_hz / every + 1e-6), 1)
  pairs = [(thinned(a, every), thinned(b, every)) for a, b in zip(first, second, strict=True)]
  pairs = [(a, b) for a, b in pairs if len(a) // 3 > furthest]
  if not pairs:
    raise InputError(
      f"no recording of two devices is {3 * (furthest + 1) * every / rate_hz:g} s long, three times the furthest lag "
      f"(config.evaluation.synchrony_lag_s={lag_s:g})"
    )
  names = np.unique(np.concatenate([part for pair in pairs for part in pair]))
  names = names[names >= 0]
  if not 0 < len(names) <= _MOST_STATES:
    raise InputError(f"the recordings of two devices have {len(names)} known states, expected 1 to {_MOST_STATES}")
  x, y = (np.concatenate(part) for part in zip(*pairs, strict=True))
  x, y = (np.where(part >= 0, np.searchsorted(names, part), -1) for part in (x, y))
  layout = _lay_out([len(a) for a, _ in pairs], gap=furthest)
  return _measure(x, y, layout, names, step_s=every / rate_hz, furthest=furthest, shuffles=shuffles, rng=rng)


def thinned(states: States, every: int) -> States:
  """The state in the middle of every `every` samples; what is left over at the end is dropped.

  >>> thinned(np.array([1, 1, 2, 3, 3, 3, 4]), 3).tolist()
  [1, 3]
  """
  return np.asarray(states)[: len(states) // every * every][every // 2 :: every]


def joint_counts(first: States, second: States, *, num_states: int) -> Int[np.ndarray, "state state"]:
  """How often each pair of states occurs at the same step.

  >>> joint_counts(np.array([0, 0, 1, -1]), np.array([1, 1, 0, 0]), num_states=2).tolist()
  [[0, 2], [1, 0]]
  """
  return lagged_counts(first, second, np.zeros(1, int), num_states=num_states)[0]


def lagged_counts(
  first: States, second: States, lags: Int[np.ndarray, " lag"], *, num_states: int
) -> Int[np.ndarray, "lag state state"]:
  """How often each state of the first sequence has each state of the second one `lag` steps later; lags of any sign."""
  size = num_states + 1
  row, column = (first + 1) * size, second + 1
  counts = np.empty((len(lags), size, size), np.int64)
  for i, lag in enumerate(lags):
    pairs = row[: len(row) - lag] + column[lag:] if lag >= 0 else row[-lag:] + column[:lag]
    counts[i] = np.bincount(pairs, minlength=size**2).reshape(size, size)
  return counts[:, 1:, 1:]


def entropy(counts: Int[np.ndarray, "*batch bin"], *, corrected: bool = True) -> Float[np.ndarray, "*batch"]:
  """Entropy in bits: `-sum p log2 p`, corrected by `(occupied bins - 1) / (2 n ln 2)` (Miller 1955).

  The correction is that of independent samples. Steps that follow each other are not independent: with them it takes
  away too little.
  """
  total = np.maximum(counts.sum(axis=-1), 1)
  nats = np.log(total) - xlogy(counts, counts).sum(axis=-1) / total
  if corrected:
    nats = nats + np.maximum(np.count_nonzero(counts, axis=-1) - 1, 0) / (2 * total)
  return nats / np.log(2)


def mutual_information(
  joint: Int[np.ndarray, "*batch state state"], *, corrected: bool = True
) -> Float[np.ndarray, "*batch"]:
  """`H(X) + H(Y) - H(X, Y)` in bits, each entropy corrected as of `entropy`; below 0 only by the correction."""
  parts = (joint.sum(axis=-1), joint.sum(axis=-2), joint.reshape(*joint.shape[:-2], -1))
  h_first, h_second, h_pair = (entropy(part, corrected=corrected) for part in parts)
  return h_first + h_second - h_pair


def normalized_information(joint: Int[np.ndarray, "state state"]) -> float:
  """Mutual information as a share of the smaller entropy, 0 to 1; 0 where a sequence never changes.

  1 says that the states of one sequence follow from those of the other.
  """
  least = min(float(entropy(joint.sum(axis=axis))) for axis in (0, 1))
  return float(np.clip(mutual_information(joint) / least, 0, 1)) if least > 0 else 0.0


def agreement(joint: Int[np.ndarray, "*batch state state"]) -> Float[np.ndarray, "*batch"]:
  """Share of equal states, 0 to 1."""
  return np.trace(joint, axis1=-2, axis2=-1) / np.maximum(joint.sum(axis=(-2, -1)), 1)


def cohen_kappa(joint: Int[np.ndarray, "*batch state state"]) -> Float[np.ndarray, "*batch"]:
  """`(agreement - chance) / (1 - chance)` (Cohen 1960), at most 1; 0 where both never leave one state.

  Chance is the agreement of independent sequences that have each state as often.
  """
  total = np.maximum(joint.sum(axis=(-2, -1)), 1).astype(float)
  chance = (joint.sum(axis=-1) * joint.sum(axis=-2)).sum(axis=-1) / total**2
  return np.where(chance < 1, (agreement(joint) - chance) / np.where(chance < 1, 1 - chance, 1), 0.0)


def transfer_counts(source: States, target: States, *, num_states: int) -> Int[np.ndarray, "next now source"]:
  """How often each next state of the target follows each state of the target and of the source."""
  size = num_states + 1
  triples = ((target[1:] + 1) * size + target[:-1] + 1) * size + source[:-1] + 1
  return np.bincount(triples, minlength=size**3).reshape(size, size, size)[1:, 1:, 1:]


def transfer_entropy(counts: Int[np.ndarray, "next now source"], *, corrected: bool = True) -> float:
  """What the source tells about the target's next state beyond the target's own state, in bits per step.

  `sum p(y', y, x) log2 p(y' | y, x) / p(y' | y)` (Schreiber 2000, equation 4, with histories of one step), as the sum
  of entropies `H(y', y) + H(y, x) - H(y) - H(y', y, x)`, each corrected as of `entropy`; below 0 only by that.
  """
  parts = (counts.sum(axis=2), counts.sum(axis=0), counts.sum(axis=(0, 2)), counts)
  h_next_now, h_now_source, h_now, h_all = (float(entropy(part.ravel(), corrected=corrected)) for part in parts)
  return h_next_now + h_now_source - h_now - h_all


def memory(states: States, recording: Int[np.ndarray, " step"], *, num_states: int, most: int) -> int:
  """The lag in steps, at least 1 and at most `most`, at which a sequence agrees with itself hardly more than by chance.

  Args:
    states: of all recordings, one after the other.
    recording: that each step belongs to.
    num_states: states are below.
    most: longest lag that is looked at.
  """
  for lag in range(1, most):
    same = recording[lag:] == recording[:-lag]
    joint = joint_counts(states[:-lag][same], states[lag:][same], num_states=num_states)
    if cohen_kappa(joint) < _MEMORY:
      return lag
  return max(most, 1)


class _Layout(NamedTuple):
  """Where the steps of all recordings lie, one after the other.

  Attributes:
    recording: of each step.
    offset: of each step in its recording.
    lengths: of the recordings.
    starts: of the recordings.
    places: of the steps in a sequence with gaps between the recordings.
    size: of that sequence.
  """

  recording: Int[np.ndarray, " step"]
  offset: Int[np.ndarray, " step"]
  lengths: Int[np.ndarray, " recording"]
  starts: Int[np.ndarray, " recording"]
  places: Int[np.ndarray, " step"]
  size: int

  def apart(self, states: States) -> Int[np.ndarray, " place"]:
    """With so many unknown steps between the recordings that no pair of steps lies in two."""
    found = np.full(self.size, -1, np.int64)
    found[self.places] = states
    return found

  def shifted(self, states: States, shift: Int[np.ndarray, " recording"]) -> States:
    """Every recording turned in time: what leaves at its end comes back at its beginning."""
    before = (self.offset - shift[self.recording]) % self.lengths[self.recording]
    return states[self.starts[self.recording] + before]


def _lay_out(lengths: Sequence[int], *, gap: int) -> _Layout:
  recording = np.repeat(np.arange(len(lengths)), lengths)
  starts = np.cumsum([0, *lengths[:-1]])
  steps = np.arange(sum(lengths))
  places = steps + gap * recording
  return _Layout(recording, steps - starts[recording], np.array(lengths), starts, places, int(places[-1]) + 1)


def _measure(
  x: States,
  y: States,
  layout: _Layout,
  names: Int[np.ndarray, " state"],
  *,
  step_s: float,
  furthest: int,
  shuffles: int,
  rng: np.random.Generator,
) -> Synchrony:
  lags, num_states = np.arange(-furthest, furthest + 1), len(names)
  longest = int(layout.lengths.max())
  remembered = max(memory(part, layout.recording, num_states=num_states, most=longest // 3) for part in (x, y))
  least = np.minimum(furthest + remembered, layout.lengths // 3)

  def measures(a: States, b: States) -> Float[np.ndarray, "measure lag"]:
    joint = lagged_counts(layout.apart(a), layout.apart(b), lags, num_states=num_states)
    return np.stack([mutual_information(joint), agreement(joint), cohen_kappa(joint)])

  def transfer(source: States, target: States) -> float:
    counts = transfer_counts(layout.apart(source), layout.apart(target), num_states=num_states)
    return transfer_entropy(counts)

  found, forward, backward = measures(x, y), transfer(x, y), transfer(y, x)
  by_chance, forwards, backwards = np.empty((shuffles, *found.shape)), np.empty(shuffles), np.empty(shuffles)
  for i in range(shuffles):
    shift = rng.integers(least, layout.lengths - least + 1)
    turned = layout.shifted(y, shift)
    by_chance[i] = measures(x, turned)
    forwards[i], backwards[i] = transfer(layout.shifted(x, shift), y), transfer(turned, x)
  low, high = np.quantile(by_chance, (0.025, 0.975), axis=0)
  curves = [Curve(*parts) for parts in zip(found, low, high, by_chance.mean(axis=0), strict=True)]
  peaks, peak = by_chance[:, 0].max(axis=-1), int(found[0].argmax())
  now, at_peak = lagged_counts(layout.apart(x), layout.apart(y), np.array([0, lags[peak]]), num_states=num_states)
  return Synchrony(
    step_s, int(now.sum()), len(layout.lengths), shuffles,
    int((layout.lengths - 2 * least + 1).sum() / remembered), lags * step_s, *curves,
    normalized=normalized_information(now),
    p_information=_p_value(found[0, furthest], by_chance[:, 0, furthest]),
    peak_lag_s=float(lags[peak] * step_s),
    p_peak=_p_value(found[0, peak], peaks),
    highest_by_chance=float(np.quantile(peaks, 0.95)),
    transfer_1_to_2=Transfer(forward, float(forwards.mean()), _p_value(forward, forwards)),
    transfer_2_to_1=Transfer(backward, float(backwards.mean()), _p_value(backward, backwards)),
    joint=at_peak,
    states=names,
  )  # fmt: skip


def _p_value(value: float, by_chance: Float[np.ndarray, " shuffle"]) -> float:
  """`(1 + as much by chance) / (1 + shuffles)` (Phipson and Smyth 2010): never 0."""
  return float((1 + np.count_nonzero(by_chance >= value - 1e-12)) / (1 + len(by_chance)))
