"""How sure a classifier is, window by window: calibrated probabilities and sets of labels, and what they are worth."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from behavejax.evaluation import conformal, figures, metrics
from behavejax.evaluation.conformal import Coverage
from behavejax.evaluation.page import Block, Heading, Paragraph, Picture, Table
from behavejax.evaluation.predictions import Predictions

_ASKED = np.array([0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99])
_MOST_GROUPS = 40


def calibrated(splits: Mapping[str, Predictions], *, coverage: float) -> dict[str, Predictions]:
  """Predictions with probabilities and label sets, both from the labels of the split "val"; as they are without any."""
  val = splits["val"]
  if not (val.labels >= 0).any():
    return dict(splits)
  temperature = metrics.fit_temperature(val.logits, val.labels)
  probabilities = {name: metrics.probabilities(p.logits, temperature=temperature) for name, p in splits.items()}
  limit = conformal.threshold(conformal.lac_scores(probabilities["val"]), val.labels, coverage=coverage)
  return {
    name: dataclasses.replace(
      p,
      probabilities=probabilities[name].astype(np.float32),
      label_sets=conformal.label_sets(conformal.lac_scores(probabilities[name]), limit),
    )
    for name, p in splits.items()
  }


def section(
  splits: Mapping[str, Predictions],
  classes: Sequence[str],
  groups: tuple[str, Int[np.ndarray, " window"], Sequence[str]],
  *,
  coverage: float,
) -> tuple[dict[str, float], list[Block]]:
  """Numbers and the part of a report on label sets of the test split.

  Args:
    splits: as of `calibrated`.
    classes: names.
    groups: what the windows of the test split come from ("subject" or "recording"), which of them, and their names.
    coverage: that was asked for.
  """
  val, test = splits["val"], splits["test"]
  if test.label_sets is None or not (test.labels >= 0).any():
    return {}, []
  kind, group, names = groups
  whole = conformal.coverage_of(test.label_sets, test.labels)
  by_group = dict(zip(names, conformal.coverage_by(test.label_sets, test.labels, group, count=len(names)), strict=True))
  by_group = {name: found for name, found in by_group.items() if found.windows}
  by_class = _by_class(val, test, coverage, len(classes))
  occurring = [i for i, found in enumerate(by_class["one threshold"]) if found.windows]
  worst = min(by_group, key=lambda name: by_group[name].covered)
  values = {
    "test/coverage": whole.covered,
    "test/coverage_asked": coverage,
    "test/set_size": whole.size,
    "test/set_single": whole.single,
    f"test/coverage_worst_{kind}": by_group[worst].covered,
    "test/coverage_worst_class": min(by_class["one threshold"][i].covered for i in occurring),
    "test/coverage_worst_class_mondrian": min(by_class["a threshold per class"][i].covered for i in occurring),
  }
  rows = [("all", *_cells(whole)), *((name, *_cells(found)) for name, found in by_group.items())]
  if len(rows) > _MOST_GROUPS:
    rows = [rows[0], (f"worst {kind}: {worst}", *_cells(by_group[worst]))]
  blocks: list[Block] = [
    Heading("Label sets"),
    Paragraph(
      f"A set of labels for every window (predictions.npz: label_sets), made to hold the true one for {coverage:.1%} "
      f"of them. On the test split it does for {whole.covered:.1%}, with {whole.size:.2f} labels on average; "
      f"{whole.single:.0%} of the sets hold one label. No set is empty: the most probable label is always in it, so "
      "coverage is at least the accuracy."
    ),
    Paragraph(
      "What the coverage rests on: split conformal prediction keeps it for windows that are exchangeable with those it "
      f"was calibrated on, here the {int((val.labels >= 0).sum())} labelled ones of the validation split. Windows of "
      "another subject are not, neighbouring windows of one are not independent, and that split has chosen the "
      "checkpoint and the temperature as well. So this is no guarantee for a new subject; what was measured on the "
      f"held-out {kind}s below is what there is to go by, and how much it varies between them."
    ),
    Table(
      (f"held-out {kind}", "windows", "coverage", "labels per set", "sets of one label"), rows, emphasize_first=True
    ),
    Picture("coverage", figures.coverage_curve(_ASKED, _curves(val, test), chosen=coverage),
            "Coverage and size of the sets for every coverage that could be asked for. Adaptive sets (APS, randomised) "
            "grow on difficult windows and are larger on average."),
    Picture("coverage_by_class",
            figures.coverage_by_class(
              {name: [found[i] for i in occurring] for name, found in by_class.items()},
              [classes[i] for i in occurring], chosen=coverage,
            ),
            "One threshold for all, as in the file, may leave rare classes behind; a threshold per class (Mondrian) is "
            "calibrated on the windows of that class and costs larger sets. In brackets: test windows."),
  ]  # fmt: skip
  return values, blocks


def _by_class(val: Predictions, test: Predictions, coverage: float, classes: int) -> dict[str, list[Coverage]]:
  """Coverage of each class's windows, with one threshold and with one per class."""
  scores, own = conformal.lac_scores(test.probabilities), conformal.lac_scores(val.probabilities)
  limits = conformal.class_thresholds(own, val.labels, coverage=coverage)
  kinds = {"one threshold": test.label_sets, "a threshold per class": conformal.label_sets(scores, limits)}
  return {name: conformal.coverage_by(sets, test.labels, test.labels, count=classes) for name, sets in kinds.items()}


def _curves(val: Predictions, test: Predictions) -> dict[str, list[Coverage]]:
  """Coverage on the test split for each of `_ASKED`, by both scores."""
  rng = np.random.default_rng(0)

  def along(own: Float[np.ndarray, "window class"], scores: Float[np.ndarray, "window class"]) -> list[Coverage]:
    limits = [conformal.threshold(own, val.labels, coverage=asked) for asked in _ASKED]
    return [conformal.coverage_of(conformal.label_sets(scores, limit), test.labels) for limit in limits]

  return {
    "least ambiguous (LAC)": along(*(conformal.lac_scores(p.probabilities) for p in (val, test))),
    "adaptive (APS)": along(
      *(conformal.aps_scores(p.probabilities, rng.random(len(p.probabilities))) for p in (val, test))
    ),
  }


def _cells(found: Coverage) -> tuple[str, str, str, str]:
  return f"{found.windows:,}", f"{found.covered:.3f}", f"{found.size:.2f}", f"{found.single:.0%}"
