"""Building a codebook, phase by phase, each saved: graph, lengths of its edges, restarts of k-medoids."""

import dataclasses
import pathlib
import zlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from behavejax.config import CodebookConfig, Config
from behavejax.errors import InputError
from behavejax.evaluation import codebooks
from behavejax.evaluation.codebooks import Built
from behavejax.quantizers import geodesic, geodesic_graph, joining, straight
from behavejax.quantizers.geodesic import Clusters, Paths, Search
from behavejax.quantizers.geodesic_graph import Decode, Graph, Vectors
from behavejax.quantizers.joining import Codebook, Health
from behavejax.training.log import MetricWriter, SilentWriter
from behavejax.training.loop import Sigterm, Stopped
from behavejax.workdir import write_arrays

_SAVE_EVERY = 64  # chunks of lengths


class Given(NamedTuple):
  """What a codebook is built from.

  Attributes:
    settings: `config.codebook`.
    seed: of the run.
    vectors: latent vectors and their surroundings.
    decode: of one of them, None where lengths are Euclidean.
  """

  settings: CodebookConfig
  seed: int
  vectors: Vectors
  decode: Decode | None


@dataclasses.dataclass(frozen=True)
class Pace:
  """Where a build saves, and what it is told and asked between two pieces of work.

  Attributes:
    folder: of what it has reached.
    stopping: whether it should save and leave.
    tell: takes each step of the clustering: its number over all restarts, and numbers to log.
  """

  folder: pathlib.Path
  stopping: Callable[[], bool] = lambda: False
  tell: Callable[[int, dict[str, float]], None] = lambda step, values: None

  def check(self, where: str) -> None:
    """Raises `Stopped` where it should leave; what was reached is saved by then."""
    if self.stopping():
      raise Stopped(f"codebook: stopped {where}; repeat the command to resume")


def fit(
  config: Config,
  latents: Float[np.ndarray, "vector dim"],
  folder: pathlib.Path,
  metrics_file: pathlib.Path,
  *,
  stage: str,
  decode: Decode | None = None,
  surroundings: Float[np.ndarray, "vector ..."] | None = None,
) -> Float[Array, "code dim"]:
  """Builds the codebook of `config.codebook` from what an interrupted build left in `folder`, or from the start.

  Beside the codes, which are returned, `folder/codebook.npz` holds the graph and what joins new vectors to it:
  `behavejax.evaluation.codebooks.read`.

  Args:
    config: of the run; `codebook` and `seed` are used.
    latents: posterior means of the training split; `codebook.vectors` of them are drawn.
    folder: of the stage.
    metrics_file: of the run.
    stage: its name.
    decode: of one latent vector; needed where `codebook.metric` is "decoder".
    surroundings: a row for each vector, given to `decode`.

  Raises:
    Stopped: SIGTERM arrived; repeating the call continues.
    InputError: fewer different vectors than codes, or one that is not finite; a decoder that is not; `folder` holds a
      build from other vectors.
  """
  speaks = jax.process_index() == 0
  first = _steps_before(folder / "build")
  log = MetricWriter(metrics_file, stage=stage, first_step=first, steps=None) if speaks else SilentWriter()
  with log as writer, Sigterm() as sigterm:
    if first:
      writer.say(f"{stage}: resumed after step {first}")

    def tell(step: int, values: dict[str, float]) -> None:
      writer.write(step, {f"codebook/{name}": value for name, value in values.items()})
      writer.progress(step, ", ".join(f"{name} {value:.4g}" for name, value in values.items()))

    pace = Pace(folder / "build", sigterm.arrived, tell)
    built, found = build(config.codebook, latents, pace, seed=config.seed, decode=decode, surroundings=surroundings)
    codebooks.write(folder / "codebook.npz", built)
    for line in summary(built, found):
      writer.say(f"{stage}: {line}")
  return jnp.asarray(built.book.vectors)


