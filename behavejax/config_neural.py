"""Section `neural` of a config: recordings of video, behaviour and spikes, how they are cut and simulated."""

import dataclasses
from typing import TYPE_CHECKING

from behavejax.errors import InputError

if TYPE_CHECKING:
  from behavejax.config import Config

STAGES = ("vivit", "conv3d", "readout")
"""Stages that learn from neural recordings."""
SIMULATED = "simulated_"
"""What the names of simulated recordings begin with: `simulated_1` is the first."""


@dataclasses.dataclass(frozen=True)
class SimulateNeuralConfig:
  """Recordings `simulated_1`, `simulated_2`, ...: the k-th takes the k-th element of each tuple."""

  neurons: tuple[int, ...] = (48, 24)
  heights: tuple[int, ...] = (32, 24)  # of a frame, in pixels
  widths: tuple[int, ...] = (32, 40)
  rates_hz: tuple[float, ...] = (30.0, 30.0)  # frames per second
  trials: int = 160  # shown once each
  repeated: int = 4  # further videos that are shown again and again
  repeats: int = 8  # of each of them
  trial_s: float = 4.0
  energy: float = 0.5  # share of Gabor energy cells; the others are linear-nonlinear
  spikes_per_s: float = 15.0  # mean rate of a neuron; the neurons differ
  behaviour_gain: float = 0.4  # sd of the logarithm of the gain; 0 leaves behaviour without effect
  refractory_ms: float = 4.0  # after a spike


@dataclasses.dataclass(frozen=True)
class GlmConfig:
  """Poisson regression on past frames and behaviour, the baseline of a neural encoder."""

  lags: int = 8  # frames seen, the present one included
  pool: int = 1  # pixels averaged along each axis
  penalties: tuple[float, ...] = (100.0, 10.0, 1.0, 0.3)  # on squared weights of pixels
  iterations: int = 12  # of L-BFGS, at each penalty


@dataclasses.dataclass(frozen=True)
class NeuralDataConfig:
  """From recordings to clips. One entry of `recordings` is one data set, with neurons and a readout of its own."""

  recordings: tuple[str, ...] = ("simulated_1", "simulated_2")  # .npz or .h5 files below data.root, or simulated ones
  weights: tuple[float, ...] = ()  # how often batches are of each; () in proportion to their training clips
  rate_hz: float = 0.0  # bin frames and counts to this rate; 0 keeps each recording's own
  clip: int = 32  # frames of a clip
  stride: int = 16  # frames between the starts of training clips
  context: int = 8  # first frames of a clip that are seen and not predicted
  behaviour_lags: tuple[int, ...] = (0,)  # frames back; a copy of the behaviour for each
  block: int = 256  # frames of a trial where a recording has no trials
  val_fraction: float = 0.1  # of the trials that are not repeated
  test_fraction: float = 0.1  # of the same, besides the repeated ones
  min_spikes: int = 20  # of a neuron in training, else it is left out
  min_rate_hz: float = 0.0  # spikes per second, likewise
  glm: GlmConfig = GlmConfig()
  simulate: SimulateNeuralConfig = SimulateNeuralConfig()


def check(config: "Config") -> None:
  """Raises `InputError` for settings of `neural` that are out of range or exclude each other."""
  neural = config.neural
  _in_range(neural, "config.neural", {
    "above 0": ("clip", "stride", "block"),
    "0 or more": ("rate_hz", "context", "min_spikes", "min_rate_hz"),
    "in [0, 1)": ("val_fraction", "test_fraction"),
  })  # fmt: skip
  _in_range(neural.glm, "config.neural.glm", {"above 0": ("lags", "pool", "iterations")})
  _in_range(neural.simulate, "config.neural.simulate", {
    "above 0": ("trials", "trial_s", "spikes_per_s"),
    "0 or more": ("repeated", "repeats", "behaviour_gain", "refractory_ms"),
  })  # fmt: skip
  if not neural.recordings:
    raise InputError("config.neural.recordings is empty: name a file or simulated_1")
  if len(set(neural.recordings)) < len(neural.recordings):
    raise InputError(f"config.neural.recordings names one twice: {', '.join(neural.recordings)}")
  if neural.weights and (len(neural.weights) != len(neural.recordings) or not all(w > 0 for w in neural.weights)):
    raise InputError(
      f"config.neural.weights must hold a number above 0 for each of the {len(neural.recordings)} recordings, "
      f"got {neural.weights}"
    )
  if neural.context >= neural.clip:
    raise InputError(f"config.neural.context={neural.context} leaves nothing of a clip of {neural.clip} to predict")
  if not neural.behaviour_lags or min(neural.behaviour_lags) < 0:
    raise InputError(f"config.neural.behaviour_lags must be frames back, 0 or more, got {neural.behaviour_lags}")
  if neural.val_fraction + neural.test_fraction >= 1:
    raise InputError("config.neural.val_fraction and config.neural.test_fraction leave nothing to train on")
  if not neural.glm.penalties or not all(penalty > 0 for penalty in neural.glm.penalties):
    raise InputError(f"config.neural.glm.penalties must be numbers above 0, got {neural.glm.penalties}")
  _check_simulate(neural.simulate)


def _check_simulate(simulate: SimulateNeuralConfig) -> None:
  tuples = {name: getattr(simulate, name) for name in ("neurons", "heights", "widths", "rates_hz")}
  if len({len(values) for values in tuples.values()}) > 1:
    lengths = ", ".join(f"{name} {len(values)}" for name, values in tuples.items())
    raise InputError(f"config.neural.simulate needs as many elements in each tuple, got {lengths}")
  for name, values in tuples.items():
    if not all(value > 0 for value in values):
      raise InputError(f"config.neural.simulate.{name} must be above 0, got {values}")
  if not 0 <= simulate.energy <= 1:
    raise InputError(f"config.neural.simulate.energy must be in [0, 1], got {simulate.energy!r}")


_DEMANDS = {
  "above 0": lambda value: value > 0,
  "0 or more": lambda value: value >= 0,
  "in [0, 1)": lambda value: 0 <= value < 1,
}


def _in_range(section: object, path: str, demands: dict[str, tuple[str, ...]]) -> None:
  for demand, names in demands.items():
    for name in names:
      value = getattr(section, name)
      if not _DEMANDS[demand](value):
        raise InputError(f"{path}.{name} must be {demand}, got {value!r}")
