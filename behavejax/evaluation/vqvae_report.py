"""The report of an autoencoder of samples: how much is lost, beside simpler codes; how the codes are used."""

import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from behavejax.config import Config
from behavejax.data.prepare_samples import PreparedSamples
from behavejax.data.samples import Samples
from behavejax.evaluation import findings, metrics, rates, vqvae, vqvae_findings
from behavejax.evaluation.curves import training_curves
from behavejax.evaluation.films import can_write
from behavejax.evaluation.frames_figures import as_pictures, codebook_map, picture_rows, signal_pairs, video_strips
from behavejax.evaluation.page import (
  Block,
  Heading,
  Notes,
  Paragraph,
  Picture,
  Table,
  Video,
  replaced_folder,
  write_page,
)
from behavejax.evaluation.vqvae import Coded
from behavejax.models.vqvae import Vqvae
from behavejax.types import Variables
from behavejax.workdir import Workdir, read_metrics, write_json

_SHOWN = {1: 3, 2: 24, 3: 3}  # signals, images, clips
_FITTED = 4000  # training samples that principal components are fitted to
_COMPARED = 1000  # samples that similarity is measured on


def report(workdir: Workdir) -> dict[str, float]:
  """Writes `vqvae/` of a run (page, metrics.json, tokens.npz, figures) and returns its `metrics.json`.

  Raises:
    InputError: the stage is not complete, or the data it was trained on are gone.
  """
  config = workdir.read_config()
  model, variables, data = vqvae.restore(workdir, config)
  splits = {name: vqvae.code(model, variables, getattr(data, name), config) for name in ("train", "val", "test")}
  history = [row for row in read_metrics(workdir.metrics_file) if row.get("stage") == vqvae.STAGE]
  values, table = _reconstruction(config, model, data, splits)
  coded, codebooks = _codes(config, model, splits["test"])
  values |= coded
  parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
  shown, similarity = _shown(model, variables, data)
  values |= similarity
  header = ["code", "bits per sample", "share of the variance", "PSNR (dB)"]
  if "test/ssim" in values:
    header.append("SSIM")
    table = [[*row, f"{values['test/ssim']:.3f}" if i == 0 else ""] for i, row in enumerate(table)]
  blocks = [
    *_summary(config, model, data, parameters),
    *_found(config, values, history),
    Heading("Reconstruction, test split"),
    Table(header, table, emphasize_first=True),
    Paragraph(
      "Mean squared error of held-out samples over that of predicting the mean of the training samples at every place. "
      + _psnr_note(data.test)
    ),
    *_channels(data.test, splits["test"]),
    *shown,
    *codebooks,
    Heading("Training"),
    Picture("training", training_curves(history), "Validation uses the averaged parameters."),
    *_limits(config, data),
  ]  # fmt: skip
  with replaced_folder(workdir.path / vqvae.STAGE) as temporary:
    write_page(temporary, "vqvae", f"Autoencoder of samples: {config.frames.name}", blocks)
    write_json(temporary / "metrics.json", values)
    np.savez_compressed(temporary / "tokens.npz", **{name: split.tokens for name, split in splits.items()})
  return values


def summary(values: Mapping[str, float]) -> str:
  """A report in a few lines of text."""
  lines = [f"{'test split':<34}{'bits':>8}{'share of variance':>20}{'PSNR (dB)':>11}"]
  for key, name in (("test", "behavejax"), ("baseline/pca_bits", "PCA, as many bits"),
                    ("baseline/pca_numbers", "PCA, as many numbers as tokens"), ("baseline/mean", "mean")):  # fmt: skip
    if f"{key}/share_of_variance" in values:
      bits, share, db = (values[f"{key}/{name}"] for name in ("bits", "share_of_variance", "psnr"))
      lines.append(f"{name:<34}{bits:>8.0f}{share:>20.3f}{db:>11.1f}")
  lines.append(
    f"perplexity {values['codes/perplexity']:.0f} of {values['codes/size']:.0f} codes"
    + (f" ({values['codes/codebooks']:.0f} codebooks)" if values["codes/codebooks"] > 1 else "")
    + f", {values['codes/usage']:.0%} in use"
  )
  return "\n".join(lines)


