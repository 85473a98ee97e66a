"""How long a codebook takes: graph, lengths under the decoder, k-medoids, and one assignment beside a K-by-N one."""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.sparse import csgraph

from behavejax.quantizers import geodesic, geodesic_graph, joining
from behavejax.quantizers.geodesic_graph import Decode, Vectors

_SOURCES = 32  # codes of the K-by-N assignment at once
_WIDTHS = (256, 256, 784)


def run(*, repeats: int) -> Iterator[str]:
  """50 000 vectors of 16 dimensions, 512 codes."""
  yield from parts(size=50_000, dim=16, codes=512, neighbours=20, restarts=3, repeats=repeats)


def parts(*, size: int, dim: int, codes: int, neighbours: int, restarts: int, repeats: int) -> Iterator[str]:
  """Seconds of each part of a build, its memory, and the two assignments; the median of `repeats` for the quick one.

  In brackets the CPU time of all threads, which other programs on the machine leave alone.
  """
  latents, decode = _mixture(size, dim), _decoder(dim)
  yield f"{jax.device_count()} x {jax.devices()[0].device_kind}; {size} vectors of {dim} dimensions, {codes} codes, "
  yield f"{neighbours} neighbours; decoder {dim}-{'-'.join(map(str, _WIDTHS))}; seconds, CPU time in brackets"
  yield ""
  graph, seconds = _timed(lambda: geodesic_graph.neighbour_graph(latents, neighbours=neighbours))
  spent = [seconds]
  yield f"graph       {_shown(seconds)}   {len(graph.latents)} nodes, {len(graph.edges)} edges"
  nodes = Vectors(graph.latents)
  lengths, seconds = _timed(lambda: list(geodesic_graph.decoder_lengths(nodes, nodes, graph.edges, decode)))
  graph = graph._replace(lengths=np.concatenate(lengths))
  paths, weights = geodesic_graph.adjacency(graph), graph.weights
  spent.append(seconds)
  yield f"metric      {_shown(seconds)}   {2 * len(graph.edges) / seconds[1]:.0f} Jacobian products per CPU second"
  _, seconds = _timed(lambda: geodesic.begin(paths, weights, codes=codes, seed=0))
  yield f"  seeds     {_shown(seconds)}   of one restart"
  clusters, seconds = _timed(lambda: geodesic.cluster(paths, weights, codes=codes, seed=0, restarts=restarts))
  spent.append(seconds)
  mean = float(clusters.objective) / weights.sum()
  yield f"clustering  {_shown(seconds)}   {restarts} restarts, mean squared distance {mean:.4g}"
  yield f"all         {_shown(sum(spent))}   at most {_peak_gib():.2f} GiB of memory in this process"
  book = joining.on_graph(graph, clusters, neighbours=neighbours, decoded=True)
  new = _mixture(max(size // 10, 1), dim, seed=1)
  _, seconds = _timed(lambda: joining.join(book, new, decode=decode))
  yield f"joining     {_shown(seconds)}   {len(new)} new vectors"
  yield ""
  timed = [_timed(lambda: geodesic.assign(paths, weights, clusters.medoids)) for _ in range(repeats)]
  quick = np.median([seconds for _, seconds in timed], axis=0)
  (distances, found), slow = _timed(lambda: _every_distance(paths, clusters.medoids))
  same = np.mean(found == timed[0][0].codes)
  off = np.max(np.abs(distances - timed[0][0].distances))
  yield f"assignment  {_shown(quick, digits=3)}   by one multi-source Dijkstra, median of {repeats}"
  yield f"            {_shown(slow)}   by {codes} x {len(weights)} distances, all of them, {_SOURCES} codes at once"
  ratio = slow / quick
  yield (
    f"            {ratio[0]:8.0f} times as fast ({ratio[1]:.0f} by CPU time); {same:.2%} of the codes agree, "
    f"distances to {off:.1e}"
  )


def _mixture(size: int, dim: int, *, seed: int = 0) -> Float[np.ndarray, "vector dim"]:
  """Ten overlapping clouds."""
  rng = np.random.default_rng(seed)
  centres = np.random.default_rng(2).normal(size=(10, dim))
  return (0.8 * centres[rng.integers(0, 10, size)] + 0.6 * rng.normal(size=(size, dim))).astype(np.float32)


def _decoder(dim: int) -> Decode:
  """A random network, curved enough that lengths differ from Euclidean ones."""
  rng, weights, inputs = np.random.default_rng(3), [], dim
  for width in _WIDTHS:
    weights.append(jnp.asarray(rng.normal(size=(inputs, width)) * np.sqrt(2 / inputs), jnp.float32))
    inputs = width

  def decode(z: Float[Array, " dim"], around: Any) -> Float[Array, " out"]:
    del around
    for weight in weights[:-1]:
      z = jnp.tanh(z @ weight)
    return z @ weights[-1]

  return decode


def _every_distance(paths: geodesic.Paths, medoids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The nearest medoid of every node by the distances to all."""
  least, codes = np.full(paths.shape[0], np.inf), np.zeros(paths.shape[0], int)
  for begin in range(0, len(medoids), _SOURCES):
    distances = csgraph.dijkstra(paths, indices=medoids[begin : begin + _SOURCES])
    nearest = np.argmin(distances, axis=0)
    found = np.take_along_axis(distances, nearest[None], axis=0)[0]
    codes = np.where(found < least, begin + nearest, codes)
    least = np.minimum(found, least)
  return least, codes


def _timed(work: Callable[[], Any]) -> tuple[Any, np.ndarray]:
  """The result, and wall and CPU seconds."""
  begin = np.array([time.perf_counter(), time.process_time()])
  result = work()
  return result, np.array([time.perf_counter(), time.process_time()]) - begin


def _shown(seconds: np.ndarray, *, digits: int = 2) -> str:
  wall, cpu = seconds
  return f"{wall:8.{digits}f} ({cpu:.{digits}f}) s"


def _peak_gib() -> float:
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak / (2**30 if sys.platform == "darwin" else 2**20)
