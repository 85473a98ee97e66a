"""How well predicted spike counts are: bits per spike, correlation on single trials, explainable variance explained.

Everything is per neuron, in float64, under a mask, and NaN where it is not defined: a neuron without a spike has no
bits per spike. NaN are left out of means and counted, never taken as 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

_SAME = 2.0**-24
"""Relative rounding of float32: a reference this near to the mean count is the mean count."""

Counts = Float[np.ndarray, "*time neuron"]
Mask = Bool[np.ndarray, "*time neuron"]
PerNeuron = Float[np.ndarray, " neuron"]


class SpikeSums(NamedTuple):
  """What the scores of a neuron need; sums over any parts of the data add up (see `merge`).

  Attributes:
    reference: a rate per neuron, the same in all parts; the nearer to the mean rate, the less is lost in rounding.
    steps: masked steps.
    spikes: spikes in them.
    gain: `sum y log(r / reference) - (r - reference)`, the log likelihood gained over the reference, in nats.
    y: `sum (y - reference)`, and so on: moments about the reference.
  """

  reference: PerNeuron
  steps: PerNeuron
  spikes: PerNeuron
  gain: PerNeuron
  y: PerNeuron
  r: PerNeuron
  yy: PerNeuron
  rr: PerNeuron
  yr: PerNeuron


def mean_counts(spikes: Counts, mask: Mask) -> PerNeuron:
  """Spikes per masked step; NaN for a neuron without any such step."""
  spikes, mask = _two_axes(spikes), _two_axes(mask)
  with np.errstate(invalid="ignore"):
    return np.where(mask, spikes, 0).sum(0, dtype=np.float64) / mask.sum(0)


def spike_sums(rates: Counts, spikes: Counts, mask: Mask, reference: PerNeuron) -> SpikeSums:
  """Sums over the masked steps of one part of the data.

  Args:
    rates: expected counts, 0 or more; what stands where the mask is False does not matter.
    spikes: counts, likewise.
    mask: which steps are scored.
    reference: above 0, of each neuron, for instance its mean count; NaN where it has none.
  """
  mask = _two_axes(mask)
  reference = np.asarray(reference, np.float64)
  start = np.where(np.isfinite(reference) & (reference > 0), reference, 1.0)
  r = np.where(mask, _two_axes(rates), start).astype(np.float64)
  y = np.where(mask, _two_axes(spikes), 0).astype(np.float64)
  with np.errstate(divide="ignore"):  # a spike where none was expected costs all: -inf
    logs = np.log(r / start)
  gain = np.where(y > 0, y * np.where(y > 0, logs, 0), 0) - (r - start)
  about_y, about_r = np.where(mask, y - start, 0), r - start
  return SpikeSums(
    start, mask.sum(0, dtype=np.float64), y.sum(0), gain.sum(0), about_y.sum(0), about_r.sum(0),
    np.square(about_y).sum(0), np.square(about_r).sum(0), (about_y * about_r).sum(0),
  )  # fmt: skip


def merge(parts: Sequence[SpikeSums]) -> SpikeSums:
  """The sums over all parts, which share a reference.

  Raises:
    ValueError: they do not.
  """
  if any(not np.array_equal(part.reference, parts[0].reference) for part in parts):
    raise ValueError("sums about different references do not add up")
  return SpikeSums(parts[0].reference, *(np.sum(column, axis=0) for column in list(zip(*parts, strict=True))[1:]))


def bits_per_spike(sums: SpikeSums) -> PerNeuron:
  """`sum (y log r - r - y log rbar + rbar) / (N log 2)`, N spikes, rbar the mean count over the masked steps.

  A rate that is constantly rbar scores 0, exactly so if rbar was the sums' reference, be it in float32: a relative
  error `e` of rbar changes the score by `e^2 / (2 log 2)`, 3e-15 at most. NaN without a spike.
  """
  fired = np.where(sums.spikes > 0, sums.spikes, np.nan)
  mean = fired / np.maximum(sums.steps, 1)
  mean = np.where(np.abs(sums.reference / mean - 1) <= _SAME, sums.reference, mean)
  over_mean = fired * np.log(sums.reference / mean) - sums.steps * (sums.reference - mean)
  return (sums.gain + over_mean) / (fired * np.log(2))


def correlation(sums: SpikeSums) -> PerNeuron:
  """Pearson correlation of counts and rates over single steps of single trials; NaN where either is constant."""
  with np.errstate(divide="ignore", invalid="ignore"):
    covariance = sums.yr - sums.y * sums.r / sums.steps
    variances = [sums.yy - sums.y**2 / sums.steps, sums.rr - sums.r**2 / sums.steps]
    varies = [v > 1e-12 * np.maximum(s, 1e-300) for v, s in zip(variances, (sums.yy, sums.rr), strict=True)]
    return np.where(varies[0] & varies[1], covariance / np.sqrt(variances[0] * variances[1]), np.nan)


def score(rates: Counts, spikes: Counts, mask: Mask) -> SpikeSums:
  """Sums over data that are at hand as a whole; the reference is the mean count, in the precision of the rates."""
  reference = mean_counts(spikes, mask).astype(np.asarray(rates).dtype)
  return spike_sums(rates, spikes, mask, reference)


class Explained(NamedTuple):
  """Of the variance of a neuron's counts over repeats of the same videos.

  Attributes:
    fev: the share that the video can explain at all.
    feve: the share of this that a prediction explains; 1 is perfect, below 0 is worse than the mean.
  """

  fev: PerNeuron
  feve: PerNeuron


def explained_variance(
  rates: Counts, spikes: Counts, mask: Mask, stimulus: Int[np.ndarray, " *time"]
) -> Explained:  # fmt: skip
  """Fraction of explainable variance explained (Cadena et al. 2019, PLoS Comput Biol 15, e1006897).

  `FEVE = 1 - (mean (y - r)^2 - noise) / (Var y - noise)`, where `noise` is the variance over repeats of the same frame,
  unbiased, averaged over frames. What behaviour does differs between repeats and counts as noise here, so that a
  model that knows the behaviour can come above 1.

  Args:
    rates: expected counts.
    spikes: counts.
    mask: which steps are scored.
    stimulus: the same number for steps that show the same frame of the same video, -1 for those shown once. A frame
      counts for a neuron where two or more of its repeats are masked in.

  Returns:
    NaN where a neuron has no repeats, or no variance beyond the noise.
  """
  y, r, mask, stimulus = _two_axes(spikes), _two_axes(rates), _two_axes(mask), np.ravel(stimulus)
  shown, frame = np.unique(stimulus, return_inverse=True)
  usable = mask & (stimulus >= 0)[:, None]
  n = _by_frame(frame, usable, len(shown))
  usable &= (n >= 2)[frame]
  n = np.where(n >= 2, n, 0)
  y = np.where(usable, y, 0).astype(np.float64)
  squared_error = np.where(usable, np.square(y - np.where(usable, r, 0)), 0).sum(0)
  total = n.sum(0)
  with np.errstate(divide="ignore", invalid="ignore"):
    means = _by_frame(frame, y, len(shown)) / np.where(n > 0, n, np.nan)
    within = _by_frame(frame, np.where(usable, np.square(y - means[frame]), 0), len(shown))
    noise = np.where(n > 0, within / (n - 1), 0).sum(0) / (n > 0).sum(0)
    variance = np.where(usable, np.square(y - y.sum(0) / total), 0).sum(0) / total
    explainable = np.where(variance - noise > 1e-12, variance - noise, np.nan)
    feve = 1 - (squared_error / total - noise) / explainable
  return Explained(explainable / variance, feve)


def stimulus_numbers(
  trial: Int[np.ndarray, " time"], condition: Int[np.ndarray, " trial"]
) -> Int[np.ndarray, " time"]:  # fmt: skip
  """For `explained_variance`: a number for every frame of every repeated video, -1 for trials shown once."""
  starts = np.searchsorted(trial, np.arange(len(condition)))
  place = np.arange(len(trial)) - starts[trial]
  longest = int(place.max(initial=0)) + 1
  return np.where(condition[trial] >= 0, condition[trial] * longest + place, -1)


class Mean(NamedTuple):
  """Over neurons for which a score is defined.

  Attributes:
    value: NaN where it is defined for none.
    undefined: number of neurons left out.
  """

  value: float
  undefined: int


def mean_defined(values: PerNeuron) -> Mean:
  """Mean over the neurons that have a value (-inf is one), and how many have none."""
  undefined = np.isnan(values)
  kept = np.asarray(values, np.float64)[~undefined]
  return Mean(float(kept.mean()) if len(kept) else float("nan"), int(undefined.sum()))


def _two_axes(values: np.ndarray) -> np.ndarray:
  values = np.asarray(values)
  return values.reshape(-1, values.shape[-1])


def _by_frame(frame: Int[np.ndarray, " step"], values: np.ndarray, frames: int) -> Float[np.ndarray, "frame neuron"]:
  """Sums of the steps of each frame."""
  sums = np.zeros((frames, values.shape[1]))
  np.add.at(sums, frame, values)
  return sums
