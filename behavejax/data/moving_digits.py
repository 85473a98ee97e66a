"""Videos of digits that drift and bounce off the walls, made from scikit-learn's digits."""

import numpy as np
from jaxtyping import Float, UInt8

from behavejax.config_frames import FramesConfig
from behavejax.data import pixels
from behavejax.data.images import read_digits
from behavejax.data.samples import Loaded
from behavejax.data.splits import NAMES, split_sources
from behavejax.errors import InputError

RATE_HZ = 10.0
_SIZE = (16, 16)
_SHARE = 0.4375  # of the shorter side that a digit takes: 28 of 64 pixels, as in Moving MNIST
_SMALLEST = 6


def moving_digits(frames: FramesConfig, seed: int) -> Loaded:
  """Videos as bytes; each depends on the seed and its own number alone, given the split.

  A digit moves with its own constant velocity between walls that it never crosses, at subpixel places; where digits
  meet, the brighter pixel is seen. The splits share no digit image. A video with one digit is labelled by it.

  Raises:
    InputError: a picture too small for a digit, or too few videos or digits to split.
  """
  size, moving = frames.size or _SIZE, frames.moving
  side = round(_SHARE * min(size))
  if side < _SMALLEST:
    raise InputError(f"config.frames.size={size} is too small for digits to move in; 14 x 14 is the least")
  digits = read_digits()
  unassigned, every = np.full(moving.videos, -1), np.ones(moving.videos, bool)
  split = split_sources(unassigned, every, frames, seed, what="videos")
  pool = np.random.default_rng(seed).permutation(len(digits.labels))
  edges = np.cumsum([(split == i).mean() * len(pool) for i in range(len(NAMES))]).astype(int)[:-1]
  pools = np.split(pool, edges)
  for name, part in zip(NAMES, pools, strict=True):
    if len(part) == 0:
      raise InputError(f"no digit is left for the {name} split of {moving.videos} videos; raise config.frames.{name}")
  videos, labels = [], []
  for number, part in enumerate(split):
    rng = np.random.default_rng((seed, number))
    chosen = rng.choice(pools[part], moving.digits)
    shapes = [pixels.fit(digits.steps[i], (side, side))[..., 0] for i in chosen]
    videos.append(_video(shapes, size, frames, rng))
    labels.append(digits.labels[chosen[0]])
  one = moving.digits == 1
  return Loaded(
    steps=np.concatenate(videos)[..., None],
    bounds=np.arange(moving.videos + 1) * moving.frames,
    names=tuple(f"video{i:04d}" for i in range(moving.videos)),
    labels=np.array(labels, np.int32) if one else np.full(moving.videos, -1, np.int32),
    classes=digits.classes if one else (),
    split=split,
    rate_hz=RATE_HZ,
  )


def bounce(
  start: Float[np.ndarray, " axis"], velocity: Float[np.ndarray, " axis"], room: Float[np.ndarray, " axis"], steps: int
) -> Float[np.ndarray, "step axis"]:
  """Places between 0 and `room` of what moves at constant speed and is reflected at both."""
  free = start + np.arange(steps)[:, None] * velocity
  return room - np.abs(free % (2 * room) - room)


def _video(
  shapes: list[UInt8[np.ndarray, "side side"]], size: tuple[int, ...], frames: FramesConfig, rng: np.random.Generator
) -> UInt8[np.ndarray, "frame height width"]:
  count, speed = frames.moving.frames, frames.moving.speed
  canvas = np.zeros((count, *size), np.float64)
  for shape in shapes:
    side = len(shape)
    room = np.array(size, float) - side
    velocity = rng.uniform(0.5, 1.0, 2) * speed * rng.choice([-1, 1], 2)
    places = bounce(rng.uniform(0, 1, 2) * room, velocity, room, count)
    corner = np.minimum(np.floor(places), room - 1).astype(int)
    y, x = np.moveaxis(places - corner, -1, 0)[..., None, None]
    padded = np.pad(shape.astype(np.float64), 1)
    shifted = (  # onto side + 1 pixels, each a mixture of four
      (1 - y) * (1 - x) * padded[1:, 1:] + y * (1 - x) * padded[:-1, 1:]
      + (1 - y) * x * padded[1:, :-1] + y * x * padded[:-1, :-1]
    )  # fmt: skip
    reach = np.arange(side + 1)
    where = np.arange(count)[:, None, None], corner[:, :1, None] + reach[:, None], corner[:, 1:, None] + reach
    canvas[where] = np.maximum(canvas[where], shifted)
  return np.rint(canvas).astype(np.uint8)
