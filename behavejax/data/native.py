"""The native recordings file: one compressed `.npz` for a whole data set.

Arrays: `x [T, C] float32`, `y [T] int16` (-1 unlabelled), `rec_start [R+1]` (recording r is rows
`rec_start[r]:rec_start[r+1]`), `rec_subject [R]`, `rec_name [R]`, `channels`, `units`, `classes`
(strings), `rate_hz`, `licence`, `citation`, `origin`.
"""

import os
import pathlib
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np

from behavejax.data.recording import Recording, check_alike
from behavejax.errors import InputError

_NEEDED = ("x", "y", "rec_start", "rec_subject", "channels", "classes", "rate_hz")


def read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
  """All arrays of an `.npz`; `InputError` if it is missing, damaged or would need unpickling."""
  if not path.is_file():
    raise InputError(f"no such file: {path}")
  try:
    file = numpy_file(path)
    if isinstance(file, np.lib.npyio.NpzFile):
      with file:
        return {name: file[name] for name in file.files}
  except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
    raise InputError(f"{path} is no readable .npz: {error}") from error
  raise InputError(f"{path} is a single array, expected an .npz of several")


def read_npy(path: pathlib.Path) -> np.ndarray:
  """The array of an `.npy`; `InputError` if it is damaged, another kind of file, or would need unpickling."""
  try:
    return numpy_array(path)
  except (OSError, ValueError, EOFError) as error:
    raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def numpy_file(path: pathlib.Path) -> np.ndarray | np.lib.npyio.NpzFile:
  """`np.load` without pickle; `ValueError` says plainly what another kind of file is."""
  with path.open("rb") as file:
    magic = file.read(6)
  if magic and not magic.startswith((b"PK", b"\x93NUMPY")):
    raise ValueError("it is in another format than NumPy's")
  return np.load(path, allow_pickle=False)


def numpy_array(path: pathlib.Path) -> np.ndarray:
  """The array of an `.npy`; `ValueError` as of `numpy_file`, and where there are several."""
  found = numpy_file(path)
  if isinstance(found, np.lib.npyio.NpzFile):
    found.close()
    raise ValueError("it holds several arrays, expected one")
  return found


def array(path: pathlib.Path, arrays: dict[str, np.ndarray], name: str, *, kinds: str, axes: int) -> np.ndarray:
  """One of a file's arrays, if its dtype is of one of the `kinds` (NumPy's letters) and it has so many axes."""
  value = arrays[name]
  if value.dtype.kind not in kinds or value.ndim != axes:
    what = "names" if "U" in kinds else "numbers" if "f" in kinds else "whole numbers"
    raise InputError(f"{path}: {name} is {value.dtype} of shape {value.shape}, expected {what} along {axes} axes")
  return value


def strings(path: pathlib.Path, arrays: dict[str, np.ndarray], name: str) -> tuple[str, ...]:
  """A list of names; whole numbers serve as names too."""
  return tuple(array(path, arrays, name, kinds="iuSU", axes=1).astype(str).tolist())


def number(path: pathlib.Path, arrays: dict[str, np.ndarray], name: str) -> float:
  """A single number, be it a scalar or an array of one."""
  value = arrays[name]
  if value.dtype.kind not in "iuf" or value.size != 1:
    raise InputError(f"{path}: {name} is {value.dtype} of shape {value.shape}, expected one number")
  return float(value.item())


def read_recordings(path: pathlib.Path) -> list[Recording]:
  """Reads a native recordings file.

  Raises:
    InputError: missing, damaged, or arrays that do not fit each other.
  """
  arrays = read_npz(path)
  absent = [name for name in _NEEDED if name not in arrays]
  if absent:
    raise InputError(f"{path}: array(s) {', '.join(absent)} missing; a recordings file holds {', '.join(_NEEDED)}")
  x, y = array(path, arrays, "x", kinds="iuf", axes=2), array(path, arrays, "y", kinds="iu", axes=1)
  starts = array(path, arrays, "rec_start", kinds="iu", axes=1).astype(np.int64)
  if len(starts) < 2 or starts[0] != 0 or starts[-1] != len(x) or (np.diff(starts) <= 0).any():
    raise InputError(f"{path}: rec_start must rise from 0 to the number of samples, {len(x)}")
  count = len(starts) - 1
  channels, classes = strings(path, arrays, "channels"), strings(path, arrays, "classes")
  subjects = strings(path, arrays, "rec_subject")
  names = strings(path, arrays, "rec_name") if "rec_name" in arrays else tuple(map(str, range(count)))
  if len(subjects) != count or len(names) != count or len(y) != len(x):
    raise InputError(
      f"{path}: {count} recordings and {len(x)} samples, but rec_subject, rec_name or y differ in length"
    )
  units = strings(path, arrays, "units") if "units" in arrays else ("",) * len(channels)
  rate = number(path, arrays, "rate_hz")
  return [
    Recording(
      signal=x[starts[i] : starts[i + 1]].astype(np.float32),
      rate_hz=rate,
      channels=channels,
      units=units,
      labels=y[starts[i] : starts[i + 1]].astype(np.int32),
      classes=classes,
      subject=subjects[i],
      session=names[i],
      source=f"{path.name}, recording {names[i]}",
    )
    for i in range(count)
  ]


def write_recordings(
  path: pathlib.Path, recordings: Sequence[Recording], *, licence: str = "", citation: str = "", origin: str = ""
) -> None:
  """Writes recordings that share channels, rate and classes; the file appears whole or not at all."""
  check_alike(recordings)
  first = recordings[0]
  temporary = path.with_name(f".{path.name}.tmp")
  try:
    with temporary.open("wb") as file:
      np.savez_compressed(
        file,
        x=np.concatenate([recording.signal for recording in recordings]),
        y=np.concatenate([recording.labels for recording in recordings]).astype(np.int16),
        rec_start=np.cumsum([0, *(len(recording.signal) for recording in recordings)]),
        rec_subject=np.array([recording.subject for recording in recordings]),
        rec_name=np.array([recording.session for recording in recordings]),
        channels=np.array(first.channels),
        units=np.array(first.units),
        classes=np.array(first.classes),
        rate_hz=np.float64(first.rate_hz),
        licence=np.array(licence),
        citation=np.array(citation),
        origin=np.array(origin),
      )
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
