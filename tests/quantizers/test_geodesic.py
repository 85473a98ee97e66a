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
  found = geodesic.cluster(paths, weights, codes=codes, seed=seed, restarts=6)
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
  random = np.random.default_rng(seed).choice(400, 12, replace=False)
  states = list(run_to_the_end(paths, weights, geodesic.assign(paths, weights, random)))
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
  paths, weights = random_graph(3, count=600)
  exact = geodesic.cluster(paths, weights, codes=3, seed=0, restarts=1)
  monkeypatch.setattr(geodesic, "_EXACT", 100)
  assert geodesic.cluster(paths, weights, codes=3, seed=0, restarts=1).objective < 1.03 * exact.objective


@pytest.mark.parametrize("codes", [1, 2, 9])
def test_swaps_are_no_worse_than_the_best_of_those_drawn(codes, monkeypatch):
  paths, weights = random_graph(codes, count=120)
  distances = csgraph.dijkstra(paths)
  clusters = geodesic.assign(paths, weights, np.arange(codes))
  to_medoids = distances[clusters.medoids]
  to_medoids[clusters.codes, np.arange(len(weights))] = np.inf
  np.testing.assert_allclose(geodesic.second_distances(paths, clusters), to_medoids.min(axis=0), rtol=1e-12)
  drawn, draw = [], geodesic._draw
  monkeypatch.setattr(geodesic, "_draw", lambda mass, rng: drawn.append(draw(mass, rng)) or drawn[-1])
  found = geodesic.swap(paths, weights, clusters, np.random.default_rng(0))
  others = [np.delete(clusters.medoids, gone) for gone in range(codes)]
  every = [np.sum(weights * distances[[*rest, node]].min(axis=0) ** 2) for rest in others for node in drawn]
  assert found.objective <= min(every) * (1 + 1e-9)
  if codes == 1:
    np.testing.assert_allclose(found.objective, min(every))
  assert found.objective < clusters.objective
  changed = set(found.codes[found.codes != clusters.codes]) | set(clusters.codes[found.codes != clusters.codes])
  assert changed <= set(np.flatnonzero(found.open))
  best = geodesic.cluster(paths, weights, codes=codes, seed=0, restarts=8)
  assert geodesic.swap(paths, weights, best, np.random.default_rng(1)) is None


def test_swaps_lead_further_than_seeds_and_moves():
  paths, weights = random_graph(6, count=800, dim=8, neighbours=10)
  *_, moved = run_to_the_end(paths, weights, geodesic.start(paths, weights, np.random.default_rng([0, 0]), codes=40))
  found = geodesic.cluster(paths, weights, codes=40, seed=0, restarts=1)
  assert found.objective < 0.97 * moved.objective


@pytest.mark.parametrize("seed", range(4))
def test_shortened_distances_are_those_of_dijkstra(seed):
  paths, _ = random_graph(seed, count=300)
  paths.data[::7] = 0.0  # edges of length 0; both directions need not agree
  sources = np.random.default_rng(seed).choice(paths.shape[0], 9, replace=False)
  distances = csgraph.dijkstra(paths, indices=sources[0])
  for i, source in enumerate(sources[1:], 2):
    geodesic.shorten(paths, distances, source)
    np.testing.assert_array_equal(distances, csgraph.dijkstra(paths, indices=sources[:i], min_only=True))


def test_seeds_are_drawn_by_weight_times_squared_distance(monkeypatch):
  """Of the nodes that are drawn, the one that lowers the objective most is taken."""
  line = csr_array(np.diag([1.0, 2.0, 4.0], 1) + np.diag([1.0, 2.0, 4.0], -1))
  weights, masses, draw = np.array([1.0, 2.0, 1.0, 1.0]), [], geodesic._draw
  monkeypatch.setattr(geodesic, "_draw", lambda mass, rng: masses.append(mass) or draw(mass, rng))
  seeds = geodesic.start(line, weights, np.random.default_rng(0), codes=3).medoids
  distances = csgraph.dijkstra(line)
  expected = [weights, *[weights * distances[seeds[:i]].min(axis=0) ** 2 for i in (1, 1, 1, 2, 2, 2)]]
  np.testing.assert_allclose(masses, expected)
  rng = np.random.default_rng(1)
  drawn = np.bincount([draw(masses[1], rng) for _ in range(4000)], minlength=4)
  np.testing.assert_allclose(drawn / 4000, masses[1] / masses[1].sum(), atol=0.03)


def test_better_candidates_make_better_seeds():
  paths, weights = random_graph(5, count=800, dim=8, neighbours=10)
  rng = np.random.default_rng(0)
  plain = [geodesic.assign(paths, weights, rng.choice(len(weights), 60, replace=False)).objective for _ in range(5)]
  seeded = [geodesic.start(paths, weights, np.random.default_rng(seed), codes=60).objective for seed in range(5)]
  assert np.mean(seeded) < 0.85 * np.mean(plain)


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
  t, height = rng.uniform(1.5 * np.pi, 4.5 * np.pi, 1200), rng.uniform(0, 21, 1200)
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
  assert len(graph.latents) == 1200
  nodes = Vectors(graph.latents)
  lengths = np.concatenate(list(decoder_lengths(nodes, nodes, graph.edges, decode, points=2)))
  codes = 16 if rolled else 60
  found = geodesic.cluster(adjacency(graph._replace(lengths=lengths)), graph.weights, codes=codes, seed=0, restarts=1)
  medoids = straight.kmedoids(latents, codes=codes, seed=0, restarts=1)
  nearest = np.argmin(((latents[:, None] - latents[medoids][None]) ** 2).sum(-1), axis=1)
  ratio = along(sheet, medoids, nearest) / along(sheet, found.medoids, found.codes)
  assert ratio > 2, ratio
