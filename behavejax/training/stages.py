"""A run is a sequence of stages, each with its own checkpoints, each skipped when it is complete."""

import functools
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from behavejax import config as config_lib
from behavejax.config import Config, SegmentationConfig
from behavejax.data.prepare import Prepared, prepare
from behavejax.errors import InputError
from behavejax.evaluation.neural_run import with_conv3d
from behavejax.evaluation.steps import load_steps, mixture_clusters
from behavejax.export.run_jax import Parameters
from behavejax.models import syllables
from behavejax.segmentation.learning import Learned
from behavejax.training import finetune, geodesic, loop, neural, qat, segmentation, vqvae
from behavejax.types import Variables
from behavejax.workdir import Workdir

Stage = Callable[[Config, Prepared | None, dict[str, Any], Workdir], Any]
_WINDOWS = ("encoder",)
"""Stages that learn from windows; the others prepare what they need."""
_NEEDS = {
  "finetune": ("encoder", "hsmm"),
  "qat": ("encoder",),
  "codebook": ("vae",),
  "prior": ("vae", "codebook"),
  "generate": ("vae", "codebook", "prior"),
}
"""Stages that a stage cannot do without."""


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


def vae(config: Config, data: Prepared | None, learned: dict[str, Any], workdir: Workdir) -> Variables:
  """Variational autoencoder of samples, whose latent vectors a codebook is built on."""
  del data, learned
  return geodesic.fit_vae(config, workdir)


def codebook(config: Config, data: Prepared | None, learned: dict[str, Any], workdir: Workdir) -> Variables:
  """Codes of latent vectors, by k-medoids along the graph or straight, or k-means."""
  del data, learned
  return geodesic.fit_codebook(config, workdir)


def prior(config: Config, data: Prepared | None, learned: dict[str, Any], workdir: Workdir) -> Variables:
  """Transformer over the codes of a sample."""
  del data, learned
  return geodesic.fit_prior(config, workdir)


def generate(config: Config, data: Prepared | None, learned: dict[str, Any], workdir: Workdir) -> Variables:
  """Samples of the prior, and the classifier whose features judge them."""
  del data, learned
  return geodesic.fit_judge(config, workdir)


def samples_autoencoder(config: Config, data: Prepared | None, learned: dict[str, Any], workdir: Workdir) -> Variables:
  """The autoencoder of signals, images and video, on the samples of `config.frames`."""
  del data, learned
  return vqvae.fit(config, workdir)


def vivit(
  config: Config,
  data: Prepared | None,
  learned: dict[str, Any],
  workdir: Workdir,
  *,
  on_evaluation: loop.OnEvaluation | None = None,
) -> Variables:
  """Video and behaviour to spikes: core, modulator and a readout for each recording."""
  del data, learned
  return neural.fit(config, workdir, on_evaluation=on_evaluation)


def conv3d(config: Config, data: Prepared | None, learned: dict[str, Any], workdir: Workdir) -> Variables:
  """The same with a core of 3D convolutions, to be compared with."""
  del data, learned
  return neural.fit(with_conv3d(config), workdir, stage="conv3d")


def readout(config: Config, data: Prepared | None, learned: dict[str, Any], workdir: Workdir) -> Variables:
  """New readouts on the core of a finished run."""
  del data, learned
  return neural.fit_readouts(config, workdir)


STAGES: dict[str, Stage] = {
  "encoder": encoder,
  "vae": vae,
  "codebook": codebook,
  "prior": prior,
  "generate": generate,
  "hdp": hdp,
  "hmm": hmm,
  "hsmm": hsmm,
  "finetune": finetune_jointly,
  "qat": finetune_int8,
  "vqvae": samples_autoencoder,
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
  for name in config.stages:
    if name not in STAGES:
      raise InputError(f"config.stages holds {name!r}, which is no stage{config_lib.did_you_mean(name, STAGES)}")
  if restart_from and restart_from not in config.stages:
    raise InputError(
      f"--restart_from={restart_from} is not in config.stages{config_lib.did_you_mean(restart_from, config.stages)}"
    )
  for name in skip:
    if name not in config.stages:
      raise InputError(f"--skip={name} is not in config.stages{config_lib.did_you_mean(name, config.stages)}")
  if restart_from in skip:
    raise InputError(f"--restart_from={restart_from} and --skip={restart_from} say the opposite")
  wanted = [name for name in config.stages if name not in skip]
  data = prepare(config.data, config.seed) if set(wanted) & set(_WINDOWS) else None
  workdir = Workdir(folder)
  if jax.process_index() == 0:
    workdir.start(config, again=_from(restart_from, config.stages) if restart_from else ())
    if data is not None:
      data.normalization.save(workdir.normalization_file)
  functions = {**STAGES, **{name: functools.partial(STAGES[name], on_evaluation=on_evaluation) for name in JUDGED}}
  learned: dict[str, Any] = {}
  for name in wanted:
    if workdir.is_complete(name):
      continue
    for earlier in _NEEDS.get(name, ()):
      if not workdir.is_complete(earlier):
        raise InputError(f"stage {name!r} needs {earlier!r}, which is not complete: do not --skip it")
    learned[name] = _timed(functions[name], config, data, learned, workdir, name)
  return workdir


def _from(name: str, order: Sequence[str]) -> tuple[str, ...]:
  """A stage and all that may rest on it: those after it, in this run and in runs that had more stages."""
  known = tuple(STAGES)
  return tuple(dict.fromkeys([*order[order.index(name) :], *known[known.index(name) :]]))


def _timed(
  stage: Stage, config: Config, data: Prepared | None, learned: dict[str, Any], workdir: Workdir, name: str
) -> Any:
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
