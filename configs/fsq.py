"""Conv2d-FSQ: inertial windows -> discrete tokens -> behaviour.

  python launch/train.py --config=configs/fsq.py --workdir=runs/fsq                      (simulated quadruped)
  BEHAVEJAX_DATA=DIR python launch/train.py --config=configs/fsq.py:hapt --workdir=runs/hapt

Arguments, after a colon: quadruped (default), basic_motions, hapt, dsa, classic, tiny.
"""

from collections.abc import Callable

import ml_collections

from behavejax.config import default_config, did_you_mean
from behavejax.errors import InputError


def get_config(arg: str = "quadruped") -> ml_collections.ConfigDict:
  if arg not in ARGUMENTS:
    raise InputError(f"configs/fsq.py has no argument {arg!r}{did_you_mean(arg, ARGUMENTS)}")
  config = default_config()
  ARGUMENTS[arg](config)
  return config


def quadruped(config: ml_collections.ConfigDict) -> None:
  """Ten behaviours of eight simulated animals; two animals are held out for the test."""
  config.data.name = "quadruped"
  config.data.val_subjects = ("6",)
  config.data.test_subjects = ("7", "8")
  config.data.window_s = 2.0
  config.data.stride_s = 1.0
  _wearing(config)
  config.train.epochs = 30.0


def hapt(config: ml_collections.ConfigDict) -> None:
  """Twelve activities of people with a phone at the waist, test people 26 to 30: accuracy 0.95, macro-F1 0.82."""
  config.data.name = "hapt"
  config.data.window_s = 2.0
  config.data.stride_s = 1.0
  config.data.val_subjects = (22, 23, 25)
  config.data.test_subjects = (26, 27, 28, 29, 30)
  _wearing(config)
  config.model.token_stride = 2
  config.train.epochs = 12.0
  config.train.evaluations = 6


def dsa(config: ml_collections.ConfigDict) -> None:
  """Nineteen daily and sports activities, nine axes on the torso, test people p7 and p8."""
  config.data.name = "recordings"
  config.data.path = "dsa_torso.npz"
  config.data.window_s = 4.0
  config.data.stride_s = 2.0
  config.data.val_subjects = ("p6",)
  config.data.test_subjects = ("p7", "p8")
  _wearing(config)
  config.model.token_stride = 2
  config.train.epochs = 8.0
  config.train.evaluations = 8


def _wearing(config: ml_collections.ConfigDict) -> None:
  """How the same sensor differs from subject to subject. Noise would hide the sway of one that stands still."""
  config.augment.rotation_deg = 20.0
  config.augment.scale = 0.1
  config.augment.time_warp = 0.1


def basic_motions(config: ml_collections.ConfigDict) -> None:
  """Eighty wrist recordings of ten seconds, four activities (in the package aeon)."""
  config.data.name = "basic_motions"
  config.data.window_s = 4.0
  config.data.stride_s = 1.0
  config.train.epochs = 20.0


def classic(config: ml_collections.ConfigDict) -> None:
  """The predecessor's network: 32-64-128 filters of width 5, one code per window, 4 800 codes."""
  quadruped(config)
  config.model.gains = ()
  config.model.widths = (32, 64, 128)
  config.model.kernel = 5
  config.model.dilations = ()
  config.model.token_stride = 1
  config.model.pool = "window"
  config.model.classifier_hidden = 256
  config.model.classifier_dilations = ()
  config.quantizer.levels = (8, 6, 5, 5, 4)


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
  config.quantizer.levels = (4, 4, 4)
  config.train.batch_size = 16
  config.train.epochs = 0.0
  config.train.steps = 24
  config.train.steps_per_call = 2
  config.train.evaluations = 3
  config.evaluation.random_forest = False
  config.evaluation.embedding = "pca"


ARGUMENTS: dict[str, Callable[[ml_collections.ConfigDict], None]] = {
  "quadruped": quadruped,
  "basic_motions": basic_motions,
  "hapt": hapt,
  "dsa": dsa,
  "classic": classic,
  "tiny": tiny,
}
