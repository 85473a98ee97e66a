"""Attention layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class RowAttention(nn.Module):
  """Lets the rows of a window (two animals, or animal and handler) see each other at each time step.

  Scaled dot-product attention over the height axis, added to the input. The row's own position enters
  as a learned vector, so that the first device is told from the second.
  """

  heads: int = 4
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "batch height time width"]):
    height, width = x.shape[1], x.shape[3]
    if width % self.heads:
      raise ValueError(f"width {width} is not a multiple of {self.heads} heads")
    row = self.param("row", nn.initializers.normal(0.02), (1, height, 1, width))
    qkv = nn.DenseGeneral((3, self.heads, width // self.heads), dtype=self.dtype, name="qkv")(x + row.astype(x.dtype))
    q, k, v = jnp.moveaxis(jnp.swapaxes(qkv, 1, 2), 3, 0)  # each [batch, time, height, head, width / heads]
    mixed = jnp.swapaxes(jax.nn.dot_product_attention(*(_merge(a) for a in (q, k, v))).reshape(q.shape), 1, 2)
    return x + nn.DenseGeneral(width, axis=(-2, -1), dtype=self.dtype, name="out")(mixed)


def _merge(a: Float[Array, "batch time height head depth"]) -> Float[Array, "batch*time height head depth"]:
  return a.reshape(-1, *a.shape[2:])
