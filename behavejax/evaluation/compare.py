"""Several runs of the same recordings side by side: the spread of their scores, and how far their states agree."""

import json
import os
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import adjusted_rand_score

from behavejax import config as config_lib
from behavejax.errors import InputError
from behavejax.evaluation import compare_figures, page
from behavejax.evaluation.segments import behaviour_table
from behavejax.workdir import Workdir, differences

_SHOWN = {
  "test/accuracy": "accuracy",
  "test/macro_f1": "macro-F1",
  "test/reconstruction_mse": "reconstruction error",
  "codes/perplexity": "perplexity of the codes",
  "segments/states": "states in use",
  "segments/v_measure": "V-measure",
  "segments/adjusted_rand": "adjusted Rand index with the labels",
  "segments/boundary_f1": "boundary F1",
  "frames/window/accuracy": "by sample: accuracy of the classifier",
  "frames/smoothed/accuracy": "by sample: the same, smoothed",
  "frames/window/macro_f1": "by sample: macro-F1 of the classifier",
  "frames/smoothed/macro_f1": "by sample: the same, smoothed",
  "frames/syllables/macro_f1": "by sample: macro-F1 of the syllables alone",
  "finetune/accuracy_before": "accuracy before fine-tuning",
  "finetune/accuracy_after": "accuracy after it",
  "finetune/log_likelihood_per_step_before": "held-out log likelihood per step before fine-tuning",
  "finetune/log_likelihood_per_step_after": "the same after it",
}


class Run(NamedTuple):
  """What a run found.

  Attributes:
    name: of its folder.
    metrics: of its report and its segments.
    states: of every sample, all recordings one after the other; None where it has no segments.
    labels: behaviours of the same samples, -1 where unknown.
    where: names and first samples of the recordings, which tell whether two runs are of the same data.
  """

  name: str
  metrics: Mapping[str, float]
  states: Int[np.ndarray, " sample"] | None
  labels: Int[np.ndarray, " sample"] | None
  where: tuple[tuple[str, ...], tuple[int, ...]] | None


def compare(folders: Sequence[str | os.PathLike], out: str | os.PathLike) -> dict[str, float]:
  """Writes a page on several runs into the folder `out`, and returns mean and spread of every score they share.

  Raises:
    InputError: fewer than two runs, one without a report, or runs of different recordings.
  """
  if len(folders) < 2 or len({Workdir(folder).path for folder in folders}) < len(folders):
    raise InputError("a comparison needs two runs or more, each named once")
  out = pathlib.Path(out)
  if out.exists() and not (out / "compare.json").exists() and (out.is_file() or any(out.iterdir())):
    raise InputError(f"--out {out} is not empty and holds no comparison; choose another")
  runs = [read_run(folder) for folder in folders]
  agreements = _agreements(runs)
  values = spread(runs) | agreement_scores(agreements)
  with page.replaced_folder(out) as temporary:
    page.write_page(temporary, "compare", f"{len(runs)} runs side by side", _blocks(folders, runs, values, agreements))
    (temporary / "compare.json").write_text(json.dumps(values, indent=2) + "\n")
  return values


def read_run(folder: str | os.PathLike) -> Run:
  """The reports of a run, as far as it has them; `InputError` if it has none, or if they cannot be read."""
  workdir = Workdir(folder)
  files = [workdir.report / "metrics.json", workdir.path / "segments" / "metrics.json"]
  stored = workdir.path / "segments" / "states.npz"
  if not any(path.exists() for path in files):
    raise InputError(f"{workdir.path} has no report; launch/evaluate.py or launch/segment.py --workdir writes one")
  try:
    metrics = {key: value for path in files if path.exists() for key, value in json.loads(path.read_text()).items()}
    if not stored.exists():
      return Run(workdir.path.name, metrics, None, None, None)
    with np.load(stored, allow_pickle=False) as arrays:
      where = tuple(map(str, arrays["recordings"])), tuple(map(int, arrays["offsets"]))
      return Run(workdir.path.name, metrics, arrays["states"], arrays["labels"], where)
  except (KeyError, ValueError, AttributeError, zipfile.BadZipFile) as error:
    raise InputError(f"the report of {workdir.path} cannot be read ({error}); write it again") from error


def spread(runs: Sequence[Run]) -> dict[str, float]:
  """`NAME/mean` and `NAME/std` (of a sample, n - 1) of every score that all runs have."""
  found = {}
  for key in runs[0].metrics:
    values = [run.metrics.get(key) for run in runs]
    if all(isinstance(value, int | float) for value in values):
      found |= {f"{key}/mean": float(np.mean(values)), f"{key}/std": float(np.std(values, ddof=1))}
  return found


def agreement(sequences: Sequence[Int[np.ndarray, " sample"]]) -> Float[np.ndarray, "run run"]:
  """Adjusted Rand index of every two segmentations, over the samples that both know.

  >>> agreement([np.array([0, 0, 1, 1]), np.array([5, 5, 2, 2]), np.array([0, 1, 0, 1])]).round(2).tolist()
  [[1.0, 1.0, -0.5], [1.0, 1.0, -0.5], [-0.5, -0.5, 1.0]]
  """
  found = np.eye(len(sequences))
  for i, first in enumerate(sequences):
    for j, second in enumerate(sequences[:i]):
      both = (first >= 0) & (second >= 0)
      found[i, j] = found[j, i] = adjusted_rand_score(first[both], second[both])
  return found


