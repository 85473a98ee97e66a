"""Lost samples of a stream, filled as `behavejax.data.repair.repair` fills those of a whole recording.

Whatever the chunks, the values are the same, bit for bit: a gap that is interpolated is held back until its channel has
a value again.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from behavejax.errors import InputError
from behavejax.export.manifest import Repair

if TYPE_CHECKING:
  from jaxtyping import Bool, Float


class Repaired(NamedTuple):
  """Samples without gaps.

  Attributes:
    values: finite, float32.
    usable: false where a window must not be answered that holds the sample.
    seen: whether anything of the sample was measured.
  """

  values: Float[np.ndarray, "sample channel"]
  usable: Bool[np.ndarray, " sample"]
  seen: Bool[np.ndarray, " sample"]


class StreamRepair:
  """Fills gaps as samples come.

  Args:
    repair: strategy, clip and fill values.
    channels: of the samples.
    longest: a run of more lost samples of a channel makes them unusable, and what comes before and after it is filled
      as if they were two recordings; None fills every gap.
  """

  def __init__(self, repair: Repair, channels: int, longest: int | None):
    self._strategy, self._clip = repair.strategy, np.float32(repair.clip)
    self._fill = np.zeros(channels, np.float32) if repair.strategy == "zero" else np.array(repair.fill, np.float32)
    self._interpolate = repair.strategy == "interpolate"
    self._needed = 2 if self._interpolate else 1  # values that a channel must show before its gaps are filled
    self._longest = longest
    self._waits = self._interpolate or (longest is not None and repair.strategy != "drop")
    self._channels = channels
    self._reset()

  def _reset(self) -> None:
    shape = self._channels
    self._first = self._count = 0  # numbers of the first row that is held, and of the next one to come
    self._values = np.empty((256, shape), np.float32)
    self._usable, self._seen = np.empty(256, bool), np.empty(256, bool)
    self._open = np.full(shape, -1)  # row from which a channel waits for a value
    self._run = np.zeros(shape, np.int64)  # lost samples in a row, up to the last one
    self._known = np.zeros(shape, np.int64)  # values seen since the last long gap
    self._last_row = np.zeros(shape, np.int64)
    self._last = np.zeros(shape, np.float32)

  def feed(self, rows: Float[np.ndarray, "sample channel"], missing: Bool[np.ndarray, "sample channel"]) -> Repaired:
    """Takes samples and gives those, held ones first, of which nothing is open.

    Args:
      rows: samples, of any value where missing.
      missing: NaN or infinite.

    Raises:
      InputError: a lost sample where the model was trained with none.
    """
    some = missing.any()
    if some:
      rows = np.where(missing, np.float32(np.nan), rows)
    if self._clip:
      rows = np.clip(rows, -self._clip, self._clip)
    if not self._waits:
      return self._at_once(rows, missing, some)
    if not some and self._first == self._count:
      self._note(rows)
      whole = np.ones(len(rows), bool)
      return Repaired(rows, whole, whole)
    bounds = self._bounds(missing)
    for start, stop in itertools.pairwise(bounds):
      self._hold(rows[start:stop], missing[start:stop])
    return self._release(int(self._open[self._open >= 0].min(initial=self._count)))

  def flush(self) -> Repaired:
    """The rest, filled as at the end of a recording; the next sample begins a new one."""
    for channel in np.flatnonzero(self._open >= 0):
      ended = self._interpolate and self._known[channel] >= self._needed
      self._close(channel, self._last[channel] if ended else self._fill[channel])
    rest = self._release(self._count)
    self._reset()
    return rest

  def _at_once(self, rows: np.ndarray, missing: np.ndarray, some: bool) -> Repaired:
    before, whole = self._count, np.ones(len(rows), bool)
    self._first = self._count = before + len(rows)
    if not some:
      return Repaired(rows, whole, whole)
    lost = missing.any(axis=1)
    if self._strategy == "raise":
      raise InputError(
        f"sample {before + int(np.argmax(lost))} is lost (NaN or Inf), and the model was trained on data without lost "
        "samples (repair.strategy 'raise')"
      )
    return Repaired(np.where(missing, self._fill, rows), ~lost if self._strategy == "drop" else whole, ~missing.all(1))

  def _note(self, rows: np.ndarray) -> None:
    """Remembers what later gaps need of samples that are complete and were never held."""
    if len(rows):
      self._first = self._count = self._count + len(rows)
      self._known += len(rows)
      self._run[:] = 0
      self._last_row[:] = self._count - 1
      self._last[:] = rows[-1]

  def _bounds(self, missing: np.ndarray) -> list[int]:
    """Where a run of lost samples becomes too long, and where such a run ends; the chunk is taken in between."""
    count = len(missing)
    if not count:
      return [0]
    if self._longest is None:
      return [0, count]
    row = np.arange(count)[:, None]
    run = row - np.maximum.accumulate(np.maximum(np.where(missing, -1 - self._run, row), -1 - self._run), axis=0)
    long = np.concatenate([(self._run > self._longest)[None], run > self._longest])
    return [0, *(np.flatnonzero((long[1:] != long[:-1]).any(axis=1)[1:]) + 1).tolist(), count]

  def _hold(self, rows: np.ndarray, missing: np.ndarray) -> None:
    start, end = self._count - self._first, self._count - self._first + len(rows)
    self._reserve(end)
    self._values[start:end] = rows
    self._usable[start:end] = True
    np.any(~missing, axis=1, out=self._seen[start:end])
    before, self._count = self._count, self._count + len(rows)
    waiting = missing.any(axis=0) | (self._open >= 0)
    for channel in np.flatnonzero(waiting):
      self._take(channel, before, missing[:, channel])
    whole = ~waiting
    self._known[whole] += len(rows)
    self._run[whole] = 0
    self._last_row[whole] = self._count - 1
    self._last[whole] = rows[-1, whole]

  def _take(self, channel: int, before: int, missing: np.ndarray) -> None:
    """One channel's part of new rows: closes its gap if there is a value behind it, and opens one at the end."""
    values = self._values[: self._count - self._first, channel]
    finite = np.flatnonzero(~missing) + before
    if self._open[channel] < 0:
      self._open[channel] = before + int(np.argmax(missing))
    if len(finite):
      known, places = self._known[channel] + len(finite), finite
      points = values[finite - self._first]
      if self._known[channel]:
        places = np.concatenate([self._last_row[channel : channel + 1], places])
        points = np.concatenate([self._last[channel : channel + 1], points])
      if known >= self._needed:
        start = self._open[channel]
        gap = start + np.flatnonzero(np.isnan(values[start - self._first : finite[-1] - self._first]))
        values[gap - self._first] = np.interp(gap, places, points) if self._interpolate else self._fill[channel]
        self._open[channel] = finite[-1] + 1 if finite[-1] + 1 < self._count else -1
      self._known[channel], self._last_row[channel], self._last[channel] = known, finite[-1], points[-1]
      self._run[channel] = self._count - 1 - finite[-1]
    else:
      self._run[channel] += len(missing)
    if self._longest is not None and self._run[channel] > self._longest:
      self._close(channel, self._fill[channel])
      self._usable[max(self._count - self._first - self._run[channel], 0) : self._count - self._first] = False
      self._known[channel] = 0

  def _close(self, channel: int, value: np.float32) -> None:
    """Fills what a channel waits for with one value."""
    values = self._values[self._open[channel] - self._first : self._count - self._first, channel]
    values[np.isnan(values)] = value
    self._open[channel] = -1

  def _reserve(self, rows: int) -> None:
    capacity = len(self._values)
    while capacity < rows:
      capacity *= 2
    if capacity > len(self._values):
      for name in ("_values", "_usable", "_seen"):
        old = getattr(self, name)
        new = np.empty((capacity, *old.shape[1:]), old.dtype)
        new[: len(old)] = old
        setattr(self, name, new)

  def _release(self, until: int) -> Repaired:
    """Copies of the held rows before a row number; the rest moves up."""
    ready, held = until - self._first, self._count - self._first
    arrays = (self._values, self._usable, self._seen)
    given = Repaired(*(array[:ready].copy() for array in arrays))
    if ready:
      for array in arrays:
        array[: held - ready] = array[ready:held].copy()
      self._first = until
    return given
