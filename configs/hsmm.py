"""HDP-HSMM: recordings -> syllables with durations, without labels.

  python launch/segment.py --config=configs/hsmm.py --workdir=runs/hsmm                       (simulated features)
  BEHAVEJAX_DATA=DIR python launch/segment.py --config=configs/hsmm.py:hapt --workdir=runs/hapt_hsmm

Arguments, after a colon: simulated (default), animals, hapt, mocap6, quadruped, tiny. With
--config.stages="('hmm','hsmm')" the same is learned with geometric durations too, to see what durations add.
"""

from collections.abc import Callable

import ml_collections

from behavejax.config import default_config, did_you_mean
from behavejax.errors import InputError


def get_config(arg: str = "simulated") -> ml_collections.ConfigDict:
  if arg not in ARGUMENTS:
    raise InputError(f"configs/hsmm.py has no argument {arg!r}{did_you_mean(arg, ARGUMENTS)}")
  config = default_config()
  config.stages = ("hsmm",)
  ARGUMENTS[arg](config)
  return config


def simulated(config: ml_collections.ConfigDict) -> None:
  """Six states in twenty recordings of 2 000 steps; a limit of twenty finds the six."""
  config.data.name = "syllables"
  config.segmentation.features.statistics = "none"
  config.segmentation.features.step_s = 0.1
  config.segmentation.features.components = 0.0
  config.segmentation.max_duration_s = 15.0
  config.segmentation.mean_duration_s = 3.0


def animals(config: ml_collections.ConfigDict) -> None:
  """The same with three animals, each with its own liking for the states."""
  simulated(config)
  config.data.syllables.subjects = 3
  config.data.syllables.recordings = 21
  config.segmentation.groups = True


def hapt(config: ml_collections.ConfigDict) -> None:
  """Twelve activities of people with a phone at the waist."""
  config.data.name = "hapt"
  config.segmentation.features.window_s = 1.0
  config.segmentation.features.step_s = 0.25
  config.segmentation.max_duration_s = 60.0


def mocap6(config: ml_collections.ConfigDict) -> None:
  """Six motion-capture sequences of twelve exercises, joint angles at 10 Hz."""
  config.data.name = "recordings"
  config.data.path = "mocap6.npz"
  config.segmentation.features.statistics = "linear"
  config.segmentation.features.window_s = 1.1
  config.segmentation.features.step_s = 0.1
  config.segmentation.features.components = 10.0


def quadruped(config: ml_collections.ConfigDict) -> None:
  """Ten behaviours of eight simulated animals."""
  config.data.name = "quadruped"
  config.segmentation.features.window_s = 1.0
  config.segmentation.features.step_s = 0.25


def tiny(config: ml_collections.ConfigDict) -> None:
  """The simulated run in seconds, for tests."""
  simulated(config)
  config.data.syllables.states = 3
  config.data.syllables.recordings = 4
  config.data.syllables.steps = 150
  config.data.syllables.channels = 2
  config.data.syllables.separation = 4.0
  config.data.syllables.longest = 20.0
  config.segmentation.states = 6
  config.segmentation.restarts = 2
  config.segmentation.iterations = 5
  config.segmentation.max_duration_s = 4.0


ARGUMENTS: dict[str, Callable[[ml_collections.ConfigDict], None]] = {
  "simulated": simulated,
  "animals": animals,
  "hapt": hapt,
  "mocap6": mocap6,
  "quadruped": quadruped,
  "tiny": tiny,
}
