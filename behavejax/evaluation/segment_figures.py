"""Figures of a segmentation. Each function returns a matplotlib `Figure`; `figures.save` writes it.

A state has the colour of the behaviour it occurs in most, so that equal colours mean equal behaviours everywhere.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch

from behavejax.evaluation.figures import BLUE, GREY, ORANGE, class_colours, styled
from behavejax.evaluation.segments import runs, state_name

_WIDTH = 11.0
_PANELS = 12
_BINS = 24
_WEAKEST = 0.05
_PALE = "#d3d7de"


class Palette(NamedTuple):
  """Colours of the states, and which behaviours the colours stand for; no behaviours, one colour."""

  states: list[str]
  behaviours: dict[str, str]


def state_palette(table: Float[np.ndarray, "state class"], classes: Sequence[str]) -> Palette:
  """Each state gets the colour of its most frequent behaviour; pale grey where it has no labelled samples.

  Args:
    table: share of each behaviour in each state, as of `segments.behaviour_table`.
    classes: names of the behaviours; none if nothing is labelled.
  """
  if not len(classes):
    return Palette([BLUE] * len(table), {})
  colours = class_colours(len(classes))
  states = [colours[row.argmax()] if row.any() else _PALE for row in table]
  behaviours = dict(zip(classes, colours, strict=True))
  return Palette(states, behaviours | ({} if table.any(axis=1).all() else {"(no labels)": _PALE}))


class Track(NamedTuple):
  """One recording for the ethogram: its name, behaviours (-1 unlabelled) and states (-1 none), sample by sample."""

  name: str
  labels: Int[np.ndarray, " time"]
  states: Int[np.ndarray, " time"]


@styled
def segment_ethogram(tracks: Sequence[Track], shown: Sequence[int], palette: Palette, *, rate_hz: float) -> Figure:
  """Behaviours in the upper strip, below it one line per state; white is unlabelled or another state.

  Args:
    tracks: recordings, or their beginnings.
    shown: states that get a line, from top to bottom.
    palette: colours.
    rate_hz: samples per second.
  """
  colours = list(palette.behaviours.values())
  columns = _legend_columns(palette)
  lanes = 0.16 * len(shown) + (0.45 if colours else 0.1)
  legend = 0.25 * -(-len(colours) // columns)
  longest = max(len(track.states) for track in tracks)
  unit, scale = ("min", 60 * rate_hz) if longest > 300 * rate_hz else ("s", rate_hz)
  figure = Figure((_WIDTH, len(tracks) * (lanes + 0.75) + legend + 0.2), layout="constrained")
  for axes, track in zip(np.atleast_1d(figure.subplots(len(tracks), 1)), tracks, strict=True):
    for lane, state in enumerate(shown):
      axes.axhline(lane, color="#eceef2", linewidth=0.6, zorder=0)
      _bars(axes, track.states == state, (lane - 0.42, 0.84), palette.states[state], scale)
    for label, colour in enumerate(colours):
      _bars(axes, track.labels == label, (-3.4, 2.4), colour, scale)
    axes.set(xlim=(0, len(track.states) / scale), ylim=(len(shown) - 0.4, -3.6 if colours else -0.6))
    axes.set_yticks([*([-2.2] if colours else []), *range(len(shown))],
                    [*(["behaviour"] if colours else []), *map(state_name, shown)])  # fmt: skip
    for tick, size in zip(axes.get_yticklabels(), [9.5] * bool(colours) + [8] * len(shown), strict=True):
      tick.set_fontsize(size)
    axes.set_title(track.name, fontsize=10)
    axes.set_xlabel(f"time in the recording ({unit})")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
  _legend(figure, palette, columns)
  return figure


@styled
def duration_histograms(
  observed: Mapping[int, Float[np.ndarray, " segment"]],
  pmf: Float[np.ndarray, "state step"],
  *,
  step_s: float,
  palette: Palette,
) -> Figure:
  """Observed durations of up to twelve states with the fitted distribution over them, in the same bins.

  The states with the most segments are shown. An axis ends where both have at most 2 % left; what lies beyond is said.

  Args:
    observed: durations in seconds, by state.
    pmf: fitted probability of 1, 2, ... steps, by state.
    step_s: seconds per step of `pmf`.
    palette: colours.
  """
  shown = sorted(sorted(observed, key=lambda state: -len(observed[state]))[:_PANELS])
  columns = min(4, max(len(shown), 1))
  rows = max(-(-len(shown) // columns), 1)
  figure = Figure((max(2.8 * columns, 4.5), 2.1 * rows + 0.6), layout="constrained")
  grid = figure.subplots(rows, columns, squeeze=False)
  for axes in grid.ravel()[len(shown) :]:
    axes.set_visible(False)
  for axes, state in zip(grid.ravel(), shown, strict=False):
    steps = np.maximum(np.rint(observed[state] / step_s).astype(int), 1)
    fitted = pmf[state] / max(pmf[state].sum(), 1e-12)
    longest = max(int(np.quantile(steps, 0.98)), int(np.searchsorted(np.cumsum(fitted), 0.98)) + 1)
    width = -(-longest // int(np.clip(2 * np.sqrt(len(steps)), 8, _BINS)))
    bins = -(-longest // width)
    counts = np.bincount((steps - 1) // width, minlength=bins)[:bins]
    model = np.bincount(np.arange(len(fitted)) // width, fitted, minlength=bins)[:bins]
    edges = (np.arange(bins + 1) * width + 0.5) * step_s
    axes.stairs(counts / len(steps), edges, fill=True, color=palette.states[state], alpha=0.75)
    axes.stairs(model, edges, color="black", linewidth=1.3, baseline=None)
    beyond = 1 - counts.sum() / len(steps)
    rest = f", {beyond:.0%} beyond" if beyond >= 0.005 else ""
    axes.set_title(f"{state_name(state)}, n = {len(steps)}{rest}", fontsize=9.5)
    axes.set(xlim=(0, edges[-1]), ylim=(0, None))
    axes.tick_params(labelsize=8.5)
  for axes in grid[:, 0]:
    axes.set_ylabel("share per bin")
  figure.supxlabel("duration (s)", fontsize=10)
  handles = [Patch(color=GREY, alpha=0.75, label="observed"), Patch(fill=False, edgecolor="black", label="fitted")]
  figure.legend(handles=handles, loc="outside upper right", ncols=2)
  return figure


@styled
def transition_graph(
  transitions: Float[np.ndarray, "from to"], share: Float[np.ndarray, " state"], shown: Sequence[int], palette: Palette
) -> Figure:
  """States on a circle, strongly connected ones side by side; arrows for probabilities above 5 %.

  Args:
    transitions: probability of each next state, by state.
    share: of the time, by state; the area of a disc.
    shown: states that are drawn.
    palette: colours.
  """
  chosen = np.asarray(shown, int)
  chosen = chosen[_circular_order(transitions[np.ix_(chosen, chosen)])]
  angle = np.pi / 2 - 2 * np.pi * np.arange(len(chosen)) / max(len(chosen), 1)
  place = np.stack([np.cos(angle), np.sin(angle)], axis=1)
  columns = _legend_columns(palette)
  size = 6.5 if len(chosen) <= _PANELS else 8.5
  figure = Figure((size + 0.6, size + 0.25 * -(-len(palette.behaviours) // columns)), layout="constrained")
  axes = figure.subplots()
  area = 150 + 2200 * share[chosen]
  radius = np.sqrt(area / np.pi)  # points, as of `scatter`
  inner = transitions[np.ix_(chosen, chosen)]
  for i, j in zip(*np.unravel_index(np.argsort(inner, axis=None), inner.shape), strict=True):  # the strongest on top
    p = float(inner[i, j])
    if i != j and p > _WEAKEST:
      strength = min((p - _WEAKEST) / 0.4, 1.0)
      axes.add_patch(
        FancyArrowPatch(
          place[i], place[j], connectionstyle="arc3,rad=0.18", arrowstyle="-|>", mutation_scale=6 + 9 * strength,
          linewidth=0.5 + 2.5 * strength, color=str(0.8 - 0.7 * strength), shrinkA=radius[i] + 1, shrinkB=radius[j] + 2,
        )
      )  # fmt: skip
  axes.scatter(*place.T, s=area, c=[palette.states[i] for i in chosen], edgecolor="white", linewidth=1, zorder=3)
  for state, point, r in zip(chosen, place, radius, strict=True):
    axes.annotate(
      state_name(state), point, xytext=point * (r + 11), textcoords="offset points", ha="center", va="center",
      fontsize=10, zorder=4,
    )  # fmt: skip
  axes.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal")
  axes.set_axis_off()
  axes.set_title(f"Which state follows: arrows above {_WEAKEST:.0%}, darkest from {_WEAKEST + 0.4:.0%}")
  _legend(figure, palette, columns)
  return figure


@styled
def usage_bars(share: Float[np.ndarray, " state"], palette: Palette, *, threshold: float) -> Figure:
  """Share of the time in every state that occurs, the largest first; the line is the threshold of being in use."""
  order = [state for state in np.argsort(-share, kind="stable") if share[state] > 0]
  columns = _legend_columns(palette)
  width = float(np.clip(0.36 * len(order) + 2, 6, _WIDTH))
  figure = Figure((width, 3.2 + 0.25 * -(-len(palette.behaviours) // columns)), layout="constrained")
  axes = figure.subplots()
  axes.bar(range(len(order)), 100 * share[order], color=[palette.states[i] for i in order], width=0.75)
  axes.axhline(100 * threshold, color=ORANGE, linestyle="--", linewidth=1, label=f"{threshold:.0%} of the time")
  crowded = len(order) > 26
  axes.set_xticks(
    range(len(order)), map(state_name, order), rotation=90 if crowded else 0, fontsize=8 if crowded else 9
  )
  axes.set(ylabel="% of the time", title=f"{np.sum(share > threshold)} states above {threshold:.0%} of the time")
  axes.set_xlim(-0.6, max(len(order), 1) - 0.4)
  axes.legend()
  _legend(figure, palette, columns)
  return figure


@styled
def behaviour_heat_map(
  table: Float[np.ndarray, "state class"], share: Float[np.ndarray, " state"], shown: Sequence[int],
  classes: Sequence[str],
) -> Figure:  # fmt: skip
  """Rows are states and sum to 100 %: the behaviours of their labelled samples; grouped by the most frequent one."""
  order = behaviour_order(table, shown)
  figure = Figure((0.62 * len(classes) + 3.4, 0.34 * len(order) + 1.9), layout="compressed")
  axes = figure.subplots()
  values = 100 * table[order]
  image = axes.imshow(values, cmap="Blues", vmin=0, vmax=100, aspect="auto")
  for row, column in np.argwhere(values >= 0.5):
    colour = "white" if values[row, column] > 55 else "black"
    axes.text(column, row, f"{values[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=8.5)
  axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
  axes.set_yticks(range(len(order)), [f"{state_name(i)} ({share[i]:.1%})" for i in order])
  axes.set(ylabel="state (share of the time)", title="Behaviours in each state")
  axes.spines[:].set_visible(False)
  figure.colorbar(image, shrink=0.8, label="% of the state's labelled samples")
  return figure


@styled
def subject_heat_map(
  shares: Float[np.ndarray, "subject state"], subjects: Sequence[str], shown: Sequence[int]
) -> Figure:  # fmt: skip
  """Rows are subjects: how the time of each divides among the states."""
  figure = Figure((0.45 * len(shown) + 3.0, 0.3 * len(subjects) + 1.8), layout="compressed")
  axes = figure.subplots()
  values = 100 * shares[:, shown]
  image = axes.imshow(values, cmap="Blues", vmin=0, vmax=max(values.max(), 1.0), aspect="auto")
  for row, column in np.argwhere(values >= 0.5):
    colour = "white" if values[row, column] > 0.55 * values.max() else "black"
    axes.text(column, row, f"{values[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=8)
  axes.set_xticks(range(len(shown)), [state_name(state) for state in shown])
  axes.set_yticks(range(len(subjects)), subjects)
  axes.set(xlabel="state", ylabel="subject", title="Time of each subject")
  axes.spines[:].set_visible(False)
  figure.colorbar(image, shrink=0.8, label="% of the subject's time")
  return figure


def behaviour_order(table: Float[np.ndarray, "state class"], shown: Sequence[int]) -> list[int]:
  """States grouped by their most frequent behaviour, the purest of each group first; those without labels last."""
  chosen = np.asarray(shown, int)
  if not table.size:
    return chosen.tolist()
  rows = table[chosen]
  main = np.where(rows.any(1), rows.argmax(1), table.shape[1])
  return chosen[np.lexsort((-rows.max(1), main))].tolist()


def _bars(axes: Axes, flags: np.ndarray, height: tuple[float, float], colour: str, scale: float) -> None:
  starts, ends, on = runs(flags)
  bars = [(start / scale, (end - start) / scale) for start, end in zip(starts[on], ends[on], strict=True)]
  axes.broken_barh(bars, height, color=colour, linewidth=0)


def _circular_order(transitions: Float[np.ndarray, "from to"]) -> np.ndarray:
  """Angles in the plane of the two slowest modes of the symmetric graph, so that few long arrows are needed."""
  if len(transitions) < 4:
    return np.arange(len(transitions))
  weight = transitions + transitions.T + 1e-6
  np.fill_diagonal(weight, 0)
  vectors = np.linalg.eigh(np.diag(weight.sum(1)) - weight)[1]
  return np.argsort(np.arctan2(vectors[:, 2], vectors[:, 1]), kind="stable")


def _legend_columns(palette: Palette) -> int:
  longest = max(map(len, palette.behaviours), default=1)
  return int(np.clip(7 / (0.6 + 0.085 * longest), 1, 6))  # inches; names of any length


def _legend(figure: Figure, palette: Palette, columns: int) -> None:
  if palette.behaviours:
    handles = [Patch(color=colour, label=name) for name, colour in palette.behaviours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
