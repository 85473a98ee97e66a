"""K-medoids on a graph: the medoids are nodes, distances are lengths of shortest paths.

What falls is the weighted sum of squared distances of all nodes to their medoids: the objective of k-means with paths
for straight lines, so that both can be compared, and the one that k-means++ seeds are drawn for (Arthur & Vassilvitskii
2007). The matrix of all distances is never formed. In turns,

- all nodes are assigned by one multi-source Dijkstra;
- each medoid moves to the member of its cluster with the least sum, by paths within the cluster;
- where none does, nodes are drawn as seeds are, and take the places of the medoids that are missed least, if that helps
  (after Lattanzi & Sohler 2019, "A better k-means++ algorithm via local search").

The way from a medoid to its members lies within its cluster, so the sum of the present medoid is exact, and that of
another is an upper bound of the true one. A medoid therefore moves only where the objective falls. (Park & Jun 2009
alternate in the same way on a matrix of distances.)
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int
from scipy.sparse import csgraph

from behavejax.errors import InputError

Paths = scipy.sparse.csr_array
"""Lengths of the edges of a connected graph in both directions (`geodesic_graph.adjacency`)."""

_EXACT = 600  # members of a cluster up to which all are tried as its medoid
_LANDMARKS = 128  # of a larger cluster, by which sums are estimated
_CANDIDATES = 64  # of a larger cluster, whose sums are computed
_TRIES = 16  # nodes that are drawn to take a medoid's place
_LESS = 1 - 1e-9  # a smaller gain is rounding


class Clusters(NamedTuple):
  """Medoids and what belongs to them.

  Attributes:
    medoids: a node per code.
    codes: of the nodes.
    distances: of the nodes to their medoids, along the graph.
    open: codes whose medoid may still move within its cluster.
    objective: the weighted sum of squared distances.
  """

  medoids: Int[np.ndarray, " code"]
  codes: Int[np.ndarray, " node"]
  distances: Float[np.ndarray, " node"]
  open: Bool[np.ndarray, " code"]
  objective: Float[np.ndarray, ""]


class Search(NamedTuple):
  """Where the restarts of k-medoids stand.

  Attributes:
    restart: number of the present one, from 0.
    iteration: of the present restart; 0 is its seeds.
    clusters: of the present restart.
    medoids: the best of the restarts that have ended.
    objective: of those, infinite before the first has ended.
  """

  restart: int
  iteration: int
  clusters: Clusters
  medoids: Int[np.ndarray, " code"]
  objective: float


def cluster(
  paths: Paths, weights: Float[np.ndarray, " node"], *, codes: int, seed: int, restarts: int = 3, iterations: int = 200
) -> Clusters:
  """The best clusters of several restarts.

  >>> line = scipy.sparse.diags_array([1.0, 1.0, 5.0, 1.0, 1.0], offsets=1, shape=(6, 6))
  >>> sorted(cluster((line + line.T).tocsr(), np.ones(6), codes=2, seed=0).medoids.tolist())
  [1, 4]

  Raises:
    InputError: more codes than nodes.
  """
  search = begin(paths, weights, codes=codes, seed=seed)
  while search.restart < restarts:
    search = advance(paths, weights, search, seed=seed, restarts=restarts, iterations=iterations)
  return assign(paths, weights, search.medoids)


def begin(paths: Paths, weights: Float[np.ndarray, " node"], *, codes: int, seed: int) -> Search:
  """The seeds of the first restart."""
  clusters = start(paths, weights, np.random.default_rng([seed, 0]), codes=codes)
  return Search(0, 0, clusters, clusters.medoids, np.inf)


def advance(
  paths: Paths, weights: Float[np.ndarray, " node"], search: Search, *, seed: int, restarts: int, iterations: int
) -> Search:
  """One iteration more, or the seeds of the next restart; over when `restart` is `restarts`."""
  found, number = None, search.iteration + 1
  if number <= iterations:
    if search.clusters.open.any():
      found = improve(paths, weights, search.clusters)
    else:
      found = swap(paths, weights, search.clusters, np.random.default_rng([seed, search.restart, number]))
  if found is not None:
    return search._replace(iteration=number, clusters=found)
  if search.clusters.objective < search.objective:
    search = search._replace(medoids=search.clusters.medoids, objective=float(search.clusters.objective))
  search = search._replace(restart=search.restart + 1, iteration=0)
  if search.restart == restarts:
    return search
  rng = np.random.default_rng([seed, search.restart])
  return search._replace(clusters=start(paths, weights, rng, codes=len(search.medoids)))


def start(paths: Paths, weights: Float[np.ndarray, " node"], rng: np.random.Generator, *, codes: int) -> Clusters:
  """K-means++ seeds: nodes drawn in proportion to weight times squared distance to the seeds so far.

  Of `2 + log K` candidates the one that lowers the objective most is taken, as scikit-learn does. A seed shortens the
  distances of the nodes around it and looks no further: all candidates together visit `O(N log^2 K)` nodes.

  Raises:
    InputError: more codes than nodes.
  """
  if codes > len(weights):
    raise InputError(f"{codes} codes need as many different vectors, the graph has {len(weights)}: lower the codes")
  seeds = [_draw(weights, rng)]
  distances = csgraph.dijkstra(paths, indices=seeds[0])
  for _ in range(1, codes):
    mass = weights * distances**2
    if not mass.any():  # what is left lies on the seeds
      mass = weights.copy()
      mass[seeds] = 0.0
    tried = [_with_seed(paths, weights, distances, _draw(mass, rng)) for _ in range(2 + int(math.log(codes)))]
    _, seed, distances = min(tried, key=lambda candidate: candidate[0])
    seeds.append(seed)
  return assign(paths, weights, np.array(seeds))


def _with_seed(
  paths: Paths, weights: Float[np.ndarray, " node"], distances: Float[np.ndarray, " node"], seed: int
) -> tuple[float, int, Float[np.ndarray, " node"]]:
  """The objective with one seed more, the seed, and the distances."""
  distances = distances.copy()
  shorten(paths, distances, seed)
  return float(np.sum(weights * distances**2)), seed, distances


def _draw(mass: Float[np.ndarray, " node"], rng: np.random.Generator) -> int:
  cumulated = np.cumsum(mass)
  found = int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right"))
  return found if found < len(mass) and mass[found] > 0 else int(np.argmax(mass))  # rounding may end on no mass


def shorten(paths: Paths, distances: Float[np.ndarray, " node"], source: int) -> None:
  """Lowers distances to the nearest source, in place, to what they are with one source more."""
  distances[source] = 0.0
  front = np.array([source])
  while len(front):
    first, size = paths.indptr[front], paths.indptr[front + 1] - paths.indptr[front]
    places = np.arange(size.sum()) + np.repeat(first - (np.cumsum(size) - size), size)
    reached, ways = paths.indices[places], np.repeat(distances[front], size) + paths.data[places]
    shorter = ways < distances[reached]
    np.minimum.at(distances, reached[shorter], ways[shorter])
    front = np.unique(reached[shorter])


def assign(paths: Paths, weights: Float[np.ndarray, " node"], medoids: Int[np.ndarray, " code"]) -> Clusters:
  """Every node to its nearest medoid, in one pass."""
  distances, _, sources = csgraph.dijkstra(paths, indices=medoids, min_only=True, return_predecessors=True)
  code = np.full(len(weights), -1)
  code[medoids] = np.arange(len(medoids))
  return Clusters(
    medoids, code[sources], distances, np.ones(len(medoids), bool), np.asarray(np.sum(weights * distances**2))
  )


def improve(paths: Paths, weights: Float[np.ndarray, " node"], clusters: Clusters) -> Clusters:
  """Moves medoids within their clusters, then assigns all nodes anew; the objective never rises."""
  order = np.argsort(clusters.codes, kind="stable")
  bounds = np.searchsorted(clusters.codes[order], np.arange(len(clusters.medoids) + 1))
  medoids = clusters.medoids.copy()
  for code in np.flatnonzero(clusters.open):
    members = order[bounds[code] : bounds[code + 1]]
    present = int(np.searchsorted(members, medoids[code]))
    within = paths[members][:, members]
    medoids[code] = members[best_medoid(within, weights[members], clusters.distances[members], present)]
  moved = medoids != clusters.medoids
  if moved.any():
    found = assign(paths, weights, medoids)
    if found.objective < clusters.objective:
      return _opened(found, clusters)
  return clusters._replace(open=np.zeros_like(clusters.open))


def _opened(found: Clusters, before: Clusters) -> Clusters:
  """Open are the clusters whose medoid or members have changed."""
  changed, touched = found.codes != before.codes, found.medoids != before.medoids
  touched[before.codes[changed]] = touched[found.codes[changed]] = True
  return found._replace(open=touched)


def best_medoid(
  paths: Paths, weights: Float[np.ndarray, " node"], distances: Float[np.ndarray, " node"], present: int
) -> int:
  """The node with the least weighted sum of squared distances, or the present one where none gains.

  Of a large cluster the candidates are those with the least sum over landmarks, which are taken evenly from the nodes
  in order of their distance (after Eppstein & Wang 2004, "Fast approximation of centrality").

  Args:
    paths: of the cluster alone.
    weights: of its nodes.
    distances: to the present medoid.
    present: the present medoid.
  """
  candidates = np.arange(len(weights))
  if len(weights) > _EXACT:
    ordered = np.argsort(distances, kind="stable")
    landmarks = ordered[np.linspace(0, len(ordered) - 1, _LANDMARKS).astype(int)]
    estimates = weights[landmarks] @ csgraph.dijkstra(paths, indices=landmarks) ** 2
    candidates = np.argsort(estimates, kind="stable")[:_CANDIDATES]
  sums = csgraph.dijkstra(paths, indices=candidates) ** 2 @ weights
  best = int(np.argmin(sums))
  return int(candidates[best]) if sums[best] < _LESS * np.sum(weights * distances**2) else present


def swap(
  paths: Paths, weights: Float[np.ndarray, " node"], clusters: Clusters, rng: np.random.Generator
) -> Clusters | None:
  """Puts nodes in the place of medoids, where that lowers the objective; None where none of those drawn does.

  Nodes are drawn as seeds are; for each the objective without any one of the medoids is exact. Of the pairs that lower
  it all are tried together, which may fail where they are near each other, and then the best alone.
  """
  distances, codes = clusters.distances, clusters.codes
  mass = weights * distances**2
  if not mass.any():
    return None
  second, pairs = second_distances(paths, clusters), {}
  for node in sorted({_draw(mass, rng) for _ in range(_TRIES)}):
    without = second.copy()  # the distance of every node where its own medoid is gone and the drawn one is there
    shorten(paths, without, node)
    kept = np.minimum(distances, without)
    losses = np.bincount(codes, weights * (without**2 - kept**2), minlength=len(clusters.medoids))
    gone = int(np.argmin(losses))
    total = float(np.sum(weights * kept**2) + losses[gone])
    if total < pairs.get(gone, (_LESS * clusters.objective, node))[0]:
      pairs[gone] = (total, node)
  if not pairs:
    return None
  best = min(pairs, key=lambda gone: pairs[gone][0])
  for chosen in (list(pairs), [best]):
    medoids = clusters.medoids.copy()
    medoids[chosen] = [pairs[gone][1] for gone in chosen]
    found = assign(paths, weights, medoids)
    if found.objective <= pairs[best][0] * (1 + 1e-9) and found.objective < clusters.objective:
      return _opened(found, clusters)
  return None


def second_distances(paths: Paths, clusters: Clusters) -> Float[np.ndarray, " node"]:
  """Of every node to the nearest medoid but its own; infinite where there is one medoid.

  Such a path enters the node's cluster once and for all, from a node whose distance is known: one Dijkstra from a place
  outside that leads to all nodes at borders, over the edges within clusters.
  """
  count = len(clusters.codes)
  starts, ends = np.repeat(np.arange(count), np.diff(paths.indptr)), paths.indices
  across = clusters.codes[starts] != clusters.codes[ends]
  entrance = np.full(count, np.inf)
  np.minimum.at(entrance, ends[across], clusters.distances[starts[across]] + paths.data[across])
  border = np.flatnonzero(np.isfinite(entrance))
  rows = np.concatenate([starts[~across], np.full(len(border), count)])
  columns = np.concatenate([ends[~across], border])
  lengths = np.concatenate([paths.data[~across], entrance[border]])
  within = scipy.sparse.csr_array((lengths, (rows, columns)), shape=(count + 1, count + 1))
  return csgraph.dijkstra(within, indices=count)[:count]
