"""Processed splits as files that any other program can read."""

import os
import pathlib

import numpy as np

from behavejax.data.prepare import Prepared
from behavejax.data.windows import Windows
from behavejax.errors import InputError


def write_splits(folder: pathlib.Path, data: Prepared) -> None:
  """Writes `{train,val,test}.npz` and `normalization.npz`; files appear once all of them are complete.

  A split holds `x [N, H, T, C]` (normalised), `y [N]`, `subject [N]`, `recording [N]` (names), `time_s [N]`,
  `classes`, `channels` and `rate_hz`. With several devices H counts them and `channels` names those of the first
  device, then those of the second.
  """
  if folder.is_file():
    raise InputError(f"--out {folder} is a file, expected a folder")
  folder.mkdir(parents=True, exist_ok=True)
  temporary = {name: folder / f".{name}.npz.tmp" for name in ("train", "val", "test")}
  try:
    for name, path in temporary.items():
      _write(path, getattr(data, name))
    data.normalization.save(folder / "normalization.npz")
    for name, path in temporary.items():
      os.replace(path, folder / f"{name}.npz")
  finally:
    for path in temporary.values():
      path.unlink(missing_ok=True)


def _write(path: pathlib.Path, windows: Windows) -> None:
  with path.open("wb") as file:
    np.savez_compressed(
      file,
      x=windows.gather(np.arange(len(windows))),
      y=windows.labels,
      subject=np.array(windows.subjects)[windows.subject],
      recording=np.array(windows.recordings)[windows.recording],
      time_s=windows.time_s,
      classes=np.array(windows.classes, dtype=str),
      channels=np.array(windows.channels),
      rate_hz=np.float64(windows.rate_hz),
    )
