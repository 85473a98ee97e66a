"""A simulated quadruped with a collar: ten behaviours in a semi-Markov order, so that the truth is known.

The body follows an explicit-duration Markov chain over `BEHAVIOURS`. Each behaviour has a gait
frequency, a posture and a pattern of harmonics on every axis; each animal has its own pace, vigour,
wearing of the collar and sensor noise, so that a model must generalise over animals.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage
from scipy.spatial.transform import Rotation

from behavejax.config import SimulateConfig
from behavejax.data.recording import Recording
from behavejax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Behaviour:
  """What a behaviour does to the body.

  Attributes:
    name: of the behaviour.
    frequency_hz: of the gait or of breathing and swaying.
    acceleration: amplitude along forward, left and up, m/s^2.
    rotation: amplitude about the same axes, rad/s.
    pitch_deg: posture of the trunk, positive with the head up.
    yaw_rate: steady turning, rad/s.
    mean_s: mean duration.
  """

  name: str
  frequency_hz: float
  acceleration: tuple[float, float, float]
  rotation: tuple[float, float, float]
  pitch_deg: float
  yaw_rate: float
  mean_s: float


BEHAVIOURS = (
  Behaviour("stand", 0.5, (0.15, 0.15, 0.10), (0.05, 0.05, 0.05), 0.0, 0.0, 6.0),
  Behaviour("walk", 1.5, (1.2, 0.8, 1.5), (0.4, 0.3, 0.2), 0.0, 0.0, 8.0),
  Behaviour("trot", 3.0, (2.0, 1.0, 4.0), (0.5, 0.6, 0.3), 3.0, 0.0, 6.0),
  Behaviour("gallop", 4.0, (5.0, 1.5, 6.0), (0.6, 1.5, 0.4), 0.0, 0.0, 4.0),
  Behaviour("turn_left", 1.0, (0.8, 0.9, 0.9), (0.4, 0.2, 0.3), 0.0, 0.9, 3.0),
  Behaviour("turn_right", 1.0, (0.8, 0.9, 0.9), (0.4, 0.2, 0.3), 0.0, -0.9, 3.0),
  Behaviour("jump", 0.5, (3.0, 0.8, 7.0), (0.3, 1.8, 0.3), 12.0, 0.0, 3.0),
  Behaviour("pronk", 2.0, (1.0, 0.5, 6.5), (0.2, 0.5, 0.2), 0.0, 0.0, 4.0),
  Behaviour("backup", 1.0, (1.1, 0.7, 1.0), (0.3, 0.5, 0.2), -6.0, 0.0, 3.0),
  Behaviour("sit", 0.5, (0.12, 0.12, 0.10), (0.05, 0.05, 0.04), 35.0, 0.0, 8.0),
)
CLASSES = tuple(behaviour.name for behaviour in BEHAVIOURS)
CHANNELS = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z", "mag_x", "mag_y", "mag_z")
UNITS = ("m/s^2",) * 3 + ("rad/s",) * 3 + ("uT",) * 3
_GRAVITY = np.array([0.0, 0.0, 9.81])
_FIELD = np.array([20.0, 0.0, -43.0])  # of the earth, north and down
_DISPERSION = 4.0  # of the durations: negative binomial with this r


class Truth(NamedTuple):
  """The semi-Markov chain that all animals follow.

  Attributes:
    initial_distribution: of the first behaviour.
    transition_matrix: from row to column, zero diagonal.
    mean_durations: in samples.
    dispersion: `r` of the negative binomial of `duration - shortest`.
    shortest: shortest duration in samples.
  """

  initial_distribution: Float[np.ndarray, " state"]
  transition_matrix: Float[np.ndarray, "state state"]
  mean_durations: Float[np.ndarray, " state"]
  dispersion: float
  shortest: int


def truth(rate_hz: float) -> Truth:
  """The chain behind `quadruped` at a sampling rate."""
  states = len(BEHAVIOURS)
  weights = np.random.default_rng(20).dirichlet(np.full(states, 1.5), states)
  np.fill_diagonal(weights, 0.0)
  durations = np.array([behaviour.mean_s for behaviour in BEHAVIOURS]) * rate_hz
  shortest = max(round(0.8 * rate_hz), 1)
  return Truth(np.full(states, 1 / states), weights / weights.sum(1, keepdims=True), durations, _DISPERSION, shortest)


def quadruped(config: SimulateConfig, seed: int) -> list[Recording]:
  """One recording per animal, nine axes in physical units, a label per sample, gaps of NaN.

  Args:
    config: number of animals, length, rate, noise and share of lost samples.
    seed: of everything but the species, which is always the same.

  Raises:
    InputError: a length of fewer than 2 samples.
  """
  if round(config.minutes * 60 * config.rate_hz) < 2:
    raise InputError(
      f"config.data.simulate.minutes={config.minutes:g} at {config.rate_hz:g} Hz is less than 2 samples per animal"
    )
  keys = np.random.SeedSequence(seed).spawn(config.subjects)
  return [_animal(config, str(i + 1), np.random.default_rng(key)) for i, key in enumerate(keys)]


def sample_states(chain: Truth, samples: int, rng: np.random.Generator) -> Int[np.ndarray, " sample"]:
  """Draws a state sequence from the semi-Markov chain."""
  states, lengths, total = [], [], 0
  state = rng.choice(len(chain.initial_distribution), p=chain.initial_distribution)
  while total < samples:
    mean = chain.mean_durations[state] - chain.shortest
    length = chain.shortest + rng.negative_binomial(chain.dispersion, chain.dispersion / (chain.dispersion + mean))
    states.append(state)
    lengths.append(length)
    total += length
    state = rng.choice(len(chain.mean_durations), p=chain.transition_matrix[state])
  return np.repeat(states, lengths)[:samples].astype(np.int32)


def _animal(config: SimulateConfig, subject: str, rng: np.random.Generator) -> Recording:
  states = sample_states(truth(config.rate_hz), round(config.minutes * 60 * config.rate_hz), rng)
  signal = collar_signal(states, config, rng)
  return Recording(signal, config.rate_hz, CHANNELS, UNITS, states, CLASSES, subject, source="simulated quadruped")


def collar_signal(
  states: Int[np.ndarray, " sample"], config: SimulateConfig, rng: np.random.Generator
) -> Float[np.ndarray, "sample 9"]:
  """What the collar of an animal writes that goes through these states; pace, vigour and wearing are drawn."""
  rate, samples = config.rate_hz, len(states)
  pace, vigour = np.exp(rng.normal(0, 0.10)), np.exp(rng.normal(0, 0.15))
  slow = _smooth_noise(rng, (samples, 3), width=2 * rate)  # pace, vigour and posture drift within a bout

  frequency = _per_sample("frequency_hz", states, rate) * pace * np.exp(0.08 * slow[:, 0])
  phase = 2 * np.pi * np.cumsum(frequency) / rate
  amplitude = vigour * np.exp(0.20 * slow[:, 1])
  pattern = _harmonics(states, phase, amplitude, rate)
  pitch = np.deg2rad(_per_sample("pitch_deg", states, rate) + 4 * slow[:, 2] + rng.normal(0, 3))
  yaw_rate = _per_sample("yaw_rate", states, rate) * np.exp(0.2 * slow[:, 1])
  heading = np.cumsum(yaw_rate) / rate + 2 * np.pi * rng.random()

  body = Rotation.from_euler("ZY", np.stack([heading, -pitch], axis=-1))  # from body to world
  acceleration = body.inv().apply(_GRAVITY) + pattern[:, :3]
  rotation = pattern[:, 3:] + np.stack([np.zeros(samples), -np.gradient(pitch) * rate, yaw_rate], axis=-1)
  field = body.inv().apply(_FIELD)

  collar = Rotation.from_rotvec(np.deg2rad(rng.normal(0, 7, 3)))
  signal = np.concatenate([collar.apply(part) for part in (acceleration, rotation, field)], axis=-1)
  noise_sd = config.noise * np.repeat([0.35, 0.06, 1.0], 3)
  signal += rng.normal(size=signal.shape) * noise_sd + rng.normal(size=9) * noise_sd * 0.3
  signal = signal.astype(np.float32)
  signal[_gaps(samples, config.gaps, rate, rng)] = np.nan
  return signal


def _harmonics(states, phase, amplitude, rate) -> Float[np.ndarray, "sample 6"]:
  """Three harmonics per axis; their mix and phases belong to the behaviour and are the same for all animals."""
  species = np.random.default_rng(10)
  mix = species.dirichlet([4.0, 2.0, 1.0], (len(BEHAVIOURS), 6))
  offset = species.uniform(0, 2 * np.pi, (len(BEHAVIOURS), 6, 3))
  sizes = np.array([[*behaviour.acceleration, *behaviour.rotation] for behaviour in BEHAVIOURS])
  scale = _ramp((sizes[:, :, None] * mix)[states], rate)
  waves = np.sin(phase[:, None, None] * np.arange(1, 4) + offset[states])
  return amplitude[:, None] * (scale * waves).sum(-1)


def _per_sample(field: str, states: Int[np.ndarray, " sample"], rate: float) -> Float[np.ndarray, " sample"]:
  return _ramp(np.array([getattr(behaviour, field) for behaviour in BEHAVIOURS], float)[states], rate)


def _ramp(values: np.ndarray, rate: float) -> np.ndarray:
  """A body changes what it does within about 0.3 s, not at once."""
  return ndimage.uniform_filter1d(values, max(round(0.3 * rate), 1), axis=0, mode="nearest")


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int], *, width: float) -> np.ndarray:
  """White noise smoothed over `width` samples, scaled to unit variance."""
  noise = ndimage.gaussian_filter1d(rng.normal(size=shape), width, axis=0, mode="wrap")
  return noise / max(noise.std(), 1e-12)


def _gaps(samples: int, share: float, rate: float, rng: np.random.Generator):
  """Flags lost samples: bouts of 0.04 to 0.4 s (radio drop-outs) that together take `share` of the recording."""
  lost = np.zeros(samples, bool)
  mean_length = 0.22 * rate
  for start in rng.integers(0, samples, round(share * samples / mean_length)):
    lost[start : start + max(1, round(rng.uniform(0.04, 0.4) * rate))] = True
  return lost
