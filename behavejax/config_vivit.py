"""Settings of the video encoder of neural activity: its core, its modulator, its readouts."""

import dataclasses
from typing import Any

from behavejax.errors import InputError


@dataclasses.dataclass(frozen=True)
class VivitConfig:
  """Video -> features at every frame and place (stage `vivit`), with a readout for each data set."""

  core: str = "vivit"  # vivit | conv3d
  kernel: tuple[int, ...] = (8, 8, 8)  # of a tubelet: frames, rows, columns
  stride: tuple[int, ...] = (2, 4, 4)  # from tubelet to tubelet
  width: int = 192  # features of a token
  spatial_blocks: int = 4  # over the places of a time step, before
  temporal_blocks: int = 4  # over the time steps of a place
  heads: int = 4
  head_width: int = 48
  hidden: int = 768  # of the feed-forward half of a block
  context: int = 32  # time steps that a token looks back, itself counted
  causal: bool = True  # False lets tokens see later frames: to measure what causality costs, never to predict online
  position: str = "rotary"  # rotary | sinusoidal | none
  registers: int = 4  # tokens of no place
  patch_dropout: float = 0.1  # share of the places that training leaves out
  dropout: float = 0.0  # of the features that readouts see
  stochastic_depth: float = 0.1  # probability that the last block is left out; grows linearly from 0
  modulator: bool = True  # behaviour scales and shifts the features
  modulator_width: int = 16  # of its state at each place
  convolutions: tuple[int, ...] = (32, 64, 64)  # filters of the conv3d core
  readout: str = "gaussian"  # gaussian | sampling
  remat: bool = False  # compute activations again instead of keeping them
  dtype: str = "float32"  # compute type; parameters stay float32


@dataclasses.dataclass(frozen=True)
class ReadoutConfig:
  """New readouts on a frozen core (stage `readout`); the rest is as in `train`."""

  workdir: str = ""  # of the run whose core is taken; "" is this run's own stage `vivit`
  epochs: float = 20.0
  steps: int = 0  # overrides epochs
  learning_rate: float = 5e-3
  evaluations: int = 10


CHOICES = {
  "vivit.core": ("vivit", "conv3d"),
  "vivit.position": ("rotary", "sinusoidal", "none"),
  "vivit.readout": ("gaussian", "sampling"),
  "vivit.dtype": ("float32", "bfloat16"),
}
POSITIVE = (
  "vivit.width", "vivit.heads", "vivit.head_width", "vivit.hidden", "vivit.context", "vivit.modulator_width",
  "readout.learning_rate", "readout.evaluations",
)  # fmt: skip
NOT_NEGATIVE = (
  "vivit.spatial_blocks", "vivit.temporal_blocks", "vivit.registers", "readout.epochs", "readout.steps",
)  # fmt: skip
SHARES = ("vivit.patch_dropout", "vivit.dropout", "vivit.stochastic_depth")


def check(config: Any) -> None:
  """Raises `InputError` for settings of the video encoder that cannot work together."""
  vivit = config.vivit
  for name in ("kernel", "stride"):
    value = getattr(vivit, name)
    if len(value) != 3 or min(value) < 1:
      raise InputError(f"config.vivit.{name} needs three whole numbers above 0 (frames, rows, columns), got {value}")
  for axis, kernel, stride in zip(("frames", "rows", "columns"), vivit.kernel, vivit.stride, strict=True):
    if stride > kernel:
      raise InputError(
        f"config.vivit.stride={vivit.stride} leaves out {axis} between tubelets of config.vivit.kernel={vivit.kernel}: "
        "no stride may be larger than its kernel"
      )
  if vivit.position == "rotary" and vivit.head_width % 4:
    raise InputError(
      f"config.vivit.head_width={vivit.head_width} cannot be turned along rows and columns: choose a multiple of 4, or "
      "another config.vivit.position"
    )
  if vivit.position == "sinusoidal" and vivit.width % 6:
    raise InputError(
      f"config.vivit.width={vivit.width} cannot hold waves of time, rows and columns: choose a multiple of 6, or "
      "another config.vivit.position"
    )
  if not vivit.convolutions or min(vivit.convolutions) < 1:
    raise InputError(f"config.vivit.convolutions needs at least one number of filters, got {vivit.convolutions}")
  if "readout" in config.stages:
    if config.readout.steps == 0 and config.readout.epochs == 0:
      raise InputError("config.readout.steps and config.readout.epochs are both 0: nothing to train")
    before = config.stages[: config.stages.index("readout")]
    if not config.readout.workdir and "vivit" not in before:
      raise InputError(
        "config.stages has 'readout', which needs a trained core: put 'vivit' before it or set config.readout.workdir"
      )
