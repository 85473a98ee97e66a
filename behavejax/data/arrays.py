"""Arrays of equal-length examples, `[N, C, T]` or folded `[N, C, 2, T/2]`, as `.npy` or `.npz`.

This is how many research repositories store their windows. The axes become channels-last here and
nowhere else.
"""

import pathlib

import numpy as np

from behavejax.config import TableConfig
from behavejax.data import native
from behavejax.data.recording import Recording
from behavejax.errors import InputError

_SIGNALS = ("x", "X", "data")
_LABELS = ("y", "labels")


def read_arrays(path: pathlib.Path, config: TableConfig) -> list[Recording]:
  """Each example is one recording.

  An `.npz` holds `x` (or `X`, `data`) and, if there are any, `y` (or `labels`; one per example or per
  sample), `subject`, `classes`, `channels` and `rate_hz`. An `.npy` holds `x` alone. Where the file has no rate,
  `config.data.table.rate_hz` gives it.

  Raises:
    InputError: wrong shapes, a missing rate, or labels without a name.
  """
  arrays = {"x": native.read_npy(path)} if path.suffix == ".npy" else native.read_npz(path)
  signal = next((name for name in _SIGNALS if name in arrays), None)
  if signal is None:
    raise InputError(f"{path}: no array 'x' of shape [N, C, T] (or 'X', 'data'); it holds {', '.join(arrays)}")
  x = arrays[signal]
  if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[2] != 2) or 0 in x.shape:
    raise InputError(f"{path}: x of shape {x.shape}, expected [N, C, T] or [N, C, 2, T/2]")
  if not np.issubdtype(x.dtype, np.number) or np.iscomplexobj(x):
    raise InputError(f"{path}: x of type {x.dtype}, expected real numbers")
  signals = np.moveaxis(x.reshape(*x.shape[:2], -1), 1, 2).astype(np.float32)
  count, time, channels = signals.shape
  known = "rate_hz" in arrays
  rate = native.number(path, arrays, "rate_hz") if known else config.rate_hz
  if not known and rate <= 0:
    raise InputError(f"{path} does not say its sampling rate; set config.data.table.rate_hz")
  labels, classes = _labels(path, arrays, count, time)
  subjects = native.strings(path, arrays, "subject") if "subject" in arrays else tuple(map(str, range(count)))
  if len(subjects) != count:
    raise InputError(f"{path}: {len(subjects)} subjects for {count} examples")
  invented = tuple(f"channel_{i}" for i in range(channels))
  names = native.strings(path, arrays, "channels") if "channels" in arrays else invented
  return [
    Recording(
      signal=signals[i],
      rate_hz=rate,
      channels=names,
      units=("",) * len(names),
      labels=labels[i],
      classes=classes,
      subject=subjects[i],
      session=f"example{i:05d}",
      source=f"{path.name}, example {i}",
    )
    for i in range(count)
  ]


def _labels(path: pathlib.Path, arrays: dict[str, np.ndarray], count: int, time: int):
  name = next((name for name in _LABELS if name in arrays), None)
  if name is None:
    return np.full((count, time), -1, np.int32), ()
  y = arrays[name]
  if y.shape not in ((count,), (count, time)):
    raise InputError(f"{path}: {name} of shape {y.shape}, expected [{count}] or [{count}, {time}]")
  if y.dtype.kind in "US":
    classes, y = np.unique(y.astype(str), return_inverse=True)
    classes, y = tuple(classes.tolist()), y.reshape(arrays[name].shape)
  elif np.issubdtype(y.dtype, np.integer):
    numbered = tuple(str(i) for i in range(int(y.max()) + 1))
    classes = native.strings(path, arrays, "classes") if "classes" in arrays else numbered
  else:
    raise InputError(f"{path}: {name} of type {y.dtype}, expected integers or strings")
  return np.broadcast_to(y.reshape(count, -1), (count, time)).astype(np.int32), classes
