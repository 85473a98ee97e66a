"""nD VQ-VAE over video: a code for every few pixels of every few frames.

  python launch/train.py --config=configs/vqvae_3d.py --workdir=runs/vqvae_3d                 (moving digits)
  python launch/train.py --config=configs/vqvae_3d.py:folder --config.frames.path=PATH --workdir=runs/videos

Arguments, after a colon: moving_digits (default), folder, tiny.
"""

from collections.abc import Callable

import ml_collections

from behavejax.config import default_config, did_you_mean
from behavejax.errors import InputError


def get_config(arg: str = "moving_digits") -> ml_collections.ConfigDict:
  if arg not in ARGUMENTS:
    raise InputError(f"configs/vqvae_3d.py has no argument {arg!r}{did_you_mean(arg, ARGUMENTS)}")
  config = default_config()
  config.stages = ("vqvae",)
  config.vqvae.attention = "axial"
  config.vqvae.blocks = 2
  config.quantizer.name = "vq_ema"
  config.quantizer.commitment_weight = 0.1
  config.quantizer.entropy_weight = 0.5
  config.loss.quantization = 0.1  # of a sum over 16 dimensions
  config.train.weight_decay = 0.0
  config.train.ema_decay = 0.99
  ARGUMENTS[arg](config)
  return config


def moving_digits(config: ml_collections.ConfigDict) -> None:
  """Clips of 8 frames of 16 x 16 pixels, a code of 256 for every 2 x 2 pixels of two frames."""
  config.frames.name = "moving_digits"
  config.vqvae.factors = (2, 2, 2)
  config.vqvae.hidden = 48
  config.quantizer.num_codes = 256
  config.quantizer.dim = 16
  config.train.batch_size = 8
  config.train.epochs = 12.0
  config.train.evaluations = 6
  config.evaluation.batch_size = 16


def folder(config: ml_collections.ConfigDict) -> None:
  """Videos below --config.frames.path, scaled and cropped to 64 x 64."""
  config.frames.name = "video_folder"
  config.frames.size = (64, 64)
  config.vqvae.factors = (2, 4, 4)
  config.vqvae.hidden = 128
  config.vqvae.remat = True
  config.quantizer.num_codes = 1024
  config.quantizer.dim = 32
  config.train.batch_size = 8
  config.evaluation.batch_size = 8


def tiny(config: ml_collections.ConfigDict) -> None:
  """The run of moving digits in seconds, for tests."""
  moving_digits(config)
  config.frames.moving.videos = 24
  config.frames.length = 4
  config.vqvae.hidden = 8
  config.vqvae.blocks = 1
  config.quantizer.num_codes = 16
  config.quantizer.dim = 8
  config.train.epochs = 0.0
  config.train.steps = 12
  config.train.steps_per_call = 1
  config.train.evaluations = 3


ARGUMENTS: dict[str, Callable[[ml_collections.ConfigDict], None]] = {
  "moving_digits": moving_digits,
  "folder": folder,
  "tiny": tiny,
}
