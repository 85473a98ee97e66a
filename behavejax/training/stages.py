"""A run is a sequence of stages, each with its own checkpoints, each skipped when it is complete."""

import functools
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from behavejax import config as config_lib
from behavejax.config import Config, SegmentationConfig
from behavejax.config_checks import SEGMENTING
from behavejax.data.prepare import Prepared, prepare
from behavejax.errors import InputError
from behavejax.evaluation.steps import load_steps, mixture_clusters
from behavejax.evaluation.tokens import has_codes
from behavejax.models import syllables
from behavejax.segmentation.learning import Learned
from behavejax.training import finetune, geodesic, loop, neural, parallel, qat, segmentation, vqvae
from behavejax.types import Variables
from behavejax.workdir import Workdir

Stage = Callable[..., Any]
"""`(config, workdir) -> what is to be kept`; with `data=` where `DATA` has an entry, and with `on_evaluation=` where
`JUDGED` names it."""
_NEEDS = {
  "finetune": ("encoder", "hsmm"),
  "qat": ("encoder",),
  "codebook": ("vae",),
  "prior": ("vae", "codebook"),
  "generate": ("vae", "codebook", "prior"),
}
"""Stages that a stage cannot do without."""


def encoder(
  config: Config, workdir: Workdir, *, data: Prepared, on_evaluation: loop.OnEvaluation | None = None
) -> Variables:
  """Encoder, quantizer, decoder and classifier together, by gradient, on windows of recordings."""
  if jax.process_index() == 0:
    data.normalization.save(workdir.normalization_file)
  folder = workdir.stage("encoder")
  return loop.fit(config, data, folder, workdir.metrics_file, stage="encoder", on_evaluation=on_evaluation)


def hsmm(config: Config, workdir: Workdir) -> Learned:
  """HDP-HSMM over the codes of the encoder, or over features of the recordings.

  Where the run has clusters of single steps, one of its starts begins from them.
  """
  return _segmentation(config, config.segmentation, workdir, "hsmm")


def hmm(config: Config, workdir: Workdir) -> Learned:
  """The same with geometric durations, for comparison."""
  return _segmentation(config, syllables.plain_hmm(config.segmentation), workdir, "hmm")


def hdp(config: Config, workdir: Workdir) -> Learned:
  """HDP mixture: clusters of single steps, with weights of their own for every subject."""
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


STAGES: dict[str, Stage] = {
  "encoder": encoder,
  "vae": geodesic.fit_vae,
  "codebook": geodesic.fit_codebook,
  "prior": geodesic.fit_prior,
  "generate": geodesic.fit_judge,
  "hdp": hdp,
  "hmm": hmm,
  "hsmm": hsmm,
  "finetune": finetune.fit,
  "qat": qat.fit,
  "vqvae": vqvae.fit,
  "vivit": neural.fit,
  "conv3d": neural.fit_convolutions,
  "readout": neural.fit_readouts,
}
JUDGED = ("encoder", "vqvae", "vivit")
"""Stages whose evaluations a sweep judges by."""


def _windows(config: Config, workdir: Workdir, again: Sequence[str]) -> Prepared:
  del workdir, again
  data = prepare(config.data, config.seed)
  parallel.check_batch_size(config.train.batch_size)
  loop.build(config, data.train)  # settings that no model can be made of
  return data


DATA: dict[str, Callable[[Config, Workdir, Sequence[str]], Any]] = {
  "encoder": _windows,
  "vae": geodesic.prepare,
  "vqvae": vqvae.prepare,
  "vivit": neural.prepare,
  "conv3d": neural.prepare,
  "readout": neural.prepare,
}
"""What a stage learns from, made before a file of the run is written, so that unusable data leave none. The last
argument are stages that are about to be forgotten. Other stages go on from what those before them have left."""


