"""Features of whole recordings for segmentation: what happens in a short window around every step."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.decomposition import PCA

from behavejax.config import DataConfig, FeaturesConfig
from behavejax.data import sources
from behavejax.data.devices import split_devices
from behavejax.data.prepare import repair_recordings
from behavejax.data.recording import Recording, check_alike
from behavejax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Streams:
  """Features per step of each recording.

  Attributes:
    values: `[step, feature]` per recording; of codes, how often each occurs in a step, `[step, digit, level]`.
    starts: the sample at which each step begins, ascending from 0, per recording.
    recordings: as they were segmented: repaired, resampled.
    rate_hz: steps per second.
    overlap: how many neighbouring steps, or codes of a step, say much the same.
    explained: share of the variance of the window statistics that the features keep.
  """

  values: tuple[Float[np.ndarray, "step feature"] | Float[np.ndarray, "step digit level"], ...]
  starts: tuple[Int[np.ndarray, " step"], ...]
  recordings: tuple[Recording, ...]
  rate_hz: float
  overlap: float
  explained: float

  def to_samples(self, recording: int, per_step: Shaped[np.ndarray, "step ..."]) -> Shaped[np.ndarray, "time ..."]:
    """Values of the steps at every sample of a recording."""
    samples = np.arange(len(self.recordings[recording].signal))
    return per_step[np.searchsorted(self.starts[recording], samples, side="right") - 1]


def make_streams(data: DataConfig, features: FeaturesConfig, seed: int) -> Streams:
  """Loads the recordings of a config and computes their features.

  Raises:
    InputError: whatever is wrong with the data, in one line.
  """
  return streams_of(sources.load(data, seed), data, features)


def streams_of(raw: Sequence[Recording], data: DataConfig, features: FeaturesConfig) -> Streams:
  """The same for recordings that are at hand already; see `make_streams`.

  Window statistics are scaled to unit variance over all recordings and turned to their principal components, scaled
  to unit variance again; labels play no part.
  """
  check_alike(raw, rate=data.rate_hz == 0)
  repaired, _ = repair_recordings(raw, data)
  recordings = [part for recording in repaired for part in split_devices(recording, data.devices)]
  rate = recordings[0].rate_hz
  step, window = max(round(features.step_s * rate), 1), max(round(features.window_s * rate), 1)
  statistics = []
  for recording in recordings:
    if len(recording.signal) < 2 * step:
      raise InputError(
        f"recording {recording.name} ({recording.source}) has {len(recording.signal)} samples, too few for two "
        f"steps of config.segmentation.features.step_s={features.step_s:g}"
      )
    if features.statistics == "none":
      statistics.append(recording.signal[::step].astype(np.float64))
    else:
      statistics.append(window_statistics(recording.signal, window, step, log_spread=features.statistics == "log"))
  values, explained = whiten(statistics, features.components)
  overlap = 1.0 if features.statistics == "none" else max(window / step, 1.0)
  starts = tuple(np.maximum(np.arange(len(part)) * step - step // 2, 0) for part in values)
  return Streams(tuple(values), starts, tuple(recordings), rate / step, overlap, explained)


def window_statistics(
  signal: Float[np.ndarray, "time channel"], window: int, step: int, *, log_spread: bool
) -> Float[np.ndarray, "step statistic"]:
  """Mean and standard deviation of each channel in windows centred on every `step`-th sample.

  At the ends of a recording the window holds what is there.

  Args:
    signal: finite samples.
    window: samples.
    step: samples.
    log_spread: log of the standard deviation, where activities differ by orders of magnitude. A floor of 1 % of the
      channel's own spread keeps the noise of a sensor at rest from looking like behaviour.
  """
  centre = np.arange(0, len(signal), step)
  low, high = np.maximum(centre - window // 2, 0), np.minimum(centre - window // 2 + window, len(signal))
  middle = signal.mean(axis=0, dtype=np.float64)
  centred = signal - middle
  sums, squares = (
    np.concatenate([np.zeros((1, signal.shape[1])), np.cumsum(a, axis=0)]) for a in (centred, centred**2)
  )
  count = (high - low)[:, None]
  mean = (sums[high] - sums[low]) / count
  spread = np.sqrt(np.maximum((squares[high] - squares[low]) / count - mean**2, 0))
  if log_spread:
    spread = np.log(spread + 0.01 * np.maximum(centred.std(axis=0), 1e-6))
  return np.concatenate([mean + middle, spread], axis=1)


def whiten(
  statistics: Sequence[Float[np.ndarray, "step statistic"]], components: float,
  learn_from: Sequence[Float[np.ndarray, "step statistic"]] | None = None,
) -> tuple[list[Float[np.ndarray, "step feature"]], float]:  # fmt: skip
  """Principal components of unit variance over all recordings, and the share of the variance that they keep.

  Args:
    statistics: per recording.
    components: a number of them, or below 1 the share of the variance to keep; 0 only scales each statistic.
    learn_from: what variance is that of, if not of all.

  Raises:
    InputError: statistics that are constant everywhere, or more components than there are.
  """
  known = np.concatenate(statistics if learn_from is None else learn_from)
  spread = known.std(axis=0)
  varying = spread > 1e-9 * np.maximum(np.abs(known).max(axis=0), 1e-30)
  if not varying.any():
    raise InputError("the recordings are constant: there is nothing to segment")

  def scale(values: Float[np.ndarray, "step statistic"]) -> Float[np.ndarray, "step feature"]:
    return ((values - known.mean(axis=0)) / np.where(varying, spread, 1.0))[:, varying]

  scaled, explained = scale(np.concatenate(statistics)), 1.0
  if components:
    learned = scaled if learn_from is None else scale(known)
    most = min(learned.shape)
    if components > most:
      raise InputError(
        f"config.segmentation.features.components={components:g}, but there are only {most} window statistics"
      )
    pca = PCA(int(components) if components >= 1 else float(components), whiten=True, svd_solver="full").fit(learned)
    scaled, explained = pca.transform(scaled), float(pca.explained_variance_ratio_.sum())
  ends = np.cumsum([len(part) for part in statistics])[:-1]
  return [part.astype(np.float32) for part in np.split(scaled, ends)], explained
