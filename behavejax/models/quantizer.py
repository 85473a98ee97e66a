"""The quantizer of a model: one of several, with its state beside the statistics of batch normalisation."""

import math
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from behavejax.config import QuantizerConfig, did_you_mean
from behavejax.errors import InputError
from behavejax.quantizers import fsq, kmeans, vq, vq_state
from behavejax.types import Key, Variables


class Quantized(NamedTuple):
  """Codes of a batch, with a gradient to the latent vectors.

  Attributes:
    codes: what the decoder and the classifier see.
    tokens: one integer in [0, num_codes) per vector.
    loss: that ties codes and vectors together, mean over a window's vectors; 0 where codes need none.
  """

  codes: Float[Array, "batch row token digit"]
  tokens: Int[Array, "batch row token"]
  loss: Float[Array, " batch"]


class Quantizer(NamedTuple):
  """A quantizer before anything is learned.

  Attributes:
    digits: dimensions of a latent vector.
    num_codes: size of the codebook.
    levels: number of values of each digit of a token, first digit fastest.
    module: `(latents, train) -> Quantized` as a Flax module, by axis name.
  """

  digits: int
  num_codes: int
  levels: tuple[int, ...]
  module: Callable[[str | None], nn.Module]


class FiniteScalar(nn.Module):
  """No state and no loss: the codes are a grid; see `behavejax.quantizers.fsq`."""

  config: QuantizerConfig

  @nn.compact
  def __call__(self, z: Float[Array, "batch row token digit"], *, train: bool) -> Quantized:
    del train
    static = {"levels": self.config.levels, "symmetric": self.config.symmetric}
    codes = fsq.quantize(z, **static)
    return Quantized(codes, fsq.codes_to_indices(codes, **static), jnp.zeros(len(z)))


class Vector(nn.Module):
  """Nearest of learned codes; see `behavejax.quantizers.vq`.

  The codebook is a parameter with a loss of its own, or a running average of the vectors that choose it, whose state
  lies in the collection `batch_stats`: both change once per step, over all devices.
  """

  config: QuantizerConfig
  axis_name: str | None = None

  @nn.compact
  def __call__(self, z: Float[Array, "batch row token digit"], *, train: bool) -> Quantized:
    config = self.config
    shape = {"num_codes": config.num_codes, "dim": config.dim}
    common = {"cosine": config.cosine}
    options = common | {"gradient": config.gradient, "commitment_weight": config.commitment_weight}
    if config.name == "vq":
      codebook = self.param("codebook", lambda key: vq_state.init(key, **shape, **common).codebook)
      return _per_window(vq.quantize(z, codebook, **options))
    state = self.variable("batch_stats", "state", lambda: vq_state.init(self.make_rng("params"), **shape, **common))
    updates = self.variable("batch_stats", "updates", lambda: jnp.zeros((), jnp.int32))
    found = vq.quantize(z, state.value.codebook, codebook_weight=0.0, **options)
    if train and not self.is_initializing():
      used = vq_state.statistics(z, found.indices, num_codes=config.num_codes, **common)
      moved = vq_state.update(state.value, used, decay=config.decay, axis_name=self.axis_name, **common)
      key = jax.random.fold_in(jax.random.key(config.restart_seed), updates.value)  # the same on every device
      state.value = vq_state.restart(
        moved, z, key, patience=config.restart_after, axis_name=self.axis_name, **common
      )  # fmt: skip
      updates.value = updates.value + 1
    return _per_window(found)


def _per_window(found: vq.Quantized) -> Quantized:
  return Quantized(found.codes, found.indices, jnp.mean(found.loss, axis=(1, 2)))


def make_quantizer(config: QuantizerConfig) -> Quantizer:
  """Raises `InputError` for a name that `QUANTIZERS` does not hold."""
  if config.name not in QUANTIZERS:
    raise InputError(f"config.quantizer.name {config.name!r} is unknown{did_you_mean(config.name, QUANTIZERS)}")
  return QUANTIZERS[config.name](config)


def codebook_of(config: QuantizerConfig, variables: Variables) -> Float[Array, "code digit"]:
  """The learned codes of a vector quantizer; their directions where it compares those."""
  if config.name == "vq":
    codebook = variables["params"]["quantizer"]["codebook"]
  else:
    codebook = variables["batch_stats"]["quantizer"]["state"].codebook
  return vq.unit(codebook) if config.cosine else codebook


def tokens_of(
  config: QuantizerConfig, codes: Float[Array, "*batch digit"], codebook: Float[Array, "code digit"] | None = None
) -> Int[Array, "*batch"]:
  """Integers in [0, num_codes) of codes that were quantized before; a vector quantizer needs its codebook."""
  if config.name == "fsq":
    return fsq.codes_to_indices(codes, levels=config.levels, symmetric=config.symmetric)
  return vq.codes_to_indices(codes, codebook, cosine=config.cosine)


def start_codebook(
  config: QuantizerConfig, variables: Variables, latents: Float[Array, "batch row token digit"], key: Key
) -> Variables:
  """Learned codes at the k-means centres of some vectors; where these are fewer than codes, variables as they are."""
  if math.prod(latents.shape[:-1]) < config.num_codes:
    return variables
  codebook, count = kmeans.fit(latents, key, num_codes=config.num_codes, iterations=10, cosine=config.cosine)
  if config.name == "vq":
    return {**variables, "params": {**variables["params"], "quantizer": {"codebook": codebook}}}
  own = {**variables["batch_stats"]["quantizer"], "state": vq_state.from_codebook(codebook, count)}
  return {**variables, "batch_stats": {**variables["batch_stats"], "quantizer": own}}


def _finite_scalar(config: QuantizerConfig) -> Quantizer:
  return Quantizer(
    digits=len(config.levels),
    num_codes=fsq.codebook_size(config.levels),
    levels=config.levels,
    module=lambda axis_name: FiniteScalar(config, name="quantizer"),
  )


def _vector(config: QuantizerConfig) -> Quantizer:
  return Quantizer(
    digits=config.dim,
    num_codes=config.num_codes,
    levels=(config.num_codes,),
    module=lambda axis_name: Vector(config, axis_name, name="quantizer"),
  )


QUANTIZERS: dict[str, Callable[[QuantizerConfig], Quantizer]] = {
  "fsq": _finite_scalar,
  "vq": _vector,
  "vq_ema": _vector,
}
