"""Frame by frame is the same as all at once, however long the stream."""

import dataclasses

import jax
import numpy as np
import pytest

from behavejax.errors import InputError
from behavejax.models.neural_encoder import make_model
from behavejax.models.neural_stream import make_streamer
from tests.models.neural_models import SETS, SETTINGS, random_variables


@pytest.mark.parametrize("changes", [{}, {"modulator": False, "stride": (1, 3, 3)}, {"readout": "sampling"}])
def test_stream_equals_batch(changes):
  model = make_model(dataclasses.replace(SETTINGS, **changes), SETS)
  variables = random_variables(model)
  rng = np.random.default_rng(0)
  frames = 13  # more than the temporal blocks look back
  video = rng.normal(size=(2, frames, 9, 8, 1)).astype(np.float32)
  behaviour = rng.normal(size=(2, frames, 2)).astype(np.float32)
  expected = jax.jit(lambda v, x, b: model.rates(v, x, b, 0))(variables, video, behaviour)
  streamer = make_streamer(model, 0)
  advance, stream, found = jax.jit(streamer.advance), streamer.start(2), []
  for t in range(frames):
    rates, stream = advance(variables, stream, video[:, t], behaviour[:, t])
    found.append(rates)
  np.testing.assert_allclose(np.stack(found, axis=1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [{"core": "conv3d"}, {"causal": False}])
def test_what_looks_ahead_cannot_stream(changes):
  with pytest.raises(InputError, match="cannot predict frame by frame"):
    make_streamer(make_model(dataclasses.replace(SETTINGS, **changes), SETS), 0)
