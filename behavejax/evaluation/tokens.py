"""The stream of codes that a trained encoder makes of whole recordings."""

import jax
import numpy as np
from jaxtyping import Float, Int

from behavejax.config import Config
from behavejax.data import sources
from behavejax.data.prepare import repair_recordings
from behavejax.data.streams import Streams
from behavejax.data.windows import window_length
from behavejax.evaluation.evaluate import restore
from behavejax.models.quantizer import make_quantizer
from behavejax.workdir import Workdir

_ALIKE_S = 0.5


def token_streams(workdir: Workdir, config: Config) -> tuple[Streams, tuple[int, ...]]:
  """Codes of every recording of a run as digits `[step, digit]`, and the number of values of each digit.

  Recordings are cut into windows end to end, the last one filled with its last sample; every window gives its codes
  in the order of time. Codes within half a second of each other are taken to say much the same.

  Raises:
    InputError: the encoder of the run is not complete, or its data are gone.
  """
  model, variables, data = restore(workdir, config)
  recordings, _ = repair_recordings(sources.load(config.data, config.seed), config.data)
  length = window_length(config.data.window_s, recordings[0].rate_hz, fold=config.data.fold)
  levels = make_quantizer(config.quantizer).levels
  encode = jax.jit(lambda x: model.apply(variables, x).tokens[0])
  values, starts = [], []
  for recording in recordings:
    windows = _end_to_end(data.normalization.apply(recording.signal), length, rows=data.train.shape[0])
    tokens = np.stack([np.asarray(encode(window[None])) for window in windows])
    begins = token_starts(tokens.shape, length, stride=config.model.token_stride)
    inside = begins < len(recording.signal)
    values.append(digits_of(tokens.ravel()[inside], levels))
    starts.append(begins[inside])
  rate = tokens[0].size / length * recordings[0].rate_hz
  overlap = max(_ALIKE_S * rate, 1.0)
  return Streams(tuple(values), tuple(starts), tuple(recordings), rate, overlap, 1.0), levels


def token_starts(shape: tuple[int, int, int], length: int, *, stride: int) -> Int[np.ndarray, " step"]:
  """First sample of each code of `[window, row, token]` in the order of time; the last of a row may be shorter.

  >>> token_starts((2, 2, 3), 20, stride=4).tolist()
  [0, 4, 8, 10, 14, 18, 20, 24, 28, 30, 34, 38]
  """
  windows, rows, tokens = shape
  per_row = length // rows
  in_row = np.arange(tokens) * stride
  return (np.arange(windows * rows)[:, None] * per_row + in_row).ravel()


def digits_of(tokens: Int[np.ndarray, " step"], levels: tuple[int, ...]) -> Int[np.ndarray, "step digit"]:
  """Codes as numbers of mixed base, the first digit fastest.

  >>> digits_of(np.array([192]), (8, 6, 5)).tolist()
  [[0, 0, 4]]
  """
  basis = np.cumprod([1, *levels[:-1]])
  return (tokens[:, None] // basis % np.array(levels)).astype(np.int32)


def _end_to_end(
  signal: Float[np.ndarray, "time channel"], length: int, *, rows: int
) -> Float[np.ndarray, "window row time channel"]:
  missing = -len(signal) % length
  filled = np.concatenate([signal, np.repeat(signal[-1:], missing, axis=0)])
  return filled.reshape(-1, rows, length // rows, signal.shape[1])
