"""Folders of videos, decoded by PyAV in worker processes, and of `.npy` stacks of frames."""

import functools
import multiprocessing
import pathlib
from collections.abc import Callable, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from behavejax.config_frames import FramesConfig
from behavejax.data import folders, native, pixels
from behavejax.data.samples import Loaded
from behavejax.errors import InputError

SUFFIXES = (".avi", ".mkv", ".mp4", ".npy")
_STACK = ".npy"
_STACK_RATE_HZ = 25.0  # stacks do not say; matters only to how fast they are shown
_LOST_FRAMES = 2  # that a file may promise too many
_LOST_SHARE = 0.01
_NEEDS_AV = "reading videos needs the package av: pip install 'behavejax[data]'"


class Video(NamedTuple):
  """What one file holds, or what is wrong with it.

  Attributes:
    frames: None where the file is broken.
    rate_hz: frames per second, 0 where the file does not say.
    why: what is wrong, "" where nothing is.
  """

  frames: Shaped[np.ndarray, "frame height width channel"] | None
  rate_hz: float = 0.0
  why: str = ""


def read_video_folder(folder: pathlib.Path, frames: FramesConfig) -> Loaded:
  """All frames of the videos below a folder, in memory as bytes; classes and splits as for images.

  Videos are decoded to 8 bits per colour and turned as their display matrix says. Stacks are `[frame, height, width]`
  or `[frame, height, width, channel]` of bytes, 16 bits or floats, and keep their type. A video is broken if it cannot
  be decoded to its end: what a file cut short still gives is not used.

  Raises:
    InputError: nothing to read, a broken file that may not be skipped, or frames of different sizes.
  """
  listing = folders.list_folder(folder, SUFFIXES, what="video")
  channels = frames.channels or max(map(channels_of, listing.files))
  found = _in_workers(
    functools.partial(read_video, channels=channels, size=frames.size), listing.files, frames.workers
  )  # fmt: skip
  skip = frames.on_broken == "skip"
  kept, warnings = folders.set_broken_aside(listing, [video.why for video in found], skip=skip, what="video")
  listing, found = listing.only(kept), [found[i] for i in kept]
  steps = pixels.alike([video.frames for video in found], [str(file) for file in listing.files])
  rates = [video.rate_hz for video in found if video.rate_hz] or [_STACK_RATE_HZ]
  if max(rates) - min(rates) > 0.01 * max(rates):
    warnings.append(
      f"the videos have {min(rates):g} to {max(rates):g} frames per second, and clips count frames: they are not "
      "equally long in time"
    )
  return Loaded(
    steps=np.concatenate(steps),
    bounds=np.cumsum([0, *(len(part) for part in steps)]),
    names=listing.names,
    labels=listing.labels,
    classes=listing.classes,
    split=listing.split,
    rate_hz=float(np.median(rates)),
    warnings=tuple(warnings),
  )


def channels_of(file: pathlib.Path) -> int:
  """1 for a grey video, 3 for colour; 0 for stacks, which come as they are, and for files that cannot be opened."""
  if file.suffix.lower() == _STACK:
    return 0
  av = _import_av()
  try:
    with av.open(str(file)) as container:
      return 1 if container.streams.video[0].codec_context.pix_fmt.startswith("gray") else 3
  except (av.FFmpegError, OSError, ValueError, IndexError, AttributeError):
    return 0


def read_video(file: pathlib.Path, *, channels: int, size: tuple[int, ...]) -> Video:
  """All frames of a file.

  Args:
    file: a video or a stack.
    channels: 1, 3 or 4; 0 keeps those of a stack.
    size: as of `pixels.fit`.
  """
  try:
    if file.stat().st_size == 0:
      return Video(None, why="it is empty")
    return _read_stack(file, channels, size) if file.suffix.lower() == _STACK else _decode(file, channels, size)
  except (OSError, ValueError, EOFError) as error:
    return Video(None, why=folders.reason(error))