def run(
  config: Config,
  folder: str | pathlib.Path,
  *,
  restart_from: str = "",
  skip: Sequence[str] = (),
  on_evaluation: loop.OnEvaluation | None = None,
) -> Workdir:
  """Runs every stage of `config.stages` that is not complete yet.

  Args:
    config: resolved configuration.
    folder: of the run; new, empty, or left by an interrupted run of the same config.
    restart_from: this stage and those after it are run again, or forgotten where the list no longer has them;
      settings that only they use may be new ones.
    skip: stages that are left as they are, complete or not.
    on_evaluation: told of each evaluation of the stages in `JUDGED`; what it raises ends the run.

  Raises:
    InputError: unusable data or config, or a folder that holds something else.
    loop.Stopped: SIGTERM arrived; everything is saved.
  """
  _check_names(config, restart_from, skip)
  workdir, wanted = Workdir(folder), [name for name in config.stages if name not in skip]
  again = _from(restart_from, config.stages) if restart_from else ()
  if jax.process_index() == 0:
    workdir.check(config, again=again)
  awaited = [name for name in wanted if name in again or not workdir.is_complete(name)]
  _check_needs(config.stages, awaited, {name for name in STAGES if workdir.is_complete(name)} - set(again))
  data = _prepared(config, workdir, awaited, again)
  if jax.process_index() == 0:
    workdir.start(config, again=again)
  parallel.meet("start")
  for name in awaited:
    judged = {"on_evaluation": on_evaluation} if name in JUDGED else {}
    _timed(config, workdir, name, **data[name], **judged)
  return workdir


def _check_names(config: Config, restart_from: str, skip: Sequence[str]) -> None:
  for name in config.stages:
    if name not in STAGES:
      raise InputError(f"config.stages holds {name!r}, which is no stage{config_lib.did_you_mean(name, STAGES)}")
  for flag, name in (("restart_from", restart_from), *(("skip", name) for name in skip)):
    if name and name not in config.stages:
      raise InputError(f"--{flag}={name} is not in config.stages{config_lib.did_you_mean(name, config.stages)}")
  if restart_from in skip:
    raise InputError(f"--restart_from={restart_from} and --skip={restart_from} say the opposite")


def _check_needs(stages: Sequence[str], awaited: Sequence[str], complete: set[str]) -> None:
  """Raises `InputError` for a stage that would begin without what it rests on; nothing was done by then."""
  codes = tuple(name for name in ("encoder", "codebook") if name in stages)
  for i, name in enumerate(awaited):
    for earlier in codes if name in SEGMENTING else _NEEDS.get(name, ()):
      if earlier not in complete and earlier not in awaited[:i]:
        raise InputError(f"stage {name!r} needs {earlier!r}, which is not complete: do not --skip it")


def _from(name: str, order: Sequence[str]) -> tuple[str, ...]:
  """A stage and all that may rest on it: those after it, in this run and in runs that had more stages."""
  known = tuple(STAGES)
  return tuple(dict.fromkeys([*order[order.index(name) :], *known[known.index(name) :]]))


def _prepared(
  config: Config, workdir: Workdir, names: Sequence[str], again: Sequence[str]
) -> dict[str, dict[str, Any]]:
  """The keyword `data` of each stage that takes it, made once for all that share it."""
  made = functools.cache(lambda make: make(config, workdir, again))
  return {name: {"data": made(DATA[name])} if name in DATA else {} for name in names}


def _timed(config: Config, workdir: Workdir, name: str, **given: Any) -> None:
  """Runs a stage and marks it complete, with the seconds that it took since it was last begun."""
  begin = time.monotonic()
  result = STAGES[name](config, workdir, **given)
  workdir.write_result(name, result, {"stage": name, "seconds": round(time.monotonic() - begin, 1)})
  parallel.meet(name)


def add(folder: str | pathlib.Path, name: str) -> Workdir:
  """Runs one more stage on a finished run, with that run's config, unless it is complete.

  Raises:
    InputError: the folder holds no run, one that is not complete, or one without codes for a segmentation.
    loop.Stopped: SIGTERM arrived; everything is saved.
  """
  workdir = Workdir(folder)
  config = workdir.read_config()
  for earlier in config.stages:
    if earlier != name and not workdir.is_complete(earlier):
      raise InputError(f"stage {earlier!r} of {workdir.path} is not complete; repeat the command to finish it")
  if name in SEGMENTING and name not in config.stages and not has_codes(workdir):
    raise InputError(
      f"{workdir.path} holds no codes of recordings, which 'encoder' or 'codebook' make; its stages are "
      f"{', '.join(config.stages)}. Features are segmented with --config=configs/hsmm.py in another folder"
    )
  if not workdir.is_complete(name):
    _timed(config, workdir, name, **_prepared(config, workdir, [name], ())[name])
  return workdir
