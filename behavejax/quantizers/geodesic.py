"""K-medoids on a graph of latent vectors."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from behavejax.quantizers.geodesic_graph import Graph


class Clusters(NamedTuple):
  """Medoids and what belongs to them.

  Attributes:
    medoids: a node per code.
    codes: of the nodes.
    distances: of the nodes to their medoids, along the graph.
    open: codes whose medoid may still move; when none may, clustering has converged.
    objective: the weighted sum of squared distances.
  """

  medoids: Int[np.ndarray, " code"]
  codes: Int[np.ndarray, " node"]
  distances: Float[np.ndarray, " node"]
  open: Bool[np.ndarray, " code"]
  objective: Float[np.ndarray, ""]


def start(graph: Graph, rng: np.random.Generator, *, codes: int) -> Clusters:
  """K-means++ seeds as medoids.

  Raises:
    InputError: more codes than nodes.
  """
  raise NotImplementedError


def improve(graph: Graph, clusters: Clusters) -> Clusters:
  """Moves medoids within their clusters, then assigns all nodes anew; the objective never rises."""
  raise NotImplementedError
