"""A run is a sequence of stages, each with its own checkpoints, each skipped when it is complete."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax

from behavejax import config as config_lib
from behavejax.config import Config, SegmentationConfig
from behavejax.data.prepare import Prepared, prepare
from behavejax.errors import InputError
from behavejax.evaluation.segment import load_steps
from behavejax.export.run_jax import Parameters
from behavejax.models import syllables
from behavejax.segmentation.learning import Learned
from behavejax.training import loop, qat, segmentation
from behavejax.types import Variables
from behavejax.workdir import Workdir

Stage = Callable[[Config, Prepared | None, dict[str, Any], Workdir], Any]
_WINDOWS = ("encoder",)
"""Stages that learn from windows; the others prepare what they need."""


def encoder(config: Config, data: Prepared, learned: dict[str, Any], workdir: Workdir) -> Variables:
  """Encoder, quantizer, decoder and classifier together, by gradient."""
  del learned
  return loop.fit(config, data, workdir.stage("encoder"), workdir.metrics_file, stage="encoder")


def hsmm(config: Config, data: Prepared | None, learned: dict[str, Any], workdir: Workdir) -> Learned:
  """HDP-HSMM over the codes of the encoder, or over features of the recordings."""
  del data, learned
  return _segmentation(config, config.segmentation, workdir, "hsmm")


def hmm(config: Config, data: Prepared | None, learned: dict[str, Any], workdir: Workdir) -> Learned:
  """The same with geometric durations, for comparison."""
  del data, learned
  return _segmentation(config, syllables.plain_hmm(config.segmentation), workdir, "hmm")


def hdp(config: Config, data: Prepared | None, learned: dict[str, Any], workdir: Workdir) -> Learned:
  """HDP mixture: clusters of single steps, with weights of their own for every subject."""
  del data, learned
  return _segmentation(config, config.segmentation, workdir, "hdp")


def _segmentation(config: Config, settings: SegmentationConfig, workdir: Workdir, stage: str) -> Learned:
  _, steps = load_steps(workdir, config)
  folder = workdir.stage(stage)
  return segmentation.fit(
    config, settings, steps, folder, workdir.metrics_file, stage=stage, mixture=stage == "hdp"
  )  # fmt: skip


def finetune_int8(config: Config, data: Prepared | None, learned: dict[str, Any], workdir: Workdir) -> Parameters:
  """The encoder's static graph under 8-bit arithmetic, for export."""
  del data, learned
  return qat.fit(config, workdir)


STAGES: dict[str, Stage] = {"encoder": encoder, "hdp": hdp, "hmm": hmm, "hsmm": hsmm, "qat": finetune_int8}


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
  data = prepare(config.data, config.seed) if set(config.stages) & set(_WINDOWS) else None
  workdir = Workdir(folder)
  if jax.process_index() == 0:
    workdir.start(config)
    if data is not None:
      data.normalization.save(workdir.normalization_file)
  learned: dict[str, Any] = {}
  for name in config.stages:
    if workdir.is_complete(name):
      continue
    learned[name] = STAGES[name](config, data, learned, workdir)
    workdir.write_result(name, learned[name], {"stage": name})
  return workdir


def add(folder: str | pathlib.Path, name: str) -> Workdir:
  """Runs one more stage on a finished run, with that run's config, unless it is complete.

  Raises:
    InputError: the folder holds no run, or its encoder is not complete.
    loop.Stopped: SIGTERM arrived; everything is saved.
  """
  workdir = Workdir(folder)
  config = workdir.read_config()
  for earlier in config.stages:
    if earlier != name and not workdir.is_complete(earlier):
      raise InputError(f"stage {earlier!r} of {workdir.path} is not complete; repeat the command to finish it")
  if not workdir.is_complete(name):
    workdir.write_result(name, STAGES[name](config, None, {}, workdir), {"stage": name})
  return workdir
