"""Graphs of latent vectors: neighbours by brute force, lengths by explicit Jacobians, and what cannot be joined."""

import itertools
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import csgraph

from behavejax.errors import InputError
from behavejax.quantizers import geodesic_graph
from behavejax.quantizers.geodesic_graph import Vectors, adjacency, decoder_lengths, neighbour_graph

RNG = np.random.default_rng(0)
HIDDEN, OUT = RNG.normal(size=(3, 8)).astype(np.float32), RNG.normal(size=(8, 5)).astype(np.float32)
STRETCH = np.array([[3.0, 0.0], [1.0, 0.5], [0.0, 2.0]], np.float32)


def network(z, around):
  shift = 0.0 if around is None else around
  return jnp.tanh(z @ HIDDEN + shift) @ OUT


def linear(z, around):
  return STRETCH @ z


def lengths_of(latents, pairs, decode, *, surroundings=None, **static):
  vectors = Vectors(latents, surroundings)
  return np.concatenate(list(decoder_lengths(vectors, vectors, pairs, decode, **static)))


def neighbours_of(latents, count):
  distances = np.linalg.norm(latents[:, None].astype(np.float64) - latents[None], axis=-1)
  np.fill_diagonal(distances, np.inf)
  return [set(row[:count]) for row in np.argsort(distances, axis=1)]


@pytest.mark.parametrize("kind", ["union", "mutual"])
def test_edges_are_those_of_brute_force(kind):
  latents = np.random.default_rng(1).normal(size=(80, 3)).astype(np.float32)
  graph = neighbour_graph(latents, neighbours=6, kind=kind)
  near, demand = neighbours_of(latents, 6), any if kind == "union" else all
  expected = {(i, j) for i, j in itertools.combinations(range(80), 2) if demand((j in near[i], i in near[j]))}
  assert {tuple(graph.rows[edge]) for edge in graph.edges} == {(i, j) for i, j in expected if graph.nodes[i] >= 0}
  assert (np.diff(graph.edges @ [len(graph.latents), 1]) > 0).all()
  straight = np.linalg.norm(latents[graph.rows[graph.edges[:, 0]]] - latents[graph.rows[graph.edges[:, 1]]], axis=1)
  np.testing.assert_allclose(graph.lengths, straight, rtol=1e-6)


@pytest.mark.parametrize("points", [2, 3, 6])
@pytest.mark.parametrize("seen", [False, True])
def test_lengths_are_those_of_explicit_jacobians(points, seen):
  rng = np.random.default_rng(2)
  latents = rng.normal(size=(40, 3)).astype(np.float32)
  around = rng.normal(size=(40, 8)).astype(np.float32) if seen else None
  pairs = rng.integers(0, 40, (50, 2))
  found = lengths_of(latents, pairs, network, surroundings=around, points=points, chunk=16)
  jacobian = jax.jit(jax.jacfwd(network))

  def speed(i, j, share):
    way = latents[j] - latents[i]
    own = None if around is None else around[i if share <= 0.5 else j]
    return np.linalg.norm(np.asarray(jacobian(latents[i] + share * way, own), np.float64) @ way)

  shares = np.linspace(0, 1, points)
  expected = [np.trapezoid([speed(i, j, share) for share in shares], shares) for i, j in pairs]
  np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
  if points == 2 and not seen:
    back = lengths_of(latents, pairs[:, ::-1], network)
    np.testing.assert_allclose(back, found, rtol=1e-5)


def test_more_points_come_nearer_to_the_integral():
  latents = np.array([[0.0], [2.0]], np.float32)
  errors = [
    abs(lengths_of(latents, np.array([[0, 1]]), lambda z, _: jnp.exp(z), points=points, chunk=1)[0] - np.expm1(2))
    for points in (2, 3, 5, 9)
  ]
  assert all(after < before / 3 for before, after in itertools.pairwise(errors))
  assert errors[-1] < 0.04


def test_linear_decoder_gives_mahalanobis_distances():
  latents = np.random.default_rng(3).normal(size=(300, 2)).astype(np.float32)
  moved = latents.astype(np.float64) @ STRETCH.T
  exact = np.linalg.norm(moved[:, None] - moved[None], axis=-1)
  for neighbours, most in ((299, 1e-5), (30, 0.06)):  # with every edge exactly, else up to the graph
    graph = neighbour_graph(latents, neighbours=neighbours)
    graph = graph._replace(lengths=lengths_of(graph.latents, graph.edges, linear))
    np.testing.assert_allclose(graph.lengths, exact[tuple(graph.edges.T)], rtol=1e-5)
    found = csgraph.dijkstra(adjacency(graph))
    assert (found >= exact * (1 - 1e-5)).all()
    assert np.median(found[exact > 0] / exact[exact > 0]) < 1 + most


