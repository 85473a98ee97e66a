"""From a run with a codebook to its report: reconstructions, codes, the prior and its samples, on held-out data."""

import os

import jax
import numpy as np
from jaxtyping import Float

from behavejax.evaluation import generation, geodesic_report, sample_metrics
from behavejax.evaluation import metrics as metrics_lib
from behavejax.evaluation.generation import Trained
from behavejax.evaluation.geodesic_report import Drawn, Reconstructed
from behavejax.evaluation.latents import read_arrays
from behavejax.models.code_prior import unigram_bits
from behavejax.models.sample_classifier import make_classifier
from behavejax.models.vae import ACTIVE, COLLAPSED_BITS
from behavejax.workdir import Workdir, read_metrics

_EVALUATED = 1000  # training samples whose codes are scored, to see by how much the prior has overfitted


def evaluate(folder: str | os.PathLike) -> dict[str, float]:
  """Writes `report/` of a run with a codebook and returns its `metrics.json`.

  Raises:
    InputError: the folder holds no codebook, or the data it was made from are gone.
  """
  workdir = Workdir(folder)
  run = generation.load(workdir)
  reconstructed, values = reconstruct(run)
  bits = divergence_bits(run)
  values |= vae_values(run, bits) | code_values(run)
  if run.prior is not None:
    values |= prior_values(run)
  drawn = None
  if workdir.is_complete("generate"):
    drawn, further = judge(workdir, run)
    values |= further
  history = read_metrics(workdir.metrics_file)
  geodesic_report.write_report(workdir, run, reconstructed, drawn, values, bits, history)
  return values


def reconstruct(run: Trained) -> tuple[Reconstructed, dict[str, float]]:
  """The test split and its scores; PSNR (dB) of the mean squared error, for images and video."""
  test = run.data.test
  x = test.gather(np.arange(len(test)))
  parts = (x, generation.decode(run, run.latents["test"].mean), generation.decode_codes(run, run.codes["test"]))
  undo = (lambda a: a) if test.normalization is None else test.normalization.undo
  found, values = Reconstructed(*map(undo, parts)), {}
  for name, own, normal in (
    ("continuous", found.continuous, parts[1]), ("quantized", found.quantized, parts[2])
  ):  # fmt: skip
    values[f"test/{name}_mse"] = float(np.mean(np.square(normal - x)))
    if test.peak:
      values[f"test/{name}_psnr"] = float(sample_metrics.psnr(np.mean(np.square(own - found.true)), test.peak))
    if test.peak and x.ndim == 4:
      values[f"test/{name}_ssim"] = float(sample_metrics.ssim(found.true, own, peak=test.peak).mean())
  ratio = values["test/quantized_mse"] / max(values["test/continuous_mse"], 1e-12)
  values["test/loss_db"] = 10 * float(np.log10(ratio))
  return found, values


def divergence_bits(run: Trained) -> Float[np.ndarray, " dim"]:
  """Mean divergence of every latent dimension from the standard normal, per place, on the test split."""
  own = run.latents["test"]
  nats = 0.5 * (own.mean**2 + own.std**2 - 1) - np.log(own.std)
  return nats.reshape(-1, nats.shape[-1]).mean(0, dtype=np.float64) / np.log(2)


def vae_values(run: Trained, bits: Float[np.ndarray, " dim"]) -> dict[str, float]:
  """Health of the posterior on the test split."""
  mean = run.latents["test"].mean
  spread = mean.reshape(-1, mean.shape[-1]).var(0)
  return {
    "vae/divergence_bits": float(bits.sum() * np.prod(mean.shape[1:-1])),
    "vae/divergence_bits_per_place": float(bits.sum()),
    "vae/active_units": float(np.sum(spread > ACTIVE)),
    "vae/collapsed_units": float(np.sum(bits < COLLAPSED_BITS)),
  }


def code_values(run: Trained) -> dict[str, float]:
  """Health of the codebook on the test split: use, and squared distances to codes along the graph and straight."""
  book, own = run.built.book, run.latents["test"].mean
  codes = run.codes["test"]
  used = metrics_lib.code_statistics(codes, num_codes=len(book.vectors))
  inside = float(np.mean(run.built.graph.nodes >= 0))
  return {
    "codes/size": float(len(book.vectors)),
    "codes/usage": used.usage,
    "codes/perplexity": used.perplexity,
    "codes/dead": float(np.sum(used.counts == 0)),
    "codes/largest": float(used.counts.max() / max(used.counts.sum(), 1)),
    "codes/squared_distance": float(np.mean(np.square(run.codes["test_distances"], dtype=np.float64))),
    "codes/squared_error": float(np.mean(np.sum(np.square(own - book.vectors[codes]), axis=-1, dtype=np.float64))),
    "codes/outside": 1 - inside,
    "codes/components": float(len(run.built.graph.components)),
  }


