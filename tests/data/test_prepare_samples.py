"""Splits, normalization and cutting of samples of every kind."""

import dataclasses

import numpy as np
import pytest

from behavejax.config import Config, DataConfig, SimulateConfig
from behavejax.config_frames import FramesConfig, MovingDigitsConfig
from behavejax.data.prepare import prepare
from behavejax.data.prepare_samples import SIGNALS, SOURCES, prepare_loaded, prepare_samples
from behavejax.data.samples import Loaded
from behavejax.errors import InputError

NAMES = ("train", "val", "test")
RNG = np.random.default_rng(0)


def config(**settings):
  data = DataConfig(
    simulate=SimulateConfig(subjects=3, minutes=0.5, gaps=0.05), window_s=1.0, stride_s=0.5, devices=1,
    val_subjects=("2",), test_subjects=("3",), root=settings.pop("root", ""),
  )  # fmt: skip
  return Config(data=data, frames=FramesConfig(**settings))


def loaded(lengths=(12, 5, 8, 9, 20, 8), *, dtype=np.uint8, rate_hz=10.0, split=None):
  total = sum(lengths)
  return Loaded(
    steps=(RNG.random((total, 4, 3, 2)) * 200).astype(dtype),
    bounds=np.cumsum([0, *lengths]),
    names=tuple(f"v{i}" for i in range(len(lengths))),
    labels=np.arange(len(lengths)) % 2,
    classes=("a", "b"),
    split=np.full(len(lengths), -1) if split is None else np.array(split),
    rate_hz=rate_hz,
  )


def test_digits_by_count():
  data = prepare_samples(config(name="digits", val=100.0, test=197.0), 0)
  assert [len(getattr(data, name)) for name in NAMES] == [1500, 100, 197]
  x = data.train.gather(np.arange(1500))
  assert x.shape == (1500, 8, 8, 1)
  assert data.train.shape == (8, 8, 1)
  np.testing.assert_allclose([x.mean(), x.std()], [0, 1], atol=1e-5)
  chosen = [set(getattr(data, name).source.tolist()) for name in NAMES]
  assert len(set.union(*chosen)) == 1797
  assert data.test.labels.min() == 0
  assert data.train.peak == 255
  assert data.split == "val and test drawn from the images with the seed"
  again, other = (prepare_samples(config(name="digits"), seed) for seed in (0, 1))
  assert set(again.test.source) == set(prepare_samples(config(name="digits"), 0).test.source)
  assert set(again.test.source) != set(other.test.source)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_normalization_is_that_of_training_alone(dtype):
  given = loaded(dtype=dtype)
  data = prepare_loaded(given, FramesConfig(length=4, val=1.0, test=1.0), 0)
  used = np.concatenate([
    given.steps[given.bounds[i] : given.bounds[i + 1]] for i in sorted(set(data.train.source))
  ]).astype(np.float64)  # fmt: skip
  np.testing.assert_allclose(data.normalization.mean, used.mean((0, 1, 2)), rtol=1e-6)
  np.testing.assert_allclose(data.normalization.std, used.std((0, 1, 2)), rtol=1e-6)
  assert data.train.peak == {2: 65535, 1: 255}.get(given.steps.dtype.itemsize, np.ptp(used.astype(dtype)))


@pytest.mark.parametrize(("length", "stride", "per_video"), [(4, 0, (3, 1, 2, 2, 5, 2)), (5, 2, (4, 1, 2, 3, 8, 2))])
def test_clips_lie_within_their_video(length, stride, per_video):
  given = loaded()
  data = prepare_loaded(given, FramesConfig(length=length, stride=stride, val=1.0, test=2.0), 0)
  sources = [set(getattr(data, name).source.tolist()) for name in NAMES]
  assert [len(s) for s in sources] == [3, 1, 2]
  assert not sources[0] & sources[1] | sources[0] & sources[2] | sources[1] & sources[2]
  for name in NAMES:
    part = getattr(data, name)
    for source in set(part.source):
      assert (part.source == source).sum() == per_video[source]
    assert (part.starts >= given.bounds[part.source]).all()
    assert (part.starts + length <= given.bounds[part.source + 1]).all()
    assert part.labels.tolist() == (part.source % 2).tolist()
    assert part.shape == (length, 4, 3, 2)
    assert part.steps is given.steps  # shared, not copied


