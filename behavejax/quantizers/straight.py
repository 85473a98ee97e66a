"""K-means and k-medoids of the same latent vectors by straight lines, to compare with those along a graph."""

import numpy as np
import sklearn.cluster
from jaxtyping import Float, Int
from sklearn.metrics import pairwise_distances_argmin_min
from threadpoolctl import threadpool_limits

from behavejax.errors import InputError


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
  latents: Float[np.ndarray, "vector dim"], *, codes: int, seed: int, restarts: int = 3, iterations: int = 100
) -> Int[np.ndarray, " code"]:
  """Vectors that are the medoids of their clusters, the best of several restarts.

  With straight lines the member with the least sum of squared distances is the one nearest to the mean, so that no
  matrix of distances is needed.

  Raises:
    InputError: more codes than different vectors.
  """
  _check(latents, codes)
  latents = np.asarray(latents, np.float64)
  best, least = None, np.inf
  with threadpool_limits(1):
    for restart in range(restarts):
      state = np.random.RandomState(np.random.default_rng([seed, restart]).integers(2**31))
      _, medoids = sklearn.cluster.kmeans_plusplus(latents, codes, random_state=state)
      nearest, objective = _assign(latents, medoids)
      for _ in range(iterations):
        moved = _nearest_to_means(latents, nearest, medoids)
        found, after = _assign(latents, moved)
        if not after < objective:
          break
        medoids, nearest, objective = moved, found, after
      if objective < least:
        best, least = medoids, objective
  return best


def _check(latents: np.ndarray, codes: int) -> None:
  different = len(np.unique(latents, axis=0))
  if codes > different:
    raise InputError(f"{codes} codes need as many different vectors, there are {different}: lower the codes")


def _assign(latents: np.ndarray, medoids: np.ndarray) -> tuple[Int[np.ndarray, " vector"], float]:
  nearest, distances = pairwise_distances_argmin_min(latents, latents[medoids])
  return nearest, float(np.sum(distances**2))


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
