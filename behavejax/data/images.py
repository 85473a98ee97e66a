"""Images: scikit-learn's digits, and folders of files that Pillow reads."""

import pathlib
import struct
import zlib
from concurrent import futures

import numpy as np
from PIL import Image, ImageOps
from sklearn.datasets import load_digits

from behavejax.config_frames import FramesConfig
from behavejax.data import folders, pixels
from behavejax.data.samples import Loaded
from behavejax.errors import InputError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
_DAMAGE = (
  OSError,
  SyntaxError,
  ValueError,
  EOFError,
  TypeError,
  struct.error,
  zlib.error,
  Image.DecompressionBombError,
)


def read_digits() -> Loaded:
  """The 1 797 digits of 8 x 8 pixels that come with scikit-learn, sixteenths as bytes."""
  digits = load_digits()
  count = len(digits.target)
  return Loaded(
    steps=np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None],
    bounds=np.arange(count + 1),
    names=tuple(f"digit{i:04d}" for i in range(count)),
    labels=digits.target.astype(np.int32),
    classes=tuple(str(i) for i in range(10)),
    split=np.full(count, -1),
  )


def read_image_folder(folder: pathlib.Path, frames: FramesConfig) -> Loaded:
  """Images below a folder; its subfolders are the classes, or `train`, `val`, `test` with classes below.

  Grey images of 16 bits stay so, and make all others of the folder 16 bits; Pillow gives colour of 16 bits as 8. A
  palette becomes colour. What is not opaque is laid over black, unless `config.frames.channels=4`. Images are turned
  as their EXIF orientation says. Of several images in one file the first is taken.

  Raises:
    InputError: nothing to read, a broken file that may not be skipped, or different sizes.
  """
  listing = folders.list_folder(folder, SUFFIXES, what="image")
  with futures.ThreadPoolExecutor(max(frames.workers, 1)) as threads:
    modes = {mode for mode in threads.map(_mode, listing.files) if mode}
    channels = frames.channels or (1 if modes <= set(_GREY) else 3)
    found = list(threads.map(lambda file: read_image(file, channels, frames.size), listing.files))
  skip = frames.on_broken == "skip"
  kept, warnings = folders.set_broken_aside(listing, [why for _, why in found], skip=skip, what="image")
  listing = listing.only(kept)
  images = pixels.alike([found[i][0] for i in kept], [str(file) for file in listing.files])
  return Loaded(
    steps=np.stack(images),
    bounds=np.arange(len(images) + 1),
    names=listing.names,
    labels=listing.labels,
    classes=listing.classes,
    split=listing.split,
    warnings=tuple(warnings),
  )


def _mode(file: pathlib.Path) -> str:
  """Pillow's mode of an image, "" if it cannot be opened."""
  try:
    with Image.open(file) as image:
      return image.mode
  except _DAMAGE:
    return ""


def read_image(file: pathlib.Path, channels: int, size: tuple[int, ...]) -> tuple[np.ndarray | None, str]:
  """An image, or what is wrong with it."""
  try:
    if file.stat().st_size == 0:
      return None, "it is empty"
    with Image.open(file) as image:
      image.load()
      values = _values(ImageOps.exif_transpose(image))
  except _DAMAGE as error:
    return None, folders.reason(error)
  return pixels.fit(pixels.to_channels(values, channels), size), ""


def _values(image: Image.Image) -> pixels.Pixels:
  """Grey or colour, with opacity if there is any, of 8 or 16 bits."""
  if image.mode == "I" or image.mode.startswith("I;16"):
    values = np.asarray(image)
    if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
      raise InputError(f"values from {values.min()} to {values.max()}, more than 16 bits hold")
    return values.astype(np.uint16)[..., None]
  if image.mode == "F":
    raise InputError("floating-point values, whose white is not known; save them as .npy or as 16 bits")
  transparent = "transparency" in image.info
  if image.mode in ("1", "L"):
    wanted = "LA" if transparent else "L"
  elif image.mode in ("LA", "La"):
    wanted = "LA"
  else:
    wanted = "RGBA" if transparent or image.mode in ("RGBA", "RGBa", "PA") else "RGB"
  values = np.asarray(image.convert(wanted))
  return values[..., None] if values.ndim == 2 else values
