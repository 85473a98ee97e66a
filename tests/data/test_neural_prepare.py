"""From a config to clips: splits without leaks, scaling from training alone, one entry per data set."""

import dataclasses

import numpy as np
import pytest

from behavejax.config_neural import NeuralDataConfig, SimulateNeuralConfig
from behavejax.data import neural_prepare as prepare
from behavejax.data.neural import NeuralRecording, write_neural
from behavejax.errors import InputError

SIMULATE = SimulateNeuralConfig(
  neurons=(5, 2), heights=(8, 10), widths=(8, 6), rates_hz=(30.0, 30.0), trials=20, repeated=2, repeats=3, trial_s=1.0
)
CONFIG = NeuralDataConfig(clip=12, stride=5, context=3, simulate=SIMULATE, min_spikes=1)


def made(lengths, *, condition=None, neurons=2, signals=1, size=(4, 4), seed=0, **fields):
  rng = np.random.default_rng(seed)
  frames = sum(lengths)
  return NeuralRecording(
    video=rng.integers(0, 256, (frames, *size, 1), dtype=np.uint8),
    spikes=rng.poisson(1.0, (frames, neurons)).astype(np.float32),
    behaviour=rng.normal(size=(frames, signals)).astype(np.float32) if signals else None,
    mask=np.ones((frames, neurons), bool),
    trial=np.repeat(np.arange(len(lengths)), lengths),
    condition=np.full(len(lengths), -1) if condition is None else np.array(condition),
    name="made",
    **{"rate_hz": 30.0} | fields,
  )


@pytest.fixture(scope="module")
def data():
  return prepare.prepare_neural(CONFIG, None, 0)


def trials_of(clips):
  return set(clips.trial.tolist())


def test_splits_share_no_trial_and_no_video(data):
  for own in data:
    parts = [trials_of(clips) for clips in (own.train, own.val, own.test)]
    assert [len(part) for part in parts] == [16, 2, 8]
    assert len(set.union(*parts)) == 26
    assert set(np.flatnonzero(own.recording.condition >= 0).tolist()) <= parts[2]


def test_each_frame_is_judged_once_and_learned_wherever_possible(data):
  for own in data:
    for clips in (own.val, own.test):
      frames, inside = clips._frames(np.arange(len(clips)))
      counted = inside & (np.arange(12) >= 3)
      assert len(np.unique(frames[counted])) == counted.sum() == 27 * len(trials_of(clips))
    learned = np.isfinite(own.train.place(np.zeros((len(own.train), 12, own.recording.neurons))))[:, 0]
    assert learned.sum() == 27 * 16


def test_scaling_is_of_the_training_frames(data):
  own = data[0]
  frames = np.isin(own.recording.trial, list(trials_of(own.train)))
  np.testing.assert_allclose(own.scaling.video_mean, own.recording.video[frames].mean(), rtol=1e-6)
  np.testing.assert_allclose(own.scaling.video_std, own.recording.video[frames].std(), rtol=1e-6)
  np.testing.assert_allclose(own.scaling.behaviour_mean, own.recording.behaviour[frames].mean(0), rtol=1e-4)
  np.testing.assert_allclose(own.scaling.mean_counts, own.recording.spikes[frames].mean(0), rtol=1e-6)
  video = own.train.video(np.flatnonzero(frames))
  np.testing.assert_allclose([video.mean(), video.std()], [0, 1], atol=1e-4)


def test_an_entry_is_a_data_set(tmp_path):
  """Other frame sizes, no behaviour, one neuron: an entry and no code."""
  write_neural(tmp_path / "own.npz", made([30] * 6, neurons=1, signals=0, size=(7, 3)))
  config = dataclasses.replace(CONFIG, recordings=("simulated_2", "own.npz"))
  first, second = prepare.prepare_neural(config, tmp_path, 0)
  assert (first.name, second.name) == ("simulated_2", "own")
  assert second.train.gather(np.array([0])).spikes.shape == (1, 12, 1)
  assert second.train.shape == (12, 7, 3, 1)
  assert second.train.signals == 0
  again = prepare.load_neural(CONFIG, "simulated_2", tmp_path, 0)
  np.testing.assert_array_equal(first.recording.video, again.video)


def test_without_trials_a_recording_is_cut_into_blocks():
  cut = prepare.cut_into_trials(made([100]), 30)
  assert np.diff(cut.trial_edges).tolist() == [30, 30, 30, 10]


def test_binning_adds_counts_and_averages_frames():
  own = made([7, 4], condition=[-1, 3])
  own = dataclasses.replace(own, mask=np.arange(11)[:, None] * np.ones((1, 2)) != 8)
  found = prepare.bin_recording(own, 10.0)
  assert found.rate_hz == 10.0
  assert found.trial.tolist() == [0, 0, 1]
  assert found.condition.tolist() == [-1, 3]
  for row, frames in enumerate((slice(0, 3), slice(3, 6), slice(7, 10))):
    np.testing.assert_allclose(found.video[row], own.video[frames].mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.behaviour[row], own.behaviour[frames].mean(0), rtol=1e-5)
  np.testing.assert_array_equal(found.spikes[0], own.spikes[:3].sum(0))
  assert found.mask.tolist() == [[True, True], [True, True], [False, False]]
  assert prepare.bin_recording(own, 30.0) is own


