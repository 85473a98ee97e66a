"""Decoder-only transformer over grids of codes.

Position `t` of a sequence takes the code before it (the class, at the start) and scores the code to come. Attention is
turned by places in the grid (rotary embedding, Su et al. 2021, over every axis): a query by the place it is to fill, a
key by the place of the code it holds, so that their product depends on where the known code lies from the unknown one,
in whatever order the grid is filled.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from behavejax.nets.attention import dot_product_attention
from behavejax.nets.heads import dropout
from behavejax.types import Key

_BASE = 100.0  # ratio of the longest to the shortest wavelength: grids are short


class Memory(NamedTuple):
  """Keys and values of the positions seen so far, of one layer; zeros elsewhere."""

  keys: Float[Array, "batch position head depth"]
  values: Float[Array, "batch position head depth"]


class Rotation(NamedTuple):
  """Angles of queries and keys at every position, from the places that they stand for."""

  queries: Float[np.ndarray, "position pair"]
  keys: Float[np.ndarray, "position pair"]


def rotation(places: Int[np.ndarray, "position axis"], *, depth: int) -> Rotation:
  """Angles for codes that fill a grid in the order of `places`.

  The start stands outside the grid, one before its first place on every axis: attention to it tells a position where it
  is. Every axis has as many pairs of the depth; what is left over is not turned.

  Raises:
    ValueError: fewer pairs than axes.
  """
  axes, pairs = places.shape[1], depth // 2
  each = pairs // axes
  if not each:
    raise ValueError(f"{pairs} pairs of a head cannot be shared by {axes} axes")
  frequencies = _BASE ** (-np.arange(each) / each)
  held = np.concatenate([np.full((1, axes), -1), places[:-1]])
  angles = [(p[:, :, None] * frequencies).reshape(len(p), -1) for p in (places, held)]
  unturned = ((0, 0), (0, pairs - axes * each))
  return Rotation(*(np.pad(a, unturned).astype(np.float32) for a in angles))


def rotate(
  x: Float[Array, "batch position head depth"], angles: Float[Array, "position pair"]
) -> Float[Array, "batch position head depth"]:
  """Turns dimension `i` and `i + depth / 2` of every head by angle `i` of the position."""
  cos, sin = (f(angles)[None, :, None, :].astype(x.dtype) for f in (jnp.cos, jnp.sin))
  first, second = jnp.split(x, 2, axis=-1)
  return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)


class Block(nn.Module):
  """Attention and a perceptron, each on the normalised input and added to it."""

  width: int
  heads: int
  layers: int  # of the whole network: what is added starts smaller in a deep one
  dropout: float
  site: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch position width"],
    angles: tuple[Float[Array, "position pair"], Float[Array, "position pair"]],
    visible: Bool[Array, "position seen"],
    start: Int[Array, ""] | int,
    memory: Memory | None,
    keys: Key | None,
  ) -> tuple[Float[Array, "batch position width"], Memory | None]:
    inside = nn.initializers.variance_scaling(1 / (2 * self.layers), "fan_in", "normal")
    depth = self.width // self.heads
    normed = nn.RMSNorm(dtype=self.dtype, name="attention_norm")(x)
    qkv = nn.DenseGeneral((3, self.heads, depth), use_bias=False, dtype=self.dtype, name="qkv")(normed)
    q, k, v = jnp.moveaxis(qkv, 2, 0)
    q, k = (rotate(a, own) for a, own in zip((q, k), angles, strict=True))
    if memory is not None:
      k, v = (jax.lax.dynamic_update_slice_in_dim(m, a, start, axis=1) for m, a in zip(memory, (k, v), strict=True))
      memory = Memory(k, v)
    mixed = dot_product_attention(q, k, v, mask=visible)
    y = nn.DenseGeneral(self.width, axis=(-2, -1), use_bias=False, kernel_init=inside, dtype=self.dtype, name="out")(
      mixed
    )
    x = x + dropout(y, keys, rate=self.dropout, site=2 * self.site)
    y = nn.RMSNorm(dtype=self.dtype, name="perceptron_norm")(x)
    y = nn.gelu(nn.Dense(4 * self.width, dtype=self.dtype, name="hidden")(y))
    y = nn.Dense(self.width, kernel_init=inside, dtype=self.dtype, name="back")(y)
    return x + dropout(y, keys, rate=self.dropout, site=2 * self.site + 1), memory


class Prior(nn.Module):
  """Scores of the codes at each position of a sequence, given those before and perhaps a class.

  Attributes:
    num_codes: size of the codebook.
    classes: that may be given; 0 for none.
    places: of the codes in the grid, in the order of the sequence.
    width: of the network, a multiple of `heads`.
  """

  num_codes: int
  classes: int
  places: Sequence[tuple[int, ...]]
  width: int
  layers: int
  heads: int
  dropout: float = 0.0
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    codes: Int[Array, "batch position"],
    labels: Int[Array, " batch"],
    *,
    start: Int[Array, ""] | int = 0,
    memory: Sequence[Memory] | None = None,
    keys: Key | None = None,
  ) -> tuple[Float[Array, "batch position code"], Sequence[Memory] | None]:
    """Scores of some consecutive positions.

    Args:
      codes: the code before each position; that before the first of all is not looked at.
      labels: class of each sequence, -1 where it is not known.
      start: the first of the positions.
      memory: of the positions before; without it, these are all that can be seen.
      keys: one per sequence, for dropout.

    Returns:
      Scores, and the memory with these positions added.
    """
    positions = codes.shape[1]
    turn = rotation(np.asarray(self.places), depth=self.width // self.heads)
    angles = tuple(jax.lax.dynamic_slice_in_dim(jnp.asarray(a), start, positions) for a in turn)
    at = start + jnp.arange(positions)
    seen = positions if memory is None else len(self.places)
    visible = jnp.arange(seen)[None] <= (at if memory is not None else jnp.arange(positions))[:, None]
    x = nn.Embed(self.num_codes, self.width, dtype=self.dtype, name="codes")(codes)
    known = jnp.where(labels >= 0, labels, self.classes)
    opening = nn.Embed(self.classes + 1, self.width, dtype=self.dtype, name="opening")(known)
    x = jnp.where((at == 0)[None, :, None], opening[:, None], x)
    x = dropout(x, keys, rate=self.dropout, site=2 * self.layers)
    left = []
    for i in range(self.layers):
      block = Block(self.width, self.heads, self.layers, self.dropout, i, self.dtype, name=f"block_{i}")
      x, own = block(x, angles, visible, start, None if memory is None else memory[i], keys)
      left.append(own)
    x = nn.RMSNorm(dtype=self.dtype, name="norm")(x)
    scores = nn.Dense(self.num_codes, kernel_init=nn.initializers.normal(0.02), dtype=self.dtype, name="scores")(x)
    return scores.astype(jnp.float32), None if memory is None else tuple(left)

  def empty_memory(self, batch: int) -> tuple[Memory, ...]:
    """Of a sequence that has not begun."""
    shape = (batch, len(self.places), self.heads, self.width // self.heads)
    return tuple(Memory(*jnp.zeros((2, *shape), self.dtype)) for _ in range(self.layers))
