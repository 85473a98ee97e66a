"""Encoder and decoder of a variational autoencoder over signals, images or video `[*space, channel]`.

Stages of convolution, batch normalisation and ReLU, the first of them halving every axis; the decoder mirrors them. The
last doubling is a sub-pixel convolution (Shi et al. 2016), so that nothing is convolved at full size.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from behavejax.nets.conv2d import BatchNorm


class Stage(nn.Module):
  """Convolution over every axis of space, batch normalisation, ReLU."""

  width: int
  kernel: int
  stride: int = 1
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "batch *space channel"], *, train: bool):
    axes = x.ndim - 2
    x = nn.Conv(self.width, (self.kernel,) * axes, strides=(self.stride,) * axes, use_bias=False, name="conv")(x)
    return nn.relu(BatchNorm(axis_name=self.axis_name, name="norm")(x, train=train))


class Encoder(nn.Module):
  """Sample -> mean and log standard deviation of its latent vectors, `[batch, *grid, dim]`.

  Attributes:
    halvings: of every axis, by the first stages.
    spatial: a vector for every place of the grid, else one for all, `grid` being 1 on every axis.
  """

  widths: Sequence[int]
  halvings: int
  kernel: int
  dim: int
  spatial: bool
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "batch *space channel"], *, train: bool):
    for i, width in enumerate(self.widths):
      stride = 2 if i < self.halvings else 1
      x = Stage(width, self.kernel, stride, self.axis_name, name=f"stage_{i}")(x, train=train)
    if not self.spatial:
      x = x.reshape(x.shape[0], *[1] * (x.ndim - 2), -1)
    mean, log_std = jnp.split(nn.Dense(2 * self.dim, name="latent")(x), 2, axis=-1)
    return mean, jnp.clip(log_std, -8.0, 2.0)


class Decoder(nn.Module):
  """Latent vectors -> sample of `shape` (*space, channel), or scores of its values where they are probabilities.

  The first stage looks at every vector by itself. A grid smaller than that of a whole sample gives as much of one.
  """

  widths: Sequence[int]
  halvings: int
  kernel: int
  shape: Sequence[int]
  spatial: bool
  axis_name: str | None = None

  @nn.compact
  def __call__(self, z: Float[Array, "batch *grid dim"], *, train: bool):
    space, channels = self.shape[:-1], self.shape[-1]
    axes, widths = len(space), [*reversed(self.widths)]
    if self.spatial:
      x = Stage(widths[0], 1, 1, self.axis_name, name="vectors")(z, train=train)
    else:
      grid = grid_of(space, self.halvings)
      x = nn.relu(nn.Dense(math.prod(grid) * widths[0], name="unfold")(z.reshape(z.shape[0], -1)))
      x = x.reshape(x.shape[0], *grid, widths[0])
    doublings = max(self.halvings - 1, 0)
    for i, width in enumerate(widths[1:]):
      x = Stage(width, self.kernel, 1, self.axis_name, name=f"stage_{i}")(x, train=train)
      if i >= len(widths) - 1 - doublings:
        x = _double(x)
    for _ in range(max(doublings - (len(widths) - 1), 0)):
      x = _double(x)
    last = 2 if self.halvings else 1
    x = nn.Conv(channels * last**axes, (self.kernel,) * axes, name="sample")(x)
    x = _unpack(x, channels, last)
    return x[(slice(None), *(slice(0, size) for size in space))]


def grid_of(space: Sequence[int], halvings: int) -> tuple[int, ...]:
  """Places of the grid along every axis.

  >>> grid_of((28, 28), 2)
  (7, 7)
  """
  return tuple(-(-size // 2**halvings) for size in space)


def _double(x: Float[Array, "batch *space channel"]) -> Float[Array, "batch *doubled channel"]:
  for axis in range(1, x.ndim - 1):
    x = jnp.repeat(x, 2, axis=axis)
  return x


def _unpack(x: Float[Array, "batch *space packed"], channels: int, factor: int) -> Float[Array, "batch *large channel"]:
  """Values that lie behind each other in a place, beside each other."""
  batch, *space, _ = x.shape
  axes = len(space)
  x = x.reshape(batch, *space, *[factor] * axes, channels)
  order = [0, *(part for axis in range(axes) for part in (1 + axis, 1 + axes + axis)), 1 + 2 * axes]
  return x.transpose(order).reshape(batch, *(size * factor for size in space), channels)
