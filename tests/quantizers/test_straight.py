"""K-means and k-medoids by straight lines: scikit-learn's inertia, exhaustive search, and what is refused."""

import itertools

import numpy as np
import pytest
import sklearn.cluster

from behavejax.errors import InputError
from behavejax.quantizers import geodesic, straight
from behavejax.quantizers.geodesic_graph import adjacency, neighbour_graph


def squares(latents, centres):
  return ((latents[:, None].astype(np.float64) - centres[None]) ** 2).sum(-1)


def test_kmeans_is_scikit_learns():
  latents = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
  centres = straight.kmeans(latents, codes=10, seed=4, restarts=2)
  expected = sklearn.cluster.KMeans(10, n_init=2, max_iter=100, random_state=4).fit(latents)
  np.testing.assert_allclose(squares(latents, centres).min(axis=1).sum(), expected.inertia_, rtol=1e-4)
  np.testing.assert_array_equal(centres, straight.kmeans(latents, codes=10, seed=4, restarts=2))


@pytest.mark.parametrize("seed", range(6))
def test_kmedoids_equal_exhaustive_search(seed):
  latents = np.random.default_rng(seed).normal(size=(12, 2)).astype(np.float32)
  distances = squares(latents, latents)
  least = min(distances[list(chosen)].min(axis=0).sum() for chosen in itertools.combinations(range(12), 3))
  found = straight.kmedoids(latents, codes=3, seed=seed, restarts=6)
  np.testing.assert_allclose(distances[found].min(axis=0).sum(), least)


def test_no_member_would_be_a_better_medoid():
  latents = np.random.default_rng(7).normal(size=(400, 3)).astype(np.float32)
  found = straight.kmedoids(latents, codes=15, seed=0)
  nearest = squares(latents, latents[found]).argmin(axis=1)
  for code, medoid in enumerate(found):
    own = latents[nearest == code]
    sums = squares(own, own).sum(axis=0)
    np.testing.assert_allclose(sums.min(), squares(own, latents[[medoid]]).sum(), rtol=1e-6)


def test_as_good_as_k_medoids_along_a_complete_graph():
  """The same algorithm with all straight lines as edges."""
  latents = np.random.default_rng(8).normal(size=(200, 6)).astype(np.float32)
  graph = neighbour_graph(latents, neighbours=199)
  along = geodesic.cluster(adjacency(graph), graph.weights, codes=20, seed=0, restarts=2)
  found = straight.kmedoids(latents, codes=20, seed=0, restarts=2)
  objective = squares(latents, latents[found]).min(axis=1).sum()
  np.testing.assert_allclose(objective, along.objective, rtol=0.05)


@pytest.mark.parametrize("build", [straight.kmeans, straight.kmedoids])
def test_more_codes_than_different_vectors_are_refused(build):
  latents = np.array([[0.0], [0.0], [1.0], [5.0]], np.float32)
  assert len(build(latents, codes=3, seed=0)) == 3
  assert len(build(latents[:1], codes=1, seed=0)) == 1
  with pytest.raises(InputError, match="4 codes need as many different vectors, there are 3"):
    build(latents, codes=4, seed=0)
