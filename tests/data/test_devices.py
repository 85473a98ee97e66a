"""Several devices at once: each keeps its samples, its row and its units, from the recording to the window."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavejax import config as config_lib
from behavejax import config_checks
from behavejax.config import Config, DataConfig, SimulateConfig
from behavejax.data import devices as devices_lib
from behavejax.data import prepare, simulate_pair
from behavejax.data.normalization import fit_normalization
from behavejax.data.recording import Recording, check_alike
from behavejax.errors import InputError
from behavejax.evaluation.evaluate import _baselines
from behavejax.export.trained import load_trained
from behavejax.workdir import Workdir

SIMULATE = SimulateConfig(subjects=4, minutes=0.5)
CONFIG = DataConfig(
  name="pair", simulate=SIMULATE, devices=2, fold=False, window_s=1.0, stride_s=0.5, val_subjects=("3",),
  test_subjects=("4",),
)  # fmt: skip


def recording(channels=6, samples=20, **changes):
  rng = np.random.default_rng(channels)
  values = {
    "signal": rng.normal(size=(samples, channels)).astype(np.float32), "rate_hz": 10.0,
    "channels": tuple(f"c{i}" for i in range(channels)), "units": ("",) * channels,
    "labels": rng.integers(0, 2, samples), "classes": ("a", "b"), "subject": "7",
  }  # fmt: skip
  return Recording(**{**values, **changes})


@settings(max_examples=40, deadline=None)
@given(
  batch=st.lists(st.integers(1, 3), max_size=2), time=st.integers(1, 5), devices=st.integers(1, 4),
  channels=st.integers(1, 3),
)  # fmt: skip
def test_rows_are_the_columns_of_each_device(batch, time, devices, channels):
  samples = np.random.default_rng(0).normal(size=(*batch, time, devices * channels))
  rows = devices_lib.devices_first(samples, devices)
  assert rows.shape == (*batch, devices, time, channels)
  for i in range(devices):
    np.testing.assert_array_equal(rows[..., i, :, :], samples[..., i * channels : (i + 1) * channels])


def test_each_device_becomes_a_recording():
  whole = recording(session="s1")
  parts = devices_lib.split_devices(whole, 3)
  assert [part.name for part in parts] == ["7/s1/device1", "7/s1/device2", "7/s1/device3"]
  assert {part.subject for part in parts} == {"7"}
  check_alike(parts)
  np.testing.assert_array_equal(np.concatenate([part.signal for part in parts], axis=1), whole.signal)
  np.testing.assert_array_equal(parts[0].labels, whole.labels)
  assert all((part.labels == -1).all() for part in parts[1:])
  assert devices_lib.split_devices(recording(), 2)[1].name == "7/device2"
  assert devices_lib.split_devices(whole, 1) == [whole]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"channels": 5}, "has 5 channels, which config.data.devices=2 does not divide"),
    ({"channels": 4, "units": ("g", "rad/s", "g", "deg/s")}, "channel c3 in deg/s takes the place of c1 in rad/s"),
  ],
)
def test_devices_that_do_not_match_are_named(changes, message):
  wrong = recording(**changes)
  for check in (devices_lib.check_devices, devices_lib.split_devices):
    with pytest.raises(InputError, match=message):
      check(wrong, 2)
  with pytest.raises(InputError, match=message):
    prepare.prepare_recordings([wrong], CONFIG, 0)


def test_unknown_units_are_no_difference():
  devices_lib.check_devices(recording(channels=4, units=("g", "", "", "rad/s")), 2)


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_normalization_is_that_of_all_devices_together(devices):
  rng = np.random.default_rng(1)
  samples = rng.normal(size=(50, 6)) * np.arange(1, 7) + np.arange(6)
  names = tuple("abcdef")
  own = 6 // devices
  found = devices_lib.fit_shared_normalization(samples, names, devices=devices)
  expected = fit_normalization(np.concatenate(np.split(samples, devices, axis=1)), names[:own])
  assert found.channels == names
  for i in range(devices):
    np.testing.assert_allclose(found.mean[i * own : (i + 1) * own], expected.mean, rtol=1e-6)
    np.testing.assert_allclose(found.std[i * own : (i + 1) * own], expected.std, rtol=1e-6)


def test_windows_have_a_row_per_device():
  data = prepare.prepare(CONFIG, 0)
  recordings = {r.subject: r for r in simulate_pair.pair(SIMULATE, CONFIG.pair, 0)}
  assert data.train.shape == (2, 50, 9)
  chosen = np.array([5, 0, 7])
  windows = data.train.gather(chosen)
  assert windows.shape == (3, 2, 50, 9)
  for i, window in zip(chosen, windows, strict=True):
    start = round(data.train.time_s[i] * 50)
    whole = recordings[data.train.subjects[data.train.subject[i]]].signal[start : start + 50]
    for device, row in enumerate(window):
      own = whole[:, 9 * device : 9 * device + 9]
      expected = (own - data.normalization.mean[:9]) / data.normalization.std[:9]
      seen = np.isfinite(expected)
      assert seen.mean() > 0.7
      np.testing.assert_allclose(row[seen], expected[seen], atol=1e-4)


def test_a_random_forest_tells_the_devices_apart(monkeypatch):
  data = prepare.prepare(CONFIG, 0)
  seen = []
  monkeypatch.setattr(
    "behavejax.evaluation.baselines.random_forest", lambda x, labels, held_out, *, seed: seen.append(x.shape)
  )
  _baselines(Config(data=CONFIG), data)
  assert seen == [(len(data.train), 1, 50, 18)]


def test_export_says_that_it_takes_one_device(tmp_path):
  with pytest.raises(InputError, match=r"config\.data\.devices=2 cannot be exported: the runtime reads one device"):
    load_trained(Workdir(tmp_path), Config(data=CONFIG))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"data": {"devices": 2}}, "config.data.devices=2 gives every device a row: set config.data.fold=False"),
    ({"data": {"devices": 0}}, "config.data.devices must be above 0, got 0"),
    ({"data": {"pair": {"lag_s": -1.0}}}, "config.data.pair.lag_s must be 0 or more, got -1.0"),
    ({"data": {"pair": {"coupling": 1.1}}}, r"config.data.pair.coupling must be in \[0, 1\], got 1.1"),
  ],
)
def test_settings_that_exclude_each_other_are_named(changes, message):
  with pytest.raises(InputError, match=message):
    config_lib.resolve(changes)


def test_settings_of_a_pair_resolve():
  values = dataclasses.asdict(dataclasses.replace(CONFIG, pair=config_lib.PairConfig(coupling=1.0)))
  config = config_lib.resolve({"data": values, "model": {"device_attention": True}})
  config_checks.check(config)
  assert config.data.devices == 2
