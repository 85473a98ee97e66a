"""Encoder and decoder over one to three axes of space."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.nets.vae import Decoder, Encoder, _unpack, grid_of
from tests.nets.weights import weights_key


def test_unpacked_values_lie_beside_each_other():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 3, 4, 2 * 2 * 5)).astype(np.float32)
  found = np.asarray(_unpack(jnp.asarray(x), 5, 2))
  for row in range(6):
    for column in range(8):
      part = (row % 2) * 2 + column % 2
      np.testing.assert_array_equal(found[:, row, column], x[:, row // 2, column // 2, part * 5 : part * 5 + 5])


@pytest.mark.parametrize(
  ("shape", "halvings", "spatial"),
  [((9, 3), 2, True), ((7, 6, 3), 2, False), ((4, 5, 3, 2), 1, True), ((6, 6, 1), 0, True)],
)
def test_shapes_and_gradients(shape, halvings, spatial):
  x = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
  encoder = Encoder((4, 6), halvings, 3, 2, spatial)
  decoder = Decoder((4, 6), halvings, 3, shape, spatial)
  grid = grid_of(shape[:-1], halvings) if spatial else (1,) * (len(shape) - 1)

  @jax.jit
  def make(key):
    own = encoder.init(key, x, train=False)
    (mean, log_std), _ = encoder.apply(own, x, train=True, mutable=["batch_stats"])
    return own, decoder.init(key, mean, train=False), mean, log_std

  own, other, mean, log_std = make(weights_key())
  assert mean.shape == log_std.shape == (3, *grid, 2)

  @jax.jit
  @jax.grad
  def gradient(params):
    (mean, log_std), _ = encoder.apply({**own, "params": params[0]}, x, train=True, mutable=["batch_stats"])
    y, _ = decoder.apply({**other, "params": params[1]}, mean + 0.1 * log_std, train=True, mutable=["batch_stats"])
    assert y.shape == x.shape
    return jnp.mean(jnp.square(y - x))

  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient((own["params"], other["params"]))):
    assert np.isfinite(leaf).all()
    assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)


def test_a_vector_reaches_its_neighbourhood_alone():
  """A place of the grid moves the sample near it, nowhere else; one vector by itself gives its own part."""
  decoder = Decoder((4, 6), 1, 3, (16, 1), True)
  z = np.random.default_rng(0).normal(size=(1, 8, 2)).astype(np.float32)
  variables = decoder.init(weights_key(), z, train=False)
  moved = z.copy()
  moved[0, 3] += 1
  a, b = (np.asarray(decoder.apply(variables, v, train=False))[0, :, 0] for v in (z, moved))
  changed = np.flatnonzero(np.abs(a - b) > 1e-6)
  assert {6, 7} <= set(changed) <= set(range(6 - 4, 8 + 4))
  assert decoder.apply(variables, z[:, :1], train=False).shape == (1, 2, 1)
