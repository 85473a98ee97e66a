"""CSV and Parquet files with one row per sample; which column is what comes from the config."""

import pathlib
from typing import Any

import numpy as np

from behavejax.config import TableConfig, did_you_mean
from behavejax.data.recording import Recording
from behavejax.errors import InputError

_SUFFIXES = (".csv", ".parquet")


def read_table(path: pathlib.Path, config: TableConfig) -> list[Recording]:
  """One file, or every CSV and Parquet file of a folder.

  Subject and session columns split a file into recordings; without a subject column the file's name is
  the subject. Blank cells are missing samples, blank labels unlabelled ones. Classes are the label
  values found, sorted.

  Args:
    path: of the file or folder.
    config: names of the columns, unit of time, rate.

  Raises:
    InputError: a column that is not there, text where numbers are expected, time that does not go
      forward, a rate that nothing tells.
  """
  files = sorted(p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES) if path.is_dir() else [path]
  if not files:
    raise InputError(f"{path} holds no .csv or .parquet file")
  frames = {file: _read(file) for file in files}
  classes = _classes(frames, config)
  return [recording for file, frame in frames.items() for recording in _recordings(file, frame, config, classes)]


def _read(file: pathlib.Path) -> Any:
  try:
    import pandas as pd
  except ImportError as error:
    raise InputError("reading tables needs pandas: pip install 'behavejax[data]'") from error
  suffix = file.suffix.lower()
  if suffix not in _SUFFIXES:
    raise InputError(f"{file}: expected a .csv or .parquet file")
  try:
    frame = pd.read_csv(file) if suffix == ".csv" else pd.read_parquet(file)
  except ImportError as error:
    raise InputError(f"reading {file} needs pyarrow: pip install 'behavejax[data]'") from error
  except (OSError, ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
    raise InputError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
  if len(frame) == 0:
    raise InputError(f"{file} holds no rows")
  for separator in (";", "\t", "|"):
    if frame.shape[1] == 1 and separator in str(frame.columns[0]):
      raise InputError(f"{file}: its cells are separated by {separator!r}, expected ',' (and '.' in numbers)")
  return frame.reset_index(drop=frame.index.names == [None])


def _classes(frames: dict[pathlib.Path, Any], config: TableConfig) -> tuple[str, ...]:
  if not config.label:
    return ()
  values = set()
  for file, frame in frames.items():
    values |= set(_words(_column(file, frame, config.label, "label")).dropna())
  return tuple(sorted(values - {""}))


def _recordings(file: pathlib.Path, frame: Any, config: TableConfig, classes: tuple[str, ...]) -> list[Recording]:
  reserved = [c for c in (config.time, config.label, config.subject, config.session) if c]
  for column, key in ((config.time, "time"), (config.subject, "subject"), (config.session, "session")):
    if column:
      _column(file, frame, column, key)
  names = config.signal or tuple(c for c in frame.columns if c not in reserved and _mostly_numbers(frame[c]))
  if not names:
    raise InputError(f"{file}: no numeric column left for the signal; it holds {', '.join(map(str, frame.columns))}")
  frame = frame.assign(**{name: _numbers(file, frame, name, "signal") for name in names})
  if config.time:
    frame = frame.assign(**{config.time: _numbers(file, frame, config.time, "time")})
  keys = [c for c in (config.subject, config.session) if c]
  words = {column: _words(frame[column]) for column in {*keys, config.label} - {""}}
  for column in keys:
    blank = (words[column].isna() | (words[column] == "")).to_numpy(bool)
    if blank.any():
      raise InputError(f"{file}: column {column!r}, row {int(np.argmax(blank)) + 2} is blank: whose sample is it?")
  frame = frame.assign(**words)
  groups = frame.groupby(keys, sort=False) if keys else [((), frame)]
  number = {name: i for i, name in enumerate(classes)}
  recordings = []
  for key, rows in groups:
    key = key if isinstance(key, tuple) else (key,)
    if len(rows) < 2:
      raise InputError(f"{file}: recording {' '.join(map(str, key)) or file.stem} has 1 sample, too few to be one")
    key = dict(zip(keys, key, strict=True))
    time_s = _time(file, rows, config)
    labels = np.full(len(rows), -1, np.int32)
    if config.label:
      labels = rows[config.label].map(number).fillna(-1).to_numpy().astype(np.int32)
    recordings.append(
      Recording(
        signal=rows[list(names)].to_numpy(np.float32),
        rate_hz=config.rate_hz or _rate(file, time_s),
        channels=tuple(map(str, names)),
        units=("",) * len(names),
        labels=labels,
        classes=classes,
        subject=str(key.get(config.subject, file.stem)),
        session=str(key[config.session]) if config.session else file.stem if config.subject else "",
        source=str(file),
        time_s=time_s,
      )
    )
  return recordings


def _column(file: pathlib.Path, frame: Any, name: str, key: str) -> Any:
  if name not in frame.columns:
    raise InputError(f"{file} has no column {name!r} (config.data.table.{key}){did_you_mean(name, frame.columns)}")
  return frame[name]


def _mostly_numbers(column: Any) -> bool:
  """Whether a column is meant to be numeric: a few stray words do not make it text, they are an error."""
  import pandas as pd

  if column.dtype.kind in "bMm":  # truth values and dates
    return False
  given = column.dropna()
  return len(given) == 0 or pd.to_numeric(given, errors="coerce").notna().mean() >= 0.5


def _words(column: Any) -> Any:
  """A column as text; whole numbers read alike whether or not blanks beside them made them fractions."""
  return column.convert_dtypes().astype("string").str.strip()


def _numbers(file: pathlib.Path, frame: Any, name: str, key: str) -> np.ndarray:
  import pandas as pd

  column = _column(file, frame, name, key)
  if column.dtype.kind in "Mm":
    raise InputError(f"{file}: column {name!r} holds dates, expected numbers (config.data.table.{key})")
  values = pd.to_numeric(column, errors="coerce")
  wrong = values.isna() & column.notna()
  if wrong.any():
    row = int(np.argmax(wrong.to_numpy()))
    raise InputError(f"{file}: column {name!r}, row {row + 2}: {column.iloc[row]!r} is not a number")
  return values.to_numpy(np.float64)


def _time(file: pathlib.Path, rows: Any, config: TableConfig) -> np.ndarray | None:
  """Time stamps in seconds, which must not go backwards."""
  if not config.time:
    return None
  time = rows[config.time].to_numpy(np.float64) * (1e-3 if config.time_unit == "ms" else 1.0)
  if not np.isfinite(time).all():
    raise InputError(
      f"{file}: column {config.time!r} lacks a time stamp in row {int(np.argmin(np.isfinite(time))) + 2}"
    )
  back = np.flatnonzero(np.diff(time) < 0)
  if len(back):
    row = int(rows.index[back[0] + 1]) + 2
    raise InputError(
      f"{file}: time stamps are non-monotonic: row {row} ({time[back[0] + 1]:g} s) is earlier than the row before "
      f"({time[back[0]]:g} s); sort the file, or name its subject and session columns"
    )
  return time


def _rate(file: pathlib.Path, time_s: np.ndarray | None) -> float:
  """Samples per second from the median step, rounded to four digits."""
  steps = np.diff(time_s) if time_s is not None else np.zeros(0)
  steps = steps[steps > 0]
  if len(steps) == 0:
    raise InputError(
      f"{file}: nothing tells the sampling rate; set config.data.table.time or config.data.table.rate_hz"
    )
  return float(f"{1 / np.median(steps):.4g}")
