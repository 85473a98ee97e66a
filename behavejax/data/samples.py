"""Samples of one shape, cut from signals, images or videos, and how a batch of them is gathered."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from behavejax.data.normalization import Normalization


@dataclasses.dataclass(frozen=True)
class Samples:
  """Samples `[*space, channel]` with 1 to 3 axes of space, time the first of them if there is one.

  Nothing is copied per sample: clips of a video may overlap, and splits share what they are cut from. What is stored
  as bytes becomes float32 when it is gathered.

  Attributes:
    steps: samples of signals, images, or frames of videos, those of all sources one after the other, as stored.
    starts: first step of each sample.
    length: steps per sample; 0 for images, which have no time.
    labels: of each sample, -1 where there is none.
    source: of each sample, an index into `sources`.
    bounds: the step at which each source begins, and the end of the last.
    sources: names of recordings, files or videos; those of other splits may be among them.
    classes: names of the labels.
    channels: names of the last axis.
    normalization: applied to what is gathered; None where `steps` are normalised.
    peak: of images and videos: what their values span, 255 if stored as bytes; 0 for signals, whose channels have
      units of their own.
    rate_hz: steps per second, 0 for images.
  """

  steps: Shaped[np.ndarray, "step *space channel"]
  starts: Int[np.ndarray, " sample"]
  length: int
  labels: Int[np.ndarray, " sample"]
  source: Int[np.ndarray, " sample"]
  bounds: Int[np.ndarray, " edge"]
  sources: tuple[str, ...]
  classes: tuple[str, ...]
  channels: tuple[str, ...]
  normalization: Normalization | None
  peak: float
  rate_hz: float

  def __len__(self) -> int:
    return len(self.starts)

  @property
  def shape(self) -> tuple[int, ...]:
    """(*space, channel) of one sample."""
    return ((self.length,) if self.length else ()) + self.steps.shape[1:]

  def gather(self, indices: Int[np.ndarray, " batch"]) -> Float[np.ndarray, "batch *space channel"]:
    """Normalised samples of the given indices, by one take."""
    starts = self.starts[np.asarray(indices)]
    places = starts[:, None] + np.arange(self.length) if self.length else starts
    return self._normalized(np.take(self.steps, places, axis=0))

  def whole(self, source: int) -> Float[np.ndarray, "step *space channel"]:
    """All steps of a source, normalised: a recording or video from end to end."""
    return self._normalized(self.steps[self.bounds[source] : self.bounds[source + 1]])

  def subset(self, keep: Int[np.ndarray, " kept"] | Bool[np.ndarray, " sample"]) -> "Samples":
    """The same sources with some of the samples."""
    return dataclasses.replace(
      self, starts=self.starts[keep], labels=self.labels[keep], source=self.source[keep]
    )  # fmt: skip

  def _normalized(self, steps: Shaped[np.ndarray, "*batch channel"]) -> Float[np.ndarray, "*batch channel"]:
    return steps if self.normalization is None else self.normalization.apply(steps)


class Loaded(NamedTuple):
  """What a source of images or videos read.

  Attributes:
    steps: images, or frames of all videos, one after the other.
    bounds: the step at which each image or video begins, and the end of the last.
    names: of images or videos.
    labels: of images or videos, -1 where there is none.
    classes: names of the labels.
    split: an index into `behavejax.data.splits.NAMES` where the data say so themselves, else -1.
    rate_hz: frames per second of videos; 0 for images.
    warnings: what a reader of the results must know.
  """

  steps: Shaped[np.ndarray, "step height width channel"]
  bounds: Int[np.ndarray, " edge"]
  names: tuple[str, ...]
  labels: Int[np.ndarray, " source"]
  classes: tuple[str, ...]
  split: Int[np.ndarray, " source"]
  rate_hz: float = 0.0
  warnings: tuple[str, ...] = ()


def channel_names(count: int) -> tuple[str, ...]:
  """Of images and videos."""
  known = {1: ("grey",), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "opacity")}
  return known.get(count) or tuple(f"channel_{i}" for i in range(count))
