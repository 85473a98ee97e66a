"""Sections of the config for the continuous autoencoder, the prior over codes and what is drawn from it."""

import dataclasses
from typing import TYPE_CHECKING

from behavejax.errors import InputError

if TYPE_CHECKING:
  from behavejax.config import Config


@dataclasses.dataclass(frozen=True)
class VaeConfig:
  """Variational autoencoder (stage `vae`); how it is trained is said in `train`."""

  latent: str = "spatial"  # spatial: a vector for every place of a grid; vanilla: one for the whole sample
  widths: tuple[int, ...] = (64, 128, 256)  # filters of the encoder's stages, mirrored in the decoder
  halvings: int = 2  # of every axis, by the first stages: a place of the grid stands for 2 ** halvings of the sample
  kernel: int = 3
  dim: int = 16  # of a latent vector
  reconstruction: str = "mse"  # mse | l1 | bernoulli, mean over the values of a sample; bernoulli wants them in [0, 1]
  beta: float = 0.02  # weight of the divergence from the standard normal, in nats per value of the sample
  schedule: str = "linear"  # of beta: constant | linear: rises from 0 | cyclical: does so several times
  warmup_fraction: float = 0.3  # of the steps, over which it rises; of a cycle, where there are several
  cycles: int = 4  # cyclical only
  free_bits: float = 0.0  # per latent dimension and place, mean over a batch; the divergence below costs nothing


@dataclasses.dataclass(frozen=True)
class PriorConfig:
  """Transformer over the codes of a sample (stage `prior`), and how codes are drawn; the rest is as in `train`."""

  width: int = 128
  layers: int = 4
  heads: int = 4
  dropout: float = 0.1
  order: str = "raster"  # in which the grid is filled: a key of `behavejax.models.code_prior.ORDERS`
  conditional: bool = True  # the class is given, where there is one
  label_dropout: float = 0.3  # probability that the class of a training sample is hidden
  label_smoothing: float = 0.05
  epochs: float = 30.0
  steps: int = 0  # overrides epochs
  batch_size: int = 64
  learning_rate: float = 1e-3
  weight_decay: float = 0.05
  evaluations: int = 10
  temperature: float = 1.0  # of drawing; 0 takes the likeliest code
  top_k: int = 0  # likeliest codes that may be drawn; 0 is all
  top_p: float = 1.0  # probability of the likeliest codes that may be drawn


@dataclasses.dataclass(frozen=True)
class GenerateConfig:
  """Samples of the prior (stage `generate`) and what they are compared with."""

  samples: int = 1000  # drawn for the scores
  batch_size: int = 100  # drawn at once
  classifier_epochs: float = 15.0  # of the network whose features the scores rest on
  classifier_steps: int = 0  # overrides epochs
  classifier_width: int = 32  # filters of its first stage
  neighbours: int = 3  # of precision and recall


CHOICES = {
  "vae.latent": ("spatial", "vanilla"),
  "vae.reconstruction": ("mse", "l1", "bernoulli"),
  "vae.schedule": ("constant", "linear", "cyclical"),
  "prior.order": ("raster", "columns", "snake", "coarse"),
}
POSITIVE = (
  "vae.kernel", "vae.dim", "vae.cycles", "prior.width", "prior.layers", "prior.heads", "prior.batch_size",
  "prior.learning_rate", "prior.evaluations", "prior.top_p", "generate.samples", "generate.batch_size",
  "generate.classifier_epochs", "generate.classifier_width", "generate.neighbours",
)  # fmt: skip
NOT_NEGATIVE = (
  "vae.halvings", "vae.beta", "vae.free_bits", "prior.epochs", "prior.steps", "prior.weight_decay",
  "prior.temperature", "prior.top_k", "generate.classifier_steps",
)  # fmt: skip
SHARES = ("vae.warmup_fraction", "prior.dropout", "prior.label_dropout", "prior.label_smoothing")


def check(config: "Config") -> None:
  """Raises `InputError` for settings of these sections that exclude each other."""
  vae, prior = config.vae, config.prior
  if not vae.widths or min(vae.widths) < 1:
    raise InputError(f"config.vae.widths needs at least one number of filters, got {vae.widths}")
  if vae.halvings > len(vae.widths):
    raise InputError(
      f"config.vae.halvings must be at most {len(vae.widths)}, the number of config.vae.widths, got {vae.halvings}"
    )
  if prior.width % (2 * prior.heads):
    raise InputError(f"config.prior.width={prior.width} must be a multiple of twice config.prior.heads={prior.heads}")
  if prior.top_p > 1:
    raise InputError(f"config.prior.top_p must be at most 1, got {prior.top_p:g}")
  if prior.steps == 0 and prior.epochs == 0:
    raise InputError("config.prior.steps and config.prior.epochs are both 0: nothing to train")
