"""The model's losses against NumPy, masks, and the path through the codes alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import confusion_matrix
from sklearn.utils.class_weight import compute_class_weight

from behavejax.config import Config, LossConfig, ModelConfig, QuantizerConfig
from behavejax.data.batches import Batch
from behavejax.errors import InputError
from behavejax.models.autoencoder import class_weights, make_model
from behavejax.models.quantizer import make_quantizer
from tests.nets.weights import weights_key

CONFIG = Config(
  model=ModelConfig(
    widths=(8, 8), dilations=(1,), decoder_widths=(8,), classifier_hidden=8, classifier_dilations=(1,), dropout=0.0
  ),
  quantizer=QuantizerConfig(levels=(5, 4)),
  loss=LossConfig(reconstruction=0.7, classification=0.4, label_smoothing=0.1),
)
SHAPE, CLASSES = (2, 18, 3), 3


@pytest.fixture(scope="module")
def setup():
  weights = np.array([0.5, 1.0, 1.5], np.float32)
  model = make_model(CONFIG, shape=SHAPE, classes=CLASSES, class_weights=weights)
  rng = np.random.default_rng(0)
  x = rng.normal(size=(6, *SHAPE)).astype(np.float32)
  batch = Batch(x, np.array([0, 1, 2, -1, 1, 0], np.int32), np.array([1, 1, 1, 1, 0, 1], bool))
  return model, jax.jit(model.init)(weights_key(), x), batch, weights


def test_loss_and_metrics_equal_numpy(setup):
  model, variables, batch, weights = setup
  outputs = jax.tree.map(np.asarray, model.apply(variables, batch.x))
  metrics = jax.tree.map(np.asarray, jax.jit(model.score)(variables, batch))
  error = ((outputs.reconstruction - batch.x) ** 2).mean((1, 2, 3))
  labelled = batch.mask & (batch.y >= 0)
  target = np.eye(CLASSES)[batch.y] * 0.9 + 0.1 / CLASSES
  entropy = -(target * log_softmax(outputs.logits, axis=-1)).sum(-1) * labelled
  total = (0.7 * error + 0.4 * weights[np.maximum(batch.y, 0)] * entropy) * batch.mask
  np.testing.assert_allclose(metrics["loss"], total.sum(), rtol=1e-5)
  np.testing.assert_allclose(metrics["reconstruction_mse"], error[batch.mask].sum(), rtol=1e-5)
  np.testing.assert_allclose(metrics["cross_entropy"], entropy.sum(), rtol=1e-5)
  by_channel = ((outputs.reconstruction - batch.x) ** 2).mean(axis=2)[batch.mask].sum(axis=0)
  np.testing.assert_allclose(metrics["squared_error"], by_channel, rtol=1e-5)
  np.testing.assert_allclose(metrics["squared_error"].mean(), metrics["reconstruction_mse"], rtol=1e-5)
  np.testing.assert_array_equal(model.tokens(variables, batch.x), outputs.tokens)
  assert metrics["count"] == 5
  assert metrics["labelled"] == 4
  predicted = outputs.logits.argmax(-1)[labelled]
  np.testing.assert_array_equal(
    metrics["confusion"], confusion_matrix(batch.y[labelled], predicted, labels=range(CLASSES))
  )
  np.testing.assert_array_equal(metrics["codes"], np.bincount(outputs.tokens[batch.mask].ravel(), minlength=20))


def test_masked_rows_change_nothing(setup):
  model, variables, batch, _ = setup
  masked = jax.jit(model.score)(variables, batch)
  rows = jax.tree.map(lambda a: a[batch.mask], batch)
  for name, value in jax.jit(model.score)(variables, rows).items():
    np.testing.assert_allclose(masked[name], value, rtol=1e-5, err_msg=name)


def test_metrics_of_parts_add_up(setup):
  model, variables, batch, _ = setup
  score = jax.jit(model.score)
  whole = score(variables, batch)
  parts = [score(variables, jax.tree.map(lambda a, part=part: a[part], batch)) for part in (slice(0, 3), slice(3, 6))]
  for name, value in whole.items():
    np.testing.assert_allclose(parts[0][name] + parts[1][name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_logits_and_reconstruction_depend_on_codes_alone(setup):
  """Two inputs with the same codes get the same answer, whatever else differs between them."""
  model, variables, batch, _ = setup
  nudged = batch.x + 1e-6
  first, second = (model.apply(variables, x) for x in (batch.x, nudged))
  assert not np.array_equal(first.latents, second.latents)
  same = np.all(np.asarray(first.tokens == second.tokens), axis=(1, 2))
  assert same.any()
  np.testing.assert_array_equal(first.logits[same], second.logits[same])
  np.testing.assert_array_equal(first.reconstruction[same], second.reconstruction[same])


def test_every_parameter_gets_a_gradient(setup):
  model, variables, batch, _ = setup
  keys = jax.random.split(jax.random.key(1), 6)

  def mean_loss(params):
    per_example, _ = model.loss({**variables, "params": params}, batch, keys)
    return jnp.mean(per_example)

  for path, gradient in jax.tree_util.tree_flatten_with_path(jax.grad(mean_loss)(variables["params"]))[0]:
    assert np.isfinite(gradient).all(), path
    assert np.any(gradient != 0), path


def test_class_weights_equal_sklearn_at_power_one():
  y = np.array([0] * 6 + [1] * 3 + [2])
  found = class_weights(np.append(y, -1), classes=4, power=1.0)
  expected = compute_class_weight("balanced", classes=np.arange(3), y=y)
  np.testing.assert_allclose(found[:3], expected / (expected * np.bincount(y)).sum() * 10, rtol=1e-6)
  assert found[3] == 1
  np.testing.assert_array_equal(class_weights(y, classes=3, power=0.0), np.ones(3))


def test_unknown_quantizer_is_named():
  with pytest.raises(InputError, match=r"config.quantizer.name 'fsqq' is unknown; did you mean 'fsq'"):
    make_quantizer(QuantizerConfig(name="fsqq"))
