"""Figures of what `metrics.jsonl` holds: every number of a stage over its steps or rounds, a panel each."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from behavejax.evaluation.figures import BLUE, GREY, ORANGE, class_colours, styled

Row = Mapping[str, float | str]
_COLUMNS = 4
_SHARED = 20  # lines that one legend below the figure names
_COLOURS = {
  "train": BLUE, "validation": ORANGE, "macro-F1": GREY, "": BLUE, "seen": BLUE, "held out": ORANGE, "all": "black",
  "encoder": BLUE, "decoder": ORANGE, "classifier": "#2eb184", "quantizer": "#a8347f",
}  # fmt: skip


class Panel(NamedTuple):
  """One plot.

  Attributes:
    title: with the unit.
    lines: label of each number; a key that ends in "/" stands for all that start with it, labelled by their ends.
    log: whether the axis is logarithmic.
    own_legend: whether its lines are named beside them, not below the figure.
  """

  title: str
  lines: Mapping[str, str]
  log: bool = False
  own_legend: bool = False


def _both(name: str) -> dict[str, str]:
  return {f"train/{name}": "train", f"val/{name}": "validation"}


_TRAINING = (
  Panel("loss", _both("loss")),
  Panel("bits per spike", _both("bits_per_spike")),
  Panel("bits per spike by data set", {"val/bits_per_spike/": ""}, own_legend=True),
  Panel("accuracy", {**_both("accuracy"), "val/macro_f1": "macro-F1"}),
  Panel("like the float model", _both("agreement")),
  Panel("log likelihood of states, per step", _both("log_likelihood_per_step")),
  Panel("squared error", _both("reconstruction_mse")),
  Panel("squared error by channel", {"val/mse/": ""}),
  Panel("PSNR by channel (dB)", {"val/psnr/": ""}),
  Panel("divergence (bits per sample)", _both("divergence_bits")),
  Panel("divergence by dimension (bits)", {"val/divergence_bits/": ""}),
  Panel("active and collapsed dimensions", {"val/active_units": "active", "val/collapsed_units": "collapsed"}),
  Panel("bits per code", {**_both("bits_per_code"), "val/bits_per_code_given_class": "class given"}),
  Panel("quantization loss", _both("quantization_loss")),
  Panel("code perplexity", _both("perplexity")),
  Panel("share of the codes in use", _both("code_usage")),
  Panel("share of the commonest code", _both("largest_code")),
  Panel("share of tokens that changed", {"val/tokens_changed": "validation"}),
  Panel("spread of latents, by digit", {"val/latent_std/": ""}, own_legend=True),
  Panel("learning rate", {"learning_rate": ""}),
  Panel("gradient norm", {"gradient_norm": "all", "gradient_norm/": ""}, log=True, own_legend=True),
)
_LEARNING = (
  Panel("bound (nats)", {"bound": ""}),
  Panel("log likelihood per step", {"log_likelihood_per_step": "seen", "held_out_log_likelihood_per_step": "held out"}),
  Panel("states in use", {"states": ""}),
  Panel("state changes per minute", {"transitions_per_minute": ""}),
  Panel("mean duration (s)", {"mean_duration_s": ""}),
  Panel("probability to stay, per step", {"persistence": ""}),
)


def training_curves(rows: Sequence[Row]) -> Figure:
  """Every number of a stage that learns by gradient: training faint, validation strong, channels in colours."""
  return _grid(_TRAINING, rows, "step", _COLUMNS)


def learning_curves(rows: Sequence[Row]) -> Figure:
  """Every number of a stage that learns a segmentation, over its rounds."""
  prefix = f"{rows[0]['stage']}/"
  plain = [{key.removeprefix(prefix): value for key, value in row.items()} for row in rows]
  figure = _grid(_LEARNING, plain, "round", 3)
  bounds = [row["bound"] for row in plain]
  if len(bounds) > 5:  # the first rounds are far below
    low, high = np.quantile(bounds, 0.1), max(bounds)
    figure.axes[0].set_ylim(low - 0.05 * (high - low + 1e-9), high + 0.05 * (high - low + 1e-9))
  return figure


@styled
def _grid(panels: Sequence[Panel], rows: Sequence[Row], unit: str, columns: int) -> Figure:
  drawn = [(panel, lines) for panel in panels if (lines := _lines(panel, rows))]
  columns = min(columns, max(len(drawn), 1))
  height = max(-(-len(drawn) // columns), 1)
  figure = Figure((2.9 * columns + 0.4, 2.2 * height + 0.6), layout="constrained")
  grid = figure.subplots(height, columns, squeeze=False).ravel()
  shared = {}
  steps = [row["step"] for row in rows]
  for axes, (panel, lines) in zip(grid, drawn, strict=False):
    _draw(axes, panel, lines)
    margin = 0.04 * max(max(steps) - min(steps), 1)
    axes.set_xlim(min(steps) - margin, max(steps) + margin)
    if not panel.own_legend:
      handles, labels = axes.get_legend_handles_labels()
      shared |= dict(zip(labels, handles, strict=True))
  for axes in grid[len(drawn) :]:
    axes.set_visible(False)
  for axes in grid[max(len(drawn) - columns, 0) : len(drawn)]:
    axes.set_xlabel(unit)
  if 1 < len(shared) <= _SHARED:
    room = max(int(figure.get_figwidth() / (0.6 + 0.085 * max(map(len, shared)))), 1)  # names of any length
    lines = -(-len(shared) // room)
    figure.legend(shared.values(), shared, loc="outside lower center", ncols=-(-len(shared) // lines))
  return figure


def _lines(panel: Panel, rows: Sequence[Row]) -> dict[str, list[tuple[float, float]]]:
  """Points of each line by its label; lines of nothing but zeros say nothing."""
  found = {}
  for key, label in panel.lines.items():
    keys = [key]
    if key.endswith("/"):
      keys = list(dict.fromkeys(name for row in rows for name in row if name.startswith(key)))
    for name in keys:
      points = [(row["step"], row[name]) for row in rows if name in row]
      if any(value for _, value in points):
        found[label or name.removeprefix(key)] = points
  return found


def _draw(axes: Axes, panel: Panel, lines: Mapping[str, list[tuple[float, float]]]) -> None:
  for (label, points), colour in zip(lines.items(), class_colours(len(lines)), strict=True):
    few = len(points) <= 40
    axes.plot(
      *zip(*points, strict=True), label=label or "_", color=_COLOURS.get(label, colour), marker="." if few else None,
      markersize=4, linewidth=1.5 if few else 0.8, alpha=0.55 if label == "train" else 1,
    )  # fmt: skip
  axes.set_title(panel.title, fontsize=9.5)
  axes.tick_params(labelsize=8)
  axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
  values = [value for points in lines.values() for _, value in points]
  if all(float(value).is_integer() for value in values):
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
  axes.grid(axis="y", alpha=0.25)
  if panel.log and max(values) > 0:
    axes.set_yscale("log")
  if panel.own_legend and 1 < len(lines) <= _SHARED // 2:
    axes.legend(fontsize=7, ncols=2, handlelength=1.2, columnspacing=0.8, labelspacing=0.25)
