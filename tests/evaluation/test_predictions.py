"""Predictions survive their file."""

import dataclasses

import numpy as np
import pytest

from behavejax.evaluation.predictions import Predictions, load_predictions, save_predictions


@pytest.fixture
def one():
  rng = np.random.default_rng(0)
  return Predictions(
    rng.normal(size=(4, 3)), np.array([0, 1, -1, 2]), rng.integers(0, 9, (4, 2, 5)), rng.normal(size=(4, 6)),
    rng.random(4), np.zeros(4, int), np.zeros(4, int), np.arange(4.0), rng.random((4, 2)), rng.random((4, 3)),
    rng.random((4, 3)) < 0.5,
  )  # fmt: skip


def test_round_trip(tmp_path, one):
  save_predictions(tmp_path / "p.npz", {"val": one, "test": one})
  loaded = load_predictions(tmp_path / "p.npz")
  assert set(loaded) == {"val", "test"}
  for name, value in vars(one).items():
    found = getattr(loaded["test"], name)
    np.testing.assert_array_equal(found, value)
    assert found.dtype == value.dtype
  np.testing.assert_array_equal(one.predicted, one.logits.argmax(1))
  assert [p.name for p in tmp_path.iterdir()] == ["p.npz"]


def test_files_without_later_fields_are_read(tmp_path, one):
  older = dataclasses.replace(one, channel_error=None, probabilities=None, label_sets=None)
  save_predictions(tmp_path / "p.npz", {"val": older})
  with np.load(tmp_path / "p.npz") as arrays:
    assert "val/label_sets" not in arrays.files
  loaded = load_predictions(tmp_path / "p.npz")["val"]
  assert loaded.label_sets is None
  np.testing.assert_array_equal(loaded.logits, one.logits)


def test_nothing_is_unpickled(tmp_path):
  np.savez(tmp_path / "p.npz", **{"test/logits": np.array([{}], dtype=object)})
  with pytest.raises(ValueError, match="allow_pickle=False"):
    load_predictions(tmp_path / "p.npz")
