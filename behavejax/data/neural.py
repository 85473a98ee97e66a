"""A neural recording: what was on the screen, what the animal did, and how many spikes each neuron fired.

The file, `.npz` or HDF5 with the same names at its root (T frames, N neurons, F signals, R trials):

| array | shape | what |
|---|---|---|
| `video` | `[T, H, W]` or `[T, H, W, 1]` | grey values, uint8 or float; every frame finite |
| `spikes` | `[T, N]` or `[T]` | counts during the frame: whole numbers, 0 or more |
| `rate_hz` | one number | frames per second |
| `behaviour` | `[T, F]` or `[T]`, optional | running speed, pupil, position of the eye, ...; finite |
| `mask` | `[T]` or `[T, N]`, optional | False (0) where a count must not be used; NaN spikes are allowed there |
| `trial` | `[T]`, optional | number of the trial of each frame; a trial's frames follow each other |
| `condition` | `[R]`, optional | per trial, in order: trials of one number show the same video, those of -1 one each |
| `split` | `[R]`, optional | per trial: `train`, `val` or `test`; otherwise they are drawn |
| `true_rates` | `[T, N]`, optional | expected counts, where they are known |
| `true_centres` | `[N, 2]`, optional | row and column of each receptive field, in pixels, where they are known |
"""

import dataclasses
import os
import pathlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from behavejax.data import native
from behavejax.errors import InputError

_NEEDED = ("video", "spikes", "rate_hz")
_OPTIONAL = ("behaviour", "mask", "trial", "condition", "split", "true_rates", "true_centres")
SPLITS = ("train", "val", "test")


class NeuralTruth(NamedTuple):
  """What a simulator knows.

  Attributes:
    rates: expected count of every frame given video and behaviour; no prediction from them does better on average.
    centres: row and column of each receptive field, in pixels from the middle of the first one.
  """

  rates: Float[np.ndarray, "time neuron"]
  centres: Float[np.ndarray, "neuron 2"]


@dataclasses.dataclass(frozen=True)
class NeuralRecording:
  """One recording session: a screen, an animal, its neurons.

  Attributes:
    video: grey values.
    spikes: counts; 0 where `mask` is False and the count is not known.
    behaviour: one column per signal, or None where nothing was recorded.
    mask: whether a count may be used.
    trial: index of the trial of each frame, rising from 0 by steps of 0 or 1.
    condition: per trial: trials with the same number show the same video, -1 was shown once.
    rate_hz: frames per second.
    name: the file's, or the simulated recording's.
    split: per trial `train`, `val` or `test`, or () where they are to be drawn.
    truth: where it is known.
  """

  video: UInt8[np.ndarray, "time height width 1"] | Float[np.ndarray, "time height width 1"]
  spikes: Float[np.ndarray, "time neuron"]
  behaviour: Float[np.ndarray, "time signal"] | None
  mask: Bool[np.ndarray, "time neuron"]
  trial: Int[np.ndarray, " time"]
  condition: Int[np.ndarray, " trial"]
  rate_hz: float
  name: str
  split: tuple[str, ...] = ()
  truth: NeuralTruth | None = None

  def __post_init__(self):
    _check(self)

  @property
  def neurons(self) -> int:
    return self.spikes.shape[1]

  @property
  def signals(self) -> int:
    """Number of behavioural signals."""
    return 0 if self.behaviour is None else self.behaviour.shape[1]

  @property
  def trial_edges(self) -> Int[np.ndarray, " trial_and_1"]:
    """Trial r is frames `edges[r]:edges[r + 1]`."""
    return np.searchsorted(self.trial, np.arange(len(self.condition) + 1))

  def neurons_only(self, keep: Int[np.ndarray, " kept"]) -> "NeuralRecording":
    """The same session with some of its neurons."""
    truth = self.truth and NeuralTruth(self.truth.rates[:, keep], self.truth.centres[keep])
    return dataclasses.replace(self, spikes=self.spikes[:, keep], mask=self.mask[:, keep], truth=truth)


