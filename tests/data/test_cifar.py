"""CIFAR-10 batches as Python 2 pickled them, byte by byte; and files that ask for more."""

import pickle
import pickletools
import struct

import numpy as np
import pytest

from behavejax.data.cifar import read_cifar10, read_plain_pickle
from behavejax.errors import InputError

RNG = np.random.default_rng(0)


def short(text):
  return b"U" + bytes([len(text)]) + text.encode("latin-1")


def batch(data, labels, *, kind=b"u1", fortran=b"\x89"):
  """What cPickle of Python 2 wrote with protocol 2: 'batch_label', 'labels', 'data', 'filenames'."""
  count, width = data.shape
  content = data.tobytes()
  array = (
    b"cnumpy.core.multiarray\n_reconstruct\nq\x06cnumpy\nndarray\nq\x07K\x00\x85U\x01b\x87Rq\x08"
    b"(K\x01" + b"M" + struct.pack("<H", count) + b"M" + struct.pack("<H", width) + b"\x86"
    b"cnumpy\ndtype\nq\x09U" + bytes([len(kind)]) + kind + b"K\x00K\x01\x87Rq\x0a"
    b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb" + fortran
    + b"T" + struct.pack("<i", len(content)) + content + b"tb"
  )  # fmt: skip
  numbers = b"]q\x05(" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
  names = b"]q\x0b(" + b"".join(short(f"image_{i}.png") for i in range(count)) + b"e"
  return (
    b"\x80\x02}q\x01(" + short("batch_label") + b"q\x02" + short("training batch 1 of 5") + b"q\x03"
    + short("labels") + b"q\x04" + numbers + short("data") + array + short("filenames") + names + b"u."
  )  # fmt: skip


META = (
  b"\x80\x02}q\x01(" + short("num_cases_per_batch") + b"M\x10'" + short("label_names") + b"]q\x02("
  + b"".join(short(name) for name in ("airplane", "automobile", "bird")) + b"e" + short("num_vis") + b"M\x00\x0cu."
)  # fmt: skip


def write(folder, *, batches=2, count=4):
  images = RNG.integers(0, 256, ((batches + 1) * count, 3072), np.uint8)
  labels = RNG.integers(0, 3, len(images))
  for i, name in enumerate([*(f"data_batch_{i + 1}" for i in range(batches)), "test_batch"]):
    part = slice(i * count, (i + 1) * count)
    (folder / name).write_bytes(batch(images[part], labels[part]))
  (folder / "batches.meta").write_bytes(META)
  return images, labels


def test_the_bytes_are_a_pickle_as_published(tmp_path):
  """What is written here is what the real unpickler reads too."""
  data = RNG.integers(0, 256, (2, 3072), np.uint8)
  content = batch(data, [1, 2])
  pickletools.dis(content, out=(tmp_path / "listing").open("w"))
  found = pickle.loads(content, encoding="latin1")
  np.testing.assert_array_equal(found["data"], data)
  (tmp_path / "b").write_bytes(content)
  own = read_plain_pickle(tmp_path / "b")
  assert {key: value for key, value in own.items() if key != "data"} == {k: v for k, v in found.items() if k != "data"}
  np.testing.assert_array_equal(own["data"], data)


def test_batches_and_their_split(tmp_path):
  images, labels = write(tmp_path)
  found = read_cifar10(tmp_path)
  assert found.steps.shape == (12, 32, 32, 3)
  assert found.steps.flags.c_contiguous
  assert found.classes == ("airplane", "automobile", "bird")
  assert found.labels.tolist() == labels.tolist()
  assert found.split.tolist() == [-1] * 8 + [2] * 4
  for row, column, channel in ((0, 0, 0), (3, 31, 1), (17, 4, 2)):
    np.testing.assert_array_equal(
      found.steps[:, row, column, channel], images[:, channel * 1024 + row * 32 + column]
    )  # fmt: skip


def test_python_3_writes_the_same_in_other_operations(tmp_path):
  data = RNG.integers(0, 256, (2, 3072), np.uint8)
  (tmp_path / "test_batch").write_bytes(pickle.dumps({"data": data, "labels": [1, 2]}, protocol=3))
  found = read_cifar10(tmp_path)
  assert found.labels.tolist() == [1, 2]
  assert found.split.tolist() == [-1, -1]  # nothing else to learn from
  (tmp_path / "test_batch").write_bytes(pickle.dumps({"data": data, "labels": [1, 2]}, protocol=4))
  with pytest.raises(InputError, match="asks for STACK_GLOBAL, which no batch of CIFAR-10 does: it is refused"):
    read_cifar10(tmp_path)


class Evil:
  def __reduce__(self):
    return print, ("this must not be seen",)


def test_nothing_is_called(tmp_path, capsys):
  path = tmp_path / "data_batch_1"
  for content in (
    pickle.dumps({"data": Evil(), "labels": []}, protocol=2),
    pickle.dumps({"data": Evil(), "labels": []}, protocol=0),
    pickle.dumps({"data": Evil(), "labels": []}),
    b"cos\nsystem\n(U\x04echot R.",
    b"\x80\x02c__builtin__\neval\nU\x011\x85R.",
    b"\x80\x02}U\x04datacnumpy\ndtype\nU\x02O8\x85Rs.",
    b"\x80\x02}U\x04datacnumpy\nndarray\nK\x01\x85Rs.",
    pickle.dumps({"data": np.array([Evil()], dtype=object), "labels": [0]}, protocol=2),
  ):
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"refused|is damaged or no batch") as caught:
      read_cifar10(tmp_path)
    assert "\n" not in str(caught.value)
  assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "is damaged or no batch of CIFAR-10"),
    (b"junk", "is damaged or no batch of CIFAR-10"),
    (batch(np.zeros((2, 3072), np.uint8), [1, 2])[:-40], "is damaged or no batch of CIFAR-10"),
    (batch(np.zeros((2, 300), np.uint8), [1, 2]), "holds no images of CIFAR-10"),
    (batch(np.zeros((2, 3072), np.uint8), [1]), "'labels' must be a list of 2 numbers"),
    (batch(np.zeros((2, 3072), np.uint8), [1, 2], fortran=b"\x88"), "not of bytes in rows"),
    (batch(np.zeros((2, 3072), np.uint8), [1, 2], kind=b"i8"), "an object of dtype"),
    (b"\x80\x02]q\x01.", "a list where a dict was expected"),
  ],
)
def test_wrong_files_are_named(tmp_path, content, message):
  (tmp_path / "data_batch_1").write_bytes(content)
  with pytest.raises(InputError, match=message):
    read_cifar10(tmp_path)


def test_damage_anywhere_is_one_line(tmp_path):
  content = batch(np.zeros((1, 3072), np.uint8), [1])
  header = [i for i in range(len(content)) if content[i]]
  for place in header:
    for value in (0, 0x52, 0xFF):
      (tmp_path / "data_batch_1").write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
      try:
        read_cifar10(tmp_path)
      except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_folders_and_labels(tmp_path):
  with pytest.raises(InputError, match="holds no data_batch_"):
    read_cifar10(tmp_path)
  (tmp_path / "batches.meta").write_bytes(META)
  (tmp_path / "data_batch_1").write_bytes(batch(np.zeros((1, 3072), np.uint8), [3]))
  with pytest.raises(InputError, match="label 3, but only 3 classes"):
    read_cifar10(tmp_path)