def as_behaviours(
  states: Int[np.ndarray, " sample"], labels: Int[np.ndarray, " sample"]
) -> Int[np.ndarray, " sample"]:  # fmt: skip
  """Each state as the behaviour of more than half of its labelled samples; -1 where it never has a label.

  States without such a behaviour are one further behaviour together: the short movements between postures have
  states of their own, and which of six movements is a little ahead there says nothing.

  >>> as_behaviours(np.array([3, 3, 3, 1, 2, 4, 4]), np.array([0, 0, 1, 1, -1, 0, 1])).tolist()
  [0, 0, 0, 1, -1, 2, 2]
  """
  num_states, classes = (int(values.max(initial=-1)) + 1 for values in (states, labels))
  share = behaviour_table([labels], [states], num_states=num_states + 1, classes=classes + 1)
  behaviour = np.where(share.max(axis=1) > 0.5, share.argmax(axis=1), classes)
  behaviour = np.where(share.any(axis=1), behaviour, -1)
  return np.where(states >= 0, behaviour[states], -1)


def agreement_scores(tables: Mapping[str, Float[np.ndarray, "run run"]]) -> dict[str, float]:
  """Mean and smallest agreement of two runs, by what was compared."""
  found = {}
  for name, table in tables.items():
    pairs = table[np.triu_indices(len(table), 1)]
    found |= {f"agreement/{name}/mean": float(pairs.mean()), f"agreement/{name}/least": float(pairs.min())}
  return found


def table(values: Mapping[str, float]) -> str:
  """Mean and spread of the most telling scores as text."""
  lines = [f"{'':<54}{'mean':>10}{'std':>10}"]
  for key, label in _SHOWN.items():
    if f"{key}/mean" in values:
      lines.append(f"{label:<54}{values[f'{key}/mean']:>10.3f}{values[f'{key}/std']:>10.3f}")
  for name, label in _AGREEMENTS.items():
    if f"agreement/{name}/mean" in values:
      mean, least = (values[f"agreement/{name}/{what}"] for what in ("mean", "least"))
      lines.append(f"{label:<54}{mean:>10.3f}   least {least:.3f}")
  if _apart(values):
    lines.append(_APART)
  return "\n".join(lines)


_AGREEMENTS = {
  "states": "states of two runs, adjusted Rand index",
  "behaviours": "behaviours by state of two runs, adjusted Rand index",
}


_APART = (
  "States are not compared: recordings of one name differ in their behaviours, as animals simulated for each seed do."
)


def _apart(values: Mapping[str, float]) -> bool:
  return "segments/states/mean" in values and not any(key.startswith("agreement/") for key in values)


def _agreements(runs: Sequence[Run]) -> dict[str, Float[np.ndarray, "run run"]]:
  if any(run.states is None for run in runs):
    return {}
  different = [run.name for run in runs if run.where != runs[0].where]
  if different:
    raise InputError(f"{different[0]} is of other recordings than {runs[0].name}: their states cannot be compared")
  if any(not np.array_equal(run.labels, runs[0].labels) for run in runs):
    return {}
  found = {"states": agreement([run.states for run in runs])}
  if any((run.labels >= 0).any() for run in runs):
    found["behaviours"] = agreement([as_behaviours(run.states, run.labels) for run in runs])
  return found


def _blocks(
  folders: Sequence[str | os.PathLike], runs: Sequence[Run], values: Mapping[str, float],
  agreements: Mapping[str, Float[np.ndarray, "run run"]],
) -> list[page.Block]:  # fmt: skip
  configs = [config_lib.to_dict(Workdir(folder).read_config()) for folder in folders]
  changed = sorted({key for other in configs[1:] for key, _, _ in differences(configs[0], other)})
  names = [run.name for run in runs]
  rows = []
  for key, label in _SHOWN.items():
    if f"{key}/mean" in values:
      both = f"{values[f'{key}/mean']:.3f} ± {values[f'{key}/std']:.3f}"
      rows.append((label, *(f"{run.metrics[key]:.3f}" for run in runs), both))
  setting = ", ".join(f"config.{key}" for key in changed) or "nothing: the runs have the same config"
  blocks: list[page.Block] = [
    page.Paragraph(f"What differs between the runs: {setting}."),
    page.Table(("", *names, "mean ± standard deviation"), rows),
    *([page.Paragraph(_APART)] if _apart(values) else []),
  ]
  texts = {
    "states": "Adjusted Rand index of the states of two runs, over all samples: 1 is the same segmentation, whatever "
    "the states are called, 0 is chance.",
    "behaviours": "The same when each state stands for the behaviour of more than half of its labelled samples, and "
    "all states without one for one more: runs that divide one behaviour differently agree here and not above.",
  }
  for name, matrix in agreements.items():
    figure = compare_figures.agreement(matrix, names, title=_AGREEMENTS[name][0].upper() + _AGREEMENTS[name][1:])
    blocks.append(page.Picture(f"agreement_{name}", figure, texts[name]))
  return blocks
