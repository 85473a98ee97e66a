"""The monitor's numbers on signals whose flaws are known."""

import dataclasses

import numpy as np
import pytest

from behavejax.config import QualityConfig
from behavejax.data import quality
from behavejax.data.recording import Recording
from behavejax.errors import InputError


def recording(signal, **changes):
  signal = np.asarray(signal, np.float32)
  names = tuple(f"c{i}" for i in range(signal.shape[1]))
  settings = {"labels": np.zeros(len(signal), np.int32), "classes": ("rest",), "subject": "a"}
  return Recording(signal, 10.0, names, ("g",) * len(names), **{**settings, **changes})


def test_channel_numbers():
  column = np.sin(np.arange(100.0))
  column[10:30] = np.nan
  column[40] = np.inf
  column[50:55] = 2.0  # saturated at the maximum
  report = quality.monitor([recording(column[:, None])], QualityConfig())
  channel = report.channels[0]
  assert (channel.nan_count, channel.inf_count) == (20, 1)
  assert channel.longest_gap_s == 2.0
  assert channel.saturated_share == 0.05
  assert channel.flat_share == 0.04
  assert channel.score == 100 - 20 - 1
  assert channel.strategy == "interpolate"
  assert channel.max == 2.0
  finite = column[np.isfinite(column)].astype(np.float32)
  assert channel.std == pytest.approx(finite.std(), rel=1e-5)
  assert any("c0 20.0 % NaN" in line for line in report.findings)


def test_good_data_scores_better_than_a_flat_line():
  noise = np.random.default_rng(0).normal(size=(50, 1))
  good, flat = (quality.monitor([recording(x)], QualityConfig()).channels[0] for x in (noise, noise * 0 + 1))
  assert good.score == 100
  assert flat.score == 80


def test_score_of_the_data_set():
  signal = np.random.default_rng(0).normal(size=(100, 2))
  signal[:10, 0] = np.nan
  signal[:4, 1] = np.inf
  assert quality.monitor([recording(signal)], QualityConfig()).score == 100 - 5 - 2
  signal[:, 0] = 3.0
  assert quality.monitor([recording(signal)], QualityConfig()).score == 100 - 20 - 2


def test_time_stamps_and_labels():
  time = np.array([0.0, 0.1, 0.1, 0.3, 0.2])
  found = quality.monitor(
    [recording(np.eye(5)[:, :2], time_s=time, labels=np.array([0, 0, -1, -1, 0], np.int32))], QualityConfig()
  )
  assert (found.duplicated_timestamps, found.backward_timestamps) == (1, 1)
  assert found.labelled_share == 0.6
  assert found.label_seconds == {"rest": pytest.approx(0.3)}


def test_strict_lists_every_failure():
  signal = np.stack([np.full(20, 1e-4), np.linspace(-200, 200, 20)], axis=1)
  thresholds = QualityConfig(channels=3, strict=True)
  with pytest.raises(InputError, match=r"2 channels, expected 3; c0 std .* outside .*; c1 std"):
    quality.monitor([recording(signal)], thresholds)
  assert len(quality.monitor([recording(signal)], dataclasses.replace(thresholds, strict=False)).findings) == 3


def test_recommended_strategies():
  found = [quality.recommended_strategy(p, i) for p, i in ((0, 0), (7, 0), (12, 0), (30, 0), (0, 2))]
  assert found == ["none", "mean", "interpolate", "drop", "mean"]
