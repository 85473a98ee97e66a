"""A recording: what a sensor wrote while one subject behaved, with its labels if there are any."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from behavejax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Recording:
  """One uninterrupted stream of samples at one rate.

  Attributes:
    signal: samples in the channels' units; NaN and Inf mark what was lost.
    rate_hz: samples per second.
    channels: one name per column of `signal`.
    units: one unit per channel: "g" or "m/s^2", "rad/s", "uT", or "" where unknown.
    labels: index into `classes` per sample, -1 where unlabelled.
    classes: names of the behaviours.
    subject: the animal or person.
    session: which of the subject's recordings.
    source: the file it came from, or how it was made.
    time_s: time stamps in seconds as the file gave them, or None where it gave none.
  """

  signal: Float[np.ndarray, "time channel"]
  rate_hz: float
  channels: tuple[str, ...]
  units: tuple[str, ...]
  labels: Int[np.ndarray, " time"]
  classes: tuple[str, ...]
  subject: str
  session: str = ""
  source: str = ""
  time_s: Float[np.ndarray, " time"] | None = None

  def __post_init__(self):
    where = self.source or f"recording {self.name}"
    if self.signal.ndim != 2 or self.signal.shape[1] != len(self.channels):
      raise InputError(f"{where}: signal of shape {self.signal.shape}, expected [time, {len(self.channels)} channels]")
    if self.signal.dtype != np.float32:
      raise InputError(f"{where}: signal must be float32, got {self.signal.dtype}")
    if len(self.units) != len(self.channels):
      raise InputError(f"{where}: {len(self.units)} units for {len(self.channels)} channels")
    if self.labels.shape != self.signal.shape[:1]:
      raise InputError(f"{where}: {self.labels.shape[0]} labels for {self.signal.shape[0]} samples")
    if self.labels.size and (self.labels.min() < -1 or self.labels.max() >= len(self.classes)):
      raise InputError(
        f"{where}: labels from {self.labels.min()} to {self.labels.max()}, but only {len(self.classes)} "
        "classes have a name (-1 marks an unlabelled sample)"
      )
    if not (np.isfinite(self.rate_hz) and self.rate_hz > 0):
      raise InputError(f"{where}: sampling rate must be above 0 Hz, got {self.rate_hz}")

  @property
  def name(self) -> str:
    """Subject and session, the name used in figures and tables."""
    return f"{self.subject}/{self.session}" if self.session else self.subject

  @property
  def duration_s(self) -> float:
    return self.signal.shape[0] / self.rate_hz


def check_alike(recordings: Sequence[Recording], *, rate: bool = True) -> None:
  """Raises `InputError` unless all recordings share channels, classes and (unless told otherwise) the rate."""
  if not recordings:
    raise InputError("no recordings found")
  first = recordings[0]
  for other in recordings[1:]:
    for what in ("channels", "classes", "rate_hz") if rate else ("channels", "classes"):
      if getattr(other, what) != getattr(first, what):
        hint = "; set config.data.rate_hz to resample all to one rate" if what == "rate_hz" else ""
        raise InputError(
          f"mixed {what}: {getattr(first, what)} in {first.source or first.name}, "
          f"{getattr(other, what)} in {other.source or other.name}{hint}"
        )