def _reconstruction(
  config: Config, model: Vqvae, data: PreparedSamples, splits: Mapping[str, Coded]
) -> tuple[dict[str, float], list[list[str]]]:
  """Errors of the model and of simpler codes."""
  train, test = (_flat(part) for part in (data.train, data.test))
  mean = train.mean(axis=0)
  alone = float(np.mean(np.square(test - mean)))
  tokens = math.prod(model.grid)
  bits = tokens * math.log2(model.num_codes)
  errors = {"test": (float(splits["test"].error.mean()), bits)}
  if train.shape[1] <= rates.LARGEST:
    components = rates.principal_components(train)
    errors["baseline/pca_bits"] = (rates.by_bits(components, train, test, round(bits)), bits)
    errors["baseline/pca_numbers"] = (rates.by_numbers(components, test, tokens), 32 * tokens)
  errors["baseline/mean"] = (alone, 0)
  names = {
    "test": f"{config.quantizer.name}, {tokens} tokens",
    "baseline/pca_bits": "principal components, as many bits",
    "baseline/pca_numbers": f"principal components, {tokens} numbers",
    "baseline/mean": "mean of the training samples",
  }
  values, rows = {}, []
  for key, (mse, count) in errors.items():
    db = rates.psnr(mse, _peak(data.test))
    values |= {f"{key}/share_of_variance": mse / alone, f"{key}/psnr": db, f"{key}/bits": float(count)}
    rows.append([names[key], f"{count:,.0f}", f"{mse / alone:.3f}", f"{db:.1f}"])
  for name, split in splits.items():
    values[f"{name}/reconstruction_mse"] = float(split.error.mean())
  values["test/bits_per_value"] = bits / test.shape[1]
  return values, rows


def _flat(samples: Samples) -> np.ndarray:
  """An even choice of samples as rows."""
  chosen = np.linspace(0, len(samples) - 1, min(len(samples), _FITTED)).astype(int)
  return samples.gather(chosen).reshape(len(chosen), -1)


def _peak(samples: Samples) -> float:
  """In normalised units: what pictures may span, and signals do from the 0.1 % to the 99.9 % quantile."""
  if samples.peak:
    scale = 1.0 if samples.normalization is None else float(np.sqrt(np.mean(np.square(samples.normalization.std))))
    return samples.peak / scale
  low, high = np.quantile(samples.steps, (0.001, 0.999), axis=0)
  return float(np.sqrt(np.mean(np.square(high - low))))


def _psnr_note(samples: Samples) -> str:
  if samples.peak:
    return f"PSNR is against {samples.peak:g}, what stored values may span."
  return "PSNR is against the range of the channels from the 0.1 % to the 99.9 % quantile."


def _channels(samples: Samples, coded: Coded) -> list[Block]:
  if len(samples.channels) < 2:
    return []
  rows = [(name, f"{error:.3f}") for name, error in zip(samples.channels, coded.error.mean(axis=0), strict=True)]
  return [Table(("channel", "squared error, of the training variance"), rows)]


def _codes(config: Config, model: Vqvae, coded: Coded) -> tuple[dict[str, float], list[Block]]:
  """How the codes are used; of several codebooks, each."""
  counts = vqvae.codebook_counts(np.bincount(coded.tokens.ravel(), minlength=model.num_codes), config.quantizer)
  perplexities = [metrics.perplexity(count) for count in counts]
  usages = [float(np.mean(c > 0)) for c in counts]
  size = len(counts[0])
  values = {
    "codes/perplexity": float(np.mean(perplexities)),
    "codes/perplexity_share": float(np.mean(perplexities)) / size,
    "codes/usage": float(np.mean(usages)),
    "codes/size": float(size),
    "codes/codebooks": float(len(counts)),
    "codes/per_sample": float(math.prod(model.grid)),
  }
  several = len(counts) > 1
  rows = [
    (f"codebook {i + 1}" if several else "codebook", str(size), f"{p:.1f}", f"{p / size:.0%}", f"{u:.0%}")
    for i, (p, u) in enumerate(zip(perplexities, usages, strict=True))
  ]
  maps = [
    Picture(f"codebook_{i + 1}", codebook_map(c), f"Codebook {i + 1}, test split." if several else "Test split.")
    for i, c in enumerate(counts)
  ]
  return values, [
    Heading("Codes"),
    Table(("", "codes", "perplexity", "of the codebook", "in use"), rows),
    *maps,
  ]


