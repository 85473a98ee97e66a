"""Segments as files for other programs; each is written under a temporary name and renamed.

BORIS. "Export aggregated events" gives a row per event, state events paired to start, stop and duration
(https://www.boris.unito.it/user_guide/export_events); the column names below are those of `boris/export_events.py` in
BORIS 8, whose releases differ in columns about media and images. BORIS does not read such a table back; its author
points to pasting events (https://github.com/olivierfriard/BORIS/issues/203 and /576): one observation at a time,
tab-separated, no header; in a media observation the columns are time in seconds, subject, behaviour code, modifier,
comment and frame index ("NA" if unknown), in a live one all but the last. A state event is two lines, start and stop.
`write_boris_events` writes the lines for media; the codes must be state events of the project, the subjects its own.

ELAN. File > Import > CSV / Tab-delimited Text File lets the user say which column is tier, begin time, end time and
annotation, and from which row the data start (ELAN manual, section "CSV / Tab-delimited Text File",
https://www.mpi.nl/corpus/html/elan/ch01s04s02.html). One file is one recording, as a document has one time line.
"""

import csv
import io
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np

from behavejax.evaluation.segments import Segment, Segmentation, segment_rows, state_name, subject_usage

SEGMENT_COLUMNS = Segment._fields
BORIS_COLUMNS = (
  "Observation id", "Observation date", "Description", "Observation type", "Source", "Total length", "FPS", "Subject",
  "Behavior", "Behavioral category", "Modifiers", "Behavior type", "Start (s)", "Stop (s)", "Duration (s)",
  "Comment start", "Comment stop",
)  # fmt: skip
ELAN_COLUMNS = ("tier", "begin (ms)", "end (ms)", "annotation")
_ELAN_TIER = "state"


def write_segment_files(folder: pathlib.Path, segmentation: Segmentation) -> None:
  """Writes segments.csv, subjects.csv, states.npz, boris.csv, and per recording boris/*.tsv and elan/*.tsv."""
  for place in (folder, folder / "boris", folder / "elan"):
    place.mkdir(parents=True, exist_ok=True)
  write_segments(folder / "segments.csv", segmentation)
  write_subjects(folder / "subjects.csv", segmentation)
  write_states(folder / "states.npz", segmentation)
  write_boris(folder / "boris.csv", segmentation)
  write_boris_events(folder / "boris", segmentation)
  write_elan(folder / "elan", segmentation)


def write_segments(path: pathlib.Path, segmentation: Segmentation) -> None:
  """A CSV row per segment: recording, subject, start_s, end_s, duration_s (seconds), state and mean posterior."""
  rows = [
    (row.recording, row.subject, *map(_seconds, row[2:5]), state_name(row.state), f"{row.posterior:.4f}")
    for row in segment_rows(segmentation)
  ]
  _write_rows(path, [SEGMENT_COLUMNS, *rows])


def write_subjects(path: pathlib.Path, segmentation: Segmentation) -> None:
  """A CSV row per subject: its share of time in each state that occurs."""
  num_states = 1 + max((int(states.max()) for states in segmentation.states if len(states)), default=-1)
  names, shares = subject_usage(segmentation, num_states=num_states)
  used = [state for state in range(num_states) if shares[:, state].any()]
  rows = [(name, *(f"{share:.5f}" for share in row[used])) for name, row in zip(names, shares, strict=True)]
  _write_rows(path, [("subject", *map(state_name, used)), *rows])


def write_boris(path: pathlib.Path, segmentation: Segmentation) -> None:
  """A CSV in the columns of BORIS's aggregated events, for programs that read those; unknown cells are empty or NA."""
  pairs = zip(segmentation.names, segmentation.states, strict=True)
  length = {name: _seconds(len(states) / segmentation.rate_hz) for name, states in pairs}
  rows = [
    (row.recording, "", "", "", "", length[row.recording], "NA", row.subject, state_name(row.state), "", "", "STATE",
     *map(_seconds, row[2:5]), "", "")
    for row in segment_rows(segmentation)
  ]  # fmt: skip
  _write_rows(path, [BORIS_COLUMNS, *rows])


