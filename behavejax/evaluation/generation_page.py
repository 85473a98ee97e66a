"""A page of samples: a grid, rows by class, temperatures, and ways between samples."""

import math
import os
import pathlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from behavejax.config import did_you_mean
from behavejax.errors import InputError
from behavejax.evaluation import frames_figures, generation, geodesic_figures
from behavejax.evaluation.generation import Trained
from behavejax.evaluation.page import Block, Heading, Paragraph, Picture, Table, replaced_folder, write_page
from behavejax.evaluation.priors import draw_codes
from behavejax.workdir import Workdir, write_arrays

_EACH = 10  # samples of a class, and of a temperature
_LINES = 9  # signals side by side


class Wishes(NamedTuple):
  """What is to be drawn.

  Attributes:
    samples: of the grid.
    classes: names, in turns; () for any.
    temperature: None for that of the config.
    temperatures: of the sweep.
    pairs: of test samples with ways between them.
    steps: of a way.
    seed: of the draws.
  """

  samples: int = 64
  classes: tuple[str, ...] = ()
  temperature: float | None = None
  temperatures: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25)
  pairs: int = 4
  steps: int = 9
  seed: int = 0


def generate(folder: str | os.PathLike, out: str | os.PathLike, wishes: Wishes) -> None:
  """Draws from the prior of a run and writes `samples.html` and `samples.npz` into the folder `out`.

  Raises:
    InputError: no prior, an unknown class, a negative temperature, or a folder with other things in it.
  """
  out = pathlib.Path(out)
  if out.exists() and not (out / "samples.npz").exists() and (out.is_file() or any(out.iterdir())):
    raise InputError(f"--out {out} is not empty and holds no samples; choose another")
  bad = [t for t in wishes.temperatures if not (t >= 0 and math.isfinite(t))]
  if bad:
    raise InputError(f"--temperatures must be 0 or more, got {bad[0]:g}")
  run = generation.load(Workdir(folder))
  labels = _labels(run, wishes)
  if run.prior is None:
    raise InputError(f"{folder} has no prior to draw from: add 'prior' to config.stages and train it")
  codes = draw_codes(
    run.prior, run.prior_variables, labels, run.config, seed=wishes.seed, temperature=wishes.temperature
  )
  samples = generation.decode_codes(run, codes)
  blocks = [*_drawn(run, samples), *_by_class(run, wishes), *_sweep(run, wishes), *_ways(run, wishes)]
  normal = run.data.test.normalization
  with replaced_folder(out) as temporary:
    write_page(temporary, "samples", f"Samples: {run.config.frames.name}", blocks)
    units = samples if normal is None else normal.undo(samples)
    write_arrays(temporary / "samples.npz", {"samples": units, "codes": codes, "labels": labels})


def pictured(run: Trained, rows: dict[str, Float[np.ndarray, "sample *space channel"]], *, columns: int) -> Figure:
  """Samples side by side, a row for each name: images, the middle frames of videos, signals."""
  test = run.data.test
  if not test.peak:
    columns = min(columns, _LINES)
    return geodesic_figures.signals(
      np.concatenate(list(rows.values())), channels=test.channels, rate_hz=test.rate_hz, columns=columns,
      names=list(rows) if all(len(x) == columns for x in rows.values()) else (),
    )  # fmt: skip
  stills = {name: x if x.ndim == 4 else x[:, x.shape[1] // 2] for name, x in rows.items()}
  return frames_figures.picture_rows(
    {name: frames_figures.as_pictures(x, test) for name, x in stills.items()}, columns=columns
  )


def _labels(run: Trained, wishes: Wishes) -> np.ndarray:
  names = run.data.train.classes
  if not wishes.classes:
    return np.full(wishes.samples, -1, np.int32)
  if not run.config.prior.conditional or not names:
    raise InputError("--classes: the prior of this run was given no classes (config.prior.conditional)")
  for name in wishes.classes:
    if name not in names:
      raise InputError(f"--classes: {name!r} is no class of this run{did_you_mean(name, names)}")
  return np.resize([names.index(name) for name in wishes.classes], wishes.samples).astype(np.int32)


def _drawn(run: Trained, samples: Float[np.ndarray, "sample *space channel"]) -> list[Block]:
  shown = samples[:64]
  text = f"The first {len(shown)} of {len(samples):,} samples."
  return [Heading("Samples"), Picture("samples", pictured(run, {"": shown}, columns=16), text)]


def _by_class(run: Trained, wishes: Wishes) -> list[Block]:
  names = run.data.train.classes
  if not run.config.prior.conditional or not names:
    return []
  each = _EACH if run.data.test.peak else 3
  labels = generation.class_rows(run, each=each)
  drawn = generation.sample(run, labels, seed=wishes.seed + 1, temperature=wishes.temperature)
  rows = {name: drawn[i * each : (i + 1) * each] for i, name in enumerate(names)}
  return [
    Heading("By class"),
    Picture("classes", pictured(run, rows, columns=each), "A row of samples for every class that is asked for."),
  ]


def _sweep(run: Trained, wishes: Wishes) -> list[Block]:
  if not wishes.temperatures:
    return []
  each = _EACH if run.data.test.peak else 3
  conditional = run.config.prior.conditional and run.data.train.classes
  labels = np.resize(np.arange(len(run.data.train.classes)) if conditional else [-1], each).astype(np.int32)
  rows = {f"{t:g}": generation.sample(run, labels, seed=wishes.seed + 2, temperature=t) for t in wishes.temperatures}
  return [
    Heading("Temperatures"),
    Picture("temperatures", pictured(run, rows, columns=each), "The same keys, a temperature in every row."),
  ]


def _ways(run: Trained, wishes: Wishes) -> list[Block]:
  if not wishes.pairs:
    return []
  latents = run.latents["test"].mean
  ends = np.random.default_rng(wishes.seed).permutation(len(latents))[: 2 * wishes.pairs]
  rows, pictures, table = {}, {}, []
  for number, (a, b) in enumerate(zip(ends[::2], ends[1::2], strict=False), start=1):
    found = generation.ways(run, latents[a], latents[b], steps=wishes.steps)
    for name, way in (("straight", found.straight), ("graph", found.geodesic)):
      rows[f"{number} {name}"] = pictures[name] = generation.decode(run, way)
    changes = {name: generation.smoothness(own) for name, own in pictures.items()}
    table.append([str(number), *(f"{changes[n][k]:.3f}" for n in pictures for k in ("length", "largest_step"))])
  return [
    Heading("From one sample to another"),
    Picture(
      "ways",
      pictured(run, rows, columns=wishes.steps),
      "Pairs of test samples: straight lines above paths on the graph.",
    ),
    Table(("pair", "straight: way", "largest step", "graph: way", "largest step"), table),
    Paragraph(
      "The way is the sum of root mean square changes from step to step, the largest step a share of it. Along the "
      "graph every place of a grid goes by the shortest path between vectors that were real; places do not know of "
      "each other."
    ),
  ]
