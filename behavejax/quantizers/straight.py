"""K-means and k-medoids of the same latent vectors by straight lines, to compare with those along a graph."""

from typing import NamedTuple

import numpy as np
import sklearn.cluster
from jaxtyping import Float, Int
from sklearn.metrics import euclidean_distances
from threadpoolctl import threadpool_limits

from behavejax.errors import InputError

_ROWS = 8_192  # vectors that are compared with all medoids at once
_TRIES = 16  # vectors that are drawn to take a medoid's place
_LESS = 1 - 1e-9  # a smaller gain is rounding


def kmeans(
  latents: Float[np.ndarray, "vector dim"], *, codes: int, seed: int, restarts: int = 3, iterations: int = 100
) -> Float[np.ndarray, "code dim"]:
  """Centres by scikit-learn, the best of several restarts.

  Raises:
    InputError: more codes than different vectors.
  """
  _check(latents, codes)
  with threadpool_limits(1):  # sums of several threads differ from run to run
    found = sklearn.cluster.KMeans(codes, n_init=restarts, max_iter=iterations, random_state=seed).fit(latents)
  return found.cluster_centers_.astype(np.float32)


def kmedoids(
  latents: Float[np.ndarray, "vector dim"], *, codes: int, seed: int, restarts: int = 3, iterations: int = 200
) -> Int[np.ndarray, " code"]:
  """Vectors that are the medoids of their clusters, the best of several restarts.

  Seeds, moves and swaps are those of `behavejax.quantizers.geodesic`, so that what differs is the metric. With straight
  lines the member with the least sum of squared distances is the one nearest to the mean, and no matrix of all
  distances is needed.

  Raises:
    InputError: more codes than different vectors.
  """
  _check(latents, codes)
  latents = np.asarray(latents, np.float64) - np.mean(latents, axis=0, dtype=np.float64)
  best, least = None, np.inf
  with threadpool_limits(1):
    for restart in range(restarts):
      rng = np.random.default_rng([seed, restart])
      state = np.random.RandomState(rng.integers(2**31))
      medoids = sklearn.cluster.kmeans_plusplus(latents, codes, random_state=state)[1]
      now = _assign(latents, medoids)
      for _ in range(iterations):
        moved = _nearest_to_means(latents, now.codes, medoids)
        found = _assign(latents, moved)
        if not found.objective < _LESS * now.objective:
          moved = _swapped(latents, now, medoids, rng)
          found = _assign(latents, moved)
        if not found.objective < _LESS * now.objective:
          break
        medoids, now = moved, found
      if now.objective < least:
        best, least = medoids, now.objective
  return best


def _check(latents: np.ndarray, codes: int) -> None:
  different = len(np.unique(latents, axis=0))
  if codes > different:
    raise InputError(f"{codes} codes need as many different vectors, there are {different}: lower the codes")


class _Assigned(NamedTuple):
  """The nearest medoid of every vector, squared distances to it and to the second nearest, the sum of the former."""

  codes: Int[np.ndarray, " vector"]
  first: Float[np.ndarray, " vector"]
  second: Float[np.ndarray, " vector"]
  objective: float


def _assign(latents: np.ndarray, medoids: np.ndarray) -> _Assigned:
  parts = []
  for begin in range(0, len(latents), _ROWS):
    squares = euclidean_distances(latents[begin : begin + _ROWS], latents[medoids], squared=True)
    rows, codes = np.arange(len(squares)), np.argmin(squares, axis=1)
    first = squares[rows, codes].copy()
    squares[rows, codes] = np.inf
    parts.append((codes, first, squares.min(axis=1)))
  codes, first, second = (np.concatenate(part) for part in zip(*parts, strict=True))
  return _Assigned(codes, first, second, float(first.sum()))


def _swapped(latents: np.ndarray, now: _Assigned, medoids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """The medoids with one of them replaced by a vector, whichever pair of some that are drawn is best."""
  least, best = now.objective, medoids
  total = now.first.sum()
  if total == 0:
    return medoids
  for vector in rng.choice(len(latents), _TRIES, p=now.first / total):
    squares = np.sum(np.square(latents - latents[vector]), axis=1)
    without, kept = np.minimum(now.second, squares), np.minimum(now.first, squares)
    losses = np.bincount(now.codes, without - kept, minlength=len(medoids))
    gone = int(np.argmin(losses))
    if kept.sum() + losses[gone] < least:
      least, best = kept.sum() + losses[gone], medoids.copy()
      best[gone] = vector
  return best


def _nearest_to_means(latents: np.ndarray, nearest: np.ndarray, medoids: np.ndarray) -> Int[np.ndarray, " code"]:
  count = np.bincount(nearest, minlength=len(medoids))
  sums = np.zeros((len(medoids), latents.shape[1]))
  np.add.at(sums, nearest, latents)
  means = sums / np.maximum(count, 1)[:, None]
  away = np.sum(np.square(latents - means[nearest]), axis=1)
  order = np.lexsort((away, nearest))
  found, first = np.unique(nearest[order], return_index=True)
  moved = medoids.copy()
  moved[found] = order[first]
  return moved
