"""The report of a sweep: its best trials, what mattered, every trial, and how far to trust it."""

import pathlib

import numpy as np

from behavejax.evaluation import page, sweep_figures
from behavejax.evaluation.sweep_trials import Axis, Sweep, Trial, show, trial_row

FEW_TRIALS = 20
"""Finished trials below which importances are little more than noise."""


def write_report(folder: pathlib.Path, sweep: Sweep) -> None:
  """Writes `report.md`, `report.html` and `figures/` into `folder`, in place of what it held."""
  with page.replaced_folder(folder) as temporary:
    page.write_page(temporary, "report", sweep.title, blocks(sweep))


def blocks(sweep: Sweep) -> list[page.Block]:
  """The page of a sweep."""
  return [*_summary(sweep), *_best(sweep), *_importances(sweep), *_all(sweep), *_limits(sweep)]


def _summary(sweep: Sweep) -> list[page.Block]:
  done, pruned, failed = (len(sweep.of(state)) for state in ("complete", "pruned", "failed"))
  verb = "raise" if sweep.direction == "maximize" else "lower"
  text = f"{len(sweep.trials)} trials to {verb} {sweep.objective}: {done} finished, {pruned} pruned, {failed} failed."
  return [page.Paragraph(text)]


def _best(sweep: Sweep) -> list[page.Block]:
  best = sweep.ranked()
  if not best:
    return [page.Notes(["no trial finished, so there is no best one"], warning=True)]
  header = ["trial", sweep.objective, *(axis.name for axis in sweep.axes)]
  found: list[page.Block] = [
    page.Heading("Best trials"),
    page.Table(header, [trial_row(sweep, trial) for trial in best[:5]], emphasize_first=True),
    page.Paragraph(f"The same settings again: {sweep.command}"),
    page.Paragraph(
      f"That run lies in trials/{best[0].number:04d} already; launch/evaluate.py --workdir=... writes its report."
    ),
  ]
  edges = [axis for axis in sweep.axes if at_edge(axis, best[0])]
  if edges:
    found.append(
      page.Notes(
        [f"{axis.name}={show(best[0].changes[axis.name])} lies at the end of its range" for axis in edges]
        + ["a wider range may hold better settings"]
      )
    )
  return [
    *found,
    page.Picture(
      "parallel_coordinates", sweep_figures.parallel_coordinates(sweep),
      "A line per trial; settings that matter gather the good ones in one place, others let them cross.",
    ),
  ]  # fmt: skip


def at_edge(axis: Axis, trial: Trial) -> bool:
  """Whether a trial lies within 5 % of an end of a range of numbers."""
  return not axis.choices and not 0.05 < sweep_figures.height(axis, trial.changes[axis.name]) < 0.95


def _importances(sweep: Sweep) -> list[page.Block]:
  count = len(sweep.of("complete"))
  heading = page.Heading("What mattered")
  if not sweep.importances:
    return [heading, page.Paragraph(f"{count} finished trials are too few, or too much alike, to tell.")]
  note = f"Importances rest on {count} finished trials, and hold for the ranges that were searched"
  few = f"; below {FEW_TRIALS} they are little more than noise" if count < FEW_TRIALS else ""
  pruned = ["Pruned trials are left out: a setting that got trials pruned mattered more than is shown."]
  return [
    heading,
    page.Picture(
      "importances", sweep_figures.importance_bars(sweep.importances, trials=count),
      "How much of the score each setting explains by itself, summing to 1; what settings do together is left out.",
    ),
    page.Notes([f"{note}{few}.", *(pruned if sweep.of("pruned") else [])], warning=bool(few)),
  ]  # fmt: skip


def _all(sweep: Sweep) -> list[page.Block]:
  found: list[page.Block] = [
    page.Heading("All trials"),
    page.Picture("history", sweep_figures.optimisation_history(sweep), "Trials in the order in which they ran."),
  ]
  header = ["trial", "state", sweep.objective, *(axis.name for axis in sweep.axes)]
  rows = [trial_row(sweep, trial) for trial in sweep.trials]
  table = [[row[0], trial.state, *row[1:]] for row, trial in zip(rows, sweep.trials, strict=True)]
  found.append(page.Table(header, table))
  failed = [f"trial {trial.number}: {trial.message}" for trial in sweep.of("failed")]
  return [*found, page.Notes(failed)] if failed else found


def _limits(sweep: Sweep) -> list[page.Block]:
  notes = [
    "Every trial was judged on the validation split; the test split was not looked at.",
    f"The best of {len(sweep.trials)} trials owes part of its lead to luck: its validation score is too high an "
    "estimate. Judge it once on the test split.",
    "All trials share one seed for data order and initial parameters."
    if "seed" not in [axis.name for axis in sweep.axes]
    else "Trials differ in their seed, which is luck and not a setting to choose.",
  ]
  data = [axis.name for axis in sweep.axes if axis.name.startswith("data.")]
  if data:
    notes.append(f"Trials differ in {', '.join(data)}: they were not all judged on the same windows.")
  values = [trial.value for trial in sweep.of("complete")]
  if len(values) > 1:
    notes.append(f"Finished trials: {np.min(values):.4f} to {np.max(values):.4f}, median {np.median(values):.4f}.")
  return [page.Heading("How far to trust it"), page.Notes(notes)]
