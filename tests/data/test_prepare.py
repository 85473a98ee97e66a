"""From recordings to windows: statistics of the training split alone, no sample in two splits, resampling."""

import dataclasses
import errno

import numpy as np
import pytest

from behavejax.config import DataConfig, SimulateConfig
from behavejax.data import export_windows, prepare, simulate, sources
from behavejax.data.normalization import Normalization
from behavejax.errors import InputError

SIMULATE = SimulateConfig(subjects=4, minutes=0.5)
CONFIG = DataConfig(simulate=SIMULATE, window_s=1.0, stride_s=0.5, val_subjects=("3",), test_subjects=("4",))
IN_TIME = {"split": "temporal", "val_subjects": (), "test_subjects": ()}


def test_normalization_comes_from_training_subjects():
  data = prepare.prepare(CONFIG, 0)
  np.testing.assert_allclose(data.train.signal.mean(0), 0, atol=1e-4)
  np.testing.assert_allclose(data.train.signal.std(0), 1, atol=1e-3)
  recordings = simulate.quadruped(SIMULATE, 0)
  changed = [dataclasses.replace(r, signal=r.signal * 9) if r.subject == "4" else r for r in recordings]
  again = prepare.prepare_recordings(changed, CONFIG, 0)
  np.testing.assert_array_equal(again.normalization.mean, data.normalization.mean)


def test_labels_and_times_of_windows():
  data = prepare.prepare(dataclasses.replace(CONFIG, nan_strategy="drop"), 0)
  recordings = {r.subject: r for r in simulate.quadruped(SIMULATE, 0)}
  for i in range(len(data.train)):
    recording = recordings[data.train.subjects[data.train.subject[i]]]
    start = round(data.train.time_s[i] * 50)
    assert np.isfinite(recording.signal[start : start + 50]).all()
    expected = data.normalization.apply(recording.signal[start : start + 50])
    np.testing.assert_allclose(data.train.gather(np.array([i]))[0].reshape(50, 9), expected, atol=1e-5)
    counts = np.bincount(recording.labels[start : start + 50], minlength=10)
    assert counts[data.train.labels[i]] == counts.max()


def test_temporal_split_warns_and_shares_no_sample():
  config = dataclasses.replace(CONFIG, split="temporal", val_subjects=(), test_subjects=())
  data = prepare.prepare(config, 0)
  assert any("both sides of the split" in line for line in data.warnings)
  seen = [
    {(w.recordings[r], round(t * 50) + i) for r, t in zip(w.recording, w.time_s, strict=True) for i in range(50)}
    for w in (data.train, data.val, data.test)
  ]
  assert not seen[0] & seen[1]
  assert not seen[1] & seen[2]
  assert not seen[0] & seen[2]


def test_bounds_are_those_of_the_recordings():
  config = dataclasses.replace(CONFIG, split="temporal", val_subjects=(), test_subjects=())
  windows = prepare.prepare(config, 0).val
  assert len(windows.bounds) == len(windows.recordings) + 1
  assert windows.bounds[-1] == len(windows.signal)
  first, last = (np.array(windows.bounds)[windows.recording + i] for i in (0, 1))
  assert (windows.starts >= first).all()
  assert (windows.starts + windows.length <= last).all()


def test_resampling_keeps_a_sine():
  time = np.arange(500) / 50
  recording = simulate.quadruped(SIMULATE, 0)[0]
  sine = dataclasses.replace(
    recording, signal=np.repeat(np.sin(2 * np.pi * time)[:, None], 9, 1).astype(np.float32), labels=np.arange(500) // 50
  )
  found = prepare.resample(sine, 20.0)
  assert len(found.signal) == 200
  np.testing.assert_allclose(found.signal[20:-20, 0], np.sin(2 * np.pi * np.arange(200) / 20)[20:-20], atol=0.02)
  np.testing.assert_array_equal(found.labels, np.arange(200) // 20)


def test_mixed_rates_need_a_rate():
  recordings = simulate.quadruped(SIMULATE, 0)
  recordings[1] = prepare.resample(dataclasses.replace(recordings[1], signal=np.nan_to_num(recordings[1].signal)), 25.0)
  with pytest.raises(InputError, match=r"mixed rate_hz: 50.0 .* 25.0 .* config.data.rate_hz"):
    prepare.prepare_recordings(recordings, CONFIG, 0)
  data = prepare.prepare_recordings(recordings, dataclasses.replace(CONFIG, rate_hz=25.0), 0)
  assert data.train.length == 24


def test_short_recordings_are_counted():
  recordings = simulate.quadruped(SIMULATE, 0)
  short = dataclasses.replace(recordings[0], signal=recordings[0].signal[:20], labels=recordings[0].labels[:20])
  data = prepare.prepare_recordings([*recordings, short], CONFIG, 0)
  assert any(line.startswith("1 of 5 recordings are shorter") for line in data.warnings)


def test_unlabelled_data_keep_all_windows():
  recordings = [
    dataclasses.replace(r, labels=np.full_like(r.labels, -1), classes=()) for r in simulate.quadruped(SIMULATE, 0)
  ]
  data = prepare.prepare_recordings(recordings, CONFIG, 0)
  assert (data.train.labels == -1).all()
  assert len(data.train) == 2 * 59


def test_channels_are_chosen_in_order():
  data = prepare.prepare(dataclasses.replace(CONFIG, channels=("gyro_z", "acc_x")), 0)
  assert data.train.channels == ("gyro_z", "acc_x")
  with pytest.raises(InputError, match=r"'acc_q' is not in .* did you mean 'acc_"):
    sources.load(dataclasses.replace(CONFIG, channels=("acc_q",)), 0)


def test_written_splits(tmp_path):
  data = prepare.prepare(CONFIG, 0)
  export_windows.write_splits(tmp_path / "out", data)
  assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
    "normalization.npz",
    "test.npz",
    "train.npz",
    "val.npz",
  ]
  with np.load(tmp_path / "out" / "test.npz", allow_pickle=False) as split:
    np.testing.assert_array_equal(split["x"], data.test.gather(np.arange(len(data.test))))
    assert set(split["subject"]) == {"4"}
  loaded = Normalization.load(tmp_path / "out" / "normalization.npz")
  np.testing.assert_array_equal(loaded.std, data.normalization.std)
  assert loaded.channels == data.normalization.channels


