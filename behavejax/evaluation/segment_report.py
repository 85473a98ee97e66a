"""The report of a segmentation without labels: how it compares, what the states are, and what is not known."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from behavejax.evaluation import segment_figures as figures
from behavejax.evaluation import segments
from behavejax.evaluation.curves import learning_curves
from behavejax.evaluation.page import Block, Heading, Notes, Paragraph, Picture, Table, replaced_folder, write_page
from behavejax.evaluation.segment_files import write_segment_files
from behavejax.evaluation.segments import Segmentation, state_name

_ETHOGRAMS = 3
_ETHOGRAM_S = 300.0
_MOST_SUBJECTS = 60
_NEAR_S = 0.5
_STATE_COLUMNS = (
  "state", "share of the time", "segments", "mean (s)", "median (s)", "fitted mean (s)", "entropy (nats)"
)  # fmt: skip
_COLUMNS = {
  "V-measure": ("segments/v_measure", ".3f"),
  "adjusted Rand": ("segments/adjusted_rand", ".3f"),
  "Hungarian accuracy": ("segments/hungarian_accuracy", ".3f"),
  "boundary F1": ("segments/boundary_f1", ".3f"),
  "adjusted Rand, per recording": ("segments/recording_adjusted_rand", ".3f"),
  "boundary F1, per recording": ("segments/recording_boundary_f1", ".3f"),
  "states": ("segments/states", ".0f"),
  "median dwell (s)": ("segments/median_dwell_s", ".2f"),
}


class Fitted(NamedTuple):
  """What the model learned about its states.

  Attributes:
    transitions: probability of the next segment's state, by state.
    durations: probability that a segment lasts 1, 2, ... steps, by state.
    step_s: seconds per step.
  """

  transitions: Float[np.ndarray, "from to"]
  durations: Float[np.ndarray, "state step"]
  step_s: float


def write_segment_report(
  folder: pathlib.Path,
  segmentation: Segmentation,
  fitted: Fitted,
  rows: Mapping[str, Mapping[str, float]],
  *,
  title: str,
  tolerance_s: float,
  history: Sequence[Mapping[str, float | str]] = (),
  held_out: bool = False,
  findings: Sequence[Block] = (),
  further: Sequence[Block] = (),
) -> None:
  """Writes segments.md, segments.html, figures/ and the files of `write_segment_files`.

  The folder appears whole or not at all.

  Args:
    folder: is replaced.
    segmentation: of the model; its states are below the number of fitted ones.
    fitted: of the model.
    rows: scores as of `segments.scores` by the name of the method, the model first.
    title: of the page.
    tolerance_s: that the scores were computed with, in seconds.
    history: rows of the stages that learned segmentations, as of `metrics.jsonl`.
    held_out: whether the scores are of a part that nothing was learned from.
    findings: the section on what is wrong, as of `findings.blocks`.
    further: sections before the last one.
  """
  num_states = len(fitted.transitions)
  share = segments.usage(segmentation.states, num_states=num_states)
  shown = segments.states_in_use(segmentation.states).tolist()
  table = segments.behaviour_table(
    segmentation.labels, segmentation.states, num_states=num_states, classes=len(segmentation.classes)
  )
  if not table.any():  # classes without a labelled sample say nothing
    table = table[:, :0]
  order = figures.behaviour_order(table, shown)
  palette = figures.state_palette(table, segmentation.classes if table.size else ())
  blocks = [
    *_summary(segmentation, shown),
    *findings,
    *_comparison(rows, held_out=held_out),
    *_states(segmentation, fitted, share, order, palette),
    *_certainty(segmentation, next(iter(rows.values()), {}), len(shown)),
    *_behaviours(segmentation, table, share, order),
    *_subjects(segmentation, order, num_states),
    *_learning(history),
    *further,
    *_limits(segmentation, tolerance_s, held_out=held_out),
  ]
  with replaced_folder(folder) as temporary:
    write_page(temporary, "segments", title, blocks)
    write_segment_files(temporary, segmentation)


def _summary(segmentation: Segmentation, shown: list[int]) -> list[Block]:
  hours = sum(map(len, segmentation.states)) / segmentation.rate_hz / 3600
  found = segments.segment_rows(segmentation)
  posterior = np.average([row.posterior for row in found], weights=[row.duration_s for row in found]) if found else 0
  used = ", ".join(map(state_name, shown))
  return [
    Paragraph(
      f"{len(segmentation.states)} recordings of {len(set(segmentation.subjects))} subjects, {hours:.2f} hours at "
      f"{segmentation.rate_hz:g} Hz, were cut into {len(found):,} segments. {len(shown)} states have more than "
      f"{segments.IN_USE:.0%} of the time{': ' + used if used else ''}. The mean posterior "
      f"probability of the chosen state is {posterior:.3f}."
    ),
    Paragraph(
      "Beside this page: segments.csv (a row per segment), subjects.csv (the time of each subject), states.npz (a "
      "state per sample), boris.csv (in the columns of BORIS's aggregated events), boris/ (events to paste into BORIS) "
      "and elan/ (to import as tab-delimited text)."
    ),
  ]


def _comparison(rows: Mapping[str, Mapping[str, float]], *, held_out: bool) -> list[Block]:
  if not rows:
    return []
  cells = [[name, *(_number(values, *column) for column in _COLUMNS.values())] for name, values in rows.items()]
  return [
    Heading("Methods side by side"),
    Table(("method", *_COLUMNS), cells, emphasize_first=True),
    Paragraph(
      "V-measure, adjusted Rand index and accuracy compare states and behaviours sample by sample; accuracy allows "
      "each behaviour one state only. Boundary F1 compares only when something changes. Scores per recording are "
      "averages over the recordings. Methods with very different numbers of states or dwell are hard to compare."
      + (" Scores are of the test part of the data only; the rest of this page is of all." if held_out else "")
    ),
  ]


def _states(
  segmentation: Segmentation,
  fitted: Fitted,
  share: Float[np.ndarray, " state"],
  order: list[int],
  palette: figures.Palette,
) -> list[Block]:
  rate, observed = segmentation.rate_hz, segments.durations(segmentation.states, rate_hz=segmentation.rate_hz)
  steps = np.arange(1, fitted.durations.shape[1] + 1) * fitted.step_s
  expected = fitted.durations @ steps / np.maximum(fitted.durations.sum(1), 1e-12)
  entropy = segments.state_entropy(segmentation, num_states=len(share))
  rows = [
    (state_name(i), f"{share[i]:.1%}", f"{len(observed[i]):,}", f"{observed[i].mean():.2f}",
     f"{np.median(observed[i]):.2f}", f"{expected[i]:.2f}", f"{entropy[i]:.2f}" if np.isfinite(entropy[i]) else "-")
    for i in order
  ]  # fmt: skip
  blocks: list[Block] = [Heading("States")]
  if not order:
    return [*blocks, Paragraph("No state has enough of the time to be shown.")]
  longest = np.argsort([-len(states) for states in segmentation.states], kind="stable")[:_ETHOGRAMS]
  end = int(_ETHOGRAM_S * rate)
  tracks = [
    figures.Track(segmentation.names[i], segmentation.labels[i][:end], segmentation.states[i][:end])
    for i in sorted(longest)
  ]
  shown = {state: observed[state] for state in order}
  colours = " A state has the colour of the behaviour it occurs in most." if palette.behaviours else ""
  return [
    *blocks,
    Picture("ethogram", figures.segment_ethogram(tracks, order, palette, rate_hz=rate),
            f"The first {_ETHOGRAM_S / 60:g} minutes of the longest recordings.{colours}"),
    Picture("usage", figures.usage_bars(share, palette, threshold=segments.IN_USE),
            "How the time divides among the states."),
    Table(_STATE_COLUMNS, rows),
    Picture("durations", figures.duration_histograms(shown, fitted.durations, step_s=fitted.step_s, palette=palette),
            "Durations as found and as fitted. Segments cut off by the end of a recording are shorter than they were."),
    Picture("transitions", figures.transition_graph(fitted.transitions, share, order, palette),
            "Fitted probabilities of what follows a segment; discs are as large as the share of the time."),
  ]  # fmt: skip


def _certainty(segmentation: Segmentation, scores: Mapping[str, float], used: int) -> list[Block]:
  """How far the posterior is from naming one state, and how far apart the states lie."""
  texts = []
  if segmentation.entropies and sum(map(len, segmentation.entropies)):
    entropy, near = np.concatenate(segmentation.entropies), np.concatenate(_near_changes(segmentation))
    where = ""
    if near.any() and not near.all():
      where = (
        f" It is {entropy[near].mean():.2f} within {_NEAR_S:g} s of a change of state and "
        f"{entropy[~near].mean():.2f} elsewhere."
      )
    texts.append(
      f"The posterior over the states has an entropy of {entropy.mean():.2f} nats on average, per sample: 0 where it "
      f"is sure, {np.log(max(used, 1)):.2f} where it cannot tell {used} states apart. It is above {np.log(2):.2f}, two "
      f"equal states, for {np.mean(entropy > np.log(2)):.1%} of the time.{where}"
    )
  if "segments/silhouette" in scores:
    other = scores.get("segments/silhouette_behaviours", np.nan)
    behaviours = f", by behaviour {other:.2f}" if np.isfinite(other) else ""
    texts.append(
      f"The silhouette of what was segmented is {scores['segments/silhouette']:.2f} by state{behaviours} (-1 to 1; "
      "above 0 where steps lie nearer to others of their group than to those of the next)."
    )
  return [Heading("How sure the states are"), *map(Paragraph, texts)] if texts else []


def _near_changes(segmentation: Segmentation) -> list[Bool[np.ndarray, " time"]]:
  """Per recording, the samples within `_NEAR_S` of a change of state."""
  width, found = round(_NEAR_S * segmentation.rate_hz), []
  for states in segmentation.states:
    near = np.zeros(len(states), bool)
    for start in segments.runs(states)[0][1:]:
      near[max(start - width, 0) : start + width] = True
    found.append(near)
  return found


def _behaviours(
  segmentation: Segmentation, table: Float[np.ndarray, "state class"], share: np.ndarray, order: list[int]
) -> list[Block]:
  if not table.size or not order:
    return []
  rows = []
  for state in order:
    best = [i for i in np.argsort(-table[state], kind="stable")[:3] if table[state, i] >= 0.005]
    parts = [f"{segmentation.classes[i]} {table[state, i]:.0%}" for i in best]
    rows.append((state_name(state), ", ".join(parts) or "no labelled samples"))
  return [
    Heading("Behaviours"),
    Picture("behaviours", figures.behaviour_heat_map(table, share, order, segmentation.classes),
            "What was labelled while a state lasted."),
    Table(("state", "most frequent behaviours"), rows),
  ]  # fmt: skip


def _subjects(segmentation: Segmentation, order: list[int], num_states: int) -> list[Block]:
  names, shares = segments.subject_usage(segmentation, num_states=num_states)
  if not 1 < len(names) <= _MOST_SUBJECTS or not order:
    return []
  return [
    Heading("Subjects"),
    Picture("subjects", figures.subject_heat_map(shares, names, order), "How much each subject uses each state."),
  ]


def _learning(history: Sequence[Mapping[str, float | str]]) -> list[Block]:
  if not history:
    return []
  stages: dict[str, list[Mapping[str, float | str]]] = {}
  for row in history:
    stages.setdefault(str(row["stage"]), []).append(row)
  pictures = [
    Picture("learning" if name == "hsmm" else f"learning_{name}", learning_curves(rows),
            f"Stage {name}, round by round. Changes, durations and persistence are expectations under the posterior.")
    for name, rows in stages.items()
  ]  # fmt: skip
  return [
    Heading("Learning"),
    *pictures,
    Paragraph("Learning ends when no move to fewer states makes the bound larger."),
  ]


def _limits(segmentation: Segmentation, tolerance_s: float, *, held_out: bool) -> list[Block]:
  samples = max(sum(map(len, segmentation.states)), 1)
  unlabelled = sum(int((labels < 0).sum()) for labels in segmentation.labels) / samples
  unsegmented = sum(int((states < 0).sum()) for states in segmentation.states) / samples
  notes = [
    "The segmentation is unsupervised: labels were not used for fitting. Scores and colours were made with them "
    "afterwards; a method chosen by its scores here would have to be judged on other data.",
    "A state that splits or joins behaviours lowers the scores and can still be right: labels have the grain their "
    "authors chose.",
    f"Boundaries match within {tolerance_s:g} s. How precisely the labels themselves were set is not known.",
    f"{unlabelled:.1%} of the samples carry no label and take part in no score; between two behaviours they are one "
    "boundary wherever it lies, elsewhere no boundary in them counts.",
    "One fit is shown: how much another seed would change is not known from this page.",
  ]
  if held_out:
    notes[0] = (
      "States were learned without labels, from the training part, but the codes that they are made of come from an "
      "encoder that may have seen its labels. Scores are of the test part."
    )
  if unlabelled == 1:
    notes[1:4] = ["Nothing is labelled: whether the states are behaviours is not known."]
  if unsegmented:
    notes.append(f"{unsegmented:.1%} of the samples got no state; where they are labelled they count as wrong.")
  return [Heading("What is not known"), Notes(notes)]


def _number(values: Mapping[str, float], key: str, style: str) -> str:
  return format(values[key], style) if np.isfinite(values.get(key, np.nan)) else "-"
