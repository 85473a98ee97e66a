"""Attention layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


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


class PositionAttention(nn.Module):
  """Scaled dot-product attention over the positions of a grid of any size; no channel attends to another.

  A position enters through sines and cosines of its coordinates (Vaswani et al. 2017, arXiv:1706.03762), mapped to
  the features by weights of its own, so that positions cannot change places unnoticed.

  Attributes:
    kind: "full": every position sees all; "axial": along each axis those that differ in it alone, added up (Ho et al.
      2019, arXiv:1912.12180), so that memory grows with the length of an axis and not with the grid.
    heads: parts of the features that attend apart.
  """

  kind: str
  heads: int = 2
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "batch *grid width"]) -> Float[Array, "batch *grid width"]:
    width, count = x.shape[-1], x.ndim - 2
    features = jnp.asarray(position_features(x.shape[1:-1]), self.dtype)
    x = x + nn.Dense(width, use_bias=False, dtype=self.dtype, name="position")(features)[None]
    if self.kind == "full":
      flat = x.reshape(x.shape[0], -1, width)
      return self._attend(flat, "all").reshape(x.shape)
    return sum(
      jnp.moveaxis(self._attend(jnp.moveaxis(x, 1 + axis, -2), f"axis_{axis}"), -2, 1 + axis) for axis in range(count)
    )

  def _attend(self, x: Float[Array, "*batch position width"], name: str) -> Float[Array, "*batch position width"]:
    width, heads = x.shape[-1], self.heads
    qkv = nn.Dense(3 * width, use_bias=False, dtype=self.dtype, name=f"qkv_{name}")(x)
    rows = qkv.reshape(-1, x.shape[-2], 3 * width)
    q, k, v = (a.reshape(*a.shape[:2], heads, -1) for a in jnp.split(rows, 3, axis=-1))
    mixed = dot_product_attention(q, k, v)
    return nn.Dense(width, dtype=self.dtype, name=f"out_{name}")(mixed.reshape(x.shape))


def dot_product_attention(
  q: Float[Array, "batch query head depth"],
  k: Float[Array, "batch key head depth"],
  v: Float[Array, "batch key head depth"],
  *,
  mask: Bool[Array | np.ndarray, "#query key"] | None = None,
) -> Float[Array, "batch query head depth"]:
  """`jax.nn.dot_product_attention`; on a CPU a gradient costs it a third to two thirds of the time.

  Args:
    q: queries.
    k: keys.
    v: values.
    mask: which keys a query sees, of which each must see one at least; None for all.
  """
  if jax.default_backend() != "cpu":
    return jax.nn.dot_product_attention(q, k, v, mask=None if mask is None else jnp.asarray(mask)[None, None])
  batch, queries, heads, depth = q.shape
  q = q * depth**-0.5  # of all that could be scaled the smallest
  rows = (_laid_out(jnp.swapaxes(a, 1, 2).reshape(batch * heads, -1, depth)) for a in (q, k, v))
  mixed = _laid_out(_rows_attention(*rows, mask))
  return jnp.swapaxes(mixed.reshape(batch, heads, queries, depth), 1, 2)


_laid_out = jax.lax.optimization_barrier
"""Keeps a transposition out of the product after it, which XLA's CPU kernels would take many times longer for."""


@jax.custom_vjp
def _rows_attention(
  q: Float[Array, "row query depth"],
  k: Float[Array, "row key depth"],
  v: Float[Array, "row key depth"],
  mask: Bool[Array | np.ndarray, "#query key"] | None,
) -> Float[Array, "row query depth"]:
  """`softmax(q k^T) v`, with the order of the gradient's products written out."""
  return _rows_forward(q, k, v, mask)[0]


def _rows_forward(q: Array, k: Array, v: Array, mask: Array | None) -> tuple[Array, tuple[Array, ...]]:
  scores = jnp.einsum("rqd,rkd->rqk", q, k, preferred_element_type=jnp.float32)
  if mask is not None:
    scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
  weights = jax.nn.softmax(scores, axis=-1).astype(q.dtype)
  mixed = jnp.matmul(weights, v)
  return mixed, (q, k, v, weights, mixed)


def _rows_backward(kept: tuple[Array, ...], given: Float[Array, "row query depth"]) -> tuple[Array | None, ...]:
  q, k, v, weights, mixed = kept
  given = _laid_out(given)
  to_weights = _laid_out(jnp.einsum("rqd,rkd->rqk", given, v, preferred_element_type=jnp.float32))
  mean = jnp.sum(given.astype(jnp.float32) * mixed, axis=-1, keepdims=True)  # of the gradient, under the weights
  to_scores = _laid_out((weights * (to_weights - mean)).astype(q.dtype))
  return jnp.matmul(to_scores, k), _by_key(to_scores, q), _by_key(weights, given), None


def _by_key(pairs: Float[Array, "row query key"], x: Float[Array, "row query depth"]) -> Float[Array, "row key depth"]:
  """`pairs^T x`, as `(x^T pairs)^T`: transposes what is narrow."""
  return jnp.swapaxes(_laid_out(jnp.matmul(_laid_out(jnp.swapaxes(x, 1, 2)), pairs)), 1, 2)


_rows_attention.defvjp(_rows_forward, _rows_backward)


def position_features(grid: tuple[int, ...], *, octaves: int = 4) -> Float[np.ndarray, "*grid feature"]:
  """Sines and cosines of each coordinate, in cells, with periods of 4, 16, 64, ... cells.

  >>> position_features((3, 5)).shape
  (3, 5, 16)
  """
  speeds = 2 * np.pi / 4.0 ** np.arange(1, octaves + 1)
  angles = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), axis=-1)[..., None] * speeds
  waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
  return waves.reshape(*grid, -1).astype(np.float32)


def _merge(a: Float[Array, "batch time height head depth"]) -> Float[Array, "batch*time height head depth"]:
  return a.reshape(-1, *a.shape[2:])