def build(
  settings: CodebookConfig,
  latents: Float[np.ndarray, "vector dim"],
  pace: Pace,
  *,
  seed: int,
  decode: Decode | None = None,
  surroundings: Float[np.ndarray, "vector ..."] | None = None,
) -> tuple[Built, Health]:
  """The codebook, and how the vectors that it was built from use it; each piece of work is saved when it is done."""
  if settings.metric == "decoder" and decode is None:
    raise ValueError("config.codebook.metric=decoder needs decode")
  rows = draw_rows(len(latents), settings.vectors, seed)
  vectors = Vectors(geodesic_graph.check_vectors(latents[rows]), None if surroundings is None else surroundings[rows])
  given = Given(settings, seed, vectors, decode if settings.metric == "decoder" else None)
  pace.folder.mkdir(parents=True, exist_ok=True)
  graph = _measured(given, _graph(given, pace), pace)
  paths = geodesic_graph.adjacency(graph)
  if settings.method == "geodesic":
    book = _on_graph(given, graph, _cluster(given, graph, paths, pace))
    built = Built(book, graph, rows)
    return built, joining.health(book, _join(given, book), vectors.latents)
  book = joining.straight(_straight(given), vectors.latents)
  return Built(book, graph, rows), _judged(given, book, graph, paths)


def draw_rows(count: int, wanted: int, seed: int) -> Int[np.ndarray, " row"]:
  """Rows that a codebook is built from, in order; all of them where `wanted` is 0 or more than there are."""
  if not 0 < wanted < count:
    return np.arange(count)
  return np.sort(np.random.default_rng(seed).choice(count, wanted, replace=False))


def summary(built: Built, found: Health) -> list[str]:
  """What a build came to, in words."""
  graph = built.graph
  kept, all_of = int(graph.components[0]), int(graph.components.sum())
  lines = [
    f"{len(built.book.vectors)} codes, perplexity {found.perplexity:.1f}, {found.dead} unused, clusters of "
    f"{found.sizes.min()} to {found.sizes.max()}",
    f"mean squared distance {found.squared_distance:.4g} along the graph, {found.squared_error:.4g} straight",
    f"graph of {len(graph.latents)} nodes and {len(graph.edges)} edges; the largest of {len(graph.components)} "
    f"components has {kept} of {all_of} vectors",
  ]
  if kept < 0.9 * all_of:
    lines.append(
      f"only {kept / all_of:.0%} of the vectors are connected: raise config.codebook.neighbours or set graph=union"
    )
  return lines


def _graph(given: Given, pace: Pace) -> Graph:
  file, settings = pace.folder / "graph.npz", given.settings
  digest = zlib.crc32(given.vectors.latents.tobytes())
  if file.exists():
    saved = _load(file)
    if int(saved.pop("digest")) != digest:
      raise InputError(f"{file} was built from other latent vectors: run the stage again with --restart_from=codebook")
    return Graph(**saved)
  graph = geodesic_graph.neighbour_graph(
    given.vectors.latents, neighbours=settings.neighbours, kind=settings.graph, search=settings.search
  )
  write_arrays(file, {**graph._asdict(), "digest": np.asarray(digest)})
  pace.check("after the graph")
  return graph


def _measured(given: Given, graph: Graph, pace: Pace) -> Graph:
  """The graph with the lengths of the decoder, from as many as are saved."""
  if given.decode is None:
    return graph
  file, around = pace.folder / "lengths.npz", given.vectors.surroundings
  lengths = [_load(file)["lengths"]] if file.exists() else []
  done = sum(map(len, lengths))
  nodes = Vectors(graph.latents, None if around is None else around[graph.rows])
  parts = geodesic_graph.decoder_lengths(
    nodes, nodes, graph.edges[done:], given.decode, points=given.settings.line_points
  )
  for i, part in enumerate(parts, 1):
    lengths.append(part)
    stopping = pace.stopping()
    if i % _SAVE_EVERY == 0 or stopping:
      write_arrays(file, {"lengths": np.concatenate(lengths)})
    if stopping:
      raise Stopped(
        f"codebook: stopped after {sum(map(len, lengths))} of {len(graph.edges)} edges; repeat the command to resume"
      )
  lengths = np.concatenate([np.zeros(0), *lengths])
  write_arrays(file, {"lengths": lengths})
  return graph._replace(lengths=lengths)


