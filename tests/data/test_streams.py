"""Features of whole recordings: window statistics against a plain loop, and steps that meet their samples."""

import dataclasses

import numpy as np
import pytest

from behavejax.config import DataConfig, FeaturesConfig
from behavejax.data import streams
from behavejax.data.recording import Recording
from behavejax.errors import InputError


def recording(signal, rate_hz=10.0):
  channels = signal.shape[1]
  return Recording(
    signal=signal.astype(np.float32),
    rate_hz=rate_hz,
    channels=tuple(f"c{i}" for i in range(channels)),
    units=("g",) * channels,
    labels=np.full(len(signal), -1),
    classes=(),
    subject="a",
    session="1",
    source="test",
  )


def two_recordings():
  rng = np.random.default_rng(0)
  return [recording(rng.normal(size=(n, 3)) * [1.0, 5.0, 0.1] + [0.0, 100.0, 0.0]) for n in (203, 90)]


@pytest.mark.parametrize(("window", "step"), [(5, 1), (10, 5), (3, 4), (301, 7)])
def test_window_statistics_equal_a_plain_loop(window, step):
  signal = two_recordings()[0].signal
  found = streams.window_statistics(signal, window, step, log_spread=False)
  for row, centre in zip(found, range(0, len(signal), step), strict=True):
    part = signal[max(centre - window // 2, 0) : centre - window // 2 + window].astype(np.float64)
    np.testing.assert_allclose(row, np.concatenate([part.mean(axis=0), part.std(axis=0)]), rtol=1e-4, atol=1e-5)


def test_log_spread_of_a_sensor_at_rest_is_bounded():
  signal = np.zeros((400, 1))
  signal[200:, 0] = np.sin(np.arange(200))
  found = streams.window_statistics(signal, 20, 10, log_spread=True)[:, 1]
  assert np.isfinite(found).all()
  assert found.max() - found.min() < np.log(200)


def test_features_are_whitened_over_all_recordings():
  made = streams.streams_of(two_recordings(), DataConfig(), FeaturesConfig(components=4.0))
  pooled = np.concatenate(made.values)
  assert pooled.shape[1] == 4
  np.testing.assert_allclose(pooled.mean(axis=0), 0, atol=1e-5)
  np.testing.assert_allclose(np.cov(pooled.T), np.eye(4), atol=1e-2)
  assert 0.5 < made.explained < 1
  assert made.overlap == 2.0


@pytest.mark.parametrize("components", [2, 0])
def test_what_variance_is_can_be_that_of_some_recordings(components):
  rng = np.random.default_rng(0)
  first, other = rng.normal(size=(200, 3)) * (1, 2, 3), rng.normal(size=(50, 3)) + 9
  both, _ = streams.whiten([first, other], components, [first])
  alone, _ = streams.whiten([first], components)
  np.testing.assert_allclose(both[0], alone[0], atol=1e-5)
  assert [len(part) for part in both] == [200, 50]
  assert np.abs(both[1].mean(axis=0)).max() > 2


def test_samples_without_statistics_are_only_scaled():
  raw = two_recordings()
  made = streams.streams_of(raw, DataConfig(), FeaturesConfig(statistics="none", step_s=0.1, components=0.0))
  assert made.overlap == 1.0
  assert [len(values) for values in made.values] == [203, 90]
  np.testing.assert_allclose(np.concatenate(made.values).std(axis=0), 1, rtol=1e-4)
  correlation = np.corrcoef(made.values[0][:, 1], raw[0].signal[:, 1])[0, 1]
  assert correlation > 0.999


def test_a_constant_channel_is_left_out():
  signal = np.random.default_rng(0).normal(size=(100, 2))
  signal[:, 1] = 3.0
  made = streams.streams_of([recording(signal)], DataConfig(), FeaturesConfig(components=0.0))
  assert made.values[0].shape[1] == 2  # mean and spread of the other


@pytest.mark.parametrize("step_s", [0.1, 0.3, 0.5])
def test_every_step_meets_the_samples_around_it(step_s):
  made = streams.streams_of(two_recordings(), DataConfig(), FeaturesConfig(step_s=step_s))
  for i, values in enumerate(made.values):
    at_samples = made.to_samples(i, np.arange(len(values)))
    assert len(at_samples) == len(made.recordings[i].signal)
    step = round(step_s * 10)
    distance = np.abs(at_samples * step - np.arange(len(at_samples)))
    assert distance[: (len(values) - 1) * step].max() <= step / 2
    assert at_samples[-1] == len(values) - 1
    np.testing.assert_array_equal(at_samples[np.arange(len(values)) * step], np.arange(len(values)))
    np.testing.assert_allclose(made.rate_hz, 1 / step_s)


def test_labels_play_no_part():
  raw = two_recordings()
  labelled = [dataclasses.replace(r, labels=np.arange(len(r.signal)) % 2, classes=("x", "y")) for r in raw]
  plain = streams.streams_of(raw, DataConfig(), FeaturesConfig())
  for a, b in zip(plain.values, streams.streams_of(labelled, DataConfig(), FeaturesConfig()).values, strict=True):
    np.testing.assert_array_equal(a, b)


def test_what_cannot_be_segmented_is_named():
  with pytest.raises(InputError, match="constant"):
    streams.streams_of([recording(np.ones((50, 2)))], DataConfig(), FeaturesConfig())
  with pytest.raises(InputError, match="too few for two steps"):
    streams.streams_of([recording(np.random.default_rng(0).normal(size=(6, 2)))], DataConfig(), FeaturesConfig())
  with pytest.raises(InputError, match="only 6 window statistics"):
    streams.streams_of(two_recordings(), DataConfig(), FeaturesConfig(components=7.0))


def test_make_streams_reads_the_configured_source():
  made = streams.make_streams(DataConfig(name="syllables"), FeaturesConfig(statistics="none", step_s=0.1), 0)
  assert len(made.values) == DataConfig().syllables.recordings