def prior_values(run: Trained) -> dict[str, float]:
  """Bits per test code under the prior, the class unknown or given, and under the frequencies of the training codes."""
  train, test = run.codes["train"], run.codes["test"]
  step = max(len(train) // _EVALUATED, 1)
  score = jax.jit(run.prior.log_probs)

  def bits(codes: np.ndarray, labels: np.ndarray) -> float:
    size, total = min(run.config.evaluation.batch_size, len(codes)), 0.0
    for start in range(0, len(codes), size):
      rows = np.minimum(np.arange(start, start + size), len(codes) - 1)
      found = np.asarray(score(run.prior_variables, codes[rows], labels[rows]))[: len(codes) - start]
      total -= float(found.sum(dtype=np.float64))
    return total / codes.size / np.log(2)

  unknown = np.full(len(test), -1, np.int32)
  values = {
    "prior/bits_per_code": bits(test, unknown),
    "prior/unigram_bits": unigram_bits(train, test, num_codes=run.config.codebook.codes),
    "prior/train_bits_per_code": bits(train[::step], np.full(len(train[::step]), -1, np.int32)),
  }
  if run.config.prior.conditional and run.data.test.classes:
    values["prior/bits_per_code_given_class"] = bits(test, run.data.test.labels)
  values["prior/saved"] = 1 - values["prior/bits_per_code"] / values["prior/unigram_bits"]
  values["prior/overfit_bits"] = values["prior/bits_per_code"] - values["prior/train_bits_per_code"]
  return values


def judge(workdir: Workdir, run: Trained) -> tuple[Drawn, dict[str, float]]:
  """Drawn samples and their scores in the features of the run's classifier, beside the same of what is known.

  Real samples are all held-out ones (validation and test). Beside the drawn samples stand as many training samples as
  are held out, the least distance to hope for, and the quantized held-out ones, what codes cost without a prior.
  """
  stored = read_arrays(workdir.stage("generate") / "samples.npz")
  samples = generation.decode_codes(run, stored["codes"])
  train, val, test = run.data.train, run.data.val, run.data.test
  model = make_classifier(classes=len(train.classes), width=run.config.generate.classifier_width)
  like = jax.eval_shape(model.init, jax.random.key(0), train.gather(np.arange(1)))
  variables = workdir.read_result("generate", like)
  apply = jax.jit(lambda x: model.apply(variables, x))

  def features(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size, parts = min(run.config.evaluation.batch_size, len(x)), []
    for start in range(0, len(x), size):
      rows = np.minimum(np.arange(start, start + size), len(x) - 1)
      parts.append([np.asarray(a) for a in apply(x[rows])])
    return tuple(np.concatenate(part)[: len(x)] for part in zip(*parts, strict=True))

  held_out = np.concatenate([part.gather(np.arange(len(part))) for part in (val, test)])
  labels = np.concatenate([val.labels, test.labels])
  chosen = np.random.default_rng(run.config.seed).permutation(len(train))
  seen = train.gather(np.sort(chosen[: len(held_out)]))
  quantized = generation.decode_codes(run, np.concatenate([run.codes["val"], run.codes["test"]]))
  logits, real = features(held_out)
  values = {"classifier/accuracy": float(np.mean(logits.argmax(1)[labels >= 0] == labels[labels >= 0]))}
  for name, x in (("samples", samples), ("quantized", quantized), ("training", seen)):
    scores, own = features(x)
    values[f"{name}/frechet"] = sample_metrics.frechet(real, own)
    near = sample_metrics.precision_recall(real, own, neighbours=run.config.generate.neighbours)
    values |= {f"{name}/precision": near.precision, f"{name}/recall": near.recall}
    if name == "samples" and (stored["labels"] >= 0).all():
      values["samples/as_asked"] = float(np.mean(scores.argmax(1) == stored["labels"]))
  most = train.gather(np.sort(chosen[:_COMPARED]))
  nearest = sample_metrics.nearest(most, samples)
  values["samples/copies"] = sample_metrics.copies(
    nearest.distances, sample_metrics.nearest(most, quantized).distances
  )  # fmt: skip
  return Drawn(samples, stored["labels"], nearest._replace(rows=np.sort(chosen[:_COMPARED])[nearest.rows])), values


_COMPARED = 20_000
"""Training samples among which nearest neighbours are looked for."""


def summary_table(values: dict[str, float]) -> str:
  """The scores of a report as a small text table."""
  lines = [f"{'test split':<28}{'continuous':>12}{'quantized':>12}"]
  for key, label, digits in (("mse", "squared error / variance", 4), ("psnr", "PSNR (dB)", 2), ("ssim", "SSIM", 3)):
    if f"test/continuous_{key}" in values:
      shown = [f"{values[f'test/{name}_{key}']:>12.{digits}f}" for name in ("continuous", "quantized")]
      lines.append(f"{label:<28}{''.join(shown)}")
  use, size, perplexity = (values[f"codes/{name}"] for name in ("usage", "size", "perplexity"))
  lines.append(f"codes in use {use:.0%} of {size:.0f}, perplexity {perplexity:.0f}")
  if "prior/bits_per_code" in values:
    lines.append(
      f"prior {values['prior/bits_per_code']:.3f} bits per code, by frequencies {values['prior/unigram_bits']:.3f} "
      f"({values['prior/saved']:.0%} fewer)"
    )
  if "samples/frechet" in values:
    lines.append(
      f"samples: Fréchet distance {values['samples/frechet']:.2f} (training samples {values['training/frechet']:.2f}), "
      f"precision {values['samples/precision']:.2f}, recall {values['samples/recall']:.2f}"
    )
  return "\n".join(lines)
