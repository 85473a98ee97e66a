"""From a config to normalised samples of signals, images or video: load, split, fit the normalization, cut."""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from behavejax.config import Config, DataConfig, did_you_mean
from behavejax.config_frames import FramesConfig
from behavejax.data import pixels, sources, splits
from behavejax.data.cifar import read_cifar10
from behavejax.data.idx import read_idx
from behavejax.data.images import read_digits, read_image_folder
from behavejax.data.moving_digits import moving_digits
from behavejax.data.normalization import Normalization, fit_stored
from behavejax.data.prepare import prepare_recordings
from behavejax.data.samples import Loaded, Samples, channel_names
from behavejax.data.videos import read_video_folder
from behavejax.data.windows import Windows, window_starts
from behavejax.errors import InputError


def frames_path(data: DataConfig, frames: FramesConfig) -> pathlib.Path:
  """`config.frames.path` below the data root, or as it stands if absolute.

  Raises:
    InputError: no path set, or it does not exist.
  """
  if not frames.path:
    raise InputError(f"config.frames.name={frames.name} needs config.frames.path, a file or folder below the data root")
  path = sources.data_root(data) / frames.path
  if not path.exists():
    raise InputError(
      f"no such file or folder: {path} (config.frames.path below config.data.root or the environment variable "
      "BEHAVEJAX_DATA)"
    )
  return path


SOURCES: dict[str, Callable[[DataConfig, FramesConfig, int], Loaded]] = {
  "digits": lambda data, frames, seed: _fitted(read_digits(), frames),
  "idx": lambda data, frames, seed: _fitted(read_idx(frames_path(data, frames)), frames),
  "cifar10": lambda data, frames, seed: _fitted(read_cifar10(frames_path(data, frames)), frames),
  "image_folder": lambda data, frames, seed: read_image_folder(frames_path(data, frames), frames),
  "moving_digits": lambda data, frames, seed: _fitted(moving_digits(frames, seed), frames),
  "video_folder": lambda data, frames, seed: read_video_folder(frames_path(data, frames), frames),
}
"""Images and videos."""

SIGNALS = ("windows", "recordings")
"""Cut from the recordings of `config.data`: labelled windows, or all samples with labels left aside."""


@dataclasses.dataclass(frozen=True)
class PreparedSamples:
  """What training and evaluation need of the data.

  Attributes:
    train: samples to learn from.
    val: samples to choose by.
    test: samples held out.
    normalization: fitted on the training split.
    split: one line on how the splits were made.
    warnings: what a reader of the results must know.
  """

  train: Samples
  val: Samples
  test: Samples
  normalization: Normalization
  split: str
  warnings: tuple[str, ...]


def prepare_samples(config: Config, seed: int) -> PreparedSamples:
  """Loads and prepares the samples of a config.

  Raises:
    InputError: whatever is wrong with the data, in one line.
  """
  frames = config.frames
  if frames.name in SIGNALS:
    return _signals(config.data, seed, labelled=frames.name == "windows")
  if frames.name not in SOURCES:
    raise InputError(f"config.frames.name {frames.name!r} is unknown{did_you_mean(frames.name, (*SIGNALS, *SOURCES))}")
  return prepare_loaded(SOURCES[frames.name](config.data, frames, seed), frames, seed)


def prepare_loaded(loaded: Loaded, frames: FramesConfig, seed: int) -> PreparedSamples:
  """The same for images or videos that are at hand already."""
  steps = np.diff(loaded.bounds)
  video = loaded.rate_hz > 0
  warnings = list(loaded.warnings)
  usable = steps >= frames.length if video else np.ones(len(steps), bool)
  if not usable.any():
    raise InputError(
      f"config.frames.length={frames.length} is longer than every video; the longest, "
      f"{loaded.names[int(steps.argmax())]}, has {steps.max()} frames"
    )
  if not usable.all():
    warnings.append(f"{(~usable).sum()} of {len(steps)} videos are shorter than a clip and were left out")
  split = splits.split_sources(loaded.split, usable, frames, seed, what="videos" if video else "images")
  channels = channel_names(loaded.steps.shape[-1])
  used = np.flatnonzero(np.repeat(split == splits.NAMES.index("train"), steps))
  normalization, constant = fit_stored(loaded.steps, used, channels)
  warnings += [f"channel {name} is constant in the training split: its scale is left as it is" for name in constant]
  peak = _peak(loaded.steps, used)
  parts = {
    name: _cut(loaded, np.flatnonzero(split == i), normalization, peak, frames) for i, name in enumerate(splits.NAMES)
  }
  return PreparedSamples(**parts, normalization=normalization, split=_describe(loaded), warnings=tuple(warnings))


