"""The section `frames`: signals, images or clips of video as samples of one shape."""

import dataclasses

from behavejax.errors import InputError

STAGES = ("vqvae", "vae")
"""Stages that learn from samples; the others leave this section alone."""

_BROKEN = ("fatal", "skip")
_CHANNELS = (0, 1, 3, 4)


@dataclasses.dataclass(frozen=True)
class MovingDigitsConfig:
  """Videos of digits that move and bounce (`frames.name = "moving_digits"`)."""

  videos: int = 240
  frames: int = 16  # per video
  digits: int = 2  # in each
  speed: float = 1.0  # largest, pixels per frame along each axis


@dataclasses.dataclass(frozen=True)
class FramesConfig:
  """Samples `[*space, channel]` for the models that see signals, images and video alike.

  `windows` and `recordings` cut the recordings of the section `data`; the root is `data.root`.
  """

  name: str = "digits"  # a key of `behavejax.data.prepare_samples.SOURCES`
  path: str = ""  # file or folder below the root
  channels: int = 0  # 1 grey, 3 colour, 4 colour and opacity; 0 is 1 if all is grey, else 3
  size: tuple[int, ...] = ()  # (height, width) to scale and crop to; () keeps that of the files, 16 x 16 where made
  length: int = 8  # frames per clip
  stride: int = 0  # frames from one clip to the next; 0 is `length`
  val: float = 0.1  # of images or videos: a number, or below 1 a share
  test: float = 0.1  # likewise; not used where the data come with a test split of their own
  on_broken: str = "fatal"  # a file that cannot be read is: fatal | skip
  workers: int = 2  # processes that decode videos; 0 decodes in this one
  moving: MovingDigitsConfig = MovingDigitsConfig()


def check_frames(frames: FramesConfig) -> None:
  """Raises `InputError` for values out of range."""
  if frames.on_broken not in _BROKEN:
    raise InputError(f"config.frames.on_broken must be one of {', '.join(_BROKEN)}, got {frames.on_broken!r}")
  if frames.channels not in _CHANNELS:
    raise InputError(f"config.frames.channels must be one of {', '.join(map(str, _CHANNELS))}, got {frames.channels}")
  if len(frames.size) not in (0, 2) or min(frames.size, default=1) < 1:
    raise InputError(f"config.frames.size must be (height, width) in pixels or (), got {frames.size}")
  for key in ("length", "moving.videos", "moving.frames", "moving.digits", "moving.speed", "val", "test"):
    _at_least(frames, key, above=True)
  for key in ("stride", "workers"):
    _at_least(frames, key, above=False)
  for key in ("val", "test"):
    value = getattr(frames, key)
    if value >= 1 and value != int(value):
      raise InputError(f"config.frames.{key} must be a whole number or a share below 1, got {value:g}")
  if frames.val < 1 and frames.test < 1 and frames.val + frames.test >= 1:
    raise InputError("config.frames.val and config.frames.test leave nothing to train on")


def _at_least(frames: FramesConfig, key: str, *, above: bool) -> None:
  section, _, name = key.rpartition(".")
  value = getattr(getattr(frames, section) if section else frames, name)
  if not (value > 0 if above else value >= 0) or value == float("inf"):
    raise InputError(f"config.frames.{key} must be {'above 0' if above else '0 or more'}, got {value!r}")
