"""Time-stamped samples on an even grid: what is late, doubled, lost, or belongs to another segment."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from behavejax.errors import InputError

if TYPE_CHECKING:
  from jaxtyping import Float

FAR_S = 3600.0
"""Time that goes forward by more than this is a new segment, whatever gaps are allowed."""
_BACK_S = 60.0  # time that goes back by more is no late sample, but a clock that was set
_PIECE = 4096  # samples placed at once
_HEAD = 65  # time stamps from which the rate is measured
_FEWEST = 9
_TOLERANCE = 0.05
_NOTED = 0.005  # a rate that is off by more is worth a line
_FEWEST_TO_NOTE = 400  # steps for it
_JUMP = 10.5  # samples; longer steps tell nothing about the rate


class Part(NamedTuple):
  """Rows of the grid, in order.

  Attributes:
    rows: samples, NaN where one was lost.
    begins: whether they are the first of a segment.
    place: of the segment's first row, counted in rows from the first sample of the recording.
    time_s: of the segment's first row.
  """

  rows: Float[np.ndarray, "row channel"]
  begins: bool
  place: int
  time_s: float


class RateMeter:
  """Tells by all time stamps of a recording whether the source has another rate than the model.

  Lost samples lower the plain mean, and stamps coarser than a sample mislead the mean of steps counted on the grid:
  only what both say counts.

  Args:
    rate_hz: of the model.
  """

  def __init__(self, rate_hz: float):
    self._rate = rate_hz
    self._last_s = np.zeros(0)
    self._steps, self._counted, self._seconds = 0, 0.0, 0.0

  def add(self, time_s: Float[np.ndarray, " sample"]) -> None:
    steps = np.diff(np.concatenate([self._last_s, time_s]))
    self._last_s = time_s[-1:] if len(time_s) else self._last_s
    steps = steps[np.abs(steps) * self._rate < _JUMP]
    self._steps += len(steps)
    self._counted += float(np.rint(steps * self._rate).sum())
    self._seconds += float(steps.sum())

  def other_hz(self) -> float | None:
    """The rate of the source where it is more than 0.5 % off the model's, None otherwise and after few samples."""
    if self._steps < _FEWEST_TO_NOTE or self._seconds <= 0:
      return None
    off = np.array([self._steps, self._counted]) / self._seconds / self._rate - 1
    if np.abs(off).min() <= _NOTED or off[0] * off[1] < 0:
      return None
    return float((1 + off[np.abs(off).argmin()]) * self._rate)


