"""A finished run as a graph, with windows of its data as the graph takes them."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from behavejax.config import Config
from behavejax.data.prepare import Prepared
from behavejax.evaluation.evaluate import restore
from behavejax.export import graph as graph_lib
from behavejax.export.build import build
from behavejax.export.graph import Graph
from behavejax.models.autoencoder import Model
from behavejax.nets.conv2d import amplify
from behavejax.types import Variables
from behavejax.workdir import Workdir


class Trained(NamedTuple):
  """What is exported, and what it was learned from.

  Attributes:
    config: of the run.
    model: as it was trained.
    variables: of the model.
    data: the run's splits.
    graph: of the model, its input divided by `input_scale`.
    input_scale: largest magnitude of each input channel, so that 8 bits serve small and large ones alike.
    calibration: training windows, evenly drawn, as the graph takes them.
  """

  config: Config
  model: Model
  variables: Variables
  data: Prepared
  graph: Graph
  input_scale: Float[np.ndarray, " channel"]
  calibration: Float[np.ndarray, "window height time channel"]


def load_trained(workdir: Workdir, config: Config) -> Trained:
  """Reads the encoder of a run and builds its graph.

  Raises:
    InputError: the encoder is not complete, its data are gone, or it has a part that cannot be exported.
  """
  model, variables, data = restore(workdir, config)
  graph = build(config, variables, shape=data.train.shape)
  chosen = np.linspace(0, len(data.train) - 1, min(config.export.calibration, len(data.train))).round().astype(int)
  windows = amplified(data.train.gather(chosen), gains=config.model.gains)
  scale = np.maximum(np.abs(windows).max(axis=(0, 1, 2)), 1e-6).astype(np.float32)
  graph = graph_lib.with_outputs(graph_lib.scale_input(graph, scale), config.export.outputs)
  return Trained(config, model, variables, data, graph, scale, windows / scale)


def amplified(
  windows: Float[np.ndarray, "window height time channel"], *, gains: Sequence[float]
) -> Float[np.ndarray, "window height time channel"]:
  """Windows with the amplified copies of their signal, before scaling."""
  return np.asarray(jax.jit(lambda x: amplify(x, gains=gains))(jnp.asarray(windows)))
