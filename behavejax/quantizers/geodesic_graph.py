"""A graph of latent vectors whose edges are as long as what the decoder makes of them.

Nearest neighbours are joined; the largest connected component is kept. The length of an edge from `z_i` to `z_j` under
the metric that a decoder pulls back from its output (Arvanitidis et al. 2018, arXiv:1710.11379, equation 3) is the
integral of `|J(z) d|`, `d = z_j - z_i`, along the straight line, by the trapezoidal rule: with two points
`0.5 (|J(z_i) d| + |J(z_j) d|)`. J is never formed; `jax.jvp` gives its products.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Array, Float, Int

Decode = Callable[[Float[Array, " dim"], Any], Float[Array, "..."]]
"""`decode(z, around)`: what one latent vector becomes. `around` is what else the decoder sees of it: one row of
`surroundings`, None where there are none (a grid's other vectors, for example)."""


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

  Raises:
    InputError: no vectors, or one that is not finite; `search="approximate"` without pynndescent.
  """
  raise NotImplementedError


def decoder_lengths(
  starts: Float[np.ndarray, "edge dim"],
  ends: Float[np.ndarray, "edge dim"],
  decode: Decode,
  *,
  around: tuple[Any, Any] = (None, None),
  points: int = 2,
  chunk: int = 4096,
) -> Iterator[Float[np.ndarray, " part"]]:
  """Lengths of straight lines under the decoder's metric, `chunk` at a time.

  Raises:
    InputError: a length that is not finite.
  """
  raise NotImplementedError


def adjacency(graph: Graph) -> scipy.sparse.csr_array:
  """Lengths of the edges in both directions; an edge of length 0 is stored as such."""
  raise NotImplementedError


def path(graph: Graph, start: int, end: int) -> Int[np.ndarray, " step"]:
  """The nodes of the shortest path between two nodes, both included."""
  raise NotImplementedError
