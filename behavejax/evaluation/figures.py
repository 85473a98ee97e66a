"""Figures of a report. Each function returns a matplotlib `Figure` and leaves global settings alone."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from behavejax.evaluation import metrics as metrics_lib
from behavejax.evaluation.conformal import Coverage
from behavejax.evaluation.metrics import CodeDictionary, CodeStatistics, Confusion, Reliability

BLUE, ORANGE, GREY = "#2f6db3", "#d9772b", "#8a8f98"
P = ParamSpec("P")
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
_DPI = 110
_ETHOGRAM_WIDTH = 11.0
_EMBEDDINGS = {"tsne": "t-SNE", "pca": "PCA"}
_CLASS_COLOURS = (
  "#0072b2", "#98e36b", "#cf5604", "#443f00", "#c5a2d4", "#5d0878", "#2eb184", "#a8347f", "#4699fe", "#fd9320",
  "#8adbdb", "#808080", "#783f44", "#d16cc9", "#fab8ac", "#3144ae", "#796ce0", "#457650", "#f5c40d", "#ab965d",
)  # fmt: skip


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
  """Draws in the style of the reports without touching matplotlib's global settings."""

  @functools.wraps(draw)
  def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
    with mpl.rc_context(_STYLE):
      return draw(*args, **kwargs)

  return wrapped


def save(figure: Figure, path: pathlib.Path) -> None:
  """Writes a PNG in the style of the reports."""
  with mpl.rc_context(_STYLE):
    figure.savefig(path, dpi=_DPI, bbox_inches="tight")


def class_colours(classes: int) -> list[str]:
  """Colours that stay apart under red-green blindness too; twenty of them, then they repeat.

  The first 12 are at least 0.08 apart in OKLab, all 20 at least 0.05, seen normally and as simulated deuteranopia
  and protanopia (Machado et al. 2009); about 0.02 is just noticeable.
  """
  return [_CLASS_COLOURS[i % len(_CLASS_COLOURS)] for i in range(classes)]


@styled
def confusion_matrix(counts: Confusion, classes: Sequence[str], *, title: str = "Confusion, test split") -> Figure:
  """Rows are the truth and sum to 100 %; cells show percentages."""
  size = max(4.5, 0.55 * len(classes) + 2.4)
  figure = Figure((size + 0.8, size), layout="compressed")
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


@styled
def reliability_diagram(before: Reliability, after: Reliability, *, temperature: float) -> Figure:
  """Accuracy against confidence, before and after temperature scaling; larger dots stand for more windows."""
  figure = Figure((9, 4.6), layout="constrained")
  grid = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1))
  edges = np.linspace(0, 1, len(before.count) + 1)
  names = ("before", f"after, temperature {temperature:.2f}")
  for column, (bins, name) in enumerate(zip((before, after), names, strict=True)):
    top, bottom = grid[:, column]
    used = bins.count > 0
    top.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    share = bins.count[used] / max(bins.count.sum(), 1)
    top.plot(bins.confidence[used], bins.accuracy[used], color=BLUE, linewidth=1, alpha=0.6)
    top.scatter(bins.confidence[used], bins.accuracy[used], s=12 + 200 * np.sqrt(share), color=BLUE, clip_on=False)
    error = metrics_lib.expected_calibration_error(bins)
    top.set(title=f"Calibration {name}: ECE {error:.3f}", xlim=(0, 1), ylim=(0, 1.02))
    bottom.bar(edges[:-1], bins.count / max(bins.count.sum(), 1), width=np.diff(edges), align="edge", color=GREY)
    bottom.set_xlabel("confidence of the predicted class")
  grid[0, 0].set_ylabel("share that is right")
  grid[1, 0].set_ylabel("share of\nwindows")
  return figure


@styled
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
  columns = int(np.clip(_ETHOGRAM_WIDTH / (0.6 + 0.085 * max(map(len, classes))), 1, 6))  # inches; names of any length
  height = 1.15 * len(recordings) + 0.25 * -(-len(classes) // columns) + 0.75
  figure = Figure((_ETHOGRAM_WIDTH, height), layout="constrained")
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
  figure.legend(handles=handles, loc="outside lower center", ncols=columns)
  return figure


@styled
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
           ylim=(min(positive.min(), 1 / len(counts)) / 2, positive.max() * 2))  # fmt: skip
  axes.set_title(f"{int((counts > 0).sum())} of {len(counts)} codes in use, perplexity {statistics.perplexity:.0f}")
  axes.legend()
  return figure