def read_neural(path: pathlib.Path) -> NeuralRecording:
  """Reads a file of the layout above.

  Raises:
    InputError: missing or damaged file, missing arrays, shapes that do not fit each other, counts that are negative or
      not whole, values that are not finite.
  """
  arrays = _read_hdf5(path) if path.suffix in (".h5", ".hdf5") else native.read_npz(path)
  absent = [name for name in _NEEDED if name not in arrays]
  if absent:
    raise InputError(f"{path}: {', '.join(absent)} missing; a neural recording holds {', '.join(_NEEDED)}")
  for name in _NEEDED[:2] + tuple(name for name in _OPTIONAL if name in arrays and name != "split"):
    if arrays[name].dtype.kind not in "iufb":
      raise InputError(f"{path}: {name} is {arrays[name].dtype}, expected numbers")
  video, spikes = _video(path, arrays["video"]), _columns(path, "spikes", arrays["spikes"])
  frames, neurons = spikes.shape
  mask = _mask(path, arrays.get("mask", np.ones(frames, bool)), spikes.shape)
  trial = _trials(path, arrays.get("trial", np.zeros(frames, int)))
  count = int(trial[-1]) + 1 if len(trial) else 0
  return NeuralRecording(
    video=video,
    spikes=np.where(mask | np.isfinite(spikes), spikes, 0).astype(np.float32),
    behaviour=_columns(path, "behaviour", arrays["behaviour"]).astype(np.float32) if "behaviour" in arrays else None,
    mask=mask,
    trial=trial,
    condition=_whole(path, "condition", arrays.get("condition", np.full(count, -1))),
    rate_hz=native.number(path, arrays, "rate_hz"),
    name=path.stem,
    split=native.strings(path, arrays, "split") if "split" in arrays else (),
    truth=_truth(path, arrays, (frames, neurons)),
  )


