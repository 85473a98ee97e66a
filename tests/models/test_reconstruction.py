"""Losses of a reconstruction against NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal, special

from behavejax.models import reconstruction


def random(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("kind", ["mse", "l1", "huber"])
def test_pointwise_equals_numpy(kind):
  d = random(3, 4, 5, 2) * 2
  expected = {"mse": d**2, "l1": np.abs(d), "huber": 2 * special.huber(1.5, d)}[kind]
  found = reconstruction.pointwise(jnp.asarray(d), kind=kind, delta=1.5)
  np.testing.assert_allclose(found, expected.mean((1, 2, 3)), rtol=1e-5)


def test_spectral_distance_equals_scipy():
  a, b, size = random(2, 40, 3), random(2, 40, 3, seed=1), 16
  window = signal.get_window("hann", size)

  def amplitudes(x):
    starts = range(0, 40 - size + 1, size // 4)
    frames = np.stack([np.fft.rfft(x[:, s : s + size] * window[None, :, None], axis=1) for s in starts], axis=1)
    return np.sqrt(np.abs(frames) ** 2 / np.sum(window**2) + 1e-6)

  p, q = amplitudes(a), amplitudes(b)
  expected = (np.abs(p - q) + 0.5 * np.abs(np.log(p) - np.log(q))).mean((1, 2, 3))
  found = reconstruction.spectral(jnp.asarray(a), jnp.asarray(b), (16, 64))  # the second is longer than the signal
  np.testing.assert_allclose(found, expected, rtol=1e-4)
  assert np.all(np.asarray(reconstruction.spectral(jnp.asarray(a), jnp.asarray(a), (8, 16))) == 0)


def test_spectral_distance_cares_about_pitch_more_than_phase():
  time = np.arange(64)[None, :, None] / 8
  wave, late, other = (np.sin(2 * np.pi * f * time + p).astype(np.float32) for f, p in ((1, 0), (1, 1.5), (2, 0)))
  distance = [float(reconstruction.spectral(jnp.asarray(x), jnp.asarray(wave), (16, 32))[0]) for x in (late, other)]
  assert distance[0] < 0.3 * distance[1]


def test_perceptual_distance_ignores_scale_and_has_a_gradient():
  judge = reconstruction.Judge(3, width=4)
  x = jnp.asarray(random(2, 8, 6, 1))
  variables = judge.init(jax.random.key(0), x)
  logits, wanted = judge.apply(variables, x)
  assert logits.shape == (2, 3)
  assert np.allclose(reconstruction.perceptual(wanted, wanted), 0)
  assert np.allclose(reconstruction.perceptual([2 * w for w in wanted], wanted), 0, atol=1e-4)
  y = jnp.asarray(random(2, 8, 6, 1, seed=1))
  gradient = jax.grad(lambda y: reconstruction.perceptual(judge.apply(variables, y)[1], wanted).sum())(y)
  assert np.abs(gradient).max() > 0
