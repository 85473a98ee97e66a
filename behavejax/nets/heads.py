"""Classifier over discrete codes, and dropout whose randomness belongs to the example."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from behavejax.nets.conv2d import ConvNorm, ResidualBlock
from behavejax.types import Key


def dropout(
  x: Float[Array, "batch *feature"], keys: Key | None, *, rate: float, site: int = 0
) -> Float[Array, "batch *feature"]:
  """Drops features with one key per example, so that a batch split over devices drops the same ones.

  Args:
    x: features.
    keys: one key per example, or None for the identity.
    rate: probability that a feature is set to 0; the others are scaled by `1 / (1 - rate)`.
    site: which of the network's dropouts this is; each draws its own features from the same keys.
  """
  if keys is None or rate == 0:
    return x
  keep = jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, site), 1 - rate, x.shape[1:]))(keys)
  return jnp.where(keep, x / (1 - rate), jnp.zeros_like(x))


class Classifier(nn.Module):
  """Quantized codes -> class scores: embedding, temporal context over tokens, mean pool, one hidden layer.

  Returns logits and the pooled embedding they are computed from. The mean is taken over each of
  `segments` equal stretches of every row, so the hidden layer knows what came first: standing up is
  not sitting down.
  """

  classes: int
  width: int
  hidden: int
  dilations: Sequence[int]
  dropout: float
  segments: int = 1
  kernel: int = 3
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, codes: Float[Array, "batch height token digit"], *, train: bool, keys: Key | None = None):
    common = {"dtype": self.dtype, "axis_name": self.axis_name}
    x = ConvNorm(self.width, self.kernel if codes.shape[2] > 1 else 1, name="embed", **common)(codes, train=train)
    for i, dilation in enumerate(self.dilations):
      x = ResidualBlock(self.kernel, dilation, name=f"block_{i}", **common)(x, train=train)
    stretch = (1, -(-x.shape[2] // self.segments))
    x = nn.avg_pool(x, stretch, strides=stretch, padding="SAME", count_include_pad=False)
    embedding = x.reshape(x.shape[0], -1)
    x = dropout(embedding, keys, rate=self.dropout, site=0)
    x = nn.relu(nn.Dense(self.hidden, dtype=self.dtype, name="hidden")(x))
    x = dropout(x, keys, rate=self.dropout, site=1)
    logits = nn.Dense(self.classes, dtype=self.dtype, name="logits")(x)
    return logits.astype(jnp.float32), embedding.astype(jnp.float32)