def write_neural(path: pathlib.Path, recording: NeuralRecording) -> None:
  """Writes the layout above as `.npz`; the file appears whole or not at all."""
  arrays = {
    "video": recording.video,
    "spikes": recording.spikes.astype(np.uint16),
    "rate_hz": np.float64(recording.rate_hz),
    "mask": recording.mask,
    "trial": recording.trial,
    "condition": recording.condition,
  }
  if recording.behaviour is not None:
    arrays["behaviour"] = recording.behaviour
  if recording.split:
    arrays["split"] = np.array(recording.split)
  if recording.truth is not None:
    arrays |= {"true_rates": recording.truth.rates, "true_centres": recording.truth.centres}
  temporary = path.with_name(f".{path.name}.tmp")
  try:
    with temporary.open("wb") as file:
      np.savez_compressed(file, **arrays)
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def _read_hdf5(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The arrays of the layout, or attributes of the file's root where it keeps single numbers as such."""
  if not path.is_file():
    raise InputError(f"no such file: {path}")
  try:
    import h5py  # only here, so that .npz files need no h5py
  except ImportError as error:
    raise InputError(f"{path} needs h5py: pip install 'behavejax[data]', or save the arrays as .npz") from error
  try:
    with h5py.File(path, "r") as file:
      found = {name: np.asarray(value) for name, value in file.attrs.items() if name in _NEEDED}
      for name in _NEEDED + _OPTIONAL:
        if isinstance(file.get(name, getlink=True), h5py.HardLink):  # a link into another file is not followed
          dataset = file[name]
          if not isinstance(dataset, h5py.Dataset):
            raise InputError(f"{path}: {name} is a group, expected an array")
          text = h5py.check_string_dtype(dataset.dtype)
          found[name] = dataset.asstr()[...].astype(str) if text else np.asarray(dataset[...])
      return found
  except (OSError, RuntimeError, KeyError, TypeError) as error:
    raise InputError(f"{path} is no readable HDF5 file: {error}") from error


def _video(path: pathlib.Path, video: np.ndarray) -> np.ndarray:
  if video.ndim == 3:
    video = video[..., None]
  if video.ndim != 4 or video.shape[3] != 1 or 0 in video.shape:
    raise InputError(f"{path}: video of shape {video.shape}, expected [T, H, W] or [T, H, W, 1]")
  return video if video.dtype == np.uint8 else video.astype(np.float32)


def _columns(path: pathlib.Path, name: str, values: np.ndarray) -> np.ndarray:
  if values.ndim not in (1, 2) or 0 in values.shape:
    raise InputError(f"{path}: {name} of shape {values.shape}, expected [T, {'N' if name == 'spikes' else 'F'}]")
  return values[:, None] if values.ndim == 1 else values


def _mask(path: pathlib.Path, mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  if mask.shape not in (shape, shape[:1], (shape[0], 1)):
    raise InputError(f"{path}: mask of shape {mask.shape}, expected [{shape[0]}] or [{shape[0]}, {shape[1]}]")
  if not np.isin(mask, (0, 1)).all():
    raise InputError(f"{path}: mask holds other values than 0 and 1 (False and True)")
  return np.broadcast_to(mask.astype(bool).reshape(shape[0], -1), shape)


def _trials(path: pathlib.Path, trial: np.ndarray) -> np.ndarray:
  trial = _whole(path, "trial", trial)
  changes = np.flatnonzero(np.diff(trial)) + 1
  numbers = trial[np.r_[0, changes]] if len(trial) else trial
  if len(np.unique(numbers)) < len(numbers):
    again = next(number for i, number in enumerate(numbers) if number in numbers[:i])
    raise InputError(f"{path}: trial {again} begins twice; the frames of a trial must follow each other")
  return np.repeat(np.arange(len(numbers)), np.diff(np.r_[0, changes, len(trial)]))


def _whole(path: pathlib.Path, name: str, values: np.ndarray) -> np.ndarray:
  if values.ndim != 1 or not np.array_equal(values, np.round(values)):
    raise InputError(f"{path}: {name} is {values.dtype} of shape {values.shape}, expected whole numbers along one axis")
  return values.astype(np.int64)


def _truth(path: pathlib.Path, arrays: dict[str, np.ndarray], shape: tuple[int, int]) -> NeuralTruth | None:
  if "true_rates" not in arrays and "true_centres" not in arrays:
    return None
  unknown = np.full((shape[1], 2), np.nan), np.full(shape, np.nan)
  centres, rates = arrays.get("true_centres", unknown[0]), arrays.get("true_rates", unknown[1])
  if rates.shape != shape or centres.shape != (shape[1], 2):
    raise InputError(
      f"{path}: true_rates of shape {rates.shape} and true_centres of shape {centres.shape}, expected {shape} and "
      f"({shape[1]}, 2)"
    )
  return NeuralTruth(rates.astype(np.float32), centres.astype(np.float32))


def _check(recording: NeuralRecording) -> None:
  where, video, spikes, mask = recording.name, recording.video, recording.spikes, recording.mask
  frames = len(video)
  for name, values in (("spikes", spikes), ("behaviour", recording.behaviour), ("trial", recording.trial)):
    if values is not None and len(values) != frames:
      raise InputError(f"{where}: {name} of length {len(values)} for a video of {frames} frames")
  if video.dtype != np.uint8 and not np.isfinite(video).all():
    frame = int(np.argmin(np.isfinite(video).all(axis=(1, 2, 3))))
    raise InputError(f"{where}: video holds NaN or Inf in frame {frame}; every frame must be finite")
  for wrong, what in (
    (~np.isfinite(spikes), "not finite"),
    (spikes < 0, "below 0"),
    (spikes != np.round(spikes), "not a whole number"),
  ):
    if (wrong & mask).any():
      frame, neuron = np.argwhere(wrong & mask)[0]
      raise InputError(
        f"{where}: spikes[{frame}, {neuron}] is {spikes[frame, neuron]:g}, {what}; spikes are counts per frame "
        "(set mask to 0 where they are not known)"
      )
  if recording.behaviour is not None and not np.isfinite(recording.behaviour).all():
    frame, signal = np.argwhere(~np.isfinite(recording.behaviour))[0]
    raise InputError(f"{where}: behaviour[{frame}, {signal}] is not finite; fill it, or leave the signal out")
  steps = np.diff(recording.trial)
  if recording.trial[0] != 0 or steps.min(initial=0) < 0 or steps.max(initial=0) > 1:
    raise InputError(f"{where}: trial must rise from 0 by steps of 0 or 1")
  trials = int(recording.trial[-1]) + 1
  if len(recording.condition) != trials or (recording.split and len(recording.split) != trials):
    raise InputError(
      f"{where}: {len(recording.condition)} conditions and {len(recording.split)} splits for {trials} trials"
    )
  wrong = [name for name in recording.split if name not in SPLITS]
  if wrong:
    raise InputError(f"{where}: split holds {wrong[0]!r}, expected {', '.join(SPLITS)}")
  if not (np.isfinite(recording.rate_hz) and recording.rate_hz > 0):
    raise InputError(f"{where}: rate_hz must be above 0, got {recording.rate_hz:g}")
