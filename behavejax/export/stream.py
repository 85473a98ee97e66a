"""A recording in a CSV file, streamed through an exported model as a device would, with the answers as CSV files."""

from __future__ import annotations

import contextlib
import csv
import difflib
import itertools
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from behavejax.errors import InputError
from behavejax.export.manifest import Preprocess
from behavejax.export.runtime import Answer, Runtime, Statistics
from behavejax.export.timeline import RateMeter
from behavejax.export.timing import Latency

if TYPE_CHECKING:
  from jaxtyping import Float

_MISSING = ("", "na", "n/a", "#n/a", "<na>", "null", "none")
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_PROGRESS_S = 5.0
_COLUMNS = {
  "windows.csv": ("start_s", "label", "probability", "codes"),
  "ethogram.csv": ("start_s", "end_s", "label"),
  "syllables.csv": ("start_s", "state", "probability", "remaining_s", "lasted_s"),
}


class Chunk(NamedTuple):
  """Consecutive rows of a file: samples, and time stamps in seconds where it has some."""

  samples: Float[np.ndarray, "sample channel"]
  time_s: Float[np.ndarray, " sample"] | None


class Bout(NamedTuple):
  """A stretch of one label."""

  start_s: float
  end_s: float
  label: str


class Summary(NamedTuple):
  """What came of a recording.

  Attributes:
    shares: of the windows, by label.
    statistics: of the samples.
    latency: of the windows.
    findings: what a reader of the answers must know.
    wall_s: how long it took.
  """

  shares: dict[str, float]
  statistics: Statistics
  latency: Latency
  findings: tuple[str, ...]
  wall_s: float


def stream_file(
  runtime: Runtime,
  path: str | os.PathLike,
  out: str | os.PathLike,
  *,
  chunk: int = 50,
  time_column: str = "",
  time_unit: str = "s",
  realtime: bool = False,
  progress: Callable[[str], None] = lambda line: None,
) -> Summary:
  """Streams a CSV file and writes `windows.csv`, with labels `ethogram.csv`, and with an HSMM `syllables.csv`.

  Args:
    runtime: fresh, of the package.
    path: of a CSV file with a header; columns are found by the names of the model's channels.
    out: folder for the answers; files appear in it once all are complete, in place of all of an earlier run.
    chunk: samples fed at once.
    time_column: name of the time stamps; "" trusts that no sample is missing.
    time_unit: of the time stamps: s, ms or us.
    realtime: wait as long as the samples took.
    progress: called with a line every few seconds.

  Raises:
    InputError: anything wrong with the file, or with it for this model.
  """
  out, begin = pathlib.Path(out), time.monotonic()
  chunks = read_chunks(path, runtime.preprocess.channels, chunk=chunk, time_column=time_column, time_unit=time_unit)
  first = next(chunks)
  counts, reported = dict.fromkeys(runtime.preprocess.labels, 0), begin
  rate_hz, rate = runtime.preprocess.rate_hz, RateMeter(runtime.preprocess.rate_hz)
  ethogram = Ethogram(runtime.preprocess.window / rate_hz, sample_s=1 / rate_hz)
  wanted = {"windows.csv": True, "ethogram.csv": bool(counts), "syllables.csv": runtime.has_syllables}
  with _tables(out, [name for name in _COLUMNS if wanted[name]]) as tables:
    for part in _paced(itertools.chain([first], chunks), rate_hz if realtime else math.inf):
      if part.time_s is not None:
        rate.add(part.time_s)
      _write(runtime.feed(*part), tables, ethogram, counts)
      if time.monotonic() > reported + _PROGRESS_S:
        reported = time.monotonic()
        progress(f"{runtime.statistics.samples:,} samples, {runtime.statistics.windows:,} windows")
    _write(runtime.flush(), tables, ethogram, counts)
    if counts:
      tables["ethogram.csv"](map(_bout_row, ethogram.end()))
  statistics, total = runtime.statistics, max(sum(counts.values()), 1)
  shares = {name: count / total for name, count in counts.items()}
  findings = tuple(_findings(runtime.preprocess, statistics, rate.other_hz()))
  return Summary(shares, statistics, runtime.latency(), findings, time.monotonic() - begin)


