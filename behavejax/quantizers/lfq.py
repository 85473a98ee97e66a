"""Lookup-free quantization (Yu et al. 2023, arXiv:2310.05737): every dimension of a vector becomes its sign.

The codebook is the set of all `2^d` vectors of signs: no codebook parameters, no search. With scale `s`, `sg` for
stop-gradient and `beta` the commitment weight:

  code(z)_i = s if z_i >= 0, else -s                with the gradient of z (straight-through)
  index     = sum_i 2^i [code_i > 0]
  loss(z)   = beta |z - sg(code)|^2

Binary spherical quantization (Zhao et al. 2024, arXiv:2406.07548) scales the vectors to length 1 first and uses
`s / sqrt(d)`, so that vectors and codes lie on one sphere.

The codes are those of symmetric finite scalar quantization with two levels per digit; only the gradient differs. A
vector with NaN, Inf, or a squared length beyond float32 counts as masked, as in `vq`.
"""

import math

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from behavejax.quantizers import vq

_TINY = 1e-30


def quantize(
  z: Float[Array, "*batch digit"],
  mask: Bool[Array, "*batch"] | None = None,
  *,
  scale: float = 1.0,
  spherical: bool = False,
  commitment_weight: float = 0.25,
) -> vq.Quantized:
  """Signs of each vector, with the gradient of the vector.

  Args:
    z: vectors, one entry per bit of the index.
    mask: False for padding.
    scale: magnitude of a code's entries; of its length if spherical.
    spherical: compare directions: vectors are scaled to length 1 first.
    commitment_weight: of `|z - sg(code)|^2`, called beta.

  >>> found = quantize(jnp.array([[0.5, -2.0], [3.0, 0.0]]))
  >>> found.codes.tolist(), found.indices.tolist(), found.loss.tolist()
  ([[1.0, -1.0], [1.0, 1.0]], [1, 3], [0.3125, 1.25])
  """
  vectors, valid = vq.to_rows(z, mask, cosine=spherical)
  size = magnitude(z.shape[-1], scale=scale, spherical=spherical)
  codes = jnp.where(vectors >= 0, size, -size)
  loss = jnp.where(valid, commitment_weight * jnp.sum(jnp.square(vectors - codes), axis=-1), 0.0)
  indices = codes_to_indices(codes).reshape(z.shape[:-1])
  codes = vq.GRADIENTS["straight_through"](vectors, codes).astype(z.dtype).reshape(z.shape)
  return vq.Quantized(codes, indices, loss.reshape(z.shape[:-1]))


def codes_to_indices(codes: Float[Array, "*batch digit"]) -> Int[Array, "*batch"]:
  """Signs -> one integer in [0, 2^d), first digit fastest.

  >>> int(codes_to_indices(jnp.array([-1.0, 1.0, 1.0])))
  6
  """
  bits = (codes >= 0).astype(jnp.int32)
  places = jax.lax.broadcasted_iota(jnp.int32, bits.shape, bits.ndim - 1)
  return jnp.sum(bits << places, axis=-1)


def indices_to_codes(
  indices: Int[Array, "*batch"], *, dim: int, scale: float = 1.0, spherical: bool = False
) -> Float[Array, "*batch digit"]:
  """The inverse of `codes_to_indices`, in float32."""
  indices = jnp.broadcast_to(indices[..., None], (*indices.shape, dim))
  bits = (indices >> jax.lax.broadcasted_iota(jnp.int32, indices.shape, indices.ndim - 1)) & 1
  size = magnitude(dim, scale=scale, spherical=spherical)
  return jnp.where(bits > 0, size, -size).astype(jnp.float32)


def magnitude(dim: int, *, scale: float, spherical: bool) -> float:
  """Of every entry of a code."""
  return scale / math.sqrt(dim) if spherical else scale


def entropy_penalty(
  z: Float[Array, "*batch digit"],
  mask: Bool[Array, "*batch"] | None = None,
  *,
  temperature: float = 1.0,
  scale: float = 1.0,
  spherical: bool = False,
  axis_name: str | None = None,
) -> Float[Array, ""]:
  """`mean_n H(p(.|z_n)) - H(mean_n p(.|z_n))`, `p = softmax(-|z - code|^2 / temperature)`, at least `-d log 2` nats.

  All codes have one length, so that the digits are independent given a vector, each positive with probability
  `sigmoid(4 s z_i / temperature)`: the first term is a sum of `d` binary entropies. The second is exact too, over all
  `2^d` codes: with the digits in two halves the mean is a product of two tables of `N x 2^(d/2)`, and nothing of size
  `N x 2^d` is ever kept. (Equation 5 of arXiv:2310.05737; arXiv:2406.07548 takes the sum of the digits' entropies for
  the second term, an upper bound.) Under an axis name the means are over all devices; average the gradients over them.
  """
  chex.assert_axis_dimension_gt(z, -1, 0)
  vectors, valid = vq.to_rows(z, mask, cosine=spherical)
  logits = (4 * magnitude(z.shape[-1], scale=scale, spherical=spherical) / temperature) * vectors
  log_on, log_off = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
  on, off = jnp.exp(log_on), jnp.exp(log_off)
  weight, half = valid.astype(jnp.float32), z.shape[-1] // 2
  low, high = (_table(on[:, part], off[:, part]) for part in (slice(half), slice(half, None)))
  usage = jnp.matmul((weight[:, None] * low).T, high, precision=jax.lax.Precision.HIGHEST)
  sums = weight.sum(), -weight @ jnp.sum(on * log_on + off * log_off, axis=-1), usage
  count, entropies, usage = sums if axis_name is None else jax.lax.psum(sums, axis_name)
  mean = usage / jnp.maximum(count, 1.0)
  return entropies / jnp.maximum(count, 1.0) + jnp.sum(mean * jnp.log(jnp.maximum(mean, _TINY)))


def _table(on: Float[Array, "row digit"], off: Float[Array, "row digit"]) -> Float[Array, "row pattern"]:
  """Probability of every pattern of some digits."""
  table = jnp.ones((len(on), 1))
  for i in range(on.shape[1]):
    table = jnp.concatenate([table * off[:, i, None], table * on[:, i, None]], axis=1)
  return table
