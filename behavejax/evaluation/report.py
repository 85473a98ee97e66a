"""The report of a run: what was held out, how well it went beside baselines, how the codes are used."""

import csv
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from behavejax.config import Config
from behavejax.data.prepare import Prepared
from behavejax.data.windows import Windows
from behavejax.evaluation import code_report, figures, findings, metrics
from behavejax.evaluation.confidence import calibrated
from behavejax.evaluation.confidence import section as confidence_section
from behavejax.evaluation.curves import training_curves
from behavejax.evaluation.page import Block, Heading, Notes, Paragraph, Picture, Table, replaced_folder, write_page
from behavejax.evaluation.predictions import Predictions, save_predictions
from behavejax.models.quantizer import make_quantizer
from behavejax.workdir import write_json


@dataclasses.dataclass(frozen=True)
class Run:
  """Everything a report is made of.

  Attributes:
    title: of the page.
    config: of the run.
    data: prepared windows of all splits.
    splits: predictions for "val" and "test".
    baselines: predicted classes of the test split, by the baseline's name.
    history: rows of `metrics.jsonl`.
    num_codes: size of the codebook.
    parameters: of the network.
    latents: numbers on the vectors before quantization, as of `metrics.json`.
  """

  title: str
  config: Config
  data: Prepared
  splits: Mapping[str, Predictions]
  baselines: Mapping[str, Int[np.ndarray, " window"]]
  history: Sequence[Mapping[str, float]]
  num_codes: int
  parameters: int
  latents: Mapping[str, float] = dataclasses.field(default_factory=dict)


