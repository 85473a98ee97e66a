"""Settings of a codebook that is built after training (`config.codebook`), and their checks."""

import dataclasses

from behavejax.errors import InputError

_CHOICES = {
  "method": ("geodesic", "euclidean", "kmeans"),
  "graph": ("union", "mutual"),
  "search": ("exact", "approximate"),
  "metric": ("decoder", "euclidean"),
  "join": ("both", "node"),
}
_AT_LEAST = {"codes": 1, "vectors": 0, "neighbours": 1, "line_points": 2, "restarts": 1, "iterations": 1}


@dataclasses.dataclass(frozen=True)
class CodebookConfig:
  """Codes of latent vectors (stage `codebook`): k-medoids by paths or straight lines, or k-means centres.

  The graph is made for every method: codes of `euclidean` and `kmeans` are judged along it too.
  """

  method: str = "geodesic"  # geodesic | euclidean: k-medoids by paths on the graph, or straight; kmeans
  codes: int = 512
  vectors: int = 50_000  # latent vectors of the training split that it is built from; 0 takes all
  neighbours: int = 20  # edges of a vector, and of one that joins later
  graph: str = "union"  # union: either end names the other as a neighbour; mutual: both do
  search: str = "exact"  # of neighbours: exact | approximate (pynndescent)
  metric: str = "decoder"  # lengths of edges: as the decoder moves, or euclidean
  join: str = "both"  # the metric of a new vector's way: at both ends, or the node's alone, which decodes nothing new
  line_points: int = 2  # of the straight line between two vectors, at which the decoder's Jacobian is taken
  restarts: int = 3  # of which the best is kept
  iterations: int = 200  # the most of a restart; it ends when nothing changes


def check(settings: CodebookConfig) -> None:
  """Raises `InputError` for values out of range."""
  for name, choices in _CHOICES.items():
    if getattr(settings, name) not in choices:
      raise InputError(f"config.codebook.{name} must be one of {', '.join(choices)}, got {getattr(settings, name)!r}")
  for name, least in _AT_LEAST.items():
    if getattr(settings, name) < least:
      raise InputError(f"config.codebook.{name} must be {least} or more, got {getattr(settings, name)!r}")
