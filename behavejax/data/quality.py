"""Quality monitor of recordings, and the thresholds that turn its numbers into findings."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from behavejax.config import QualityConfig
from behavejax.data.recording import Recording
from behavejax.errors import InputError

_SATURATED_RUN = 3  # samples at an extreme in a row


@dataclasses.dataclass(frozen=True)
class ChannelQuality:
  """One channel over all recordings.

  Attributes:
    nan_percent: share of NaN samples.
    inf_percent: share of infinite samples.
    flat_share: share of samples equal to the one before.
    saturated_share: share of samples in runs of three or more at the channel's minimum or maximum.
    longest_gap_s: longest run of missing samples.
    score: 0 to 100, `100 - min(NaN %, 50) - min(Inf %, 30) - 20 if std < 0.01`.
    strategy: recommended repair, "none" where nothing needs correction.
  """

  name: str
  unit: str
  nan_count: int
  inf_count: int
  nan_percent: float
  inf_percent: float
  mean: float
  std: float
  min: float
  max: float
  flat_share: float
  saturated_share: float
  longest_gap_s: float
  score: float
  strategy: str


@dataclasses.dataclass(frozen=True)
class QualityReport:
  """A data set and its channels.

  Attributes:
    recordings: number of recordings.
    subjects: names.
    samples: over all recordings.
    hours: likewise.
    rate_hz: of the first recording.
    dtype: of the samples.
    score: 0 to 100, as for a channel, from the share of NaN and Inf over all channels and the flattest channel's std.
    channels: one entry per channel.
    duplicated_timestamps: time stamps equal to the one before.
    backward_timestamps: time stamps earlier than the one before.
    labelled_share: share of samples with a label.
    label_seconds: seconds per class.
    findings: what is wrong, one line each.
  """

  recordings: int
  subjects: tuple[str, ...]
  samples: int
  hours: float
  rate_hz: float
  dtype: str
  score: float
  channels: tuple[ChannelQuality, ...]
  duplicated_timestamps: int
  backward_timestamps: int
  labelled_share: float
  label_seconds: dict[str, float]
  findings: tuple[str, ...]

  def to_json(self) -> dict[str, Any]:
    return dataclasses.asdict(self)


def monitor(recordings: Sequence[Recording], thresholds: QualityConfig) -> QualityReport:
  """Measures raw recordings, before any repair.

  Raises:
    InputError: `thresholds.strict` and something exceeds a threshold; every failure is listed.
  """
  first = recordings[0]
  channels = tuple(_channel(recordings, i, name, unit) for i, (name, unit) in enumerate(
    zip(first.channels, first.units, strict=True)
  ))  # fmt: skip
  samples = sum(len(recording.signal) for recording in recordings)
  steps = [np.diff(recording.time_s) for recording in recordings if recording.time_s is not None]
  labels = np.concatenate([recording.labels for recording in recordings])
  seconds = {
    name: sum(float((recording.labels == i).sum()) / recording.rate_hz for recording in recordings)
    for i, name in enumerate(first.classes)
  }
  findings = failures(channels, thresholds)
  if findings and thresholds.strict:
    raise InputError(f"quality below config.data.quality: {'; '.join(findings)}")
  return QualityReport(
    recordings=len(recordings),
    subjects=tuple(dict.fromkeys(recording.subject for recording in recordings)),
    samples=samples,
    hours=sum(recording.duration_s for recording in recordings) / 3600,
    rate_hz=first.rate_hz,
    dtype=str(first.signal.dtype),
    score=score(
      float(np.mean([channel.nan_percent for channel in channels])),
      float(np.mean([channel.inf_percent for channel in channels])),
      min(channel.std for channel in channels),
    ),
    channels=channels,
    duplicated_timestamps=sum(int((step == 0).sum()) for step in steps),
    backward_timestamps=sum(int((step < 0).sum()) for step in steps),
    labelled_share=float((labels >= 0).mean()) if len(labels) else 0.0,
    label_seconds=seconds,
    findings=tuple(findings),
  )


def failures(channels: Sequence[ChannelQuality], thresholds: QualityConfig) -> list[str]:
  """Every threshold that is exceeded, with the value and the limit."""
  found = []
  if thresholds.channels and len(channels) != thresholds.channels:
    found.append(f"{len(channels)} channels, expected {thresholds.channels}")
  for channel in channels:
    for value, limit, what in (
      (channel.nan_percent, thresholds.max_nan_percent, "NaN"),
      (channel.inf_percent, thresholds.max_inf_percent, "Inf"),
    ):
      if value > limit:
        found.append(f"{channel.name} {value:.1f} % {what} (limit {limit:g} %, strategy {channel.strategy})")
    if not thresholds.min_std <= channel.std <= thresholds.max_std:
      found.append(f"{channel.name} std {channel.std:.3g} outside [{thresholds.min_std:g}, {thresholds.max_std:g}]")
  return found


def score(nan_percent: float, inf_percent: float, std: float) -> float:
  """0 to 100; a flat line loses 20, missing samples up to 80.

  >>> score(0.0, 0.0, 1.0), score(0.0, 0.0, 0.0), score(60.0, 40.0, 0.0)
  (100.0, 80.0, 0.0)
  """
  return 100.0 - min(nan_percent, 50.0) - min(inf_percent, 30.0) - (20.0 if not std >= 0.01 else 0.0)


def recommended_strategy(nan_percent: float, inf_percent: float) -> str:
  """Repair for a share of missing samples: none up to 5 % NaN and 1 % Inf, then mean, interpolate, drop.

  >>> [recommended_strategy(p, 0.0) for p in (5, 8, 15, 25)]
  ['none', 'mean', 'interpolate', 'drop']
  """
  if nan_percent > 20:
    return "drop"
  if nan_percent > 10:
    return "interpolate"
  return "mean" if nan_percent > 5 or inf_percent > 1 else "none"


def runs(flags: Bool[np.ndarray, " time"]) -> np.ndarray:
  """Starts and lengths of the runs of True, `[run, 2]`.

  >>> runs(np.array([True, False, True, True])).tolist()
  [[0, 1], [2, 2]]
  """
  edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(flags, np.int8), [0]])))
  return np.stack([edges[::2], edges[1::2] - edges[::2]], axis=-1)


def _channel(recordings: Sequence[Recording], index: int, name: str, unit: str) -> ChannelQuality:
  columns = [recording.signal[:, index] for recording in recordings]
  values = np.concatenate(columns).astype(np.float64)
  finite = values[np.isfinite(values)]
  low, high = (finite.min(), finite.max()) if len(finite) else (np.nan, np.nan)
  nan_count, inf_count = int(np.isnan(values).sum()), int(np.isinf(values).sum())
  total = max(len(values), 1)
  nan_percent, inf_percent = 100 * nan_count / total, 100 * inf_count / total
  std = float(finite.std()) if len(finite) else 0.0
  gaps = [_longest(~np.isfinite(c)) / r.rate_hz for c, r in zip(columns, recordings, strict=True)]
  saturated = sum(_in_long_runs(c == low) + (_in_long_runs(c == high) if high > low else 0) for c in columns)
  return ChannelQuality(
    name=name,
    unit=unit,
    nan_count=nan_count,
    inf_count=inf_count,
    nan_percent=nan_percent,
    inf_percent=inf_percent,
    mean=float(finite.mean()) if len(finite) else float("nan"),
    std=std,
    min=float(low),
    max=float(high),
    flat_share=sum(int((c[1:] == c[:-1]).sum()) for c in columns) / total,
    saturated_share=saturated / total,
    longest_gap_s=max(gaps, default=0.0),
    score=score(nan_percent, inf_percent, std),
    strategy=recommended_strategy(nan_percent, inf_percent),
  )


def _longest(flags: Bool[np.ndarray, " time"]) -> int:
  found = runs(flags)
  return int(found[:, 1].max()) if len(found) else 0


def _in_long_runs(flags: Bool[np.ndarray, " time"]) -> int:
  lengths: Float[np.ndarray, " run"] = runs(flags)[:, 1]
  return int(lengths[lengths >= _SATURATED_RUN].sum())
