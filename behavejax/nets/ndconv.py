"""Convolutions, encoder and decoder over one, two or three axes of space, `[batch, *space, channel]`.

A convolution that halves an axis has a kernel of 4 along it, any other a kernel of 3 (or 1). Halving is written as
folding pairs of positions into channels before a convolution of kernel 2, doubling as unfolding channels after one: so
every layer is a convolution without stride, `convolve`, which a CPU computes by matrix products.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from behavejax.nets.attention import PositionAttention
from behavejax.nets.conv2d import BatchNorm

Pads = tuple[tuple[int, int], ...]
_init = nn.initializers.he_normal()


def convolve(
  x: Float[Array, "batch *space channel"], kernel: Float[Array, "*taps channel feature"], pads: Pads
) -> Float[Array, "batch *moved feature"]:
  """Cross-correlation without stride, zeros beyond the borders.

  XLA's CPU backend takes up to 5 s for the gradient of a strided convolution of video and 0.02 s for the products
  that it amounts to; elsewhere the backend's own convolution is used.

  Args:
    x: input.
    kernel: weights.
    pads: zeros before and after each axis of space.
  """
  if jax.default_backend() == "cpu":
    return _products(x, kernel, pads)
  space = "DHW"[-len(pads) :]
  names = (f"N{space}C", f"{space}IO", f"N{space}C")
  return jax.lax.conv_general_dilated(x, kernel, (1,) * len(pads), pads, dimension_numbers=names)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _products(x: Array, kernel: Array, pads: Pads) -> Array:
  if x.shape[-1] >= 4 * kernel.shape[-1]:
    return _products_then_shifts(x, kernel, pads)
  size = kernel.shape[:-2]
  weights = kernel.reshape(*size[:-1], -1, kernel.shape[-1])
  rows = sum(
    jnp.matmul(part, weights[place], preferred_element_type=jnp.float32) for place, part in _shifts(x, size, pads)
  )
  return rows.reshape(x.shape[0], *_space(x, size, pads), -1).astype(x.dtype)


def _products_then_shifts(x: Array, kernel: Array, pads: Pads) -> Array:
  """The same where few features come out of many channels: it is those that are shifted, not what they are made of."""
  size, features, x = kernel.shape[:-2], kernel.shape[-1], _padded(x, pads)
  weights = jnp.moveaxis(kernel.reshape(-1, *kernel.shape[-2:]), 0, 1).reshape(kernel.shape[-2], -1)
  weights = jax.lax.optimization_barrier(weights)
  every = jnp.matmul(x.reshape(-1, x.shape[-1]), weights, preferred_element_type=jnp.float32)
  every = jax.lax.optimization_barrier(every.reshape(*x.shape[:-1], -1))
  space = _space(x, size, ((0, 0),) * len(size))
  places = itertools.product(*map(range, size))
  return sum(
    _window(every, place, space)[..., i * features : (i + 1) * features] for i, place in enumerate(places)
  ).astype(x.dtype)


def _products_forward(x: Array, kernel: Array, pads: Pads) -> tuple[Array, tuple[Array, Array]]:
  return _products(x, kernel, pads), (x, kernel)


def _products_backward(pads: Pads, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
  """Gradients by products too; the barriers keep XLA from products with transposed operands, five times as slow."""
  x, kernel = saved
  size = kernel.shape[:-2]
  flipped = jnp.flip(kernel, tuple(range(len(size))))
  opposite = tuple((k - 1 - before, k - 1 - after) for k, (before, after) in zip(size, pads, strict=True))
  dx = _products(dy, jax.lax.optimization_barrier(jnp.swapaxes(flipped, -1, -2)), opposite)
  if x.shape[-1] <= dy.shape[-1]:
    dkernel = jnp.swapaxes(_correlation(dy, x, size, pads), -1, -2)
  else:  # the narrower of the two is shifted
    dkernel = jnp.flip(_correlation(x, dy, size, opposite), tuple(range(len(size))))
  return dx, dkernel.astype(kernel.dtype)


_products.defvjp(_products_forward, _products_backward)


def _correlation(fixed: Array, moved: Array, size: Sequence[int], pads: Pads) -> Float[Array, "*taps fixed moved"]:
  """Sum over places of all pairs of features, for every shift that a kernel stands for."""
  across = jax.lax.optimization_barrier(fixed.reshape(-1, fixed.shape[-1]).T)
  parts = [jnp.matmul(across, part, preferred_element_type=jnp.float32) for _, part in _shifts(moved, size, pads)]
  joined = jnp.concatenate(parts, axis=1).reshape(fixed.shape[-1], *size, moved.shape[-1])
  return jnp.moveaxis(joined, 0, -2)


def _padded(x: Array, pads: Pads) -> Array:
  return jnp.pad(x, ((0, 0), *pads, (0, 0))) if any(map(any, pads)) else x


def _space(x: Array, size: Sequence[int], pads: Pads) -> tuple[int, ...]:
  """What a kernel can move through."""
  return tuple(n + sum(pad) - k + 1 for n, pad, k in zip(x.shape[1:-1], pads, size, strict=True))


def _shifts(x: Array, size: Sequence[int], pads: Pads):
  """What each place of a kernel meets along the axes but the last, as rows; along that one it is side by side."""
  space, x = _space(x, size, pads), _padded(x, pads)
  axis = x.ndim - 2
  beside = [jax.lax.slice_in_dim(x, i, i + space[-1], axis=axis) for i in range(size[-1])]
  columns = jnp.concatenate(beside, axis=-1)
  for place in itertools.product(*map(range, size[:-1])):
    yield place, _window(columns, (*place, 0), space).reshape(-1, columns.shape[-1])


def _window(x: Array, place: Sequence[int], space: Sequence[int]) -> Array:
  stop = tuple(i + n for i, n in zip(place, space, strict=True))
  return jax.lax.slice(x, (0, *place, 0), (x.shape[0], *stop, x.shape[-1]))


def _fold(x: Array, strides: Sequence[int]) -> Array:
  """`[..., 2 n, ..., channel] -> [..., n, ..., 2 channel]` along each axis of stride 2; the last axis is fastest."""
  count = len(strides)
  split = [part for n, s in zip(x.shape[1:-1], strides, strict=True) for part in (n // s, s)]
  x = x.reshape(x.shape[0], *split, x.shape[-1])
  order = (0, *range(1, 2 * count, 2), *range(2, 2 * count + 1, 2), 2 * count + 1)
  x = x.transpose(order)
  return x.reshape(*x.shape[: count + 1], -1)


def _unfold(x: Array, strides: Sequence[int]) -> Array:
  """The inverse of `_fold`."""
  count, space = len(strides), x.shape[1:-1]
  x = x.reshape(x.shape[0], *space, *strides, -1)
  order = (0, *(i for pair in zip(range(1, count + 1), range(count + 1, 2 * count + 1), strict=True) for i in pair))
  x = x.transpose(*order, 2 * count + 1)
  return x.reshape(x.shape[0], *(n * s for n, s in zip(space, strides, strict=True)), -1)


class Conv(nn.Module):
  """Convolution with "same" padding; axes of stride 2 are halved, with a kernel of 4.

  Attributes:
    width: features that come out.
    strides: 1 or 2 for each axis of space.
    size: of the kernel along axes of stride 1, odd.
  """

  width: int
  strides: tuple[int, ...]
  size: int = 3
  use_bias: bool = True
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "batch *space channel"]) -> Float[Array, "batch *moved width"]:
    channels, halved = x.shape[-1], [s == 2 for s in self.strides]
    taps = tuple(4 if half else self.size for half in halved)
    kernel = self.param("kernel", _init, (*taps, channels, self.width)).astype(self.dtype)
    x = _padded(x.astype(self.dtype), tuple((1, 1) if half else (0, 0) for half in halved))
    kernel = _fold(kernel[None].reshape(1, *taps, -1), self.strides).reshape(
      *(2 if half else self.size for half in halved), -1, self.width
    )  # the pairs of taps that meet folded positions
    around = self.size // 2
    y = convolve(_fold(x, self.strides), kernel, tuple((0, 0) if half else (around, around) for half in halved))
    return _add_bias(self, y) if self.use_bias else y


class ConvTranspose(nn.Module):
  """The mirror image of `Conv`: axes of stride 2 are doubled, as by `lax.conv_transpose` with "same" padding."""

  width: int
  strides: tuple[int, ...]
  size: int = 3
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "batch *space channel"]) -> Float[Array, "batch *moved width"]:
    channels, doubled = x.shape[-1], [s == 2 for s in self.strides]
    taps = tuple(4 if double else self.size for double in doubled)
    kernel = self.param("kernel", _init, (*taps, channels, self.width)).astype(self.dtype)
    # taps 1 and 3 make the first of a pair of new positions, 0 and 2 the second
    kernel = _fold(kernel[None].reshape(1, *taps, -1), self.strides)[0]
    phases = math.prod(self.strides)
    kernel = jnp.flip(kernel.reshape(*kernel.shape[:-1], *self.strides, channels, self.width), _phase_axes(doubled))
    kernel = jnp.moveaxis(kernel.reshape(*kernel.shape[: len(taps)], phases, channels, self.width), -3, -2)
    kernel = kernel.reshape(*kernel.shape[:-2], phases * self.width)
    around = self.size // 2
    y = convolve(x.astype(self.dtype), kernel, tuple((1, 1) if double else (around, around) for double in doubled))
    y = _unfold(y, self.strides)
    inner = tuple(slice(1, -1) if double else slice(None) for double in doubled)
    return _add_bias(self, y[(slice(None), *inner)])


def _phase_axes(doubled: Sequence[bool]) -> tuple[int, ...]:
  return tuple(len(doubled) + i for i, double in enumerate(doubled) if double)


def _add_bias(module: nn.Module, y: Array) -> Array:
  bias = module.param("bias", nn.initializers.zeros, (module.width,)).astype(y.dtype)
  return y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)


class Norm(nn.Module):
  """Batch or group normalisation, then ReLU."""

  kind: str
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "batch *space channel"], *, train: bool) -> Float[Array, "batch *space channel"]:
    if self.kind == "batch":
      return nn.relu(BatchNorm(axis_name=self.axis_name, dtype=self.dtype, name="batch")(x, train=train))
    return nn.relu(nn.GroupNorm(math.gcd(x.shape[-1], 8), dtype=self.dtype, name="group")(x))


class Block(nn.Module):
  """norm-relu-conv3-norm-relu-conv1, with attention norm-relu-attention too, added to the input."""

  attention: str
  heads: int
  norm: str
  train: bool
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "batch *space width"]) -> Float[Array, "batch *space width"]:
    width, ones = x.shape[-1], (1,) * (x.ndim - 2)
    norm = functools.partial(Norm, self.norm, self.dtype, self.axis_name)
    h = norm(name="norm_0")(x, train=self.train)
    h = Conv(width // 2, ones, use_bias=False, dtype=self.dtype, name="conv_0")(h)
    h = norm(name="norm_1")(h, train=self.train)
    h = nn.Dense(width, use_bias=False, dtype=self.dtype, name="conv_1")(h)
    if self.attention != "none":
      h = norm(name="norm_2")(h, train=self.train)
      h = PositionAttention(self.attention, self.heads, self.dtype, name="attention")(h)
    return x + h


class Stack(nn.Module):
  """Residual blocks, then norm-relu; with `remat` their insides are computed anew for the gradient."""

  blocks: int
  attention: str
  heads: int
  norm: str
  remat: bool = False
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "batch *space width"], *, train: bool) -> Float[Array, "batch *space width"]:
    block = nn.remat(Block) if self.remat and not self.is_initializing() else Block
    for i in range(self.blocks):
      x = block(self.attention, self.heads, self.norm, train, self.dtype, self.axis_name, name=f"block_{i}")(x)
    return Norm(self.norm, self.dtype, self.axis_name, name="norm")(x, train=train)


def stage_strides(factors: Sequence[int]) -> list[tuple[int, ...]]:
  """Strides of the halvings that lead to `factors`, powers of two.

  >>> stage_strides((2, 4, 1))
  [(2, 2, 1), (1, 2, 1)]
  """
  halvings = [factor.bit_length() - 1 for factor in factors]
  return [tuple(2 if i < n else 1 for n in halvings) for i in range(max(halvings))]


class Encoder(nn.Module):
  """Sample -> latent vectors, one per cell of a grid, near unit variance in every dimension.

  The projection is normalised without scale or shift, as that of `behavejax.nets.conv2d.Encoder`: distances between
  vectors keep their meaning while the network learns, and every quantizer finds the spread that suits it.

  Attributes:
    factors: by which each axis of space is shortened, powers of two.
    hidden: features of every layer.
    digits: dimensions of a latent vector.
    stack: the residual blocks.
  """

  factors: tuple[int, ...]
  hidden: int
  digits: int
  stack: Stack
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "batch *space channel"], *, train: bool) -> Float[Array, "batch *grid digit"]:
    for i, strides in enumerate(stage_strides(self.factors)):
      x = nn.relu(Conv(self.hidden, strides, dtype=self.dtype, name=f"halve_{i}")(x))
    x = Conv(self.hidden, (1,) * len(self.factors), dtype=self.dtype, name="conv")(x)
    x = self.stack(x, train=train)
    z = nn.Dense(self.digits, use_bias=False, dtype=self.dtype, name="projection")(x)
    return BatchNorm(axis_name=self.axis_name, affine=False, name="spread")(z.astype(jnp.float32), train=train)


class Decoder(nn.Module):
  """Codes -> sample: the mirror image of `Encoder`."""

  factors: tuple[int, ...]
  hidden: int
  channels: int
  stack: Stack
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, codes: Float[Array, "batch *grid digit"], *, train: bool) -> Float[Array, "batch *space channel"]:
    x = nn.Dense(self.hidden, dtype=self.dtype, name="embed")(codes)
    x = self.stack(x, train=train)
    stages = stage_strides(self.factors)[::-1]
    for i, strides in enumerate(stages[:-1]):
      x = nn.relu(ConvTranspose(self.hidden, strides, dtype=self.dtype, name=f"double_{i}")(x))
    last = stages[-1] if stages else (1,) * len(self.factors)
    return ConvTranspose(self.channels, last, dtype=self.dtype, name="sample")(x).astype(jnp.float32)
