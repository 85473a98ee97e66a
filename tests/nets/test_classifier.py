"""The classifier that judges samples: its pooled features, and gradients that stay numbers."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.nets.classifier import SampleClassifier


@pytest.fixture(scope="module")
def made():
  network = SampleClassifier(classes=10, width=4)
  x = jax.random.normal(jax.random.key(0, impl="rbg"), (32, 8, 8, 1))
  return network, network.init(jax.random.key(1, impl="rbg"), x[:1], train=False), x


def test_gradients_of_steps_in_a_loop_are_finite(made):
  """The largest value over space is not compared with values that the compiler computes anew: those may differ."""
  network, variables, x = made
  y = jnp.arange(len(x)) % 10

  def step(params, _):
    def loss(params):
      logits, _ = network.apply(variables | {"params": params}, x, train=True, mutable=["batch_stats"])[0]
      return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=-1))

    gradients = jax.grad(loss)(params)
    return jax.tree.map(lambda p, g: p - 1e-3 * g, params, gradients), gradients

  _, gradients = jax.jit(lambda params: jax.lax.scan(step, params, None, length=2))(variables["params"])
  chex.assert_tree_all_finite(gradients)


def test_features_are_mean_and_largest_value_of_the_last_stage(made):
  network, variables, x = made
  (logits, features), inner = network.apply(variables, x, train=False, capture_intermediates=True)
  last = np.asarray(inner["intermediates"]["stage_3"]["__call__"][0])
  pooled = np.concatenate([last.mean(axis=(1, 2)), last.max(axis=(1, 2))], axis=-1)
  dense = jax.tree.map(np.asarray, variables["params"]["features"])
  np.testing.assert_allclose(features, np.maximum(pooled @ dense["kernel"] + dense["bias"], 0), rtol=1e-4, atol=1e-4)
  chex.assert_shape(logits, (32, 10))
