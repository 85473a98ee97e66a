"""The quality report of a data set: numbers per channel, findings, and one figure to look at."""

import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from behavejax.data.prepare import Prepared
from behavejax.data.quality import runs
from behavejax.data.recording import Recording
from behavejax.evaluation.figures import BLUE, GREY, ORANGE, styled
from behavejax.evaluation.page import Block, Heading, Notes, Paragraph, Picture, Table, replaced_folder, write_page
from behavejax.workdir import write_json

_SHOWN_S = 60.0
_MOST_CHANNELS = 9


def write_quality_report(folder: pathlib.Path, recordings: Sequence[Recording], data: Prepared, *, title: str) -> None:
  """Writes qa.md, qa.html, qa.json and figures/quality.png; the folder appears whole or not at all."""
  quality = data.quality
  warnings = list(data.warnings)
  if quality.duplicated_timestamps or quality.backward_timestamps:
    warnings.append(
      f"{quality.duplicated_timestamps} duplicated and {quality.backward_timestamps} backward time stamps"
    )
  blocks: list[Block] = [
    Paragraph(
      f"{quality.recordings} recordings of {len(quality.subjects)} subjects, {quality.hours:.2f} hours "
      f"({quality.samples:,} samples, {quality.dtype}) at {quality.rate_hz:g} Hz; {quality.labelled_share:.0%} of the "
      f"samples labelled. Quality score {quality.score:.0f} of 100. Split {data.split}."
    ),
    Notes(warnings, warning=True) if warnings else Paragraph("Nothing exceeds the thresholds."),
    Picture("quality", quality_figure(recordings, data), "Raw signal with gaps shaded, values, and labels per split."),
    Heading("Channels"),
    Table(
      ("channel", "NaN %", "Inf %", "mean", "std", "min", "max", "flat", "saturated", "longest gap", "score", "repair"),
      [
        (
          f"{c.name} ({c.unit})" if c.unit else c.name, f"{c.nan_percent:.2f}", f"{c.inf_percent:.2f}", f"{c.mean:.3g}",
          f"{c.std:.3g}", f"{c.min:.3g}", f"{c.max:.3g}", f"{c.flat_share:.1%}", f"{c.saturated_share:.1%}",
          f"{c.longest_gap_s:.2f} s", f"{c.score:.0f}", c.strategy,
        )
        for c in quality.channels
      ],
    ),
    Heading("Labels"),
    Table(("behaviour", "seconds"), [(name, f"{s:,.0f}") for name, s in quality.label_seconds.items()]),
  ]  # fmt: skip
  with replaced_folder(folder) as temporary:
    write_page(temporary, "qa", title, blocks)
    write_json(temporary / "qa.json", {**quality.to_json(), "split": data.split, "warnings": warnings})


@styled
def quality_figure(recordings: Sequence[Recording], data: Prepared) -> Figure:
  """Left: a minute of the recording with most gaps. Middle: histograms. Right: windows per label and split."""
  channels = data.quality.channels[:_MOST_CHANNELS]
  figure = Figure((13, max(1.05 * len(channels) + 1.6, 4.0)), layout="constrained")
  left, right = figure.subfigures(1, 2, width_ratios=(3, 1.15))
  axes = left.subplots(len(channels), 2, width_ratios=(3, 1), squeeze=False)
  worst = max(recordings, key=lambda r: _gap_starts(r).sum())
  part = _busiest_part(worst)
  time = np.arange(part.start, part.stop) / worst.rate_hz
  for row, channel in enumerate(channels):
    signal, values = axes[row]
    column = worst.signal[part, row]
    signal.plot(time, np.where(np.isfinite(column), column, np.nan), color=BLUE, linewidth=0.7)
    for start, length in runs(~np.isfinite(column)):
      first, step = time[start], 1 / worst.rate_hz
      signal.axvspan(first - step, first + length * step, color=ORANGE, alpha=0.45, linewidth=0)
    finite = np.concatenate([r.signal[:, row] for r in recordings])
    finite = finite[np.isfinite(finite)]
    low, high = np.percentile(finite, [0.5, 99.5])
    values.hist(finite, bins=60, range=(low, high if high > low else low + 1), color=GREY)
    values.set_yticks([])
    signal.set_ylabel(f"{channel.name}\n{_printed(channel.unit)}", rotation=0, ha="right", va="center")
    signal.set_xlim(time[0], time[-1])
    if row < len(channels) - 1:
      signal.set_xticklabels([])
  total = len(data.quality.channels)
  shown = f"; {len(channels)} of {total} channels shown" if total > len(channels) else ""
  axes[0, 0].set_title(f"Recording {worst.name}, lost samples shaded")
  axes[0, 1].set_title("Values, central 99 %")
  axes[-1, 0].set_xlabel(f"time (s){shown}")
  left.align_ylabels(axes[:, 0])
  _label_balance(right, data)
  return figure


def _gap_starts(recording: Recording) -> np.ndarray:
  """Flags the first sample of each gap; the number of gaps, unlike their length, leaves something to look at."""
  lost = (~np.isfinite(recording.signal)).any(axis=1)
  return lost & ~np.concatenate([[False], lost[:-1]])


def _busiest_part(recording: Recording) -> slice:
  """The minute in which most gaps start, with room on both sides of them; the first one if there are none."""
  length = min(round(_SHOWN_S * recording.rate_hz), len(recording.signal))
  gaps = np.concatenate([[0], np.cumsum(_gap_starts(recording))])
  started = gaps[length:] - gaps[: len(gaps) - length]
  best = np.flatnonzero(started == started.max())
  start = int(best[len(best) // 2]) if started.max() else 0
  return slice(start, start + length)


def _printed(unit: str) -> str:
  return unit.replace("^2", "²").replace("uT", "µT")


def _label_balance(figure, data: Prepared) -> None:
  axes = figure.subplots()
  classes = data.train.classes or ("unlabelled",)
  left = np.zeros(len(classes))
  for name, colour in (("train", BLUE), ("val", GREY), ("test", ORANGE)):
    labels = getattr(data, name).labels
    counts = np.bincount(np.maximum(labels, 0), minlength=len(classes))
    axes.barh(range(len(classes)), counts, left=left, color=colour, label=f"{name} ({len(labels):,})")
    left += counts
  axes.set_yticks(range(len(classes)), classes)
  axes.set_ylim(max(len(classes), 4) - 0.4, -0.6)
  axes.set(xlabel="windows", title="Windows per label")
  figure.legend(loc="outside lower center", ncols=3, handlelength=1, columnspacing=1)