def _fitted(loaded: Loaded, frames: FramesConfig) -> Loaded:
  """Images or frames with the channels and the size that are configured."""
  channels = frames.channels or loaded.steps.shape[-1]
  if loaded.steps.shape[1:] == (*(frames.size or loaded.steps.shape[1:3]), channels):
    return loaded
  steps = [pixels.fit(pixels.to_channels(image, channels), frames.size) for image in loaded.steps]
  return loaded._replace(steps=np.stack(steps))


def _cut(
  loaded: Loaded, chosen: Int[np.ndarray, " source"], normalization: Normalization, peak: float, frames: FramesConfig
) -> Samples:
  """Samples of some images, or clips of some videos."""
  video = loaded.rate_hz > 0
  length = frames.length if video else 0
  first, count = loaded.bounds[:-1], np.diff(loaded.bounds)
  if video:
    stride = frames.stride or length
    cuts = [first[i] + window_starts(count[i], length=length, stride=stride) for i in chosen]
    starts, source = np.concatenate(cuts), np.repeat(chosen, [len(cut) for cut in cuts])
  else:
    starts, source = first[chosen], chosen
  return Samples(
    steps=loaded.steps,
    starts=starts,
    length=length,
    labels=loaded.labels[source].astype(np.int32),
    source=source,
    bounds=loaded.bounds,
    sources=loaded.names,
    classes=loaded.classes,
    channels=normalization.channels,
    normalization=normalization,
    peak=peak,
    rate_hz=loaded.rate_hz,
  )


def _peak(steps: np.ndarray, used: Int[np.ndarray, " used"]) -> float:
  """What values may span: by the type of whole numbers, else as seen in training."""
  if np.issubdtype(steps.dtype, np.integer):
    return float(np.iinfo(steps.dtype).max)
  seen = [(steps[i].min(), steps[i].max()) for i in used]
  return float(max(high for _, high in seen) - min(low for low, _ in seen))


def _describe(loaded: Loaded) -> str:
  what = "videos" if loaded.rate_hz else "images"
  own = [name for i, name in enumerate(splits.NAMES) if name != "train" and (loaded.split == i).any()]
  drawn = [name for name in ("val", "test") if name not in own]
  parts = [f"{' and '.join(own)} as the data come with"] if own else []
  parts += [f"{' and '.join(drawn)} drawn from the {what} with the seed"] if drawn else []
  return ", ".join(parts)


def _signals(config: DataConfig, seed: int, *, labelled: bool) -> PreparedSamples:
  """Windows of recordings as `[time, channel]`, each column of all devices a channel of its own."""
  recordings = sources.load(config, seed)
  if not labelled:
    recordings = [
      dataclasses.replace(recording, labels=np.full_like(recording.labels, -1), classes=()) for recording in recordings
    ]
  data = prepare_recordings(recordings, dataclasses.replace(config, fold=False, devices=1), seed)
  return PreparedSamples(
    **{name: _of_windows(getattr(data, name)) for name in splits.NAMES},
    normalization=data.normalization,
    split=data.split,
    warnings=data.warnings,
  )


def _of_windows(windows: Windows) -> Samples:
  return Samples(
    steps=windows.signal,
    starts=windows.starts,
    length=windows.length,
    labels=windows.labels,
    source=windows.recording,
    bounds=np.asarray(windows.bounds),
    sources=windows.recordings,
    classes=windows.classes,
    channels=windows.channels,
    normalization=None,
    peak=0.0,
    rate_hz=windows.rate_hz,
  )
