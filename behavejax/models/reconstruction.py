"""How far a reconstruction is from its sample: pointwise, by spectrum, and by the features of a classifier."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from behavejax.nets.ndconv import Conv

_FLOOR = 1e-6  # of a power


def pointwise(
  difference: Float[Array, "batch *space channel"], *, kind: str, delta: float = 1.0
) -> Float[Array, " batch"]:
  """Mean over a sample; of unit variance, so that "mse" is a share of the variance.

  Args:
    difference: of reconstruction and sample, in standard deviations.
    kind: "mse", "l1", or "huber": `d**2` up to `delta`, `delta (2 |d| - delta)` from there on.
    delta: in standard deviations.
  """
  size = jnp.abs(difference)
  if kind == "mse":
    cost = jnp.square(difference)
  elif kind == "l1":
    cost = size
  else:
    cost = jnp.where(size <= delta, jnp.square(difference), delta * (2 * size - delta))
  return jnp.mean(cost, axis=tuple(range(1, cost.ndim)))


def spectral(
  reconstruction: Float[Array, "batch time channel"], sample: Float[Array, "batch time channel"], windows: Sequence[int]
) -> Float[Array, " batch"]:
  """Distance of the amplitude spectra of Hann windows with three quarters of overlap, mean over scales.

  `mean |A - B| + mean |log A - log B| / 2` of each scale (Engel et al. 2020, arXiv:2001.04643, with amplitudes of unit
  scale); windows longer than the sample are left out.
  """
  distance = jnp.zeros(sample.shape[0])
  used = [size for size in windows if size <= sample.shape[1]]
  for size in used:
    a, b = (_amplitudes(x, size) for x in (reconstruction, sample))
    both = jnp.abs(a - b) + 0.5 * jnp.abs(jnp.log(a) - jnp.log(b))
    distance += jnp.mean(both, axis=(1, 2, 3)) / len(used)
  return distance


def _amplitudes(x: Float[Array, "batch time channel"], size: int) -> Float[Array, "batch frame bin channel"]:
  """White noise of unit variance has amplitudes around 1."""
  starts = np.arange(0, x.shape[1] - size + 1, max(size // 4, 1))
  hann = np.hanning(size + 1)[:size]
  hann = (hann / np.sqrt(np.sum(hann**2))).astype(np.float32)
  frames = x[:, starts[:, None] + np.arange(size)] * hann[None, None, :, None]
  spectrum = jnp.fft.rfft(frames, axis=2)
  return jnp.sqrt(jnp.square(spectrum.real) + jnp.square(spectrum.imag) + _FLOOR)


class Judge(nn.Module):
  """A small classifier of samples, whose layers are what the perceptual loss compares.

  Attributes:
    classes: number of labels.
    width: features of the first layer; the second has twice as many.
  """

  classes: int
  width: int = 32

  @nn.compact
  def __call__(self, x: Float[Array, "batch *space channel"]) -> tuple[Array, list[Array]]:
    features = []
    for i in range(2):
      strides = tuple(2 if n % 2 == 0 and n > 2 else 1 for n in x.shape[1:-1])
      x = nn.relu(Conv(self.width * (i + 1), strides, name=f"conv_{i}")(x))
      features.append(x)
    pooled = jnp.mean(x, axis=tuple(range(1, x.ndim - 1)))
    return nn.Dense(self.classes, name="logits")(pooled), features


def perceptual(found: Sequence[Array], wanted: Sequence[Array]) -> Float[Array, " batch"]:
  """Mean squared distance of features of unit length, over layers (Zhang et al. 2018, arXiv:1801.03924)."""

  def unit(a: Array) -> Array:
    return a * jax.lax.rsqrt(jnp.sum(jnp.square(a), axis=-1, keepdims=True) + _FLOOR)

  distances = [jnp.sum(jnp.square(unit(a) - unit(b)), axis=-1) for a, b in zip(found, wanted, strict=True)]
  return sum(jnp.mean(d, axis=tuple(range(1, d.ndim))) for d in distances) / len(distances)
