"""Conv2d encoder and decoder of inertial windows `[batch, height, time, channel]`.

Every kernel is `(1, k)`: the rows of a window (two devices, or the halves of a folded window) share
weights and never mix, except in the optional attention between rows. Normalisation is batch
normalisation, which folds into the convolution before it when the network is exported.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from behavejax.nets.attention import RowAttention


class ConvNorm(nn.Module):
  """`(1, k)` convolution, batch normalisation, ReLU."""

  width: int
  kernel: int = 1
  stride: int = 1
  dilation: int = 1
  relu: bool = True
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "batch height time channel"], *, train: bool):
    x = nn.Conv(
      self.width,
      (1, self.kernel),
      strides=(1, self.stride),
      kernel_dilation=(1, self.dilation),
      use_bias=False,  # the normalisation that follows brings its own
      dtype=self.dtype,
      name="conv",
    )(x)
    x = BatchNorm(axis_name=self.axis_name, dtype=self.dtype, name="norm")(x, train=train)
    return nn.relu(x) if self.relu else x


class BatchNorm(nn.Module):
  """Batch normalisation whose statistics are those of the whole batch, over all devices."""

  axis_name: str | None = None
  affine: bool = True
  momentum: float = 0.97
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "batch *space channel"], *, train: bool):
    return nn.BatchNorm(
      use_running_average=not train,
      momentum=self.momentum,
      axis_name=None if self.is_initializing() else self.axis_name,
      use_scale=self.affine,
      use_bias=self.affine,
      dtype=self.dtype,
      name="stats",
    )(x)


class ResidualBlock(nn.Module):
  """Dilated convolution and a pointwise one, added to the input (a block of a TCN)."""

  kernel: int
  dilation: int
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "batch height time width"], *, train: bool):
    common = {"dtype": self.dtype, "axis_name": self.axis_name}
    y = ConvNorm(x.shape[-1], self.kernel, dilation=self.dilation, **common)(x, train=train)
    y = ConvNorm(x.shape[-1], relu=False, **common)(y, train=train)
    return nn.relu(x + y)


def amplify(x: Float[Array, "batch height time channel"], *, gains: Sequence[float]):
  """Appends saturating copies of the signal around its row's mean, `clip(gain (x - mean), -3, 3)`.

  A gait is a hundred times stronger than the sway of a standing animal; in units of the channel's
  standard deviation the sway vanishes, here it fills the range of its copy.

  Returns:
    Array of `channel * (1 + len(gains))` channels.
  """
  if not gains:
    return x
  centred = x - jnp.mean(x, axis=2, keepdims=True)
  return jnp.concatenate([x, *(jnp.clip(gain * centred, -3.0, 3.0) for gain in gains)], axis=-1)


class Encoder(nn.Module):
  """Window -> latent vectors, one per token, near unit variance in every dimension.

  The first `log2(token_stride)` stages halve the time axis. The final projection is normalised
  without scale or shift, which keeps the spread of `z` where finite scalar quantization uses all its
  levels, and folds into the projection on export.

  Attributes:
    widths: filters of the stages.
    dilations: of the residual blocks that follow the last stage.
    token_stride: samples per token.
    digits: dimensions of a latent vector.
    pool: "token" for a vector per time step, "window" for a single one.
    gains: of the amplified copies of the input, see `amplify`.
  """

  widths: Sequence[int]
  kernel: int
  dilations: Sequence[int]
  token_stride: int
  digits: int
  pool: str = "token"
  device_attention: bool = False
  gains: Sequence[float] = ()
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "batch height time channel"], *, train: bool):
    common = {"dtype": self.dtype, "axis_name": self.axis_name}
    x = amplify(x, gains=self.gains)
    halvings = self.token_stride.bit_length() - 1
    for i, width in enumerate(self.widths):
      x = ConvNorm(width, self.kernel, stride=2 if i < halvings else 1, name=f"stage_{i}", **common)(x, train=train)
    for i, dilation in enumerate(self.dilations):
      x = ResidualBlock(self.kernel, dilation, name=f"block_{i}", **common)(x, train=train)
    if self.device_attention:
      x = RowAttention(dtype=self.dtype, name="row_attention")(x)
    if self.pool == "window":
      x = jnp.mean(x, axis=(1, 2), keepdims=True)
    z = nn.Conv(self.digits, (1, 1), use_bias=False, dtype=self.dtype, name="projection")(x)
    z = BatchNorm(axis_name=self.axis_name, affine=False, name="spread")(z.astype(jnp.float32), train=train)
    return z


class Decoder(nn.Module):
  """Codes -> window: pointwise embedding, then doubling of the time axis until `shape` is reached."""

  widths: Sequence[int]
  kernel: int
  token_stride: int
  shape: tuple[int, int, int]
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, codes: Float[Array, "batch height token digit"], *, train: bool):
    common = {"dtype": self.dtype, "axis_name": self.axis_name}
    height, time, channels = self.shape
    tokens = -(-time // self.token_stride)
    x = codes
    if codes.shape[1:3] != (height, tokens):  # one code for the whole window
      x = nn.Dense(height * tokens * self.widths[0], dtype=self.dtype, name="unpool")(x.reshape(x.shape[0], -1))
      x = x.reshape(x.shape[0], height, tokens, self.widths[0])
    for i, width in enumerate(self.widths):
      x = ConvNorm(width, self.kernel, name=f"stage_{i}", **common)(x, train=train)
    for i in range(self.token_stride.bit_length() - 1):
      x = ConvNorm(self.widths[-1], self.kernel, name=f"double_{i}", **common)(_double(x), train=train)
    x = nn.Conv(channels, (1, 1), dtype=self.dtype, name="signal")(x)
    return x[:, :, :time].astype(jnp.float32)


def _double(x: Float[Array, "batch height time width"]) -> Float[Array, "batch height 2*time width"]:
  return jax.lax.broadcast_in_dim(x, (*x.shape[:3], 2, x.shape[3]), (0, 1, 2, 4)).reshape(
    x.shape[0], x.shape[1], 2 * x.shape[2], x.shape[3]
  )