def write_report(folder: pathlib.Path, run: Run) -> dict[str, float]:
  """Writes the page, metrics.json, predictions.npz, codes.csv where there are labels, and figures/.

  The folder appears whole or not at all.
  """
  run = dataclasses.replace(run, splits=calibrated(run.splits, coverage=run.config.evaluation.coverage))
  test, windows = run.splits["test"], run.data.test
  dictionary = code_report.dictionary_of(test, windows.classes, num_codes=run.num_codes)
  values, blocks = code_report.section(
    test, windows, dictionary, run.config, num_codes=run.num_codes, latents=run.latents
  )  # fmt: skip
  values["val/reconstruction_mse"] = float(run.splits["val"].reconstruction_error.mean())
  for section in (_sets, _classification) if dictionary is not None else ():
    scores, further = section(run)
    values, blocks = scores | values, further + blocks
  blocks = _summary(run) + _findings(run, values) + blocks + _training(run) + _limits(run, values)
  with replaced_folder(folder) as temporary:
    write_page(temporary, "report", run.title, blocks)
    write_json(temporary / "metrics.json", values)
    save_predictions(temporary / "predictions.npz", dict(run.splits))
    if dictionary is not None:
      with (temporary / "codes.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([code_report.COLUMNS, *code_report.rows(dictionary, windows.classes)])
  return values


def _summary(run: Run) -> list[Block]:
  data, config = run.data, run.config
  quality = data.quality
  rows = [_split_row(name, getattr(data, name)) for name in ("train", "val", "test")]
  shape = " x ".join(map(str, data.train.shape))
  blocks: list[Block] = [
    Paragraph(
      f"Data: {config.data.name}, {quality.recordings} recordings of {len(quality.subjects)} subjects, "
      f"{quality.hours:.2f} hours at {data.train.rate_hz:g} Hz, {len(quality.channels)} channels, "
      f"{quality.labelled_share:.0%} of the samples labelled. Windows of {config.data.window_s:g} s every "
      f"{config.data.stride_s:g} s, given to the network as {shape} (height, time, channel). Split {data.split}. "
      f"Network: {run.parameters:,} parameters, quantizer {_quantizer(config)}. Seed {config.seed}."
    ),
    Table(("split", "windows", "hours", "subjects", "who"), rows),
  ]
  if data.warnings:
    blocks.append(Notes(data.warnings, warning=True))
  return blocks


def _quantizer(config: Config) -> str:
  quantizer, made = config.quantizer, make_quantizer(config.quantizer)
  parts = [f"{n} {name}" for n, name in ((quantizer.groups, "groups"), (quantizer.stages, "stages")) if n > 1]
  composed = f" in {' of '.join(parts)}" if parts else ""
  if quantizer.name == "fsq":
    return f"fsq with levels {tuple(quantizer.levels)}{composed} ({made.num_codes} codes)"
  return f"{quantizer.name} with {made.num_codes} codes of {made.digits} dimensions{composed}"


def _split_row(name: str, windows: Windows) -> list[str]:
  who = ", ".join(windows.subjects[:30]) + (
    f" and {len(windows.subjects) - 30} more" if len(windows.subjects) > 30 else ""
  )
  hours = len(windows.signal) / windows.rate_hz / 3600
  return [name, f"{len(windows):,}", f"{hours:.2f}", str(len(windows.subjects)), who]


def _findings(run: Run, values: Mapping[str, float]) -> list[Block]:
  changed = [row["val/tokens_changed"] for row in run.history if "val/tokens_changed" in row]
  numbers = {
    "perplexity": values["codes/perplexity"],
    "code_usage": values["codes/usage"],
    "largest_code": values["codes/largest"],
    "encoder_gradient": values.get("codes/encoder_gradient", np.nan),
    "reconstruction_mse": values["test/reconstruction_mse"],
    "tokens_changed": changed[-1] if changed else np.nan,
  }
  return findings.blocks(findings.code_checks(run.config), numbers)


def _sets(run: Run) -> tuple[dict[str, float], list[Block]]:
  test, windows = run.splits["test"], run.data.test
  groups = ("recording", test.recording, windows.recordings)
  if len(windows.subjects) > 1:
    groups = ("subject", test.subject, windows.subjects)
  return confidence_section(run.splits, windows.classes, groups, coverage=run.config.evaluation.coverage)


def _classification(run: Run) -> tuple[dict[str, float], list[Block]]:
  classes, (val, test) = run.data.test.classes, (run.splits["val"], run.splits["test"])
  groups, group_name = (test.subject, "subjects") if len(run.data.test.subjects) > 1 else (test.recording, "recordings")
  temperature = metrics.fit_temperature(val.logits, val.labels)
  table = metrics.confusion(test.labels, test.predicted, classes=len(classes))
  scores = metrics.class_scores(table)
  before = metrics.reliability(test.logits, test.labels)
  after = metrics.reliability(test.logits, test.labels, temperature=temperature)
  val_table = metrics.confusion(val.labels, val.predicted, classes=len(classes))
  values = {
    "test/accuracy": metrics.accuracy(table),
    "test/balanced_accuracy": metrics.balanced_accuracy(table),
    "test/macro_f1": metrics.macro_f1(table),
    "val/accuracy": metrics.accuracy(val_table),
    "val/macro_f1": metrics.macro_f1(val_table),
    "test/ece": metrics.expected_calibration_error(before),
    "test/ece_calibrated": metrics.expected_calibration_error(after),
    "test/negative_log_likelihood": metrics.negative_log_likelihood(test.logits, test.labels),
    "test/negative_log_likelihood_calibrated": metrics.negative_log_likelihood(
      test.logits, test.labels, temperature=temperature
    ),
    "test/brier": metrics.brier(test.logits, test.labels),
    "calibration/temperature": temperature,
    **{f"test/f1/{name}": float(f1) for name, f1 in zip(classes, scores.f1, strict=True)},
  }
  rows, forest_f1 = [], None
  for name, predicted in {"behavejax, from the codes": test.predicted, **run.baselines}.items():
    counts = metrics.confusion(test.labels, predicted, classes=len(classes))
    cells = [name.replace("_", " ")]
    for score in (metrics.accuracy, metrics.balanced_accuracy, metrics.macro_f1):
      cells.append(f"{score(counts):.3f}{_interval(test.labels, predicted, groups, score, len(classes))}")
    rows.append(cells)
    if name in run.baselines:
      values |= {
        f"baseline/{name}/accuracy": metrics.accuracy(counts),
        f"baseline/{name}/balanced_accuracy": metrics.balanced_accuracy(counts),
        f"baseline/{name}/macro_f1": metrics.macro_f1(counts),
      }
    if name == "random_forest":
      forest_f1 = metrics.class_scores(counts).f1
  blocks: list[Block] = [
    Heading("Behaviour on the test split"),
    Table(("model", "accuracy", "balanced accuracy", "macro-F1"), rows, emphasize_first=True),
    Paragraph(
      f"{_interval_note(len(np.unique(groups)), group_name)} Classifier and decoder see the "
      "discrete codes only; the random forest sees mean, spread, quartiles and spectrum of the continuous signal."
    ),
    Table(("behaviour", "precision", "recall", "F1", "test windows", "training windows"), _class_rows(run, scores)),
    Picture("f1_by_class", figures.f1_by_class(
      {"behavejax": scores.f1} | ({} if forest_f1 is None else {"random forest": forest_f1}), classes
    ), "F1 of every behaviour; the table above says how many windows each rests on."),
    Picture("confusion", figures.confusion_matrix(table, classes), "Where behaviours are taken for each other."),
    Picture("ethogram", _ethogram(run), "True and predicted behaviour over time, window by window, no smoothing."),
    Picture("subjects", figures.accuracy_by_subject(_by_subject(run), overall=values["test/accuracy"]),
            "A model that fails on one subject shows it here."),
    Picture("calibration", figures.reliability_diagram(before, after, temperature=temperature),
            "Confidence against accuracy; the temperature was fitted on the validation split."),
  ]  # fmt: skip
  return values, blocks


def _interval(labels: np.ndarray, predicted: np.ndarray, groups: np.ndarray, score, classes: int) -> str:
  if len(np.unique(groups)) < 2:
    return ""
  low, high = metrics.bootstrap_interval(labels, predicted, groups, score=score, classes=classes, draws=500)
  return f" ({low:.3f} to {high:.3f})"


def _interval_note(count: int, name: str) -> str:
  if count < 2:
    return "No interval: everything held out comes from one recording, and its windows are not independent."
  return f"In brackets: 95 % interval of a bootstrap over the {count} held-out {name}."


def _class_rows(run: Run, scores: metrics.ClassScores) -> list[list[str]]:
  trained = np.bincount(run.data.train.labels[run.data.train.labels >= 0], minlength=len(scores.f1))
  return [
    [name, f"{p:.3f}", f"{r:.3f}", f"{f1:.3f}", f"{int(n)}", f"{t}"]
    for name, p, r, f1, n, t in zip(run.data.test.classes, *scores, trained, strict=True)
  ]


def _by_subject(run: Run) -> dict[str, float]:
  test = run.splits["test"]
  known = test.labels >= 0
  return {
    name: float((test.predicted == test.labels)[known & (test.subject == i)].mean())
    for i, name in enumerate(run.data.test.subjects)
    if (known & (test.subject == i)).any()
  }


def _ethogram(run: Run):
  test, names = run.splits["test"], run.data.test.recordings
  longest = np.argsort(-np.bincount(test.recording, minlength=len(names)), kind="stable")
  shown = sorted(longest[: run.config.evaluation.ethogram_recordings])
  rows = [
    (names[i], test.time_s[test.recording == i], test.labels[test.recording == i], test.predicted[test.recording == i])
    for i in shown
    if (test.recording == i).any()
  ]
  return figures.ethogram(rows, run.data.test.classes, step_s=run.config.data.stride_s)


def _training(run: Run) -> list[Block]:
  """Every number over the steps, a figure for each stage that learns by gradient."""
  stages: dict[str, list[Mapping[str, float]]] = {}
  for row in run.history:
    stages.setdefault(str(row.get("stage", "encoder")), []).append(row)
  pictures = [
    Picture("training" if name == "encoder" else f"training_{name}", training_curves(rows),
            f"Stage {name}. Validation uses the averaged parameters.")
    for name, rows in stages.items()
    if any("train/loss" in row for row in rows)
  ]  # fmt: skip
  return [Heading("Training"), *pictures] if pictures else []


def _limits(run: Run, values: dict[str, float]) -> list[Block]:
  """What a reviewer would ask."""
  notes = [
    "One seed: the spread over seeds is not known from this run.",
    f"{'Checkpoint, temperature and label sets were' if 'test/accuracy' in values else 'The checkpoint was'} chosen on "
    "the validation split; the test split chose nothing in this run.",
  ]
  train = run.data.train
  counts = np.bincount(train.labels[train.labels >= 0], minlength=len(train.classes))
  rare = [f"{name} ({n})" for name, n in zip(train.classes, counts, strict=True) if n < 50]
  if rare:
    notes.append(f"Fewer than 50 training windows, scores of little weight: {', '.join(rare)}.")
  if len(run.data.test.subjects) < 5:
    notes.append(f"Only {len(run.data.test.subjects)} held-out subject(s): the intervals are rough.")
  return [Heading("What to keep in mind"), Notes(notes)]