def test_largest_component_is_kept():
  rng = np.random.default_rng(4)
  latents = np.concatenate([rng.normal(size=(30, 2)), 50 + rng.normal(size=(60, 2)), -90 + rng.normal(size=(12, 2))])
  graph = neighbour_graph(latents.astype(np.float32), neighbours=5)
  np.testing.assert_array_equal(graph.components, [60, 30, 12])
  np.testing.assert_array_equal(graph.rows, np.arange(30, 90))
  np.testing.assert_array_equal(graph.nodes, [*[-1] * 30, *range(60), *[-1] * 12])
  assert csgraph.connected_components(adjacency(graph))[0] == 1


def test_equal_vectors_are_one_node():
  rng = np.random.default_rng(5)
  distinct = np.concatenate([rng.normal(size=(40, 3)), [[0.0, 0.0, 0.0]]]).astype(np.float32)
  which = np.concatenate([np.arange(41), np.repeat([7, 40], [50, 30])])
  latents = distinct[which]
  latents[-1] = -0.0
  graph, plain = neighbour_graph(latents, neighbours=4), neighbour_graph(distinct, neighbours=4)
  np.testing.assert_array_equal(graph.edges, plain.edges)
  np.testing.assert_array_equal(graph.nodes, which)
  np.testing.assert_array_equal(graph.weights, np.bincount(which))
  assert graph.components.sum() == len(latents)
  assert graph.lengths.min() > 0


def test_edges_of_length_zero_connect():
  latents = np.stack([np.arange(10.0), np.zeros(10)], axis=1).astype(np.float32)
  graph = neighbour_graph(latents, neighbours=2)
  graph = graph._replace(lengths=lengths_of(graph.latents, graph.edges, lambda z, _: z[1:]))
  np.testing.assert_array_equal(graph.lengths, 0)
  np.testing.assert_array_equal(csgraph.dijkstra(adjacency(graph), indices=0), 0)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_vectors(count):
  graph = neighbour_graph(np.arange(count, dtype=np.float32)[:, None], neighbours=20)
  assert len(graph.latents) == count
  assert len(graph.edges) == count * (count - 1) // 2
  np.testing.assert_array_equal(graph.components, [count])
  assert adjacency(graph).shape == (count, count)


def test_what_is_refused():
  latents = np.zeros((4, 2), np.float32)
  with pytest.raises(InputError, match="got shape"):
    neighbour_graph(latents[:0], neighbours=2)
  latents[2, 1] = np.nan
  with pytest.raises(InputError, match="latent vector 2 is not finite"):
    neighbour_graph(latents, neighbours=2)
  line = np.arange(6, dtype=np.float32)[:, None]
  pairs = np.stack([np.arange(5), np.arange(1, 6)], axis=1)
  with pytest.raises(InputError, match="gives edge 0 of 5 the length inf"):
    lengths_of(line, pairs, lambda z, _: jnp.exp(100 * (1 + z)), chunk=2)


def test_approximate_neighbours(monkeypatch):
  """A vector itself and missing neighbours are left out. (Compiling the real one takes minutes: a stand-in answers.)"""
  latents = np.random.default_rng(6).normal(size=(90, 3)).astype(np.float32)
  near = np.array([[i, *sorted(row, key=int)] for i, row in enumerate(neighbours_of(latents, 10))], np.int32)
  short = near.copy()
  short[:3, -1] = -1

  class Descent:
    def __init__(self, data, *, n_neighbors, random_state):
      np.testing.assert_array_equal(data, latents)
      assert n_neighbors == 11
      self.neighbor_graph = (short, None)

  monkeypatch.setattr(geodesic_graph.importlib.util, "find_spec", lambda name: name)
  monkeypatch.setitem(sys.modules, "pynndescent", types.SimpleNamespace(NNDescent=Descent))
  exact, found = (neighbour_graph(latents, neighbours=10, search=search) for search in ("exact", "approximate"))
  left_out = set(map(tuple, exact.edges)) - set(map(tuple, found.edges))
  assert set(map(tuple, found.edges)) <= set(map(tuple, exact.edges))
  assert left_out <= {(min(i, near[i, -1]), max(i, near[i, -1])) for i in range(3)}
  monkeypatch.setattr(geodesic_graph.importlib.util, "find_spec", lambda name: None)
  with pytest.raises(InputError, match="needs pynndescent"):
    neighbour_graph(latents, neighbours=10, search="approximate")


def test_paths_are_shortest():
  latents = np.random.default_rng(7).normal(size=(60, 2)).astype(np.float32)
  paths = adjacency(neighbour_graph(latents, neighbours=4))
  distances = csgraph.floyd_warshall(paths)
  for start, end in ((0, 59), (5, 5), (17, 3)):
    steps = geodesic_graph.path(paths, start, end)
    assert (steps[0], steps[-1]) == (start, end)
    assert np.isclose(sum(paths[i, j] for i, j in itertools.pairwise(steps)), distances[start, end])
