"""A run is a sequence of stages, each with its own checkpoints, each skipped when it is complete."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax

from behavejax import config as config_lib
from behavejax.config import Config
from behavejax.data.prepare import Prepared, prepare
from behavejax.errors import InputError
from behavejax.training import loop
from behavejax.types import Variables
from behavejax.workdir import Workdir

Stage = Callable[[Config, Prepared, dict[str, Any], Workdir], Variables]


def encoder(config: Config, data: Prepared, learned: dict[str, Any], workdir: Workdir) -> Variables:
  """Encoder, quantizer, decoder and classifier together, by gradient."""
  del learned
  return loop.fit(config, data, workdir.stage("encoder"), workdir.metrics_file, stage="encoder")


STAGES: dict[str, Stage] = {"encoder": encoder}


def run(config: Config, folder: str | pathlib.Path) -> Workdir:
  """Runs every stage of `config.stages` that is not complete yet.

  Args:
    config: resolved configuration.
    folder: of the run; new, empty, or left by an interrupted run of the same config.

  Raises:
    InputError: unusable data or config, or a folder that holds something else.
    loop.Stopped: SIGTERM arrived; everything is saved.
  """
  for name in config.stages:
    if name not in STAGES:
      raise InputError(f"config.stages holds {name!r}, which is no stage{config_lib.did_you_mean(name, STAGES)}")
  data = prepare(config.data, config.seed)
  workdir = Workdir(folder)
  if jax.process_index() == 0:
    workdir.start(config)
    data.normalization.save(workdir.normalization_file)
  learned: dict[str, Any] = {}
  for name in config.stages:
    if workdir.is_complete(name):
      continue
    learned[name] = STAGES[name](config, data, learned, workdir)
    workdir.write_result(name, learned[name], {"stage": name})
  return workdir
