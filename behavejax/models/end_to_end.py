"""The autoencoder of `vae` with a quantizer in its middle, learned together: what later codebooks compete with."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from behavejax.config import QuantizerConfig, VaeConfig
from behavejax.models.quantizer import learns_codes, make_quantizer, start_codebook
from behavejax.nets.vae import Decoder, Encoder
from behavejax.quantizers import usage
from behavejax.types import Key, Metrics, Variables


class Outputs(NamedTuple):
  """Codes of a batch, and what is decoded from them."""

  tokens: Int[Array, "batch *grid"]
  reconstruction: Float[Array, "batch *space channel"]
  latents: Float[Array, "batch row token digit"]
  loss: Float[Array, " batch"]


class EndToEnd(NamedTuple):
  """Pure functions of variables and arrays, as of other models; `apply` is deterministic."""

  num_codes: int
  init: Callable[[Key, Array], Variables]
  apply: Callable[[Variables, Array], Outputs]
  loss: Callable[[Variables, Any, Key], tuple[Array, tuple[Variables, Metrics]]]
  score: Callable[[Variables, Any], Metrics]
  summarize: Callable[[dict[str, np.ndarray]], dict[str, float]]


class Network(nn.Module):
  """Encoder -> quantizer -> decoder."""

  config: VaeConfig
  quantizer: QuantizerConfig
  shape: tuple[int, ...]
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "batch *space channel"], *, train: bool) -> Outputs:
    config, quantizer = self.config, make_quantizer(self.quantizer)
    common = {"kernel": config.kernel, "spatial": config.latent == "spatial", "axis_name": self.axis_name}
    z, _ = Encoder(config.widths, config.halvings, dim=quantizer.digits, name="encoder", **common)(x, train=train)
    grid = z.shape[1:-1]
    rows = z.reshape(z.shape[0], 1, -1, z.shape[-1])
    found = quantizer.module(self.axis_name)(rows, train=train)
    codes = found.codes.reshape(z.shape)
    y = Decoder(config.widths, config.halvings, shape=self.shape, name="decoder", **common)(codes, train=train)
    return Outputs(found.tokens.reshape(-1, *grid), y, rows, found.loss)


def make_end_to_end(
  config: VaeConfig, quantizer: QuantizerConfig, *, shape: tuple[int, ...], weight: float, axis_name: str | None = None
) -> EndToEnd:
  """Builds the model's functions for samples of `shape` (*space, channel).

  Args:
    config: of encoder and decoder.
    quantizer: between them.
    shape: of one sample.
    weight: of the quantizer's own loss beside the mean squared error.
    axis_name: mapped axis over which a batch is spread.
  """
  network = Network(config, quantizer, shape, axis_name)
  num_codes = make_quantizer(quantizer).num_codes
  space = tuple(range(1, len(shape) + 1))

  def init(key: Key, x: Array) -> Variables:
    variables = network.init(key, x[:1], train=False)
    if not learns_codes(quantizer):
      return variables
    latents = network.apply(variables, x, train=True, mutable=["batch_stats"])[0].latents
    return start_codebook(quantizer, variables, latents, jax.random.fold_in(key, 1))

  def apply(variables: Variables, x: Array) -> Outputs:
    return network.apply(variables, x, train=False)

  def sums(outputs: Outputs, batch: Any) -> tuple[Array, Metrics]:
    mask = batch.mask.astype(jnp.float32)
    error = jnp.mean(jnp.square(outputs.reconstruction - batch.x), axis=space)
    total = (error + weight * outputs.loss) * mask
    counts = usage.histogram(outputs.tokens.reshape(len(mask), 1, -1), num_codes=num_codes, mask=batch.mask)
    return total, {
      "count": mask.sum(), "loss": total.sum(), "reconstruction_mse": jnp.sum(error * mask), "codes": counts,
    }  # fmt: skip

  def loss(variables: Variables, batch: Any, keys: Key) -> tuple[Array, tuple[Variables, Metrics]]:
    del keys
    outputs, changed = network.apply(variables, batch.x, train=True, mutable=["batch_stats"])
    total, metrics = sums(outputs, batch)
    return total, (changed["batch_stats"], metrics)

  def score(variables: Variables, batch: Any) -> Metrics:
    return sums(apply(variables, batch.x), batch)[1]

  def summarize(totals: dict[str, np.ndarray]) -> dict[str, float]:
    means = {name: float(totals[name] / totals["count"]) for name in ("loss", "reconstruction_mse")}
    return means | {"code_usage": float(np.mean(totals["codes"] > 0))}

  return EndToEnd(num_codes, init, apply, loss, score, summarize)
