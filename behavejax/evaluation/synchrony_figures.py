"""Figures of the states of two devices. Each function returns a matplotlib `Figure`; `figures.save` writes it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from behavejax.evaluation.figures import BLUE, GREY, ORANGE, class_colours, styled
from behavejax.evaluation.segments import runs, state_name
from behavejax.evaluation.synchrony import ALPHA, Synchrony

_WIDTH = 11.0
_MOST_CELLS = 16
_MOST_COLOURS = 20
_PALE = "#d3d7de"
_COLUMNS = 10
_SOFT = LinearSegmentedColormap.from_list("soft", colormaps["RdBu_r"](np.linspace(0.18, 0.82, 9)))


class PairTrack(NamedTuple):
  """One recording of two devices: its name, and the state of each device (-1 none), sample by sample."""

  name: str
  first: Int[np.ndarray, " time"]
  second: Int[np.ndarray, " time"]


@styled
def lag_curves(result: Synchrony, names: tuple[str, str]) -> Figure:
  """Mutual information, agreement and kappa over lags; grey is where 95 % of shifted sequences lie, lag by lag."""
  figure = Figure((_WIDTH, 3.5), layout="constrained")
  panels = (
    (result.information, 1.0, "mutual information", "bits"),
    (result.agreement, 100.0, "equal states", "% of the time"),
    (result.kappa, 1.0, "Cohen's kappa", "1: always equal, 0: chance"),
  )
  for axes, (curve, scale, title, unit) in zip(figure.subplots(1, 3), panels, strict=True):
    axes.fill_between(result.lags_s, scale * curve.low, scale * curve.high, color=_PALE, linewidth=0)
    axes.plot(result.lags_s, scale * curve.chance, color=GREY, linewidth=1)
    axes.axvline(0, color=GREY, linewidth=0.6, zorder=0)
    if result.p_peak <= ALPHA:
      axes.axvline(result.peak_lag_s, color=ORANGE, linewidth=1, linestyle="--")
    axes.plot(result.lags_s, scale * curve.values, color=BLUE, linewidth=2)
    axes.set(title=title, ylabel=unit, xlim=(result.lags_s[0], result.lags_s[-1]))
    axes.grid(axis="y", alpha=0.25)
  first = figure.axes[0]
  first.axhline(result.highest_by_chance, color=GREY, linewidth=1, linestyle=":")
  if result.p_peak <= ALPHA:
    left = result.peak_lag_s > 0.6 * result.lags_s[-1]
    first.annotate(
      f"{result.peak_lag_s:+.2g} s" if result.peak_lag_s else "0 s", (result.peak_lag_s, 1), (-4 if left else 4, 0),
      ha="right" if left else "left", va="top", xycoords=("data", "axes fraction"), textcoords="offset points",
      color=ORANGE,
    )  # fmt: skip
  first_name, second_name = names
  figure.supxlabel(
    f"← {second_name} is ahead          lag of {second_name} behind {first_name} (s)          {first_name} is ahead →",
    fontsize=10,
  )
  return figure


@styled
def joint_heat_map(result: Synchrony, names: tuple[str, str]) -> Figure:
  """Share of the time with each pair of states at the peak lag; red pairs are more frequent than by chance.

  Pairs that chance would show at fewer than five steps are left grey. Some pair of states must have occurred.
  """
  total = max(result.joint.sum(), 1)
  often = result.joint.sum(axis=0) + result.joint.sum(axis=1)
  shown = np.sort(np.argsort(-often, kind="stable")[: min(_MOST_CELLS, int((often > 0).sum()))])
  share = result.joint / total
  expected = share.sum(axis=1, keepdims=True) * share.sum(axis=0, keepdims=True)
  ratio = np.log2(np.maximum(share, 1e-12) / np.maximum(expected, 1e-12))
  ratio = np.where((expected * total >= 5) | (ratio > 0), np.clip(ratio, -3, 3), np.nan)[np.ix_(shown, shown)]
  percent = 100 * share[np.ix_(shown, shown)]
  size = 0.42 * len(shown)
  figure = Figure((size + 3.4, size + 1.7), layout="compressed")
  axes = figure.subplots()
  axes.set_facecolor("#f1f2f5")
  image = axes.imshow(ratio, cmap=_SOFT, vmin=-3, vmax=3)
  for row, column in np.argwhere(percent >= 0.05):
    text = f"{percent[row, column]:.0f}" if percent[row, column] >= 9.95 else f"{percent[row, column]:.1f}"
    axes.text(column, row, text, ha="center", va="center", fontsize=8)
  labels = [state_name(int(result.states[i])) for i in shown]
  axes.set_xticks(range(len(shown)), labels, rotation=90 if len(shown) > 10 else 0)
  axes.set_yticks(range(len(shown)), labels)
  when = f", {abs(result.peak_lag_s):.2g} s {'later' if result.peak_lag_s > 0 else 'earlier'}"
  axes.set(xlabel=f"state of {names[1]}{when if result.peak_lag_s else ''}", ylabel=f"state of {names[0]}")
  axes.set_title("Pairs of states, % of the time")
  axes.spines[:].set_visible(False)
  bar = figure.colorbar(image, shrink=0.8, ticks=[-3, -2, -1, 0, 1, 2, 3], label="times as frequent as by chance")
  bar.ax.set_yticklabels(["≤ 1/8", "1/4", "1/2", "1", "2", "4", "≥ 8"])
  return figure


@styled
def paired_ethogram(tracks: Sequence[PairTrack], names: tuple[str, str], *, rate_hz: float) -> Figure:
  """One device above the other, each state in a colour of its own; black below marks equal states.

  Args:
    tracks: recordings, or their beginnings.
    names: of the devices.
    rate_hz: samples per second.
  """
  pooled = np.concatenate([part for track in tracks for part in (track.first, track.second)])
  states, counts = np.unique(pooled[pooled >= 0], return_counts=True)
  coloured = np.sort(states[np.argsort(-counts, kind="stable")[: _MOST_COLOURS - (len(states) > _MOST_COLOURS)]])
  colours = dict(zip(coloured.tolist(), class_colours(len(coloured)), strict=True))
  handles = [Patch(color=colour, label=state_name(state)) for state, colour in colours.items()]
  if len(states) > len(coloured):
    handles.append(Patch(color=_PALE, label="others"))
  longest = max(len(track.first) for track in tracks)
  unit, scale = ("min", 60 * rate_hz) if longest > 300 * rate_hz else ("s", rate_hz)
  legend = 0.25 * -(-len(handles) // _COLUMNS)
  figure = Figure((_WIDTH, 1.35 * len(tracks) + legend + 0.3), layout="constrained")
  for axes, track in zip(np.atleast_1d(figure.subplots(len(tracks), 1)), tracks, strict=True):
    for level, device in ((0, track.first), (1, track.second)):
      for state in np.unique(device[device >= 0]).tolist():
        _bars(axes, device == state, (level + 0.06, 0.88), colours.get(state, _PALE), scale)
    _bars(axes, (track.first == track.second) & (track.first >= 0), (2.06, 0.25), "black", scale)
    axes.set(xlim=(0, len(track.first) / scale), ylim=(2.35, 0), yticks=[0.5, 1.5, 2.2])
    axes.set_yticklabels([*names, "equal"])
    axes.set_title(track.name, fontsize=10)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
  figure.axes[-1].set_xlabel(f"time in the recording ({unit})")
  figure.legend(handles=handles, loc="outside lower center", ncols=min(_COLUMNS, len(handles)))
  return figure


def _bars(axes: Axes, flags: np.ndarray, height: tuple[float, float], colour: str, scale: float) -> None:
  starts, ends, on = runs(flags)
  bars = [(start / scale, (end - start) / scale) for start, end in zip(starts[on], ends[on], strict=True)]
  axes.broken_barh(bars, height, color=colour, linewidth=0)
