"""A finished run as a graph, with windows of its data as the graph takes them."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from behavejax.config import Config
from behavejax.data.normalization import Normalization
from behavejax.data.prepare import Prepared
from behavejax.data.windows import Windows
from behavejax.errors import InputError
from behavejax.evaluation.evaluate import restore
from behavejax.export import graph as graph_lib
from behavejax.export.build import build
from behavejax.export.graph import Graph
from behavejax.models.autoencoder import Model
from behavejax.nets.conv2d import amplify
from behavejax.types import Variables
from behavejax.workdir import Workdir

_AT_ONCE = 512  # windows


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
  """Reads the encoder of a run and builds its graph, which computes in float32 whatever it was trained in.

  Raises:
    InputError: the encoder is not complete, its data are gone, or it has a part that cannot be exported.
  """
  if config.data.devices > 1:
    raise InputError(
      f"config.data.devices={config.data.devices} cannot be exported: the runtime reads one device; train on the "
      "channels of one, named in config.data.channels, with config.data.devices=1"
    )
  config = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype="float32"))
  model, variables, data = restore(workdir, config)
  check_normalization(workdir, data)
  scale = input_scale(data.train, gains=config.model.gains)
  graph = graph_lib.scale_input(build(config, variables, shape=data.train.shape), scale)
  chosen = np.linspace(0, len(data.train) - 1, min(config.export.calibration, len(data.train))).round().astype(int)
  windows = amplified(data.train.gather(chosen), gains=config.model.gains) / scale
  return Trained(config, model, variables, data, graph_lib.with_outputs(graph, config.export.outputs), scale, windows)


def check_normalization(workdir: Workdir, data: Prepared) -> None:
  """Raises `InputError` where the data are no longer those that the run was trained on."""
  then, now = Normalization.load(workdir.normalization_file), data.normalization
  for i, channel in enumerate(now.channels):
    was, found = ((float(n.mean[i]), float(n.std[i])) for n in (then, now))
    if not np.allclose(was, found, rtol=1e-4, atol=1e-6 * max(then.std[i], 1e-30)):
      raise InputError(
        f"the data have changed since {workdir.path} was trained: channel {channel} had mean {was[0]:g} and std "
        f"{was[1]:g}, now {found[0]:g} and {found[1]:g}"
      )


def input_scale(windows: Windows, *, gains: Sequence[float]) -> Float[np.ndarray, " channel"]:
  """Largest magnitude of every channel of the graph's input over all windows; nothing that a config may change."""
  largest = [
    np.abs(amplified(windows.gather(np.arange(i, min(i + _AT_ONCE, len(windows)))), gains=gains)).max(axis=(0, 1, 2))
    for i in range(0, len(windows), _AT_ONCE)
  ]
  return np.maximum(np.max(largest, axis=0), 1e-6).astype(np.float32)


def amplified(
  windows: Float[np.ndarray, "window height time channel"], *, gains: Sequence[float]
) -> Float[np.ndarray, "window height time channel"]:
  """Windows with the amplified copies of their signal, before scaling."""
  return np.asarray(jax.jit(lambda x: amplify(x, gains=gains))(jnp.asarray(windows)))
