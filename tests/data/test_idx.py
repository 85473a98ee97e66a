"""IDX files written by hand."""

import gzip
import os
import pathlib

import numpy as np
import pytest

from behavejax.data.idx import read_array, read_idx
from behavejax.errors import InputError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 4, 3), np.uint8)
LABELS = np.array([3, 0, 1, 3, 2], np.uint8)


def encoded(array):
  return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write(folder, prefix="t10k", *, images=IMAGES, labels=LABELS, packed=True):
  for name, array in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
    if array is not None:
      path = folder / (f"{name}.gz" if packed else name)
      path.write_bytes(gzip.compress(encoded(array)) if packed else encoded(array))
  return folder


@pytest.mark.parametrize("packed", [True, False])
def test_a_file_or_its_folder(tmp_path, packed):
  write(tmp_path, packed=packed)
  file = next(tmp_path.glob("*images*"))
  for path in (tmp_path, file):
    found = read_idx(path)
    np.testing.assert_array_equal(found.steps[..., 0], IMAGES)
    assert found.labels.tolist() == LABELS.tolist()
    assert found.classes == ("0", "1", "2", "3")
    assert found.split.tolist() == [-1] * 5
    assert found.names[4] == "t10k-images-idx3-ubyte[4]"


def test_published_test_images_are_the_test_split(tmp_path):
  write(tmp_path)
  write(tmp_path, "train", images=IMAGES[:4], labels=LABELS[:4])
  write(tmp_path, "train", images=IMAGES[:4], labels=LABELS[:4], packed=False)  # unpacked beside it: read once
  found = read_idx(tmp_path)
  assert found.split.tolist() == [2] * 5 + [-1] * 4
  np.testing.assert_array_equal(found.steps[5:, ..., 0], IMAGES[:4])


def test_without_labels(tmp_path):
  found = read_idx(write(tmp_path, labels=None))
  assert found.labels.tolist() == [-1] * 5
  assert found.classes == ()


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "begins with nothing, expected 00000803"),
    (b"\x89PNG....", "begins with 89504e47, expected 00000803"),
    (encoded(LABELS), "begins with 00000801"),
    (encoded(IMAGES)[:10], "cut short or holds nothing"),
    (encoded(IMAGES[:0]), "cut short or holds nothing"),
    (encoded(IMAGES)[:-1], "holds 59 bytes of values, its header says 60"),
    (encoded(IMAGES) + b"x", "holds more bytes of values, its header says 60"),
    (bytes([0, 0, 0x0D, 3]) + encoded(IMAGES)[4:], "begins with 00000d03"),
    (bytes([0, 0, 8, 3]) + b"\xff" * 12 + b"abc", "holds 3 bytes of values"),
  ],
)
def test_wrong_files_are_named(tmp_path, content, message):
  path = tmp_path / "train-images-idx3-ubyte"
  path.write_bytes(content)
  with pytest.raises(InputError, match=message) as caught:
    read_idx(path)
  assert str(path) in str(caught.value)


def test_damaged_archives_and_folders(tmp_path):
  path = tmp_path / "train-images-idx3-ubyte.gz"
  with pytest.raises(InputError, match="holds no IDX images"):
    read_idx(tmp_path)
  packed = gzip.compress(encoded(RNG.integers(0, 256, (5, 40, 30), np.uint8)))
  for content in (packed[:200], b"not gzip at all", packed[:50] + b"\0" * 20 + packed[70:]):
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
      read_idx(path)
  write(tmp_path, labels=LABELS[:3])
  with pytest.raises(InputError, match="3 labels for 5 images"):
    read_idx(tmp_path / "t10k-images-idx3-ubyte.gz")
  write(tmp_path)
  write(tmp_path, "train", images=IMAGES[:, :2])
  with pytest.raises(InputError, match="images of different sizes"):
    read_idx(tmp_path)


@pytest.mark.skipif(not os.environ.get("BEHAVEJAX_DATA"), reason="BEHAVEJAX_DATA says where MNIST is")
def test_mnist():
  folder = pathlib.Path(os.environ["BEHAVEJAX_DATA"]) / "mnist"
  if not folder.exists():
    pytest.skip(f"no {folder}")
  found = read_idx(folder)
  assert found.steps.shape == (10_000, 28, 28, 1)
  assert np.bincount(found.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
  assert read_array(folder / "t10k-labels-idx1-ubyte.gz", axes=1)[:4].tolist() == [7, 2, 1, 0]
