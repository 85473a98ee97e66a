"""From a config to normalised windows: load, measure, resample, repair, split, normalise, cut."""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import Bool
from scipy import signal as signal_lib

from behavejax.config import DataConfig
from behavejax.data import repair as repair_lib
from behavejax.data import sources, splits
from behavejax.data.devices import check_devices, fit_shared_normalization
from behavejax.data.normalization import Normalization, constant_channels
from behavejax.data.quality import QualityReport, monitor
from behavejax.data.recording import Recording, check_alike
from behavejax.data.windows import Windows, contains, majority_labels, window_length, window_starts
from behavejax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Prepared:
  """What training and evaluation need of the data.

  Attributes:
    train: windows to learn from.
    val: windows to choose by.
    test: windows held out.
    normalization: fitted on the samples of the training split, pooled over devices.
    quality: of the raw recordings.
    split: one line on how the splits were made.
    warnings: what a reader of the results must know.
  """

  train: Windows
  val: Windows
  test: Windows
  normalization: Normalization
  quality: QualityReport
  split: str
  warnings: tuple[str, ...]


def prepare(config: DataConfig, seed: int) -> Prepared:
  """Loads and prepares the data of a config.

  Raises:
    InputError: whatever is wrong with the data, in one line.
  """
  raw = sources.load(config, seed)
  return prepare_recordings(raw, config, seed)


def prepare_recordings(raw: Sequence[Recording], config: DataConfig, seed: int) -> Prepared:
  """The same for recordings that are at hand already; see `prepare`."""
  check_alike(raw, rate=config.rate_hz == 0)
  check_devices(raw[0], config.devices)
  quality = monitor(raw, config.quality)
  _check_channels(quality)
  warnings = list(quality.findings)
  repaired, usable = repair_recordings(raw, config)
  rate = repaired[0].rate_hz
  length = window_length(config.window_s, rate, fold=config.fold)
  stride = max(round(config.stride_s * rate), 1)
  _check_length(repaired, length, config, warnings)
  spans = splits.split(
    config, [r.subject for r in repaired], [len(r.signal) for r in repaired], window=length, seed=seed
  )
  normalization = _fit(repaired, usable, spans["train"], config, warnings)
  parts = {
    name: _cut(repaired, usable, spans[name], normalization, config, length=length, stride=stride)
    for name in splits.NAMES
  }
  for name, windows in parts.items():
    if len(windows) == 0:
      wanted = (" with a label" if repaired[0].classes else "") + (
        " and without a lost sample (config.data.nan_strategy=drop)" if config.nan_strategy == "drop" else ""
      )
      raise InputError(
        f"the {name} split holds no window of {config.window_s:g} s{wanted}; see config.data.window_s, stride_s and "
        "the split"
      )
  warnings += _split_warnings(config, parts)
  return Prepared(
    **parts, normalization=normalization, quality=quality, split=_describe(config), warnings=tuple(warnings)
  )


def resample(recording: Recording, rate_hz: float) -> Recording:
  """Polyphase resampling of a finite signal; labels and time stamps are those of the nearest sample.

  Raises:
    InputError: a rate more than a thousand times below that of the recording.
  """
  ratio = Fraction(rate_hz / recording.rate_hz).limit_denominator(1000)
  if ratio == 0:
    raise InputError(
      f"config.data.rate_hz={rate_hz:g} is more than 1000 times below the {recording.rate_hz:g} Hz of recording "
      f"{recording.name}"
    )
  if ratio == 1 or len(recording.signal) < 2:
    return dataclasses.replace(recording, rate_hz=rate_hz)
  signal = signal_lib.resample_poly(recording.signal, ratio.numerator, ratio.denominator, axis=0, padtype="line")
  places = np.rint(np.arange(len(signal)) * (ratio.denominator / ratio.numerator)).astype(np.int64)
  nearest = np.minimum(places, len(recording.labels) - 1)
  return dataclasses.replace(
    recording,
    signal=signal.astype(np.float32),
    rate_hz=rate_hz,
    labels=recording.labels[nearest],
    time_s=None if recording.time_s is None else recording.time_s[nearest],
  )


def repair_recordings(
  raw: Sequence[Recording], config: DataConfig
) -> tuple[list[Recording], list[Bool[np.ndarray, " time"]]]:
  """Recordings without lost samples, at the configured rate, and which of their samples may be used."""
  fill = repair_lib.fill_values([recording.signal for recording in raw], strategy=config.nan_strategy, clip=config.clip)
  recordings, usable = [], []
  for recording in raw:
    signal, keep = repair_lib.repair(
      recording.signal, strategy=config.nan_strategy, fill=fill, clip=config.clip,
      where=recording.source or recording.name,
    )  # fmt: skip
    repaired = dataclasses.replace(recording, signal=signal)
    if config.rate_hz:
      repaired = resample(repaired, config.rate_hz)
      keep = _usable_after_resampling(keep, len(repaired.signal))
    recordings.append(repaired)
    usable.append(keep)
  return recordings, usable


def _usable_after_resampling(usable: Bool[np.ndarray, " before"], samples: int) -> Bool[np.ndarray, " after"]:
  """A new sample may be used if all old ones between its neighbours may: those weigh most in the filter."""
  if samples == len(usable):
    return usable
  ratio = len(usable) / max(samples, 1)
  centres = np.arange(samples) * ratio
  first = np.maximum(np.floor(centres - ratio), 0).astype(np.int64)
  last = np.minimum(np.ceil(centres + ratio), len(usable) - 1).astype(np.int64)
  lost = np.concatenate([[0], np.cumsum(~usable)])
  return lost[last + 1] == lost[first]


