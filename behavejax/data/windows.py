"""Windows over recordings: where they start, what they are labelled, and how a batch is gathered."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from behavejax.data.devices import devices_first


@dataclasses.dataclass(frozen=True)
class Windows:
  """Fixed-length views on concatenated recordings; nothing is copied per window.

  Attributes:
    signal: samples of all recordings, one after the other.
    starts: first sample of each window in `signal`.
    labels: majority label of each window, -1 where unlabelled samples prevail.
    subject: index into `subjects`.
    recording: index into `recordings`.
    time_s: start of the window within its recording, in seconds.
    length: samples per window.
    fold: whether a window is given as two halves, `[2, length // 2, channel]`, or as one row.
    channels: names of the columns of `signal`.
    devices: worn at once, each a row of the window and a share of the columns, the first device's first.
    bounds: row of `signal` at which each recording begins, and the end of the last.
  """

  signal: Float[np.ndarray, "sample channel"]
  starts: Int[np.ndarray, " window"]
  labels: Int[np.ndarray, " window"]
  subject: Int[np.ndarray, " window"]
  recording: Int[np.ndarray, " window"]
  time_s: Float[np.ndarray, " window"]
  length: int
  fold: bool
  rate_hz: float
  subjects: tuple[str, ...]
  recordings: tuple[str, ...]
  classes: tuple[str, ...]
  channels: tuple[str, ...]
  devices: int = 1
  bounds: tuple[int, ...] = ()

  def __len__(self) -> int:
    return len(self.starts)

  @property
  def shape(self) -> tuple[int, int, int]:
    """(height, time, channel) of one window."""
    if self.devices > 1:
      return self.devices, self.length, self.signal.shape[1] // self.devices
    rows = 2 if self.fold else 1
    return rows, self.length // rows, self.signal.shape[1]

  def gather(self, indices: Int[np.ndarray, " batch"]) -> Float[np.ndarray, "batch height time channel"]:
    """Windows of the given indices, by one take."""
    samples = self.starts[np.asarray(indices)][:, None] + np.arange(self.length)
    taken = np.take(self.signal, samples, axis=0)
    return devices_first(taken, self.devices) if self.devices > 1 else taken.reshape(len(samples), *self.shape)

  def subset(self, keep: Int[np.ndarray, " kept"] | Bool[np.ndarray, " window"]) -> "Windows":
    """The same recordings with some of the windows."""
    per_window = {name: getattr(self, name)[keep] for name in ("starts", "labels", "subject", "recording", "time_s")}
    return dataclasses.replace(self, **per_window)


def window_length(window_s: float, rate_hz: float, *, fold: bool) -> int:
  """Samples per window; an odd last sample is dropped when windows are folded."""
  length = round(window_s * rate_hz)
  return length - length % 2 if fold else length


def window_starts(samples: int, *, length: int, stride: int) -> Int[np.ndarray, " window"]:
  """Starts of all whole windows in a stream of `samples`."""
  return np.arange(0, max(samples - length + 1, 0), stride)


def majority_labels(
  labels: Int[np.ndarray, " sample"], starts: Int[np.ndarray, " window"], *, length: int, classes: int
) -> Int[np.ndarray, " window"]:
  """Most frequent label of each window, -1 where unlabelled ones are as many; ties go to the lower index."""
  if len(starts) == 0:
    return np.zeros(0, np.int32)
  best_count = np.zeros(len(starts), np.int64)
  best = np.full(len(starts), -1, np.int32)
  for label in range(-1, classes):  # a running count per class: memory of one class at a time
    cumulative = np.concatenate([[0], np.cumsum(labels == label)])
    count = cumulative[starts + length] - cumulative[starts]
    better = count > best_count
    best_count, best = np.where(better, count, best_count), np.where(better, label, best)
  return best.astype(np.int32)


def contains(flags: Bool[np.ndarray, " sample"], starts: Int[np.ndarray, " window"], *, length: int):
  """Whether any sample of each window is flagged."""
  cumulative = np.concatenate([[0], np.cumsum(flags)])
  return cumulative[starts + length] > cumulative[starts]
