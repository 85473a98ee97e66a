"""Figures of a neural encoder. Each function returns a matplotlib `Figure`; `figures.save` writes it."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from behavejax.evaluation.figures import BLUE, GREY, ORANGE, class_colours, styled
from behavejax.evaluation.neural_attention import Attention
from behavejax.evaluation.neural_fields import Fields
from behavejax.evaluation.neural_run import CONV
from behavejax.evaluation.neural_scores import CONSTANT, ENCODER, GLM, TRUTH, Judged

SHOWN = {
  CONSTANT: "constant rate", GLM: "GLM", CONV: "3D convolutions", ENCODER: "encoder", TRUTH: "true rates",
}  # fmt: skip
_COLOURS = {CONSTANT: GREY, GLM: ORANGE, CONV: "#2eb184", ENCODER: BLUE, TRUTH: "black"}
_WIDTH = 11.0


@styled
def comparison(judged: Sequence[Judged]) -> Figure:
  """Bits per spike of each model, a dot per neuron, its mean as a bar; one panel per data set."""
  figure = Figure((_WIDTH, 3.4), layout="constrained")
  rng = np.random.default_rng(0)
  for axes, own in zip(figure.subplots(1, len(judged), sharey=True, squeeze=False)[0], judged, strict=True):
    names = [name for name in SHOWN if name in own.scores]
    for place, name in enumerate(names):
      bits = own.scores[name].bits
      bits = bits[np.isfinite(bits)]
      axes.bar(place, bits.mean() if len(bits) else 0, color=_COLOURS[name], alpha=0.35, width=0.7)
      axes.scatter(place + rng.uniform(-0.2, 0.2, len(bits)), bits, s=8, color=_COLOURS[name], linewidth=0)
    axes.set_xticks(range(len(names)), [SHOWN[name] for name in names], rotation=20, ha="right")
    axes.axhline(0, color=GREY, linewidth=0.6)
    count = len(own.scores[ENCODER].bits)
    axes.set_title(f"{own.name}: {count} neuron{'s' if count > 1 else ''}")
  figure.axes[0].set_ylabel("bits per spike, test")
  return figure


@styled
def by_neuron(judged: Sequence[Judged]) -> Figure:
  """The encoder against the GLM and against the truth, neuron by neuron."""
  others = [name for name in (GLM, CONV, TRUTH) if all(name in own.scores for own in judged)]
  figure = Figure((_WIDTH, 3.8), layout="constrained")
  for axes, name in zip(figure.subplots(1, len(others), squeeze=False)[0], others, strict=True):
    for own, colour in zip(judged, class_colours(len(judged)), strict=True):
      axes.scatter(own.scores[name].bits, own.scores[ENCODER].bits, s=14, color=colour, label=own.name, linewidth=0)
    both = np.concatenate([own.scores[which].bits for own in judged for which in (name, ENCODER)])
    ends = [min(0.0, np.nanmin(both)), np.nanmax(both)]
    axes.plot(ends, ends, color=GREY, linewidth=1, linestyle="--")
    axes.set(xlabel=f"{SHOWN[name]} (bits per spike)", aspect="equal")
  figure.axes[0].set_ylabel("encoder (bits per spike)")
  figure.axes[-1].legend(loc="lower right")
  return figure


@styled
def traces(own: Judged, spikes: Float[np.ndarray, "frame neuron"], *, rate_hz: float, seconds: float = 8.0) -> Figure:
  """Predicted and, where known, true expected counts over the first scored frames, with the spikes below.

  The neurons are the best, the median and the worst by bits per spike.
  """
  order = np.argsort(np.nan_to_num(own.scores[ENCODER].bits, nan=-np.inf))[::-1]
  chosen = list(dict.fromkeys(int(order[i]) for i in (0, len(order) // 2, len(order) - 1)))
  figure = Figure((_WIDTH, 1.9 * len(chosen) + 0.4), layout="constrained")
  frames = np.flatnonzero(own.mask.any(1))[: round(seconds * rate_hz)]
  time = np.arange(len(frames)) / rate_hz
  for axes, neuron in zip(figure.subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0], chosen, strict=True):
    shown = [name for name in (TRUTH, GLM, ENCODER) if name in own.rates]
    for name in shown:
      width = 1.6 if name == ENCODER else 1.0
      axes.plot(time, rate_hz * own.rates[name][frames, neuron], color=_COLOURS[name], linewidth=width,
                label=SHOWN[name], alpha=0.7 if name == GLM else 1)  # fmt: skip
    top = axes.get_ylim()[1]
    fired = spikes[frames, neuron]
    axes.vlines(time[fired > 0], -0.16 * top, -0.16 * top + 0.06 * top * np.minimum(fired[fired > 0], 2), color="black")
    for cut in np.flatnonzero(np.diff(frames) > 1):
      axes.axvline(time[cut] + 0.5 / rate_hz, color=GREY, linewidth=0.6, linestyle=":")
    axes.set_title(f"{own.name}, neuron {neuron}: {own.scores[ENCODER].bits[neuron]:.2f} bits per spike", fontsize=10)
    axes.set_ylabel("spikes/s")
  figure.axes[-1].set(xlabel="time (s); dotted lines join stretches that do not follow each other", xlim=(0, time[-1]))
  figure.axes[0].legend(loc="upper right", ncols=3)
  return figure


@styled
def receptive_fields(
  fields: Fields, truth: Float[np.ndarray, "neuron 2"] | None, *, name: str, most: int = 16
) -> Figure:
  """Where the video moves a neuron's prediction, for neurons spread evenly over the data set."""
  neurons = np.linspace(0, len(fields.energy) - 1, min(most, len(fields.energy))).astype(int)
  columns = min(8, len(neurons))
  rows = -(-len(neurons) // columns)
  height, width = fields.energy.shape[2:]
  cell = (_WIDTH - 0.4) / 8
  figure = Figure(
    (cell * columns + 0.2, cell * rows * max(height / width, 0.6) + 0.25 * rows + 0.7), layout="constrained"
  )
  grid = figure.subplots(rows, columns, squeeze=False).ravel()
  for axes, neuron in zip(grid, neurons, strict=False):
    axes.imshow(np.sqrt(fields.energy[neuron].sum(0)), cmap="Blues")
    if truth is not None:
      axes.plot(*truth[neuron][::-1], "o", color="black", markersize=7, markerfacecolor="none", label="true centre")
    axes.plot(*fields.gradient_centres[neuron][::-1], "x", color=ORANGE, markersize=6, label="by gradient")
    axes.plot(*fields.readout_centres[neuron][::-1], "+", color="#a8347f", markersize=8, label="by readout")
    axes.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.set_title(f"neuron {neuron}", fontsize=8)
  for axes in grid[len(neurons) :]:
    axes.set_visible(False)
  figure.suptitle(f"{name}: root mean squared gradient by pixel", x=0.01, ha="left", fontsize=11, fontweight="bold")
  figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
  return figure


@styled
def field_errors(found: Mapping[str, tuple[Fields, Float[np.ndarray, "neuron 2"]]], *, near: float = 1.5) -> Figure:
  """Share of the neurons whose centre is found to within so many pixels."""
  figure = Figure((_WIDTH, 3.2), layout="constrained")
  panels = figure.subplots(1, 2, sharey=True)
  for axes, kind, title in zip(
    panels, ("gradient_centres", "readout_centres"), ("centres by gradient", "centres by readout"), strict=True
  ):
    for (name, (fields, truth)), colour in zip(found.items(), class_colours(len(found)), strict=True):
      error = np.sort(np.linalg.norm(getattr(fields, kind) - truth, axis=1))
      axes.step(np.r_[0, error], np.arange(len(error) + 1) / len(error), where="post", color=colour, label=name)
    axes.axvline(near, color=GREY, linewidth=1, linestyle=":")
    axes.axhline(0.9, color=GREY, linewidth=1, linestyle=":")
    axes.set(title=title, xlabel="distance to the true centre (pixels)", xlim=(0, 5), ylim=(0, 1.02))
  panels[0].set_ylabel("share of the neurons")
  panels[0].legend(loc="lower right")
  return figure


@styled
def attention_maps(found: Attention, *, name: str) -> Figure:
  """Above, what the middle place attends to in each spatial block and head; below, how far back temporal heads look."""
  rows, columns = found.grid
  registers = found.spatial.shape[2] - rows * columns if len(found.spatial) else 0
  middle = registers + (rows // 2) * columns + columns // 2
  panels = [(b, h) for b in range(len(found.spatial)) for h in range(found.spatial.shape[1])]
  across = min(max(len(panels), 1), 8)
  down = -(-len(panels) // across)
  figure = Figure((_WIDTH, 1.7 * down + 2.6), layout="constrained")
  upper, lower = figure.subfigures(2, 1, height_ratios=(max(1.7 * down, 0.1), 2.6))
  if panels:
    grid = upper.subplots(down, across, squeeze=False).ravel()
    for axes, (block, head) in zip(grid, panels, strict=False):
      image = found.spatial[block, head, middle, registers:].reshape(rows, columns)
      axes.imshow(image, cmap="viridis")
      axes.plot(columns // 2, rows // 2, "+", color="white")
      share = found.registers[block, head]
      axes.set_title(f"block {block + 1}, head {head + 1}\nregisters {share:.0%}", fontsize=8)
      axes.set(xticks=[], yticks=[])
    for axes in grid[len(panels) :]:
      axes.set_visible(False)
    upper.suptitle(f"{name}: attention of the middle place (+)", x=0.01, ha="left", fontsize=11, fontweight="bold")
  axes = lower.subplots()
  for b, heads in enumerate(found.temporal):
    for h, colour in zip(range(len(heads)), class_colours(len(heads)), strict=True):
      last = heads[h, -1][::-1]  # of the last step, the present one first
      axes.plot(np.arange(len(last)), last, color=colour, linestyle=("-", "--", "-.", ":")[b % 4],
                label=f"block {b + 1}, head {h + 1}")  # fmt: skip
  axes.set(xlabel="time steps back", ylabel="attention", title="Temporal attention of the last step, mean over places")
  if len(found.temporal):
    axes.legend(loc="upper right", ncols=4, fontsize=8)
  return figure


@styled
def behaviour(judged: Sequence[Judged]) -> Figure:
  """Bits per spike with the behaviour as it was and with its mean instead, neuron by neuron."""
  figure = Figure((5.4, 4.2), layout="constrained")
  axes = figure.subplots()
  shown = [own for own in judged if own.without_behaviour is not None]
  for own, colour in zip(shown, class_colours(len(shown)), strict=True):
    axes.scatter(own.without_behaviour, own.scores[ENCODER].bits, s=14, color=colour, label=own.name, linewidth=0)
  both = np.concatenate([part for own in shown for part in (own.without_behaviour, own.scores[ENCODER].bits)])
  ends = [np.nanmin(both), np.nanmax(both)]
  axes.plot(ends, ends, color=GREY, linewidth=1, linestyle="--")
  axes.set(
    xlabel="behaviour at its mean (bits per spike)", ylabel="behaviour as it was (bits per spike)", aspect="equal"
  )
  axes.legend(loc="lower right")
  return figure
