"""From a config to clips of every data set: load or simulate, bin, split by trial, choose neurons, scale, cut."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from behavejax.config_neural import SIMULATED, NeuralDataConfig
from behavejax.data import native, simulate_neural
from behavejax.data.neural import SPLITS, NeuralRecording, read_neural
from behavejax.data.neural_windows import Clips, Scaling
from behavejax.errors import InputError


@dataclasses.dataclass(frozen=True)
class NeuralData:
  """One data set, as training and evaluation need it.

  Attributes:
    name: of the recording.
    train: overlapping clips to learn from.
    val: clips to choose by; like those of `test` they hold every frame that counts once.
    test: clips held out, of repeated and of other trials.
    warnings: what a reader of the results must know.
  """

  name: str
  train: Clips
  val: Clips
  test: Clips
  warnings: tuple[str, ...]

  @property
  def recording(self) -> NeuralRecording:
    """With the kept neurons only."""
    return self.train.recording

  @property
  def scaling(self) -> Scaling:
    return self.train.scaling


def prepare_neural(
  config: NeuralDataConfig, root: pathlib.Path, seed: int, *, scalings: Sequence[Scaling] = ()
) -> tuple[NeuralData, ...]:
  """The data sets of a config, in its order.

  Args:
    config: section `neural`.
    root: below which the files lie, `behavejax.data.sources.data_root(config.data)`.
    seed: of simulation and splits.
    scalings: of each data set, where a run has learned them before; else they are learned from the training trials.

  Raises:
    InputError: whatever is wrong with the data, in one line.
  """
  loaded = [load_neural(config, entry, root, seed) for entry in config.recordings]
  names = [recording.name for recording in loaded]
  twice = [entry for entry, name in zip(config.recordings, names, strict=True) if names.count(name) > 1]
  if twice:
    raise InputError(f"config.neural.recordings: {' and '.join(twice)} have the same name, by which results are told")
  given = list(scalings) or [None] * len(loaded)
  return tuple(prepare_recording(config, *pair, seed) for pair in zip(loaded, given, strict=True))


def load_neural(config: NeuralDataConfig, entry: str, root: pathlib.Path, seed: int) -> NeuralRecording:
  """One entry of `config.recordings`, at the configured rate and in trials."""
  if entry.startswith(SIMULATED):
    number, known = entry.removeprefix(SIMULATED), len(config.simulate.neurons)
    if not number.isdecimal() or not 1 <= int(number) <= known:
      raise InputError(
        f"config.neural.recordings: {entry!r} is not among the simulated recordings, {SIMULATED}1 to {SIMULATED}"
        f"{known}; config.neural.simulate.neurons and its neighbours need an element for each"
      )
    recording = simulate_neural.simulate_neural(config.simulate, int(number) - 1, seed)
  else:
    if not (root / entry).is_file():
      raise InputError(
        f"config.neural.recordings: no such file {root / entry}; files lie below config.data.root or the environment "
        f"variable BEHAVEJAX_DATA, simulated recordings are {SIMULATED}1 and so on"
      )
    recording = read_neural(root / entry)
  if len(recording.condition) == 1:
    recording = cut_into_trials(recording, config.block)
  return bin_recording(recording, config.rate_hz) if config.rate_hz else recording


def cut_into_trials(recording: NeuralRecording, block: int) -> NeuralRecording:
  """A recording of one trial as many, of `block` frames and a shorter last one."""
  trial = np.arange(len(recording.video)) // block
  return dataclasses.replace(recording, trial=trial, condition=np.full(trial[-1] + 1, -1), split=())


def bin_recording(recording: NeuralRecording, rate_hz: float) -> NeuralRecording:
  """Fewer frames per second: frames and behaviour are averaged, counts are added up.

  Frames at the end of a trial that do not fill a bin are left out; a bin with a count that must not be used is not
  used either.

  Raises:
    InputError: the recording's rate is no whole multiple of `rate_hz`, or a trial is shorter than a bin.
  """
  factor = round(recording.rate_hz / rate_hz)
  if factor < 1 or abs(factor * rate_hz - recording.rate_hz) > 1e-3 * rate_hz:
    raise InputError(
      f"{recording.name} has {recording.rate_hz:g} frames per second, no whole multiple of "
      f"config.neural.rate_hz={rate_hz:g}"
    )
  if factor == 1:
    return recording
  edges = recording.trial_edges
  bins = np.diff(edges) // factor
  if bins.min() == 0:
    raise InputError(
      f"{recording.name}: trial {int(np.argmin(bins))} has {int(np.diff(edges).min())} frame(s), less than one bin of "
      f"{factor} at config.neural.rate_hz={rate_hz:g}"
    )
  starts = np.concatenate([start + factor * np.arange(count) for start, count in zip(edges[:-1], bins, strict=True)])
  frames = starts[:, None] + np.arange(factor)
  truth = recording.truth
  return dataclasses.replace(
    recording,
    video=recording.video[frames].mean(1, dtype=np.float32),
    spikes=(recording.spikes * recording.mask)[frames].sum(1),
    behaviour=None if recording.behaviour is None else recording.behaviour[frames].mean(1),
    mask=recording.mask[frames].all(1),
    trial=np.repeat(np.arange(len(bins)), bins),
    rate_hz=recording.rate_hz / factor,
    truth=truth and truth._replace(rates=truth.rates[frames].sum(1)),
  )


def split_trials(recording: NeuralRecording, config: NeuralDataConfig, seed: int) -> tuple[str, ...]:
  """`train`, `val` or `test` for every trial; all trials that show one video are in one of them.

  What the file says holds. Otherwise repeated videos are for the test, together with `test_fraction` of the
  others; where fewer than three videos are shown once, the repeated ones are drawn too.

  Raises:
    InputError: fewer than three videos to divide, none for one of the splits, or a video in two of them.
  """
  condition = recording.condition
  video = np.where(condition >= 0, condition, condition.max() + 1 + np.arange(len(condition)))
  if recording.split:
    split = np.array(recording.split)
    for number in np.unique(condition[condition >= 0]):
      both = np.unique(split[condition == number])
      if len(both) > 1:
        raise InputError(f"{recording.name}: trials of condition {number} are in {' and '.join(both)}: one shows all")
  else:
    often = np.isin(video, [v for v, count in zip(*np.unique(video, return_counts=True), strict=True) if count > 1])
    drawn = np.unique(video[~often])
    held = np.unique(video[often])
    if len(drawn) < 3:
      drawn, held = np.unique(video), held[:0]
    if len(drawn) < 3:
      raise InputError(
        f"{recording.name} has {len(drawn)} trial(s) of different videos, too few to hold some out; say more in `trial`"
        " or lower config.neural.block"
      )
    order = np.random.default_rng(seed).permutation(drawn)
    val = max(round(config.val_fraction * len(drawn)), 1)
    test = max(round(config.test_fraction * len(drawn)), 0 if len(held) else 1)
    split = np.full(len(video), "train", "<U5")
    split[np.isin(video, order[:val])] = "val"
    split[np.isin(video, np.r_[order[val : val + test], held])] = "test"
  for name in SPLITS:
    if name not in split:
      raise InputError(f"{recording.name}: no trial is in the {name} split; see config.neural.{name}_fraction")
  return tuple(split.tolist())


def fit_scaling(recording: NeuralRecording, config: NeuralDataConfig, train: Int[np.ndarray, " time"]) -> Scaling:
  """Learns scaling and choice of neurons from the training frames.

  Raises:
    InputError: no neuron fires as often as the config wants.
  """
  video = recording.video[train]
  mask = recording.mask[train]
  counts = (recording.spikes[train] * mask).sum(0, dtype=np.float64)
  mean_counts = counts / np.maximum(mask.sum(0), 1)
  fires = (counts >= config.min_spikes) & (mean_counts * recording.rate_hz >= config.min_rate_hz) & mask.any(0)
  if not fires.any():
    raise InputError(
      f"{recording.name}: none of {recording.neurons} neuron(s) has config.neural.min_spikes={config.min_spikes} "
      f"spikes in training and config.neural.min_rate_hz={config.min_rate_hz:g}; the best has {counts.max():g}"
    )
  neurons = np.flatnonzero(fires)
  behaviour = np.zeros((1, 0)) if recording.behaviour is None else recording.behaviour[train]
  return Scaling(
    *(np.float32(value) for value in _mean_and_std(video, axis=None)),
    *(value.astype(np.float32) for value in _mean_and_std(behaviour, axis=0)),
    mean_counts[neurons].astype(np.float32),
    neurons,
  )


def prepare_recording(
  config: NeuralDataConfig, recording: NeuralRecording, scaling: Scaling | None, seed: int
) -> NeuralData:
  """Clips of one recording; see `prepare_neural`."""
  split = np.array(split_trials(recording, config, seed))
  learned = scaling or fit_scaling(recording, config, np.flatnonzero((split == "train")[recording.trial]))
  _check_fits(recording, learned)
  kept = recording.neurons_only(learned.neurons)
  warnings = []
  if kept.neurons < recording.neurons:
    left = recording.neurons - kept.neurons
    warnings.append(f"{recording.name}: {left} of {recording.neurons} neurons fire too rarely and are left out")
  lengths = np.diff(recording.trial_edges)
  short = int((lengths <= config.context).sum())
  if short:
    warnings.append(
      f"{recording.name}: {short} of {len(lengths)} trials have no more frames than config.neural.context="
      f"{config.context} and are left out"
    )
  parts = {name: _cut(config, kept, learned, split == name, overlap=name == "train") for name in SPLITS}
  for name, clips in parts.items():
    if len(clips) == 0:
      raise InputError(
        f"{recording.name}: the {name} split holds no frame to predict; trials have up to {lengths.max()} frames, "
        f"config.neural.context={config.context} of which are only seen"
      )
  return NeuralData(recording.name, **parts, warnings=tuple(warnings))


def _cut(
  config: NeuralDataConfig, recording: NeuralRecording, scaling: Scaling, trials: np.ndarray, *, overlap: bool
) -> Clips:
  """Clips of some trials: every `stride` frames, or, without overlap, such that each frame is predicted once."""
  first, trial = [], []
  for r in np.flatnonzero(trials):
    start, stop = recording.trial_edges[r : r + 2]
    length = stop - start
    if length <= config.context:
      continue
    if overlap:
      starts = np.union1d(np.arange(0, max(length - config.clip, 0) + 1, config.stride), max(length - config.clip, 0))
    else:
      starts = np.arange(0, length - config.context, config.clip - config.context)
    first.append(start + starts)
    trial.append(np.full(len(starts), r))
  none = np.zeros(0, np.int64)
  clips = Clips(
    recording, scaling, np.concatenate([none, *first]), np.concatenate([none, *trial]), config.clip, config.context,
    config.behaviour_lags,
  )  # fmt: skip
  counted = clips.counted().any(axis=(1, 2)) if len(clips) else np.zeros(0, bool)
  return dataclasses.replace(clips, first=clips.first[counted], trial=clips.trial[counted])


def _mean_and_std(values: np.ndarray, *, axis: int | None) -> tuple[np.ndarray, np.ndarray]:
  """In float64; the std of what never changes is 1."""
  mean, std = values.mean(axis, dtype=np.float64), values.std(axis, dtype=np.float64)
  return mean, np.where(std > 1e-8 * np.maximum(np.abs(mean), 1), std, 1.0)


def _check_fits(recording: NeuralRecording, scaling: Scaling) -> None:
  if scaling.behaviour_mean.shape != (recording.signals,) or scaling.neurons.max() >= recording.neurons:
    raise InputError(
      f"{recording.name} has {recording.signals} behavioural signals and {recording.neurons} neurons, the run was "
      f"trained with {len(scaling.behaviour_mean)} and at least {scaling.neurons.max() + 1}"
    )


def save_scalings(path: pathlib.Path, scalings: dict[str, Scaling]) -> None:
  """Writes the scaling of every data set, by name, as `.npz`; the file appears whole or not at all."""
  arrays = {
    f"{name}/{field}": value for name, scaling in scalings.items() for field, value in scaling._asdict().items()
  }
  temporary = path.with_name(f".{path.name}.tmp")
  try:
    with temporary.open("wb") as file:
      np.savez(file, **arrays)
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def load_scalings(path: pathlib.Path) -> dict[str, Scaling]:
  """Reads what `save_scalings` wrote; `InputError` if the file is missing, damaged or something else."""
  arrays = native.read_npz(path)
  names = list(dict.fromkeys(key.rpartition("/")[0] for key in arrays))
  try:
    return {name: Scaling(*(arrays[f"{name}/{field}"] for field in Scaling._fields)) for name in names}
  except KeyError as error:
    raise InputError(f"{path} holds no scaling of neural recordings: {error} is missing") from error
