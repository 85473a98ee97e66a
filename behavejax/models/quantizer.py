"""The quantizer of a model: one of several, with its state beside the statistics of batch normalisation."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from behavejax.config import QuantizerConfig, did_you_mean
from behavejax.errors import InputError
from behavejax.quantizers import composite, kmeans, lfq, vq, vq_state
from behavejax.quantizers.composite import Found, Part, Seen
from behavejax.quantizers.vq_state import State
from behavejax.types import Key, Variables


class Quantized(NamedTuple):
  """Codes of a batch, with a gradient to the latent vectors.

  Attributes:
    codes: what the decoder and the classifier see.
    tokens: one integer in [0, num_codes) per vector.
    loss: that ties codes and vectors together, mean over a window's vectors; 0 where codes need none. In training the
      penalties of the batch are added to every window's, so that they count once in the mean over windows.
  """

  codes: Float[Array, "batch *grid digit"]
  tokens: Int[Array, "batch *grid"]
  loss: Float[Array, " batch"]


class Quantizer(NamedTuple):
  """A quantizer before anything is learned.

  Attributes:
    digits: dimensions of a latent vector.
    num_codes: number of different tokens.
    levels: number of values of each digit of a token, first digit fastest.
    module: `(latents, train) -> Quantized` as a Flax module, by axis name.
  """

  digits: int
  num_codes: int
  levels: tuple[int, ...]
  module: Callable[[str | None], nn.Module]


class Fixed(nn.Module):
  """Codes that nobody learns, a grid or signs; see `behavejax.quantizers.fsq` and `lfq`."""

  config: QuantizerConfig
  axis_name: str | None = None

  @nn.compact
  def __call__(self, z: Float[Array, "batch *grid digit"], *, train: bool) -> Quantized:
    config = self.config
    found = compose(config).quantize(z, None)
    if not train or not config.entropy_weight:
      return _per_window(found)
    penalties = (
      lfq.entropy_penalty(
        seen.vectors, seen.mask, scale=_scale(i % config.stages), temperature=config.entropy_temperature,
        spherical=config.spherical, axis_name=self.axis_name,
      )
      for i, seen in enumerate(found.seen)
    )  # fmt: skip
    return _per_window(found, config.entropy_weight * sum(penalties))


class Learned(nn.Module):
  """Nearest of learned codes; see `behavejax.quantizers.vq`.

  A codebook is a parameter with a loss of its own, or a running average of the vectors that choose it, whose state
  lies in the collection `batch_stats`: both change once per step, over all devices. Every stage of every group has its
  own, named with its number.
  """

  config: QuantizerConfig
  axis_name: str | None = None

  @nn.compact
  def __call__(self, z: Float[Array, "batch *grid digit"], *, train: bool) -> Quantized:
    config, learn = self.config, train and not self.is_initializing()
    start = functools.partial(
      vq_state.init, num_codes=config.num_codes, dim=config.dim // config.groups, cosine=config.cosine
    )
    if config.name == "vq":
      codebooks = [self.param(name, lambda key: start(key).codebook) for name in _names(config, "codebook")]
      found = compose(config, codebooks).quantize(z, None)
    else:
      names = _names(config, "state")
      states = [self.variable("batch_stats", name, lambda: start(self.make_rng("params"))) for name in names]
      updates = self.variable("batch_stats", "updates", lambda: jnp.zeros((), jnp.int32))
      codebooks = [state.value.codebook for state in states]
      found = compose(config, codebooks).quantize(z, None)
      if learn:
        key = jax.random.fold_in(jax.random.key(config.restart_seed), updates.value)  # the same on every device
        for i, (state, seen) in enumerate(zip(states, found.seen, strict=True)):
          state.value = _advance(config, state.value, seen, _part_key(config, key, i), self.axis_name)
        updates.value = updates.value + 1
    return _per_window(found, self._penalty(codebooks, found.seen) if learn else 0.0)

  def _penalty(self, codebooks: Sequence[Array], seen: Sequence[Seen]) -> Float[Array, ""] | float:
    config, penalty = self.config, 0.0
    if config.entropy_weight:
      static = {"temperature": config.entropy_temperature, "cosine": config.cosine, "axis_name": self.axis_name}
      pairs = zip(codebooks, seen, strict=True)
      penalty += config.entropy_weight * sum(vq.entropy_penalty(s.vectors, c, s.mask, **static) for c, s in pairs)
    if config.orthogonality_weight:
      penalty += config.orthogonality_weight * sum(map(vq.orthogonality_penalty, codebooks))
    return penalty


def _advance(config: QuantizerConfig, state: State, seen: Seen, key: Key, axis_name: str | None) -> State:
  """A running-average codebook after one step."""
  common = {"cosine": config.cosine}
  used = vq_state.statistics(seen.vectors, seen.indices, seen.mask, num_codes=config.num_codes, **common)
  moved = vq_state.update(state, used, decay=config.decay, axis_name=axis_name, **common)
  return vq_state.restart(
    moved, seen.vectors, key, seen.mask, patience=config.restart_after, axis_name=axis_name, **common
  )  # fmt: skip


def _per_window(found: Found, penalty: Float[Array, ""] | float = 0.0) -> Quantized:
  return Quantized(found.codes, found.indices, jnp.mean(found.loss, axis=tuple(range(1, found.loss.ndim))) + penalty)


def compose(config: QuantizerConfig, codebooks: Sequence[Float[Array, "code dim"]] = ()) -> Part:
  """The quantizer of a config as three functions of arrays: groups of stages, or a plain one.

  Args:
    config: names the quantizer.
    codebooks: of every stage of the first group, then of the second; none where codes are not learned.
  """
  if config.name == "fsq":
    group = composite.finite_scalar(config.levels, symmetric=config.symmetric, stages=config.stages)
    return composite.grouped([group] * config.groups)
  if config.name == "lfq":
    bits, static = _bits(config), {"spherical": config.spherical, "commitment_weight": config.commitment_weight}
    parts = [composite.lookup_free(bits, scale=_scale(i), **static) for i in range(config.stages)]
    return composite.grouped([composite.residual(parts, search=False)] * config.groups)
  parts = [
    composite.vector(
      codebook, gradient=config.gradient, codebook_weight=1.0 if config.name == "vq" else 0.0,
      commitment_weight=config.commitment_weight, cosine=config.cosine,
    )
    for codebook in codebooks
  ]  # fmt: skip
  groups = [parts[i : i + config.stages] for i in range(0, len(parts), config.stages)]
  return composite.grouped([composite.residual(group, gradient=config.gradient) for group in groups])


def make_quantizer(config: QuantizerConfig) -> Quantizer:
  """Raises `InputError` for a name that `QUANTIZERS` does not hold."""
  if config.name not in QUANTIZERS:
    raise InputError(f"config.quantizer.name {config.name!r} is unknown{did_you_mean(config.name, QUANTIZERS)}")
  return QUANTIZERS[config.name](config)


def learns_codes(config: QuantizerConfig) -> bool:
  """Whether there is a codebook to learn."""
  return config.name in ("vq", "vq_ema")


def codebook_of(config: QuantizerConfig, variables: Variables) -> Float[Array, "code digit"]:
  """The learned codes of a vector quantizer, by token; their directions where it compares those."""
  if config.name == "vq":
    codebooks = [variables["params"]["quantizer"][name] for name in _names(config, "codebook")]
  else:
    codebooks = [variables["batch_stats"]["quantizer"][name].codebook for name in _names(config, "state")]
  if len(codebooks) > 1:
    return compose(config, codebooks).codebook()
  return vq.unit(codebooks[0]) if config.cosine else codebooks[0]


def all_codes(config: QuantizerConfig, variables: Variables) -> Float[Array, "code digit"]:
  """Every code, by token, learned or not."""
  return codebook_of(config, variables) if learns_codes(config) else compose(config).codebook()


def tokens_of(
  config: QuantizerConfig, codes: Float[Array, "*batch digit"], codebook: Float[Array, "code digit"] | None = None
) -> Int[Array, "*batch"]:
  """Integers in [0, num_codes) of codes that were quantized before; learned ones need `codebook_of` the model."""
  if not learns_codes(config):
    return compose(config).codes_to_indices(codes)
  return vq.codes_to_indices(codes, codebook, cosine=config.cosine)


def start_codebook(
  config: QuantizerConfig, variables: Variables, latents: Float[Array, "batch *grid digit"], key: Key
) -> Variables:
  """Learned codes at the k-means centres of some vectors; where these are fewer than codes, variables as they are.

  A later stage starts from what the ones before it leave of these vectors.
  """
  if math.prod(latents.shape[:-1]) < config.num_codes:
    return variables
  found = []
  for left in jnp.split(latents, config.groups, axis=-1):
    for _ in range(config.stages):
      part_key = _part_key(config, key, len(found))
      found.append(kmeans.fit(left, part_key, num_codes=config.num_codes, iterations=10, cosine=config.cosine))
      left = left - vq.quantize(left, found[-1][0], cosine=config.cosine).codes
  if config.name == "vq":
    codebooks = {name: codebook for name, (codebook, _) in zip(_names(config, "codebook"), found, strict=True)}
    return {**variables, "params": {**variables["params"], "quantizer": codebooks}}
  states = {name: vq_state.from_codebook(*start) for name, start in zip(_names(config, "state"), found, strict=True)}
  own = {**variables["batch_stats"]["quantizer"], **states}
  return {**variables, "batch_stats": {**variables["batch_stats"], "quantizer": own}}


def _names(config: QuantizerConfig, name: str) -> list[str]:
  """Of what each stage of each group learns; without a number where there is one."""
  count = config.stages * config.groups
  return [name] if count == 1 else [f"{name}_{i}" for i in range(count)]


def _part_key(config: QuantizerConfig, key: Key, i: int) -> Key:
  return key if config.stages * config.groups == 1 else jax.random.fold_in(key, i)


def _scale(stage: int) -> float:
  """Of the signs of a stage: with half the magnitude of the one before, sums of signs lie evenly."""
  return 2.0**-stage


def _bits(config: QuantizerConfig) -> int:
  return config.num_codes.bit_length() - 1


def _quantizer(config: QuantizerConfig, digits: int, levels: tuple[int, ...]) -> Quantizer:
  levels = levels * (config.stages * config.groups)
  module = Learned if learns_codes(config) else Fixed
  return Quantizer(digits, math.prod(levels), levels, lambda axis_name: module(config, axis_name, name="quantizer"))


def _finite_scalar(config: QuantizerConfig) -> Quantizer:
  return _quantizer(config, len(config.levels) * config.groups, config.levels)


def _lookup_free(config: QuantizerConfig) -> Quantizer:
  return _quantizer(config, _bits(config) * config.groups, (2,) * _bits(config))


def _vector(config: QuantizerConfig) -> Quantizer:
  return _quantizer(config, config.dim, (config.num_codes,))


QUANTIZERS: dict[str, Callable[[QuantizerConfig], Quantizer]] = {
  "fsq": _finite_scalar,
  "lfq": _lookup_free,
  "vq": _vector,
  "vq_ema": _vector,
}
