"""Mean and std against NumPy; a damaged file is one line, never a silent wrong scale."""

import numpy as np
import pytest

from behavejax.data.normalization import Normalization, constant_channels, fit_normalization, fit_stored
from behavejax.errors import InputError


def test_fit_and_apply_equal_numpy():
  signal = np.random.default_rng(0).normal(3, 5, (200, 3)).astype(np.float32)
  signal[5, 1] = np.nan
  found = fit_normalization(signal, ("a", "b", "c"))
  np.testing.assert_allclose(found.mean, np.nanmean(signal, 0), rtol=1e-5)
  np.testing.assert_allclose(found.std, np.nanstd(signal, 0), rtol=1e-5)
  np.testing.assert_allclose(np.nanmean(found.apply(signal), 0), 0, atol=1e-5)
  assert found.apply(signal).dtype == np.float32


def test_a_constant_channel_is_not_divided_by_zero():
  signal = np.stack([np.full(50, 9.81), np.linspace(0, 1e-3, 50)], axis=1).astype(np.float32)
  found = fit_normalization(signal, ("flat", "small"))
  assert found.std[0] == 1
  np.testing.assert_allclose(found.apply(signal)[:, 0], 0, atol=1e-6)
  assert constant_channels(signal, ("flat", "small")) == ("flat",)


def test_saved_and_loaded(tmp_path):
  saved = Normalization(np.arange(2, dtype=np.float32), np.ones(2, np.float32), ("a", "b"))
  saved.save(tmp_path / "n.npz")
  loaded = Normalization.load(tmp_path / "n.npz")
  np.testing.assert_array_equal(loaded.mean, saved.mean)
  assert loaded.channels == ("a", "b")
  assert [path.name for path in tmp_path.iterdir()] == ["n.npz"]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, share):
  path = tmp_path / "n.npz"
  Normalization(np.zeros(2, np.float32), np.ones(2, np.float32), ("a", "b")).save(path)
  whole = path.read_bytes()
  path.write_bytes(whole[: int(share * len(whole))])
  with pytest.raises(InputError, match=r"n.npz holds no normalization"):
    Normalization.load(path)


@pytest.mark.parametrize(
  ("arrays", "message"),
  [
    ({"mean": np.zeros(2)}, "holds no normalization"),
    ({"mean": np.zeros(3), "std": np.ones(2), "channels": np.array(["a", "b"])}, r"mean of shape \(3,\)"),
    ({"mean": np.zeros(1), "std": np.zeros(1), "channels": np.array(["a"])}, "std above 0"),
    ({"mean": np.array([np.nan]), "std": np.ones(1), "channels": np.array(["a"])}, "mean must be finite"),
  ],
)
def test_wrong_contents_are_refused(tmp_path, arrays, message):
  np.savez(tmp_path / "n.npz", **arrays)
  with pytest.raises(InputError, match=message):
    Normalization.load(tmp_path / "n.npz")


def test_a_missing_or_foreign_file_is_refused(tmp_path):
  with pytest.raises(InputError, match=r"gone.npz holds no normalization"):
    Normalization.load(tmp_path / "gone.npz")
  np.save(tmp_path / "array.npy", np.zeros(3))
  with pytest.raises(InputError, match=r"array.npy holds no normalization"):
    Normalization.load(tmp_path / "array.npy")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_fit_of_stored_steps_equals_numpy_in_parts(dtype, monkeypatch):
  monkeypatch.setattr("behavejax.data.normalization._PART", 50)  # four steps at once
  steps = (np.random.default_rng(0).random((30, 2, 3, 2)) * 200).astype(dtype)
  steps[..., 1] = 7
  used = np.array([3, 4, 5, 9, 20, 21, 29])
  found, constant = fit_stored(steps, used, ("a", "b"))
  np.testing.assert_allclose(found.mean, steps[used].mean((0, 1, 2), dtype=np.float64), rtol=1e-6)
  np.testing.assert_allclose(found.std, [steps[used][..., 0].std(dtype=np.float64), 1], rtol=1e-6)
  assert constant == ("b",)
  np.testing.assert_allclose(found.undo(found.apply(steps)), steps, rtol=1e-4, atol=1e-4)