def _cluster(given: Given, graph: Graph, paths: Paths, pace: Pace) -> Clusters:
  """The restarts of k-medoids, saved after each iteration."""
  settings, file = given.settings, pace.folder / "search.npz"
  if file.exists():
    step, search = _read_search(file)
  else:
    step, search = 1, geodesic.begin(paths, graph.weights, codes=settings.codes, seed=given.seed)
    pace.tell(step, _numbers(search, graph))
    _write_search(file, step, search)
  while search.restart < settings.restarts:
    pace.check(f"in restart {search.restart + 1}")
    search = geodesic.advance(
      paths, graph.weights, search, seed=given.seed, restarts=settings.restarts, iterations=settings.iterations
    )
    step += 1
    pace.tell(step, _numbers(search, graph))
    _write_search(file, step, search)
  return geodesic.assign(paths, graph.weights, search.medoids)


def _numbers(search: Search, graph: Graph) -> dict[str, float]:
  return {
    "squared_distance": float(search.clusters.objective) / float(graph.weights.sum()),
    "restart": float(search.restart),
    "open": float(search.clusters.open.sum()),
  }


def _on_graph(given: Given, graph: Graph, clusters: Clusters) -> Codebook:
  return joining.on_graph(
    graph, clusters, neighbours=given.settings.neighbours, decoded=given.decode is not None,
    surroundings=given.vectors.surroundings,
  )  # fmt: skip


def _join(given: Given, book: Codebook) -> joining.Joined:
  """The vectors of the graph have codes already; the others join."""
  return joining.join(
    book, given.vectors.latents, decode=given.decode, surroundings=given.vectors.surroundings,
    points=given.settings.line_points, ends=given.settings.join,
  )  # fmt: skip


def _straight(given: Given) -> Float[np.ndarray, "code dim"]:
  settings, latents = given.settings, given.vectors.latents
  static = {
    "codes": settings.codes, "seed": given.seed, "restarts": settings.restarts, "iterations": settings.iterations
  }  # fmt: skip
  if settings.method == "kmeans":
    return straight.kmeans(latents, **static)
  return latents[straight.kmedoids(latents, **static)]


def _judged(given: Given, book: Codebook, graph: Graph, paths: Paths) -> Health:
  """Straight codes along the graph; each is decoded in the surroundings of the vector nearest to it."""
  joined, vectors = joining.join(book, given.vectors.latents), given.vectors
  codes = joined.codes[graph.rows]
  around = None
  if vectors.surroundings is not None:
    nearest = joining.join(joining.straight(vectors.latents, book.vectors), book.vectors).codes
    around = vectors.surroundings[nearest]
  anyone = Clusters(np.zeros(1, int), codes, np.zeros(len(codes)), np.zeros(1, bool), np.zeros(()))
  along = joining.path_distances(
    _on_graph(given, graph, anyone), paths, codes, Vectors(book.vectors, around), decode=given.decode,
    points=given.settings.line_points,
  )  # fmt: skip
  return joining.health(book, joined, vectors.latents, along[graph.nodes[graph.nodes >= 0]])


def _steps_before(folder: pathlib.Path) -> int:
  file = folder / "search.npz"
  return int(_load(file)["step"]) if file.exists() else 0


def _write_search(file: pathlib.Path, step: int, search: Search) -> None:
  state = {"restart": search.restart, "iteration": search.iteration, "best": search.medoids, "least": search.objective}
  write_arrays(file, {"step": np.asarray(step), **state, **search.clusters._asdict()})


def _read_search(file: pathlib.Path) -> tuple[int, Search]:
  saved = _load(file)
  clusters = Clusters(**{name: saved[name] for name in Clusters._fields})
  best = saved["best"], float(saved["least"])
  return int(saved["step"]), Search(int(saved["restart"]), int(saved["iteration"]), clusters, *best)


def _load(file: pathlib.Path) -> dict[str, np.ndarray]:
  with np.load(file, allow_pickle=False) as saved:
    return {name: saved[name] for name in saved.files}
