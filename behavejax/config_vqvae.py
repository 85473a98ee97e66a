"""The section `vqvae`: the autoencoder of signals, images and video (stage `vqvae`)."""

import dataclasses
from typing import TYPE_CHECKING

from behavejax.errors import InputError

if TYPE_CHECKING:
  from behavejax.config import Config

_CHOICES = {
  "attention": ("full", "axial", "none"),
  "norm": ("batch", "group"),
  "dtype": ("float32", "bfloat16"),
  "reconstruction": ("mse", "l1", "huber"),
}


@dataclasses.dataclass(frozen=True)
class VqvaeConfig:
  """Encoder and decoder over 1, 2 or 3 axes of space.

  Samples come from `frames`, codes from `quantizer` (`quantizer.dim` is the embedding), the weights of the
  reconstruction and of the codes' loss from `loss`, the rest from `train`.
  """

  factors: tuple[int, ...] = (4, 4)  # samples per cell of the grid along each axis, powers of two from 1
  hidden: int = 240  # features of every layer
  blocks: int = 4  # residual blocks, in the encoder and in the decoder
  attention: str = "full"  # over positions: full | axial | none
  heads: int = 2
  norm: str = "batch"  # batch | group
  remat: bool = False  # trade time for memory: blocks are computed anew for the gradient
  dtype: str = "float32"  # compute type; parameters stay float32
  reconstruction: str = "mse"  # mse | l1 | huber, of samples in standard deviations: divided by the data's variance
  huber_delta: float = 1.0  # standard deviations from which on huber is linear
  perceptual: float = 0.0  # weight of the distance between features of the model's own classifier; takes labels
  spectral: float = 0.0  # weight of the distance between spectra, signals only
  spectral_windows: tuple[int, ...] = (8, 16, 32)  # samples
  augment: bool = False  # shift images and videos by up to an eighth of their height and width, in training


def check_vqvae(config: "Config") -> None:
  """Raises `InputError` for values out of range and for settings that exclude each other."""
  settings = config.vqvae
  for key, choices in _CHOICES.items():
    if getattr(settings, key) not in choices:
      raise InputError(f"config.vqvae.{key} must be one of {', '.join(choices)}, got {getattr(settings, key)!r}")
  for key in ("hidden", "heads", "huber_delta"):
    if not getattr(settings, key) > 0:
      raise InputError(f"config.vqvae.{key} must be above 0, got {getattr(settings, key)!r}")
  for key in ("blocks", "perceptual", "spectral"):
    if not getattr(settings, key) >= 0:
      raise InputError(f"config.vqvae.{key} must be 0 or more, got {getattr(settings, key)!r}")
  factors = settings.factors
  if not 1 <= len(factors) <= 3 or any(f < 1 or f & (f - 1) for f in factors):
    raise InputError(f"config.vqvae.factors needs 1 to 3 powers of two, one for each axis of space, got {factors}")
  if settings.hidden % 2 or settings.hidden % settings.heads:
    raise InputError(
      f"config.vqvae.hidden={settings.hidden} must be even and a multiple of config.vqvae.heads={settings.heads}"
    )
  if settings.spectral and (not settings.spectral_windows or min(settings.spectral_windows) < 2):
    raise InputError(
      f"config.vqvae.spectral_windows needs at least one length, each 2 or more, got {settings.spectral_windows}"
    )
  if any(vars(config.augment).values()) and {"vqvae", "vae"} & {*config.stages} and "encoder" not in config.stages:
    raise InputError(
      "config.augment distorts windows of the stage 'encoder', which is not run; images have config.vqvae.augment"
    )
  if "vqvae" not in config.stages:
    return
  if settings.spectral and len(factors) != 1:
    raise InputError(
      f"config.vqvae.spectral is for signals, of one axis; config.vqvae.factors={factors} have {len(factors)}"
    )
  if config.loss.reconstruction == 0:
    raise InputError("config.loss.reconstruction=0 leaves the stage 'vqvae' nothing to learn")
