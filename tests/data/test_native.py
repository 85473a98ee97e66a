"""The native recordings file: round trip, damage, and a published one where it is at hand."""

import os
import pathlib

import numpy as np
import pytest

from behavejax.config import DataConfig, SimulateConfig
from behavejax.data import native, simulate, sources
from behavejax.errors import InputError


@pytest.fixture
def file(tmp_path):
  recordings = simulate.quadruped(SimulateConfig(subjects=3, minutes=0.1), 0)
  native.write_recordings(tmp_path / "set.npz", recordings, licence="CC0")
  return tmp_path / "set.npz"


def test_round_trip(file):
  recordings = simulate.quadruped(SimulateConfig(subjects=3, minutes=0.1), 0)
  for before, after in zip(recordings, native.read_recordings(file), strict=True):
    np.testing.assert_array_equal(before.signal, after.signal)
    np.testing.assert_array_equal(before.labels, after.labels)
    assert (before.subject, before.channels, before.units, before.classes) == (
      after.subject, after.channels, after.units, after.classes,
    )  # fmt: skip
  assert [path.name for path in file.parent.iterdir()] == ["set.npz"]


def rewrite(file, **changes):
  arrays = {**native.read_npz(file), **changes}
  np.savez(file, **{name: value for name, value in arrays.items() if value is not None})


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"classes": None}, r"array\(s\) classes missing"),
    ({"rec_start": np.array([0, 10])}, r"rec_start must rise from 0"),
    ({"rec_subject": np.array(["a"])}, r"rec_subject, rec_name or y differ"),
    ({"y": np.full(900, 99, np.int16)}, r"only 10 classes have a name"),
    ({"rate_hz": np.float64(0)}, r"sampling rate must be above 0"),
    ({"x": np.array([{"a": 1}], dtype=object)}, r"no readable .npz"),
    ({"x": np.full((900, 9), "a")}, r"x is <U1 of shape \(900, 9\), expected numbers"),
    ({"y": np.full(900, 0.5)}, r"y is float64 .* expected whole numbers"),
    ({"rec_start": np.array(["0"])}, r"rec_start is <U1"),
    ({"rec_subject": np.array("a")}, r"rec_subject is <U1 of shape \(\), expected names"),
    ({"classes": np.array("walk")}, r"classes is <U4"),
    ({"rate_hz": np.array([50.0, 60.0])}, r"rate_hz is float64 of shape \(2,\), expected one number"),
    ({"rate_hz": np.array("fifty")}, r"rate_hz is <U5"),
  ],
)
def test_damage_is_named(file, changes, message):
  rewrite(file, **changes)
  with pytest.raises(InputError, match=message):
    native.read_recordings(file)


def test_cut_short(file):
  file.write_bytes(file.read_bytes()[:500])
  with pytest.raises(InputError, match=r"no readable .npz"):
    native.read_recordings(file)


def test_other_formats_are_named(tmp_path):
  text, several = tmp_path / "x.npz", tmp_path / "x.npy"
  text.write_text("ax,ay\n1,2\n")
  with pytest.raises(InputError, match=r"x.npz is no readable .npz: it is in another format than NumPy's"):
    native.read_npz(text)
  with several.open("wb") as file:
    np.savez(file, a=np.zeros(2))
  with pytest.raises(ValueError, match="several arrays, expected one"):
    native.numpy_array(several)


def test_a_single_array_is_no_recordings_file(tmp_path):
  with (tmp_path / "set.npz").open("wb") as file:
    np.save(file, np.zeros(3))
  with pytest.raises(InputError, match=r"a single array"):
    native.read_recordings(tmp_path / "set.npz")


def test_published_recordings():
  root = os.environ.get("BEHAVEJAX_DATA")
  if not root or not (pathlib.Path(root) / "dsa_torso.npz").exists():
    pytest.skip("BEHAVEJAX_DATA holds no dsa_torso.npz")
  recordings = sources.load(DataConfig(name="recordings", path="dsa_torso.npz"), 0)
  assert len({r.subject for r in recordings}) == 8
  assert recordings[0].signal.shape[1] == 9
  assert len(recordings[0].classes) == 19
  assert recordings[0].rate_hz == 25
