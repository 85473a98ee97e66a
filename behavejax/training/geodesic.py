"""Stages of the geodesic system: autoencoder, codebook, prior, and samples with the network that judges them."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from behavejax.config import Config
from behavejax.data import splits
from behavejax.data.prepare_samples import PreparedSamples, prepare_samples
from behavejax.errors import InputError
from behavejax.evaluation import codebooks, geodesic_findings
from behavejax.evaluation.latents import (
  as_samples,
  assign,
  build_vae,
  decoder_of,
  encode,
  read_codes,
  read_latents,
  restore_vae,
  save_latents,
  surroundings,
)
from behavejax.evaluation.priors import build_prior, draw_codes, restore_prior
from behavejax.models.sample_classifier import make_classifier
from behavejax.training import codebook
from behavejax.training.sample_task import fit_samples
from behavejax.training.task import make_plan
from behavejax.types import Variables
from behavejax.workdir import Workdir, write_arrays


def prepare(config: Config, workdir: Workdir, again: Sequence[str]) -> PreparedSamples:
  """The samples of a config; see `stages.DATA`.

  Raises:
    InputError: unusable data, or samples that the autoencoder cannot be made for.
  """
  del workdir, again
  data = prepare_samples(config, config.seed)
  build_vae(config, data.train)
  return data


def fit_vae(config: Config, workdir: Workdir, *, data: PreparedSamples) -> Variables:
  """Trains the autoencoder, then exports posterior means, deviations and draws of all samples (`latents.npz`)."""
  updates = make_plan(config, windows=len(data.train)).steps
  found = fit_samples(
    config, data, workdir, stage="vae",
    build=functools.partial(build_vae, updates=updates), line=_vae_line,
    checks=geodesic_findings.vae_checks(config),
  )  # fmt: skip
  if jax.process_index() == 0:
    model, key, size = build_vae(config, data.train), jax.random.key(config.seed), config.evaluation.batch_size
    parts = {
      name: encode(model, found, getattr(data, name), batch_size=size, key=jax.random.fold_in(key, i))
      for i, name in enumerate(splits.NAMES)
    }
    save_latents(workdir, parts)
  return found


def fit_codebook(config: Config, workdir: Workdir) -> dict[str, Float[Array, "code dim"]]:
  """Builds the codebook from the posterior means of the training samples, then gives every sample its codes.

  Raises:
    InputError: several processes, of which each would build it.
  """
  if jax.process_count() > 1:
    raise InputError("a codebook is built by one process: repeat the command without --coordinator, then go on with it")
  model, variables, _ = restore_vae(workdir, config)
  latents, decode = read_latents(workdir), decoder_of(model, variables)
  folder = workdir.stage("codebook")
  vectors = latents["train"].mean.reshape(-1, config.vae.dim)
  codes = codebook.fit(
    config, vectors, folder, workdir.metrics_file, stage="codebook", decode=decode,
    surroundings=surroundings(model, latents["train"].mean),
  )  # fmt: skip
  book = codebooks.read(folder / "codebook.npz").book
  grids, distances = {}, {}
  for name, own in latents.items():
    joined = assign(book, config, model, decode, own.mean)
    grids[name] = joined.codes.reshape(own.mean.shape[:-1]).astype(np.int32)
    distances[f"{name}_distances"] = joined.distances.reshape(own.mean.shape[:-1]).astype(np.float32)
  write_arrays(folder / "codes.npz", {**grids, **distances})
  return {"codes": codes}


def fit_prior(config: Config, workdir: Workdir) -> Variables:
  """Trains the transformer on the codes of the training samples."""
  data, codes = prepare_samples(config, config.seed), read_codes(workdir)
  own = dataclasses.replace(
    data, **{name: as_samples(codes[name], getattr(data, name)) for name in splits.NAMES}, normalization=None
  )
  settings = config.prior
  train = dataclasses.replace(
    config.train, epochs=settings.epochs, steps=settings.steps, learning_rate=settings.learning_rate,
    evaluations=settings.evaluations, batch_size=settings.batch_size, weight_decay=settings.weight_decay,
    schedule="warmup_cosine", patience=0,
  )  # fmt: skip
  return fit_samples(
    dataclasses.replace(config, train=train), own, workdir, stage="prior",
    build=lambda config, codes, *, axis_name=None: build_prior(config, codes), line=_prior_line, checks=(),
  )  # fmt: skip


def fit_judge(config: Config, workdir: Workdir) -> Variables:
  """Trains the classifier whose features judge samples, and draws `samples.npz` from the prior.

  Raises:
    InputError: samples without classes: there is nothing to learn features from.
  """
  data = prepare_samples(config, config.seed)
  if not data.train.classes:
    raise InputError("stage 'generate' judges samples by features of their classes, and these data have none: leave it")
  train = dataclasses.replace(
    config.train, epochs=config.generate.classifier_epochs, steps=config.generate.classifier_steps,
    learning_rate=1e-3, evaluations=5, patience=0, schedule="warmup_cosine",
  )  # fmt: skip
  classes, width = len(data.train.classes), config.generate.classifier_width
  found = fit_samples(
    dataclasses.replace(config, train=train), data, workdir, stage="generate",
    build=lambda config, samples, *, axis_name=None: make_classifier(classes=classes, width=width, axis_name=axis_name),
    line=_judge_line, checks=(),
  )  # fmt: skip
  if jax.process_index() == 0:
    write_arrays(workdir.stage("generate") / "samples.npz", _drawn(config, workdir, data))
  return found


def _drawn(config: Config, workdir: Workdir, data: PreparedSamples) -> dict[str, Any]:
  """Codes, and the classes they were asked for: as frequent as in training."""
  prior, variables = restore_prior(workdir, config, data.train)
  known = data.train.labels[data.train.labels >= 0]
  labels = np.full(config.generate.samples, -1, np.int32)
  if config.prior.conditional and len(known):
    labels = np.sort(known)[np.linspace(0, len(known) - 1, config.generate.samples).astype(int)].astype(np.int32)
  codes = draw_codes(prior, variables, labels, config, seed=config.seed)
  return {"codes": codes, "labels": labels}


def _vae_line(values: dict[str, float]) -> str:
  return (
    f"loss {values['val/loss']:.4f}  squared error {values['val/reconstruction_mse']:.4f}  divergence "
    f"{values['val/divergence_bits']:.0f} bits  {values['val/active_units']:.0f} active units"
  )


def _prior_line(values: dict[str, float]) -> str:
  line = f"loss {values['val/loss']:.3f}  {values['val/bits_per_code']:.3f} bits per code"
  if "val/bits_per_code_given_class" in values:
    line += f", {values['val/bits_per_code_given_class']:.3f} given the class"
  return line


def _judge_line(values: dict[str, float]) -> str:
  return f"loss {values['val/loss']:.3f}  accuracy {values['val/accuracy']:.3f}"
