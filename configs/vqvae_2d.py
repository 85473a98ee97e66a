"""nD VQ-VAE over images: a code for every few pixels.

  python launch/train.py --config=configs/vqvae_2d.py --workdir=runs/vqvae_2d                 (scikit-learn's digits)
  BEHAVEJAX_DATA=DIR python launch/train.py --config=configs/vqvae_2d.py:mnist --workdir=runs/vqvae_mnist

Arguments, after a colon: digits (default), mnist, fashion_mnist, cifar10, folder (--config.frames.path=PATH), tiny.
"""

from collections.abc import Callable

import ml_collections

from behavejax.config import default_config, did_you_mean
from behavejax.errors import InputError


def get_config(arg: str = "digits") -> ml_collections.ConfigDict:
  if arg not in ARGUMENTS:
    raise InputError(f"configs/vqvae_2d.py has no argument {arg!r}{did_you_mean(arg, ARGUMENTS)}")
  config = default_config()
  config.stages = ("vqvae",)
  config.vqvae.hidden = 64
  config.vqvae.blocks = 2
  config.vqvae.attention = "full"
  config.quantizer.name = "vq_ema"
  config.quantizer.num_codes = 256
  config.quantizer.dim = 16
  config.quantizer.commitment_weight = 0.1
  config.quantizer.entropy_weight = 0.5
  config.loss.quantization = 0.1  # of a sum over 16 dimensions
  config.train.weight_decay = 0.0
  config.train.ema_decay = 0.99
  config.train.evaluations = 10
  ARGUMENTS[arg](config)
  return config


def digits(config: ml_collections.ConfigDict) -> None:
  """1 797 digits of 8 x 8 pixels, a code of 128 for every 2 x 2."""
  config.frames.name = "digits"
  config.vqvae.factors = (2, 2)
  config.quantizer.num_codes = 128
  config.train.epochs = 40.0


def mnist(config: ml_collections.ConfigDict) -> None:
  """Digits of 28 x 28 pixels (IDX files), a code of 256 for every 4 x 4."""
  config.frames.name = "idx"
  config.frames.path = "mnist"
  config.vqvae.factors = (4, 4)
  config.train.epochs = 8.0


def fashion_mnist(config: ml_collections.ConfigDict) -> None:
  """Clothes in the format of MNIST."""
  mnist(config)
  config.frames.path = "fashion_mnist"


def cifar10(config: ml_collections.ConfigDict) -> None:
  """Colour photographs of 32 x 32 pixels, the folder cifar-10-batches-py, a code of 512 for every 4 x 4."""
  config.frames.name = "cifar10"
  config.frames.path = "cifar-10-batches-py"
  config.vqvae.factors = (4, 4)
  config.vqvae.hidden = 128
  config.vqvae.augment = True
  config.quantizer.num_codes = 512
  config.quantizer.dim = 32
  config.train.epochs = 8.0


def folder(config: ml_collections.ConfigDict) -> None:
  """Images of one size, or any scaled and cropped to --config.frames.size=(64,64), below --config.frames.path."""
  config.frames.name = "image_folder"
  config.vqvae.factors = (4, 4)
  config.vqvae.hidden = 128
  config.quantizer.num_codes = 512
  config.quantizer.dim = 32
  config.train.batch_size = 32


def tiny(config: ml_collections.ConfigDict) -> None:
  """The digits run in seconds, for tests."""
  digits(config)
  config.vqvae.hidden = 16
  config.vqvae.blocks = 1
  config.quantizer.num_codes = 16
  config.quantizer.dim = 8
  config.train.batch_size = 32
  config.train.epochs = 0.0
  config.train.steps = 24
  config.train.steps_per_call = 1
  config.train.evaluations = 3


ARGUMENTS: dict[str, Callable[[ml_collections.ConfigDict], None]] = {
  "digits": digits,
  "mnist": mnist,
  "fashion_mnist": fashion_mnist,
  "cifar10": cifar10,
  "folder": folder,
  "tiny": tiny,
}
