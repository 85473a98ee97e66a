"""Conv2d-VQ-HDP-HSMM: windows -> codes -> clusters -> syllables with durations, then all of it together.

  python launch/train.py --config=configs/vq_hdp_hsmm.py --workdir=runs/vq                   (simulated quadruped)
  BEHAVEJAX_DATA=DIR python launch/train.py --config=configs/vq_hdp_hsmm.py:hapt --workdir=runs/vq_hapt

Stages: `encoder` learns codes and behaviours, `hdp` clusters single steps of codes with every animal's own weights,
`hsmm` learns syllables over whole recordings, `finetune` lets their likelihood teach the encoder. Each is skipped when
it is complete; --restart_from=hsmm runs that and what follows again.

Arguments, after a colon: quadruped (default), hapt, pair, tiny.
"""

from collections.abc import Callable

import ml_collections

from behavejax.config import default_config, did_you_mean
from behavejax.errors import InputError


def get_config(arg: str = "quadruped") -> ml_collections.ConfigDict:
  if arg not in ARGUMENTS:
    raise InputError(f"configs/vq_hdp_hsmm.py has no argument {arg!r}{did_you_mean(arg, ARGUMENTS)}")
  config = default_config()
  config.stages = ("encoder", "hdp", "hsmm", "finetune")
  config.quantizer.name = "vq_ema"
  config.quantizer.num_codes = 256
  config.quantizer.entropy_weight = 1.0
  config.train.keep_by = "loss"  # later stages live on the codes, not on the labels of a few subjects
  config.augment.rotation_deg = 20.0
  config.augment.scale = 0.1
  config.augment.time_warp = 0.1
  config.data.window_s = 2.0
  config.data.stride_s = 1.0
  ARGUMENTS[arg](config)
  return config


def quadruped(config: ml_collections.ConfigDict) -> None:
  """Ten behaviours of eight simulated animals; two animals are held out for the test."""
  config.data.name = "quadruped"
  config.data.val_subjects = ("6",)
  config.data.test_subjects = ("7", "8")


def hapt(config: ml_collections.ConfigDict) -> None:
  """Twelve activities of people with a phone at the waist, test people 26 to 30."""
  config.data.name = "hapt"
  config.data.val_subjects = (22, 23, 25)
  config.data.test_subjects = (26, 27, 28, 29, 30)
  config.model.token_stride = 2
  config.loss.reconstruction = 0.1  # at 1 codes divide postures by how the phone sits, and so do the syllables
  config.segmentation.max_duration_s = 60.0
  config.segmentation.min_duration_s = 1.0  # else the halves of a folded window may take turns as two states
  config.segmentation.temperature = 25.0  # codes per second: neighbouring half seconds say nearly the same
  config.segmentation.restarts = 8  # with 4 the states of two encoders agree a little less
  config.finetune.learning_rate = 1e-4  # at 2e-4 one seed of five loses half a point of accuracy
  config.train.epochs = 12.0
  config.train.evaluations = 6


def pair(config: ml_collections.ConfigDict) -> None:
  """Two simulated animals at once, the second of which follows the first: a report of their synchrony."""
  config.data.name = "pair"
  config.data.fold = False
  config.data.devices = 2
  config.data.val_subjects = ("6",)
  config.data.test_subjects = ("7", "8")
  config.stages = ("encoder", "hdp", "hsmm")


def tiny(config: ml_collections.ConfigDict) -> None:
  """The quadruped run in seconds, for tests."""
  quadruped(config)
  config.data.simulate.subjects = 4
  config.data.simulate.minutes = 1.0
  config.data.val_subjects = ("3",)
  config.data.test_subjects = ("4",)
  config.model.widths = (8, 16)
  config.model.dilations = (1,)
  config.model.decoder_widths = (8,)
  config.model.classifier_hidden = 16
  config.model.classifier_dilations = ()
  config.quantizer.num_codes = 16
  config.quantizer.dim = 4
  config.train.batch_size = 16
  config.train.epochs = 0.0
  config.train.steps = 24
  config.train.steps_per_call = 2
  config.train.evaluations = 3
  config.segmentation.states = 5
  config.segmentation.max_duration_s = 4.0
  config.segmentation.restarts = 2
  config.segmentation.iterations = 4
  config.finetune.epochs = 0.0
  config.finetune.steps = 4
  config.finetune.evaluations = 2
  config.finetune.windows = 4
  config.finetune.batch_size = 8
  config.evaluation.random_forest = False
  config.evaluation.embedding = "pca"


ARGUMENTS: dict[str, Callable[[ml_collections.ConfigDict], None]] = {
  "quadruped": quadruped,
  "hapt": hapt,
  "pair": pair,
  "tiny": tiny,
}