def _fit(
  recordings: Sequence[Recording],
  usable: Sequence[np.ndarray],
  spans: Sequence[splits.Span],
  config: DataConfig,
  warnings: list[str],
) -> Normalization:
  """Normalization from the usable samples of the training split; appends a warning per flat channel."""
  channels = recordings[0].channels
  own = len(channels) // config.devices
  parts = [recordings[s.recording].signal[s.start : s.stop][usable[s.recording][s.start : s.stop]] for s in spans]
  samples = np.concatenate(parts) if parts else recordings[0].signal[:0]
  if len(samples) == 0:
    raise InputError(
      f"the train split holds no usable sample; see config.data.split, the fractions and "
      f"config.data.nan_strategy={config.nan_strategy}"
    )
  warnings += [
    f"channel {name} is constant in the training split: its scale is left as it is"
    for name in constant_channels(samples.reshape(len(samples) * config.devices, -1), channels[:own])
  ]
  return fit_shared_normalization(samples, channels, devices=config.devices)


def _cut(
  recordings: Sequence[Recording],
  usable: Sequence[np.ndarray],
  spans: Sequence[splits.Span],
  normalization: Normalization,
  config: DataConfig,
  *,
  length: int,
  stride: int,
) -> Windows:
  """Windows of one split; unlabelled ones are left out where the data have labels at all."""
  classes = recordings[0].classes
  names = tuple(dict.fromkeys(recordings[s.recording].subject for s in spans))
  signals, columns, offset = [], [], 0
  for i, span in enumerate(spans):
    recording = recordings[span.recording]
    part = slice(span.start, span.stop)
    starts = window_starts(span.stop - span.start, length=length, stride=stride)
    labels = majority_labels(recording.labels[part], starts, length=length, classes=len(classes))
    keep = ~contains(~usable[span.recording][part], starts, length=length)
    if classes:
      keep &= labels >= 0
    who, which = np.full(len(starts), names.index(recording.subject)), np.full(len(starts), i)
    columns.append(np.stack([offset + starts, labels, who, which, span.start + starts])[:, keep])
    signals.append(normalization.apply(recording.signal[part]))
    offset += span.stop - span.start
  starts, labels, subject, which, first = np.concatenate(columns, axis=1) if columns else np.zeros((5, 0), np.int64)
  return Windows(
    signal=np.concatenate(signals) if signals else np.zeros((0, len(recordings[0].channels)), np.float32),
    starts=starts.astype(np.int64),
    labels=labels.astype(np.int32),
    subject=subject.astype(np.int32),
    recording=which.astype(np.int32),
    time_s=first / recordings[0].rate_hz,
    length=length,
    fold=config.fold,
    rate_hz=recordings[0].rate_hz,
    subjects=names,
    recordings=tuple(recordings[s.recording].name for s in spans),
    classes=classes,
    channels=recordings[0].channels,
    devices=config.devices,
    bounds=tuple(np.cumsum([0, *(s.stop - s.start for s in spans)]).tolist()),
  )


def _check_channels(quality: QualityReport) -> None:
  remedy = "leave it out with config.data.channels or mend the file"
  for channel in quality.channels:
    if channel.nan_count + channel.inf_count == quality.samples:
      raise InputError(f"channel {channel.name} holds no finite value, only NaN or Inf; {remedy}")
    if channel.min == channel.max:
      raise InputError(f"channel {channel.name} is constant at {channel.min:g} in the whole data set; {remedy}")


def _check_length(recordings: Sequence[Recording], length: int, config: DataConfig, warnings: list[str]) -> None:
  rate = recordings[0].rate_hz
  if length < 2:
    raise InputError(f"config.data.window_s={config.window_s:g} is {length} sample(s) at {rate:g} Hz; 2 are the least")
  for recording in recordings:
    if len(recording.signal) < 2:
      raise InputError(
        f"recording {recording.name} ({recording.source}) has {len(recording.signal)} sample(s), too few to be one"
      )
  longest = max(len(recording.signal) for recording in recordings)
  if longest < length:
    raise InputError(
      f"config.data.window_s={config.window_s:g} ({length} samples) is longer than every recording; "
      f"the longest has {longest} samples, {longest / rate:g} s"
    )
  short = sum(len(recording.signal) < length for recording in recordings)
  if short:
    warnings.append(f"{short} of {len(recordings)} recordings are shorter than a window and were left out")


def _split_warnings(config: DataConfig, parts: dict[str, Windows]) -> list[str]:
  found = []
  shared = set(parts["train"].subjects) & (set(parts["val"].subjects) | set(parts["test"].subjects))
  if shared:
    found.append(
      f"windows of {len(shared)} subject(s) lie on both sides of the split (config.data.split={config.split}): "
      "the scores say nothing about new subjects"
    )
  unseen = [
    name for i, name in enumerate(parts["test"].classes)
    if (parts["test"].labels == i).any() and not (parts["train"].labels == i).any()
  ]  # fmt: skip
  if unseen:
    found.append(f"class(es) {', '.join(unseen)} occur in the test split but not in training")
  return found


def _describe(config: DataConfig) -> str:
  if config.split == "temporal":
    return "in time within each recording, with a gap of one window"
  listed = [name for name in ("val", "test") if getattr(config, f"{name}_subjects")]
  if len(listed) == 1:
    return f"by subject, {listed[0]} as listed in the config, the rest drawn with the seed"
  return "by subject, " + ("as listed in the config" if listed else "drawn with the seed")
