"""Figures of latent vectors and of samples that are signals."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from behavejax.evaluation.figures import BLUE, GREY, class_colours, styled


@styled
def divergence(bits: Float[np.ndarray, " dim"]) -> Figure:
  """Divergence of every latent dimension from the standard normal, the largest first."""
  figure = Figure((7, 2.8), layout="constrained")
  axes = figure.subplots()
  order = np.argsort(-bits, kind="stable")
  axes.bar(np.arange(len(bits)), bits[order], color=[BLUE if b >= 0.01 else GREY for b in bits[order]])
  axes.set_xticks(np.arange(len(bits)), order, fontsize=8)
  axes.set(xlabel="latent dimension", ylabel="bits per place", title=f"{bits.sum():.1f} bits per place in all")
  return figure


@styled
def signals(
  x: Float[np.ndarray, "sample time channel"],
  *,
  channels: Sequence[str],
  rate_hz: float,
  columns: int = 4,
  names: Sequence[str] = (),
) -> Figure:
  """Signals side by side, all channels of one in one panel; `names` stand before the rows, where there are any."""
  rows = -(-len(x) // columns)
  figure = Figure((11, 1.3 * rows + 0.8), layout="constrained")
  grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
  colours, time = class_colours(len(channels)), np.arange(x.shape[1]) / rate_hz
  for place, axes in enumerate(grid.ravel()):
    axes.set_visible(place < len(x))
    for channel in range(len(channels)) if place < len(x) else ():
      axes.plot(time, x[place, :, channel], color=colours[channel], linewidth=0.8, label=channels[channel])
  for axes, name in zip(grid[:, 0], names, strict=False):
    axes.set_ylabel(name, rotation=0, ha="right", va="center")
  for axes in grid[-1]:
    axes.set_xlabel("time (s)")
  handles, labels = grid[0, 0].get_legend_handles_labels()
  figure.legend(handles, labels, loc="outside lower center", ncols=min(len(channels), 9))
  return figure
