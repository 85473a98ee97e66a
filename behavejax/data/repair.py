"""Missing samples: six strategies, none of which touches its input or a finite value.

NaN and infinite samples are both missing.
"""

import numpy as np
from jaxtyping import Bool, Float

from behavejax.errors import InputError

STRATEGIES = ("zero", "mean", "median", "interpolate", "drop", "raise")

Signal = Float[np.ndarray, "time channel"]


def repair(
  signal: Signal, *, strategy: str, fill: Float[np.ndarray, " channel"], clip: float = 0.0, where: str = "recording"
) -> tuple[Signal, Bool[np.ndarray, " time"]]:
  """Fills what is missing.

  Args:
    signal: samples, NaN or Inf where missing.
    strategy: one of `STRATEGIES`; "drop" fills with `fill` and flags the samples, so that windows that
      touch them can be dropped.
    fill: value of each channel for "mean", "median" and "drop", and for "interpolate" where a channel
      has fewer than 2 finite samples (the mean or median over the data set).
    clip: finite values are first limited to `+-clip`; 0 leaves them alone.
    where: named in errors.

  Returns:
    A new array without missing samples, and a flag per sample that may be used.

  Raises:
    InputError: "raise" and something is missing, or no finite value exists to fill with.
  """
  missing = ~np.isfinite(signal)
  lost = missing.any(axis=1)
  repaired = np.where(missing, np.nan, signal).astype(np.float32)
  if clip:
    repaired = np.clip(repaired, -clip, clip)
  usable = np.ones(len(signal), bool)
  if not missing.any():
    return repaired, usable
  if strategy == "raise":
    raise InputError(
      f"{where}: {int(lost.sum())} of {len(lost)} samples are missing (NaN or Inf), the first at row "
      f"{int(np.argmax(lost))}; set config.data.nan_strategy to repair them"
    )
  if strategy == "zero":
    return np.where(missing, np.float32(0), repaired), usable
  if strategy == "interpolate":
    repaired = _interpolate(repaired)
  unfilled = np.isnan(repaired) & ~np.isfinite(fill)
  if unfilled.any():
    channel = int(np.argmax(unfilled.any(axis=0)))
    raise InputError(f"{where}: channel {channel} holds no finite value in the whole data set, nothing to fill it with")
  repaired = np.where(np.isnan(repaired), fill.astype(np.float32), repaired)
  return repaired, ~lost if strategy == "drop" else usable


def fill_values(signals: list[Signal], *, strategy: str, clip: float = 0.0) -> Float[np.ndarray, " channel"]:
  """Mean (or median, for that strategy) of each channel over clipped finite samples; NaN where there are none."""
  whole = np.concatenate(signals).astype(np.float64)
  whole[~np.isfinite(whole)] = np.nan
  if clip:
    whole = np.clip(whole, -clip, clip)
  fill = np.full(whole.shape[1], np.nan)
  some = np.isfinite(whole).any(axis=0)
  reduce = np.nanmedian if strategy == "median" else np.nanmean
  fill[some] = reduce(whole[:, some], axis=0)
  return fill


def _interpolate(signal: Signal) -> Signal:
  """Linear along time per channel; ends take the nearest finite value; channels with fewer than 2 stay as they are."""
  filled = signal.copy()
  rows = np.arange(len(signal))
  for channel in range(signal.shape[1]):
    finite = np.isfinite(signal[:, channel])
    if 2 <= finite.sum() < len(signal):
      filled[~finite, channel] = np.interp(rows[~finite], rows[finite], signal[finite, channel])
  return filled
