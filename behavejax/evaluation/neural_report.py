"""The report of a neural encoder: scores beside baselines and the truth, receptive fields, attention, behaviour."""

import csv
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from behavejax.evaluation import neural_figures as figures
from behavejax.evaluation.curves import training_curves
from behavejax.evaluation.neural_attention import Attention, attention, attention_metrics
from behavejax.evaluation.neural_fields import Fields, field_metrics, receptive_fields
from behavejax.evaluation.neural_figures import SHOWN
from behavejax.evaluation.neural_run import CONV, STAGES, Trained, restore
from behavejax.evaluation.neural_scores import ENCODER, GLM, TRUTH, Judged, Scores, judge, score_metrics
from behavejax.evaluation.page import Block, Heading, Notes, Paragraph, Picture, Table, replaced_folder, write_page
from behavejax.workdir import Workdir, read_metrics, write_json


class Look(NamedTuple):
  """What is looked at of one data set besides its scores."""

  fields: Fields
  attention: Attention | None
  centres: np.ndarray | None  # true ones, where they are known


def report(folder: str | os.PathLike) -> dict[str, float]:
  """Writes `neural/` of a run and returns its `metrics.json`.

  The folder holds neural.html, neural.md, metrics.json, neurons.csv (a row per neuron), predictions.npz (expected
  counts of the test frames) and figures/, and appears whole or not at all.

  Raises:
    InputError: the folder holds no finished run of a neural encoder, or its data are gone or have changed.
  """
  workdir = Workdir(folder)
  trained = restore(workdir, workdir.read_config())
  judged = judge(trained, workdir)
  looks = [_look(trained, i) for i in range(len(trained.data))]
  values = {**score_metrics(judged), **_look_metrics(looks)}
  values["parameters"] = float(sum(leaf.size for leaf in jax.tree.leaves(trained.variables["params"])))
  blocks = [
    *_overview(trained, judged, values),
    *_scores(trained, judged),
    *_behaviour(judged, values),
    *_fields(trained, looks, values),
    *_attention(trained, looks),
    *_training(workdir),
  ]
  with replaced_folder(workdir.path / "neural") as place:
    write_page(place, "neural", "Spikes from video and behaviour", blocks)
    write_json(place / "metrics.json", values)
    _write_neurons(place / "neurons.csv", judged, looks)
    np.savez_compressed(place / "predictions.npz", **_predictions(trained, judged))
  return values


def table(values: dict[str, float]) -> str:
  """The scores of a report as a small text table."""
  lines = [f"{'test trials':<28}{'bits per spike':>16}{'correlation':>13}{'FEVE':>8}"]
  for name, prefix in _rows(values):
    cells = [values.get(f"{prefix}/{measure}") for measure in ("bits_per_spike", "correlation", "feve")]
    shown = ["" if value is None else f"{value:.3f}" for value in cells]
    lines.append(f"{name:<28}{shown[0]:>16}{shown[1]:>13}{shown[2]:>8}")
  if "test/share_of_achievable" in values:
    lines.append(f"{values['test/share_of_achievable']:.1%} of the achievable bits per spike")
  if "fields/gradient/within_1.5" in values:
    lines.append(
      f"centres of receptive fields within 1.5 pixels: {values['fields/gradient/within_1.5']:.0%} by gradient, "
      f"{values['fields/readout/within_1.5']:.0%} by readout"
    )
  return "\n".join(lines)


def _rows(values: dict[str, float]) -> list[tuple[str, str]]:
  prefixes = {name: {ENCODER: "test", TRUTH: TRUTH}.get(name, f"baseline/{name}") for name in SHOWN}
  return [(SHOWN[name], prefix) for name, prefix in prefixes.items() if f"{prefix}/bits_per_spike" in values]


def _look(trained: Trained, number: int) -> Look:
  truth = trained.data[number].recording.truth
  centres = None if truth is None or not np.isfinite(truth.centres).all() else truth.centres
  return Look(receptive_fields(trained, number), attention(trained, number), centres)


def _look_metrics(looks: Sequence[Look]) -> dict[str, float]:
  """Of all data sets together: centres of all neurons, attention averaged."""
  centres = None if any(look.centres is None for look in looks) else np.concatenate([look.centres for look in looks])
  energy = looks[0].fields.energy[:0]
  together = Fields(energy, *(np.concatenate([getattr(look.fields, n) for look in looks]) for n in Fields._fields[1:]))
  values = field_metrics(together, centres)
  of_blocks = [attention_metrics(look.attention) for look in looks if look.attention is not None]
  return values | {
    name: float(np.mean([own[name] for own in of_blocks])) for name in (of_blocks[0] if of_blocks else ())
  }


