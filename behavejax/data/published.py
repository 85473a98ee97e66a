"""Loaders of published data sets in the layout their authors gave them: UCI HAR, PAMAP2, WISDM, BasicMotions."""

import itertools
import pathlib
import re

import numpy as np

from behavejax.data import archive
from behavejax.data.recording import Recording
from behavejax.errors import InputError

_HAR_SIGNALS = ("body_acc", "body_gyro", "total_acc")
_PAMAP2_CLASSES = {
  1: "lying", 2: "sitting", 3: "standing", 4: "walking", 5: "running", 6: "cycling", 7: "nordic_walking",
  9: "watching_tv", 10: "computer_work", 11: "car_driving", 12: "ascending_stairs", 13: "descending_stairs",
  16: "vacuum_cleaning", 17: "ironing", 18: "folding_laundry", 19: "house_cleaning", 20: "playing_soccer",
  24: "rope_jumping",
}  # fmt: skip
_PAMAP2_UNITS = ("m/s^2",) * 3 + ("rad/s",) * 3 + ("uT",) * 3
_WISDM_CLASSES = ("Walking", "Jogging", "Upstairs", "Downstairs", "Sitting", "Standing")
_WISDM_LINE = re.compile(r"^(\d+),(\w+),(\d+),(-?[\d.eE+-]+),(-?[\d.eE+-]+),(-?[\d.eE+-]+),?$")


def read_uci_har(root: pathlib.Path) -> list[Recording]:
  """UCI HAR, `{train,test}/Inertial Signals/*.txt` in a folder or zip: half-overlapping windows, 50 Hz, 9 axes.

  Consecutive windows of one person that continue each other are joined again, so each sample occurs
  once; a break starts a new recording. A sample takes the label of the later window that holds it.

  Raises:
    InputError: nothing found, a damaged zip, or files that contradict each other.
  """
  files = archive.find(root, "train/Inertial Signals")
  classes = archive.class_names(files.read("activity_labels.txt"), f"{files.where}: activity_labels.txt")
  channels = tuple(f"{signal}_{axis}" for signal in _HAR_SIGNALS for axis in "xyz")
  recordings = []
  for part in ("train", "test"):
    names = [f"{part}/Inertial Signals/{name}_{part}.txt" for name in channels]
    columns = [archive.numbers(files.read(name), f"{files.where}: {name}", columns=128) for name in names]
    subjects, labels = (
      archive.numbers(files.read(name), f"{files.where}: {name}", columns=1)[:, 0].astype(int)
      for name in (f"{part}/subject_{part}.txt", f"{part}/y_{part}.txt")
    )
    counts = {len(column) for column in (*columns, subjects, labels)}
    if len(counts) > 1:
      raise InputError(
        f"{files.where}: files of {part}/ hold {', '.join(map(str, sorted(counts)))} windows, not all as many"
      )
    if not 1 <= labels.min() <= labels.max() <= len(classes):
      raise InputError(
        f"{files.where}: y_{part}.txt holds {labels.min()} to {labels.max()}; 1 to {len(classes)} have a name"
      )
    windows, labels = np.stack(columns, axis=-1), labels - 1  # [window, 128, channel]
    half = windows.shape[1] // 2
    follows = np.all(windows[1:, :half] == windows[:-1, half:], axis=(1, 2)) & (subjects[1:] == subjects[:-1])
    edges = np.concatenate([[0], np.flatnonzero(~follows) + 1, [len(windows)]])
    for number, (first, stop) in enumerate(itertools.pairwise(edges)):
      run = windows[first:stop]
      recordings.append(
        Recording(
          signal=np.concatenate([run[0, :half], run[:, half:].reshape(-1, len(channels))]).astype(np.float32),
          rate_hz=50.0,
          channels=channels,
          units=("g",) * 3 + ("rad/s",) * 3 + ("g",) * 3,
          labels=np.concatenate(
            [np.full(half, labels[first]), np.repeat(labels[first:stop], windows.shape[1] - half)]
          ).astype(np.int32),
          classes=classes,
          subject=str(subjects[first]),
          session=f"{part}{number:04d}",
          source=f"{files.where}: {part}",
        )
      )
  return recordings


