"""Packages as zips: read like their folders, and unpacked nowhere but in a temporary folder."""

import os
import stat
import zipfile

import pytest

from behavejax.errors import InputError
from behavejax.export import bundle
from tests.export import packages


@pytest.fixture
def package(tmp_path):
  return tmp_path / "package", packages.make(tmp_path / "package", hsmm=True)


def zipped(folder, path, *, prefix="", extra=()):
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
    for member in folder.iterdir():
      file.write(member, prefix + member.name)
    for name, data in extra:
      file.writestr(name, data)
  return path


@pytest.mark.parametrize("prefix", ["", "export/"])
def test_zip_of_a_package(package, tmp_path, prefix):
  folder, saved = package
  path = zipped(folder, tmp_path / "package.zip", prefix=prefix, extra=[("notes/README.md", "not unpacked")])
  opened = bundle.open_bundle(path)
  assert opened.preprocess == saved
  assert sorted(p.name for p in opened.folder.iterdir()) == ["hsmm.npz", "model.onnx", "preprocess.json"]
  unpacked = opened.folder
  opened.temporary.cleanup()
  assert not unpacked.exists()
  assert bundle.open_bundle(folder) == (folder, saved, None)


def test_zips_that_are_none_or_evil(package, tmp_path, monkeypatch):
  folder, _ = package
  made = []
  create = bundle.tempfile.TemporaryDirectory
  monkeypatch.setattr(bundle.tempfile, "TemporaryDirectory", lambda **kw: made.append(create(dir=tmp_path)) or made[-1])
  link = zipfile.ZipInfo("link")
  link.external_attr = (stat.S_IFLNK | 0o777) << 16
  cases = [
    ([("../evil", "x")], "leads out"),
    ([("/evil", "x")], "leads out"),
    ([("a\\..\\evil", "x")], "leads out"),
    ([("other/preprocess.json", "{}")], "2 preprocess.json"),
    ([(link, "/etc/hostname")], "is a link"),
    ([(f"{i}", "") for i in range(1001)], "more than the 1000"),
  ]
  for extra, words in cases:
    with pytest.raises(InputError, match=words):
      bundle.open_bundle(zipped(folder, tmp_path / "evil.zip", extra=extra))
  whole = zipped(folder, tmp_path / "whole.zip").read_bytes()
  for data in (b"", b"PK", whole[: len(whole) // 2], whole[:200] + b"\xff" * 50 + whole[250:]):
    (tmp_path / "damaged.zip").write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
      bundle.open_bundle(tmp_path / "damaged.zip")
  monkeypatch.setattr(bundle, "_LARGEST_ZIP", 1000)
  with pytest.raises(InputError, match="unpacks to"):
    bundle.open_bundle(tmp_path / "whole.zip")
  with pytest.raises(InputError, match="no package at"):
    bundle.open_bundle(tmp_path / "nowhere")
  assert not any(os.path.exists(folder.name) for folder in made)
  assert not (tmp_path / "evil").exists()


def test_entries_that_lie_about_their_size(package, tmp_path):
  """A bomb states a small size; unpacking stops there and the checksum does not fit."""
  folder, _ = package
  path = zipped(folder, tmp_path / "bomb.zip", extra=())
  data = bytearray(path.read_bytes())
  with zipfile.ZipFile(path) as file:
    size = file.getinfo("model.onnx").file_size
  place = data.rfind(size.to_bytes(4, "little"))  # in the central directory
  data[place : place + 4] = (10).to_bytes(4, "little")
  path.write_bytes(data)
  with pytest.raises(InputError):
    bundle.open_bundle(path)
