"""A run is a sequence of stages, each with its own checkpoints, each skipped when it is complete."""

import functools
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from behavejax import config as config_lib
from behavejax.config import Config, SegmentationConfig
from behavejax.data.neural_prepare import NeuralData
from behavejax.data.prepare import Prepared, prepare
from behavejax.errors import InputError
from behavejax.evaluation import neural_run
from behavejax.evaluation.steps import load_steps, mixture_clusters
from behavejax.export.run_jax import Parameters
from behavejax.models import syllables
from behavejax.segmentation.learning import Learned
from behavejax.training import finetune, loop, neural, qat, segmentation
from behavejax.types import Variables
from behavejax.workdir import Workdir

Stage = Callable[[Config, Any, dict[str, Any], Workdir], Any]
_WINDOWS = ("encoder",)
_RECORDINGS = ("vivit", "conv3d", "readout")
"""Stages that learn from windows, and from neural recordings; the others prepare what they need."""


def encoder(
  config: Config,
  data: Prepared,
  learned: dict[str, Any],
  workdir: Workdir,
  *,
  on_evaluation: loop.OnEvaluation | None = None,
) -> Variables:
  """Encoder, quantizer, decoder and classifier together, by gradient."""
  del learned
  folder = workdir.stage("encoder")
  return loop.fit(config, data, folder, workdir.metrics_file, stage="encoder", on_evaluation=on_evaluation)


def hsmm(config: Config, data: Prepared | None, learned: dict[str, Any], workdir: Workdir) -> Learned:
  """HDP-HSMM over the codes of the encoder, or over features of the recordings.

  Where the run has clusters of single steps, one of its starts begins from them.
  """
  del data, learned
  return _segmentation(config, config.segmentation, workdir, "hsmm")


def hmm(config: Config, data: Prepared | None, learned: dict[str, Any], workdir: Workdir) -> Learned:
  """The same with geometric durations, for comparison."""
  del data, learned
  return _segmentation(config, syllables.plain_hmm(config.segmentation), workdir, "hmm")


def hdp(config: Config, data: Prepared | None, learned: dict[str, Any], workdir: Workdir) -> Learned:
  """HDP mixture: clusters of single steps, with weights of their own for every subject."""
  del data, learned
  _, steps = load_steps(workdir, config)
  return segmentation.fit(
    config, syllables.mixture_of(config.segmentation, steps), steps, workdir.stage("hdp"), workdir.metrics_file,
    stage="hdp", mixture=True,
  )  # fmt: skip


def _segmentation(config: Config, settings: SegmentationConfig, workdir: Workdir, stage: str) -> Learned:
  _, steps = load_steps(workdir, config)
  clusters = mixture_clusters(workdir, config, steps) if workdir.is_complete("hdp") else None
  return segmentation.fit(
    config, settings, steps, workdir.stage(stage), workdir.metrics_file, stage=stage, clusters=clusters
  )  # fmt: skip


def finetune_int8(config: Config, data: Prepared | None, learned: dict[str, Any], workdir: Workdir) -> Parameters:
  """The encoder's static graph under 8-bit arithmetic, for export."""
  del data, learned
  return qat.fit(config, workdir)


def finetune_jointly(config: Config, data: Prepared | None, learned: dict[str, Any], workdir: Workdir) -> Variables:
  """Encoder and syllables together, with the likelihood of the syllables in the loss."""
  del data, learned
  return finetune.fit(config, workdir)


def vivit(
  config: Config,
  data: Sequence[NeuralData],
  learned: dict[str, Any],
  workdir: Workdir,
  *,
  on_evaluation: loop.OnEvaluation | None = None,
) -> Variables:
  """Video and behaviour to spikes: core, modulator and a readout for each recording."""
  del learned
  return neural.fit(config, data, workdir, on_evaluation=on_evaluation)


