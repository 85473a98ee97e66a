"""K-means in JAX, to start a codebook from data: k-means++ seeding, then Lloyd's iterations."""

import math

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from behavejax.quantizers import vq, vq_state
from behavejax.quantizers.vq_state import State
from behavejax.types import Key


def initialise(
  state: State,
  z: Float[Array, "*batch dim"],
  key: Key,
  mask: Bool[Array, "*batch"] | None = None,
  *,
  iterations: int = 10,
  cosine: bool = False,
) -> State:
  """The centres of the vectors as codes; a state that is already initialised comes back as it is.

  So it may be called before the first step of every run, resumed or not. Vectors of which none counts leave the
  state uninitialised.
  """
  chex.assert_axis_dimension(z, -1, state.codebook.shape[1])
  _, valid = vq.to_rows(z, mask)

  def start() -> State:
    centres, count = fit(z, key, mask, num_codes=len(state.codebook), iterations=iterations, cosine=cosine)
    return vq_state.from_codebook(centres, count)

  return jax.lax.cond(state.initialised | ~jnp.any(valid), lambda: state, start)


def fit(
  z: Float[Array, "*batch dim"],
  key: Key,
  mask: Bool[Array, "*batch"] | None = None,
  *,
  num_codes: int,
  iterations: int = 10,
  cosine: bool = False,
) -> tuple[Float[Array, "code dim"], Float[Array, "code"]]:
  """Centres, and the number of vectors nearest to each; a centre that loses its vectors stays where it was.

  Seeds are drawn as in Arthur & Vassilvitskii (2007), of `2 + log K` candidates the one that lowers the
  sum of squared distances most. With `cosine`, vectors and centres have length 1 (spherical k-means).
  Memory beside the vectors is O(N log K).
  """
  vectors, valid = vq.to_rows(z, mask, cosine=cosine)
  centre = jnp.zeros((1, z.shape[-1]))
  if not cosine:  # a common offset would cost float32 its digits
    counted = jnp.where(valid[:, None], vectors, 0.0)
    centre = jnp.sum(counted, axis=0, keepdims=True) / jnp.maximum(jnp.sum(valid), 1)
    vectors = vectors - centre

  def assign(centres: Float[Array, "code dim"]) -> vq_state.Statistics:
    indices = vq.codes_to_indices(vectors, centres)
    return vq_state.statistics(vectors, indices, valid, num_codes=num_codes)

  def improve(_: int, centres: Float[Array, "code dim"]) -> Float[Array, "code dim"]:
    count, total = assign(centres)
    means = total / jnp.maximum(count, 1.0)[:, None]
    return jnp.where(count[:, None] > 0, vq.unit(means) if cosine else means, centres)

  centres = jax.lax.fori_loop(0, iterations, improve, _seed(vectors, valid, key, num_codes))
  return centres + centre, assign(centres).count


def _seed(
  vectors: Float[Array, "row dim"], valid: Bool[Array, "row"], key: Key, num_codes: int
) -> Float[Array, "code dim"]:
  """K-means++ seeds: vectors drawn with probability in proportion to the squared distance to the seeds so far."""
  candidates = 2 + int(math.log(num_codes))
  norms = jnp.sum(jnp.square(vectors), axis=-1)

  def draw(weights: Float[Array, "row"], key: Key, size: int) -> Int[Array, "candidate"]:
    """By the inverse of the cumulated weights, so that rows without weight change nothing."""
    cumulated = jnp.cumsum(weights)
    found = jnp.searchsorted(cumulated, jax.random.uniform(key, (size,)) * cumulated[-1], side="right")
    found = jnp.minimum(found, len(weights) - 1)
    likeliest = jnp.argmax(jnp.where(valid, weights, -1.0))  # where rounding ended on a row without weight
    return jnp.where(weights[found] > 0, found, likeliest)

  def add(i: int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
    seeds, nearest = carry
    drawn = vectors[draw(nearest, jax.random.fold_in(key, i), candidates)]
    products = jnp.matmul(drawn, vectors.T, precision=jax.lax.Precision.HIGHEST)
    distances = jnp.sum(jnp.square(drawn), axis=-1)[:, None] - 2 * products + norms[None]
    nearest = jnp.minimum(nearest[None], jnp.where(valid[None], jnp.maximum(distances, 0.0), 0.0))
    best = jnp.argmin(jnp.sum(nearest, axis=1))
    return seeds.at[i].set(drawn[best]), nearest[best]

  first = vectors[draw(valid.astype(jnp.float32), jax.random.fold_in(key, 0), 1)]
  distances = jnp.where(valid, jnp.sum(jnp.square(vectors - first), axis=-1), 0.0)
  seeds = jnp.zeros((num_codes, vectors.shape[1])).at[0].set(first[0])
  return jax.lax.fori_loop(1, num_codes, add, (seeds, distances))[0]