def write_boris_events(folder: pathlib.Path, segmentation: Segmentation) -> None:
  """A file of lines per recording that BORIS's "Paste events" takes in a media observation."""
  for stem, rows in _by_recording(segmentation):
    events = [
      (time, _one_line(row.subject), state_name(row.state), "", "", "NA")
      for row in rows
      for time in map(_seconds, (row.start_s, row.end_s))
    ]
    with _replaced(folder / f"{stem}.tsv") as file:  # BORIS takes a line break at the end for a line of one column
      file.write("\n".join("\t".join(event) for event in events).encode())


def write_elan(folder: pathlib.Path, segmentation: Segmentation) -> None:
  """A tab-separated file per recording for ELAN: tier, begin and end in milliseconds, annotation; one header line.

  Times are rounded to the millisecond, so that a segment shorter than one can vanish in ELAN.
  """
  for stem, rows in _by_recording(segmentation):
    cells = [(_ELAN_TIER, round(1e3 * row.start_s), round(1e3 * row.end_s), state_name(row.state)) for row in rows]
    _write_rows(folder / f"{stem}.tsv", [ELAN_COLUMNS, *cells], delimiter="\t")


def write_states(path: pathlib.Path, segmentation: Segmentation) -> None:
  """An .npz with everything per sample, all recordings one after the other; it loads without pickle.

  Arrays: `states` (-1: none), `probabilities`, `labels` (numbers of `classes`; -1: unknown) and, where known,
  `entropies` (nats) [sample], `offsets` [recording + 1]
  (recording `i` holds the samples from `offsets[i]` to `offsets[i + 1]`), `recordings` and `subjects` (names),
  `rate_hz`.
  """
  known = {"entropies": np.concatenate(segmentation.entropies).astype(np.float32)} if segmentation.entropies else {}
  with _replaced(path) as file:
    np.savez_compressed(
      file,
      states=np.concatenate([np.zeros(0, np.int32), *segmentation.states]).astype(np.int32),
      probabilities=np.concatenate([np.zeros(0), *segmentation.probabilities]).astype(np.float32),
      labels=np.concatenate([np.zeros(0, np.int32), *segmentation.labels]).astype(np.int32),
      classes=np.array(segmentation.classes, np.str_),
      offsets=np.cumsum([0, *map(len, segmentation.states)]),
      recordings=np.array(segmentation.names, np.str_),
      subjects=np.array(segmentation.subjects, np.str_),
      rate_hz=np.float64(segmentation.rate_hz),
      **known,
    )


def _by_recording(segmentation: Segmentation) -> Iterator[tuple[str, list[Segment]]]:
  """File stem and segments of every recording; the number keeps names apart that differ in odd characters only."""
  digits = len(str(len(segmentation.names)))
  for i, name in enumerate(segmentation.names):
    one = segmentation._replace(
      states=segmentation.states[i : i + 1], probabilities=segmentation.probabilities[i : i + 1],
      labels=segmentation.labels[i : i + 1], names=(name,), subjects=segmentation.subjects[i : i + 1],
    )  # fmt: skip
    yield f"{i + 1:0{digits}d}_{re.sub(r'[^A-Za-z0-9_.-]+', '_', name)[:80]}", segment_rows(one)


def _seconds(value: float) -> str:
  return f"{value:.6f}"


def _one_line(text: str) -> str:
  return " ".join(text.split())


def _write_rows(path: pathlib.Path, rows: Sequence[Sequence[object]], *, delimiter: str = ",") -> None:
  text = io.StringIO()
  csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
  with _replaced(path) as file:
    file.write(text.getvalue().encode())


@contextmanager
def _replaced(path: pathlib.Path) -> Iterator[BinaryIO]:
  """A file beside `path` that takes its place when the block ends well and vanishes when not."""
  temporary = path.with_name(f".{path.name}.tmp")
  try:
    with temporary.open("wb") as file:
      yield file
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
