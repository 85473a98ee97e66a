"""Random distortions of inertial windows: pure functions of one window and a key, lifted with `vmap`.

They imitate what differs between two wearings of the same sensor: how it is turned, how noisy and how
well scaled it is, how fast the animal goes, and which channel has failed.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from behavejax.config import AugmentConfig
from behavejax.types import Key, Window


def augment(
  window: Window, key: Key, *, config: AugmentConfig, mean: np.ndarray, std: np.ndarray, devices: int = 1
) -> Window:
  """Applies every distortion whose setting is above 0.

  Devices worn at once are turned, scaled and lost each in its own way; time goes alike for all of them.

  Args:
    window: normalised samples; rows are halves of one window or devices, channels come in triads of
      three axes per sensor (a rest of fewer than three channels is not rotated).
    key: randomness of this window.
    config: strengths.
    mean: of the channels before normalisation, so that rotations act on physical vectors.
    std: likewise.
    devices: rows that are devices; 1 where rows are halves of one window. They share `mean` and `std`.
  """
  rotate_key, scale_key, jitter_key, warp_key, drop_key = jax.random.split(key, 5)
  if config.time_warp:
    window = time_warp(window, warp_key, strength=config.time_warp)
  if config.rotation_deg:
    window = _turned(window, rotate_key, max_deg=config.rotation_deg, mean=mean, std=std, devices=devices)
  if config.scale:
    gain = 1 + config.scale * jax.random.normal(scale_key, (devices, 1, window.shape[-1]))
    window = window * gain
  if config.jitter:
    window = window + config.jitter * jax.random.normal(jitter_key, window.shape)
  if config.channel_dropout:
    window = window * jax.random.bernoulli(drop_key, 1 - config.channel_dropout, (devices, 1, window.shape[-1]))
  return window


def random_rotation(key: Key, *, max_deg: float) -> Float[Array, "3 3"]:
  """Rotation about a uniformly random axis by an angle uniform in `[0, max_deg]` degrees (Rodrigues)."""
  axis_key, angle_key = jax.random.split(key)
  axis = jax.random.normal(axis_key, (3,))
  x, y, z = axis / jnp.linalg.norm(axis)
  angle = jax.random.uniform(angle_key, maxval=np.deg2rad(max_deg))
  cross = jnp.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
  return jnp.eye(3) + jnp.sin(angle) * cross + (1 - jnp.cos(angle)) * cross @ cross


def rotate(window: Window, rotation: Float[Array, "3 3"], *, mean: np.ndarray, std: np.ndarray) -> Window:
  """Turns every sensor triad by the same rotation, in physical units; further `mean` and `std` are not looked at."""
  channels = window.shape[-1] // 3 * 3
  if channels == 0:
    return window
  mean, std = (jnp.asarray(a, window.dtype).reshape(1, 1, -1)[..., :channels] for a in (mean, std))
  physical = (window[..., :channels] * std + mean).reshape(*window.shape[:2], -1, 3)
  turned = jnp.einsum("htsa,ba->htsb", physical, rotation).reshape(*window.shape[:2], channels)
  return jnp.concatenate([(turned - mean) / std, window[..., channels:]], axis=-1)


def time_warp(window: Window, key: Key, *, strength: float) -> Window:
  """Plays each row at a constant speed drawn from `1 +- strength`, about a random instant, by linear interpolation.

  Positions beyond an end of the row take the sample at that end.
  """
  speed_key, centre_key = jax.random.split(key)
  time = window.shape[1]
  speed = jax.random.uniform(speed_key, minval=1 - strength, maxval=1 + strength)
  centre = jax.random.uniform(centre_key, maxval=time - 1.0)
  position = jnp.clip(centre + speed * (jnp.arange(time) - centre), 0, time - 1)
  low = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, max(time - 2, 0))
  weight = (position - low).reshape(1, -1, 1)
  high = jnp.minimum(low + 1, time - 1)
  return window[:, low] * (1 - weight) + window[:, high] * weight


def _turned(window: Window, key: Key, *, max_deg: float, mean: np.ndarray, std: np.ndarray, devices: int) -> Window:
  if devices == 1:
    return rotate(window, random_rotation(key, max_deg=max_deg), mean=mean, std=std)
  rotations = jax.vmap(lambda key: random_rotation(key, max_deg=max_deg))(jax.random.split(key, devices))
  return jax.vmap(lambda row, rotation: rotate(row[None], rotation, mean=mean, std=std)[0])(window, rotations)
