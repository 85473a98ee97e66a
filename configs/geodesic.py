"""Geodesic codebooks: a variational autoencoder, codes built on its latent vectors, a prior over codes, new samples.

  python launch/train.py --config=configs/geodesic.py --workdir=runs/geodesic                      (digits)
  BEHAVEJAX_DATA=DIR python launch/train.py --config=configs/geodesic.py:mnist --workdir=runs/geodesic_mnist

Arguments, after a colon: digits (default), mnist, fashion_mnist, cifar10, imu, tiny. Behind it, as in
`mnist:vanilla:euclidean`: spatial (default) or vanilla, a grid of latent vectors or one; geodesic (default) or
euclidean, k-medoids along the graph of the decoder's metric or by straight lines.
"""

from collections.abc import Callable

import ml_collections

from behavejax.config import default_config, did_you_mean
from behavejax.errors import InputError


def get_config(arg: str = "digits") -> ml_collections.ConfigDict:
  name, *options = arg.split(":")
  if name not in ARGUMENTS:
    raise InputError(f"configs/geodesic.py has no argument {name!r}{did_you_mean(name, ARGUMENTS)}")
  for option in options:
    if option not in OPTIONS:
      raise InputError(f"configs/geodesic.py:{name} has no option {option!r}{did_you_mean(option, OPTIONS)}")
  for pair in (("spatial", "vanilla"), ("geodesic", "euclidean")):
    if set(pair) <= set(options):
      raise InputError(f"configs/geodesic.py:{arg} asks for both {pair[0]} and {pair[1]}")
  config = default_config()
  config.stages = ("vae", "codebook", "prior", "generate")
  config.train.weight_decay = 0.0
  config.train.warmup_fraction = 0.02
  config.train.evaluations = 10
  ARGUMENTS[name](config)
  for option in options:
    OPTIONS[option](config)
  return config


def digits(config: ml_collections.ConfigDict) -> None:
  """1 797 digits of 8 x 8 pixels, in scikit-learn."""
  config.frames.name = "digits"
  config.vae.widths = (32, 64, 128)
  config.vae.halvings = 1
  config.vae.beta = 0.06
  config.train.epochs = 40.0
  config.codebook.codes = 128
  config.codebook.vectors = 5_000
  config.codebook.neighbours = 10
  config.codebook.join = "node"
  config.prior.width = 64
  config.prior.layers = 2
  config.prior.dropout = 0.2
  config.prior.learning_rate = 3e-3
  config.prior.epochs = 40.0
  config.generate.classifier_width = 16


def mnist(config: ml_collections.ConfigDict) -> None:
  """Digits of 28 x 28 pixels, IDX files in the folder mnist."""
  config.frames.name = "idx"
  config.frames.path = "mnist"
  config.vae.widths = (32, 64, 128)
  config.vae.halvings = 2
  config.vae.beta = 0.1
  config.train.epochs = 8.0
  config.train.evaluations = 4
  config.codebook.codes = 512
  config.codebook.vectors = 8_000
  config.codebook.neighbours = 10
  config.codebook.join = "node"
  config.prior.width = 64
  config.prior.layers = 3
  config.prior.learning_rate = 3e-3
  config.prior.epochs = 3.0
  config.prior.evaluations = 6
  config.generate.classifier_epochs = 2.0
  config.generate.samples = 400
  config.generate.classifier_width = 16


def fashion_mnist(config: ml_collections.ConfigDict) -> None:
  """Clothes of 28 x 28 pixels, IDX files in the folder fashion_mnist."""
  mnist(config)
  config.frames.path = "fashion_mnist"


def cifar10(config: ml_collections.ConfigDict) -> None:
  """Colour photographs of 32 x 32 pixels, the folder cifar-10-batches-py."""
  config.frames.name = "cifar10"
  config.frames.path = "cifar-10-batches-py"
  config.vae.halvings = 2
  config.train.epochs = 20.0
  config.codebook.codes = 512
  config.codebook.neighbours = 10
  config.codebook.join = "node"


def imu(config: ml_collections.ConfigDict) -> None:
  """Windows of simulated animals; the codes of whole recordings are cut into syllables too."""
  config.frames.name = "windows"
  config.stages = ("vae", "codebook", "prior", "generate", "hsmm")
  config.data.name = "quadruped"
  config.data.val_subjects = ("6",)
  config.data.test_subjects = ("7", "8")
  config.data.window_s = 2.0
  config.data.stride_s = 1.0
  config.data.fold = False
  config.vae.widths = (64, 128)
  config.vae.halvings = 2
  config.vae.kernel = 5
  config.train.epochs = 10.0
  config.codebook.codes = 128
  config.codebook.vectors = 10_000
  config.codebook.neighbours = 10
  config.codebook.join = "node"
  config.prior.width = 64
  config.prior.layers = 2
  config.prior.learning_rate = 3e-3
  config.prior.epochs = 8.0
  config.generate.classifier_epochs = 5.0
  config.segmentation.features.step_s = 0.5


def tiny(config: ml_collections.ConfigDict) -> None:
  """The digits in seconds, for tests."""
  digits(config)
  config.frames.val = 0.3
  config.frames.test = 0.3
  config.vae.widths = (8, 16)
  config.vae.dim = 4
  config.train.batch_size = 32
  config.train.epochs = 0.0
  config.train.steps = 24
  config.train.steps_per_call = 2
  config.train.evaluations = 3
  config.codebook.codes = 12
  config.codebook.vectors = 400
  config.codebook.neighbours = 6
  config.codebook.restarts = 2
  config.prior.width = 16
  config.prior.layers = 1
  config.prior.heads = 2
  config.prior.batch_size = 32
  config.prior.epochs = 0.0
  config.prior.steps = 12
  config.prior.evaluations = 3
  config.generate.samples = 40
  config.generate.batch_size = 20
  config.generate.classifier_steps = 12
  config.generate.classifier_width = 4


def spatial(config: ml_collections.ConfigDict) -> None:
  config.vae.latent = "spatial"


def vanilla(config: ml_collections.ConfigDict) -> None:
  config.vae.latent = "vanilla"


def geodesic(config: ml_collections.ConfigDict) -> None:
  config.codebook.method = "geodesic"


def euclidean(config: ml_collections.ConfigDict) -> None:
  config.codebook.method = "euclidean"


ARGUMENTS: dict[str, Callable[[ml_collections.ConfigDict], None]] = {
  "digits": digits,
  "mnist": mnist,
  "fashion_mnist": fashion_mnist,
  "cifar10": cifar10,
  "imu": imu,
  "tiny": tiny,
}
OPTIONS: dict[str, Callable[[ml_collections.ConfigDict], None]] = {
  "spatial": spatial,
  "vanilla": vanilla,
  "geodesic": geodesic,
  "euclidean": euclidean,
}
