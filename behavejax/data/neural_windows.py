"""Clips of a neural recording: where they start, what of them counts, and how a batch is gathered."""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from behavejax.data.neural import NeuralRecording


class NeuralBatch(NamedTuple):
  """Clips of one data set. Data sets differ in height, width, signals and neurons.

  Attributes:
    video: normalised grey values, 0 after the end of a trial.
    behaviour: normalised signals, the copies of all lags side by side; no columns where nothing was recorded.
    spikes: counts, 0 where they do not count.
    mask: whether a count is predicted and scored; False in the context, after the end of a trial, where the recording
      says so, and in rows that only fill up the batch.
  """

  video: Float[np.ndarray, "*call batch time height width 1"]
  behaviour: Float[np.ndarray, "*call batch time signal"]
  spikes: Float[np.ndarray, "*call batch time neuron"]
  mask: Bool[np.ndarray, "*call batch time neuron"]


class Scaling(NamedTuple):
  """How a data set is brought to the network, learned from its training trials alone.

  Attributes:
    video_mean: of the grey values.
    video_std: likewise; 1 for a video that never changes.
    behaviour_mean: per signal.
    behaviour_std: per signal; 1 for a constant one.
    mean_counts: per neuron that is kept, spikes per frame.
    neurons: which of the recording's neurons are kept.
  """

  video_mean: Float[np.ndarray, ""]
  video_std: Float[np.ndarray, ""]
  behaviour_mean: Float[np.ndarray, " signal"]
  behaviour_std: Float[np.ndarray, " signal"]
  mean_counts: Float[np.ndarray, " neuron"]
  neurons: Int[np.ndarray, " neuron"]


@dataclasses.dataclass(frozen=True)
class Clips:
  """Fixed-length views on one recording, each within a trial; nothing is copied per clip.

  Attributes:
    recording: with the kept neurons only.
    scaling: of the data set.
    first: first frame of each clip.
    trial: of each clip.
    length: frames per clip; where the trial ends earlier, the rest is padding.
    context: first frames of a clip that are seen and not predicted.
    lags: frames back, of the copies of the behaviour.
  """

  recording: NeuralRecording
  scaling: Scaling
  first: Int[np.ndarray, " clip"]
  trial: Int[np.ndarray, " clip"]
  length: int
  context: int
  lags: tuple[int, ...] = (0,)

  def __len__(self) -> int:
    return len(self.first)

  @property
  def shape(self) -> tuple[int, int, int, int]:
    """(time, height, width, 1) of one clip."""
    return (self.length, *self.recording.video.shape[1:])

  @property
  def signals(self) -> int:
    """Columns of a batch's behaviour."""
    return self.recording.signals * len(self.lags)

  def gather(self, indices: Int[np.ndarray, " batch"]) -> NeuralBatch:
    """Clips of the given indices, as one batch."""
    frames, inside = self._frames(np.asarray(indices))
    mask = self.counted(indices)
    return NeuralBatch(
      self.video(frames) * inside[..., None, None, None],
      self.behaviour(frames) * inside[..., None],
      self.recording.spikes[frames] * mask,
      mask,
    )

  def counted(self, indices: Int[np.ndarray, " batch"] | None = None) -> Bool[np.ndarray, "batch time neuron"]:
    """The mask of the given clips, or of all."""
    frames, inside = self._frames(np.arange(len(self)) if indices is None else np.asarray(indices))
    return self.recording.mask[frames] & (inside & (np.arange(self.length) >= self.context))[..., None]

  def counted_frames(self) -> Bool[np.ndarray, "frame neuron"]:
    """Which counts of the recording are predicted by one of these clips, and may be used."""
    predicted = np.isfinite(self.place(np.zeros((len(self), self.length, self.recording.neurons))))
    return self.recording.mask & predicted

  def place(self, values: Float[np.ndarray, "clip time neuron"]) -> Float[np.ndarray, "frame neuron"]:
    """Predictions of all clips, in order -> one row per frame of the recording, NaN where nothing was predicted."""
    frames, inside = self._frames(np.arange(len(self)))
    counted = inside & (np.arange(self.length) >= self.context)
    placed = np.full(self.recording.spikes.shape, np.nan, np.float32)
    placed[frames[counted]] = values[counted]
    return placed

  @functools.cached_property
  def _edges(self) -> Int[np.ndarray, " trial_and_1"]:
    return self.recording.trial_edges

  def _frames(self, indices: Int[np.ndarray, " batch"]) -> tuple[Int[np.ndarray, "batch time"], np.ndarray]:
    """Frames of the recording, those after the end of a trial its last one, and which are inside."""
    frames = self.first[indices][:, None] + np.arange(self.length)
    stop = self._edges[self.trial[indices] + 1][:, None]
    return np.minimum(frames, stop - 1), frames < stop

  def behaviour(self, frames: Int[np.ndarray, "*time"]) -> Float[np.ndarray, "*time signal"]:
    """Normalised behaviour of frames of the recording, the copies of all lags side by side.

    What was before a trial is taken to be as at its start.
    """
    if self.recording.behaviour is None:
      return np.zeros((*np.shape(frames), 0), np.float32)
    start = self._edges[self.recording.trial[frames]]
    scaled = [
      (self.recording.behaviour[np.maximum(frames - lag, start)] - self.scaling.behaviour_mean)
      / self.scaling.behaviour_std
      for lag in self.lags
    ]
    return np.concatenate(scaled, axis=-1).astype(np.float32)

  def video(self, frames: Int[np.ndarray, "*time"]) -> Float[np.ndarray, "*time height width 1"]:
    """Normalised frames of the recording."""
    return ((self.recording.video[frames] - self.scaling.video_mean) / self.scaling.video_std).astype(np.float32)