def _summary(config: Config, model: Vqvae, data: PreparedSamples, parameters: int) -> list[Block]:
  settings, quantizer = config.vqvae, config.quantizer
  shape = " x ".join(map(str, data.train.shape))
  grid = " x ".join(map(str, model.grid))
  rows = [
    (name, f"{len(part):,}", f"{len(np.unique(part.source)):,}")
    for name, part in ((name, getattr(data, name)) for name in ("train", "val", "test"))
  ]
  blocks: list[Block] = [
    Paragraph(
      f"Data: {config.data.name if not data.train.peak else config.frames.name}, samples of {shape}, the last axis "
      f"{'the channel' if len(data.train.channels) == 1 else 'channels'}; split: {data.split}. A sample becomes {grid} "
      f"tokens of {model.num_codes:,} ({quantizer.name}"
      + (f", {quantizer.groups} groups" if quantizer.groups > 1 else "")
      + (f", {quantizer.stages} stages" if quantizer.stages > 1 else "")
      + f"). Network: {parameters:,} parameters, {settings.blocks} residual blocks of {settings.hidden} features on "
      f"each side, attention {settings.attention}, {settings.norm} normalisation, loss {settings.reconstruction}. "
      f"Seed {config.seed}."
    ),
    Table(("split", "samples", "from sources"), rows),
  ]
  return [*blocks, Notes(data.warnings, warning=True)] if data.warnings else blocks


def _found(config: Config, values: Mapping[str, float], history: Sequence[Mapping[str, float]]) -> list[Block]:
  last: dict[str, float] = {}
  for row in history:
    last |= row
  last["val/reconstruction_mse"] = values["val/reconstruction_mse"]
  last["train/reconstruction_mse"] = values["train/reconstruction_mse"]
  last["val/perplexity_share"] = values["codes/perplexity_share"]
  evaluated = [row for row in history if "val/reconstruction_mse" in row]
  steps = evaluated[-1]["step"] if evaluated else 0
  before = [row["val/reconstruction_mse"] for row in evaluated if row["step"] <= 0.75 * steps]
  numbers = vqvae_findings.numbers(last, config, earlier=before[-1] if before else float("nan"))
  return findings.blocks(vqvae_findings.checks(config), numbers)


def _shown(model: Vqvae, variables: Variables, data: PreparedSamples) -> tuple[list[Block], dict[str, float]]:
  """Held-out samples beside what became of them."""
  test, kind = data.test, len(data.test.shape) - 1
  apply = jax.jit(lambda x: model.apply(variables, x).reconstruction)
  chosen = np.linspace(0, len(test) - 1, min(_SHOWN[kind], len(test))).astype(int)
  x = test.gather(chosen)
  y = np.asarray(apply(x))
  if kind == 1:
    pairs = signal_pairs(x, y, channels=test.channels, rate_hz=test.rate_hz)
    return [Picture("signals", pairs, "Held-out signals and their reconstruction, in standard deviations.")], {}
  true, found = as_pictures(x, test), as_pictures(y, test)
  many = np.linspace(0, len(test) - 1, min(_COMPARED // (test.length or 1) + 1, len(test))).astype(int)
  batches = np.array_split(many, max(len(many) // 64, 1))
  size = max(map(len, batches))
  pairs = []
  for batch in batches:  # one compiled shape: the last sample fills a batch up
    x = test.gather(np.resize(batch, size))
    pairs.append((as_pictures(x, test)[: len(batch)], as_pictures(np.asarray(apply(x)), test)[: len(batch)]))
  values = {"test/ssim": float(np.mean(np.concatenate([rates.ssim(a, b, 255.0).ravel() for a, b in pairs])))}
  if kind == 2:
    rows = picture_rows({"true": true, "decoded": found})
    return [Picture("pictures", rows, "Held-out images and what the decoder makes of their codes.")], values
  blocks: list[Block] = [
    Picture("strips", video_strips({"true": true, "decoded": found}), "Held-out clips, frame by frame.")
  ]
  if can_write():
    films = {"true": np.concatenate(true), "decoded": np.concatenate(found)}
    blocks.append(Video("clips", films, test.rate_hz, "The same clips, one after the other."))
  return blocks, values


def _limits(config: Config, data: PreparedSamples) -> list[Block]:
  notes = [
    "One seed: the spread over seeds is not known from this run.",
    "The checkpoint was chosen on the validation split; the test split chose nothing in this run.",
    "Bits are those of tokens stored at equal length; a prior over them would need fewer.",
  ]
  if len(np.unique(data.test.source)) < 5:
    notes.append("Fewer than five held-out sources: the error of new ones is known roughly.")
  if config.vqvae.reconstruction != "mse":
    notes.append(f"Trained for {config.vqvae.reconstruction}, shown in squared errors.")
  return [Heading("What to keep in mind"), Notes(notes)]
