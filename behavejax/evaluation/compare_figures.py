"""Figures of a comparison of runs."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from behavejax.evaluation.figures import styled


@styled
def agreement(values: Float[np.ndarray, "run run"], names: Sequence[str], *, title: str) -> Figure:
  """How far every two runs agree, 0 to 1."""
  size = 0.6 * len(names) + 2.2
  figure = Figure((max(size + 0.8, 5.5), size), layout="compressed")
  axes = figure.subplots()
  image = axes.imshow(values, cmap="Blues", vmin=0, vmax=1)
  for row, column in np.ndindex(values.shape):
    colour = "white" if values[row, column] > 0.55 else "black"
    axes.text(column, row, f"{values[row, column]:.2f}", ha="center", va="center", color=colour)
  axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
  axes.set_yticks(range(len(names)), names)
  axes.set(title=title)
  axes.spines[:].set_visible(False)
  figure.colorbar(image, shrink=0.7)
  return figure