def conv3d(config: Config, data: Sequence[NeuralData], learned: dict[str, Any], workdir: Workdir) -> Variables:
  """The same with a core of 3D convolutions, to be compared with."""
  del learned
  return neural.fit(neural_run.with_conv3d(config), data, workdir, stage="conv3d")


def readout(config: Config, data: Sequence[NeuralData], learned: dict[str, Any], workdir: Workdir) -> Variables:
  """New readouts on the core of a finished run."""
  del learned
  return neural.fit_readouts(config, data, workdir)


STAGES: dict[str, Stage] = {
  "encoder": encoder,
  "hdp": hdp,
  "hmm": hmm,
  "hsmm": hsmm,
  "finetune": finetune_jointly,
  "qat": finetune_int8,
  "vivit": vivit,
  "conv3d": conv3d,
  "readout": readout,
}
JUDGED = ("encoder", "vivit")
"""Stages whose evaluations a sweep judges by."""


def run(
  config: Config,
  folder: str | pathlib.Path,
  *,
  restart_from: str = "",
  on_evaluation: loop.OnEvaluation | None = None,
) -> Workdir:
  """Runs every stage of `config.stages` that is not complete yet.

  Args:
    config: resolved configuration.
    folder: of the run; new, empty, or left by an interrupted run of the same config.
    restart_from: this stage and those after it are run again, or forgotten where the list no longer has them;
      settings that only they use may be new ones.
    on_evaluation: told of each evaluation of the stages in `JUDGED`; what it raises ends the run.

  Raises:
    InputError: unusable data or config, or a folder that holds something else.
    loop.Stopped: SIGTERM arrived; everything is saved.
  """
  for name in config.stages:
    if name not in STAGES:
      raise InputError(f"config.stages holds {name!r}, which is no stage{config_lib.did_you_mean(name, STAGES)}")
  if restart_from and restart_from not in config.stages:
    raise InputError(
      f"--restart_from={restart_from} is not in config.stages{config_lib.did_you_mean(restart_from, config.stages)}"
    )
  data = prepare(config.data, config.seed) if set(config.stages) & set(_WINDOWS) else None
  workdir = Workdir(folder)
  neural_stages = set(config.stages) & set(_RECORDINGS)
  new = not workdir.config_file.exists()  # then what is wrong with the data is said before anything is written
  if "readout" in neural_stages and config.readout.workdir:
    neural.core_source(config, workdir)
  recordings = neural_run.prepare(config, workdir) if neural_stages and new else None
  if jax.process_index() == 0:
    workdir.start(config, again=_from(restart_from, config.stages) if restart_from else ())
    if data is not None:
      data.normalization.save(workdir.normalization_file)
  if neural_stages and not all(workdir.is_complete(name) for name in neural_stages):
    recordings = recordings or neural_run.prepare(config, workdir)
    if jax.process_index() == 0:
      neural_run.keep_scalings(workdir, recordings)
  functions = {**STAGES, **{name: functools.partial(STAGES[name], on_evaluation=on_evaluation) for name in JUDGED}}
  learned: dict[str, Any] = {}
  for name in config.stages:
    if workdir.is_complete(name):
      continue
    given = recordings if name in _RECORDINGS else data
    learned[name] = _timed(functions[name], config, given, learned, workdir, name)
  return workdir


def _from(name: str, order: Sequence[str]) -> tuple[str, ...]:
  """A stage and all that may rest on it: those after it, in this run and in runs that had more stages."""
  known = tuple(STAGES)
  return tuple(dict.fromkeys([*order[order.index(name) :], *known[known.index(name) :]]))


def _timed(stage: Stage, config: Config, data: Any, learned: dict[str, Any], workdir: Workdir, name: str) -> Any:
  """Runs a stage and marks it complete, with the seconds that it took since it was last begun."""
  begin = time.monotonic()
  result = stage(config, data, learned, workdir)
  workdir.write_result(name, result, {"stage": name, "seconds": round(time.monotonic() - begin, 1)})
  return result


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
    _timed(STAGES[name], config, None, {}, workdir, name)
  return workdir
