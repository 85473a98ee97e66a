"""What each part of the video encoder is worth: the whole beside versions that lack one of them."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from behavejax.evaluation.figures import BLUE, GREY, ORANGE, styled
from behavejax.evaluation.neural_metrics import mean_defined
from behavejax.evaluation.neural_run import Trained, predict
from behavejax.evaluation.neural_scores import score
from behavejax.evaluation.page import Heading, Notes, Paragraph, Picture, Table, replaced_folder, write_page
from behavejax.workdir import write_json


class Variant(NamedTuple):
  """A trained version.

  Attributes:
    name: of what is different.
    bits: per spike on the test trials, the neurons of all data sets one after the other.
    parameters: of the network.
    seconds: that its training took.
  """

  name: str
  bits: Float[np.ndarray, " neuron"]
  parameters: int
  seconds: float


class Change(NamedTuple):
  """Of the bits per spike from the whole to a variant, over neurons, with the standard error of its mean."""

  mean: float
  error: float


def bits_of(trained: Trained) -> Float[np.ndarray, " neuron"]:
  """Bits per spike of every neuron on the test trials."""
  parts = []
  for i, data in enumerate(trained.data):
    rates = predict(trained, i, data.test)
    parts.append(score(data, rates, data.recording.mask & np.isfinite(rates)).bits)
  return np.concatenate(parts)


def change(variant: Variant, whole: Variant) -> Change:
  """Paired over the neurons that have a score in both."""
  differences = variant.bits - whole.bits
  differences = differences[np.isfinite(differences)]
  error = differences.std(ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else np.nan
  return Change(mean_defined(differences).value, float(error))


def write_report(folder: pathlib.Path, variants: Sequence[Variant]) -> dict[str, float]:
  """Writes ablation.html, ablation.md, metrics.json and the figure; the first variant is the whole."""
  whole, *others = variants
  changes = {own.name: change(own, whole) for own in others}
  values = {f"{own.name}/bits_per_spike": mean_defined(own.bits).value for own in variants}
  for name, found in changes.items():
    values |= {f"{name}/change": found.mean, f"{name}/standard_error": found.error}
  rows = [
    (own.name, f"{mean_defined(own.bits).value:.4f}",
     f"{changes[own.name].mean:+.4f} ± {changes[own.name].error:.4f}" if own.name in changes else "",
     f"{own.parameters:,}", f"{own.seconds:.0f}")
    for own in variants
  ]  # fmt: skip
  blocks = [
    Paragraph(
      "Every version was trained alike, with the same seed and data; only what its name says was changed. The change "
      "is of bits per spike on the test trials, the mean over neurons with its standard error."
    ),
    Table(("version", "bits per spike", "change", "parameters", "seconds"), rows, emphasize_first=True),
    Picture("ablation", changes_figure(changes), "Right of zero: better without it."),
    Heading("What this does not say"),
    Notes([
      "One seed: the standard error is over neurons, not over trainings. Two seeds of the same config differ too.",
      "A part that helps at this size of data and network need not help at another.",
      "Without causality a prediction knows later frames of its clip, so its score says nothing of prediction.",
    ]),
  ]  # fmt: skip
  with replaced_folder(folder) as place:
    write_page(place, "ablation", "What each part of the encoder is worth", blocks)
    write_json(place / "metrics.json", values)
  return values


@styled
def changes_figure(changes: dict[str, Change]) -> Figure:
  """The change by each switch, with two standard errors."""
  figure = Figure((8, 0.45 * len(changes) + 1.2), layout="constrained")
  axes = figure.subplots()
  for place, found in enumerate(changes.values()):
    colour = BLUE if found.mean < 0 else ORANGE
    axes.barh(place, found.mean, color=colour, alpha=0.6)
    axes.errorbar(found.mean, place, xerr=2 * np.nan_to_num(found.error), color="black", linewidth=1, capsize=3)
  axes.set_yticks(range(len(changes)), list(changes))
  axes.invert_yaxis()
  axes.axvline(0, color=GREY, linewidth=0.8)
  axes.set(xlabel="change of bits per spike, test; bars show two standard errors", title="Without one part")
  return figure


def table(values: dict[str, float]) -> str:
  """The scores as a small text table."""
  lines = [f"{'version':<24}{'bits per spike':>16}{'change':>10}"]
  for key, value in values.items():
    if key.endswith("/bits_per_spike"):
      name = key.removesuffix("/bits_per_spike")
      changed = f"{values[f'{name}/change']:+.4f}" if f"{name}/change" in values else ""
      lines.append(f"{name:<24}{value:>16.4f}{changed:>10}")
  return "\n".join(lines)
