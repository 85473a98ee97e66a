"""Figures of a sweep: its trials over all settings, in time, and what mattered."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from behavejax.evaluation.figures import BLUE, GREY, ORANGE, styled
from behavejax.evaluation.sweep_trials import Axis, Sweep, Trial, show

_CUT = "pruned, at its last evaluation"


@styled
def parallel_coordinates(sweep: Sweep) -> Figure:
  """A line per trial through its settings to its score; trials that were pruned are faint and end before the score."""
  done, pruned = sweep.of("complete"), sweep.of("pruned")
  values = np.array([trial.value for trial in done])
  figure = Figure((max(7.0, 1.9 * (len(sweep.axes) + 1)), 5.0), layout="constrained")
  axes = figure.subplots()
  norm = mpl.colors.Normalize(*_span(values))
  colours = mpl.colormaps["viridis" if sweep.direction == "maximize" else "viridis_r"]
  for trial in pruned:
    axes.plot(_heights(sweep.axes, trial), color=GREY, alpha=0.3, linewidth=1, label="pruned", zorder=1)
  worst_first = np.argsort(values if sweep.direction == "maximize" else -values, kind="stable")
  for i in worst_first:
    heights = [*_heights(sweep.axes, done[i]), float(norm(values[i]))]
    width = 2.6 if i == worst_first[-1] else 1.4
    axes.plot(heights, color=colours(norm(values[i])), linewidth=width, alpha=0.9, label=f"trial {done[i].number}")
  for column, axis in enumerate(sweep.axes):
    _upright(axes, column, *_ticks(axis))
  if done:
    _upright(axes, len(sweep.axes), *_ticks(Axis(sweep.objective, norm.vmin, norm.vmax)))
    figure.colorbar(mpl.cm.ScalarMappable(norm, colours), ax=axes, label=sweep.objective, shrink=0.7, aspect=30)
  names = [axis.name.replace(".", ".\n", 1) + ("\n(log)" if axis.log else "") for axis in sweep.axes]
  axes.set_xticks(range(len(names) + bool(done)), [*names, sweep.objective] if done else names)
  axes.tick_params(axis="x", length=0, pad=8)
  axes.set(yticks=[], ylim=(-0.04, 1.04), xlim=(-0.35, len(names) - (0 if done else 1) + 0.2))
  axes.spines[:].set_visible(False)
  axes.set_title(f"{len(done)} finished trials" + (f", {len(pruned)} pruned (faint)" if pruned else ""), pad=12)
  return figure


@styled
def importance_bars(importances: Mapping[str, float], *, trials: int) -> Figure:
  """How much of the score's variance each setting explains by itself, summing to 1 (functional ANOVA)."""
  names = sorted(importances, key=lambda name: importances[name])
  figure = Figure((8, 0.42 * len(names) + 1.3), layout="constrained")
  axes = figure.subplots()
  bars = axes.barh(names, [importances[name] for name in names], color=BLUE, height=0.6)
  axes.bar_label(bars, fmt="{:.2f}", padding=4)
  axes.set(
    xlim=(0, 1.08), xlabel="share of the main effects", title=f"What mattered (fANOVA over {trials} finished trials)"
  )
  axes.tick_params(axis="y", length=0)
  return figure


@styled
def optimisation_history(sweep: Sweep) -> Figure:
  """Score of every trial in the order in which they ran, and the best so far."""
  done, pruned, failed = (sweep.of(state) for state in ("complete", "pruned", "failed"))
  figure = Figure((8, 3.6), layout="constrained")
  axes = figure.subplots()
  axes.scatter(*_points(done), s=28, color=BLUE, label="finished", zorder=3)
  if pruned:
    axes.scatter(*_points(pruned), s=24, facecolor="none", edgecolor=GREY, alpha=0.8, label=_CUT, zorder=2)
  if done:
    axes.step(*_best_so_far(done, sweep), where="post", color=ORANGE, linewidth=1.6, label="best so far", zorder=1)
  if failed:
    numbers = [trial.number for trial in failed]
    axes.plot(numbers, np.zeros(len(failed)), "x", color=GREY, label="failed",
              transform=axes.get_xaxis_transform(), clip_on=False, zorder=4)  # fmt: skip
  last = max((trial.number for trial in sweep.trials), default=0)
  axes.set(xlabel="trial", ylabel=sweep.objective, title="History", xlim=(-0.6, last + 0.6))
  axes.xaxis.set_major_locator(MaxNLocator(integer=True))
  axes.grid(axis="y", alpha=0.25)
  axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
  return figure


def _heights(axes: Sequence[Axis], trial: Trial) -> list[float]:
  return [height(axis, trial.changes[axis.name]) for axis in axes]


def height(axis: Axis, value: float | object) -> float:
  """Place of a value on its axis, 0 at the bottom and 1 at the top."""
  if axis.choices:
    return list(axis.choices).index(value) / max(len(axis.choices) - 1, 1)
  low, high, value = np.log([axis.low, axis.high, value]) if axis.log else (axis.low, axis.high, value)
  return float((value - low) / (high - low))


def _ticks(axis: Axis) -> tuple[list[float], list[str]]:
  if axis.choices:
    return [height(axis, choice) for choice in axis.choices], [show(choice) for choice in axis.choices]
  if axis.log:
    sparse = LogLocator(subs=(1, 2, 5) if axis.high / axis.low < 200 else (1,)).tick_values(axis.low, axis.high)
    inner = [tick for tick in sparse if axis.low <= tick <= axis.high]
  elif axis.step and axis.high - axis.low < 9 * axis.step:
    inner = np.arange(axis.low, axis.high, axis.step)
  else:
    whole = isinstance(axis.low, int) and isinstance(axis.high, int)
    inner = MaxNLocator(5, steps=(1, 2, 5, 10), integer=whole).tick_values(axis.low, axis.high)
  ends = {height(axis, end): f"{end:.4g}" for end in (axis.low, axis.high)}
  between = {height(axis, tick): f"{tick:.4g}" for tick in inner if 0.06 < height(axis, tick) < 0.94}
  places = ends | between
  return list(places), list(places.values())


def _upright(axes: Axes, column: int, places: Sequence[float], labels: Sequence[str]) -> None:
  """A vertical axis with its ticks, labelled on the left."""
  axes.add_line(Line2D([column, column], [0, 1], color="black", linewidth=0.9, zorder=5))
  backing = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}
  for place, label in zip(places, labels, strict=True):
    axes.add_line(Line2D([column - 0.02, column], [place, place], color="black", linewidth=0.9, zorder=5))
    axes.text(column - 0.04, place, label, ha="right", va="center", fontsize=8.5, bbox=backing, zorder=6)


def _span(values: Float[np.ndarray, " trial"]) -> tuple[float, float]:
  if len(values) == 0:
    return 0.0, 1.0
  low, high = values.min(), values.max()
  return (low, high) if low < high else (low - 0.5, high + 0.5)


def _points(trials: Sequence[Trial]) -> tuple[list[int], list[float]]:
  shown = [trial for trial in trials if trial.value is not None]
  return [trial.number for trial in shown], [trial.value for trial in shown]


def _best_so_far(done: Sequence[Trial], sweep: Sweep) -> tuple[list[int], Float[np.ndarray, " trial"]]:
  better = np.maximum if sweep.direction == "maximize" else np.minimum
  numbers, values = _points(done)
  last = max(trial.number for trial in sweep.trials)
  best = better.accumulate(values)
  return [*numbers, last], np.append(best, best[-1])