def describe(summary: Summary, rate_hz: float) -> str:
  """A few lines for a terminal."""
  found, latency = summary.statistics, summary.latency
  lines = [
    f"{found.rows:,} samples ({found.rows / rate_hz:,.1f} s) in {summary.wall_s:.1f} s: {found.windows:,} windows",
    *(f"  {name:<20} {share:6.1%}" for name, share in summary.shares.items()),
    f"lost samples: {found.lost:,} ({found.lost / max(found.rows, 1):.2%}); late {found.late:,}, duplicates "
    f"{found.duplicates:,}, windows left out {found.skipped:,}, segments {found.segments:,} "
    f"with {found.interrupted / rate_hz:,.1f} s between them",
    f"latency per window: model {latency.model.p50_ms:.3f} ms (p99 {latency.model.p99_ms:.3f}), whole step "
    f"{latency.step.p50_ms:.3f} ms (p99 {latency.step.p99_ms:.3f})",
  ]
  return "\n".join([*lines, *(f"note: {line}" for line in summary.findings)])


def read_chunks(
  path: str | os.PathLike, channels: Sequence[str], *, chunk: int, time_column: str = "", time_unit: str = "s"
) -> Iterator[Chunk]:
  """The rows of a CSV file, `chunk` at a time; blank cells, NA and the like are lost samples.

  Raises:
    InputError: no such file or column, a cell that is no number, a row without a time stamp, or no row at all.
  """
  if chunk < 1:
    raise InputError(f"--chunk={chunk}, expected 1 or more samples")
  if time_unit not in _UNITS:
    raise InputError(f"--time_unit={time_unit}, expected one of {', '.join(_UNITS)}")
  try:
    with open(path, newline="", encoding="utf-8-sig") as file:
      rows = filter(None, csv.reader(file))  # without blank lines
      header = [name.strip() for name in next(rows, [])]
      columns = [_column(path, header, name) for name in (*channels, *([time_column] if time_column else []))]
      count = 0
      while block := list(itertools.islice(rows, chunk)):
        values = _numbers(path, block, columns, header, count)
        times = values[:, -1] * _UNITS[time_unit] if time_column else None
        if times is not None and not np.isfinite(times).all():
          raise InputError(f"{path}: row {count + 2 + int(np.argmin(np.isfinite(times)))} has no time stamp")
        count += len(block)
        with np.errstate(over="ignore"):
          yield Chunk(values[:, : len(channels)].astype(np.float32), times)
      if not count:
        raise InputError(f"{path} holds no rows")
  except OSError as error:
    raise InputError(f"{path} cannot be read: {error.strerror}") from error
  except (UnicodeDecodeError, csv.Error) as error:
    raise InputError(f"{path} is no CSV file: {error}") from error


class Ethogram:
  """Merges overlapping windows to bouts: a label begins halfway between the middles of two windows.

  Args:
    window_s: length of a window, in seconds.
    sample_s: of a sample; windows with half of one between them still touch.
  """

  def __init__(self, window_s: float, sample_s: float = 0.0):
    self._window_s, self._tolerance_s = window_s, sample_s / 2
    self._start_s = self._last_s = math.nan
    self._label: str | None = None

  def add(self, start_s: float, label: str) -> list[Bout]:
    """Takes in the next window and gives the bout that it ends, if any."""
    ended: list[Bout] = []
    if self._label is None:
      self._start_s = start_s
    elif start_s > self._last_s + self._window_s + self._tolerance_s:  # something in between
      ended, self._start_s = self.end(), start_s
    elif label != self._label:
      change_s = (self._last_s + start_s + self._window_s) / 2
      ended, self._start_s = [Bout(self._start_s, change_s, self._label)], change_s
    self._last_s, self._label = start_s, label
    return ended

  def end(self) -> list[Bout]:
    """The bout that goes on, which ends with its last window."""
    if self._label is None:
      return []
    bout, self._label = Bout(self._start_s, self._last_s + self._window_s, self._label), None
    return [bout]


def _column(path: str | os.PathLike, header: list[str], name: str) -> int:
  if header.count(name) == 1:
    return header.index(name)
  if header.count(name) > 1:
    raise InputError(f"{path} has {header.count(name)} columns {name!r}")
  near = difflib.get_close_matches(name, header, n=1)
  hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(header) or 'none'}"
  raise InputError(f"{path} has no column {name!r}{hint}")


def _numbers(
  path: str | os.PathLike, rows: list[list[str]], columns: list[int], header: list[str], before: int
) -> Float[np.ndarray, "sample column"]:
  try:
    return np.array([[float(row[i]) for i in columns] for row in rows])
  except (ValueError, IndexError):  # a cell to look at
    return np.array([[_number(path, row, i, header, before + 2 + n) for i in columns] for n, row in enumerate(rows)])