def test_true_rates_are_binned_too():
  config = dataclasses.replace(CONFIG, recordings=("simulated_1",), rate_hz=15.0, clip=8, context=2)
  (own,) = prepare.prepare_neural(config, None, 0)
  whole = prepare.load_neural(dataclasses.replace(config, rate_hz=0.0), "simulated_1", None, 0)
  np.testing.assert_allclose(own.recording.truth.rates.sum(0), whole.truth.rates.sum(0), rtol=1e-4)
  np.testing.assert_array_equal(own.recording.spikes.sum(0), whole.spikes.sum(0))


def test_the_files_splits_hold():
  split = ("val", "test", "train", "train", "train")
  assert prepare.split_trials(made([30] * 5, split=split), CONFIG, 0) == split
  with pytest.raises(InputError, match="trials of condition 4 are in test and train: one shows all"):
    prepare.split_trials(made([30] * 5, condition=[-1, 4, 4, -1, -1], split=split), CONFIG, 0)
  with pytest.raises(InputError, match="no trial is in the val split"):
    prepare.split_trials(made([30] * 3, split=("train", "test", "train")), CONFIG, 0)


def test_where_all_videos_are_repeated_they_are_drawn_as_a_whole():
  condition = np.repeat(np.arange(8), 3)
  found = np.array(prepare.split_trials(made([5] * 24, condition=condition), CONFIG, 0))
  assert set(found) == {"train", "val", "test"}
  assert all(len(set(found[condition == c])) == 1 for c in range(8))


def test_rare_neurons_are_left_out():
  own = made([30] * 6, neurons=4)
  own.spikes[:, 1] = 0
  config = dataclasses.replace(CONFIG, min_spikes=10)
  found = prepare.prepare_recording(config, own, None, 0)
  assert found.scaling.neurons.tolist() == [0, 2, 3]
  assert found.recording.neurons == 3
  assert found.warnings == ("made: 1 of 4 neurons fire too rarely and are left out",)
  kept = prepare.prepare_recording(config, made([30] * 6, neurons=4, seed=9), found.scaling, 0)  # as in training
  assert kept.scaling is found.scaling
  assert kept.recording.neurons == 3


def test_scalings_are_stored(tmp_path, data):
  path = tmp_path / "scalings.npz"
  prepare.save_scalings(path, {own.name: own.scaling for own in data})
  found = prepare.load_scalings(path)
  assert list(found) == ["simulated_1", "simulated_2"]
  for own in data:
    for a, b in zip(found[own.name], own.scaling, strict=True):
      np.testing.assert_array_equal(a, b)
  again = prepare.prepare_neural(CONFIG, None, 0, scalings=list(found.values()))
  np.testing.assert_array_equal(again[0].val.gather([0]).video, data[0].val.gather([0]).video)


@pytest.mark.parametrize(
  ("change", "lengths", "fields", "message"),
  [
    ({"rate_hz": 20.0}, [30] * 6, {}, "no whole multiple of config.neural.rate_hz=20"),
    ({"rate_hz": 60.0}, [30] * 6, {}, "no whole multiple of config.neural.rate_hz=60"),
    ({"rate_hz": 3.0}, [30, 30, 9], {}, "trial 2 has 9 frame(s), less than one bin of 10"),
    ({"block": 50}, [90], {}, "has 2 trial(s) of different videos, too few"),
    ({}, [30] * 4, {"condition": [0, 0, 1, 1]}, "has 2 trial(s) of different videos, too few"),
    ({"context": 11}, [11] * 6, {}, "the train split holds no frame to predict; trials have up to 11 frames"),
    ({"min_spikes": 100_000}, [30] * 6, {}, "none of 2 neuron(s) has config.neural.min_spikes=100000"),
    ({"min_rate_hz": 1e4}, [30] * 6, {}, "config.neural.min_rate_hz=10000"),
  ],
)
def test_what_cannot_be_used_is_named(tmp_path, change, lengths, fields, message):
  write_neural(tmp_path / "made.npz", made(lengths, **fields))
  config = dataclasses.replace(CONFIG, recordings=("made.npz",), **change)
  with pytest.raises(InputError) as caught:
    prepare.prepare_neural(config, tmp_path, 0)
  assert message in str(caught.value)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entry", ["simulated_3", "simulated_0", "simulated_x"])
def test_unknown_simulated_recordings(entry):
  with pytest.raises(InputError, match="is not among the simulated recordings, simulated_1 to simulated_2"):
    prepare.load_neural(CONFIG, entry, None, 0)


def test_files_that_are_missing_or_share_a_name(tmp_path):
  config = dataclasses.replace(CONFIG, recordings=("a/mouse.npz", "b/mouse.npz"))
  with pytest.raises(InputError, match=r"no such file .*a/mouse.npz; files lie below config.data.root"):
    prepare.prepare_neural(config, tmp_path, 0)
  for folder in ("a", "b"):
    (tmp_path / folder).mkdir()
    write_neural(tmp_path / folder / "mouse.npz", made([30] * 6))
  with pytest.raises(InputError, match=r"a/mouse.npz and b/mouse.npz have the same name"):
    prepare.prepare_neural(config, tmp_path, 0)


def test_another_recording_does_not_fit_a_trained_run(data):
  with pytest.raises(InputError, match="the run was trained with 2 and at least 5"):
    prepare.prepare_recording(CONFIG, made([30] * 6), data[0].scaling, 0)


def test_damaged_scalings(tmp_path):
  np.savez(tmp_path / "a.npz", **{"mouse/video_mean": np.zeros(())})
  with pytest.raises(InputError, match="holds no scaling"):
    prepare.load_scalings(tmp_path / "a.npz")
