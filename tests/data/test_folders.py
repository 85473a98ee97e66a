"""Which files of a folder are read, and what is said of broken ones."""

import pytest

from behavejax.data import folders
from behavejax.errors import InputError


def tree(folder, *names):
  for name in names:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()
  return folder


def listed(folder):
  return folders.list_folder(folder, (".png", ".jpg"), what="image")


def test_subfolders_are_classes(tmp_path):
  found = listed(tree(tmp_path, "b/2.png", "a/deep/1.JPG", "top.png", "a/.hidden.png", ".cache/x.png", "a/notes.txt"))
  assert found.names == ("a/deep/1.JPG", "b/2.png", "top.png")
  assert found.classes == ("a", "b")
  assert found.labels.tolist() == [0, 1, -1]
  assert found.split.tolist() == [-1, -1, -1]
  assert found.only([1]).names == ("b/2.png",)
  assert found.only([1]).labels.tolist() == [1]


def test_folders_named_like_splits_are_splits(tmp_path):
  found = listed(tree(tmp_path, "train/cat/1.png", "test/dog/2.png", "train/3.png"))
  assert dict(zip(found.names, found.split.tolist(), strict=True)) == {
    "train/cat/1.png": 0, "train/3.png": 0, "test/dog/2.png": 2,
  }  # fmt: skip
  assert found.classes == ("cat", "dog")


def test_one_other_folder_makes_them_classes(tmp_path):
  found = listed(tree(tmp_path, "train/1.png", "test/2.png", "car/3.png"))
  assert found.classes == ("car", "test", "train")
  assert set(found.split) == {-1}


def test_folders_and_lost_links_with_such_names(tmp_path):
  tree(tmp_path, "a.png/1.png")
  (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
  assert listed(tmp_path).names == ("a.png/1.png", "lost.png")  # a lost link is a broken file, to be told of


def test_nothing_to_read(tmp_path):
  with pytest.raises(InputError, match=r"holds no image \(.png, .jpg\)"):
    listed(tree(tmp_path, "notes.txt"))
  with pytest.raises(InputError, match="is no folder of images"):
    listed(tmp_path / "notes.txt")


def test_broken_files_are_fatal_or_left_out(tmp_path):
  listing = listed(tree(tmp_path, *(f"{i}.png" for i in range(6))))
  why = ["", "bad", "", "worse", "worst", "dreadful"]
  with pytest.raises(InputError) as caught:
    folders.set_broken_aside(listing, why, skip=False, what="image")
  assert str(caught.value) == (
    f"{tmp_path / '1.png'} cannot be read: bad (and 3 more); config.frames.on_broken=skip leaves such images out"
  )
  kept, (line,) = folders.set_broken_aside(listing, why, skip=True, what="image")
  assert kept == [0, 2]
  assert line == ("4 of 6 images cannot be read and were left out (1.png: bad; 3.png: worse; 4.png: worst; and 1 more)")
  assert folders.set_broken_aside(listing, [""] * 6, skip=False, what="image") == (list(range(6)), [])
  with pytest.raises(InputError, match="none of 6 images can be read"):
    folders.set_broken_aside(listing, ["bad"] * 6, skip=True, what="image")


def test_reasons_are_one_line():
  assert folders.reason(ValueError("a\nb")) == "a"
  assert folders.reason(EOFError()) == "EOFError"
