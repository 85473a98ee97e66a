"""What a trained autoencoder of samples makes of given files, and of the way between two of them."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float
from PIL import Image

from behavejax.config import Config
from behavejax.data import pixels
from behavejax.data.images import SUFFIXES, read_image
from behavejax.data.native import read_npy, read_recordings
from behavejax.data.prepare_samples import PreparedSamples
from behavejax.data.videos import read_video
from behavejax.errors import InputError
from behavejax.evaluation import rates, vqvae
from behavejax.evaluation.films import can_write
from behavejax.evaluation.frames_figures import as_pictures, picture_rows, signal_pairs, video_strips
from behavejax.evaluation.page import Block, Paragraph, Picture, Table, Video, replaced_folder, write_page
from behavejax.models import tiling
from behavejax.models.vqvae import Vqvae, grid_of
from behavejax.types import Variables
from behavejax.workdir import Workdir

_PAGE = "generated"
_HELD_OUT = 4  # samples of the test split that stand in for files


@dataclasses.dataclass(frozen=True)
class _Trained:
  """A model with all that it was trained with."""

  config: Config
  model: Vqvae
  variables: Variables
  data: PreparedSamples

  @property
  def dimensions(self) -> int:
    return len(self.config.vqvae.factors)


Named = list[tuple[str, Float[np.ndarray, "*space channel"]]]
"""Names and normalised samples."""


def reconstruct(folder: str | os.PathLike, files: Sequence[str], out: str | os.PathLike) -> list[str]:
  """Codes files and decodes their codes: a page, `generated.npz`, pictures or films.

  `generated.npz` holds for each name `NAME/tokens` and `NAME/decoded`, in the units of the file. Signals and videos may
  be longer than those of the training; see `behavejax.models.tiling`.

  Args:
    folder: of the run.
    files: `.npy` [time, channel] or recordings `.npz`; images; videos or `.npy` stacks. None takes held-out samples.
    out: new, empty, or written by this before.

  Returns:
    A line for each file.

  Raises:
    InputError: no finished run, or a file that cannot be read or does not fit the model.
  """
  run, out = _restore(folder), _free(out)
  items = [item for file in files for item in _read(run, pathlib.Path(file))] if files else _held_out(run)
  plan = tiling.make_plan(run.config, shape=run.data.train.shape) if run.dimensions != 2 else None
  arrays, rows, decoded = {}, [], []
  for name, x in items:
    tokens, y = _through(run, x, plan)
    decoded.append(y)
    arrays |= {f"{name}/tokens": tokens, f"{name}/decoded": run.data.normalization.undo(y)}
    error, spread = float(np.mean(np.square(x - y))), float(np.mean(np.square(x - x.mean(axis=_space(x)))))
    bits = tokens.size * np.log2(run.model.num_codes) / x.size
    db = (
      rates.psnr(error, run.data.train.peak / float(run.data.normalization.std.mean())) if run.data.train.peak else None
    )
    rows.append(
      (name, " x ".join(map(str, x.shape[:-1])), f"{tokens.size:,}", f"{bits:.3f}", f"{error:.4f}",
       f"{error / max(spread, 1e-12):.3f}", "-" if db is None else f"{db:.1f}")
    )  # fmt: skip
  header = ("name", "size", "tokens", "bits per value", "squared error", "of its own variance", "PSNR (dB)")
  blocks: list[Block] = [Table(header, rows), Paragraph(_how(plan)), *_beside(run, items, decoded)]
  _write(run, out, "Reconstructed files", blocks, arrays)
  return ["  ".join(f"{key} {value}" for key, value in zip(header, row, strict=True)) for row in rows]


def interpolate(folder: str | os.PathLike, files: Sequence[str], out: str | os.PathLike, *, steps: int) -> list[str]:
  """Goes from the first file to the second in the space of codes: latent vectors between both, quantized, decoded.

  Args:
    folder: of the run.
    files: two, of one shape; signals and videos no longer than those of the training. None takes held-out samples.
    out: new, empty, or written by this before.
    steps: samples on the way, both ends among them.

  Returns:
    A line for each step: where it is, and how many tokens differ from the step before.

  Raises:
    InputError: not two files of one shape, or as in `reconstruct`.
  """
  run, out = _restore(folder), _free(out)
  items = [item for file in files for item in _read(run, pathlib.Path(file))] if files else _held_out(run)[:2]
  if len(items) != 2 or items[0][1].shape != items[1][1].shape:
    shapes = ", ".join(f"{name} of {' x '.join(map(str, x.shape))}" for name, x in items)
    raise InputError(f"--interpolate goes from one sample to a second of its shape, got {shapes}")
  ends = np.stack([x for _, x in items])
  grid_of(ends.shape[1:], run.config.vqvae.factors)

  @jax.jit
  def between(ends: jax.Array, places: jax.Array) -> tuple[jax.Array, jax.Array]:
    first, last = run.model.encode(run.variables, ends)
    way = places.reshape(-1, *(1,) * first.ndim)
    tokens, codes = run.model.quantize(run.variables, first[None] * (1 - way) + last[None] * way)
    return tokens, run.model.decode(run.variables, codes)

  places = np.linspace(0, 1, steps, dtype=np.float32)
  tokens, y = (np.asarray(a) for a in between(ends, places))
  changed = [0.0, *np.mean(tokens[1:] != tokens[:-1], axis=tuple(range(1, tokens.ndim)))]
  rows = [(f"{place:.2f}", f"{share:.0%}") for place, share in zip(places, changed, strict=True)]
  header = ("place", "tokens that differ from the step before")
  names = [f"{place:.2f}" for place in places]
  title = f"From {items[0][0]} to {items[1][0]}"
  shown = _alone(run, names, y)
  arrays = {"tokens": tokens, "decoded": run.data.normalization.undo(y)}
  _write(run, out, title, [*shown, Table(header, rows)], arrays)
  return ["  ".join(row) for row in rows]


def _restore(folder: str | os.PathLike) -> _Trained:
  workdir = Workdir(folder)
  config = workdir.read_config()
  if vqvae.STAGE not in config.stages:
    raise InputError(f"--workdir {workdir.path} has no stage {vqvae.STAGE!r}; config.stages={config.stages}")
  return _Trained(config, *vqvae.restore(workdir, config))


def _free(out: str | os.PathLike) -> pathlib.Path:
  """The folder to write, which is replaced as a whole: nothing else may lie there."""
  out = pathlib.Path(out).absolute()
  if out.exists() and not out.is_dir():
    raise InputError(f"--out {out} is a file")
  if out.exists() and any(out.iterdir()) and not (out / f"{_PAGE}.html").exists():
    raise InputError(f"--out {out} holds other files; choose a new folder")
  return out


def _held_out(run: _Trained) -> Named:
  test = run.data.test
  chosen = np.linspace(0, len(test) - 1, min(_HELD_OUT, len(test))).astype(int)
  return [(f"{test.sources[test.source[i]]}_{i}", x) for i, x in zip(chosen, test.gather(chosen), strict=True)]


def _read(run: _Trained, file: pathlib.Path) -> Named:
  """The samples of a file, normalised."""
  if not file.exists():
    raise InputError(f"no such file: {file}")
  channels, size = len(run.data.train.channels), run.config.frames.size
  if run.dimensions == 1:
    found = _signals(file)
  elif run.dimensions == 2:
    if file.suffix.lower() not in SUFFIXES:
      raise InputError(f"{file} is no image; known: {', '.join(SUFFIXES)}")
    image, why = read_image(file, channels, size)
    found = [(file.stem, _as_trained(run, image, why, file))]
  else:
    video = read_video(file, channels=channels, size=size or run.data.train.shape[1:3])
    found = [(file.stem, _as_trained(run, video.frames, video.why, file))]
  for name, x in found:
    if x.shape[-1] != channels:
      raise InputError(f"{file}: {name} has {x.shape[-1]} channels, the model was trained on {channels}")
    if run.dimensions > 1:
      time = (run.config.vqvae.factors[0],) if run.dimensions == 3 else ()  # tiling fills up what is left of time
      try:
        grid_of((*time, *x.shape[run.dimensions - 2 :]), run.config.vqvae.factors)
      except InputError as error:
        raise InputError(f"{file}: {error}; see config.frames.size") from error
  return [(name, run.data.normalization.apply(x)) for name, x in found]


def _signals(file: pathlib.Path) -> list[tuple[str, np.ndarray]]:
  if file.suffix == ".npz":
    found = [(f"{file.stem}_{recording.name}", recording.signal) for recording in read_recordings(file)]
  elif file.suffix == ".npy":
    found = [(file.stem, read_npy(file))]
  else:
    raise InputError(f"{file}: signals are read from .npy [time, channel] and from recordings .npz")
  for name, x in found:
    if x.ndim != 2 or not len(x) or x.dtype.kind not in "iuf":
      raise InputError(f"{file}: {name} is {x.dtype} of shape {x.shape}, expected numbers [time, channel]")
    if not np.isfinite(x).all():
      raise InputError(f"{file}: {name} holds NaN or Inf; fill them first")
  return found


def _as_trained(run: _Trained, values: np.ndarray | None, why: str, file: pathlib.Path) -> np.ndarray:
  """Pixels in the units of the training: 8 and 16 bits meet at white."""
  if values is None:
    raise InputError(f"{file} cannot be read: {why}")
  trained = run.data.train.steps.dtype
  if values.dtype == trained:
    return values
  if np.issubdtype(values.dtype, np.integer) != np.issubdtype(trained, np.integer):
    raise InputError(f"{file} holds {values.dtype}, the model was trained on {trained}")
  return values * (pixels.full(trained) / pixels.full(values.dtype))


def _through(run: _Trained, x: np.ndarray, plan: tiling.Plan | None) -> tuple[np.ndarray, np.ndarray]:
  if plan is not None:
    tokens = tiling.encode(run.model, run.variables, x, plan)
    return tokens, tiling.decode(run.model, run.variables, tokens, plan, length=len(x))
  tokens = jax.jit(run.model.tokens)(run.variables, x[None])
  return np.asarray(tokens)[0], np.asarray(jax.jit(run.model.decode_tokens)(run.variables, tokens))[0]


def _space(x: np.ndarray) -> tuple[int, ...]:
  return tuple(range(x.ndim - 1))


def _how(plan: tiling.Plan | None) -> str:
  units = "Squared errors are in units of the training data's variance."
  if plan is None:
    return units
  if plan.exact:
    return f"{units} Longer than a tile, they are coded in tiles that overlap by what a token sees: as if at once."
  return (
    f"{units} Longer than the {plan.size * plan.factor} steps of training, they are coded in tiles of that length, "
    "which overlap by half and fade into each other."
  )


def _beside(run: _Trained, items: Named, decoded: Sequence[np.ndarray]) -> list[Block]:
  """What went in over what came out."""
  test, blocks = run.data.test, []
  for i, ((name, x), y) in enumerate(zip(items, decoded, strict=True)):
    if run.dimensions == 1:
      figure = signal_pairs(x[None], y[None], channels=test.channels, rate_hz=test.rate_hz)
      blocks.append(Picture(f"signal_{i}", figure, name))
      continue
    true, found = as_pictures(x, test), as_pictures(y, test)
    if run.dimensions == 2:
      blocks.append(Picture(f"image_{i}", picture_rows({"true": true[None], "decoded": found[None]}, columns=4), name))
      continue
    blocks.append(Picture(f"strip_{i}", video_strips({"true": true[None], "decoded": found[None]}), name))
    if can_write():
      blocks.append(Video(f"film_{i}", {"true": true, "decoded": found}, test.rate_hz, name))
  return blocks


def _alone(run: _Trained, names: Sequence[str], y: np.ndarray) -> list[Block]:
  """Steps of the way under each other."""
  test = run.data.test
  if run.dimensions == 1:
    figure = signal_pairs(np.stack([y[0]] * len(y)), y, channels=test.channels, rate_hz=test.rate_hz)
    return [Picture("way", figure, "From left to right; grey is where it begins.")]
  pictures = as_pictures(y, test)
  if run.dimensions == 2:
    return [Picture("way", picture_rows({"": pictures}, columns=len(pictures)), "From left to right.")]
  return [
    Picture("way", video_strips({n: p[None] for n, p in zip(names, pictures, strict=True)}), "From top to bottom.")
  ]


def _write(run: _Trained, out: pathlib.Path, title: str, blocks: list[Block], arrays: dict[str, np.ndarray]) -> None:
  with replaced_folder(out) as temporary:
    write_page(temporary, _PAGE, title, blocks)
    np.savez_compressed(temporary / f"{_PAGE}.npz", **arrays)
    if run.dimensions == 2:
      for name, array in arrays.items():
        if name.endswith("/decoded"):
          picture = as_pictures(run.data.normalization.apply(array), run.data.test)
          shaded = picture[..., 0] if picture.shape[-1] == 1 else picture
          Image.fromarray(shaded).save(temporary / f"{name.removesuffix('/decoded')}.png")
