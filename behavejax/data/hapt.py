"""HAPT: smartphone recordings of twelve activities and postural transitions (UCI data set 341).

Published layout: `RawData/acc_expXX_userYY.txt` (g) and `RawData/gyro_expXX_userYY.txt` (rad/s), three
columns at 50 Hz; `RawData/labels.txt` (experiment, user, activity, first and last sample, counted from
1); `activity_labels.txt`. Read from the folder, or from the zip in place.
"""

import io
import pathlib
import re
import zipfile
import zlib

import numpy as np

from behavejax.data.recording import Recording
from behavejax.errors import InputError

CHANNELS = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")
UNITS = ("g", "g", "g", "rad/s", "rad/s", "rad/s")
RATE_HZ = 50.0
_FILE = re.compile(r"acc_(exp\d+)_user(\d+)\.txt$")


def read_hapt(root: pathlib.Path) -> list[Recording]:
  """All recordings below `root`, which is or holds a folder with `RawData`, or a zip of one.

  Raises:
    InputError: nothing found, a damaged zip, or files that contradict each other.
  """
  read = _open(root)
  names = read.names()
  classes = _classes(read)
  table = _numbers(read("RawData/labels.txt"), "RawData/labels.txt", columns=5).astype(np.int64)
  recordings = []
  for name in sorted(names):
    match = _FILE.search(name)
    if match is None:
      continue
    experiment, user = match.groups()
    acceleration = _numbers(read(name), name, columns=3)
    gyro_name = name.replace("acc_", "gyro_")
    gyro = _numbers(read(gyro_name), gyro_name, columns=3)
    samples = min(len(acceleration), len(gyro))
    recordings.append(
      Recording(
        signal=np.concatenate([acceleration[:samples], gyro[:samples]], axis=1).astype(np.float32),
        rate_hz=RATE_HZ,
        channels=CHANNELS,
        units=UNITS,
        labels=_labels(table, int(experiment[3:]), int(user), samples, len(classes)),
        classes=classes,
        subject=str(int(user)),
        session=experiment,
        source=f"{read.where}: {name}",
      )
    )
  if not recordings:
    raise InputError(f"{read.where} holds RawData/ but no acc_expXX_userYY.txt in it")
  return recordings


class _Folder:
  """Files below the folder that holds `RawData`."""

  def __init__(self, folder: pathlib.Path):
    self.where = str(folder)
    self._folder = folder

  def names(self) -> list[str]:
    return [f"RawData/{path.name}" for path in (self._folder / "RawData").iterdir()]

  def __call__(self, name: str) -> str:
    try:
      return (self._folder / name).read_text()
    except (OSError, UnicodeDecodeError) as error:
      raise InputError(f"{self._folder / name} cannot be read: {error}") from error


class _Zip:
  """The same inside a zip."""

  def __init__(self, path: pathlib.Path, prefix: str):
    self.where = str(path)
    self._path, self._prefix = path, prefix
    self._file = zipfile.ZipFile(path)

  def names(self) -> list[str]:
    return [name.removeprefix(self._prefix) for name in self._file.namelist()]

  def __call__(self, name: str) -> str:
    try:
      return self._file.read(self._prefix + name).decode()
    except (KeyError, zipfile.BadZipFile, zlib.error, UnicodeDecodeError, EOFError) as error:
      raise InputError(f"{self._path}: {name} is missing or damaged: {error}") from error


def _open(root: pathlib.Path) -> _Folder | _Zip:
  if not root.is_dir():
    raise InputError(
      f"no data folder {root}; set config.data.root or the environment variable BEHAVEJAX_DATA to where the data lie"
    )
  for folder in [root, *sorted(path for path in root.iterdir() if path.is_dir())]:
    if (folder / "RawData").is_dir():
      return _Folder(folder)
  damaged = []
  for path in sorted(root.glob("*.zip")):
    try:
      with zipfile.ZipFile(path) as file:
        inside = [name for name in file.namelist() if name.endswith("RawData/labels.txt")]
    except zipfile.BadZipFile as error:
      damaged.append(f"{path.name} is damaged or cut short ({error})")
      continue
    if inside:
      return _Zip(path, inside[0].removesuffix("RawData/labels.txt"))
  raise InputError(
    f"{root} holds neither a folder with RawData/ nor a zip with one{': ' if damaged else ''}{'; '.join(damaged)}"
  )


def _classes(read: _Folder | _Zip) -> tuple[str, ...]:
  words = [line.split() for line in read("activity_labels.txt").splitlines() if line.strip()]
  try:
    numbered = {int(number): name.lower() for number, name in words}
  except ValueError as error:
    raise InputError(f"{read.where}: activity_labels.txt: expected a number and a name per line ({error})") from error
  if sorted(numbered) != list(range(1, len(numbered) + 1)):
    raise InputError(f"{read.where}: activity_labels.txt must number the activities from 1, got {sorted(numbered)}")
  return tuple(numbered[i] for i in sorted(numbered))


def _numbers(text: str, name: str, *, columns: int) -> np.ndarray:
  try:
    values = np.loadtxt(io.StringIO(text), ndmin=2, dtype=np.float64)
  except ValueError as error:
    raise InputError(f"{name}: {error}") from error
  if values.shape[1:] != (columns,):
    raise InputError(f"{name}: {values.shape[1]} columns, expected {columns}")
  return values


def _labels(table: np.ndarray, experiment: int, user: int, samples: int, classes: int) -> np.ndarray:
  labels = np.full(samples, -1, np.int32)
  for _, _, activity, first, last in table[(table[:, 0] == experiment) & (table[:, 1] == user)]:
    if not 1 <= activity <= classes:
      raise InputError(f"RawData/labels.txt: activity {activity} of experiment {experiment} has no name")
    labels[first - 1 : last] = activity - 1
  return labels
