"""IDX files, as MNIST and Fashion-MNIST are published in, packed with gzip or not."""

import gzip
import math
import pathlib
import zlib
from typing import BinaryIO

import numpy as np
from jaxtyping import Int, UInt8

from behavejax.data.samples import Loaded
from behavejax.data.splits import NAMES
from behavejax.errors import InputError

_BYTES = 0x08  # the type of values that images and labels have
_PART = 2**24  # bytes that are read at once
_HELD_OUT = ("t10k", "test")


def read_idx(path: pathlib.Path) -> Loaded:
  """Images of a folder or of one file, with the labels beside them if there are any.

  Files are known by their names: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, likewise `t10k` or `test`, each
  with `.gz` or without. Where a folder holds both, the latter are the test split.

  Raises:
    InputError: no such files, another format, or a file that is cut short.
  """
  files = _image_files(path) if path.is_dir() else [path]
  if not files:
    raise InputError(f"{path} holds no IDX images (a name with 'images' and 'idx3', such as t10k-images-idx3-ubyte.gz)")
  images, labels, names, split = [], [], [], []
  for file in files:
    images.append(read_array(file, axes=3)[..., None])
    labels.append(_labels_of(file, len(images[-1])))
    stem = file.name.removesuffix(".gz")
    names += [f"{stem}[{i}]" for i in range(len(images[-1]))]
    held_out = len(files) > 1 and any(word in file.name for word in _HELD_OUT)
    split.append(np.full(len(images[-1]), NAMES.index("test") if held_out else -1))
  if len({part.shape[1:] for part in images}) > 1:
    raise InputError(f"{path}: images of different sizes, {' and '.join(str(part.shape[1:3]) for part in images)}")
  every_label = np.concatenate(labels)
  return Loaded(
    steps=np.concatenate(images) if len(images) > 1 else images[0],
    bounds=np.arange(len(names) + 1),
    names=tuple(names),
    labels=every_label,
    classes=tuple(str(i) for i in range(every_label.max() + 1)),
    split=np.concatenate(split),
  )


def read_array(path: pathlib.Path, *, axes: int) -> UInt8[np.ndarray, "..."]:
  """The bytes of one IDX file: two zeros, the type, the number of axes, their sizes (big-endian), the values.

  Raises:
    InputError: unreadable, not IDX, values that are not bytes, another number of axes, or not as long as it says.
  """
  opened = gzip.open if path.suffix == ".gz" else open
  try:
    with opened(path, "rb") as file:
      magic, header = file.read(4), file.read(4 * axes)
      if magic != bytes([0, 0, _BYTES, axes]):
        raise InputError(
          f"{path} begins with {magic.hex() or 'nothing'}, expected {bytes([0, 0, _BYTES, axes]).hex()}: IDX with "
          f"bytes along {axes} axes"
        )
      shape = tuple(np.frombuffer(header, ">u4").tolist()) if len(header) == 4 * axes else (0,)
      if 0 in shape:
        raise InputError(f"{path} is cut short or holds nothing: {len(header)} bytes of sizes, {shape}")
      count = math.prod(shape)
      values = _read(file, count + 1)
      if len(values) != count:
        held = "more" if len(values) > count else f"{len(values):,}"
        raise InputError(f"{path} holds {held} bytes of values, its header says {count:,}")
  except (OSError, EOFError, zlib.error) as error:
    raise InputError(f"{path} cannot be read: {error}") from error
  return np.frombuffer(values, np.uint8).reshape(shape)


def _read(file: BinaryIO, most: int) -> bytes:
  """What is left, up to `most` bytes; memory follows what is there, not what was promised."""
  parts, left = [], most
  while left and (part := file.read(min(left, _PART))):
    parts.append(part)
    left -= len(part)
  return b"".join(parts)


def _image_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """One file of every name, unpacked where it lies there both ways."""
  found = sorted(path for path in folder.iterdir() if "images" in path.name and "idx3" in path.name)
  return list({path.name.removesuffix(".gz"): path for path in reversed(found)}.values())[::-1]


def _labels_of(images: pathlib.Path, count: int) -> Int[np.ndarray, " image"]:
  """From the file beside that of the images, -1 where there is none."""
  if "images" not in images.name:
    return np.full(count, -1, np.int32)
  stem = images.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
  path = next((p for p in (images.with_name(stem), images.with_name(f"{stem}.gz")) if p.exists()), None)
  if path is None:
    return np.full(count, -1, np.int32)
  labels = read_array(path, axes=1)
  if len(labels) != count:
    raise InputError(f"{path} holds {len(labels)} labels for {count} images")
  return labels.astype(np.int32)
