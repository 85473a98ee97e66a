"""The quality report of images and videos against NumPy."""

import json

import numpy as np

from behavejax.config_frames import FramesConfig
from behavejax.data.prepare_samples import prepare_loaded
from behavejax.data.samples import Loaded
from behavejax.evaluation.samples_report import samples_figure, value_statistics, write_samples_report

RNG = np.random.default_rng(0)


def prepared(*, video, warnings=()):
  lengths = [6, 9, 4, 8, 6, 5] if video else [1] * 40
  loaded = Loaded(
    steps=RNG.integers(0, 200, (sum(lengths), 5, 4, 3), np.uint8),
    bounds=np.cumsum([0, *lengths]),
    names=tuple(f"s{i}" for i in range(len(lengths))),
    labels=np.arange(len(lengths)) % 2 - (1 if video else 0),
    classes=("cat", "dog"),
    split=np.full(len(lengths), -1),
    rate_hz=5.0 if video else 0.0,
    warnings=warnings,
  )
  return prepare_loaded(loaded, FramesConfig(length=3, val=1.0 if video else 0.2, test=1.0 if video else 0.2), 0)


def test_statistics_are_those_of_the_stored_values():
  for video in (False, True):
    train = prepared(video=video).train
    length = np.arange(train.length) if train.length else 0
    values = np.concatenate([train.steps[start + length].reshape(-1, 3) for start in train.starts]).astype(float)
    found = value_statistics(train)
    for i, channel in enumerate(("red", "green", "blue")):
      column = values[:, i]
      assert found[channel]["min"] == column.min()
      assert found[channel]["max"] == column.max()
      assert found[channel]["at_max"] == np.mean(column == column.max())
      assert found[channel]["at_min"] == np.mean(column == column.min())
    if not video:
      np.testing.assert_allclose(found["green"]["mean"], values[:, 1].mean(), rtol=1e-5)


def test_a_report_of_images(tmp_path):
  data = prepared(video=False, warnings=("2 of 42 images cannot be read and were left out (a.png: it is empty)",))
  write_samples_report(tmp_path / "qa", data, title="Data quality: image_folder")
  record = json.loads((tmp_path / "qa" / "qa.json").read_text())
  assert record["samples"] == {"train": 24, "val": 8, "test": 8}
  assert record["shape"] == [5, 4, 3]
  assert record["dtype"] == "uint8"
  assert sum(record["labels"]["cat"].values()) == 20
  page = (tmp_path / "qa" / "qa.html").read_text()
  assert "a.png: it is empty" in page
  assert "5 x 4 pixels" in page
  assert (tmp_path / "qa" / "figures" / "samples.png").stat().st_size > 5_000


def test_a_report_of_videos(tmp_path):
  data = prepared(video=True)
  write_samples_report(tmp_path / "qa", data, title="Data quality: video_folder")
  page = (tmp_path / "qa" / "qa.md").read_text()
  assert "6 videos of 4 to 9 frames (median 6), 38 frames in all, 5 per second; clips of 3 frames." in page
  assert "Every file was read." in page
  assert len(samples_figure({"train": data.train, "val": data.val}).axes) % 3 == 0