def _overview(trained: Trained, judged: Sequence[Judged], values: dict[str, float]) -> list[Block]:
  settings = trained.config.vivit
  core = (
    f"{settings.spatial_blocks} + {settings.temporal_blocks} blocks of width {settings.width}"
    if settings.core == "vivit" else f"3D convolutions with {', '.join(map(str, settings.convolutions))} filters"
  )  # fmt: skip
  first = (
    f"{values['parameters']:,.0f} parameters: {core}, {settings.readout} readouts. Every score is of trials that took "
    "no part in training, one model and one seed."
  )
  undefined = int(values["test/undefined_neurons"])
  warnings = [line for data in trained.data for line in data.warnings]
  if undefined:
    warnings.append(f"{undefined} neuron(s) fire no spike in the scored frames and have no bits per spike")
  if settings.core == "vivit" and not settings.causal:
    warnings.append("config.vivit.causal=False: predictions know later frames of the clip")
  rows = [
    (own.name, f"{own.scores[ENCODER].bits.size}", f"{int(own.mask.any(1).sum()):,}",
     *(f"{np.nanmean(own.scores[m].bits):.3f}" if m in own.scores else "" for m in (ENCODER, GLM, TRUTH)))
    for own in judged
  ]  # fmt: skip
  return [
    Paragraph(first),
    *([Notes(warnings, warning=True)] if warnings else []),
    Table(("data set", "neurons", "frames scored", "encoder", "GLM", "achievable"), rows),
  ]


def _scores(trained: Trained, judged: Sequence[Judged]) -> list[Block]:
  names = [name for name in SHOWN if all(name in own.scores for own in judged)]
  names = [ENCODER, *(name for name in names if name != ENCODER)]
  best = np.concatenate([own.scores[TRUTH].bits for own in judged]) if TRUTH in names else None
  rows = []
  for name in names:
    together = [np.concatenate([getattr(own.scores[name], m) for own in judged]) for m in Scores._fields]
    cells = [f"{np.nanmean(part):.3f}" if np.isfinite(part).any() else "" for part in together]
    share = "" if best is None else f"{np.nanmean(together[0]) / np.nanmean(best):.1%}"
    rows.append((SHOWN[name], *cells, *([share] if best is not None else [])))
  data = trained.data[0]
  header = ("model", "bits per spike", "correlation", "FEVE", *(["of the achievable"] if best is not None else []))
  return [
    Heading("Beside simpler models"),
    Paragraph(
      "Bits per spike: the log likelihood gained over the neuron's own mean rate, per spike. Correlation: of expected "
      "and actual counts, frame by frame, on single trials. FEVE: the share of the variance that repeats of a video "
      "have in common which is explained; behaviour differs between repeats, so it can come above 1. Means over "
      "neurons."
      + (" The true rates know video, behaviour and receptive fields: nothing does better on average." if TRUTH in names
         else "")
    ),
    Table(header, rows, emphasize_first=True),
    Picture("comparison", figures.comparison(judged), "A dot is a neuron, a bar the mean."),
    Picture("by_neuron", figures.by_neuron(judged), "Above the dashed line the encoder is better."),
    Picture("traces", figures.traces(judged[0], data.recording.spikes, rate_hz=data.recording.rate_hz),
            "Expected counts per second on test trials; strokes below are spikes, the higher ones two or more."),
  ]  # fmt: skip


def _behaviour(judged: Sequence[Judged], values: dict[str, float]) -> list[Block]:
  if "behaviour/bits_gained" not in values:
    return [Heading("Behaviour"), Paragraph("No data set has behaviour, or config.vivit.modulator is off.")]
  return [
    Heading("Behaviour"),
    Paragraph(
      f"With the behaviour replaced by its mean, predictions lose {values['behaviour/bits_gained']:.3f} bits per spike "
      "on average."
    ),
    Picture("behaviour", figures.behaviour(judged), "Above the dashed line behaviour helps."),
  ]