class Timeline:
  """Puts each sample at `round((time - first time) rate)` of its segment.

  A place stays open until `lateness_s` behind the newest sample. The first sample of a place wins; a second one is a
  duplicate, and one whose place is closed is late. Both are dropped and counted.

  Args:
    rate_hz: of the grid.
    lateness_s: how long to wait for a sample that others have overtaken.
    longest_s: a longer stretch without samples ends the segment; the grid begins anew behind it.

  Attributes:
    late: samples dropped since the beginning.
    duplicates: likewise.
  """

  def __init__(self, rate_hz: float, *, lateness_s: float, longest_s: float):
    self._rate = rate_hz
    self._open = int(lateness_s * rate_hz + 1e-9)
    self._far = min(longest_s, FAR_S) * rate_hz + 1e-9
    self._back_s = max(_BACK_S, lateness_s)
    self.late = self.duplicates = 0
    self._origin: float | None = None
    self._newest_s = -np.inf
    self._forget()

  def place(self, samples: Float[np.ndarray, "sample channel"], time_s: Float[np.ndarray, " sample"]) -> list[Part]:
    """Rows that no later sample can change; takes all samples or, where it raises, none.

    Raises:
      InputError: a time stamp that is not finite or more than a minute back, or another rate than the grid's.
    """
    if not np.isfinite(time_s).all():
      bad = int(np.argmin(np.isfinite(time_s)))
      raise InputError(f"time stamp {bad} of the chunk is {time_s[bad]}, expected seconds")
    newest_s = np.maximum.accumulate(np.concatenate([[self._newest_s], time_s]))
    back_s = (newest_s[1:] - time_s).max(initial=0)
    if back_s > self._back_s:
      raise InputError(
        f"time goes back by {back_s:g} s, more than the {self._back_s:g} s of a late sample: was the clock set? "
        "flush() begins a new recording"
      )
    self._check_rate(time_s)
    self._newest_s = newest_s[-1]
    parts: list[Part] = []
    for first in range(0, len(time_s), _PIECE):
      self._place(samples[first : first + _PIECE], time_s[first : first + _PIECE], parts)
    return parts

  def flush(self) -> Float[np.ndarray, "row channel"] | None:
    """What is still open, None where nothing was ever placed; the next sample begins a new recording."""
    head, self._head = self._head, None
    self._checked_head(head, _FEWEST)
    rows = None if self._origin is None else self._rows
    self._origin, self._newest_s = None, -np.inf
    self._forget()
    return rows

  def _forget(self) -> None:
    """Before the first sample of a segment."""
    self._start: float | None = None
    self._newest, self._handed = -1, 0
    self._rows, self._taken = np.zeros((0, 0), np.float32), np.zeros(0, bool)
    if self._origin is None:
      self._head: np.ndarray | None = np.zeros(0)

  def _place(self, samples: np.ndarray, time_s: np.ndarray, parts: list[Part]) -> None:
    while len(time_s):
      begins = self._start is None
      if begins:
        self._start = float(time_s[0])
        self._origin = self._start if self._origin is None else self._origin
        self._rows = np.zeros((0, samples.shape[1]), np.float32)
      places = np.rint((time_s - self._start) * self._rate)
      before = np.maximum.accumulate(np.concatenate([[self._newest], places]))[:-1]
      far = np.flatnonzero(places - before - 1 > self._far)
      stop = int(far[0]) if len(far) else len(places)
      place = round((self._start - self._origin) * self._rate)
      if stop:
        rows = self._sorted(samples[:stop], places[:stop], before[:stop])
        parts.append(Part(rows, begins, place, self._start))
      if len(far):
        parts.append(Part(self._rows, False, place, self._start))
        self._forget()
      samples, time_s = samples[stop:], time_s[stop:]

  def _sorted(self, samples: np.ndarray, places: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Takes samples into the grid and gives the rows that are closed or taken throughout."""
    count, following = len(places), self._newest + 1
    in_order = places[0] == following and places[-1] == following + count - 1
    if in_order and self._handed == following and (count == 1 or (np.diff(places) == 1).all()):
      self._newest += count
      self._handed += count
      return samples
    late = (places < before - self._open) | (places < 0)
    kept = np.flatnonzero(~late)
    targets, first = np.unique(places[kept].astype(np.int64), return_index=True)
    self._newest = max(self._newest, int(targets.max(initial=-1)))
    missing = self._newest + 1 - self._handed - len(self._rows)
    self._rows = np.concatenate([self._rows, np.full((missing, samples.shape[1]), np.nan, np.float32)])
    self._taken = np.concatenate([self._taken, np.zeros(missing, bool)])
    inside = targets >= self._handed
    targets, first = targets[inside] - self._handed, first[inside]
    free = ~self._taken[targets]
    self._rows[targets[free]] = samples[kept[first[free]]]
    self._taken[targets[free]] = True
    self.late += int(late.sum())
    self.duplicates += len(kept) - int(free.sum())
    return self._closed()

  def _closed(self) -> np.ndarray:
    open_from = max(self._newest - self._open - self._handed, 0)
    waiting = np.flatnonzero(~self._taken[open_from:])
    ready = open_from + int(waiting[0]) if len(waiting) else len(self._rows)
    rows = self._rows[:ready]
    self._rows, self._taken = self._rows[ready:], self._taken[ready:]
    self._handed += ready
    return rows

  def _check_rate(self, time_s: np.ndarray) -> None:
    if self._head is not None:
      head = np.concatenate([self._head, time_s[: _HEAD - len(self._head)]])
      self._head = self._checked_head(head, _HEAD)

  def _checked_head(self, head: np.ndarray | None, fewest: int) -> np.ndarray | None:
    """Refuses another rate than the grid's; the mean step is right where stamps are coarse, the median with losses."""
    if head is None or len(head) < fewest:
      return head
    steps = np.diff(np.sort(head))
    steps = steps[steps > 0]
    rates = [1 / np.median(steps), 1 / steps.mean()] if len(steps) else [np.inf]
    if all(abs(rate / self._rate - 1) > _TOLERANCE for rate in rates):
      raise InputError(
        f"the time stamps tell a rate of {rates[0]:.4g} Hz (in seconds?), the model was made for {self._rate:g} Hz"
      )
    return None
