"""Every quantizer as the same three functions, and quantizers made of quantizers.

A `Part` is a quantizer as a value: `quantize`, `codes_to_indices`, `indices_to_codes`, with its codes already inside.
`residual` runs parts one after the other, each on what the ones before it left (Zeghidour et al. 2021,
arXiv:2107.03312, algorithm 1); `grouped` cuts a vector and gives every part its own piece. Both return a `Part`, so
that groups of stages are written as they are read:

  grouped([residual([vector(a), vector(b)]), residual([vector(c), vector(d)])])

An index is one integer of mixed base: the digits of the first stage of the first group are the fastest, and `levels`
lists how many values each digit has. A vector with NaN, Inf, or a squared length beyond float32 counts as masked: it
costs nothing, gets no gradient, and its code means nothing.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from behavejax.errors import InputError
from behavejax.quantizers import fsq, lfq, vq

LARGEST = 65_536
"""Codes that a composed quantizer may have."""

_AT_ONCE = 1 << 22  # scores that a search keeps


class Seen(NamedTuple):
  """What a single quantizer inside a composed one was given and chose: all that its codebook learns from."""

  vectors: Float[Array, "*batch dim"]
  indices: Int[Array, "*batch"]
  mask: Bool[Array, "*batch"] | None


class Found(NamedTuple):
  """Vectors and what quantization made of them.

  Attributes:
    codes: of each vector, with the gradient asked for.
    indices: of the codes.
    loss: per vector, weighted, the sum over all parts; 0 where masked.
    seen: by each single quantizer, in the order of the digits.
  """

  codes: Float[Array, "*batch dim"]
  indices: Int[Array, "*batch"]
  loss: Float[Array, "*batch"]
  seen: tuple[Seen, ...]


class Part(NamedTuple):
  """A quantizer.

  Attributes:
    levels: number of values of each digit of an index, first digit fastest.
    dim: of a vector.
    quantize: `(vectors, mask or None) -> Found`.
    codes_to_indices: finds the index of each code.
    indices_to_codes: the inverse.
  """

  levels: tuple[int, ...]
  dim: int
  quantize: Callable[[Array, Array | None], Found]
  codes_to_indices: Callable[[Float[Array, "*batch dim"]], Int[Array, "*batch"]]
  indices_to_codes: Callable[[Int[Array, "*batch"]], Float[Array, "*batch dim"]]

  @property
  def num_codes(self) -> int:
    return math.prod(self.levels)

  def codebook(self) -> Float[Array, "code dim"]:
    """All codes, in the order of their indices."""
    return self.indices_to_codes(jnp.arange(self.num_codes))


def vector(
  codebook: Float[Array, "code dim"],
  *,
  gradient: str = "straight_through",
  codebook_weight: float = 1.0,
  commitment_weight: float = 0.25,
  cosine: bool = False,
) -> Part:
  """Nearest of learned codes; see `vq.quantize`."""

  def quantize(z: Array, mask: Array | None = None) -> Found:
    found = vq.quantize(
      z, codebook, mask,
      gradient=gradient, codebook_weight=codebook_weight, commitment_weight=commitment_weight, cosine=cosine,
    )  # fmt: skip
    return Found(*found, seen=(Seen(z, found.indices, mask),))

  return Part(
    levels=(len(codebook),),
    dim=codebook.shape[1],
    quantize=quantize,
    codes_to_indices=functools.partial(vq.codes_to_indices, codebook=codebook, cosine=cosine),
    indices_to_codes=functools.partial(vq.indices_to_codes, codebook=codebook, cosine=cosine),
  )


def lookup_free(
  dim: int, *, scale: float = 1.0, spherical: bool = False, commitment_weight: float = 0.25
) -> Part:  # fmt: skip
  """Signs; see `lfq.quantize`."""

  def quantize(z: Array, mask: Array | None = None) -> Found:
    found = lfq.quantize(z, mask, scale=scale, spherical=spherical, commitment_weight=commitment_weight)
    return Found(*found, seen=(Seen(z, found.indices, mask),))

  return Part(
    levels=(2,) * dim,
    dim=dim,
    quantize=quantize,
    codes_to_indices=lfq.codes_to_indices,
    indices_to_codes=functools.partial(lfq.indices_to_codes, dim=dim, scale=scale, spherical=spherical),
  )


def finite_scalar(levels: Sequence[int], *, symmetric: bool = False, stages: int = 1) -> Part:
  """A grid; see `fsq.quantize`.

  With several stages the vector is squashed once, to the outer edges of the outermost cells, and each stage rounds what
  the ones before it left, magnified by the number of levels: a cell of the coarser grid then holds exactly the `L`
  levels of the finer one, no two indices have one code, and `stages` stages are a grid of `L ** stages` levels.
  """
  static = {"levels": tuple(levels), "symmetric": symmetric}
  if stages > 1:
    before = functools.partial(_squash_wide, **static)
    return residual([_refinement(levels, symmetric, i) for i in range(stages)], before=before, search=False)

  def quantize(z: Array, mask: Array | None = None) -> Found:
    vectors, _ = _clean(z, mask)
    codes = fsq.quantize(vectors, **static)
    indices = fsq.codes_to_indices(codes, **static)
    return Found(codes.astype(z.dtype), indices, jnp.zeros(z.shape[:-1]), (Seen(z, indices, mask),))

  return Part(
    levels=tuple(levels),
    dim=len(levels),
    quantize=quantize,
    codes_to_indices=functools.partial(fsq.codes_to_indices, **static),
    indices_to_codes=functools.partial(fsq.indices_to_codes, **static),
  )


def residual(
  parts: Sequence[Part],
  *,
  gradient: str = "straight_through",
  before: Callable[[Array], Array] | None = None,
  search: bool = True,
) -> Part:
  """Stages, each of which quantizes what the ones before it left; a code is the sum of theirs.

  Args:
    parts: of one dimension; a single one is returned as it is.
    gradient: of the sum with respect to the vectors, a key of `vq.GRADIENTS`: that of one quantizer, whatever the
      stages' own.
    before: what the vectors go through first, smoothly and once.
    search: whether the index of a code is looked for among all sums of codes. Learned codes need that: the first code
      nearest to a sum need not be a part of it. Otherwise the stages are run again.

  Raises:
    InputError: more than `LARGEST` codes.

  >>> part = residual([vector(jnp.array([[0.0], [4.0]])), vector(jnp.array([[-1.0], [1.0]]))])
  >>> found = part.quantize(jnp.array([[4.6], [-0.9]]), None)
  >>> found.codes.tolist(), found.indices.tolist()
  ([[5.0], [-1.0]], [3, 0])
  """
  if len(parts) == 1 and before is None:
    return parts[0]
  levels, bases = _mixed_base(parts)

  def quantize(z: Array, mask: Array | None = None) -> Found:
    vectors, valid = _clean(z, mask)
    vectors = vectors if before is None else before(vectors)
    codes, indices, loss, seen = jnp.zeros_like(vectors), 0, 0.0, ()
    for part, base in zip(parts, bases, strict=True):
      found = part.quantize(vectors - jax.lax.stop_gradient(codes), valid)
      codes, indices, loss = codes + found.codes, indices + base * found.indices, loss + found.loss
      seen += found.seen
    rows, fixed = (a.reshape(-1, a.shape[-1]) for a in (vectors, jax.lax.stop_gradient(codes)))
    return Found(vq.GRADIENTS[gradient](rows, fixed).reshape(z.shape).astype(z.dtype), indices, loss, seen)

  def indices_to_codes(indices: Array) -> Array:
    return sum(
      part.indices_to_codes(indices // base % part.num_codes) for part, base in zip(parts, bases, strict=True)
    )  # fmt: skip

  def codes_to_indices(codes: Array) -> Array:
    if search:
      codebook = indices_to_codes(jnp.arange(math.prod(levels)))
      return vq.codes_to_indices(codes, codebook, chunk=max(_AT_ONCE // len(codebook), 1))
    left, indices = codes.astype(jnp.float32), 0
    for part, base in zip(parts, bases, strict=True):
      found = part.codes_to_indices(left)
      left, indices = left - part.indices_to_codes(found), indices + base * found
    return indices

  return Part(levels, parts[0].dim, quantize, codes_to_indices, indices_to_codes)


def grouped(parts: Sequence[Part]) -> Part:
  """Pieces of a vector, quantized apart; a code is all of theirs in a row. A single part is returned as it is.

  Raises:
    InputError: more than `LARGEST` codes.

  >>> part = grouped([finite_scalar((3,)), lookup_free(2)])
  >>> found = part.quantize(jnp.array([0.1, -2.0, 3.0]), None)
  >>> found.codes.tolist(), int(found.indices), part.levels
  ([0.0, -1.0, 1.0], 7, (3, 2, 2))
  """
  if len(parts) == 1:
    return parts[0]
  levels, bases = _mixed_base(parts)
  edges = np.cumsum([part.dim for part in parts])

  def pieces(vectors: Array) -> list[Array]:
    return jnp.split(vectors, edges[:-1], axis=-1)

  def quantize(z: Array, mask: Array | None = None) -> Found:
    vectors, valid = _clean(z, mask)
    found = [part.quantize(piece, valid) for part, piece in zip(parts, pieces(vectors), strict=True)]
    return Found(
      codes=jnp.concatenate([f.codes for f in found], axis=-1).astype(z.dtype),
      indices=sum(base * f.indices for f, base in zip(found, bases, strict=True)),
      loss=sum(f.loss for f in found),
      seen=sum((f.seen for f in found), ()),
    )

  def codes_to_indices(codes: Array) -> Array:
    rows = zip(parts, pieces(codes), bases, strict=True)
    return sum(base * part.codes_to_indices(piece) for part, piece, base in rows)

  def indices_to_codes(indices: Array) -> Array:
    rows = zip(parts, bases, strict=True)
    return jnp.concatenate([part.indices_to_codes(indices // base % part.num_codes) for part, base in rows], axis=-1)

  return Part(levels, int(edges[-1]), quantize, codes_to_indices, indices_to_codes)


def _squash_wide(z: Float[Array, "*batch digit"], *, levels: Sequence[int], symmetric: bool) -> Array:
  """`fsq.squash`, drawn out about its middle from the outermost levels to the outer edges of their cells.

  Otherwise the outer half of those cells, and the codes of further stages there, could not be reached.
  """
  count = np.asarray(levels)
  middle = np.zeros(len(count)) if symmetric else np.where(count % 2 == 0, -0.5, 0.0) / (count // 2)
  wide = count / (count - 1) if symmetric else count / 2 / fsq.bounds(levels)[0]
  squashed = fsq.squash(z, levels=levels, symmetric=symmetric)
  return fsq.row(middle, squashed) + (squashed - fsq.row(middle, squashed)) * fsq.row(wide, squashed)


def _refinement(levels: Sequence[int], symmetric: bool, stage: int) -> Part:
  """The grid of one stage, without its own squashing: `L` levels of equal distance that fill a cell of the one before.

  The first stage has the levels of `fsq.quantize`; the others lie evenly around 0, `L ** -stage` times as far apart.
  """
  count = np.asarray(levels)
  step = (2 / (count - 1) if symmetric else 1 / (count // 2)) / count.astype(float) ** stage
  first = -np.ones(len(count)) if stage == 0 else -step * (count - 1) / 2
  basis = np.cumprod([1, *levels[:-1]])

  def to_digits(codes: Array) -> Array:
    place = jnp.floor((codes - fsq.row(first, codes)) / fsq.row(step, codes) + 0.5)
    return jnp.clip(place, 0, fsq.row(count - 1, codes)).astype(jnp.int32)

  def from_digits(digits: Array) -> Array:
    places = digits.astype(jnp.float32)
    return fsq.row(first, places) + fsq.row(step, places) * places

  def codes_to_indices(codes: Array) -> Array:
    digits = to_digits(codes)
    return jnp.sum(digits * fsq.row(basis, digits), axis=-1)

  def indices_to_codes(indices: Array) -> Array:
    digits = indices[..., None]
    return from_digits(digits // fsq.row(basis, digits) % fsq.row(count, digits))

  def quantize(z: Array, mask: Array | None = None) -> Found:
    digits = to_digits(z)
    indices = jnp.sum(digits * fsq.row(basis, digits), axis=-1)
    return Found(from_digits(digits), indices, jnp.zeros(z.shape[:-1]), (Seen(z, indices, mask),))

  return Part(tuple(levels), len(count), quantize, codes_to_indices, indices_to_codes)


def _mixed_base(parts: Sequence[Part]) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """Digits of the whole index, and what the index of each part counts in it."""
  sizes = [part.num_codes for part in parts]
  if math.prod(sizes) > LARGEST:
    raise InputError(f"parts of {' x '.join(map(str, sizes))} codes make {math.prod(sizes)}, the most is {LARGEST}")
  bases = (1, *np.cumprod(sizes[:-1]).tolist())
  return sum((part.levels for part in parts), ()), bases


def _clean(
  z: Float[Array, "*batch dim"], mask: Bool[Array, "*batch"] | None
) -> tuple[Float[Array, "*batch dim"], Bool[Array, "*batch"]]:
  """Vectors in float32, 0 where they are unusable, and which of them count."""
  rows, valid = vq.to_rows(z, mask)
  return rows.reshape(z.shape), valid.reshape(z.shape[:-1])
