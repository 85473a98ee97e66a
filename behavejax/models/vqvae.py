"""The discrete autoencoder of signals, images and video: encoder, quantizer and decoder over 1 to 3 axes of space."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from behavejax.config import Config
from behavejax.errors import InputError
from behavejax.models import reconstruction as losses
from behavejax.models.quantizer import Quantized, all_codes, learns_codes, make_quantizer, start_codebook
from behavejax.nets.ndconv import Decoder, Encoder, Stack
from behavejax.quantizers import usage
from behavejax.types import Key, Metrics, Variables

_VECTORS_PER_CODE = 8  # that start a codebook
_SHIFT = 8  # images and videos are shifted by up to this part of an axis


class Outputs(NamedTuple):
  """What the model says about a batch of samples.

  Attributes:
    tokens: a code's index for every cell of the grid.
    codes: the quantized vectors.
    latents: the encoder's output before quantization.
    reconstruction: the decoder's sample, in normalised units.
    quantization_loss: that ties codes and latent vectors together, per sample.
  """

  tokens: Int[Array, "batch *grid"]
  codes: Float[Array, "batch *grid digit"]
  latents: Float[Array, "batch *grid digit"]
  reconstruction: Float[Array, "batch *space channel"]
  quantization_loss: Float[Array, " batch"]


class Vqvae(NamedTuple):
  """Pure functions of variables and arrays; samples are normalised, `[batch, *space, channel]`.

  All but `init` and `loss` take samples and grids of any size that the factors divide.

  Attributes:
    init: `(key, samples) -> variables`; learned codes start as the k-means centres of the samples' vectors.
    apply: `(variables, samples) -> Outputs`, deterministic, with running statistics.
    loss: `(variables, batch, keys) -> (loss per sample, (new batch statistics, metrics))`, metrics as those of
      `behavejax.models.autoencoder.Model`.
    score: `(variables, batch) -> metrics`, deterministic.
    tokens: `(variables, samples) -> tokens`.
    encode: `(variables, samples) -> latents`, before quantization.
    quantize: `(variables, latents) -> (tokens, codes)`.
    decode: `(variables, codes) -> samples`, of any vectors.
    decode_tokens: `(variables, tokens) -> samples`: what a prior over tokens needs.
    num_codes: size of the codebook.
    grid: of one sample's tokens.
  """

  init: Callable[[Key, Array], Variables]
  apply: Callable[[Variables, Array], Outputs]
  loss: Callable[[Variables, Any, Key], tuple[Array, tuple[Variables, Metrics]]]
  score: Callable[[Variables, Any], Metrics]
  tokens: Callable[[Variables, Array], Array]
  encode: Callable[[Variables, Array], Array]
  quantize: Callable[[Variables, Array], tuple[Array, Array]]
  decode: Callable[[Variables, Array], Array]
  decode_tokens: Callable[[Variables, Array], Array]
  num_codes: int
  grid: tuple[int, ...]


class Autoencoder(nn.Module):
  """Encoder -> quantizer -> decoder."""

  config: Config
  channels: int
  axis_name: str | None = None

  def setup(self):
    settings, quantizer = self.config.vqvae, make_quantizer(self.config.quantizer)
    dtype = jnp.dtype(settings.dtype)
    common = (settings.attention, settings.heads, settings.norm, settings.remat, dtype, self.axis_name)
    self.encoder = Encoder(
      settings.factors, settings.hidden, quantizer.digits, Stack(settings.blocks, *common), dtype, self.axis_name
    )
    self.decoder = Decoder(settings.factors, settings.hidden, self.channels, Stack(settings.blocks, *common), dtype)
    self.coding = quantizer.module(self.axis_name)  # named "quantizer"

  def __call__(self, x: Float[Array, "batch *space channel"], *, train: bool) -> Outputs:
    latents = self.encoder(x, train=train)
    quantized = self.coding(latents, train=train)
    decoded = self.decoder(quantized.codes, train=train)
    return Outputs(quantized.tokens, quantized.codes, latents, decoded, quantized.loss)

  def encode(self, x: Array) -> Float[Array, "batch *grid digit"]:
    return self.encoder(x, train=False)

  def quantize(self, latents: Array) -> Quantized:
    return self.coding(latents, train=False)

  def decode(self, codes: Array) -> Float[Array, "batch *space channel"]:
    return self.decoder(codes, train=False)


def grid_of(shape: tuple[int, ...], factors: tuple[int, ...]) -> tuple[int, ...]:
  """The grid of tokens of a sample.

  Args:
    shape: (*space, channel) of the sample.
    factors: by which each axis is shortened.

  Raises:
    InputError: another number of axes, or one that its factor does not divide.
  """
  space = shape[:-1]
  if len(space) != len(factors):
    raise InputError(
      f"config.vqvae.factors={tuple(factors)} are for {len(factors)} axes, samples have {len(space)}: "
      f"{' x '.join(map(str, space))}"
    )
  wrong = [f"{n} by {f}" for n, f in zip(space, factors, strict=True) if n % f]
  if wrong:
    raise InputError(
      f"config.vqvae.factors={tuple(factors)} do not divide samples of {' x '.join(map(str, space))}: "
      f"{', '.join(wrong)} leaves a rest"
    )
  return tuple(n // f for n, f in zip(space, factors, strict=True))


def make_vqvae(config: Config, *, shape: tuple[int, ...], classes: int = 0, axis_name: str | None = None) -> Vqvae:
  """Builds the model's functions for samples of `shape` (*space, channel).

  Args:
    config: the sections `vqvae`, `quantizer` and `loss` are used.
    shape: of one sample.
    classes: number of labels, for the perceptual loss.
    axis_name: mapped axis over which a batch is spread, for batch statistics.

  Raises:
    InputError: factors that do not divide the shape, or a perceptual loss without labels.
  """
  settings = config.vqvae
  grid = grid_of(shape, settings.factors)
  if settings.perceptual and classes < 2:
    raise InputError(
      f"config.vqvae.perceptual={settings.perceptual:g} needs samples of two classes or more, the data have {classes}"
    )
  quantizer = make_quantizer(config.quantizer)
  network = Autoencoder(config, shape[-1], axis_name)
  judge = losses.Judge(max(classes, 1))

  def init(key: Key, x: Array) -> Variables:
    codes_key, judge_key = jax.random.fold_in(key, 1), jax.random.fold_in(key, 2)
    variables = network.init(key, x[:1], train=False)
    if learns_codes(config.quantizer):
      enough = -(-_VECTORS_PER_CODE * config.quantizer.num_codes // math.prod(grid))
      latents = network.apply(variables, x[:enough], train=True, mutable=["batch_stats"])[0].latents
      variables = start_codebook(config.quantizer, variables, latents, codes_key)
    if settings.perceptual:
      params = {**variables["params"], "judge": judge.init(judge_key, x[:1])["params"]}
      variables = {**variables, "params": params}
    return variables

  def own(variables: Variables) -> Variables:
    """Without the judge, which is a network of its own."""
    return {**variables, "params": {k: v for k, v in variables["params"].items() if k != "judge"}}

  def apply(variables: Variables, x: Array) -> Outputs:
    return network.apply(own(variables), x, train=False)

  def costs(params: Variables, outputs: Outputs, batch: Any) -> tuple[Array, Metrics]:
    difference = outputs.reconstruction - batch.x
    error = losses.pointwise(difference, kind="mse")
    fit = losses.pointwise(difference, kind=settings.reconstruction, delta=settings.huber_delta)
    total = config.loss.reconstruction * fit + config.loss.quantization * outputs.quantization_loss
    if settings.spectral:
      total += settings.spectral * losses.spectral(outputs.reconstruction, batch.x, settings.spectral_windows)
    mask, further = batch.mask.astype(jnp.float32), {}
    if settings.perceptual:
      cost, correct, known = _judged(judge, params["judge"], outputs.reconstruction, batch)
      total += cost[0] + settings.perceptual * cost[1]
      further = {"labelled": jnp.sum(known * mask), "correct": jnp.sum(correct * mask)}
    spread = jnp.square(outputs.latents) * mask.reshape(-1, *(1,) * (len(grid) + 1))
    metrics = {
      "count": mask.sum(),
      "loss": jnp.sum(total * mask),
      "reconstruction_mse": jnp.sum(error * mask),
      "quantization_loss": jnp.sum(outputs.quantization_loss * mask),
      "codes": usage.histogram(outputs.tokens, num_codes=quantizer.num_codes, mask=batch.mask),
      "latent_square": jnp.sum(spread) / math.prod(outputs.latents.shape[1:]),
      **further,
    }
    return total * mask, metrics

  def loss(variables: Variables, batch: Any, keys: Key) -> tuple[Array, tuple[Variables, Metrics]]:
    if settings.augment:
      batch = batch._replace(x=jax.vmap(_shifted)(batch.x, keys))
    outputs, updates = network.apply(own(variables), batch.x, train=True, mutable=["batch_stats"])
    total, metrics = costs(variables["params"], outputs, batch)
    return total, (updates["batch_stats"], metrics)

  def score(variables: Variables, batch: Any) -> Metrics:
    return costs(variables["params"], apply(variables, batch.x), batch)[1]

  def tokens(variables: Variables, x: Array) -> Int[Array, "batch *grid"]:
    return quantize(variables, encode(variables, x))[0]

  def encode(variables: Variables, x: Array) -> Float[Array, "batch *grid digit"]:
    grid_of(x.shape[1:], settings.factors)
    return network.apply(own(variables), x, method=Autoencoder.encode)

  def quantize(variables: Variables, latents: Array) -> tuple[Array, Array]:
    found = network.apply(own(variables), latents, method=Autoencoder.quantize)
    return found.tokens, found.codes

  def decode(variables: Variables, codes: Array) -> Float[Array, "batch *space channel"]:
    return network.apply(own(variables), codes, method=Autoencoder.decode)

  def decode_tokens(variables: Variables, tokens: Array) -> Float[Array, "batch *space channel"]:
    return decode(variables, all_codes(config.quantizer, variables)[tokens])

  return Vqvae(
    init, apply, loss, score, tokens, encode, quantize, decode, decode_tokens, quantizer.num_codes, grid
  )  # fmt: skip


def _judged(
  judge: losses.Judge, params: Variables, reconstruction: Array, batch: Any
) -> tuple[tuple[Array, Array], Array, Array]:
  """(Cost of the classifier, distance of features), whether it was right, and which samples have a label.

  The classifier learns from samples alone; what it sees in a reconstruction teaches the decoder and not the classifier.
  """
  logits, wanted = judge.apply({"params": params}, batch.x)
  _, found = judge.apply({"params": jax.lax.stop_gradient(params)}, reconstruction)
  known = batch.y >= 0
  cost = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(known, batch.y, 0)) * known
  correct = (known & (logits.argmax(-1) == batch.y)).astype(jnp.float32)
  return (cost, losses.perceptual(found, jax.lax.stop_gradient(wanted))), correct, known.astype(jnp.float32)


def _shifted(x: Float[Array, "*space channel"], key: Key) -> Float[Array, "*space channel"]:
  """Moves height and width of an image or a video by whole pixels, the border repeated; time stays."""
  time = x.ndim - 3 if x.ndim > 2 else 1
  reach = tuple(0 if i < time else n // _SHIFT for i, n in enumerate(x.shape[:-1]))
  padded = jnp.pad(x, (*((r, r) for r in reach), (0, 0)), mode="edge")
  most = jnp.asarray(np.asarray([2 * r + 1 for r in reach], np.float32))
  start = jnp.floor(jax.random.uniform(key, (len(reach),)) * most).astype(jnp.int32)
  return jax.lax.dynamic_slice(padded, (*start, 0), x.shape)
