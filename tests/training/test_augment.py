"""Augmentations do what their names say, in physical units, under jit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.config import AugmentConfig
from behavejax.training import augment as augment_lib

MEAN, STD = np.array([0.0, 0.0, 9.8, 0.1, 0.2, 0.3, 5.0]), np.array([1.0, 2.0, 3.0, 0.5, 0.5, 0.5, 2.0])


@pytest.fixture
def window():
  return jax.random.normal(jax.random.key(0), (2, 30, 7))


def test_all_zero_settings_change_nothing(window):
  found = augment_lib.augment(window, jax.random.key(1), config=AugmentConfig(), mean=MEAN, std=STD)
  np.testing.assert_array_equal(found, window)


@pytest.mark.parametrize("seed", range(5))
def test_rotation_matrices_are_proper_and_bounded(seed):
  rotation = np.asarray(augment_lib.random_rotation(jax.random.key(seed), max_deg=40.0), np.float64)
  np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
  assert np.linalg.det(rotation) == pytest.approx(1, abs=1e-6)
  assert np.rad2deg(np.arccos((np.trace(rotation) - 1) / 2)) <= 40.01


def test_rotation_keeps_physical_norms_and_the_odd_channel(window):
  rotation = augment_lib.random_rotation(jax.random.key(3), max_deg=90.0)
  turned = augment_lib.rotate(window, rotation, mean=MEAN, std=STD)
  for sensor in (slice(0, 3), slice(3, 6)):
    before, after = (np.asarray(a)[..., sensor] * STD[sensor] + MEAN[sensor] for a in (window, turned))
    np.testing.assert_allclose(np.linalg.norm(before, axis=-1), np.linalg.norm(after, axis=-1), rtol=1e-4)
    np.testing.assert_allclose(after, before @ np.asarray(rotation).T, atol=1e-4)
  np.testing.assert_array_equal(turned[..., 6], window[..., 6])


def test_time_warp_equals_interpolation(window):
  warped = np.asarray(augment_lib.time_warp(window, jax.random.key(4), strength=0.3))
  speed_key, centre_key = jax.random.split(jax.random.key(4))
  speed = float(jax.random.uniform(speed_key, minval=0.7, maxval=1.3))
  centre = float(jax.random.uniform(centre_key, maxval=29.0))
  position = np.clip(centre + speed * (np.arange(30) - centre), 0, 29)
  for row in range(2):
    for channel in range(7):
      expected = np.interp(position, np.arange(30), np.asarray(window)[row, :, channel])
      np.testing.assert_allclose(warped[row, :, channel], expected, atol=1e-5)


def test_statistics_of_noise_gain_and_dropout():
  ones = jnp.ones((2, 50, 6))

  def many(**settings):
    config, keys = AugmentConfig(**settings), jax.random.split(jax.random.key(5), 400)
    return np.asarray(
      jax.jit(jax.vmap(lambda key: augment_lib.augment(ones, key, config=config, mean=np.zeros(6), std=np.ones(6))))(
        keys
      )
    )

  assert many(jitter=0.2).std() == pytest.approx(0.2, rel=0.02)
  gains = many(scale=0.1)
  assert (np.ptp(gains, axis=(1, 2)) == 0).all()
  assert gains.std() == pytest.approx(0.1, rel=0.1)
  assert many(channel_dropout=0.25).mean() == pytest.approx(0.75, abs=0.04)


def test_devices_are_worn_each_in_its_own_way_but_share_time():
  ones = jnp.ones((2, 50, 6))
  common = {"mean": np.zeros(12), "std": np.ones(12), "devices": 2}

  def once(x=ones, **settings):
    distort = jax.jit(lambda x, key: augment_lib.augment(x, key, config=AugmentConfig(**settings), **common))
    return np.asarray(distort(x, jax.random.key(7)))

  gains = once(scale=0.1)
  assert (np.ptp(gains, axis=1) == 0).all()
  assert (gains[0, 0] != gains[1, 0]).all()
  turned = once(rotation_deg=60.0)
  np.testing.assert_allclose(np.linalg.norm(turned[..., :3], axis=-1), np.sqrt(3), rtol=1e-5)
  np.testing.assert_allclose(turned[..., :3], turned[..., 3:], atol=1e-6)
  assert np.abs(turned[0] - turned[1]).max() > 0.05
  dropped = once(channel_dropout=0.5)
  assert (dropped[0, 0] != dropped[1, 0]).any()
  ramp = jnp.broadcast_to(jnp.arange(50.0)[:, None], (2, 50, 6))
  warped = once(ramp, time_warp=0.3)
  np.testing.assert_array_equal(warped[0], warped[1])
  assert np.abs(warped[0] - ramp[0]).max() > 0.1
