"""HAPT: smartphone recordings of twelve activities and postural transitions (UCI data set 341).

Published layout: `RawData/acc_expXX_userYY.txt` (g) and `RawData/gyro_expXX_userYY.txt` (rad/s), three
columns at 50 Hz; `RawData/labels.txt` (experiment, user, activity, first and last sample, counted from
1); `activity_labels.txt`. Read from the folder, or from the zip in place.
"""

import pathlib
import re

import numpy as np
from jaxtyping import Int

from behavejax.data import archive
from behavejax.data.recording import Recording
from behavejax.errors import InputError

CHANNELS = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")
UNITS = ("g", "g", "g", "rad/s", "rad/s", "rad/s")
RATE_HZ = 50.0
_FILE = re.compile(r"RawData/acc_(exp(\d+)_user(\d+)\.txt)")
_LABELS = "RawData/labels.txt"
_SLACK = 50  # samples, one second, by which files may end apart


def read_hapt(root: pathlib.Path) -> list[Recording]:
  """All recordings at or below `root`: a folder with `RawData`, or a zip of one.

  Raises:
    InputError: nothing found, a damaged zip, or files that contradict each other.
  """
  files = archive.find(root, "RawData")
  classes = archive.class_names(files.read("activity_labels.txt"), f"{files.where}: activity_labels.txt")
  table = archive.numbers(files.read(_LABELS), f"{files.where}: {_LABELS}", columns=5).astype(np.int64)
  recordings = []
  for match in filter(None, map(_FILE.fullmatch, files.names())):
    name, experiment, user = match.groups()
    where = f"{files.where}: {match[0]}"
    acceleration, gyro = (
      archive.numbers(files.read(f"RawData/{sensor}_{name}"), f"{files.where}: RawData/{sensor}_{name}", columns=3)
      for sensor in ("acc", "gyro")
    )
    samples = min(len(acceleration), len(gyro))
    if max(len(acceleration), len(gyro)) > samples + _SLACK:
      raise InputError(f"{where} holds {len(acceleration)} samples, its gyro file {len(gyro)}; one is cut short")
    rows = table[(table[:, 0] == int(experiment)) & (table[:, 1] == int(user)), 2:]
    recordings.append(
      Recording(
        signal=np.concatenate([acceleration[:samples], gyro[:samples]], axis=1).astype(np.float32),
        rate_hz=RATE_HZ,
        channels=CHANNELS,
        units=UNITS,
        labels=_labels(rows, samples, len(classes), f"{files.where}: {_LABELS}", int(experiment)),
        classes=classes,
        subject=str(int(user)),
        session=f"exp{experiment}",
        source=where,
      )
    )
  if not recordings:
    raise InputError(f"{files.where} holds RawData/ but no acc_expXX_userYY.txt in it")
  return recordings


def _labels(
  rows: Int[np.ndarray, "segment 3"], samples: int, classes: int, where: str, experiment: int
) -> Int[np.ndarray, " time"]:
  """Rows of (activity, first, last sample), counted from 1 and inclusive, as one label per sample."""
  labels = np.full(samples, -1, np.int32)
  for activity, first, last in rows.tolist():
    if not 1 <= activity <= classes:
      raise InputError(f"{where}: activity {activity} of experiment {experiment} has no name")
    if not 1 <= first <= last <= samples + _SLACK:
      raise InputError(f"{where}: samples {first} to {last} of experiment {experiment}, which has 1 to {samples}")
    labels[first - 1 : last] = activity - 1
  return labels
