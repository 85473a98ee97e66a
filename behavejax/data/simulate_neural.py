"""A simulated visual cortex: known receptive fields look at a moving, natural-like video.

Some neurons are linear-nonlinear: a Gabor filter, a biphasic kernel in time, a soft threshold. The others add the
squares of a pair of Gabor filters a quarter of a wave apart (Adelson and Bergen 1985) and do not care for the
phase. Running speed and pupil multiply every neuron's rate.

A neuron that has fired is silent for a while. Its spikes are therefore not Poisson, yet the expected count of every
frame given video and behaviour is known exactly: with `R` silent bins after a spike, at most one of the last `R` bins
holds one, so a bin is silent with the probability `q = sum_j p[k - j]` of the expected counts `p` of the bins before
it, and a neuron that may fire does so with the probability `p[k] / (1 - q)`.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from scipy import fft, ndimage

from behavejax.config_neural import SimulateNeuralConfig
from behavejax.data.neural import NeuralRecording, NeuralTruth

KERNEL_S = 0.25
"""How far back a neuron sees."""
_LATENCY_S = 0.02
_SCENE_S = 0.6  # mean time to the next cut
_SPEED = 8.0  # sd of the drift along each axis, pixels per second
_CONTRAST = 45.0  # sd of grey values
_SPECTRUM = 1.0  # amplitude falls with spatial frequency to this power
_SLOPE = 1.3  # of rates above threshold
_MARGIN = 4.0  # of centres from the edge, pixels
_BIN_S = 0.002
_MOST = 0.9  # of the highest rate that the refractory time allows


class Cells(NamedTuple):
  """Receptive fields.

  Attributes:
    centres: row and column, in pixels from the middle of the first one.
    filters: two Gabors a quarter of a wave apart; linear-nonlinear neurons use the first.
    energy: whether the squares of both are added.
    kernels: weight of each past frame, the present one first.
    gains: of standardised running speed and pupil, on the logarithm of the rate.
    counts: mean spikes per frame.
  """

  centres: Float[np.ndarray, "neuron 2"]
  filters: Float[np.ndarray, "neuron 2 height width"]
  energy: np.ndarray
  kernels: Float[np.ndarray, "neuron lag"]
  gains: Float[np.ndarray, "neuron 2"]
  counts: Float[np.ndarray, " neuron"]


def simulate_neural(config: SimulateNeuralConfig, number: int, seed: int) -> NeuralRecording:
  """Recording `simulated_{number + 1}`.

  Args:
    config: sizes; the element `number` of each tuple is used.
    number: from 0. Other recordings do not change this one.
    seed: of everything.
  """
  rng = np.random.default_rng((seed, number))
  rate, frames = config.rates_hz[number], max(round(config.trial_s * config.rates_hz[number]), 1)
  height, width = config.heights[number], config.widths[number]
  condition = np.r_[np.full(config.trials, -1), np.repeat(np.arange(config.repeated), config.repeats)]
  condition = rng.permutation(condition)
  shown = [_moving_video(rng, frames, height, width, rate) for _ in range(config.repeated)]
  videos = [shown[c] if c >= 0 else _moving_video(rng, frames, height, width, rate) for c in condition]
  video = np.stack(videos)
  behaviour = _behaviour(rng, len(condition) * frames, rate)
  cells = _cells(rng, config, number)
  rates = expected_counts(video, behaviour.reshape(len(condition), frames, 2), cells)
  rates = np.minimum(rates, _highest(config, rate))
  spikes = _spikes(rng, rates, config, rate)
  neurons = config.neurons[number]
  return NeuralRecording(
    video=video.reshape(-1, height, width, 1),
    spikes=spikes.reshape(-1, neurons),
    behaviour=behaviour,
    mask=np.broadcast_to(True, (len(behaviour), neurons)),
    trial=np.repeat(np.arange(len(condition)), frames),
    condition=condition,
    rate_hz=rate,
    name=f"simulated_{number + 1}",
    truth=NeuralTruth(rates.reshape(-1, neurons).astype(np.float32), cells.centres.astype(np.float32)),
  )


def expected_counts(
  video: UInt8[np.ndarray, "trial time height width"], behaviour: Float[np.ndarray, "trial time 2"], cells: Cells
) -> Float[np.ndarray, "trial time neuron"]:
  """Counts per frame before the refractory time caps them; before a trial the screen was grey."""
  neurons = len(cells.counts)
  weights = cells.filters.reshape(2 * neurons, -1).T.astype(np.float32)
  drive = np.stack([(shown.reshape(len(shown), -1).astype(np.float32) - 128) @ weights for shown in video])
  drive = drive.reshape(*drive.shape[:2], neurons, 2)
  lags = cells.kernels.shape[1]
  padded = np.pad(drive, ((0, 0), (lags - 1, 0), (0, 0), (0, 0)))
  drive = sum(
    padded[:, lags - 1 - lag : padded.shape[1] - lag] * cells.kernels[:, lag, None] for lag in range(lags)
  )  # fmt: skip
  drive /= drive.std(axis=(0, 1))
  response = np.where(cells.energy, _soft(np.square(drive).sum(-1) - 1.5), _soft(2 * drive[..., 0] - 1))
  speed, pupil = np.moveaxis((behaviour - behaviour.mean((0, 1))) / np.maximum(behaviour.std((0, 1)), 1e-6), -1, 0)
  gain = np.exp(speed[..., None] * cells.gains[:, 0] + pupil[..., None] * cells.gains[:, 1])
  rates = response * gain
  return rates * (cells.counts / rates.mean(axis=(0, 1)))


def _soft(x: np.ndarray) -> np.ndarray:
  return np.logaddexp(0, _SLOPE * x)


def _cells(rng: np.random.Generator, config: SimulateNeuralConfig, number: int) -> Cells:
  neurons, rate = config.neurons[number], config.rates_hz[number]
  size = np.array([config.heights[number], config.widths[number]])
  margin = np.minimum(_MARGIN, (size - 1) / 2)
  centres = margin + rng.random((neurons, 2)) * (size - 1 - 2 * margin)
  sigma = rng.uniform(1.3, 1.8, neurons)[:, None, None]
  angle, phase = rng.uniform(0, np.pi, neurons), rng.uniform(0, 2 * np.pi, neurons)
  rows, columns = np.mgrid[: size[0], : size[1]]
  y, x = rows - centres[:, 0, None, None], columns - centres[:, 1, None, None]
  along = x * np.cos(angle)[:, None, None] + y * np.sin(angle)[:, None, None]
  envelope = np.exp(-0.5 * (x**2 + y**2) / sigma**2)
  waves = [np.cos(2 * np.pi * along / (3 * sigma) + phase[:, None, None] + shift) for shift in (0, np.pi / 2)]
  total = envelope.sum((1, 2), keepdims=True)
  filters = [envelope * (wave - (envelope * wave).sum((1, 2), keepdims=True) / total) for wave in waves]  # no mean
  time = np.arange(round(KERNEL_S * rate) + 1) / rate - _LATENCY_S
  late = np.maximum(time, 0) / rng.uniform(0.025, 0.04, (neurons, 1))
  kernels = late * np.exp(-late) - 0.4 * (late / 2) * np.exp(-late / 2)
  energy = rng.permutation(np.arange(neurons) < round(config.energy * neurons))
  gains = config.behaviour_gain * rng.normal(size=(neurons, 2)) / np.sqrt(2)
  counts = config.spikes_per_s / rate * np.exp(rng.normal(0, 0.3, neurons))
  return Cells(centres, np.stack(filters, 1), energy, kernels, gains, counts)


def _moving_video(
  rng: np.random.Generator, frames: int, height: int, width: int, rate: float
) -> UInt8[np.ndarray, "time height width"]:
  """Scenes of correlated noise that drift and are cut; a scene is larger than the screen and repeats."""
  shape = (height + height // 2, width + width // 2)
  fy, fx = fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])
  amplitude = np.maximum(np.hypot(fy, fx), 1 / max(shape)) ** -_SPECTRUM
  amplitude[0, 0] = 0
  cuts = np.cumsum(rng.random(frames) < 1 / (_SCENE_S * rate))
  scenes = fft.rfft2(rng.normal(size=(cuts[-1] + 1, *shape))) * amplitude
  scenes /= fft.irfft2(scenes, shape).std((1, 2))[:, None, None] + 1e-12
  velocity = _SPEED * _smooth_noise(rng, (frames, 2), width=0.2 * rate)
  y, x = np.moveaxis(np.cumsum(velocity, axis=0) / rate, -1, 0)[..., None, None]
  moved = scenes[cuts] * (np.exp(-2j * np.pi * fy * y) * np.exp(-2j * np.pi * fx * x))
  shown = fft.irfft2(moved.astype(np.complex64), shape)[:, :height, :width]
  return np.clip(np.rint(128 + _CONTRAST * shown), 0, 255).astype(np.uint8)


def _behaviour(rng: np.random.Generator, frames: int, rate: float) -> Float[np.ndarray, "time 2"]:
  """Running speed, in bouts, cm/s, and the size of the pupil, which follows it."""
  drive = _smooth_noise(rng, (frames, 1), width=1.5 * rate)[:, 0]
  speed = ndimage.gaussian_filter1d(15 * np.maximum(drive - 0.3, 0), 0.2 * rate)
  pupil = 1 + 0.02 * ndimage.gaussian_filter1d(speed, rate) + 0.15 * _smooth_noise(rng, (frames, 1), width=rate)[:, 0]
  return np.stack([speed, pupil], axis=-1).astype(np.float32)


def _spikes(
  rng: np.random.Generator, rates: Float[np.ndarray, "trial time neuron"], config: SimulateNeuralConfig, rate: float
) -> Float[np.ndarray, "trial time neuron"]:
  """Counts whose expectation is `rates`; a neuron is silent for some bins after each spike."""
  bins, silent = _bins(config, rate)
  spikes = np.zeros(rates.shape, np.float32)
  since = np.full(rates[:, 0].shape, silent, np.int64)  # bins that a neuron has been able to fire again
  past = [np.zeros(rates[:, 0].shape)] * silent
  for frame in range(rates.shape[1]):
    expected = rates[:, frame] / bins
    for _ in range(bins):
      chance = expected / (1 - sum(past)) if silent else expected
      fired = (since >= silent) & (rng.random(chance.shape) < chance)
      spikes[:, frame] += fired
      since = np.where(fired, 0, since + 1)
      past = [*past[1:], expected] if silent else past
  return spikes


def _bins(config: SimulateNeuralConfig, rate: float) -> tuple[int, int]:
  """Bins of a frame, and how many of them are silent after a spike."""
  bins = max(round(1 / (rate * _BIN_S)), 1)
  return bins, round(config.refractory_ms / 1000 * rate * bins)


def _highest(config: SimulateNeuralConfig, rate: float) -> float:
  bins, silent = _bins(config, rate)
  return _MOST * bins / (silent + 1)


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int], *, width: float) -> np.ndarray:
  """White noise smoothed over `width` samples, scaled to unit variance."""
  length = shape[0] + 2 * round(4 * width)  # what is cut off makes the ends like the middle
  noise = ndimage.gaussian_filter1d(rng.normal(size=(length, *shape[1:])), width, axis=0)
  start = (length - shape[0]) // 2
  return noise[start : start + shape[0]] * np.sqrt(2 * np.sqrt(np.pi) * width)
