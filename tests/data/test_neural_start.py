"""First places of readouts: correlations beside NumPy's, and true centres found again."""

import dataclasses

import numpy as np
import pytest

from behavejax.config_neural import NeuralDataConfig, SimulateNeuralConfig
from behavejax.data.neural_prepare import prepare_neural
from behavejax.data.neural_start import centre, correlation_maps, start_positions


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  simulate = SimulateNeuralConfig(neurons=(6,), heights=(14,), widths=(18,), rates_hz=(30.0,), trials=40, repeated=1)
  config = NeuralDataConfig(recordings=("simulated_1",), simulate=simulate)
  return prepare_neural(config, tmp_path_factory.mktemp("none"), 0)[0]


def test_true_centres_are_found(data):
  error = np.linalg.norm(start_positions(data.train) - data.recording.truth.centres, axis=1)
  assert np.median(error) < 1.0
  assert (error < 3).mean() > 0.8


def test_maps_grow_with_the_correlation_at_a_lag(data):
  """Counts that are a pixel's grey value, two frames back, point to that pixel."""
  rng = np.random.default_rng(0)
  video = rng.integers(0, 256, data.recording.video.shape).astype(np.uint8)
  spikes = np.zeros((len(video), 2), np.float32)
  spikes[2:, 0], spikes[2:, 1] = video[:-2, 3, 5, 0] // 32, video[:-2, 10, 12, 0] // 32
  recording = dataclasses.replace(
    data.recording, video=video, spikes=spikes, mask=np.ones_like(spikes, bool), truth=None
  )  # fmt: skip
  clips = dataclasses.replace(data.train, recording=recording)
  found = [np.unravel_index(image.argmax(), image.shape) for image in correlation_maps(clips)]
  assert found == [(3, 5), (10, 12)]


def test_a_flat_map_points_to_the_middle():
  np.testing.assert_array_equal(centre(np.zeros((5, 9))), [2, 4])