def _read_stack(file: pathlib.Path, channels: int, size: tuple[int, ...]) -> Video:
  stack = native.numpy_array(file)
  if stack.ndim not in (3, 4) or 0 in stack.shape:
    return Video(None, why=f"a stack of shape {stack.shape}, expected [frame, height, width] or one axis more")
  if stack.dtype not in (np.uint8, np.uint16) and not np.issubdtype(stack.dtype, np.floating):
    return Video(None, why=f"a stack of type {stack.dtype}, expected uint8, uint16 or floats")
  if not np.isfinite(stack).all():
    return Video(None, why="a stack with NaN or Inf")
  if np.issubdtype(stack.dtype, np.floating):
    stack = stack.astype(np.float32)
  stack = stack[..., None] if stack.ndim == 3 else stack
  if channels not in (0, stack.shape[-1]):
    stack = np.stack([pixels.to_channels(frame, channels) for frame in stack])
  return Video(np.stack([pixels.fit(frame, size) for frame in stack]))


def _decode(file: pathlib.Path, channels: int, size: tuple[int, ...]) -> Video:
  av = _import_av()
  try:
    with av.open(str(file)) as container:
      if not container.streams.video:
        return Video(None, why="it holds no video")
      stream = container.streams.video[0]
      pixel_format = "gray" if channels == 1 else "rgb24"
      found, end_s = [], 0.0
      for frame in container.decode(stream):
        if frame.is_corrupt:
          return Video(None, why=f"frame {len(found)} is damaged")
        image = np.rot90(frame.to_ndarray(format=pixel_format), frame.rotation // 90)
        image = image if image.ndim == 3 else image[..., None]
        found.append(pixels.fit(pixels.to_channels(image, channels), size))
        end_s = max(end_s, frame.time or 0.0)
      rate = float(stream.average_rate or stream.guessed_rate or 0)
      why = _cut_short(container, stream, len(found), end_s, rate)
  except av.FFmpegError as error:
    return Video(None, why=folders.reason(error))
  if why:
    return Video(None, why=why)
  if len({image.shape for image in found}) > 1:
    return Video(None, why="its frames change their size, and config.frames.size is ()")
  return Video(np.stack(found), rate)


def _cut_short(container: Any, stream: Any, frames: int, end_s: float, rate: float) -> str:
  """What is missing, by what the file says of itself; "" if nothing, or if it says nothing of its own video."""
  if not frames:
    return "it holds no frame"
  if stream.frames:
    missing = stream.frames - frames > max(_LOST_FRAMES, _LOST_SHARE * stream.frames)
    return f"it is cut short: {frames} of {stream.frames} frames" if missing else ""
  duration_s = 0.0
  if stream.duration:
    duration_s = float(stream.duration * stream.time_base)
  elif "DURATION" in stream.metadata:  # as Matroska's muxers write it
    hours, minutes, seconds = map(float, stream.metadata["DURATION"].split(":"))
    duration_s = 3600 * hours + 60 * minutes + seconds
  elif len(container.streams) == 1:
    duration_s = (container.duration or 0) / 1e6
  step_s = 1 / rate if rate else 0.0
  missing = duration_s - end_s - step_s > max(_LOST_FRAMES * step_s, _LOST_SHARE * duration_s)
  return f"it is cut short: {end_s + step_s:.2f} of {duration_s:.2f} s" if missing else ""


def _in_workers(call: Callable[[pathlib.Path], Video], files: Sequence[pathlib.Path], workers: int) -> list[Video]:
  """The call's answer for each file, in order."""
  workers = min(workers, len(files))
  if not workers:
    return [call(file) for file in files]
  context = multiprocessing.get_context("spawn")  # forking a process with threads, as JAX has, may hang
  with futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
    try:
      return list(pool.map(call, files))
    except BrokenProcessPool as error:
      raise InputError(
        "a process that decodes videos died, of a damaged file or for want of memory; config.frames.workers=0 decodes "
        "in this one"
      ) from error


def _import_av() -> ModuleType:
  try:
    import av
  except ImportError as error:
    raise InputError(_NEEDS_AV) from error
  av.logging.set_level(av.logging.PANIC)  # what is wrong with a file is said once, by us
  return av
