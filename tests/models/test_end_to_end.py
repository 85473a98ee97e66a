"""Quantizers learned with the network, and the classifier of samples: losses, masks, codes."""

import jax
import numpy as np
import pytest

from behavejax.config import QuantizerConfig, VaeConfig
from behavejax.data.batches import Batch
from behavejax.models.end_to_end import make_end_to_end
from behavejax.models.sample_classifier import make_classifier
from tests.nets.weights import weights_key

SHAPE = (6, 6, 1)
VAE = VaeConfig(widths=(4, 6), halvings=1)


@pytest.fixture(scope="module")
def batch():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(6, *SHAPE)).astype(np.float32)
  return Batch(x, np.array([0, 1, 2, -1, 1, 0], np.int32), np.array([1, 1, 1, 1, 0, 1], bool))


@pytest.mark.parametrize("quantizer", [QuantizerConfig(levels=(4, 3)), QuantizerConfig("vq_ema", num_codes=8, dim=3)])
def test_codes_decide_and_losses_equal_numpy(batch, quantizer):
  model = make_end_to_end(VAE, quantizer, shape=SHAPE, weight=0.25)
  variables = jax.jit(model.init)(weights_key(), batch.x)
  out = jax.tree.map(np.asarray, jax.jit(model.apply)(variables, batch.x))
  assert out.tokens.shape == (6, 3, 3)
  assert out.tokens.max() < model.num_codes == {"fsq": 12, "vq_ema": 8}[quantizer.name]
  error = ((out.reconstruction - batch.x) ** 2).mean((1, 2, 3))
  scored = jax.jit(model.score)(variables, batch)
  np.testing.assert_allclose(scored["loss"], (error + 0.25 * out.loss)[batch.mask].sum(), rtol=1e-5)
  np.testing.assert_array_equal(scored["codes"], np.bincount(out.tokens[batch.mask].ravel(), minlength=model.num_codes))
  values = model.summarize(jax.tree.map(np.asarray, scored))
  np.testing.assert_allclose(values["reconstruction_mse"], error[batch.mask].mean(), rtol=1e-5)
  keys = jax.random.split(jax.random.key(0), 6)
  gradients = jax.jit(jax.grad(lambda p: model.loss({**variables, "params": p}, batch, keys)[0].sum()))(
    variables["params"]
  )
  assert max(float(np.abs(g).max()) for g in jax.tree.leaves(gradients["encoder"])) > 0


def test_classifier_equals_numpy(batch):
  model = make_classifier(classes=3, width=2)
  variables = jax.jit(model.init)(weights_key(), batch.x)
  logits, features = jax.tree.map(np.asarray, jax.jit(model.apply)(variables, batch.x))
  assert features.shape == (6, 64)
  known = batch.mask & (batch.y >= 0)
  log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
  scored = jax.jit(model.score)(variables, batch)
  np.testing.assert_allclose(scored["loss"], -log_probs[known, batch.y[known]].sum(), rtol=1e-5)
  values = model.summarize(jax.tree.map(np.asarray, scored))
  np.testing.assert_allclose(values["accuracy"], (logits.argmax(1) == batch.y)[known].mean())