@styled
def code_behaviour(dictionary: CodeDictionary, classes: Sequence[str], *, most: int = 40) -> Figure:
  """Which behaviours the most frequent codes occur in, behaviours weighed alike, whatever their length.

  Codes are grouped by the behaviour with the largest weighed share, the purest first.
  """
  total = dictionary.joint.sum(1)
  chosen = np.argsort(-total, kind="stable")[: min(most, int((total > 0).sum()))]
  frequency = dictionary.joint[chosen] / np.maximum(dictionary.joint.sum(0), 1)
  share = frequency / np.maximum(frequency.sum(1, keepdims=True), 1e-12)
  order = np.lexsort((-share.max(1, initial=0), share.argmax(1)))
  chosen, share = chosen[order], share[order]
  figure = Figure((11, 0.28 * len(classes) + 2.2), layout="constrained")
  axes = figure.subplots()
  image = axes.imshow(share.T, aspect="auto", cmap="viridis", vmin=0, vmax=1)
  axes.set_xticks(range(len(chosen)), chosen, rotation=90, fontsize=8)
  axes.set_yticks(range(len(classes)), classes)
  axes.set(xlabel=f"code (the {len(chosen)} most frequent, grouped by the behaviour they speak for)")
  axes.set_title(f"Code-behaviour dictionary, mutual information {dictionary.information:.2f} of 1")
  figure.colorbar(image, shrink=0.8, label="share, behaviours weighed alike")
  return figure


@styled
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
  if not np.ptp(points, axis=0).any():  # one window or a collapsed codebook; t-SNE would crash the process
    method, plane = "pca", np.zeros((len(points), 2))
  elif method == "tsne" and len(points) > 10:
    plane = TSNE(2, perplexity=min(30, len(points) / 4), init="pca", random_state=0).fit_transform(points)
  else:
    method, plane = "pca", PCA(2, random_state=0).fit_transform(points)
  figure = Figure((8, 5.2), layout="constrained")
  axes = figure.subplots()
  colours = class_colours(len(classes))
  for label in np.unique(labels):
    name, colour = (classes[label], colours[label]) if label >= 0 else ("unlabelled", GREY)
    axes.scatter(*plane[labels == label].T, s=9, color=colour, label=name, linewidth=0, alpha=0.8)
  axes.set(xticks=[], yticks=[], title=f"Token embeddings of {len(points)} test windows ({_EMBEDDINGS[method]})")
  axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
  return figure


@styled
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


@styled
def accuracy_by_subject(values: Mapping[str, float], *, overall: float) -> Figure:
  """How evenly the model works over the held-out subjects."""
  figure = Figure((max(8, 0.4 * len(values) + 2), 3.2), layout="constrained")
  axes = figure.subplots()
  bars = axes.bar(list(values), list(values.values()), color=BLUE, width=0.6)
  crowded = len(values) > 12
  backing = {"facecolor": "white", "edgecolor": "none", "pad": 1}
  axes.bar_label(bars, fmt="{:.2f}", padding=3, fontsize=8 if crowded else 9.5, bbox=backing)
  axes.axhline(overall, color=ORANGE, linestyle="--", linewidth=1, zorder=0, label=f"all windows {overall:.3f}")
  if crowded:
    axes.tick_params(axis="x", rotation=90)
  axes.set(ylim=(0, 1.1), xlabel="subject", ylabel="accuracy", title="Accuracy by held-out subject")
  axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
  return figure


@styled
def coverage_curve(
  asked: Float[np.ndarray, " point"], measured: Mapping[str, Sequence[Coverage]], *, chosen: float
) -> Figure:
  """Measured coverage of label sets, and their size, over the coverage asked for; one line per kind of score."""
  figure = Figure((9.5, 3.6), layout="constrained")
  left, right = figure.subplots(1, 2)
  left.plot(asked, asked, color=GREY, linewidth=1, linestyle="--", label="as asked")
  for (name, points), colour in zip(measured.items(), (BLUE, ORANGE), strict=False):
    left.plot(asked, [point.covered for point in points], color=colour, marker=".", label=name)
    right.plot(asked, [point.size for point in points], color=colour, marker=".", label=name)
  for axes in (left, right):
    axes.axvline(chosen, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_xlabel("coverage asked for")
    axes.grid(axis="y", alpha=0.25)
  left.set_title("Share of the sets with the true label")
  right.set_title("Labels in a set, mean")
  right.set_ylim(min(0.9, *right.get_ylim()), None)
  left.legend(loc="lower right")
  return figure


@styled
def coverage_by_class(
  measured: Mapping[str, Sequence[Coverage]], classes: Sequence[str], *, chosen: float
) -> Figure:  # fmt: skip
  """Coverage and size of the label sets of each class's windows, one bar per kind of threshold."""
  figure = Figure((10, 0.42 * len(classes) + 1.6), layout="constrained")
  left, right = figure.subplots(1, 2, sharey=True)
  height = 0.8 / len(measured)
  for i, ((name, found), colour) in enumerate(zip(measured.items(), (BLUE, ORANGE), strict=False)):
    place = np.arange(len(classes)) + (i - (len(measured) - 1) / 2) * height
    left.barh(place, [c.covered for c in found], height, color=colour, label=name)
    right.barh(place, [c.size for c in found], height, color=colour)
  left.axvline(chosen, color="black", linestyle="--", linewidth=1, label=f"asked for: {chosen:g}")
  first = next(iter(measured.values()))
  left.set_yticks(
    range(len(classes)), [f"{name} ({found.windows})" for name, found in zip(classes, first, strict=True)]
  )
  left.invert_yaxis()
  left.set(xlim=(0, 1.03), title="Share of the sets with the true label")
  right.set(xlim=(0, None), title="Labels in a set, mean")
  figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
  return figure