def _number(path: str | os.PathLike, row: list[str], column: int, header: list[str], line: int) -> float:
  if column >= len(row):
    raise InputError(f"{path}: row {line} has {len(row)} cells, expected {len(header)}")
  cell = row[column].strip()
  try:
    return math.nan if cell.lower() in _MISSING else float(cell)
  except ValueError as error:
    raise InputError(f"{path}: column {header[column]!r}, row {line}: {cell!r} is not a number") from error


def _paced(chunks: Iterator[Chunk], rate_hz: float) -> Iterator[Chunk]:
  """The chunks, each as soon as its last sample would have been measured."""
  begin, count, origin = time.monotonic(), 0, None
  for part in chunks:
    if math.isfinite(rate_hz):
      count += len(part.samples)
      if part.time_s is not None and origin is None:
        origin = part.time_s[0]
      due = count / rate_hz if origin is None else part.time_s[-1] - origin
      time.sleep(max(begin + due - time.monotonic(), 0))
    yield part


def _write(answers: list[Answer], tables: dict[str, Any], ethogram: Ethogram, counts: dict[str, int]) -> None:
  labelled = [answer for answer in answers if answer.name]
  for answer in labelled:
    counts[answer.name] += 1
    tables["ethogram.csv"](map(_bout_row, ethogram.add(answer.time_s, answer.name)))
  tables["windows.csv"](_window_row(answer) for answer in answers if answer.logits is not None)
  syllables = [syllable for answer in answers for syllable in answer.syllables]
  if syllables:
    tables["syllables.csv"](
      (_seconds(s.time_s), s.step.state, f"{s.step.state_probs.max():.5f}", _seconds(s.step.remaining_s),
       _seconds(s.step.lasted_s))
      for s in syllables
    )  # fmt: skip


def _window_row(answer: Answer) -> tuple[str, str, str, str]:
  probability = f"{answer.probabilities[answer.label]:.5f}" if answer.name else ""
  return _seconds(answer.time_s), answer.name, probability, " ".join(map(str, answer.tokens.ravel().tolist()))


def _bout_row(bout: Bout) -> tuple[str, str, str]:
  return _seconds(bout.start_s), _seconds(bout.end_s), bout.label


def _seconds(value: float) -> str:
  return f"{value:.6f}"


def _findings(preprocess: Preprocess, statistics: Statistics, other_hz: float | None) -> Iterator[str]:
  limits = preprocess.quality
  if other_hz is not None:
    what = "missing" if other_hz < preprocess.rate_hz else "dropped"
    yield (
      f"the source delivers {other_hz:.4g} Hz, the model was made for {preprocess.rate_hz:g} Hz: a sample is {what} "
      f"every {1 / abs(other_hz - preprocess.rate_hz):.2g} s, resample first"
    )
  for what, lost, limit in (
    ("NaN", statistics.nan, limits.max_nan_percent),
    ("infinite", statistics.inf, limits.max_inf_percent),
  ):
    for name, count in zip(preprocess.channels, lost, strict=True):
      percent = 100 * count / max(statistics.rows, 1)
      if percent > limit:
        yield f"{name}: {percent:.1f} % {what}, above the limit of {limit:g} % of the data the model was made for"
  if not statistics.windows:
    needed = preprocess.window / preprocess.rate_hz
    yield f"no window was answered; one needs {preprocess.window} samples ({needed:g} s)"


@contextlib.contextmanager
def _tables(folder: pathlib.Path, names: list[str]) -> Iterator[dict[str, Callable]]:
  """Writers of rows by file name; the files take their names when all is well, and vanish when not."""
  if folder.exists() and not folder.is_dir():
    raise InputError(f"--out {folder} is a file, expected a folder")
  fresh = not folder.exists()
  folder.mkdir(parents=True, exist_ok=True)
  temporary = {name: folder / f".{name}.tmp" for name in names}
  try:
    with contextlib.ExitStack() as stack:
      tables = {}
      for name, path in temporary.items():
        file = stack.enter_context(path.open("w", newline="", encoding="utf-8"))
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS[name])
        tables[name] = writer.writerows
      yield tables
    for name, path in temporary.items():
      os.replace(path, folder / name)
    for name in _COLUMNS.keys() - temporary.keys():  # of an earlier run
      (folder / name).unlink(missing_ok=True)
  finally:
    for path in temporary.values():
      path.unlink(missing_ok=True)
    if fresh and not any(folder.iterdir()):
      folder.rmdir()
