"""Finite scalar quantization (Mentzer et al. 2023, arXiv:2309.15505).

Each dimension of a vector is squashed to an interval and rounded to one of a few levels, so that the
codebook is the implicit grid of all combinations: no codebook parameters, no collapse by dead codes.
With levels `L`, `eps = 1e-3`, `half = (L - 1)(1 + eps) / 2`, `offset = 1/2` for even `L` (else 0) and
`shift = atanh(offset / half)`:

  bounded(z) = tanh(z + shift) * half - offset
  code(z)    = round(bounded(z)) / (L // 2)                 in [-1, 1], straight-through gradient
  index      = sum_i (code_i * (L_i // 2) + L_i // 2) * basis_i,   basis = cumprod([1, L_1, ...])

The symmetric variant places the levels evenly over [-1, 1] for even `L` too, and works for `L = 2`:

  code(z) = 2 / (L - 1) * floor((L - 1)(tanh z + 1) / 2 + 1/2) - 1

Every function takes one vector and lifts over leading axes by broadcasting.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_EPS = 1e-3


def codebook_size(levels: Sequence[int]) -> int:
  """Number of codes, the product of the levels.

  >>> codebook_size((8, 6, 5))
  240
  """
  return math.prod(levels)


def bound(z: Float[Array, "*batch digit"], *, levels: Sequence[int], symmetric: bool = False):
  """Squashes `z` to the interval whose rounding gives the levels; smooth and strictly increasing.

  Returns:
    Grid coordinates before rounding: within (-L/2, L/2) by default, within (0, L - 1) if symmetric.
  """
  if symmetric:
    return jnp.multiply(row(np.asarray(levels) - 1, z), (jnp.tanh(z) + 1) / 2)
  half, offset, shift = bounds(levels)
  return jnp.tanh(z + row(shift, z)) * row(half, z) - row(offset, z)


def quantize(z: Float[Array, "*batch digit"], *, levels: Sequence[int], symmetric: bool = False):
  """Nearest grid point of the bounded vector, with the gradient of `bound` (straight-through).

  Args:
    z: real vectors, one entry per level; best near unit variance.
    levels: number of levels of each digit, 2 or more (2 only if symmetric).
    symmetric: the variant with levels evenly spread over [-1, 1].

  Returns:
    Codes in [-1, 1], same shape as `z`.
  """
  bounded = bound(z, levels=levels, symmetric=symmetric)
  rounded = jnp.floor(bounded + 0.5) if symmetric else jnp.round(bounded)
  return _scaled(bounded + jax.lax.stop_gradient(rounded - bounded), levels=levels, symmetric=symmetric)


def squash(z: Float[Array, "*batch digit"], *, levels: Sequence[int], symmetric: bool = False):
  """What `quantize` rounds, in the units of its codes."""
  return _scaled(bound(z, levels=levels, symmetric=symmetric), levels=levels, symmetric=symmetric)


def _scaled(grid: Float[Array, "*batch digit"], *, levels: Sequence[int], symmetric: bool):
  if symmetric:
    return grid * row(2 / (np.asarray(levels) - 1), grid) - 1
  return grid / row(np.asarray(levels) // 2, grid)


def codes_to_indices(codes: Float[Array, "*batch digit"], *, levels: Sequence[int], symmetric: bool = False):
  """Codes in [-1, 1] -> one integer in [0, prod(levels)), first digit fastest.

  >>> int(codes_to_indices(jnp.array([-1.0, -1.0, 1.0]), levels=(8, 6, 5)))
  192
  """
  digits = codes_to_digits(codes, levels=levels, symmetric=symmetric)
  return jnp.sum(digits * row(_basis(levels), digits), axis=-1)


def codes_to_digits(codes: Float[Array, "*batch digit"], *, levels: Sequence[int], symmetric: bool = False):
  """Codes in [-1, 1] -> the level of each digit, an integer in [0, L)."""
  if symmetric:
    digits = (codes + 1) * row((np.asarray(levels) - 1) / 2, codes)
  else:
    half_width = row(np.asarray(levels) // 2, codes)
    digits = codes * half_width + half_width
  return jnp.round(digits).astype(jnp.int32)


def indices_to_codes(indices: Int[Array, "*batch"], *, levels: Sequence[int], symmetric: bool = False):
  """The inverse of `codes_to_indices`, in float32."""
  shape = (1,) * indices.ndim + (len(levels),)
  basis, size = (jnp.asarray(v, jnp.int32).reshape(shape) for v in (_basis(levels), levels))
  digits = (indices[..., None] // basis) % size
  if symmetric:
    return digits * (2.0 / (size - 1)) - 1
  half_width = size // 2
  return (digits - half_width) / half_width


def _basis(levels: Sequence[int]) -> np.ndarray:
  return np.cumprod([1, *levels[:-1]]).astype(np.int32)


def bounds(levels: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """`half`, `offset` and `shift` of each digit in `bounded(z) = tanh(z + shift) half - offset`, not symmetric."""
  levels = np.asarray(levels)
  half = (levels - 1) * (1 + _EPS) / 2
  offset = np.where(levels % 2 == 0, 0.5, 0.0)
  return half, offset, np.arctanh(offset / half)


def row(values, like: Array) -> Array:
  """Constants of the digits, shaped and typed to combine with `like` without rank promotion."""
  values = jnp.asarray(values, like.dtype)
  return values.reshape((1,) * (like.ndim - 1) + values.shape)
