"""Per-channel mean and standard deviation, fitted on the training split and applied everywhere."""

import os
import pathlib
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from behavejax.errors import InputError

_PART = 2**21  # numbers that are converted to float64 at once


class Normalization(NamedTuple):
  """`(signal - mean) / std`, channel by channel.

  Attributes:
    mean: in the channel's units.
    std: in the channel's units; 1 for a constant channel.
    channels: the channels' names, in order.
  """

  mean: Float[np.ndarray, " channel"]
  std: Float[np.ndarray, " channel"]
  channels: tuple[str, ...]

  def apply(self, signal: Float[np.ndarray, "*batch channel"]) -> Float[np.ndarray, "*batch channel"]:
    return ((signal - self.mean) / self.std).astype(np.float32, copy=False)

  def undo(self, signal: Float[np.ndarray, "*batch channel"]) -> Float[np.ndarray, "*batch channel"]:
    """Back to the channels' units."""
    return (signal * self.std + self.mean).astype(np.float32, copy=False)

  def save(self, path: pathlib.Path) -> None:
    """Writes an `.npz` under a temporary name, then renames it."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
      with temporary.open("wb") as file:
        np.savez(file, mean=self.mean, std=self.std, channels=np.array(self.channels))
      os.replace(temporary, path)
    finally:
      temporary.unlink(missing_ok=True)

  @classmethod
  def load(cls, path: pathlib.Path) -> "Normalization":
    """Reads what `save` wrote; `InputError` if the file is missing, damaged or something else."""
    try:
      with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        found = cls(arrays["mean"], arrays["std"], tuple(arrays["channels"].tolist()))
    except (OSError, EOFError, KeyError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
      raise InputError(f"{path} holds no normalization: {error}") from error
    count = (len(found.channels),)
    if found.mean.shape != count or found.std.shape != count:
      raise InputError(
        f"{path}: mean of shape {found.mean.shape} and std of shape {found.std.shape} for {count[0]} channels"
      )
    if not (np.isfinite(found.mean).all() and np.isfinite(found.std).all() and (found.std > 0).all()):
      raise InputError(f"{path}: every mean must be finite and every std above 0")
    return found


def fit_normalization(signal: Float[np.ndarray, "sample channel"], channels: tuple[str, ...]) -> Normalization:
  """Mean and std over finite samples, in float64; a channel that never changes keeps its scale."""
  finite = np.where(np.isfinite(signal), signal, np.nan).astype(np.float64)
  mean, std = np.nanmean(finite, axis=0), np.nanstd(finite, axis=0)
  return Normalization(mean.astype(np.float32), np.where(_is_constant(mean, std), 1, std).astype(np.float32), channels)


def fit_stored(
  steps: Shaped[np.ndarray, "step *space channel"], used: Int[np.ndarray, " used"], channels: tuple[str, ...]
) -> tuple[Normalization, tuple[str, ...]]:
  """The same over some steps of what may be stored as bytes and too large to convert at once.

  Returns:
    The normalization, and the names of channels that never change, whose scale is left alone.
  """
  size = max(_PART // max(steps[0].size, 1), 1)

  def total(value: Callable[[Float[np.ndarray, "pixel channel"]], np.ndarray]) -> Float[np.ndarray, " channel"]:
    parts = (steps[used[i : i + size]].reshape(-1, len(channels)) for i in range(0, len(used), size))
    return np.sum([value(part.astype(np.float64)).sum(axis=0) for part in parts], axis=0)

  count = len(used) * (steps[0].size // len(channels))
  mean = total(lambda part: part) / count
  std = np.sqrt(total(lambda part: (part - mean) ** 2) / count)
  flat = _is_constant(mean, std)
  constant = tuple(name for name, is_flat in zip(channels, flat, strict=True) if is_flat)
  return Normalization(mean.astype(np.float32), np.where(flat, 1, std).astype(np.float32), channels), constant


def constant_channels(signal: Float[np.ndarray, "sample channel"], channels: tuple[str, ...]) -> tuple[str, ...]:
  """Names of the channels that never change in `signal`, whose scale `fit_normalization` leaves alone."""
  mean, std = signal.mean(axis=0, dtype=np.float64), signal.std(axis=0, dtype=np.float64)
  return tuple(name for name, flat in zip(channels, _is_constant(mean, std), strict=True) if flat)


def _is_constant(mean: Float[np.ndarray, " channel"], std: Float[np.ndarray, " channel"]):
  return std < 1e-8 * np.maximum(np.abs(mean), 1)
