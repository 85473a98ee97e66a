"""The quality report of images or videos: counts, sizes, values, what could not be read, and pictures to look at."""

import pathlib
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from behavejax.data.prepare_samples import PreparedSamples
from behavejax.data.samples import Samples
from behavejax.evaluation.frames_figures import as_pictures, picture_rows, video_strips
from behavejax.evaluation.page import Block, Heading, Notes, Paragraph, Picture, Table, replaced_folder, write_page
from behavejax.workdir import write_json

SPLITS = ("train", "val", "test")
_SHOWN_IMAGES, _SHOWN_CLIPS = 12, 2
_PART = 256  # samples that are looked at in one go


def write_samples_report(folder: pathlib.Path, data: PreparedSamples, *, title: str) -> None:
  """Writes qa.md, qa.html, qa.json and figures/samples.png; the folder appears whole or not at all."""
  parts = {name: getattr(data, name) for name in SPLITS}
  train = data.train
  what = "clip" if train.length else "image"
  values = value_statistics(train)
  blocks: list[Block] = [
    Paragraph(
      f"{sum(map(len, parts.values())):,} {what}s of {' x '.join(map(str, train.shape[:-1]))} pixels"
      f"{' (frames first)' if train.length else ''} and {train.shape[-1]} channel(s), stored as {train.steps.dtype} "
      f"({train.steps.nbytes / 1e6:,.1f} MB in memory). Split: {data.split}."
    ),
    Notes(data.warnings, warning=True) if data.warnings else Paragraph("Every file was read."),
    Table(
      ("split", f"{what}s", "files or sources", "with a label"),
      [
        (name, f"{len(part):,}", f"{len(np.unique(part.source)):,}", f"{(part.labels >= 0).mean():.0%}")
        for name, part in parts.items()
      ],
    ),
    Picture("samples", samples_figure(parts), f"Some {what}s of every split."),
    Heading("Values in the training split"),
    Table(
      ("channel", "mean", "std", "min", "max", "at the minimum", "at the maximum"),
      [
        (name, f"{v['mean']:.4g}", f"{v['std']:.4g}", f"{v['min']:.4g}", f"{v['max']:.4g}",
         f"{v['at_min']:.1%}", f"{v['at_max']:.1%}")
        for name, v in values.items()
      ],
    ),
  ]  # fmt: skip
  labels = {
    name: {split: int((part.labels == i).sum()) for split, part in parts.items()}
    for i, name in enumerate(train.classes)
  }
  if labels:
    rows = [(name, *(f"{counts[split]:,}" for split in SPLITS)) for name, counts in labels.items()]
    blocks += [Heading("Labels"), Table(("class", *SPLITS), rows)]
  if train.length:
    blocks += [Heading("Videos"), Paragraph(_of_videos(train))]
  record = {
    "samples": {name: len(part) for name, part in parts.items()},
    "shape": train.shape,
    "dtype": str(train.steps.dtype),
    "channels": values,
    "labels": labels,
    "split": data.split,
    "warnings": data.warnings,
  }
  with replaced_folder(folder) as temporary:
    write_page(temporary, "qa", title, blocks)
    write_json(temporary / "qa.json", record)


def value_statistics(samples: Samples) -> dict[str, dict[str, float]]:
  """Per channel, over the samples as stored: mean, std, extremes, and the shares of values that lie at them."""
  mean, std = samples.normalization.mean, samples.normalization.std
  low, high = np.inf, -np.inf
  for part in _stored(samples):
    low, high = np.minimum(low, part.min(axis=0)), np.maximum(high, part.max(axis=0))
  count, at_low, at_high = 0, 0, 0
  for part in _stored(samples):
    count, at_low, at_high = count + len(part), at_low + (part == low).sum(axis=0), at_high + (part == high).sum(axis=0)
  columns: dict[str, Any] = {
    "mean": mean, "std": std, "min": low, "max": high, "at_min": at_low / count, "at_max": at_high / count,
  }  # fmt: skip
  return {
    channel: {name: float(column[i]) for name, column in columns.items()} for i, channel in enumerate(samples.channels)
  }


def samples_figure(parts: dict[str, Samples]) -> Figure:
  """Images, or clips as strips, a row or two per split."""
  shown, video = {}, any(part.length for part in parts.values())
  for name, part in parts.items():
    count = min(_SHOWN_CLIPS if video else _SHOWN_IMAGES, *map(len, parts.values()))
    chosen = np.linspace(0, len(part) - 1, count).astype(int)
    shown[name] = as_pictures(part.gather(chosen), part)
  return video_strips(shown) if video else picture_rows(shown)


def _stored(samples: Samples):
  """Values as stored, `[pixel, channel]`, of a few samples at a time."""
  for start in range(0, len(samples), _PART):
    starts = samples.starts[start : start + _PART]
    places = (starts[:, None] + np.arange(samples.length)).ravel() if samples.length else starts
    yield samples.steps[places].reshape(-1, len(samples.channels))


def _of_videos(samples: Samples) -> str:
  frames = np.diff(samples.bounds)
  return (
    f"{len(frames):,} videos of {frames.min():,} to {frames.max():,} frames (median {np.median(frames):,.0f}), "
    f"{frames.sum():,} frames in all, {samples.rate_hz:g} per second; clips of {samples.length} frames."
  )
