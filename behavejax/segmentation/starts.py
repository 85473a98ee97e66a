"""Where learning starts: k-means on the features, from centres that lie far apart."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from behavejax.types import Key


def kmeans(
  points: Float[Array, "point feature"], key: Key, *, clusters: int, rounds: int = 10
) -> Float[Array, "cluster feature"]:
  """Centres by Lloyd's algorithm from a k-means++ start (Arthur and Vassilvitskii 2007).

  A cluster that loses its last point keeps its centre.
  """
  first_key, rest_key = jax.random.split(key)
  first = points[jax.random.randint(first_key, (), 0, points.shape[0])]

  def add(distance: Array, noise: Array) -> tuple[Array, Array]:
    chosen = points[jnp.argmax(jnp.log(distance + 1e-30) + noise)]  # at random, in proportion to the distance
    return jnp.minimum(distance, jnp.sum((points - chosen[None]) ** 2, axis=1)), chosen

  distance = jnp.sum((points - first[None]) ** 2, axis=1)
  rest = jax.lax.scan(add, distance, jax.random.gumbel(rest_key, (clusters - 1, len(points))))[1]
  centres = jnp.concatenate([first[None], rest])

  def lloyd(centres: Array, _: None) -> tuple[Array, None]:
    members = jax.nn.one_hot(nearest(points, centres), clusters)
    count = jnp.sum(members, axis=0)[:, None]
    return jnp.where(count > 0, members.T @ points / jnp.maximum(count, 1.0), centres), None

  return jax.lax.scan(lloyd, centres, None, length=rounds)[0]


def nearest(points: Float[Array, "point feature"], centres: Float[Array, "cluster feature"]) -> Int[Array, "point"]:
  """Index of the nearest centre of each point."""
  return jnp.argmin(jnp.sum(centres**2, axis=1)[None] - 2 * points @ centres.T, axis=1)
