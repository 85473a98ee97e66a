"""A small neural encoder of two data sets for tests."""

import jax

from behavejax.config_vivit import VivitConfig
from behavejax.models.neural_encoder import DataSet
from tests.nets.weights import drawn

SETTINGS = VivitConfig(
  kernel=(4, 4, 3), stride=(2, 3, 3), width=8, spatial_blocks=1, temporal_blocks=2, heads=2, head_width=4, hidden=6,
  context=3, registers=1, modulator_width=3, convolutions=(4, 4), patch_dropout=0.2, stochastic_depth=0.2,
)  # fmt: skip
SETS = (DataSet((9, 8), 2, (0.5, 1.0, 0.3)), DataSet((6, 10), 0, (0.7,), ((2.0, 3.0),)))
"""The second has other frames, no behaviour, one neuron."""


def random_variables(model, seed=0):
  """Parameters of the right shapes, without compiling their initialisation."""
  return drawn(jax.eval_shape(model.init, jax.random.key(0)), seed)
