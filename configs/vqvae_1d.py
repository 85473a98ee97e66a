"""nD VQ-VAE over signals: inertial windows -> a code for every few samples -> windows.

  python launch/train.py --config=configs/vqvae_1d.py --workdir=runs/vqvae_1d                 (simulated quadruped)
  BEHAVEJAX_DATA=DIR python launch/train.py --config=configs/vqvae_1d.py:hapt --workdir=runs/vqvae_hapt

Without attention and with batch normalisation a signal of any length is coded as if at once (launch/generate.py).

Arguments, after a colon: quadruped (default), hapt, dsa, tiny.
"""

from collections.abc import Callable

import ml_collections

from behavejax.config import default_config, did_you_mean
from behavejax.errors import InputError


def get_config(arg: str = "quadruped") -> ml_collections.ConfigDict:
  if arg not in ARGUMENTS:
    raise InputError(f"configs/vqvae_1d.py has no argument {arg!r}{did_you_mean(arg, ARGUMENTS)}")
  config = default_config()
  config.stages = ("vqvae",)
  config.frames.name = "recordings"
  config.vqvae.factors = (2,)
  config.vqvae.hidden = 64
  config.vqvae.blocks = 2
  config.vqvae.attention = "none"
  config.quantizer.name = "vq_ema"
  config.quantizer.num_codes = 256
  config.quantizer.groups = 2
  config.quantizer.dim = 8  # 16 would lose a quarter more: a code cannot tell dimensions that matter from others
  config.quantizer.commitment_weight = 0.1
  config.quantizer.entropy_weight = 0.1
  config.loss.quantization = 0.1  # of a sum over dimensions
  config.train.epochs = 30.0
  config.train.weight_decay = 0.0
  config.train.ema_decay = 0.99
  config.train.evaluations = 10
  config.data.window_s = 2.0
  config.data.stride_s = 1.0
  ARGUMENTS[arg](config)
  return config


def quadruped(config: ml_collections.ConfigDict) -> None:
  """Accelerometer and gyroscope of sixteen simulated animals, two codes of 128 a sample; three are held out."""
  config.data.name = "quadruped"
  config.data.channels = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")
  config.data.simulate.subjects = 16
  config.data.simulate.minutes = 3.0
  config.data.val_subjects = ("12", "13")
  config.data.test_subjects = ("14", "15", "16")
  config.vqvae.factors = (1,)
  config.quantizer.num_codes = 128
  config.train.epochs = 12.0


def hapt(config: ml_collections.ConfigDict) -> None:
  """A phone at the waist, test people 26 to 30."""
  config.data.name = "hapt"
  config.data.val_subjects = (22, 23, 25)
  config.data.test_subjects = (26, 27, 28, 29, 30)
  config.train.epochs = 5.0


def dsa(config: ml_collections.ConfigDict) -> None:
  """Daily and sports activities, nine axes on the torso, test people p7 and p8."""
  config.data.name = "recordings"
  config.data.path = "dsa_torso.npz"
  config.data.window_s = 4.0
  config.data.stride_s = 4.0
  config.data.val_subjects = ("p6",)
  config.data.test_subjects = ("p7", "p8")
  config.train.epochs = 10.0


def tiny(config: ml_collections.ConfigDict) -> None:
  """The quadruped run in seconds, for tests."""
  quadruped(config)
  config.data.simulate.subjects = 4
  config.data.simulate.minutes = 1.0
  config.data.val_subjects = ("3",)
  config.data.test_subjects = ("4",)
  config.vqvae.factors = (2,)
  config.vqvae.hidden = 16
  config.vqvae.blocks = 1
  config.quantizer.num_codes = 16
  config.quantizer.groups = 1
  config.quantizer.dim = 8
  config.train.batch_size = 16
  config.train.epochs = 0.0
  config.train.steps = 24
  config.train.steps_per_call = 1
  config.train.evaluations = 3


ARGUMENTS: dict[str, Callable[[ml_collections.ConfigDict], None]] = {
  "quadruped": quadruped,
  "hapt": hapt,
  "dsa": dsa,
  "tiny": tiny,
}
