"""Codes of any latent vectors, new ones too: through the nodes of a graph whose codes are known."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from behavejax.quantizers.geodesic_graph import Decode


class Codebook(NamedTuple):
  """Codes, and the nodes through which vectors join them.

  For codes that are compared by straight lines (`euclidean`, `kmeans`) the codes themselves are the only nodes.

  Attributes:
    vectors: the codes.
    latents: of the nodes.
    codes: of the nodes.
    distances: of the nodes to their codes.
    longest: the longest distance of a training vector to its code; vectors further away are strangers.
  """

  vectors: Float[np.ndarray, "code dim"]
  latents: Float[np.ndarray, "node dim"]
  codes: Int[np.ndarray, " node"]
  distances: Float[np.ndarray, " node"]
  longest: Float[np.ndarray, ""]


class Joined(NamedTuple):
  """Codes of vectors, and how far away they are.

  Attributes:
    codes: one per vector.
    distances: along the graph (straight for codes without one), in its metric.
    nodes: the node through which each vector joined.
  """

  codes: Int[np.ndarray, " vector"]
  distances: Float[np.ndarray, " vector"]
  nodes: Int[np.ndarray, " vector"]


def join(
  codebook: Codebook,
  latents: Float[np.ndarray, "vector dim"],
  *,
  neighbours: int,
  decode: Decode | None = None,
  surroundings: tuple[Any, Any] = (None, None),
) -> Joined:
  """The nearest code of each vector: least, over its nearest nodes, of the way to the node and on to its code.

  Args:
    codebook: of `training.codebook.build`.
    latents: any vectors.
    neighbours: nodes that a vector is joined to; 1 for codebooks without a graph.
    decode: measures the way to the nodes; None measures it straight.
    surroundings: of the vectors and of the nodes (rows for `decode`).

  Raises:
    InputError: a vector that is not finite or has other dimensions.
  """
  raise NotImplementedError
