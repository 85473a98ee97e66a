"""A run of the neural encoder: its data sets, what it learned, and what it predicts."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from behavejax.config import Config
from behavejax.data.neural_batches import neural_eval_batches, predictions
from behavejax.data.neural_prepare import NeuralData, load_scalings, prepare_neural, save_scalings
from behavejax.data.neural_start import start_positions
from behavejax.data.neural_windows import Clips
from behavejax.data.sources import data_root
from behavejax.models.neural_encoder import DataSet, Model, make_model
from behavejax.types import Variables
from behavejax.workdir import Workdir

STAGES = ("readout", "vivit")
"""That learn an encoder, the latest first."""
CONV = "conv3d"
"""The stage that learns the same with another core."""


class Trained(NamedTuple):
  """A finished run; data sets are known by their place in `data`."""

  config: Config
  model: Model
  variables: Variables
  data: tuple[NeuralData, ...]


def prepare(config: Config, workdir: Workdir, *, again: Sequence[str] = ()) -> tuple[NeuralData, ...]:
  """The data sets of a run, scaled as its first stage had them, or as their training trials say where none has begun.

  Args:
    config: of the run.
    workdir: of the run.
    again: stages that are about to be forgotten.

  Raises:
    InputError: whatever is wrong with the recordings, or they are no longer those of the run.
  """
  file, root = scalings_file(workdir), data_root(config.data)
  begun = any(workdir.stage(name).exists() for name in (*STAGES, CONV) if name not in again)
  scalings = list(load_scalings(file).values()) if begun and file.exists() else ()
  return prepare_neural(config.neural, root, config.seed, scalings=scalings)


def keep_scalings(workdir: Workdir, data: Sequence[NeuralData]) -> None:
  """Writes how the data sets are scaled into the folder of a run."""
  save_scalings(scalings_file(workdir), {d.name: d.scaling for d in data})


def scalings_file(workdir: Workdir) -> pathlib.Path:
  return workdir.path / "scalings.npz"


def model_of(config: Config, data: Sequence[NeuralData]) -> Model:
  """The encoder of some data sets; its readouts begin to look where the training counts say (`data.neural_start`)."""
  return make_model(config.vivit, [data_set(d) for d in data])


def data_set(data: NeuralData) -> DataSet:
  """What the network must know of a data set."""
  starts = tuple((float(row), float(column)) for row, column in start_positions(data.train))
  return DataSet(data.train.shape[1:3], data.train.signals, tuple(data.scaling.mean_counts.tolist()), starts)


def with_conv3d(config: Config) -> Config:
  """The config of the stage `conv3d`: another core, all else the same."""
  return dataclasses.replace(config, vivit=dataclasses.replace(config.vivit, core="conv3d"))


def restore(workdir: Workdir, config: Config, *, stage: str = "") -> Trained:
  """What a stage learned, by default the latest that is complete, with its data.

  Raises:
    InputError: no stage is complete, or the data are gone or have changed.
  """
  stage = stage or next((name for name in STAGES if workdir.is_complete(name)), STAGES[-1])
  return with_data(workdir, config, prepare(config, workdir), stage=stage)


def with_data(workdir: Workdir, config: Config, data: tuple[NeuralData, ...], *, stage: str) -> Trained:
  """The same with data that are at hand."""
  model = model_of(config, data)
  return Trained(config, model, workdir.read_result(stage, jax.eval_shape(model.init, jax.random.key(0))), data)


def predict(
  trained: Trained, number: int, clips: Clips, *, behaviour: bool = True
) -> Float[np.ndarray, "frame neuron"]:
  """Expected counts of every frame that the clips predict, NaN elsewhere.

  Args:
    trained: the run.
    number: of the data set.
    clips: of that data set, without overlap.
    behaviour: False puts the mean of the training in its place.
  """
  rates = jax.jit(functools.partial(trained.model.rates, data_set=number))
  found = []
  for batch in neural_eval_batches(clips, batch_size=min(trained.config.evaluation.batch_size, len(clips))):
    shown = batch.behaviour if behaviour else np.zeros_like(batch.behaviour)
    found.append(np.asarray(rates(trained.variables, batch.video, shown)))
  return predictions(clips, found)