def test_short_videos_are_left_out():
  data = prepare_loaded(loaded(), FramesConfig(length=8, val=1.0, test=1.0), 0)
  assert "1 of 6 videos are shorter than a clip and were left out" in data.warnings
  assert 1 not in {*data.train.source, *data.val.source, *data.test.source}
  with pytest.raises(InputError, match=r"frames.length=21 is longer than every video; the longest, v4, has 20"):
    prepare_loaded(loaded(), FramesConfig(length=21), 0)
  with pytest.raises(InputError, match="2 videos are too few for 1 for test and 1 for val: nothing is left for train"):
    prepare_loaded(loaded(), FramesConfig(length=12), 0)


def test_given_splits_are_kept():
  data = prepare_loaded(loaded(split=[0, 0, 2, 0, 2, 0]), FramesConfig(length=4, val=1.0, test=3.0), 0)
  assert set(data.test.source) == {2, 4}
  assert len(set(data.train.source)) == 3
  assert data.split == "test as the data come with, val drawn from the videos with the seed"


@pytest.mark.parametrize(("val", "test"), [(0.4, 6.0), (5.0, 1.0), (3.0, 3.0)])
def test_too_few_for_the_splits(val, test):
  with pytest.raises(InputError, match="6 images are too few") as caught:
    prepare_loaded(loaded([1] * 6, rate_hz=0.0), FramesConfig(val=val, test=test), 0)
  assert "\n" not in str(caught.value)


def test_constant_channels_are_told():
  given = loaded([1] * 6, rate_hz=0.0)
  given.steps[..., 1] = 7
  data = prepare_loaded(given, FramesConfig(), 0)
  assert data.warnings == ("channel channel_1 is constant in the training split: its scale is left as it is",)
  assert (data.train.gather(np.arange(2))[..., 1] == 0).all()


def test_windows_are_those_of_the_recordings():
  settings = config(name="windows")
  data = prepare_samples(settings, 0)
  windows = prepare(dataclasses.replace(settings.data, fold=False), 0)
  assert data.train.shape == (50, 9)
  for name in NAMES:
    part, expected = getattr(data, name), getattr(windows, name)
    np.testing.assert_array_equal(
      part.gather(np.arange(len(part))), expected.gather(np.arange(len(part)))[:, 0]
    )  # fmt: skip
    assert part.labels.tolist() == expected.labels.tolist()
    assert part.sources == expected.recordings
    assert part.whole(0).shape == (1500, 9)
  np.testing.assert_array_equal(data.normalization.mean, windows.normalization.mean)


def test_recordings_give_all_samples_without_labels():
  data = prepare_samples(config(name="recordings"), 0)
  assert len(data.test) == 59  # 1 500 samples, windows of 50, every 25
  assert set(data.test.labels) == {-1}
  assert data.test.classes == ()
  assert data.test.rate_hz == 50


def test_images_of_known_size_become_others():
  data = prepare_samples(config(name="digits", size=(16, 12), channels=3), 0)
  assert data.train.shape == (16, 12, 3)
  assert data.train.steps.dtype == np.uint8


def test_every_made_source_prepares():
  data = prepare_samples(
    config(name="moving_digits", length=5, moving=MovingDigitsConfig(videos=12, frames=11)), 0
  )  # fmt: skip
  assert data.val.shape == (5, 16, 16, 1)
  assert len(data.train) == 20
  assert data.train.channels == ("grey",)
  assert set(SIGNALS).isdisjoint(SOURCES)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"name": "digit"}, "config.frames.name 'digit' is unknown; did you mean 'digits'"),
    ({"name": "image_folder"}, "config.frames.name=image_folder needs config.frames.path"),
    ({"name": "video_folder", "path": "nowhere"}, "no such file or folder"),
  ],
)
def test_wrong_sources_are_named(settings, message, tmp_path):
  with pytest.raises(InputError, match=message):
    prepare_samples(config(root=str(tmp_path), **settings), 0)
