"""A graph of latent vectors whose edges are as long as what the decoder makes of them.

Nearest neighbours are joined; the largest connected component is kept. The length of an edge from `z_i` to `z_j` under
the metric that a decoder pulls back from its output (Arvanitidis et al. 2018, arXiv:1710.11379) is the integral of
`|J(z) d|`, `d = z_j - z_i`, along the straight line, by the trapezoidal rule: with two points
`0.5 (|J(z_i) d| + |J(z_j) d|)`. J is never formed; `jax.jvp` gives its products.
"""

import functools
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Float, Int
from scipy.sparse import csgraph
from sklearn.neighbors import NearestNeighbors

from behavejax.errors import InputError

Decode = Callable[[Float[Array, " dim"], Any], Float[Array, "..."]]
"""`decode(z, around)`: what one latent vector becomes. `around` is what else the decoder sees of it, a row of
`surroundings` (a grid's other vectors, for example); None where there are none."""


class Vectors(NamedTuple):
  """Latent vectors, and what a decoder sees around each."""

  latents: Float[np.ndarray, "vector dim"]
  surroundings: Float[np.ndarray, "vector ..."] | None = None


class Graph(NamedTuple):
  """The largest connected component of a graph of neighbours; equal vectors are one node.

  Attributes:
    latents: of the nodes.
    weights: how many of the given vectors each node stands for.
    edges: pairs of nodes, the smaller first, in ascending order, each once.
    lengths: of the edges; 0 where the decoder tells the ends not apart.
    rows: a given vector of each node, the first.
    nodes: node of each given vector; -1 outside the largest component.
    components: given vectors in each connected component, largest first.
  """

  latents: Float[np.ndarray, "node dim"]
  weights: Float[np.ndarray, " node"]
  edges: Int[np.ndarray, "edge 2"]
  lengths: Float[np.ndarray, " edge"]
  rows: Int[np.ndarray, " node"]
  nodes: Int[np.ndarray, " vector"]
  components: Int[np.ndarray, " component"]


def neighbour_graph(
  latents: Float[np.ndarray, "vector dim"], *, neighbours: int, kind: str = "union", search: str = "exact"
) -> Graph:
  """The graph with Euclidean lengths.

  Equal vectors would be each other's only neighbours, so they are joined to one node first.

  Args:
    latents: at least one vector.
    neighbours: of a vector, itself not counted; where there are fewer others, all are.
    kind: union: an edge where either end is a neighbour of the other; mutual: where both are.
    search: exact takes `O(N^2 dim)`, half a minute for 100 000 vectors on two cores; approximate needs pynndescent.

  Raises:
    InputError: no vectors, or one that is not finite; `search="approximate"` without pynndescent.
  """
  latents = check_vectors(latents)
  distinct, rows, node = _distinct(latents)
  count = len(distinct)
  edges = _join_neighbours(distinct, min(neighbours, count - 1), kind, search)
  links = scipy.sparse.coo_array((np.ones(len(edges)), edges.T), shape=(count, count))
  found, labels = csgraph.connected_components(links, directed=False)
  sizes = np.bincount(labels[node], minlength=found)
  kept = labels == np.argmax(sizes)
  renumbered = np.where(kept, np.cumsum(kept) - 1, -1)
  edges = renumbered[edges[kept[edges[:, 0]]]]
  latents = distinct[kept]
  weights = np.bincount(node, minlength=count)[kept].astype(np.float64)
  lengths = straight_lengths(Vectors(latents), Vectors(latents), edges)
  return Graph(latents, weights, edges, lengths, rows[kept], renumbered[node], np.sort(sizes)[::-1])


def check_vectors(latents: Float[np.ndarray, "vector dim"], *, dim: int | None = None) -> np.ndarray:
  """The same as float32; `InputError` where there are none, or some that are not finite or of other dimensions."""
  latents = np.asarray(latents, np.float32)
  if latents.ndim != 2 or not latents.size or latents.shape[1] != (dim or latents.shape[1]):
    raise InputError(f"latent vectors must be [vector, {dim or 'dim'}] and one or more, got shape {latents.shape}")
  broken = ~np.isfinite(latents).all(axis=1)
  if broken.any():
    raise InputError(f"latent vector {np.argmax(broken)} is not finite ({broken.sum()} of {len(latents)} are not)")
  return latents


