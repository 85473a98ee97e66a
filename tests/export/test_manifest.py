"""`preprocess.json`: read as written, and refused in one line for whatever was done to it or its files."""

import contextlib
import dataclasses
import json
import os

import pytest

from behavejax.errors import InputError
from behavejax.export import manifest
from behavejax.export.manifest import Preprocess
from tests.export import packages


@pytest.fixture
def package(tmp_path):
  return tmp_path / "package", packages.make(tmp_path / "package", hsmm=True)


def edited(folder, change):
  """Rewrites preprocess.json with a right digest of its own."""
  content = json.loads((folder / manifest.NAME).read_text())
  change(content)
  content.pop("sha256", None)
  content["sha256"] = manifest._digest(content)
  (folder / manifest.NAME).write_text(json.dumps(content))


def refused(folder, *words):
  with pytest.raises(InputError) as error:
    Preprocess.load(folder)
  assert "\n" not in str(error.value)
  for word in words:
    assert word in str(error.value)


def test_reads_what_it_wrote(package):
  folder, saved = package
  assert Preprocess.load(folder) == saved
  assert set(saved.files) == {"model.onnx", "hsmm.npz"}
  content = json.loads((folder / manifest.NAME).read_text())
  assert content["format"] == "behavejax-edge-1"
  assert content["model"]["shape"] == [1, 2, 20, 9]
  assert set(content) == {f.name for f in dataclasses.fields(Preprocess)} | {"format", "sha256"}
  assert sorted(p.name for p in folder.iterdir()) == ["hsmm.npz", "model.onnx", "preprocess.json"]


def test_flipped_bytes_of_the_manifest_are_seen_or_harmless(package):
  """A flip among blanks changes nothing that counts."""
  folder, saved = package
  path = folder / manifest.NAME
  data = path.read_bytes()
  harmless = 0
  for i in range(0, len(data), 3):
    flipped = bytearray(data)
    flipped[i] ^= 1 << (i % 7)
    path.write_bytes(flipped)
    with contextlib.suppress(InputError):
      assert manifest.parse(path.read_bytes(), "preprocess.json") == saved
      harmless += 1
  assert harmless < 0.02 * len(data)


def test_flipped_byte_of_a_file(package):
  folder, _ = package
  data = bytearray((folder / "model.onnx").read_bytes())
  data[len(data) // 2] ^= 1
  (folder / "model.onnx").write_bytes(data)
  refused(folder, "model.onnx is not the file", "SHA-256")


def test_missing_file_and_missing_manifest(package, tmp_path):
  folder, _ = package
  (folder / "hsmm.npz").unlink()
  refused(folder, "lacks hsmm.npz")
  refused(tmp_path / "nowhere", "preprocess.json", "cannot be read")
  with pytest.raises(InputError, match="lacks gone"):
    packages.preprocess().save(folder, ["gone"])


def test_manifest_of_another_model(package, tmp_path):
  folder, _ = package
  packages.make(tmp_path / "other", hsmm=True, seed=1)
  os.replace(tmp_path / "other" / manifest.NAME, folder / manifest.NAME)
  refused(folder, "damaged or of another model")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", '{"format": 1}', "[" * 100_000, '{"a": 1, "a": 2}'])
def test_damaged_json(package, text):
  folder, _ = package
  (folder / manifest.NAME).write_text(text)
  refused(folder, "preprocess.json")


def test_huge_manifest(package):
  folder, _ = package
  with (folder / manifest.NAME).open("wb") as file:
    file.truncate(manifest._LARGEST_JSON + 1)
  refused(folder, "larger than 16 MiB")


@pytest.mark.parametrize(
  ("change", "words"),
  [
    (lambda c: c.update(format="behavejax-edge-2"), ("format is 'behavejax-edge-2'", "'behavejax-edge-1'")),
    (lambda c: c.pop("std"), ("std is missing",)),
    (lambda c: c.update(stdd=[1]), ("stdd is not known",)),
    (lambda c: c.update(rate_hz="50"), ("rate_hz must be a finite number, got '50'",)),
    (lambda c: c.update(rate_hz=0), ("rate_hz is 0.0, expected above 0",)),
    (lambda c: c.update(window=40.0), ("window must be a whole number",)),
    (lambda c: c.update(window=True), ("window must be a whole number",)),
    (lambda c: c.update(rows=3), ("rows is 3",)),
    (lambda c: c.update(window=41), ("window is 41",)),
    (lambda c: c.update(stride=0), ("stride is 0",)),
    (lambda c: c.update(channels=["a", "a", "b"]), ("channels", "different names")),
    (lambda c: c.update(mean=[0.0]), ("entries of mean is 1, expected 3",)),
    (lambda c: c["std"].__setitem__(1, 0.0), ("std", "above 0")),
    (lambda c: c["repair"].update(strategy="guess"), ("repair.strategy is 'guess'", "interpolate")),
    (lambda c: c["repair"].update(fill=[0.0]), ("repair.fill",)),
    (lambda c: c["repair"].update(clip=-1.0), ("repair.clip",)),
    (lambda c: c.update(repair=[]), ("repair must be an object",)),
    (lambda c: c.update(labels="rest"), ("labels must be a list",)),
    (lambda c: c.update(labels=["rest", "walk"]), ("model.outputs.logits",)),
    (lambda c: c["input_scale"].append(1.0), ("entries of input_scale is 10, expected 9",)),
    (lambda c: c["model"].update(shape=[1, 2, 20, 3]), ("model.shape", "(1, 2, 20, 9)")),
    (lambda c: c["model"]["outputs"].pop("codes"), ("'codes' among them",)),
    (lambda c: c["model"]["outputs"].update(codes=[1, 2, 5]), ("[1, row, token, digit]",)),
    (lambda c: c["quantizer"].update(levels=[8, 6]), ("quantizer.levels",)),
    (lambda c: c["quantizer"].update(num_codes=241), ("quantizer.num_codes is 241, expected 240",)),
    (lambda c: c["quantizer"].update(token_stride=9), ("quantizer.token_stride is 9",)),
    (lambda c: c["quantizer"].update(name="pq"), ("quantizer.name is 'pq'",)),
    (lambda c: c["files"].update({"../model.onnx": "0" * 64}), ("leads out of the package",)),
    (lambda c: c["files"].update({"/etc/hostname": "0" * 64}), ("leads out of the package",)),
    (lambda c: c["files"].update({"a/../../b": "0" * 64}), ("leads out of the package",)),
    (lambda c: c["files"].update({"c:\\b": "0" * 64}), ("leads out of the package",)),
    (lambda c: c["files"].update({"model.onnx": "1234"}), ("files.model.onnx", "SHA-256")),
  ],
)
def test_values_that_cannot_be(package, change, words):
  folder, _ = package
  edited(folder, change)
  refused(folder, *words)


def test_numbers_that_are_none(package):
  folder, _ = package
  text = (folder / manifest.NAME).read_text()
  (folder / manifest.NAME).write_text(text.replace('"rate_hz": 50.0', '"rate_hz": NaN'))
  refused(folder, "preprocess.json")
  with pytest.raises(InputError, match="mean is"):
    dataclasses.replace(packages.preprocess(), mean=(0.0, float("inf"), 0.0))


def test_link_out_of_the_package(package, tmp_path):
  folder, _ = package
  os.replace(folder / "model.onnx", tmp_path / "elsewhere.onnx")
  (folder / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
  refused(folder, "link that leads out")