def _fields(trained: Trained, looks: Sequence[Look], values: dict[str, float]) -> list[Block]:
  blocks: list[Block] = [
    Heading("Receptive fields"),
    Paragraph(
      "By gradient: squared gradients of a frame's expected count with respect to the video before, over test clips. "
      f"By readout: the mean of the mask. The two lie {values['fields/apart_pixels']:.2f} pixels apart (median). "
      "Readouts begin at the place where training counts correlate with the video: their means are not found by the "
      "gradient of the loss alone."
    ),
  ]  # fmt: skip
  if "fields/gradient/within_1.5" in values:
    rows = [
      (f"by {way}", f"{values[f'fields/{way}/error_pixels']:.2f}", f"{values[f'fields/{way}/within_1.5']:.1%}")
      for way in ("gradient", "readout")
    ]
    known = {data.name: (look.fields, look.centres) for data, look in zip(trained.data, looks, strict=True)}
    blocks += [
      Table(("centre", "median error (pixels)", "within 1.5 pixels"), rows),
      Picture("field_errors", figures.field_errors(known), "Distance of the centres found to the true ones."),
    ]
  for i, (data, look) in enumerate(zip(trained.data, looks, strict=True)):
    drawn = figures.receptive_fields(look.fields, look.centres, name=data.name)
    blocks.append(Picture(f"fields_{i}", drawn, "Blue: where a pixel moves the prediction."))
  return blocks


def _attention(trained: Trained, looks: Sequence[Look]) -> list[Block]:
  blocks: list[Block] = []
  for i, (data, look) in enumerate(zip(trained.data, looks, strict=True)):
    found = look.attention
    if found is None:
      continue
    if not blocks:
      blocks = [
        Heading("Attention"),
        Paragraph(
          "Entropy is a share of that of equal weights: 1 looks everywhere alike, 0 at one token. Register use beside "
          "the share that equal weights would give to registers."
        ),
      ]
    tokens = found.spatial.shape[-1] if len(found.spatial) else 0
    rows = [
      (f"spatial {b + 1}", _heads(found.spatial_entropy[b]), _heads(found.registers[b], percent=True),
       f"{1 - found.grid[0] * found.grid[1] / tokens:.1%}")
      for b in range(len(found.spatial))
    ] + [(f"temporal {b + 1}", _heads(heads), "", "") for b, heads in enumerate(found.temporal_entropy)]  # fmt: skip
    blocks += [
      Table((f"{data.name}: block", "entropy, each head", "to registers, each head", "equal weights"), rows),
      Picture(f"attention_{i}", figures.attention_maps(found, name=data.name), "Means over test clips."),
    ]
  return blocks


def _heads(values: np.ndarray, *, percent: bool = False) -> str:
  return " ".join(f"{value:.0%}" if percent else f"{value:.2f}" for value in values)


def _training(workdir: Workdir) -> list[Block]:
  rows = read_metrics(workdir.metrics_file)
  blocks: list[Block] = []
  for stage in (*reversed(STAGES), CONV):
    own = [row for row in rows if row["stage"] == stage]
    if own:
      blocks.append(Picture(f"training_{stage}", training_curves(own), f"Stage {stage}: training and validation."))
  return [Heading("Training"), *blocks] if blocks else []


def _write_neurons(path: pathlib.Path, judged: Sequence[Judged], looks: Sequence[Look]) -> None:
  models = [name for name in SHOWN if all(name in own.scores for own in judged)]
  with path.open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow([
      "data_set", "neuron", *(f"bits_{name}" for name in models), "correlation", "feve", "row_gradient",
      "column_gradient", "row_readout", "column_readout",
    ])  # fmt: skip
    for own, look in zip(judged, looks, strict=True):
      for n in range(len(own.scores[ENCODER].bits)):
        best = own.scores[ENCODER]
        numbers = [
          *(own.scores[name].bits[n] for name in models), best.correlation[n], best.feve[n],
          *look.fields.gradient_centres[n], *look.fields.readout_centres[n],
        ]  # fmt: skip
        writer.writerow([own.name, n, *("" if np.isnan(value) else f"{value:.5g}" for value in numbers)])


def _predictions(trained: Trained, judged: Sequence[Judged]) -> dict[str, np.ndarray]:
  """Frames, expected counts and counts of what was scored, by data set."""
  arrays = {}
  for data, own in zip(trained.data, judged, strict=True):
    frames = np.flatnonzero(own.mask.any(1))
    arrays[f"{own.name}/frame"] = frames
    arrays[f"{own.name}/rates"] = own.rates[ENCODER][frames]
    arrays[f"{own.name}/spikes"] = data.recording.spikes[frames]
    arrays[f"{own.name}/mask"] = own.mask[frames]
  return arrays
