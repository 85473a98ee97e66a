"""Whole recordings as a trained encoder sees them: codes in the order of time, gathered into steps."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from behavejax.config import Config
from behavejax.data import sources
from behavejax.data.devices import devices_first, split_devices
from behavejax.data.normalization import Normalization
from behavejax.data.prepare import repair_recordings
from behavejax.data.prepare_samples import SIGNALS
from behavejax.data.streams import Streams
from behavejax.data.windows import window_length
from behavejax.errors import InputError
from behavejax.evaluation import codebooks
from behavejax.evaluation.evaluate import restore
from behavejax.evaluation.latents import assign, decoder_of, restore_vae
from behavejax.models.quantizer import make_quantizer
from behavejax.models.syllables import digits_of, step_edges
from behavejax.types import Variables
from behavejax.workdir import Workdir


class Tokenizer(NamedTuple):
  """What gives windows their codes.

  Attributes:
    tokens: normalised windows -> codes, one integer each.
    shape: of a window, (height, time, channel).
    normalization: of samples.
    levels: number of values of each digit of a code.
    stride: samples from one code to the next.
  """

  tokens: Callable[[Float[np.ndarray, "window height time channel"]], Int[np.ndarray, "window row token"]]
  shape: tuple[int, int, int]
  normalization: Normalization
  levels: tuple[int, ...]
  stride: int


def has_codes(workdir: Workdir) -> bool:
  """Whether a run has learned codes: with an encoder, or a codebook on the latent vectors of recordings."""
  return workdir.is_complete("encoder") or workdir.is_complete("codebook")


def tokenizer(workdir: Workdir, config: Config, *, encoder: str | Variables = "") -> Tokenizer:
  """The codes of a run's encoder, or of its codebook where it has no encoder.

  Raises:
    InputError: neither is complete, or a codebook of something else than windows of recordings.
  """
  if workdir.is_complete("codebook") and not workdir.is_complete("encoder"):
    return _of_codebook(workdir, config)
  model, variables, data = restore(workdir, config, stage=encoder)
  encode = jax.jit(lambda x: model.apply(variables, x).tokens)
  levels = make_quantizer(config.quantizer).levels
  return Tokenizer(encode, data.train.shape, data.normalization, levels, config.model.token_stride)


def _of_codebook(workdir: Workdir, config: Config) -> Tokenizer:
  if config.frames.name not in SIGNALS or config.data.fold or config.data.devices > 1:
    raise InputError(
      "codes of whole recordings need config.frames.name=windows or recordings, config.data.fold=False and one device, "
      f"got {config.frames.name}, fold={config.data.fold}, {config.data.devices} devices"
    )
  model, variables, data = restore_vae(workdir, config)
  book = codebooks.read(workdir.stage("codebook") / "codebook.npz").book
  encode, decode = jax.jit(lambda x: model.encode(variables, x[:, 0]).mean), decoder_of(model, variables)

  def tokens(windows: Array) -> Int[np.ndarray, "window row token"]:
    joined = assign(book, config, model, decode, np.asarray(encode(windows)))
    return joined.codes.reshape(len(windows), 1, -1)

  time, channels = data.train.shape
  stride = 2**config.vae.halvings if config.vae.latent == "spatial" else time
  return Tokenizer(tokens, (1, time, channels), data.normalization, (config.codebook.codes,), stride)


def token_streams(
  workdir: Workdir, config: Config, *, encoder: str | Variables = ""
) -> tuple[Streams, tuple[int, ...]]:  # fmt: skip
  """Bags of codes of every recording of a run, `[step, digit, level]`, and the number of values of each digit.

  Recordings are cut into windows end to end, the last one filled with its last sample; every window gives its codes
  in the order of time, and each `config.segmentation.features.step_s` of them are a step. The codes of a step are
  taken to say much the same. Of several devices each has a stream of its own.

  Args:
    workdir: of the run.
    config: of the run.
    encoder: the stage that an encoder comes from, or its variables, see `restore`.

  Raises:
    InputError: the run has neither encoder nor codebook, or its data are gone.
  """
  found = tokenizer(workdir, config, encoder=encoder)
  recordings, _ = repair_recordings(sources.load(config.data, config.seed), config.data)
  devices, rate = config.data.devices, recordings[0].rate_hz
  length = window_length(config.data.window_s, rate, fold=config.data.fold)
  levels = found.levels
  values, starts, parts = [], [], []
  for recording in recordings:
    windows = _end_to_end(found.normalization.apply(recording.signal), length)
    rows = devices_first(windows, devices) if devices > 1 else windows.reshape(-1, *found.shape)
    tokens = in_batches(found.tokens, rows, config.evaluation.batch_size)
    streams = np.split(tokens, devices, axis=1) if tokens.shape[1] >= devices > 1 else [tokens]
    parts += split_devices(recording, devices) if len(streams) > 1 else [recording]
    for stream in streams:
      steps = steps_per_window(stream[0].size, config.data.window_s, config.segmentation.features.step_s)
      begins = token_starts(stream.shape, length, stride=found.stride)
      bags = bags_of(stream.reshape(len(stream), -1), begins < len(recording.signal), levels, steps=steps)
      first = begins.reshape(len(stream), -1)[:, step_edges(stream[0].size, steps)[:-1]].ravel()
      inside = first < len(recording.signal)
      values.append(bags[inside])
      starts.append(first[inside])
  return Streams(
    tuple(values), tuple(starts), tuple(parts), steps / length * rate, max(stream[0].size / steps, 1.0), 1.0
  ), levels  # fmt: skip


def steps_per_window(codes: int, window_s: float, step_s: float) -> int:
  """Steps that the codes of a window are gathered into, 1 to `codes`.

  >>> steps_per_window(26, 2.0, 0.5)
  4
  """
  return min(max(round(window_s / step_s), 1), codes)


def bags_of(
  tokens: Int[np.ndarray, "window code"], inside: np.ndarray, levels: tuple[int, ...], *, steps: int
) -> Float[np.ndarray, "step digit level"]:
  """How often each value of each digit occurs in each step; codes that are not `inside` count nowhere."""
  windows, codes = tokens.shape
  step = np.repeat(np.arange(steps), np.diff(step_edges(codes, steps)))
  places = (np.arange(windows)[:, None] * steps + step).ravel()[inside]
  digits = digits_of(tokens.ravel()[inside], levels)
  counts = np.zeros((windows * steps, len(levels), max(levels)), np.float32)
  np.add.at(counts, (places[:, None], np.arange(len(levels)), digits), 1.0)
  return counts


def token_starts(shape: tuple[int, int, int], length: int, *, stride: int) -> Int[np.ndarray, " code"]:
  """First sample of each code of `[window, row, token]` in the order of time; the last of a row may be shorter.

  >>> token_starts((2, 2, 3), 20, stride=4).tolist()
  [0, 4, 8, 10, 14, 18, 20, 24, 28, 30, 34, 38]
  """
  windows, rows, tokens = shape
  per_row = length // rows
  in_row = np.arange(tokens) * stride
  return (np.arange(windows * rows)[:, None] * per_row + in_row).ravel()


def in_batches(
  function: Callable[[Array], Array], windows: Float[np.ndarray, "window height time channel"], size: int
) -> np.ndarray:
  """A function of windows over all of them, in batches of one compiled shape."""
  size = min(size, len(windows))
  parts = []
  for start in range(0, len(windows), size):
    part = windows[start : start + size]
    filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
    parts.append(np.asarray(function(filled))[: len(part)])
  return np.concatenate(parts)


def _end_to_end(signal: Float[np.ndarray, "time channel"], length: int) -> Float[np.ndarray, "window time channel"]:
  missing = -len(signal) % length
  filled = np.concatenate([signal, np.repeat(signal[-1:], missing, axis=0)])
  return filled.reshape(-1, length, signal.shape[1])
