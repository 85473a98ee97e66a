"""ViViT neural encoder: video and behaviour -> expected spike counts of many neurons, over several recordings.

  python launch/train.py --config=configs/vivit.py --workdir=runs/vivit                      (two simulated recordings)

Arguments, after a colon: simulated (default), small, baseline, tiny. Recordings of your own are .npz or .h5 files (see
`behavejax/data/neural.py`) below the data root: --config.neural.recordings="('mouse_1.npz', 'mouse_2.npz')"
"""

from collections.abc import Callable

import ml_collections

from behavejax.config import default_config, did_you_mean
from behavejax.errors import InputError


def get_config(arg: str = "simulated") -> ml_collections.ConfigDict:
  if arg not in ARGUMENTS:
    raise InputError(f"configs/vivit.py has no argument {arg!r}{did_you_mean(arg, ARGUMENTS)}")
  config = default_config()
  config.stages = ("vivit",)
  config.evaluation.batch_size = 32
  config.train.batch_size = 16
  config.train.weight_decay = 0.05
  config.train.warmup_fraction = 0.1
  config.train.steps_per_call = 1
  ARGUMENTS[arg](config)
  return config


def simulated(config: ml_collections.ConfigDict) -> None:
  """Two simulated recordings of different neurons and frame sizes, whose receptive fields and true rates are known."""
  config.neural.simulate.heights = (24, 20)
  config.neural.simulate.widths = (24, 28)
  config.vivit.width = 64
  config.vivit.heads = 4
  config.vivit.head_width = 16
  config.vivit.hidden = 128
  config.vivit.spatial_blocks = 1
  config.vivit.temporal_blocks = 1
  config.vivit.registers = 2
  config.vivit.stochastic_depth = 0.0
  config.train.batch_size = 8
  config.train.learning_rate = 5e-3
  config.train.ema_decay = 0.99
  config.train.steps = 1500


def small(config: ml_collections.ConfigDict) -> None:
  """Tubelets of 8 x 8 x 8, width 192, 4 + 4 blocks, 4 heads of 48."""
  config.train.learning_rate = 1e-3


def baseline(config: ml_collections.ConfigDict) -> None:
  """Tubelets of 4 x 4 x 4, width 384, 6 + 6 blocks, 6 heads of 64; for a GPU."""
  config.vivit.kernel = (4, 4, 4)
  config.vivit.stride = (2, 4, 4)
  config.vivit.width = 384
  config.vivit.heads = 6
  config.vivit.head_width = 64
  config.vivit.hidden = 1536
  config.vivit.spatial_blocks = 6
  config.vivit.temporal_blocks = 6
  config.vivit.remat = True
  config.vivit.dtype = "bfloat16"
  config.train.learning_rate = 5e-4


def tiny(config: ml_collections.ConfigDict) -> None:
  """The simulated run in seconds, for tests."""
  simulated(config)
  config.neural.simulate.neurons = (6, 4)
  config.neural.simulate.heights = (12, 10)
  config.neural.simulate.widths = (12, 14)
  config.neural.simulate.trials = 12
  config.neural.simulate.repeated = 1
  config.neural.simulate.repeats = 3
  config.neural.simulate.trial_s = 1.5
  config.neural.clip = 16
  config.neural.context = 4
  config.vivit.kernel = (4, 6, 6)
  config.vivit.stride = (2, 3, 3)
  config.vivit.width = 24
  config.vivit.heads = 2
  config.vivit.head_width = 8
  config.vivit.hidden = 24
  config.vivit.context = 8
  config.vivit.registers = 1
  config.vivit.modulator_width = 4
  config.vivit.convolutions = (8, 8)
  config.train.batch_size = 8
  config.train.epochs = 0.0
  config.train.steps = 24
  config.train.evaluations = 3
  config.evaluation.batch_size = 8


ARGUMENTS: dict[str, Callable[[ml_collections.ConfigDict], None]] = {
  "simulated": simulated,
  "small": small,
  "baseline": baseline,
  "tiny": tiny,
}
