"""From repaired samples to the input of the graph: normalised, kept for as long as a window needs them, amplified."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from behavejax.export.gaps import Repaired
from behavejax.export.manifest import Preprocess

if TYPE_CHECKING:
  from jaxtyping import Float

_SPARE = 1024  # rows


class Samples:
  """The latest normalised samples; rows are numbered from the beginning of the segment.

  Attributes:
    count: rows so far.
  """

  def __init__(self, preprocess: Preprocess):
    self._mean, self._std = (np.array(v, np.float32) for v in (preprocess.mean, preprocess.std))
    self._length = preprocess.window
    self._shape = (preprocess.rows, preprocess.window // preprocess.rows, len(preprocess.channels))
    capacity = 2 * preprocess.window + _SPARE
    self._rows = np.empty((capacity, len(preprocess.channels)), np.float32)
    self._unusable = np.empty(capacity, np.int64)  # the last such row up to this one, -1 before the first
    self._seen = np.empty(capacity, np.int64)
    self.clear()

  def clear(self) -> None:
    """Begins a new segment."""
    self.count = 0
    self._first = 0  # number of the row that stands first
    self._last_unusable = self._last_seen = -1

  def append(self, repaired: Repaired, start: int, *, keep: int) -> int:
    """Takes in rows of `repaired` from `start` on, as many as there is room for.

    Args:
      repaired: samples in the channels' units.
      start: of its rows.
      keep: rows from this number on are still needed.

    Returns:
      The number of rows taken, at least one of those there are.
    """
    rows = min(len(repaired.values) - start, _SPARE)
    here = self.count - self._first
    if here + rows > len(self._rows):
      here = self._move(keep)
    place, part = slice(here, here + rows), slice(start, start + rows)
    np.subtract(repaired.values[part], self._mean, out=self._rows[place])
    np.divide(self._rows[place], self._std, out=self._rows[place])
    self._last_unusable = self._mark(self._unusable[place], ~repaired.usable[part], self._last_unusable)
    self._last_seen = self._mark(self._seen[place], repaired.seen[part], self._last_seen)
    self.count += rows
    return rows

  def window(self, start: int) -> Float[np.ndarray, "row time channel"]:
    """A view of the window that begins at a row."""
    here = start - self._first
    return self._rows[here : here + self._length].reshape(self._shape)

  def tail(self, start: int) -> Float[np.ndarray, "row time channel"]:
    """The window that begins at a row and ends with copies of the last one."""
    rows = self._rows[start - self._first : self.count - self._first]
    return np.concatenate([rows, np.repeat(rows[-1:], self._length - len(rows), axis=0)]).reshape(self._shape)

  def usable(self, start: int, stop: int) -> bool:
    """Whether all rows from `start` up to `stop` may be used."""
    return bool(self._unusable[stop - 1 - self._first] < start)

  def seen(self, start: int, stop: int) -> bool:
    """Whether anything was measured in the rows from `start` up to `stop`."""
    return bool(self._seen[stop - 1 - self._first] >= start)

  def _mark(self, latest: np.ndarray, flags: np.ndarray, before: int) -> int:
    """Writes the number of the last flagged row up to each row; the one up to the last row."""
    if not flags.any():
      latest[:] = before
      return before
    latest[:] = np.arange(self.count, self.count + len(flags))
    if not flags.all():
      np.copyto(latest, before, where=~flags)
      np.maximum.accumulate(latest, out=latest)
    return int(latest[-1])

  def _move(self, keep: int) -> int:
    """Moves rows from `keep` on to the front; the place of the next one."""
    kept = max(self.count - keep, 0)
    here = self.count - self._first
    for array in (self._rows, self._unusable, self._seen):
      array[:kept] = array[here - kept : here].copy()
    self._first = self.count - kept
    return kept


class Assembler:
  """Makes the graph's input of a window: amplified copies, as `behavejax.nets.conv2d.amplify` appends them, and scale.

  The array is the same one every time.
  """

  def __init__(self, preprocess: Preprocess):
    rows, channels, copies = preprocess.rows, len(preprocess.channels), 1 + len(preprocess.gains)
    time = preprocess.window // rows
    self._input = np.empty((1, rows, time, copies * channels), np.float32)
    self._target = self._input.reshape(rows, time, copies, channels).transpose(2, 0, 1, 3)
    self._copies = np.empty((copies, rows, time, channels), np.float32)  # one after the other: faster than in between
    scale = np.array(preprocess.input_scale, np.float32).reshape(copies, 1, 1, channels)
    self._scale = np.ascontiguousarray(np.broadcast_to(scale, self._copies.shape))
    self._gains = np.array(preprocess.gains, np.float32)[:, None, None, None]
    self._mean = np.empty((rows, 1, channels), np.float32)
    self._centred = np.empty((rows, time, channels), np.float32)
    self._time, self._low, self._high = np.float32(time), np.float32(-3), np.float32(3)

  def __call__(self, window: Float[np.ndarray, "row time channel"]) -> Float[np.ndarray, "1 row time channel"]:
    self._copies[0] = window
    if len(self._gains):
      amplified = self._copies[1:]
      np.add.reduce(window, axis=1, keepdims=True, out=self._mean)
      np.divide(self._mean, self._time, out=self._mean)
      np.subtract(window, self._mean, out=self._centred)
      np.multiply(self._centred, self._gains, out=amplified)
      np.maximum(amplified, self._low, out=amplified)
      np.minimum(amplified, self._high, out=amplified)
    np.divide(self._copies, self._scale, out=self._copies)
    self._target[...] = self._copies
    return self._input
