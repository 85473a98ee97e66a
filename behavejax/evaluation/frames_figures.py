"""Figures of samples of any kind: rows of pictures, strips of video, signals, and how a codebook is used."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure

from behavejax.data.samples import Samples
from behavejax.evaluation.figures import BLUE, GREY, ORANGE, styled

Pictures = UInt8[np.ndarray, "*count height width shade"]
"""Grey (one shade) or red, green and blue."""

_WIDTH = 9.0  # inches of rows of pictures
_MOST_CHANNELS = 9


def as_pictures(x: Float[np.ndarray, "*count height width channel"], samples: Samples) -> Pictures:
  """Normalised images or frames, true ones or a model's, as bytes to look at.

  Black is 0 and white the largest value of the type in which images are stored; of floats it is what occurs among the
  samples. Of other than 1, 3 or 4 channels the first is shown; opacity is not.

  Args:
    x: of the samples' shape, any number of them.
    samples: that say how `x` was normalised.
  """
  values = x if samples.normalization is None else samples.normalization.undo(x)
  low = 0.0 if np.issubdtype(samples.steps.dtype, np.integer) else float(samples.steps.min())
  shown = values[..., :3] if values.shape[-1] in (3, 4) else values[..., :1]
  return np.rint(np.clip((shown - low) / max(samples.peak, 1e-12), 0, 1) * 255).astype(np.uint8)


@styled
def picture_rows(rows: Mapping[str, Pictures], *, columns: int = 12, title: str = "") -> Figure:
  """Pictures of the same things under each other, a name before each row; wrapped after `columns` of them.

  Args:
    rows: equally many pictures under each name, such as the true ones and reconstructions.
    columns: pictures side by side.
    title: over all.
  """
  count = len(next(iter(rows.values())))
  columns = min(columns, count)
  blocks = -(-count // columns)
  height, width = next(iter(rows.values())).shape[1:3]
  lines = blocks * len(rows)
  figure = Figure((_WIDTH, _WIDTH / columns * lines * height / width + 0.5), layout="constrained")
  axes = figure.subplots(lines, columns, squeeze=False)
  for line in range(lines):
    name, pictures = list(rows.items())[line % len(rows)]
    for column in range(columns):
      place, axis = line // len(rows) * columns + column, axes[line, column]
      axis.set(xticks=[], yticks=[])
      axis.spines[:].set_visible(False)
      if place < count:
        axis.imshow(_shaded(pictures[place]), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes[line, 0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8)
  if title:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
  return figure


def video_strips(
  rows: Mapping[str, UInt8[np.ndarray, "clip frame height width shade"]], *, frames: int = 8, title: str = ""
) -> Figure:
  """Clips as strips of evenly spaced frames, those of the same clip under each other."""
  length = next(iter(rows.values())).shape[1]
  chosen = np.unique(np.linspace(0, length - 1, min(frames, length)).round().astype(int))
  flat = {name: clips[:, chosen].reshape(-1, *clips.shape[2:]) for name, clips in rows.items()}
  return picture_rows(flat, columns=len(chosen), title=title)


@styled
def signal_pairs(
  true: Float[np.ndarray, "sample time channel"],
  reconstructed: Float[np.ndarray, "sample time channel"],
  *,
  channels: Sequence[str],
  rate_hz: float,
) -> Figure:
  """Signals and their reconstruction, a column per sample and a row per channel (the first nine of them)."""
  shown = min(len(channels), _MOST_CHANNELS)
  samples = len(true)
  figure = Figure((3.2 * samples + 1, 0.95 * shown + 1.1), layout="constrained")
  axes = figure.subplots(shown, samples, squeeze=False, sharex=True, sharey="row")
  time = np.arange(true.shape[1]) / rate_hz
  for row in range(shown):
    for column in range(samples):
      axis = axes[row, column]
      axis.plot(time, true[column, :, row], color=GREY, linewidth=1.6, label="true")
      axis.plot(time, reconstructed[column, :, row], color=BLUE, linewidth=0.9, label="reconstructed")
    axes[row, 0].set_ylabel(channels[row], rotation=0, ha="right", va="center")
  for column in range(samples):
    axes[-1, column].set_xlabel("time (s)")
  handles, labels = axes[0, 0].get_legend_handles_labels()
  figure.legend(handles, labels, loc="outside upper right", ncols=2)
  return figure


@styled
def codebook_map(counts: Int[np.ndarray, " code"]) -> Figure:
  """Left: every code a cell by its share, most used first, unused ones orange. Right: the shares by rank."""
  shares = np.sort(counts / max(counts.sum(), 1))[::-1]
  side = math.ceil(math.sqrt(len(counts)))
  cells = np.full(side * side, np.nan)
  cells[: len(counts)] = shares
  figure = Figure((9.5, 4.2), layout="constrained")
  left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
  used = shares[shares > 0]
  low, high = (used.min(), used.max()) if len(used) else (0.5, 1.0)
  grid = cells.reshape(side, side)
  image = left.imshow(np.where(grid > 0, grid, np.nan), cmap="Blues", norm=LogNorm(low * 0.5, max(high, low * 1.01)))
  left.imshow(np.where(grid == 0, 1.0, np.nan), cmap=ListedColormap([ORANGE]), vmin=0, vmax=1)
  left.set(xticks=[], yticks=[], title=f"{len(used)} of {len(counts)} codes in use")
  left.spines[:].set_visible(False)
  figure.colorbar(image, ax=left, shrink=0.8, label="share of all tokens")
  right.plot(np.arange(1, len(used) + 1), used, color=BLUE, linewidth=1.6)
  right.axhline(1 / len(counts), color=GREY, linestyle="--", linewidth=1)
  right.annotate("all equal", (len(counts), 1 / len(counts)), ha="right", va="bottom", color=GREY)
  right.set(yscale="log", xlim=(1, max(len(counts), 2)), xlabel="code, most used first", ylabel="share of all tokens")
  entropy = -np.sum(used * np.log(used))
  right.set_title(f"Perplexity {math.exp(entropy):.0f}")
  return figure


def _shaded(picture: UInt8[np.ndarray, "height width shade"]) -> np.ndarray:
  return picture[..., 0] if picture.shape[-1] == 1 else picture
