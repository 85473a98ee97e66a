"""Folders of images or videos: which files, of which class and split, and what is done with broken ones."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from behavejax.data.splits import NAMES
from behavejax.errors import InputError

_SHOWN = 3


class Listing(NamedTuple):
  """Files of a folder, in the order of their names.

  Attributes:
    files: paths.
    names: below the folder.
    labels: of each file, -1 where it lies in no subfolder.
    classes: names of the subfolders.
    split: an index into `behavejax.data.splits.NAMES`, -1 where the folder does not say.
  """

  files: tuple[pathlib.Path, ...]
  names: tuple[str, ...]
  labels: Int[np.ndarray, " file"]
  classes: tuple[str, ...]
  split: Int[np.ndarray, " file"]

  def only(self, kept: Sequence[int]) -> "Listing":
    """Some of the files."""
    chosen = list(kept)
    return self._replace(
      files=tuple(self.files[i] for i in chosen),
      names=tuple(self.names[i] for i in chosen),
      labels=self.labels[chosen],
      split=self.split[chosen],
    )


def list_folder(folder: pathlib.Path, suffixes: tuple[str, ...], *, what: str) -> Listing:
  """Files with these suffixes at any depth below a folder; hidden ones are left out.

  The first subfolder gives the class. Where all first subfolders are called `train`, `val` or `test`, they give the
  split, and the subfolders below them the class.

  Raises:
    InputError: no folder, or nothing in it.
  """
  if not folder.is_dir():
    raise InputError(f"{folder} is no folder of {what}s; see config.frames.path")
  files = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes and not path.is_dir())
  found = sorted(path.relative_to(folder) for path in files)
  found = [path for path in found if not any(part.startswith(".") for part in path.parts)]
  if not found:
    raise InputError(f"{folder} holds no {what} ({', '.join(suffixes)})")
  given = all(len(path.parts) > 1 and path.parts[0] in NAMES for path in found)
  split = [NAMES.index(path.parts[0]) if given else -1 for path in found]
  inside = [path.parts[1 if given else 0 : -1] for path in found]
  classes = tuple(sorted({parts[0] for parts in inside if parts}))
  labels = [classes.index(parts[0]) if parts else -1 for parts in inside]
  return Listing(
    tuple(folder / path for path in found), tuple(path.as_posix() for path in found), np.array(labels, np.int32),
    classes, np.array(split),
  )  # fmt: skip


def set_broken_aside(listing: Listing, why: Sequence[str], *, skip: bool, what: str) -> tuple[list[int], list[str]]:
  """Places of the files that can be read, and a line on those that cannot.

  Args:
    listing: of all files.
    why: what is wrong with each file, "" where nothing is.
    skip: whether the others are used all the same.
    what: the files are, "image" or "video".

  Raises:
    InputError: a broken file that may not be skipped, or none that can be read.
  """
  broken = [i for i, reason in enumerate(why) if reason]
  if broken and not skip:
    more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
    raise InputError(
      f"{listing.files[broken[0]]} cannot be read: {why[broken[0]]}{more}; config.frames.on_broken=skip leaves such "
      f"{what}s out"
    )
  if len(broken) == len(why):
    raise InputError(f"none of {len(why)} {what}s can be read; the first, {listing.files[0]}: {why[0]}")
  if not broken:
    return list(range(len(why))), []
  shown = "; ".join(f"{listing.names[i]}: {why[i]}" for i in broken[:_SHOWN])
  more = f"; and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
  kept = [i for i, reason in enumerate(why) if not reason]
  return kept, [f"{len(broken)} of {len(why)} {what}s cannot be read and were left out ({shown}{more})"]


def reason(error: BaseException) -> str:
  """What an exception says, in one line."""
  return (str(error).strip().splitlines() or [type(error).__name__])[0]