@pytest.mark.parametrize(("rate", "samples"), [(12.5, 50), (100.0, 50), (50.0, 50)])
def test_a_dropped_sample_stays_dropped_at_any_rate(rate, samples):
  recordings = simulate.quadruped(dataclasses.replace(SIMULATE, gaps=0.0), 0)
  signal = recordings[0].signal.copy()
  lost = [101, 403, 1205]
  signal[lost, 0] = np.nan
  gappy = [dataclasses.replace(recordings[0], signal=signal), *recordings[1:]]
  data = prepare.prepare_recordings(gappy, dataclasses.replace(CONFIG, nan_strategy="drop", rate_hz=rate), 0)
  times = data.train.time_s[data.train.recording == 0]
  for place in lost:
    assert not ((times <= place / 50) & (place / 50 < times + 1)).any()
  touched = {start for start in range(59) for place in lost if 25 * start <= place < 25 * start + 50}
  assert len(times) >= 59 - len(touched) - (0 if rate == 50.0 else len(lost))  # a neighbour may be lost at other rates


def test_dropped_samples_do_not_count_in_the_normalization():
  recordings = simulate.quadruped(dataclasses.replace(SIMULATE, gaps=0.2), 0)
  data = prepare.prepare_recordings(recordings, dataclasses.replace(CONFIG, nan_strategy="drop"), 0)
  finite = np.concatenate([r.signal[np.isfinite(r.signal).all(1)] for r in recordings[:2]])
  np.testing.assert_allclose(data.normalization.std, finite.std(0, dtype=np.float64), rtol=1e-5)


def test_a_channel_constant_in_training_is_named():
  flat = [
    dataclasses.replace(r, signal=np.column_stack([np.full(len(r.signal), 5, np.float32), r.signal[:, 1:]]))
    if r.subject in ("1", "2") else r
    for r in simulate.quadruped(SIMULATE, 0)
  ]  # fmt: skip
  data = prepare.prepare_recordings(flat, CONFIG, 0)
  assert "channel acc_x is constant in the training split: its scale is left as it is" in data.warnings
  assert data.normalization.std[0] == 1
  assert np.isfinite(data.test.signal).all()


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"rate_hz": 0.01}, r"rate_hz=0.01 is more than 1000 times below the 50 Hz of recording 1"),
    ({"window_s": 40.0}, r"window_s=40 \(2000 samples\) is longer than every recording; the longest has 1500 samples"),
    ({"window_s": 0.02}, r"window_s=0.02 is 0 sample"),
    ({"nan_strategy": "drop", "simulate": dataclasses.replace(SIMULATE, gaps=0.95)}, r"without a lost sample .*drop"),
    ({**IN_TIME, "window_s": 14.0}, r"train split holds no window of 14 s"),
    ({**IN_TIME, "window_s": 25.0}, r"train split .* no usable sample"),
  ],
)  # fmt: skip
def test_impossible_settings_are_named(changes, message):
  with pytest.raises(InputError, match=message):
    prepare.prepare(dataclasses.replace(CONFIG, **changes), 0)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
  def full(self, path):
    raise OSError(errno.ENOSPC, "No space left on device")

  data = prepare.prepare(CONFIG, 0)
  monkeypatch.setattr(Normalization, "save", full)
  with pytest.raises(OSError, match="No space left"):
    export_windows.write_splits(tmp_path, data)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("settings", "text"),
  [
    ({}, "as listed in the config"),
    ({"val_subjects": ()}, "test as listed in the config, the rest drawn"),
    ({"val_subjects": (), "test_subjects": ()}, "by subject, drawn with the seed"),
  ],
)
def test_the_split_is_described(settings, text):
  assert text in prepare.prepare(dataclasses.replace(CONFIG, **settings), 0).split
