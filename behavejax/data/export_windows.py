"""Processed splits as files that any other program can read."""

import os
import pathlib

import numpy as np

from behavejax.data.prepare import Prepared
from behavejax.errors import InputError


def write_splits(folder: pathlib.Path, data: Prepared) -> None:
  """Writes `{train,val,test}.npz` and `normalization.npz`, each under a temporary name first.

  A split holds `x [N, H, T, C]` (normalised), `y [N]`, `subject [N]`, `recording [N]` (names), `time_s [N]`,
  `classes`, `channels` and `rate_hz`.
  """
  if folder.is_file():
    raise InputError(f"--out {folder} is a file, expected a folder")
  folder.mkdir(parents=True, exist_ok=True)
  for name in ("train", "val", "test"):
    windows = getattr(data, name)
    temporary = folder / f".{name}.npz.tmp"
    try:
      with temporary.open("wb") as file:
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
      os.replace(temporary, folder / f"{name}.npz")
    finally:
      temporary.unlink(missing_ok=True)
  data.normalization.save(folder / "normalization.npz")
