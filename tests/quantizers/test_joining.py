"""New vectors join through the graph, by the metric it was built with; the use of codes is counted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import csgraph, csr_array

from behavejax.errors import InputError
from behavejax.quantizers import geodesic, joining, straight
from behavejax.quantizers.geodesic_graph import Vectors, adjacency, decoder_lengths, metric_tensors, neighbour_graph

WEIGHTS = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
DIM, CODES, NEAR = 3, 9, 5


def network(z, around):
  return jnp.tanh(2 * z @ WEIGHTS + (0.0 if around is None else around))


@pytest.fixture(scope="module", params=[False, True], ids=["alone", "in surroundings"])
def built(request):
  rng = np.random.default_rng(1)
  latents = rng.normal(size=(250, DIM)).astype(np.float32)
  latents[200:210] = latents[3]
  latents[-6:] += 60  # a component of its own
  around = rng.normal(size=(250, 7)).astype(np.float32) if request.param else None
  graph = neighbour_graph(latents, neighbours=NEAR)
  nodes = Vectors(graph.latents, None if around is None else around[graph.rows])
  graph = graph._replace(lengths=np.concatenate(list(decoder_lengths(nodes, nodes, graph.edges, network))))
  paths = adjacency(graph)
  clusters = geodesic.cluster(paths, graph.weights, codes=CODES, seed=0)
  book = joining.on_graph(graph, clusters, neighbours=NEAR, decoded=True, surroundings=around)
  return latents, around, graph, paths, clusters, book


def test_vectors_of_the_graph_keep_their_codes(built):
  latents, around, graph, _, clusters, book = built
  found = joining.join(book, latents[graph.rows], decode=network, surroundings=book.surroundings)
  np.testing.assert_array_equal(found.codes, clusters.codes)
  np.testing.assert_allclose(found.distances, clusters.distances, rtol=1e-5, atol=1e-6)
  assert not found.isolated.any()
  mutual = neighbour_graph(latents, neighbours=NEAR, kind="mutual")
  own = geodesic.cluster(adjacency(mutual), mutual.weights, codes=CODES, seed=0)
  loose = joining.on_graph(mutual, own, neighbours=NEAR, decoded=False)
  np.testing.assert_array_equal(joining.join(loose, latents[mutual.rows]).codes, own.codes)
  assert graph.nodes[-1] == -1  # outside the largest component: it joins as any other
  assert joining.join(
    book, latents[-5:], decode=network, surroundings=None if around is None else around[-5:]
  ).codes.size


@pytest.mark.parametrize(("points", "count"), [(2, 40), (4, 40), (2, 600)])  # the last by tensors
def test_new_vectors_get_the_code_that_a_larger_graph_gives_them(built, points, count):
  _, around, graph, paths, clusters, book = built
  rng = np.random.default_rng(2)
  new = rng.normal(size=(count, DIM)).astype(np.float32)
  own = None if around is None else rng.normal(size=(count, 7)).astype(np.float32)
  found = joining.join(book, new, decode=network, surroundings=own, points=points)
  near = np.argsort(((new[:, None] - graph.latents[None]) ** 2).sum(-1), axis=1)[:, :NEAR]
  pairs = np.stack([np.repeat(np.arange(count), NEAR), near.ravel()], axis=1)
  ends = Vectors(graph.latents, book.surroundings)
  ways = np.concatenate(list(decoder_lengths(Vectors(new, own), ends, pairs, network, points=points)))
  size, edges = len(graph.latents), paths.tocoo()
  starts = np.concatenate([edges.row, near.ravel()])
  larger = csr_array(
    (np.concatenate([edges.data, ways]), (starts, np.concatenate([edges.col, size + pairs[:, 0]]))),
    shape=[size + count] * 2,
  )
  distances = csgraph.dijkstra(larger, indices=clusters.medoids)[:, size:]
  np.testing.assert_allclose(found.distances, distances.min(axis=0), rtol=1e-4)
  np.testing.assert_array_equal(found.codes, distances.argmin(axis=0))
  np.testing.assert_array_equal(clusters.codes[found.nodes], found.codes)


def test_tensors_are_those_of_explicit_jacobians(built):
  _, _, _, _, _, book = built
  found = metric_tensors(Vectors(book.latents, book.surroundings), network, chunk=64)
  for i in (0, 77, len(found) - 1):
    own = None if book.surroundings is None else book.surroundings[i]
    jacobian = np.asarray(jax.jacfwd(network)(book.latents[i], own), np.float64)
    np.testing.assert_allclose(found[i], jacobian.T @ jacobian, rtol=1e-4, atol=1e-5)


def test_isolated_vectors_are_marked_and_broken_ones_refused(built):
  _, around, graph, _, _, book = built
  straight_book = book._replace(decoded=False, longest=float(graph.lengths.max()))
  new = np.array([[0.1, 0.2, 0.0], [900.0, 0.0, 0.0]], np.float32)
  found = joining.join(straight_book, new)
  np.testing.assert_array_equal(found.isolated, [False, True])
  assert found.distances[1] > 800
  assert 0 <= found.codes[1] < CODES
  with pytest.raises(InputError, match="latent vector 1 is not finite"):
    joining.join(straight_book, np.where(new > 800, np.inf, new))
  with pytest.raises(InputError, match=r"must be \[vector, 3\] and one or more, got shape \(2, 2\)"):
    joining.join(straight_book, new[:, :2])
  with pytest.raises(ValueError, match="built under a decoder's metric"):
    joining.join(book, new)
  if around is None:
    with pytest.raises(InputError, match="it diverges"):
      joining.join(book, new, decode=lambda z, _: jnp.exp(z * 1e4))


def test_straight_codes_are_the_nearest():
  latents = np.random.default_rng(3).normal(size=(500, 4)).astype(np.float32)
  centres = straight.kmeans(latents, codes=20, seed=0)
  book = joining.straight(centres, latents)
  distances = np.linalg.norm(latents[:, None].astype(np.float64) - centres[None], axis=-1)
  found = joining.join(book, latents)
  np.testing.assert_array_equal(found.codes, distances.argmin(axis=1))
  np.testing.assert_allclose(found.distances, distances.min(axis=1), rtol=1e-5)
  assert not found.isolated.any()
  assert joining.join(book, latents[:1] + 50).isolated.all()


def test_codes_from_elsewhere_are_judged_along_the_graph(built):
  _, around, graph, paths, clusters, book = built
  own = None if around is None else book.surroundings[clusters.medoids]
  found = joining.path_distances(
    book, paths, clusters.codes, Vectors(graph.latents[clusters.medoids], own), decode=network
  )
  np.testing.assert_allclose(found, clusters.distances, rtol=1e-5, atol=1e-6)
  other = np.random.default_rng(4).integers(0, CODES, len(clusters.codes))
  found = joining.path_distances(book, paths, other, Vectors(graph.latents[clusters.medoids], own), decode=network)
  exact = csgraph.dijkstra(paths, indices=clusters.medoids)[other, np.arange(len(other))]
  np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-6)


def test_health_counts_vectors():
  vectors = np.array([[0.0], [10.0], [99.0]], np.float32)
  latents = np.array([[0.0], [1.0], [2.0], [11.0], [10.0], [10.0]], np.float32)
  book = joining.straight(vectors, latents)
  found = joining.health(book, joining.join(book, latents), latents)
  np.testing.assert_array_equal(found.sizes, [3, 3, 0])
  assert (found.usage, found.dead, found.isolated) == (2 / 3, 1, 0.0)
  np.testing.assert_allclose([found.perplexity, found.squared_error, found.squared_distance], [2, 1, 1])
  away = joining.health(book, joining.join(book, latents), latents, np.full(6, 3.0))
  assert (away.squared_distance, away.squared_error) == (9, 1)
