"""Channels-first arrays are turned at the door."""

import numpy as np
import pytest

from behavejax.config import TableConfig
from behavejax.data.arrays import read_arrays
from behavejax.errors import InputError

X = np.random.default_rng(0).normal(size=(4, 3, 20))


def test_axes_and_labels(tmp_path):
  np.savez(tmp_path / "a.npz", x=X, y=np.array(["b", "a", "b", "a"]), rate_hz=50.0, subject=np.array([1, 1, 2, 2]))
  found = read_arrays(tmp_path / "a.npz", TableConfig())
  np.testing.assert_allclose(found[2].signal, X[2].T, atol=1e-6)
  assert [r.classes[r.labels[0]] for r in found] == ["b", "a", "b", "a"]
  assert [r.subject for r in found] == ["1", "1", "2", "2"]


def test_folded_halves_follow_each_other(tmp_path):
  np.save(tmp_path / "a.npy", X.reshape(4, 3, 2, 10))
  found = read_arrays(tmp_path / "a.npy", TableConfig(rate_hz=25.0))
  np.testing.assert_allclose(found[1].signal, X[1].T, atol=1e-6)
  assert found[0].rate_hz == 25


def test_other_names_for_the_same(tmp_path):
  np.savez(tmp_path / "a.npz", data=X, labels=np.array([0, 1, -1, 1]), classes=np.array(["sit", "run"]), rate_hz=[50])
  found = read_arrays(tmp_path / "a.npz", TableConfig())
  np.testing.assert_allclose(found[2].signal, X[2].T, atol=1e-6)
  assert [r.labels[0] for r in found] == [0, 1, -1, 1]
  assert found[0].classes == ("sit", "run")


@pytest.mark.parametrize(
  ("arrays", "message"),
  [
    ({"x": X}, r"does not say its sampling rate"),
    ({"z": X, "rate_hz": 1.0}, r"no array 'x'"),
    ({"x": X, "rate_hz": np.array([1.0, 2.0])}, r"expected one number"),
    ({"x": X, "rate_hz": 0.0}, r"sampling rate must be above 0"),
    ({"x": X, "rate_hz": 1.0, "channels": np.array("abc")}, r"channels is <U3"),
    ({"x": X[0], "rate_hz": 1.0}, r"x of shape \(3, 20\)"),
    ({"x": X.astype(str), "rate_hz": 1.0}, r"expected real numbers"),
    ({"x": X, "rate_hz": 1.0, "y": np.zeros(3, int)}, r"y of shape \(3,\)"),
    ({"x": X, "rate_hz": 1.0, "y": np.zeros(4)}, r"expected integers or strings"),
    ({"x": X, "rate_hz": 1.0, "y": np.arange(4), "classes": np.array(["a"])}, r"only 1 classes have a name"),
    ({"x": X, "rate_hz": 1.0, "subject": np.arange(3)}, r"3 subjects for 4 examples"),
  ],
)
def test_mistakes_are_named(tmp_path, arrays, message):
  np.savez(tmp_path / "a.npz", **arrays)
  with pytest.raises(InputError, match=message):
    read_arrays(tmp_path / "a.npz", TableConfig())
