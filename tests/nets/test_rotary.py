"""Rotary positions: scores know distances, lengths stay, and complex numbers say the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.nets import rotary


def scores(query, key, at_query, at_key):
  q, k = (
    rotary.rotate(x[None, None], jnp.asarray(p, jnp.float32)[None]) for x, p in ((query, at_query), (key, at_key))
  )
  return float(jnp.sum(q * k))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_scores_depend_on_relative_position_only(axes):
  rng = np.random.default_rng(axes)
  query, key = (jnp.asarray(rng.normal(size=24), jnp.float32) for _ in range(2))
  place, distance, moved = rng.integers(0, 20, (3, axes))
  expected = scores(query, key, place, place + distance)
  assert scores(query, key, place + moved, place + moved + distance) == pytest.approx(expected, abs=1e-4)
  assert abs(scores(query, key, place, place + distance + 1) - expected) > 1e-3


@pytest.mark.parametrize(("axes", "depth"), [(1, 8), (2, 12), (2, 10)])
def test_equals_complex_rotation(axes, depth):
  rng = np.random.default_rng(0)
  x, positions = rng.normal(size=(2, 5, 3, depth)), rng.integers(0, 50, (5, axes))
  half = depth // (2 * axes)
  expected = x.copy()
  for axis in range(axes):
    start = 2 * half * axis
    pairs = x[..., start : start + half] + 1j * x[..., start + half : start + 2 * half]
    angle = positions[:, axis, None] * 10_000.0 ** (-np.arange(half) / half)
    turned = pairs * np.exp(1j * angle)[:, None]
    expected[..., start : start + 2 * half] = np.concatenate([turned.real, turned.imag], axis=-1)
  found = rotary.rotate(jnp.asarray(x, jnp.float32), jnp.asarray(positions))
  np.testing.assert_allclose(found, expected, atol=2e-5)


def test_lengths_stay_and_the_origin_is_left_alone():
  x = jax.random.normal(jax.random.key(0), (4, 2, 8))
  found = rotary.rotate(x, jnp.arange(4)[:, None])
  np.testing.assert_allclose(jnp.linalg.norm(found, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-5)
  np.testing.assert_array_equal(found[0], x[0])
  assert rotary.rotate(x.astype(jnp.bfloat16), jnp.arange(4)[:, None]).dtype == jnp.bfloat16


def test_positions_of_each_example_equal_one_example_at_a_time():
  x = jax.random.normal(jax.random.key(1), (3, 4, 2, 8))
  positions = jax.random.randint(jax.random.key(2), (3, 4, 2), 0, 30)
  together = rotary.rotate(x, positions)
  for i in range(3):
    np.testing.assert_allclose(together[i], rotary.rotate(x[i], positions[i]), atol=1e-6)
