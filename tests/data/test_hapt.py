"""HAPT from a folder, from a zip, and the published one where it is at hand."""

import os
import pathlib
import zipfile

import numpy as np
import pytest

from behavejax.config import DataConfig
from behavejax.data import hapt, sources
from behavejax.errors import InputError
from tests.data.layouts import hapt_files, write_hapt


@pytest.fixture(params=["inside/data", "data.zip", "deep/er/still/data"])
def root(request, tmp_path):
  write_hapt(tmp_path / request.param)
  return tmp_path


def test_signal_labels_and_names(root):
  recordings = hapt.read_hapt(root)
  assert [r.name for r in recordings] == ["1/exp01", "2/exp02", "3/exp03"]
  first = recordings[0]
  assert first.classes == ("walking", "sitting", "stand_to_sit")
  np.testing.assert_array_equal(first.labels[:101], [0] * 100 + [-1])
  np.testing.assert_array_equal(first.labels[200:400], [2] * 100 + [1] * 100)
  text = hapt_files()["RawData/gyro_exp01_user01.txt"].splitlines()[5].split()
  np.testing.assert_allclose(first.signal[5, 3:], [float(v) for v in text], atol=1e-6)


@pytest.mark.parametrize(
  ("name", "text", "message"),
  [
    ("RawData/labels.txt", "1 1 9 1 10\n", r"activity 9 of experiment 1 has no name"),
    ("RawData/labels.txt", "1 1 one 1 10\n", r"labels.txt"),
    ("RawData/labels.txt", "1 1 1 0 100\n", r"samples 0 to 100 of experiment 1"),
    ("RawData/labels.txt", "1 1 1 90 40\n", r"samples 90 to 40"),
    ("RawData/labels.txt", "1 1 1 50 9999\n", r"samples 50 to 9999 of experiment 1, which has 1 to 600"),
    ("RawData/labels.txt", "", r"labels.txt is empty"),
    ("RawData/gyro_exp01_user01.txt", "1 2 3\n" * 100, r"holds 600 samples, its gyro file 100"),
    ("RawData/acc_exp01_user01.txt", "1 2\n", r"2 columns, expected 3"),
    ("activity_labels.txt", "1 WALKING\n3 SITTING\n", r"must number the activities from 1"),
  ],
)
def test_contradictions_are_named(tmp_path, name, text, message):
  write_hapt(tmp_path / "hapt")
  (tmp_path / "hapt" / name).write_text(text)
  with pytest.raises(InputError, match=message):
    hapt.read_hapt(tmp_path)


def test_damage_inside_a_zip_is_named(tmp_path):
  path = tmp_path / "hapt.zip"
  write_hapt(path)
  data = bytearray(path.read_bytes())
  place = data.find(b"RawData/acc_exp02") + 60
  data[place : place + 200] = bytes(200)
  path.write_bytes(data)
  with pytest.raises(InputError, match=r"acc_exp02_user02.txt is missing or damaged"):
    hapt.read_hapt(tmp_path)


def test_zip_packed_on_a_mac_and_named_itself(tmp_path):
  write_hapt(tmp_path / "hapt.zip")
  with zipfile.ZipFile(tmp_path / "hapt.zip", "a") as file:
    file.writestr("__MACOSX/RawData/._acc_exp01_user01.txt", "junk")
  assert len(hapt.read_hapt(tmp_path / "hapt.zip")) == 3


def test_zip_cut_short(tmp_path):
  write_hapt(tmp_path / "hapt.zip")
  whole = (tmp_path / "hapt.zip").read_bytes()
  for share in (0.0, 0.3, 0.99):
    (tmp_path / "hapt.zip").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r"hapt.zip is damaged or cut short"):
      hapt.read_hapt(tmp_path)


def test_recording_of_one_sample(tmp_path):
  write_hapt(tmp_path / "hapt", subjects=(4,))
  for name, text in (("acc_exp01_user04", "1 2 3\n"), ("gyro_exp01_user04", "4 5 6\n"), ("labels", "1 4 2 1 1\n")):
    (tmp_path / "hapt" / "RawData" / f"{name}.txt").write_text(text)
  (found,) = hapt.read_hapt(tmp_path)
  np.testing.assert_array_equal(found.signal, [[1, 2, 3, 4, 5, 6]])
  assert found.labels.tolist() == [1]


def test_nothing_there(tmp_path):
  with pytest.raises(InputError, match=r"neither a folder with RawData/ nor a zip"):
    hapt.read_hapt(tmp_path)
  with pytest.raises(
    InputError, match=r"no data folder .*gone, where RawData/ was looked for.*config.data.root or .*BEHAVEJAX_DATA"
  ):
    hapt.read_hapt(tmp_path / "gone")


def test_published_recordings():
  root = os.environ.get("BEHAVEJAX_DATA")
  if not root or not list(pathlib.Path(root).glob("*hapt*.zip")):
    pytest.skip("BEHAVEJAX_DATA holds no HAPT zip")
  recordings = sources.load(DataConfig(name="hapt"), 0)
  assert len(recordings) == 42
  assert len({r.subject for r in recordings}) == 21
  assert len(recordings[0].classes) == 12
  labels = np.concatenate([r.labels for r in recordings])
  assert np.mean(labels < 0) == pytest.approx(0.27, abs=0.01)
  assert np.isfinite(np.concatenate([r.signal for r in recordings])).all()
