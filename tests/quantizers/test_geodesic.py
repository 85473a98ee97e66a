"""K-medoids on graphs: exhaustive search, monotone objectives, seeds, and the swiss roll."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import csgraph, csr_array

from behavejax.errors import InputError
from behavejax.quantizers import geodesic, straight
from behavejax.quantizers.geodesic_graph import Vectors, adjacency, decoder_lengths, neighbour_graph


def random_graph(seed, count=200, dim=3, neighbours=6):
  """Connected, with random weights of its nodes."""
  rng = np.random.default_rng(seed)
  graph = neighbour_graph(rng.normal(size=(count, dim)).astype(np.float32), neighbours=neighbours)
  return adjacency(graph), rng.integers(1, 4, len(graph.latents)).astype(float)


def run_to_the_end(paths, weights, clusters):
  yield clusters
  while clusters.open.any():
    clusters = geodesic.improve(paths, weights, clusters)
    yield clusters


@pytest.mark.parametrize("seed", range(12))
def test_tiny_graphs_equal_exhaustive_search(seed):
  paths, weights = random_graph(seed, count=10 + seed % 3, dim=2, neighbours=3)
  distances, codes = csgraph.floyd_warshall(paths), 2 + seed % 3
  least = min(
    np.sum(weights * distances[list(medoids)].min(axis=0) ** 2)
    for medoids in itertools.combinations(range(len(weights)), codes)
  )
  found = geodesic.cluster(paths, weights, codes=codes, seed=seed, restarts=40)
  np.testing.assert_allclose(found.objective, least, rtol=1e-9)
  np.testing.assert_allclose(distances[found.medoids].min(axis=0), found.distances, rtol=1e-12)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_objective_never_rises_and_ends_where_no_medoid_gains(seed, large, monkeypatch):
  if large:  # clusters are then too large to try all members
    monkeypatch.setattr(geodesic, "_EXACT", 12)
    monkeypatch.setattr(geodesic, "_LANDMARKS", 8)
    monkeypatch.setattr(geodesic, "_CANDIDATES", 4)
  paths, weights = random_graph(seed, count=400)
  states = list(run_to_the_end(paths, weights, geodesic.start(paths, weights, np.random.default_rng(seed), codes=12)))
  objectives = np.array([state.objective for state in states])
  assert (np.diff(objectives) <= 0).all()
  assert objectives[-1] < 0.9 * objectives[0]
  last, distances = states[-1], csgraph.dijkstra(paths)
  for state in states:
    to_medoids = distances[state.medoids]
    np.testing.assert_allclose(state.distances, to_medoids.min(axis=0), rtol=1e-12)
    np.testing.assert_allclose(to_medoids[state.codes, np.arange(len(weights))], state.distances, rtol=1e-12)
    np.testing.assert_allclose(state.objective, np.sum(weights * state.distances**2))
  if large:
    return
  for code, medoid in enumerate(last.medoids):
    members = np.flatnonzero(last.codes == code)
    within = csgraph.dijkstra(paths[members][:, members]) ** 2 @ weights[members]
    np.testing.assert_allclose(within.min(), within[np.searchsorted(members, medoid)], rtol=1e-8)


def test_as_good_as_alternating_on_all_distances():
  """Paths within a cluster stand for all paths: what is lost by that is small."""
  ratios = []
  for seed in range(6):
    paths, weights = random_graph(seed, count=400)
    distances = csgraph.dijkstra(paths)
    clusters = geodesic.start(paths, weights, np.random.default_rng(seed), codes=12)
    *_, found = run_to_the_end(paths, weights, clusters)
    medoids, before = clusters.medoids, np.inf
    while (objective := np.sum(weights * distances[medoids].min(axis=0) ** 2)) < before:
      before, codes = objective, distances[medoids].argmin(axis=0)
      members = [np.flatnonzero(codes == code) for code in range(12)]
      medoids = np.array([own[np.argmin(distances[np.ix_(own, own)] ** 2 @ weights[own])] for own in members])
    ratios.append(found.objective / before)
  assert np.mean(ratios) < 1.03


def test_large_clusters_lose_little(monkeypatch):
  paths, weights = random_graph(3, count=900)
  exact = geodesic.cluster(paths, weights, codes=3, seed=0)
  monkeypatch.setattr(geodesic, "_EXACT", 100)
  assert geodesic.cluster(paths, weights, codes=3, seed=0).objective < 1.03 * exact.objective


@pytest.mark.parametrize("seed", range(4))
def test_shortened_distances_are_those_of_dijkstra(seed):
  paths, _ = random_graph(seed, count=300)
  paths.data[::7] = 0.0  # edges of length 0; both directions need not agree
  sources = np.random.default_rng(seed).choice(paths.shape[0], 9, replace=False)
  distances = csgraph.dijkstra(paths, indices=sources[0])
  for i, source in enumerate(sources[1:], 2):
    geodesic.shorten(paths, distances, source)
    np.testing.assert_array_equal(distances, csgraph.dijkstra(paths, indices=sources[:i], min_only=True))


def test_seeds_are_drawn_by_weight_times_squared_distance():
  line = csr_array(np.diag([1.0, 2.0, 4.0], 1) + np.diag([1.0, 2.0, 4.0], -1))
  weights, drawn = np.array([1.0, 2.0, 1.0, 1.0]), np.zeros((4, 4))
  for seed in range(4000):
    first, second = geodesic.start(line, weights, np.random.default_rng(seed), codes=2).medoids
    drawn[first, second] += 1
  mass = weights * csgraph.dijkstra(line) ** 2
  expected = weights[:, None] / weights.sum() * mass / mass.sum(axis=1, keepdims=True)
  np.testing.assert_allclose(drawn / 4000, expected, atol=0.03)


def test_weights_count_as_equal_vectors_do():
  rng = np.random.default_rng(8)
  distinct = rng.normal(size=(30, 2)).astype(np.float32)
  repeated = np.concatenate([distinct, np.repeat(distinct[:1], 500, axis=0)])
  graph = neighbour_graph(repeated, neighbours=5)
  found = geodesic.cluster(adjacency(graph), graph.weights, codes=3, seed=0, restarts=10)
  assert 0 in found.medoids


@pytest.mark.parametrize("count", [1, 2, 7])
def test_as_many_codes_as_nodes_and_no_more(count):
  paths, weights = adjacency(neighbour_graph(np.arange(count, dtype=np.float32)[:, None], neighbours=3)), np.ones(count)
  found = geodesic.cluster(paths, weights, codes=count, seed=0)
  assert sorted(found.medoids) == list(range(count))
  assert found.objective == 0
  with pytest.raises(InputError, match=f"{count + 1} codes need as many different vectors, the graph has {count}"):
    geodesic.cluster(paths, weights, codes=count + 1, seed=0)


def test_codes_at_distance_zero_are_still_different_nodes():
  graph = neighbour_graph(np.arange(8, dtype=np.float32)[:, None], neighbours=2)
  paths = adjacency(graph._replace(lengths=np.zeros(len(graph.edges))))
  found = geodesic.cluster(paths, np.ones(8), codes=4, seed=0)
  assert len(set(found.medoids)) == 4
  np.testing.assert_array_equal(found.codes[found.medoids], range(4))


def roll(t, height):
  return np.stack([t * np.cos(t), height, t * np.sin(t)], axis=1)


def arc_length(t):
  return (t * np.sqrt(1 + t**2) + np.arcsinh(t)) / 2


def along(sheet, medoids, codes):
  """Mean squared distance on the sheet to the code, the sheet unrolled."""
  return np.mean(np.sum((sheet - sheet[medoids][codes]) ** 2, axis=1))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("rolled", [False, True])
def test_geodesic_codes_follow_the_swiss_roll(rolled, seed):
  """Latent vectors lie flat and the decoder rolls them up, or they are rolled up themselves."""
  rng = np.random.default_rng(seed)
  t, height = rng.uniform(1.5 * np.pi, 4.5 * np.pi, 2000), rng.uniform(0, 21, 2000)
  sheet = np.stack([arc_length(t), height], axis=1)
  centre, spread = np.array([t.mean(), height.mean()]), np.array([t.std(), height.std()])
  flat = (np.stack([t, height], axis=1) - centre) / spread
  latents = (roll(t, height) if rolled else flat).astype(np.float32)

  def decode(z, around):
    if rolled:
      return z
    t, height = z * spread.astype(np.float32) + centre.astype(np.float32)
    return jnp.stack([t * jnp.cos(t), height, t * jnp.sin(t)])

  graph = neighbour_graph(latents, neighbours=8 if rolled else 20)
  assert len(graph.latents) == 2000
  nodes = Vectors(graph.latents)
  lengths = np.concatenate(list(decoder_lengths(nodes, nodes, graph.edges, decode, points=2)))
  codes = 16 if rolled else 100
  found = geodesic.cluster(adjacency(graph._replace(lengths=lengths)), graph.weights, codes=codes, seed=0, restarts=2)
  medoids = straight.kmedoids(latents, codes=codes, seed=0, restarts=2)
  nearest = np.argmin(((latents[:, None] - latents[medoids][None]) ** 2).sum(-1), axis=1)
  ratio = along(sheet, medoids, nearest) / along(sheet, found.medoids, found.codes)
  assert ratio > 2, ratio
