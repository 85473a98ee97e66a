"""Where a neuron's receptive field may be, from its training counts alone: where its readout begins to look.

A mask that begins in the middle of the frame has to travel while the core it looks through is still learning.
"""

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from behavejax.data.neural_windows import Clips

_LAGS = 8
_CHUNK = 2048  # frames that are made floats at once
_CONTRAST = 1.5  # pixels: what differs from the surround of this width, squared, is contrast
_SMOOTH = 1.0  # pixels


def start_positions(clips: Clips) -> Float[np.ndarray, "neuron 2"]:
  """Row and column of each neuron's likely place, in pixels from the middle of the first one.

  The place is where counts go with grey values or with local contrast, frames back: squared correlations, summed over
  both and over lags. Grey values find linear neurons, contrast those that do not care for the phase.
  """
  return np.stack([centre(image) for image in correlation_maps(clips)])


def correlation_maps(clips: Clips) -> Float[np.ndarray, "neuron height width"]:
  """Summed squared correlations of counts with grey value and contrast of every pixel, over lags."""
  counted = clips.counted_frames()
  frames = np.flatnonzero(counted.any(1))
  height, width = clips.shape[1:3]
  counts = clips.recording.spikes[frames] * counted[frames]
  counts = counts - counts.mean(0)
  counts /= np.maximum(np.linalg.norm(counts, axis=0), 1e-9)
  lags = min(_LAGS, clips.context + 1)  # that lie inside the trial of every counted frame
  products = np.zeros((lags, 2, height * width, counts.shape[1]), np.float32)
  sums, squares = np.zeros((2, height * width)), np.zeros((2, height * width))
  first = frames[0] - lags + 1
  for start in range(max(first, 0), frames[-1] + 1, _CHUNK):
    shown = np.arange(start, min(start + _CHUNK, frames[-1] + 1))
    pictures = _pictures(clips, shown)
    sums += pictures.sum(1, dtype=np.float64)
    squares += np.square(pictures, dtype=np.float64).sum(1)
    for lag in range(lags):
      here = np.searchsorted(frames, shown + lag)
      known = (here < len(frames)) & (frames[np.minimum(here, len(frames) - 1)] == shown + lag)
      products[lag] += np.einsum("kfp,fn->kpn", pictures[:, known], counts[here[known]], optimize=True)
  total = frames[-1] + 1 - max(first, 0)
  spread = np.sqrt(np.maximum(squares - np.square(sums) / total, 1e-9))  # over all frames shown, near enough
  found = np.square(products / spread[None, :, :, None]).sum((0, 1))
  return found.T.reshape(-1, height, width)


def centre(image: Float[np.ndarray, "height width"]) -> Float[np.ndarray, " 2"]:
  """Row and column of the middle of the brightest spot: the centroid of what is above half its height around it.

  >>> image = np.zeros((7, 9))
  >>> image[2:5, 4:7] = 1.0
  >>> centre(image)
  array([3., 5.])
  """
  smooth = ndimage.gaussian_filter(np.asarray(image, np.float64), _SMOOTH, mode="constant")
  peak = np.unravel_index(int(smooth.argmax()), smooth.shape)
  spots, _ = ndimage.label(smooth >= smooth.max() / 2)
  weights = np.where(spots == spots[peak], smooth, 0)
  if not weights.any():  # a neuron that no pixel moves
    return (np.array(image.shape) - 1) / 2
  return np.array(ndimage.center_of_mass(weights))


def _pictures(clips: Clips, frames: np.ndarray) -> Float[np.ndarray, "2 frame pixel"]:
  """Grey values, and local contrast, of some frames."""
  video = clips.video(frames)[..., 0]
  contrast = np.square(video - ndimage.gaussian_filter(video, (0, _CONTRAST, _CONTRAST)))
  return np.stack([video, contrast]).reshape(2, len(frames), -1)
