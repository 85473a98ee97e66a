"""The report of a run with a codebook: what continuous and discrete vectors lose, codes, prior, samples."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from behavejax.data.samples import Samples
from behavejax.evaluation import (
  findings,
  frames_figures,
  generation,
  geodesic_figures,
  geodesic_findings,
  sample_metrics,
)
from behavejax.evaluation.curves import training_curves
from behavejax.evaluation.generation import Trained
from behavejax.evaluation.generation_page import pictured
from behavejax.evaluation.page import Block, Heading, Notes, Paragraph, Picture, Table, replaced_folder, write_page
from behavejax.workdir import Workdir, write_json

_SHOWN = 24  # samples in a picture
_STEPS = 9  # from one sample to another
_SIGNALS = 4  # side by side


class Reconstructed(NamedTuple):
  """Held-out samples and what is left of them, in the units of the data.

  Attributes:
    true: the samples.
    continuous: decoded from posterior means.
    quantized: decoded from codes.
  """

  true: Float[np.ndarray, "sample *space channel"]
  continuous: Float[np.ndarray, "sample *space channel"]
  quantized: Float[np.ndarray, "sample *space channel"]


class Drawn(NamedTuple):
  """Samples of the prior, normalised.

  Attributes:
    samples: that were drawn.
    labels: the classes they were asked for, -1 where any.
    nearest: the training sample nearest to each.
  """

  samples: Float[np.ndarray, "sample *space channel"]
  labels: np.ndarray
  nearest: sample_metrics.Nearest


def write_report(
  workdir: Workdir,
  run: Trained,
  reconstructed: Reconstructed,
  drawn: Drawn | None,
  values: Mapping[str, float],
  bits: Float[np.ndarray, " dim"],
  history: Sequence[Mapping[str, float | str]],
) -> None:
  """Writes the page, `metrics.json` and figures into `report/`, which appears whole or not at all.

  Args:
    workdir: of the run.
    run: what it learned.
    reconstructed: the test split.
    drawn: samples of the prior; None where there are none.
    values: all scores, as of `metrics.json`.
    bits: divergence of every latent dimension.
    history: rows of `metrics.jsonl`.
  """
  blocks = [*_summary(run, values), *_findings(run, values), *_reconstruction(run, reconstructed, values),
            *_latents(run, bits, values), *_codes(run, values)]  # fmt: skip
  if run.prior is not None:
    blocks += _prior(run, values)
  if drawn is not None:
    blocks += _samples(run, drawn, values)
  blocks += [*_training(history), *_limits(run, values)]
  with replaced_folder(workdir.report) as temporary:
    write_page(temporary, "report", f"Codes of latent vectors: {run.config.frames.name}", blocks)
    write_json(temporary / "metrics.json", dict(values))


def _summary(run: Trained, values: Mapping[str, float]) -> list[Block]:
  data, config, settings = run.data, run.config, run.config.codebook
  shape = " x ".join(map(str, data.train.shape))
  grid = " x ".join(map(str, run.latents["test"].mean.shape[1:-1]))
  names = {"geodesic": "k-medoids along the graph", "euclidean": "k-medoids by straight lines", "kmeans": "k-means"}
  rows = [(name, f"{len(getattr(data, name)):,}") for name in ("train", "val", "test")]
  blocks: list[Block] = [
    Paragraph(
      f"Data: {config.frames.name}, samples of {shape} (space, channel), split: {data.split}. Latent vectors: a grid "
      f"of {grid}, {config.vae.dim} dimensions each. Codebook: {settings.codes} codes by {names[settings.method]}"
      f"{', edges as long as the decoder moves' if settings.metric == 'decoder' else ', Euclidean edges'}, from "
      f"{int(run.built.graph.components.sum()):,} vectors. Seed {config.seed}."
    ),
    Table(("split", "samples"), rows),
  ]
  if data.warnings:
    blocks.append(Notes(data.warnings, warning=True))
  return blocks


def _findings(run: Trained, values: Mapping[str, float]) -> list[Block]:
  config = run.config
  checks = [*geodesic_findings.vae_checks(config), *geodesic_findings.codebook_checks(config)]
  if run.prior is not None:
    checks += geodesic_findings.prior_checks(config)
  numbers = {
    "divergence_bits": values["vae/divergence_bits"], "active_units": values["vae/active_units"],
    "collapsed_units": values["vae/collapsed_units"], "reconstruction_mse": values["test/continuous_mse"],
    "perplexity": values["codes/perplexity"], "code_usage": values["codes/usage"], "outside": values["codes/outside"],
    "loss_db": values["test/loss_db"], "overfit_bits": values.get("prior/overfit_bits", np.nan),
    "saved": values.get("prior/saved", np.nan),
  }  # fmt: skip
  return findings.blocks(checks, numbers)


def _reconstruction(run: Trained, found: Reconstructed, values: Mapping[str, float]) -> list[Block]:
  test = run.data.test
  rows = []
  for name, text in (("continuous", "posterior mean, continuous"), ("quantized", "codes")):
    cells = [f"{values[f'test/{name}_mse']:.4f}"]
    cells += [f"{values.get(f'test/{name}_{key}', np.nan):.{digits}f}" for key, digits in (("psnr", 2), ("ssim", 3))]
    rows.append([text, *(cell if cell != "nan" else "-" for cell in cells)])
  text = (
    f"{len(test):,} test samples. The error is a share of the variance of the training data; quantizing "
    f"costs {values['test/loss_db']:.2f} dB. PSNR is that of the mean squared error over all samples, SSIM their mean."
  )
  chosen = np.linspace(0, len(test) - 1, min(_SHOWN, len(test))).astype(int)
  parts = {"true": found.true, "continuous": found.continuous, "codes": found.quantized}
  if test.peak:
    normal = {name: _normal(own[chosen], test) for name, own in parts.items()}
    still = {name: own if own.ndim == 4 else own[:, own.shape[1] // 2] for name, own in normal.items()}
    figure = frames_figures.picture_rows({name: frames_figures.as_pictures(own, test) for name, own in still.items()})
  else:
    few = chosen[:: max(len(chosen) // _SIGNALS, 1)][:_SIGNALS]
    figure = frames_figures.signal_pairs(
      found.true[few], found.quantized[few], channels=test.channels, rate_hz=test.rate_hz
    )
  return [
    Heading("Reconstruction"),
    Table(("decoded from", "squared error", "PSNR (dB)", "SSIM"), rows),
    Paragraph(text),
    Picture("reconstruction", figure, "Test samples above what is left of them."),
  ]


def _normal(x: Float[np.ndarray, "sample *space channel"], samples: Samples) -> np.ndarray:
  return x if samples.normalization is None else samples.normalization.apply(x)


def _latents(run: Trained, bits: Float[np.ndarray, " dim"], values: Mapping[str, float]) -> list[Block]:
  text = (
    f"{values['vae/divergence_bits']:.0f} bits per sample, {values['vae/divergence_bits_per_place']:.2f} per place of "
    f"the grid, say where its posterior lies; a code says at most {np.log2(values['codes/size']):.2f}. "
    f"{values['vae/active_units']:.0f} of {len(bits)} dimensions vary with the sample, in "
    f"{values['vae/collapsed_units']:.0f} the posterior is the prior."
  )
  return [
    Heading("Latent vectors"),
    Paragraph(text),
    Picture("divergence", geodesic_figures.divergence(bits), "Divergence of every dimension, the largest first."),
  ]


def _codes(run: Trained, values: Mapping[str, float]) -> list[Block]:
  counts = np.bincount(run.codes["test"].ravel(), minlength=run.config.codebook.codes)
  rows = [
    ("codes that occur", f"{values['codes/usage']:.0%}"),
    ("perplexity", f"{values['codes/perplexity']:.1f}"),
    ("share of the commonest", f"{values['codes/largest']:.1%}"),
    ("mean squared distance to the code, along the graph", f"{values['codes/squared_distance']:.4g}"),
    ("mean squared distance to the code, straight", f"{values['codes/squared_error']:.4g}"),
    ("vectors outside the largest component of the graph", f"{values['codes/outside']:.1%}"),
    ("components of the graph", f"{values['codes/components']:.0f}"),
  ]
  ends = _two_samples(run)
  ways = generation.ways(run, *(run.latents["test"].mean[i] for i in ends), steps=_STEPS)
  decoded = {name: generation.decode(run, way) for name, way in (("straight", ways.straight), ("graph", ways.geodesic))}
  changes = {name: generation.smoothness(own) for name, own in decoded.items()}
  text = "From one test sample to another, by straight lines and along the graph. " + "; ".join(
    f"{name}: way of {own['length']:.2f} (root mean square), largest step {own['largest_step']:.0%} of it"
    for name, own in changes.items()
  )
  return [
    Heading("Codes"),
    Table(("on the test split", ""), rows),
    Picture("codes", frames_figures.codebook_map(counts), "How often every code occurs in the test split."),
    Picture("ways", pictured(run, decoded, columns=_STEPS), text + "."),
  ]


def _two_samples(run: Trained) -> tuple[int, int]:
  """The first test sample and the first of another class, or the last."""
  labels = run.data.test.labels
  others = np.flatnonzero(labels != labels[0])
  return 0, int(others[0]) if len(others) else len(labels) - 1


def _prior(run: Trained, values: Mapping[str, float]) -> list[Block]:
  rows = [("prior, class unknown", f"{values['prior/bits_per_code']:.3f}")]
  if "prior/bits_per_code_given_class" in values:
    rows.append(("prior, class given", f"{values['prior/bits_per_code_given_class']:.3f}"))
  rows += [
    ("frequencies of the training codes", f"{values['prior/unigram_bits']:.3f}"),
    ("prior on training codes", f"{values['prior/train_bits_per_code']:.3f}"),
    ("all codes alike", f"{np.log2(values['codes/size']):.3f}"),
  ]
  return [
    Heading("Prior"),
    Table(("bits per test code", ""), rows, emphasize_first=True),
    Paragraph(f"The prior needs {values['prior/saved']:.1%} fewer bits than the frequencies of single codes."),
  ]


def _samples(run: Trained, drawn: Drawn, values: Mapping[str, float]) -> list[Block]:
  data, config = run.data, run.config
  rows = [
    [text, *(f"{values[f'{name}/{score}']:.{digits}f}" for score, digits in _SCORES)]
    for name, text in (
      ("samples", "samples of the prior"), ("quantized", "held-out samples through their codes"),
      ("training", "training samples"),
    )
  ]  # fmt: skip
  asked = (
    f" {values['samples/as_asked']:.1%} of the samples are what was asked for." if "samples/as_asked" in values else ""
  )
  each = 10 if data.train.peak else 4
  labels = generation.class_rows(run, each=each)
  by_class = generation.sample(run, labels, seed=config.seed + 1)
  named = data.train.classes if labels[0] >= 0 else [""] * (len(labels) // each)
  rows_of = {name or str(i): by_class[i * each : (i + 1) * each] for i, name in enumerate(named)}
  warm = [0.5, 0.75, 1.0, 1.25]
  some = np.full(each, -1, np.int32) if labels[0] < 0 else np.resize(np.unique(labels), each).astype(np.int32)
  swept = {f"{t:g}": generation.sample(run, some, seed=config.seed + 2, temperature=t) for t in warm}
  order = np.argsort(drawn.nearest.distances)[: 12 if data.train.peak else _SIGNALS]
  twins = data.train.gather(drawn.nearest.rows[order])
  pictures = [
    Picture("samples", pictured(run, rows_of, columns=each), "Drawn samples, a class in every row."),
    Picture("temperatures", pictured(run, swept, columns=each), "The same keys at rising temperature."),
    Picture(
      "nearest", pictured(run, {"drawn": drawn.samples[order], "nearest": twins}, columns=len(order)),
      "The drawn samples that lie nearest to a training sample, above it: copies would show here.",
    ),
  ]  # fmt: skip
  text = (
    f"{len(drawn.samples):,} samples at temperature {config.prior.temperature:g}, against all held-out ones, in the "
    f"features of a classifier that is right on {values['classifier/accuracy']:.1%} of those. Training samples are as "
    "many as held-out ones: no model should be expected to come nearer. The distance shrinks with the number of "
    f"samples, so it compares within one run only.{asked} {values['samples/copies']:.1%} of the samples lie nearer to "
    "a training sample than 99 % of held-out ones seen through their codes; 1 % would be chance."
  )
  return [
    Heading("Samples"),
    Table(("", "Fréchet distance", "precision", "recall"), rows, emphasize_first=True),
    Paragraph(text),
    *pictures,
  ]


_SCORES = (("frechet", 2), ("precision", 3), ("recall", 3))


def _training(history: Sequence[Mapping[str, float | str]]) -> list[Block]:
  stages: dict[str, list[Mapping[str, float | str]]] = {}
  for row in history:
    stages.setdefault(str(row["stage"]), []).append(row)
  texts = {"vae": "Autoencoder.", "prior": "Prior.", "generate": "Classifier whose features judge samples."}
  pictures = [
    Picture(f"training_{name}", training_curves(rows), f"{texts[name]} Validation uses the averaged parameters.")
    for name, rows in stages.items()
    if name in texts and any("train/loss" in row for row in rows)
  ]
  return [Heading("Training"), *pictures] if pictures else []


def _limits(run: Trained, values: Mapping[str, float]) -> list[Block]:
  notes = [
    "One seed: the spread over seeds is not known from this run (`launch/benchmark.py codebooks` has three).",
    "Parameters were chosen on the validation split; the test split chose nothing in this run.",
  ]
  if run.config.vae.latent == "spatial" and run.config.codebook.metric == "decoder":
    notes.append(
      "Edges between vectors of a grid are as long as each vector moves what it decodes to among its nearest "
      "neighbours in the grid, which stay where they are; vectors further away are not looked at."
    )
  return [Heading("What to keep in mind"), Notes(notes)]
