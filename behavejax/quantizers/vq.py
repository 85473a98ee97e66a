"""Vector quantization (van den Oord et al. 2017, arXiv:1711.00937): a vector becomes the nearest code of a codebook.

With codes `e_k`, `sg` for stop-gradient and `beta` the commitment weight:

  index(z) = argmin_k |e_k|^2 - 2 z.e_k                 (|z|^2 is the same for every code)
  code(z)  = e_index, with a gradient to z              (straight-through, or the rotation trick)
  loss(z)  = |sg(z) - e_index|^2 + beta |z - sg(e_index)|^2

The codebook is a parameter, moved by the first term of the loss, or a running average of the vectors
that chose each code (`vq_state`), and then the first term is left out. In the cosine variant vectors and
codes are scaled to length 1 first (Yu et al. 2021, arXiv:2110.04627) and the codes returned have length 1.

A vector with NaN, Inf, or a squared length beyond float32 counts as masked: it costs nothing, moves
nothing, gets no gradient, and its code, like that of any masked vector, means nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_CHUNK = 1024
_SHORTEST = 1e-12  # squared length below which a vector has no direction
_TINY = 1e-30
_PRECISION = jax.lax.Precision.HIGHEST  # an accelerator's short floats would turn near ties


class Quantized(NamedTuple):
  """Vectors and what quantization made of them.

  Attributes:
    codes: of each vector, in its type, with the gradient asked for.
    indices: of the codes, in [0, K).
    loss: per vector, weighted; 0 where masked.
  """

  codes: Float[Array, "*batch dim"]
  indices: Int[Array, "*batch"]
  loss: Float[Array, "*batch"]


def quantize(
  z: Float[Array, "*batch dim"],
  codebook: Float[Array, "code dim"],
  mask: Bool[Array, "*batch"] | None = None,
  *,
  gradient: str = "straight_through",
  codebook_weight: float = 1.0,
  commitment_weight: float = 0.25,
  cosine: bool = False,
  chunk: int = _CHUNK,
) -> Quantized:
  """Nearest code of each vector, with a gradient to `z` and the loss that ties vectors and codes together.

  Args:
    z: vectors.
    codebook: a parameter, or `State.codebook`.
    mask: False for padding.
    gradient: of the codes with respect to `z`, a key of `GRADIENTS`.
    codebook_weight: of `|sg(z) - e|^2`; 0 for a codebook that is a running average.
    commitment_weight: of `|z - sg(e)|^2`, called beta.
    cosine: compare directions instead of positions.
    chunk: vectors that are compared with the codebook at a time.

  >>> quantized = quantize(jnp.array([[0.5, 0.0], [0.0, 2.0]]), jnp.eye(2))
  >>> quantized.codes.tolist(), quantized.indices.tolist(), quantized.loss.tolist()
  ([[1.0, 0.0], [0.0, 1.0]], [0, 1], [0.3125, 1.25])
  """
  shape = z.shape[:-1]
  vectors, valid = to_rows(z, mask, cosine=cosine)
  indices = codes_to_indices(vectors, codebook, cosine=cosine, chunk=chunk)
  codes = indices_to_codes(indices, codebook, cosine=cosine)
  fixed = jax.lax.stop_gradient(codes)
  loss = commitment_weight * _squared_length(vectors - fixed)
  if codebook_weight:
    loss = loss + codebook_weight * _squared_length(jax.lax.stop_gradient(vectors) - codes)
  codes = GRADIENTS[gradient](vectors, fixed).astype(z.dtype)
  return Quantized(codes.reshape(z.shape), indices.reshape(shape), jnp.where(valid, loss, 0.0).reshape(shape))


def codes_to_indices(
  z: Float[Array, "*batch dim"], codebook: Float[Array, "code dim"], *, cosine: bool = False, chunk: int = _CHUNK
) -> Int[Array, "*batch"]:
  """Index of the nearest code; of equally near ones the first. A code finds its own index.

  Float32 tells codes apart that differ by more than a thousandth of their length. Nothing larger than `chunk`
  vectors by K codes is ever kept.
  """
  _check(z, codebook)
  codebook = jax.lax.stop_gradient(unit(codebook) if cosine else codebook)
  rows = jax.lax.stop_gradient(z.reshape(-1, z.shape[-1]).astype(codebook.dtype))
  norms = jnp.zeros(len(codebook), codebook.dtype) if cosine else _squared_length(codebook)

  def nearest(block: Float[Array, "row dim"]) -> Int[Array, "row"]:
    # Codes along the first axis and two passes: XLA's CPU backend vectorises neither argmin nor a reduction of rows.
    # Doubling is exact: the scores of the second pass, should it compute them anew, are those of the first.
    scores = norms[:, None] - 2 * jnp.matmul(codebook, block.T, precision=_PRECISION)
    places = jax.lax.broadcasted_iota(jnp.int32, scores.shape, 0)
    best = jnp.min(scores, axis=0, keepdims=True)
    return jnp.min(jnp.where(scores == best, places, scores.shape[0] - 1), axis=0)

  if len(rows) <= chunk:
    return nearest(rows).reshape(z.shape[:-1])
  whole = len(rows) // chunk * chunk
  found = jax.lax.map(nearest, rows[:whole].reshape(-1, chunk, rows.shape[1])).reshape(whole)
  if whole < len(rows):
    found = jnp.concatenate([found, nearest(rows[whole:])])
  return found.reshape(z.shape[:-1])


def indices_to_codes(
  indices: Int[Array, "*batch"], codebook: Float[Array, "code dim"], *, cosine: bool = False
) -> Float[Array, "*batch dim"]:
  """Rows of the codebook, NaN for an index beyond it; the gradient to the codebook adds up by scatter."""
  return jnp.take(unit(codebook) if cosine else codebook, indices, axis=0)


def to_rows(
  z: Float[Array, "*batch dim"], mask: Bool[Array, "*batch"] | None = None, *, cosine: bool = False
) -> tuple[Float[Array, "row dim"], Bool[Array, "row"]]:
  """Vectors as rows in float32, of length 1 if `cosine`, and which of them count; unusable ones are 0."""
  rows = z.reshape(-1, z.shape[-1]).astype(jnp.float32)
  valid = jnp.isfinite(_squared_length(rows))
  rows = jnp.where(valid[:, None], rows, 0.0)
  if mask is not None:
    chex.assert_shape(mask, z.shape[:-1])
    valid &= mask.reshape(-1)
  return unit(rows) if cosine else rows, valid


def unit(rows: Float[Array, "row dim"]) -> Float[Array, "row dim"]:
  """Rows of length 1; a row too short to have a direction stays as it is, with a finite gradient."""
  square = jnp.sum(jnp.square(rows), axis=-1, keepdims=True)
  return rows * jax.lax.rsqrt(jnp.where(square > _SHORTEST, square, 1.0))


def entropy_penalty(
  z: Float[Array, "*batch dim"],
  codebook: Float[Array, "code dim"],
  mask: Bool[Array, "*batch"] | None = None,
  *,
  temperature: float = 1.0,
  cosine: bool = False,
  axis_name: str | None = None,
) -> Float[Array, ""]:
  """`mean_n H(p(.|z_n)) - H(mean_n p(.|z_n))`, `p = softmax(-|z - e|^2 / temperature)`, in nats, at least `-log K`.

  Low where each vector is sure of its code and all codes are used (Yu et al. 2023, arXiv:2310.05737). Memory is
  O(N K). Under an axis name the means are over all devices; average the gradients over them.
  """
  _check(z, codebook)
  vectors, valid = to_rows(z, mask, cosine=cosine)
  codebook = unit(codebook) if cosine else codebook
  products = jnp.matmul(vectors, codebook.T, precision=_PRECISION)
  log_probs = jax.nn.log_softmax((2 * products - _squared_length(codebook)[None]) / temperature)
  weight, probs = valid.astype(jnp.float32), jnp.exp(log_probs)
  sums = weight.sum(), -weight @ jnp.sum(probs * log_probs, axis=-1), weight @ probs
  count, entropies, usage = sums if axis_name is None else jax.lax.psum(sums, axis_name)
  mean = usage / jnp.maximum(count, 1.0)
  return entropies / jnp.maximum(count, 1.0) + jnp.sum(mean * jnp.log(jnp.maximum(mean, _TINY)))


def orthogonality_penalty(codebook: Float[Array, "code dim"]) -> Float[Array, ""]:
  """`|E E^T - I|^2 / K^2` of codes scaled to length 1 (Shin et al. 2021, arXiv:2112.00384).

  >>> float(orthogonality_penalty(3 * jnp.eye(4)))
  0.0
  """
  directions = unit(codebook)
  cosines = jnp.matmul(directions, directions.T, precision=_PRECISION)
  return jnp.mean(jnp.square(cosines - jnp.eye(len(codebook))))


def _straight_through(z: Float[Array, "row dim"], codes: Float[Array, "row dim"]) -> Float[Array, "row dim"]:
  return codes + _without_value(z)


def _rotation(z: Float[Array, "row dim"], codes: Float[Array, "row dim"]) -> Float[Array, "row dim"]:
  """The gradient of the rotation and scaling that carry `z` to its code, held fixed (Fifty et al. 2024).

  arXiv:2410.06424, section 4.2: `code = |q| / |z| (I - 2 r r^T + 2 q' z'^T) z` with `z'` and `q'` the directions
  of `z` and its code and `r` that of `z' + q'`. Where a length is 0 the gradient is straight-through.
  """
  fixed = jax.lax.stop_gradient(z)
  square, code_square = _squared_length(fixed), _squared_length(codes)
  direction, code_direction = unit(fixed), unit(codes)
  middle = unit(direction + code_direction)
  turned = z - 2 * middle * _dot(middle, z) + 2 * code_direction * _dot(direction, z)
  defined = (square > _SHORTEST) & (code_square > _SHORTEST)
  ratio = jnp.sqrt(code_square / jnp.where(defined, square, 1.0))
  return codes + _without_value(jnp.where(defined[:, None], ratio[:, None] * turned, z))


GRADIENTS: dict[str, Callable[[Array, Array], Array]] = {"straight_through": _straight_through, "rotation": _rotation}
"""Codes with a gradient, from vectors and codes without one."""


def _without_value(x: Array) -> Array:
  return x - jax.lax.stop_gradient(x)


def _dot(a: Float[Array, "row dim"], b: Float[Array, "row dim"]) -> Float[Array, "row 1"]:
  return jnp.sum(a * b, axis=-1, keepdims=True)


def _squared_length(rows: Float[Array, "row dim"]) -> Float[Array, "row"]:
  return jnp.sum(jnp.square(rows), axis=-1)


def _check(z: Array, codebook: Array) -> None:
  chex.assert_rank(codebook, 2)
  chex.assert_axis_dimension(z, -1, codebook.shape[1])
