"""Codes of any latent vectors, new ones too: through the nodes of a graph whose codes are known."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int
from scipy.sparse import csgraph
from sklearn.neighbors import NearestNeighbors

from behavejax.errors import InputError
from behavejax.quantizers.geodesic import Clusters, Paths
from behavejax.quantizers.geodesic_graph import (
  Decode,
  Graph,
  Vectors,
  check_vectors,
  decoder_lengths,
  metric_tensors,
  straight_lengths,
)

_ROWS = 4_096  # vectors that are joined at once
_SOURCES = 32  # codes whose distances are computed at once


class Codebook(NamedTuple):
  """Codes, and the nodes through which vectors join them.

  For codes that are compared by straight lines (k-means centres, for example) the codes themselves are the only nodes.

  Attributes:
    vectors: the codes.
    latents: of the nodes.
    surroundings: of the nodes, where the decoder sees some.
    codes: of the nodes.
    distances: of the nodes to their codes.
    neighbours: nodes that a vector is joined to.
    decoded: whether lengths are those of the decoder.
    longest: way to a node beyond which a vector is isolated: none in training was longer.
  """

  vectors: Float[np.ndarray, "code dim"]
  latents: Float[np.ndarray, "node dim"]
  surroundings: Float[np.ndarray, "node ..."] | None
  codes: Int[np.ndarray, " node"]
  distances: Float[np.ndarray, " node"]
  neighbours: int
  decoded: bool
  longest: float


class Joined(NamedTuple):
  """Codes of vectors, and how far away they are.

  Attributes:
    codes: one per vector.
    distances: along the graph (straight for codes without one), in its metric.
    nodes: the node through which each vector joined.
    isolated: whether even that node is further away than any two of the graph that are joined.
  """

  codes: Int[np.ndarray, " vector"]
  distances: Float[np.ndarray, " vector"]
  nodes: Int[np.ndarray, " vector"]
  isolated: Bool[np.ndarray, " vector"]


class Health(NamedTuple):
  """How vectors use a codebook.

  Attributes:
    sizes: vectors of each code.
    usage: share of the codes that occur.
    perplexity: exp of the entropy of the sizes.
    dead: number of codes that do not occur.
    squared_distance: mean square of the distance to the code along the graph.
    squared_error: mean square of the straight distance to the code.
    isolated: share of the vectors that are.
  """

  sizes: Int[np.ndarray, " code"]
  usage: float
  perplexity: float
  dead: int
  squared_distance: float
  squared_error: float
  isolated: float


def on_graph(
  graph: Graph,
  clusters: Clusters,
  *,
  neighbours: int,
  decoded: bool,
  surroundings: Float[np.ndarray, "vector ..."] | None = None,
) -> Codebook:
  """The medoids of a graph as codes; `surroundings` are those of the vectors that the graph was made of."""
  around = None if surroundings is None else surroundings[graph.rows]
  longest = float(graph.lengths.max(initial=0.0))
  return Codebook(
    graph.latents[clusters.medoids], graph.latents, around, clusters.codes, clusters.distances, neighbours, decoded,
    longest,
  )  # fmt: skip


def straight(vectors: Float[np.ndarray, "code dim"], latents: Float[np.ndarray, "vector dim"]) -> Codebook:
  """Codes that are compared by straight lines; `latents` are those that they were made of."""
  count = len(vectors)
  book = Codebook(vectors, vectors, None, np.arange(count), np.zeros(count), 1, False, np.inf)
  return book._replace(longest=float(join(book, latents).distances.max()))


def join(
  book: Codebook,
  latents: Float[np.ndarray, "vector dim"],
  *,
  decode: Decode | None = None,
  surroundings: Float[np.ndarray, "vector ..."] | None = None,
  points: int = 2,
  ends: str = "both",
) -> Joined:
  """The nearest code of each vector: least, over its nearest nodes, of the way to the node and on to its code.

  That is the shortest path in the graph with the vector added to it; a vector of the graph gets its own code.

  Args:
    book: codes and nodes.
    latents: any vectors. One that is far from all nodes gets a code and is marked as isolated.
    decode: of the model that the graph was made with; not used where lengths are straight.
    surroundings: of the vectors, where `decode` looks at them.
    points: as for the graph.
    ends: both: a way has the mean length under the metrics at its ends; node: that at the node alone, so that new
      vectors are not decoded.

  Raises:
    InputError: a vector that is not finite or has other dimensions; a length that is not finite.
    ValueError: no `decode`, and lengths are those of a decoder.
  """
  latents = check_vectors(latents, dim=book.latents.shape[1])
  if book.decoded and decode is None:
    raise ValueError("this codebook was built under a decoder's metric: give decode, or codes would be by another")
  near, ways_of = _nearest(book), _measure(
    book, decode if book.decoded else None, points, len(latents), ends=ends
  )  # fmt: skip
  parts = []
  for begin in range(0, len(latents), _ROWS):
    rows = slice(begin, begin + _ROWS)
    given = Vectors(latents[rows], None if surroundings is None else surroundings[rows])
    nodes = near(given.latents)
    ways = ways_of(given, nodes)
    ways = _own_node_only(book, given.latents, nodes, ways)
    best = np.argmin(ways + book.distances[nodes], axis=1)
    every = np.arange(len(nodes))
    chosen = nodes[every, best]
    distances = ways[every, best] + book.distances[chosen]
    isolated = np.min(ways, axis=1) > book.longest
    parts.append(Joined(book.codes[chosen], distances, chosen, isolated))
  return Joined(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def _nearest(book: Codebook) -> Callable[[np.ndarray], Int[np.ndarray, "vector near"]]:
  tree = NearestNeighbors(n_neighbors=min(book.neighbours, len(book.latents)), algorithm="brute").fit(book.latents)
  return functools.partial(tree.kneighbors, return_distance=False)


def _own_node_only(book: Codebook, latents: np.ndarray, nodes: np.ndarray, ways: np.ndarray) -> np.ndarray:
  """A vector that is a node has no other way in: its neighbours may not be joined to it in a mutual graph."""
  same = np.all(book.latents[nodes] == latents[:, None], axis=2)
  return np.where(same.any(axis=1, keepdims=True), np.where(same, 0.0, np.inf), ways)


def _measure(
  book: Codebook, decode: Decode | None, points: int, count: int, *, ends: str = "both"
) -> Callable[[Vectors, np.ndarray], np.ndarray]:
  """What takes vectors `[vector, dim]` and nodes `[vector, near]` and gives the ways between them `[vector, near]`.

  For a large enough `count` of vectors, tensors take fewer products with Jacobians than edges, which each take two
  (and decode both ends, as much work again).
  """
  nodes_of = Vectors(book.latents, book.surroundings)
  near, dim = min(book.neighbours, len(book.latents)), book.latents.shape[1]

  def along_edges(given: Vectors, nodes: Int[np.ndarray, "vector near"]) -> Float[np.ndarray, "vector near"]:
    pairs = np.stack([np.repeat(np.arange(len(nodes)), near), nodes.ravel()], axis=1)
    if decode is None:
      return straight_lengths(given, nodes_of, pairs).reshape(nodes.shape)
    return np.concatenate(list(decoder_lengths(given, nodes_of, pairs, decode, points=points))).reshape(nodes.shape)

  few = (count + len(book.latents)) * (dim + 1) > count * near * 4
  if decode is None or (ends == "both" and (points > 2 or few)):
    return along_edges
  tensors = metric_tensors(nodes_of, decode)

  def by_tensors(given: Vectors, nodes: Int[np.ndarray, "vector near"]) -> Float[np.ndarray, "vector near"]:
    steps = book.latents[nodes] - given.latents[:, None]
    ways = np.zeros(nodes.shape)
    metrics = [tensors[nodes]] * 2 if ends == "node" else [metric_tensors(given, decode)[:, None], tensors[nodes]]
    for metric in metrics:
      squares = np.sum(np.matmul(steps[:, :, None], metric)[:, :, 0] * steps, axis=2, dtype=np.float64)
      ways += 0.5 * np.sqrt(np.maximum(squares, 0.0))
    if not np.isfinite(ways).all():
      raise InputError("the decoder gives a way to a node a length that is not finite: it diverges")
    return ways

  return by_tensors


def path_distances(
  book: Codebook,
  paths: Paths,
  codes: Int[np.ndarray, " node"],
  vectors: Vectors,
  *,
  decode: Decode | None = None,
  points: int = 2,
) -> Float[np.ndarray, " node"]:
  """Distances along a graph of its nodes to codes that were chosen by other means, k-means centres for example.

  A code is joined to its nearest nodes, and no path leads through it. Takes one Dijkstra per code.

  Args:
    book: any codebook on the graph: its nodes and the metric are used.
    paths: of the graph.
    codes: of the nodes.
    vectors: the codes, and the surroundings that each is decoded in.
    decode: as for `join`.
    points: as for `join`.
  """
  count, total = len(book.latents), len(vectors.latents)
  near = _nearest(book)(vectors.latents)
  ways = _measure(book, decode if book.decoded else None, points, total)(vectors, near)
  ways = _own_node_only(book, vectors.latents, near, ways)
  edges = paths.tocoo()
  starts = np.concatenate([edges.row, np.repeat(count + np.arange(total), near.shape[1])])
  ends = np.concatenate([edges.col, near.ravel()])
  both = scipy.sparse.csr_array(
    (np.concatenate([edges.data, ways.ravel()]), (starts, ends)), shape=(count + total, count + total)
  )
  distances = np.empty(count)
  for begin in range(0, total, _SOURCES):
    sources = np.arange(begin, min(begin + _SOURCES, total))
    found = csgraph.dijkstra(both, indices=count + sources)
    mine = np.flatnonzero((codes >= begin) & (codes < begin + len(sources)))
    distances[mine] = found[codes[mine] - begin, mine]
  return distances


def health(
  book: Codebook, joined: Joined, latents: Float[np.ndarray, "vector dim"], distances: np.ndarray | None = None
) -> Health:
  """How vectors that were joined use the codes; `distances` replace those of `joined` where these are straight."""
  sizes = np.bincount(joined.codes, minlength=len(book.vectors))
  shares = sizes[sizes > 0] / sizes.sum()
  away = straight_lengths(
    Vectors(latents), Vectors(book.vectors), np.stack([np.arange(len(latents)), joined.codes], axis=1)
  )
  along = joined.distances if distances is None else distances
  return Health(
    sizes=sizes,
    usage=float(np.mean(sizes > 0)),
    perplexity=float(np.exp(-np.sum(shares * np.log(shares)))),
    dead=int(np.sum(sizes == 0)),
    squared_distance=float(np.mean(along**2)),
    squared_error=float(np.mean(away**2)),
    isolated=float(np.mean(joined.isolated)),
  )
