"""UCI HAR, PAMAP2 and WISDM in small copies of their layouts; BasicMotions as aeon ships it."""

import shutil

import numpy as np
import pytest

from behavejax.config import DataConfig
from behavejax.data import published, sources
from behavejax.errors import InputError


def test_uci_har_joins_overlapping_windows(tmp_path):
  rng = np.random.default_rng(0)
  folder = tmp_path / "UCI HAR Dataset"
  streams = {}
  for part in ("train", "test"):
    (folder / part / "Inertial Signals").mkdir(parents=True)
    for signal in ("body_acc", "body_gyro", "total_acc"):
      for axis in "xyz":
        stream = streams[part, signal, axis] = rng.normal(size=128 + 64).round(4)
        windows = np.stack([stream[:128], stream[64:], rng.normal(size=128).round(4)])
        np.savetxt(folder / part / "Inertial Signals" / f"{signal}_{axis}_{part}.txt", windows, fmt="%.4f")
    np.savetxt(folder / part / f"subject_{part}.txt", [7, 7, 7], fmt="%d")
    np.savetxt(folder / part / f"y_{part}.txt", [1, 2, 2], fmt="%d")
  (folder / "activity_labels.txt").write_text("1 WALKING\n2 SITTING\n")
  found = published.read_uci_har(tmp_path)
  assert [len(r.signal) for r in found] == [192, 128, 192, 128]
  np.testing.assert_allclose(found[0].signal[:, 3], streams["train", "body_gyro", "x"], atol=1e-6)
  assert found[0].labels.tolist() == [0] * 128 + [1] * 64
  assert found[0].subject == "7"
  shutil.make_archive(str(tmp_path / "zip" / "har"), "zip", tmp_path, folder.name)
  for one, other in zip(found, published.read_uci_har(tmp_path / "zip"), strict=True):
    np.testing.assert_array_equal(one.signal, other.signal)
    np.testing.assert_array_equal(one.labels, other.labels)
  for name, text, message in (
    ("y_test.txt", "1\n2\n3\n", r"y_test.txt holds 1 to 3; 1 to 2 have a name"),
    ("subject_test.txt", "7\n7\n", r"files of test/ hold 2, 3 windows"),
    ("subject_test.txt", "", r"subject_test.txt is empty"),
  ):
    (folder / "test" / name).write_text(text)
    with pytest.raises(InputError, match=message):
      published.read_uci_har(folder)
  with pytest.raises(InputError, match=r"train/Inertial Signals"):
    published.read_uci_har(tmp_path / "gone")


def pamap2_rows(activity):
  rows = np.random.default_rng(0).normal(size=(len(activity), 54))
  rows[:, 0], rows[:, 1] = np.arange(len(activity)) / 100, activity
  rows[-1, 4] = np.nan
  return rows


def test_pamap2(tmp_path):
  (tmp_path / "Protocol").mkdir()
  rows = pamap2_rows([0, 4, 4, 24])
  np.savetxt(tmp_path / "Protocol" / "subject101.dat", rows)
  (found,) = published.read_pamap2(tmp_path)
  assert found.signal.shape == (4, 27)
  assert found.subject == "101"
  assert [found.classes[i] if i >= 0 else "" for i in found.labels] == ["", "walking", "walking", "rope_jumping"]
  np.testing.assert_allclose(found.signal[:, found.channels.index("chest_gyro_y")], rows[:, 20 + 8], atol=1e-6)
  assert np.isnan(found.signal[3, 0])
  np.savetxt(tmp_path / "Protocol" / "subject102.dat", pamap2_rows([0, 8]).repeat(2, 0))
  with pytest.raises(InputError, match=r"activity 8 has no name"):
    published.read_pamap2(tmp_path)


def test_wisdm(tmp_path):
  lines = [f"33,Jogging,{10**12 + i * 50_000_000},{i}.5,-1.0,0.25;" for i in range(40)]
  lines += [f"33,Sitting,{10**12 + 10**11 + i * 50_000_000},{i}.5,-1.0,0.25;" for i in range(40)]
  lines[5] = "33,Jogging,0,0,0,0;"
  lines[7] = "33,Jogging,,;"
  (tmp_path / "raw.txt").write_text("\n".join(lines))
  first, second = published.read_wisdm(tmp_path / "raw.txt")
  assert (len(first.signal), len(second.signal)) == (38, 40)
  assert second.classes[second.labels[0]] == "sitting"
  np.testing.assert_allclose(first.signal[0], [0.5, -1.0, 0.25])
  (tmp_path / "raw.txt").write_text("\n".join(["nonsense;"] * 5 + lines))
  with pytest.raises(InputError, match=r"7 of 85 lines"):
    published.read_wisdm(tmp_path / "raw.txt")


@pytest.mark.parametrize("name", ["hapt", "uci_har", "pamap2"])
def test_missing_root_names_both_ways_to_give_it(tmp_path, name):
  with pytest.raises(InputError, match=r"no data folder .*gone.*config.data.root or the .*BEHAVEJAX_DATA"):
    sources.load(DataConfig(name=name, root=str(tmp_path / "gone")), 0)


def test_basic_motions():
  pytest.importorskip("aeon", reason="aeon is not installed")
  found = published.read_basic_motions()
  assert len(found) == 80
  assert {r.signal.shape for r in found} == {(100, 6)}
  assert len({r.subject for r in found}) == 80
  assert set(found[0].classes) == {"badminton", "running", "standing", "walking"}