def _distinct(latents: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Different vectors in order of appearance, the first row of each, and the number of each row's."""
  _, first, inverse = np.unique(latents + 0.0, axis=0, return_index=True, return_inverse=True)  # -0.0 is 0.0
  order = np.argsort(first)
  rank = np.empty_like(order)
  rank[order] = np.arange(len(order))
  return latents[first[order]] + 0.0, first[order], rank[inverse.ravel()]


def _join_neighbours(latents: np.ndarray, neighbours: int, kind: str, search: str) -> Int[np.ndarray, "edge 2"]:
  count = len(latents)
  if neighbours == 0:
    return np.zeros((0, 2), np.int64)
  if search == "approximate":
    found = _approximate(latents, neighbours)
  else:
    found = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(latents).kneighbors(return_distance=False)
  start, end = np.repeat(np.arange(count), found.shape[1]), found.ravel().astype(np.int64)
  named = (start != end) & (end >= 0)
  keys = np.minimum(start, end) * count + np.maximum(start, end)
  keys, times = np.unique(keys[named], return_counts=True)
  keys = keys[times == 2] if kind == "mutual" else keys
  return np.stack([keys // count, keys % count], axis=1)


def _approximate(latents: np.ndarray, neighbours: int) -> Int[np.ndarray, "vector neighbour"]:
  """By nearest-neighbour descent (Dong et al. 2011); -1 where it found fewer."""
  if importlib.util.find_spec("pynndescent") is None:
    raise InputError("config.codebook.search=approximate needs pynndescent, which is not installed: use exact")
  import pynndescent

  index = pynndescent.NNDescent(latents, n_neighbors=min(neighbours + 1, len(latents)), random_state=0)
  return index.neighbor_graph[0]  # each vector counts itself among them


def straight_lengths(starts: Vectors, ends: Vectors, pairs: Int[np.ndarray, "edge 2"]) -> Float[np.ndarray, " edge"]:
  """Euclidean lengths of lines from a vector of `starts` to one of `ends`."""
  difference = ends.latents[pairs[:, 1]].astype(np.float64) - starts.latents[pairs[:, 0]]
  return np.sqrt(np.einsum("ed,ed->e", difference, difference))


def decoder_lengths(
  starts: Vectors,
  ends: Vectors,
  pairs: Int[np.ndarray, "edge 2"],
  decode: Decode,
  *,
  points: int = 2,
  chunk: int = 1024,
) -> Iterator[Float[np.ndarray, " part"]]:
  """Lengths of straight lines under the decoder's metric, `chunk` at a time.

  Args:
    starts: where lines start.
    ends: where they end.
    pairs: a vector of `starts` and one of `ends` for each line.
    decode: compiled once; each point of a line is decoded in the surroundings of the nearer end (half way: the start).
    points: on each line, at which the Jacobian is taken.
    chunk: lines that are measured at once; memory is that of decoding twice as many vectors.

  Raises:
    InputError: a length that is not finite.
  """
  for begin in range(0, len(pairs), chunk):
    part = pairs[begin : begin + chunk]
    padded = np.concatenate([part, np.repeat(part[-1:], chunk - len(part), axis=0)])
    given = [_take(vectors, padded[:, side]) for side, vectors in enumerate((starts, ends))]
    lengths = np.asarray(_measure(*given, decode=decode, points=points), np.float64)[: len(part)]
    if not np.isfinite(lengths).all():
      line = begin + int(np.argmin(np.isfinite(lengths)))
      raise InputError(f"the decoder gives edge {line} of {len(pairs)} the length {lengths[line - begin]}: it diverges")
    yield lengths


def _take(vectors: Vectors, rows: np.ndarray) -> Vectors:
  return Vectors(vectors.latents[rows], None if vectors.surroundings is None else vectors.surroundings[rows])


@functools.partial(jax.jit, static_argnames=("decode", "points"))
def _measure(starts: Vectors, ends: Vectors, *, decode: Decode, points: int) -> Float[Array, " edge"]:
  def length(start: Vectors, end: Vectors) -> Float[Array, ""]:
    way, total = end.latents - start.latents, 0.0
    for i in range(points):
      share = i / (points - 1)
      around = (start if share <= 0.5 else end).surroundings
      place = start.latents + share * way if i < points - 1 else end.latents
      _, moved = jax.jvp(lambda z, around=around: decode(z, around), (place,), (way,))
      weight = 0.5 if i in (0, points - 1) else 1.0
      total += weight / (points - 1) * jnp.sqrt(jnp.sum(jnp.square(moved)))
    return total

  return jax.vmap(length)(starts, ends)


def metric_tensors(vectors: Vectors, decode: Decode, *, chunk: int = 256) -> Float[np.ndarray, "vector dim dim"]:
  """`J^T J` at each vector: the squared length of a small step `d` is `d^T J^T J d`.

  Takes `dim` products with the Jacobian for a vector, whatever the number of its edges.
  """
  count, dim = vectors.latents.shape
  tensors = np.empty((count, dim, dim), np.float32)
  for begin in range(0, count, chunk):
    rows = np.minimum(np.arange(begin, begin + chunk), count - 1)
    tensors[begin : begin + chunk] = _tensors(_take(vectors, rows), decode=decode)[: count - begin]
  return tensors


@functools.partial(jax.jit, static_argnames="decode")
def _tensors(vectors: Vectors, *, decode: Decode) -> Float[Array, "vector dim dim"]:
  def tensor(vector: Vectors) -> Float[Array, "dim dim"]:
    def moved(way: Float[Array, " dim"]) -> Float[Array, " out"]:
      return jax.jvp(lambda z: decode(z, vector.surroundings), (vector.latents,), (way,))[1].ravel()

    every = jax.vmap(moved)(jnp.eye(len(vector.latents)))
    return jnp.matmul(every, every.T, precision=jax.lax.Precision.HIGHEST)

  return jax.vmap(tensor)(vectors)


def adjacency(graph: Graph) -> scipy.sparse.csr_array:
  """Lengths of the edges in both directions; an edge of length 0 is stored as such."""
  start, end = graph.edges.T
  both = np.concatenate([start, end]), np.concatenate([end, start])
  count = len(graph.latents)
  return scipy.sparse.csr_array((np.tile(graph.lengths, 2), both), shape=(count, count))


def path(paths: scipy.sparse.csr_array, start: int, end: int) -> Int[np.ndarray, " step"]:
  """The nodes of the shortest path between two nodes, both included."""
  _, before = csgraph.dijkstra(paths, indices=start, return_predecessors=True)
  steps = [end]
  while steps[-1] != start:
    steps.append(int(before[steps[-1]]))
  return np.array(steps[::-1])
