"""8-bit arithmetic in float: against NumPy, against its own definition, and with a gradient."""

import jax
import jax.numpy as jnp
import numpy as np

from behavejax.export import build, fake_quant, graph, run_jax
from tests.export.runs import small_model, tiny_config

SHAPE = (2, 20, 3)


def test_weights_have_255_levels_per_channel():
  w = np.random.default_rng(0).normal(size=(1, 3, 8, 4)).astype(np.float32) * np.array([1, 10, 0.1, 0], np.float32)
  found = np.asarray(fake_quant.weights_8bit(w))
  scale = np.maximum(np.abs(w).max(axis=(0, 1, 2)) / 127, 1e-12)
  np.testing.assert_allclose(found, np.round(w / scale) * scale, rtol=1e-5, atol=1e-9)
  np.testing.assert_array_equal(jax.grad(lambda w: fake_quant.weights_8bit(w).sum())(w), np.ones_like(w))


def test_activations_have_256_levels_one_of_which_is_zero():
  x = np.linspace(-3, 7, 1001, dtype=np.float32)
  found = np.asarray(fake_quant.activations_8bit(x, -2.0, 6.0))
  assert len(np.unique(found)) == 256
  assert 0.0 in found
  inside = (x > -2) & (x < 6)
  assert np.abs(found - x)[inside].max() <= 8 / 255 / 2 + 1e-6
  gradient = np.asarray(jax.grad(lambda x: fake_quant.activations_8bit(x, -2.0, 6.0).sum())(x))
  np.testing.assert_array_equal(gradient[inside], 1)
  assert not gradient[(x < -2.1) | (x > 6.1)].any()


def test_ranges_are_the_extremes_and_hold_zero():
  weights = np.array([2.0, 0.0], np.float32).reshape(1, 1, 2, 1)
  node = graph.Node("a", "dense", (graph.INPUT,), weights, np.array([5.0], np.float32))
  static = graph.Graph((1, 1, 2), (node,), {"a": "a"})
  x = np.array([[0.5, 0], [1, 0], [2, -1]], np.float32).reshape(3, 1, 1, 2)
  found = fake_quant.ranges(static, x, batch=2)
  assert found == {graph.INPUT: (-1.0, 2.0), "a": (0.0, 9.0)}


def test_a_network_stays_near_and_its_weights_get_gradients():
  config = tiny_config(model={"gains": ()})
  _, variables = small_model(config, shape=SHAPE)
  static = build.build(config, variables, shape=SHAPE)
  x = np.random.default_rng(1).normal(size=(16, *SHAPE)).astype(np.float32)
  limits = fake_quant.ranges(static, x)
  expected = jax.jit(lambda x: run_jax.run(static, x)["logits"])(x)

  @jax.jit
  def logits(params):
    return fake_quant.run(static, params, x, limits)["logits"]

  params = run_jax.parameters(static)
  error = np.abs(logits(params) - expected).mean()
  assert 0 < error < 0.2 * np.std(expected)
  gradients = jax.jit(jax.grad(lambda p: jnp.sum(jnp.square(logits(p)))))(params)
  assert all(np.any(g) for g in jax.tree.leaves(gradients))