def read_pamap2(root: pathlib.Path) -> list[Recording]:
  """PAMAP2, `Protocol/subject1NN.dat` (and `Optional/`): 54 columns at 100 Hz.

  Time stamp, activity, heart rate, then 17 columns for each of hand, chest and ankle; of those the 16 g
  acceleration, the gyroscope and the magnetometer are kept. Activity 0 (transient) is unlabelled.
  """
  if not root.exists():
    raise InputError(
      f"no data folder {root}, where PAMAP2's Protocol/subject1NN.dat was looked for; set config.data.root or the "
      "environment variable BEHAVEJAX_DATA to where the data lie"
    )
  files = sorted(root.rglob("subject*.dat"))
  if not files:
    raise InputError(f"{root} holds no subject*.dat of PAMAP2")
  numbers = sorted(_PAMAP2_CLASSES)
  place = np.full(max(numbers) + 1, -2)
  place[numbers], place[0] = np.arange(len(numbers)), -1
  sensors = [(name, 3 + 17 * i) for i, name in enumerate(("hand", "chest", "ankle"))]
  columns = [start + offset for _, start in sensors for offset in (1, 2, 3, 7, 8, 9, 10, 11, 12)]
  channels = tuple(f"{s}_{k}_{a}" for s, _ in sensors for k in ("acc", "gyro", "mag") for a in "xyz")
  recordings = []
  for path in files:
    rows = archive.numbers(path, str(path), columns=54)
    activity = rows[:, 1].astype(int)
    if activity.min() < 0 or activity.max() > max(numbers) or (place[activity] == -2).any():
      unknown = sorted(set(activity.tolist()) - {0, *numbers})
      raise InputError(f"{path}: activity {unknown[0]} has no name")
    recordings.append(
      Recording(
        signal=rows[:, columns].astype(np.float32),
        rate_hz=100.0,
        channels=channels,
        units=_PAMAP2_UNITS * 3,
        labels=place[activity].astype(np.int32),
        classes=tuple(_PAMAP2_CLASSES[n] for n in numbers),
        subject=path.stem.removeprefix("subject"),
        session=path.parent.name.lower(),
        source=str(path),
        time_s=rows[:, 0],
      )
    )
  return recordings


def read_wisdm(path: pathlib.Path) -> list[Recording]:
  """WISDM 1.1, `WISDM_ar_v1.1_raw.txt`: `user,activity,timestamp,x,y,z;` at 20 Hz, m/s^2.

  The published file holds some broken lines and rows of zeros with time stamp 0; they are left out, and
  more than 5 % of them is an error. A recording is an unbroken run of one person: a new one starts where
  time goes backwards or halts for more than a second.
  """
  rows, broken = [], 0
  for line in re.split(r"[;\n]+", _text(path)):
    match = _WISDM_LINE.match(line.strip())
    if match and match[2] in _WISDM_CLASSES and int(match[3]) > 0:
      try:
        rows.append((int(match[1]), _WISDM_CLASSES.index(match[2]), int(match[3]), *map(float, match.groups()[3:])))
        continue
      except ValueError:
        pass
    broken += bool(line.strip())
  if not rows or broken > 0.05 * (broken + len(rows)):
    raise InputError(f"{path}: {broken} of {broken + len(rows)} lines are not 'user,activity,timestamp,x,y,z;'")
  table = np.array(rows)
  seconds = table[:, 2] * 1e-9
  step = np.diff(seconds)
  breaks = np.flatnonzero((np.diff(table[:, 0]) != 0) | (step < 0) | (step > 1.0)) + 1
  return [
    Recording(
      signal=part[:, 3:].astype(np.float32),
      rate_hz=20.0,
      channels=("acc_x", "acc_y", "acc_z"),
      units=("m/s^2",) * 3,
      labels=part[:, 1].astype(np.int32),
      classes=tuple(name.lower() for name in _WISDM_CLASSES),
      subject=str(int(part[0, 0])),
      session=f"run{number:03d}",
      source=str(path),
      time_s=time,
    )
    for number, (part, time) in enumerate(
      zip(np.split(table, breaks), np.split(seconds, breaks), strict=True)
    )
  ]  # fmt: skip


def read_basic_motions() -> list[Recording]:
  """The 80 wrist recordings inside the package aeon: 10 s at 10 Hz, six axes, four activities.

  The set names no people; each recording stands for itself, so a split by subject is one by recording.
  """
  try:
    from aeon.datasets import load_basic_motions
  except ImportError as error:
    raise InputError("config.data.name=basic_motions needs the package aeon: pip install 'behavejax[data]'") from error
  parts = {part: load_basic_motions(split=part) for part in ("train", "test")}
  classes = tuple(sorted({str(label) for _, labels in parts.values() for label in labels}))
  return [
    Recording(
      signal=case.T.astype(np.float32),
      rate_hz=10.0,
      channels=("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z"),
      units=("",) * 6,
      labels=np.full(case.shape[1], classes.index(str(label)), np.int32),
      classes=tuple(name.lower() for name in classes),
      subject=f"{part}{number:02d}",
      source="aeon BasicMotions",
    )
    for part, (cases, labels) in parts.items()
    for number, (case, label) in enumerate(zip(cases, labels, strict=True))
  ]


def _text(path: pathlib.Path) -> str:
  try:
    return path.read_text()
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(f"{path} cannot be read: {error}") from error
