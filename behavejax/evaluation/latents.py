"""What the stages `vae` and `codebook` of a run left behind: the network, latent vectors, and grids of codes."""

import dataclasses
import math
import pathlib
import zipfile
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from behavejax.config import Config
from behavejax.data import splits
from behavejax.data.prepare_samples import PreparedSamples, prepare_samples
from behavejax.data.samples import Samples
from behavejax.errors import InputError
from behavejax.evaluation import codebooks
from behavejax.models.vae import Posterior, Vae, make_vae, neighbourhoods
from behavejax.quantizers.geodesic_graph import Decode
from behavejax.quantizers.joining import Codebook, Joined
from behavejax.types import Key, Variables
from behavejax.workdir import Workdir, write_arrays


class Latents(NamedTuple):
  """Posterior of every sample of a split, and a draw from it."""

  mean: Float[np.ndarray, "sample *grid dim"]
  std: Float[np.ndarray, "sample *grid dim"]
  drawn: Float[np.ndarray, "sample *grid dim"]


def build_vae(config: Config, samples: Samples, *, updates: int = 1, axis_name: str | None = None) -> Vae:
  """The model for samples like these."""
  normal = samples.normalization
  return make_vae(
    config.vae, shape=samples.shape, updates=updates, axis_name=axis_name, peak=samples.peak or 1.0,
    normalization=None if normal is None else (normal.mean, normal.std),
  )  # fmt: skip


def restore_vae(workdir: Workdir, config: Config) -> tuple[Vae, Variables, PreparedSamples]:
  """The trained network of a run, with the samples it was made for."""
  data = prepare_samples(config, config.seed)
  model = build_vae(config, data.train)
  like = jax.eval_shape(model.init, jax.random.key(0), data.train.gather(np.arange(1)))
  return model, workdir.read_result("vae", like), data


def encode(model: Vae, variables: Variables, samples: Samples, *, batch_size: int, key: Key) -> Latents:
  """Posterior of every sample, in batches of one shape; draws belong to the sample, not to its batch."""

  @jax.jit
  def posterior(x: Array, first: Array) -> tuple[Posterior, Array]:
    found = model.encode(variables, x)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jax.numpy.arange(len(x)))
    noise = jax.vmap(lambda k: jax.random.normal(k, found.mean.shape[1:]))(keys)
    return found, found.mean + jax.numpy.exp(found.log_std) * noise

  size, parts = min(batch_size, len(samples)), []
  for start in range(0, len(samples), size):
    rows = np.minimum(np.arange(start, start + size), len(samples) - 1)
    found, drawn = posterior(samples.gather(rows), start)
    parts.append([np.asarray(a) for a in (found.mean, np.exp(found.log_std), drawn)])
  return Latents(*(np.concatenate(part)[: len(samples)] for part in zip(*parts, strict=True)))


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Arrays of a stage; `InputError` where the file is gone or damaged."""
  try:
    with np.load(path, allow_pickle=False) as stored:
      return dict(stored)
  except (FileNotFoundError, ValueError, zipfile.BadZipFile) as error:
    raise InputError(f"{path} is missing or damaged: run its stage again with --restart_from") from error


def save_latents(workdir: Workdir, found: Mapping[str, Latents]) -> None:
  write_arrays(
    workdir.stage("vae") / "latents.npz",
    {f"{split}_{name}": array for split, own in found.items() for name, array in own._asdict().items()},
  )


def read_latents(workdir: Workdir) -> dict[str, Latents]:
  """By split."""
  arrays = read_arrays(workdir.stage("vae") / "latents.npz")
  return {split: Latents(*(arrays[f"{split}_{name}"] for name in Latents._fields)) for split in splits.NAMES}


def read_codes(workdir: Workdir) -> dict[str, Int[np.ndarray, "sample *grid"]]:
  """Codes of every sample, by split."""
  return read_arrays(workdir.stage("codebook") / "codes.npz")


def as_samples(codes: Int[np.ndarray, "sample *grid"], samples: Samples) -> Samples:
  """Grids of codes with the labels of the samples they stand for, for the training loop."""
  return dataclasses.replace(
    samples, steps=codes, starts=np.arange(len(codes)), length=0, channels=(), normalization=None, peak=0.0
  )


def decoder_of(model: Vae, variables: Variables) -> Decode:
  """What one latent vector becomes, among its neighbours where it has some."""
  return lambda z, around: model.decode_vector(variables, z, around)


def surroundings(model: Vae, mean: Float[np.ndarray, "sample *grid dim"]) -> Float[np.ndarray, "vector ..."] | None:
  """What the decoder sees around each vector; None where a sample has one alone."""
  return None if math.prod(model.grid) == 1 else neighbourhoods(mean)


def assign(
  book: Codebook, config: Config, model: Vae, decode: Decode, mean: Float[np.ndarray, "sample *grid dim"]
) -> Joined:
  """Codes of all vectors of some grids, in a row."""
  around = surroundings(model, mean) if config.codebook.join == "both" and book.decoded else None
  flat = mean.reshape(-1, mean.shape[-1])
  return codebooks.codes_of(book, config.codebook, flat, decode=decode, surroundings=around)
