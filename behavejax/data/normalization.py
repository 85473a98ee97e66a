"""Per-channel mean and standard deviation, fitted on the training split and applied everywhere."""

import os
import pathlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from behavejax.errors import InputError


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
    return ((signal - self.mean) / self.std).astype(np.float32)

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
    try:
      with np.load(path, allow_pickle=False) as arrays:
        return cls(arrays["mean"], arrays["std"], tuple(arrays["channels"].tolist()))
    except (OSError, KeyError, ValueError) as error:
      raise InputError(f"{path} holds no normalization: {error}") from error


def fit_normalization(signal: Float[np.ndarray, "sample channel"], channels: tuple[str, ...]) -> Normalization:
  """Mean and std over finite samples, in float64; a channel that never changes keeps its scale."""
  finite = np.where(np.isfinite(signal), signal, np.nan).astype(np.float64)
  mean, std = np.nanmean(finite, axis=0), np.nanstd(finite, axis=0)
  constant = std < 1e-8 * np.maximum(np.abs(mean), 1)
  return Normalization(mean.astype(np.float32), np.where(constant, 1, std).astype(np.float32), channels)
