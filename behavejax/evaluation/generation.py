"""Samples from codes: grids, rows by class, temperatures, and ways from one sample to another through latent space."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from behavejax.config import Config
from behavejax.data.prepare_samples import PreparedSamples
from behavejax.errors import InputError
from behavejax.evaluation import codebooks
from behavejax.evaluation.codebooks import Built
from behavejax.evaluation.latents import Latents, read_codes, read_latents, restore_vae
from behavejax.evaluation.priors import draw_codes, restore_prior
from behavejax.models.code_prior import CodePrior
from behavejax.models.vae import Vae
from behavejax.quantizers import geodesic_graph
from behavejax.types import Variables
from behavejax.workdir import Workdir


class Trained(NamedTuple):
  """What a run with a codebook learned.

  Attributes:
    config: of the run.
    vae: the continuous model.
    variables: of it.
    data: samples it was made for.
    latents: of all samples, by split.
    built: the codebook and its graph.
    codes: of all samples, by split, and their distances as `SPLIT_distances`.
    prior: None where the run has none.
    prior_variables: of it.
  """

  config: Config
  vae: Vae
  variables: Variables
  data: PreparedSamples
  latents: dict[str, Latents]
  built: Built
  codes: dict[str, np.ndarray]
  prior: CodePrior | None
  prior_variables: Variables | None


def load(workdir: Workdir) -> Trained:
  """Raises `InputError` where the run has no codebook yet, or its data are gone."""
  config = workdir.read_config()
  if not workdir.is_complete("codebook"):
    raise InputError(f"stage 'codebook' of {workdir.path} is not complete; repeat the training command to finish it")
  vae, variables, data = restore_vae(workdir, config)
  prior = restore_prior(workdir, config, data.train) if workdir.is_complete("prior") else (None, None)
  built = codebooks.read(workdir.stage("codebook") / "codebook.npz")
  return Trained(config, vae, variables, data, read_latents(workdir), built, read_codes(workdir), *prior)


def decode(run: Trained, latents: Float[np.ndarray, "sample *grid dim"]) -> Float[np.ndarray, "sample *space channel"]:
  """Normalised samples of latent vectors, in batches of one shape."""
  call = jax.jit(lambda z: run.vae.decode(run.variables, z))
  size, parts = min(run.config.evaluation.batch_size, len(latents)), []
  for start in range(0, len(latents), size):
    rows = np.minimum(np.arange(start, start + size), len(latents) - 1)
    parts.append(np.asarray(call(latents[rows])))
  return np.concatenate(parts)[: len(latents)]


def decode_codes(run: Trained, codes: Int[np.ndarray, "sample *grid"]) -> Float[np.ndarray, "sample *space channel"]:
  """Normalised samples of grids of codes."""
  return decode(run, run.built.book.vectors[codes])


def sample(
  run: Trained, labels: Int[np.ndarray, " sample"], *, seed: int, temperature: float | None = None
) -> Float[np.ndarray, "sample *space channel"]:
  """New samples of the prior, one for each class asked for (-1: of any)."""
  if run.prior is None:
    raise InputError("this run has no prior to draw from: add 'prior' to config.stages and repeat the training command")
  codes = draw_codes(run.prior, run.prior_variables, labels, run.config, seed=seed, temperature=temperature)
  return decode_codes(run, codes)


def class_rows(run: Trained, *, each: int) -> Int[np.ndarray, " sample"]:
  """Labels for `each` samples of every class; of any where classes are not given to the prior."""
  classes = len(run.data.train.classes) if run.config.prior.conditional else 0
  return np.repeat(np.arange(classes, dtype=np.int32), each) if classes else np.full(10 * each, -1, np.int32)


class Ways(NamedTuple):
  """Latent grids on the way from one sample to another, both ends included."""

  straight: Float[np.ndarray, "step *grid dim"]
  geodesic: Float[np.ndarray, "step *grid dim"]


def ways(
  run: Trained, start: Float[np.ndarray, "*grid dim"], end: Float[np.ndarray, "*grid dim"], *, steps: int
) -> Ways:  # fmt: skip
  """Straight lines, and shortest paths on the graph of the codebook, place by place of the grid.

  A path goes from a vector to the node that it joins the graph by, along edges, and from the last node to the other
  vector; steps lie evenly along its Euclidean length.
  """
  share = np.linspace(0, 1, steps).reshape(-1, *[1] * start.ndim)
  dim = start.shape[-1]
  pairs = np.stack([start.reshape(-1, dim), end.reshape(-1, dim)])
  nodes = _nodes(run, pairs.reshape(-1, dim)).reshape(2, -1)
  graph = run.built.graph
  paths = geodesic_graph.adjacency(graph)
  found = [
    along([pairs[0, i], *graph.latents[geodesic_graph.path(paths, a, b)], pairs[1, i]], steps=steps)
    for i, (a, b) in enumerate(nodes.T)
  ]
  return Ways((1 - share) * start + share * end, np.stack(found, axis=1).reshape(steps, *start.shape))


def _nodes(run: Trained, vectors: Float[np.ndarray, "vector dim"]) -> Int[np.ndarray, " vector"]:
  """The nearest node of the graph, straight."""
  latents = run.built.graph.latents
  square = np.sum(latents**2, 1)[None] - 2 * vectors @ latents.T
  return square.argmin(1)


def along(points: Sequence[Float[np.ndarray, " dim"]], *, steps: int) -> Float[np.ndarray, "step dim"]:
  """Places at even distances along a line through some points.

  >>> along([np.array([0.0]), np.array([0.0]), np.array([1.0]), np.array([4.0])], steps=3).tolist()
  [[0.0], [2.0], [4.0]]
  """
  line = np.stack(points)
  length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
  at = np.linspace(0, length[-1], steps)
  return np.stack([np.interp(at, length, column) for column in line.T], axis=1).astype(np.float32)


def smoothness(samples: Float[np.ndarray, "step *space channel"]) -> dict[str, float]:
  """How evenly a sequence of samples changes: the length of its way, and the largest step as a share of it."""
  moved = np.sqrt(np.mean(np.square(np.diff(samples, axis=0)), axis=tuple(range(1, samples.ndim))))
  return {"length": float(moved.sum()), "largest_step": float(moved.max() / max(moved.sum(), 1e-12))}
