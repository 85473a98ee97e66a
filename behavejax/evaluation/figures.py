"""Figures of a report. Each function returns a matplotlib `Figure`; nothing is shown or saved here."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from behavejax.evaluation import metrics as metrics_lib
from behavejax.evaluation.metrics import CodeDictionary, CodeStatistics, Confusion, Reliability

BLUE, ORANGE, GREY = "#2f6db3", "#d9772b", "#8a8f98"
DPI = 110
_STYLE = {
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.titlelocation": "left",
  "axes.titlesize": 11,
  "axes.titleweight": "bold",
  "axes.labelsize": 10,
  "font.size": 9.5,
  "legend.frameon": False,
  "figure.facecolor": "white",
}
mpl.rcParams.update(_STYLE)


def class_colours(classes: int) -> list[tuple[float, float, float]]:
  """Distinct colours: the ten of `tab10` and, beyond them, their lighter partners of `tab20`."""
  palette = mpl.colormaps["tab20"].colors
  return [palette[(2 * i) % 20 + (2 * i) // 20] for i in range(classes)]


def confusion_matrix(counts: Confusion, classes: Sequence[str], *, title: str = "Confusion, test split") -> Figure:
  """Rows are the truth and sum to 100 %; cells show percentages."""
  size = max(4.5, 0.55 * len(classes) + 2.4)
  figure = Figure((size + 0.8, size), layout="constrained")
  axes = figure.subplots()
  share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
  image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
  for row, column in np.argwhere(share >= 0.5):
    colour = "white" if share[row, column] > 55 else "black"
    axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=8.5)
  support = counts.sum(1).astype(int)
  axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
  axes.set_yticks(range(len(classes)), [f"{name} ({n})" for name, n in zip(classes, support, strict=True)])
  axes.set(xlabel="predicted", ylabel="true (windows)", title=title)
  axes.spines[:].set_visible(False)
  figure.colorbar(image, shrink=0.6, label="% of the true class")
  return figure


def reliability_diagram(before: Reliability, after: Reliability, *, temperature: float) -> Figure:
  """Accuracy against confidence, before and after temperature scaling, with the share of windows below."""
  figure = Figure((9, 4.6), layout="constrained")
  grid = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1))
  edges = np.linspace(0, 1, len(before.count) + 1)
  names = ("before", f"after, temperature {temperature:.2f}")
  for column, (bins, name) in enumerate(zip((before, after), names, strict=True)):
    top, bottom = grid[:, column]
    used = bins.count > 0
    top.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    top.plot(bins.confidence[used], bins.accuracy[used], marker="o", color=BLUE)
    error = metrics_lib.expected_calibration_error(bins)
    top.set(title=f"Calibration {name}: ECE {error:.3f}", xlim=(0, 1), ylim=(0, 1.02))
    bottom.bar(edges[:-1], bins.count / max(bins.count.sum(), 1), width=np.diff(edges), align="edge", color=GREY)
    bottom.set_xlabel("confidence of the predicted class")
  grid[0, 0].set_ylabel("share that is right")
  grid[1, 0].set_ylabel("windows")
  return figure


def training_curves(rows: Sequence[Mapping[str, float]]) -> Figure:
  """Loss, accuracy, perplexity and learning rate over steps; training faint, validation strong."""
  panels = {
    "loss": "loss",
    "accuracy": "accuracy",
    "reconstruction_mse": "reconstruction MSE",
    "perplexity": "code perplexity",
    "learning_rate": "learning rate",
    "gradient_norm": "gradient norm",
  }
  figure = Figure((11, 5.6), layout="constrained")
  for axes, (key, title) in zip(figure.subplots(2, 3).ravel(), panels.items(), strict=True):
    lines = ((f"train/{key}", BLUE, "train", 1), (f"val/{key}", ORANGE, "validation", 2), (key, BLUE, None, 1))
    for name, colour, label, width in lines:
      points = [(row["step"], row[name]) for row in rows if name in row]
      if points:
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=width, label=label)
    axes.set(title=title, xlabel="step")
    if axes.get_legend_handles_labels()[0]:
      axes.legend()
    axes.grid(axis="y", alpha=0.25)
  return figure


def ethogram(
  recordings: Sequence[
    tuple[str, Float[np.ndarray, " window"], Int[np.ndarray, " window"], Int[np.ndarray, " window"]]
  ],
  classes: Sequence[str],
  *,
  step_s: float,
) -> Figure:
  """Time lines of true and predicted behaviour; white is unlabelled.

  Args:
    recordings: name, start of each window in seconds, true and predicted class.
    classes: names.
    step_s: width of a window's stroke, the stride.
  """
  colours = class_colours(len(classes))
  figure = Figure((11, 1.15 * len(recordings) + 0.55 * -(-len(classes) // 6) + 0.5), layout="constrained")
  for axes, (name, time, true, predicted) in zip(
    np.atleast_1d(figure.subplots(len(recordings), 1)), recordings, strict=True
  ):
    for height, labels in ((1, true), (0, predicted)):
      for label in range(len(classes)):
        at = time[labels == label]
        if len(at):
          axes.broken_barh([(t, step_s) for t in at], (height + 0.08, 0.84), color=colours[label], linewidth=0)
    known = true >= 0
    right = f": {np.mean(true[known] == predicted[known]):.1%} of windows right" if known.any() else ""
    axes.set_title(f"{name}{right}", fontsize=10)
    axes.set(yticks=[0.5, 1.5], yticklabels=["predicted", "true"], xlim=(time.min(), time.max() + step_s))
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
  axes.set_xlabel("time in the recording (s)")
  present = np.unique(np.concatenate([np.concatenate(r[2:]) for r in recordings]))
  handles = [Patch(color=colours[i], label=classes[i]) for i in present if i >= 0]
  figure.legend(handles=handles, loc="outside lower center", ncols=6)
  return figure


def code_usage(statistics: CodeStatistics) -> Figure:
  """Codes sorted by how often they occur; a healthy codebook falls slowly."""
  figure = Figure((8, 3.4), layout="constrained")
  axes = figure.subplots()
  counts = np.sort(statistics.counts)[::-1]
  axes.fill_between(
    np.arange(len(counts)), np.maximum(counts / counts.sum(), 1e-9), 1e-9, step="mid", color=BLUE, alpha=0.8
  )
  axes.axhline(1 / len(counts), color=ORANGE, linestyle="--", label="all codes alike")
  positive = counts[counts > 0] / counts.sum()
  axes.set(yscale="log", xlabel="code, most frequent first", ylabel="share of tokens", xlim=(0, len(counts) - 1),
           ylim=(positive.min() / 2, positive.max() * 2))  # fmt: skip
  axes.set_title(f"{int((counts > 0).sum())} of {len(counts)} codes in use, perplexity {statistics.perplexity:.0f}")
  axes.legend()
  return figure


def code_behaviour(dictionary: CodeDictionary, classes: Sequence[str], *, most: int = 40) -> Figure:
  """Which behaviours the most frequent codes occur in, codes grouped by their main behaviour."""
  total = dictionary.joint.sum(1)
  chosen = np.argsort(-total)[: min(most, int((total > 0).sum()))]
  chosen = chosen[np.lexsort((-dictionary.purity[chosen], dictionary.behaviour[chosen]))]
  frequency = dictionary.joint[chosen] / np.maximum(dictionary.joint.sum(0), 1)
  share = frequency / np.maximum(frequency.sum(1, keepdims=True), 1e-12)
  figure = Figure((11, 0.28 * len(classes) + 2.2), layout="constrained")
  axes = figure.subplots()
  image = axes.imshow(share.T, aspect="auto", cmap="viridis", vmin=0, vmax=1)
  axes.set_xticks(range(len(chosen)), chosen, rotation=90, fontsize=8)
  axes.set_yticks(range(len(classes)), classes)
  axes.set(xlabel=f"code (the {len(chosen)} most frequent, grouped by main behaviour)")
  axes.set_title(f"Code-behaviour dictionary, mutual information {dictionary.information:.2f} of 1")
  figure.colorbar(image, shrink=0.8, label="share, behaviours weighed alike")
  return figure


def embedding_scatter(
  embedding: Float[np.ndarray, "window feature"],
  labels: Int[np.ndarray, " window"],
  classes: Sequence[str],
  *,
  method: str,
  most: int = 1500,
) -> Figure:
  """Pooled token embeddings in the plane, by t-SNE or PCA, coloured by true behaviour."""
  chosen = np.random.default_rng(0).permutation(len(embedding))[:most]
  points, labels = embedding[chosen], labels[chosen]
  if method == "tsne" and len(points) > 10:
    plane = TSNE(2, perplexity=min(30, len(points) / 4), init="pca", random_state=0).fit_transform(points)
  else:
    method, plane = "pca", PCA(2, random_state=0).fit_transform(points)
  figure = Figure((8, 5.2), layout="constrained")
  axes = figure.subplots()
  colours = class_colours(len(classes))
  for label in np.unique(labels):
    name, colour = (classes[label], colours[label]) if label >= 0 else ("unlabelled", GREY)
    axes.scatter(*plane[labels == label].T, s=9, color=colour, label=name, linewidth=0, alpha=0.8)
  axes.set(xticks=[], yticks=[], title=f"Token embeddings of {len(points)} test windows ({method.upper()})")
  axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
  return figure


def f1_by_class(scores: Mapping[str, Float[np.ndarray, " class"]], classes: Sequence[str]) -> Figure:
  """F1 of every class, one bar per model."""
  figure = Figure((8, 0.38 * len(classes) + 1.4), layout="constrained")
  axes = figure.subplots()
  height = 0.8 / len(scores)
  for i, ((name, values), colour) in enumerate(zip(scores.items(), (BLUE, GREY, ORANGE), strict=False)):
    axes.barh(np.arange(len(classes)) + (i - (len(scores) - 1) / 2) * height, values, height, color=colour, label=name)
  axes.set_yticks(range(len(classes)), classes)
  axes.invert_yaxis()
  axes.set(xlim=(0, 1), xlabel="F1", title="F1 by class, test split")
  axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
  return figure


def accuracy_by_subject(values: Mapping[str, float], *, overall: float) -> Figure:
  """How evenly the model works over the held-out subjects."""
  figure = Figure((8, 3.2), layout="constrained")
  axes = figure.subplots()
  bars = axes.bar(list(values), list(values.values()), color=BLUE, width=0.6)
  axes.bar_label(bars, fmt="{:.2f}", padding=2)
  axes.axhline(overall, color=ORANGE, linestyle="--", label=f"all windows {overall:.3f}")
  axes.set(ylim=(0, 1.1), xlabel="subject", ylabel="accuracy", title="Accuracy by held-out subject")
  axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
  return figure
