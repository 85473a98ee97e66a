"""Images as arrays `[height, width, channel]`: their channels, depth and size made alike."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image

from behavejax.errors import InputError

Pixels = Shaped[np.ndarray, "height width channel"]

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_PILLOW_CHANNELS = (1, 3, 4)


def full(dtype: np.dtype) -> float:
  """White: the largest value of a type of whole numbers, 1 of others."""
  return float(np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else 1.0


def to_channels(image: Pixels, channels: int) -> Pixels:
  """Grey (1 channel), grey and opacity (2), colour (3) or colour and opacity (4) as 1, 3 or 4 channels.

  What is not opaque is laid over black where opacity is not wanted. Colour becomes grey by its luma.

  Raises:
    InputError: another number of channels than these.
  """
  if not 1 <= image.shape[-1] <= 4:
    raise InputError(f"{image.shape[-1]} channels, of which config.frames.channels={channels} cannot be made")
  values, opacity = image, None
  if image.shape[-1] in (2, 4):
    values, opacity = image[..., :-1], image[..., -1:]
  if opacity is not None and channels < 4:
    values = _rounded(values * (opacity / full(image.dtype)), image.dtype)
  if channels == 1 and values.shape[-1] == 3:
    values = _rounded(values @ _LUMA[:, None], image.dtype)
  elif channels > 1 and values.shape[-1] == 1:
    values = np.repeat(values, 3, axis=-1)
  if channels == 4:
    opaque = np.full_like(values[..., :1], full(image.dtype))
    values = np.concatenate([values, opaque if opacity is None else opacity], axis=-1)
  return values


def fit(image: Pixels, size: tuple[int, ...]) -> Pixels:
  """Scaled to cover (height, width) and cropped in the middle; `()` leaves it alone.

  Bilinear; what becomes smaller is averaged over the pixels that fall together.
  """
  height, width, channels = image.shape
  if not size or size == (height, width):
    return image
  scale = max(size[0] / height, size[1] / width)
  tall, wide = size[0] / scale, size[1] / scale
  box = ((width - wide) / 2, (height - tall) / 2, (width + wide) / 2, (height + tall) / 2)
  if image.dtype == np.uint8 and channels in _PILLOW_CHANNELS:
    return _resized(image[..., 0] if channels == 1 else image, size, box).reshape(*size, channels)
  planes = [_resized(image[..., i].astype(np.float32), size, box) for i in range(channels)]
  return _rounded(np.stack(planes, axis=-1), image.dtype)


def alike(
  images: Sequence[Shaped[np.ndarray, "*steps height width channel"]], names: Sequence[str]
) -> list[Shaped[np.ndarray, "*steps height width channel"]]:
  """The same images, or videos, all of one type: bytes beside 16 bits become 16 bits.

  Raises:
    InputError: different sizes, channels, or whole numbers beside others.
  """
  first = images[0].shape[-3:]
  for image, name in zip(images, names, strict=True):
    for what, found, expected in (
      ("sizes", image.shape[-3:-1], first[:-1]),
      ("numbers of channels", image.shape[-1:], first[-1:]),
    ):
      if found != expected:
        key = "size=(height, width)" if what == "sizes" else "channels"
        raise InputError(
          f"different {what}: {_by(expected)} in {names[0]}, {_by(found)} in {name}; set config.frames.{key} to make "
          "them alike"
        )
  types = {image.dtype for image in images}
  if len(types) == 1:
    return list(images)
  if types == {np.dtype(np.uint8), np.dtype(np.uint16)}:
    return [image if image.dtype == np.uint16 else image.astype(np.uint16) * 257 for image in images]
  raise InputError(f"values of different types: {', '.join(sorted(map(str, types)))}; convert the files to one of them")


def _by(shape: Sequence[int]) -> str:
  return " x ".join(map(str, shape))


def _resized(plane: np.ndarray, size: tuple[int, ...], box: tuple[float, float, float, float]) -> np.ndarray:
  image = Image.fromarray(np.ascontiguousarray(plane))
  return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box))


def _rounded(values: Float[np.ndarray, "..."], dtype: np.dtype) -> np.ndarray:
  if np.issubdtype(dtype, np.integer):
    return np.rint(np.clip(values, 0, full(dtype))).astype(dtype)
  return values.astype(dtype)
