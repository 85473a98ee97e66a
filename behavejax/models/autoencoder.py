"""The discrete autoencoder of windows: encoder, quantizer, decoder and a classifier on the codes.

The classifier and the decoder see the quantized codes and nothing else.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from behavejax.config import Config
from behavejax.models.quantizer import learns_codes, make_quantizer, start_codebook
from behavejax.nets.conv2d import Decoder, Encoder
from behavejax.nets.heads import Classifier
from behavejax.quantizers import usage
from behavejax.types import Key, Metrics, Variables


class Outputs(NamedTuple):
  """What the model says about a batch of windows.

  Attributes:
    tokens: code indices; `row` and `token` are 1 where a window has a single code.
    codes: the quantized vectors.
    latents: the encoder's output before quantization.
    reconstruction: the decoder's window, in normalised units.
    logits: class scores.
    embedding: pooled features of the codes, what the logits are computed from.
    quantization_loss: that ties codes and latent vectors together, per window.
  """

  tokens: Int[Array, "batch row token"]
  codes: Float[Array, "batch row token digit"]
  latents: Float[Array, "batch row token digit"]
  reconstruction: Float[Array, "batch height time channel"]
  logits: Float[Array, "batch class"]
  embedding: Float[Array, "batch feature"]
  quantization_loss: Float[Array, " batch"]


class Model(NamedTuple):
  """Pure functions of variables and arrays.

  Attributes:
    init: `(key, windows) -> variables`; learned codes start as the k-means centres of the windows' vectors.
    apply: `(variables, windows) -> Outputs`, deterministic, with running statistics.
    loss: `(variables, batch, keys) -> (loss per example, (new batch statistics, metrics))`; every
      metric is a sum over examples with an entry "count", or a histogram, so that they add up; "squared_error" is
      by row and channel of a window.
    score: `(variables, batch) -> metrics`, as in `loss` but deterministic, with a confusion matrix.
    num_codes: size of the codebook.
    tokens: `(variables, windows) -> tokens`, deterministic.
    judge: `(variables, batch) -> (Outputs, loss per example, metrics)`; `score` rests on it, and fine-tuning.
  """

  init: Callable[[Key, Array], Variables]
  apply: Callable[[Variables, Array], Outputs]
  loss: Callable[[Variables, Any, Key], tuple[Array, tuple[Variables, Metrics]]]
  score: Callable[[Variables, Any], Metrics]
  num_codes: int
  tokens: Callable[[Variables, Array], Array]
  judge: Callable[[Variables, Any], tuple[Outputs, Array, Metrics]]


class Autoencoder(nn.Module):
  """Encoder -> quantizer -> decoder and classifier."""

  config: Config
  shape: tuple[int, int, int]
  classes: int
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "batch height time channel"], *, train: bool, keys: Key | None = None) -> Outputs:
    model, quantizer = self.config.model, make_quantizer(self.config.quantizer)
    common = {"dtype": jnp.dtype(model.dtype), "axis_name": self.axis_name}
    latents = Encoder(
      model.widths, model.kernel, model.dilations, model.token_stride, quantizer.digits, model.pool,
      model.device_attention, model.gains, name="encoder", **common,
    )(x, train=train)  # fmt: skip
    quantized = quantizer.module(self.axis_name)(latents, train=train)
    codes = quantized.codes
    reconstruction = Decoder(
      model.decoder_widths, model.kernel, model.token_stride, self.shape, name="decoder", **common
    )(codes, train=train)
    logits, embedding = Classifier(
      max(self.classes, 1), model.widths[-1], model.classifier_hidden, model.classifier_dilations, model.dropout,
      model.classifier_segments,
      name="classifier", **common,
    )(codes, train=train, keys=keys)  # fmt: skip
    return Outputs(quantized.tokens, codes, latents, reconstruction, logits, embedding, quantized.loss)


def make_model(
  config: Config,
  *,
  shape: tuple[int, int, int],
  classes: int,
  class_weights: Float[np.ndarray, " class"] | None = None,
  axis_name: str | None = None,
) -> Model:
  """Builds the model's functions for windows of `shape` (height, time, channel).

  Args:
    config: the sections `model`, `quantizer` and `loss` are used.
    shape: of one window.
    classes: number of behaviours; 0 leaves the classification loss out.
    class_weights: weight of each class in the loss, mean 1; None weighs all alike.
    axis_name: mapped axis over which a batch is spread, for batch statistics.
  """
  quantizer = make_quantizer(config.quantizer)
  network = Autoencoder(config, shape, classes, axis_name)
  weights = np.ones(max(classes, 1), np.float32) if class_weights is None else class_weights

  def init(key: Key, x: Array) -> Variables:
    codes_key = jax.random.fold_in(key, 1)
    variables = network.init(key, x[:1], train=False)
    if not learns_codes(config.quantizer):
      return variables
    latents = network.apply(variables, x, train=True, mutable=["batch_stats"])[0].latents
    return start_codebook(config.quantizer, variables, latents, codes_key)

  def apply(variables: Variables, x: Array) -> Outputs:
    return network.apply(variables, x, train=False)

  def losses(outputs: Outputs, batch: Any) -> tuple[Array, Metrics]:
    square = jnp.square(outputs.reconstruction - batch.x)
    error = jnp.mean(square, axis=(1, 2, 3))
    labelled = batch.mask & (batch.y >= 0)
    y = jnp.where(labelled, batch.y, 0)
    smooth = optax.smooth_labels(jax.nn.one_hot(y, max(classes, 1)), config.loss.label_smoothing)
    cross_entropy = jnp.where(labelled, optax.softmax_cross_entropy(outputs.logits, smooth), 0.0)
    total = config.loss.reconstruction * error + config.loss.quantization * outputs.quantization_loss
    if classes:
      total = total + config.loss.classification * jnp.asarray(weights)[y] * cross_entropy
    mask = batch.mask.astype(jnp.float32)
    spread = jnp.sum(jnp.square(outputs.latents) * mask[:, None, None, None], axis=(0, 1, 2))
    metrics = {
      "count": mask.sum(),
      "loss": jnp.sum(total * mask),
      "reconstruction_mse": jnp.sum(error * mask),
      "squared_error": jnp.sum(jnp.mean(square, axis=2) * mask[:, None, None], axis=0),
      "quantization_loss": jnp.sum(outputs.quantization_loss * mask),
      "labelled": labelled.sum().astype(jnp.float32),
      "cross_entropy": cross_entropy.sum(),
      "correct": jnp.sum(labelled & (outputs.logits.argmax(-1) == batch.y)).astype(jnp.float32),
      "codes": usage.histogram(outputs.tokens, num_codes=quantizer.num_codes, mask=batch.mask),
      "latent_square": spread / np.prod(outputs.latents.shape[1:3]),
    }
    return total * mask, metrics

  def judge(variables: Variables, batch: Any) -> tuple[Outputs, Array, Metrics]:
    outputs = apply(variables, batch.x)
    total, metrics = losses(outputs, batch)
    labelled = batch.mask & (batch.y >= 0)
    confusion = jnp.zeros((max(classes, 1),) * 2, jnp.float32)
    confusion = confusion.at[jnp.where(labelled, batch.y, 0), outputs.logits.argmax(-1)].add(labelled)
    return outputs, total, {**metrics, "confusion": confusion}

  def loss(variables: Variables, batch: Any, keys: Key) -> tuple[Array, tuple[Variables, Metrics]]:
    outputs, updates = network.apply(variables, batch.x, train=True, keys=keys, mutable=["batch_stats"])
    total, metrics = losses(outputs, batch)
    return total, (updates["batch_stats"], metrics)

  def score(variables: Variables, batch: Any) -> Metrics:
    return judge(variables, batch)[2]

  def tokens(variables: Variables, x: Array) -> Int[Array, "batch row token"]:
    return apply(variables, x).tokens

  return Model(init, apply, loss, score, quantizer.num_codes, tokens, judge)


def class_weights(labels: Int[np.ndarray, " window"], *, classes: int, power: float) -> Float[np.ndarray, " class"]:
  """`frequency ** -power`, scaled so that the weights of the labelled windows average 1.

  Classes that do not occur weigh 1.

  >>> class_weights(np.array([0, 0, 0, 1]), classes=2, power=1.0).round(3)
  array([0.667, 2.   ], dtype=float32)
  """
  counts = np.bincount(labels[labels >= 0], minlength=classes).astype(np.float64)
  present = counts > 0
  weights = np.ones(classes)
  weights[present] = (counts[present] / counts.sum()) ** -power
  if present.any():
    weights[present] *= counts.sum() / (weights * counts).sum()
  return weights.astype(np.float32)
