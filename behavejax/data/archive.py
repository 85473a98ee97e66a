"""A data set as its authors packed it: a folder, or the zip of one, read in place."""

import pathlib
import warnings
import zipfile
import zlib

import numpy as np
from jaxtyping import Float

from behavejax.errors import InputError

_DAMAGE = (KeyError, OSError, EOFError, RuntimeError, UnicodeDecodeError, zipfile.BadZipFile, zlib.error)


class Folder:
  """Text files below one folder."""

  def __init__(self, folder: pathlib.Path):
    self.where = str(folder)
    self._folder = folder

  def names(self) -> list[str]:
    """All files, relative to the folder, sorted."""
    return sorted(path.relative_to(self._folder).as_posix() for path in self._folder.rglob("*") if path.is_file())

  def read(self, name: str) -> str:
    try:
      return (self._folder / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
      raise InputError(f"{self._folder / name} cannot be read: {error}") from error


class Zip:
  """The same inside a zip, below `prefix`."""

  def __init__(self, path: pathlib.Path, prefix: str):
    self.where = str(path)
    self._prefix = prefix
    self._file = zipfile.ZipFile(path)

  def names(self) -> list[str]:
    """All files, relative to the prefix, sorted."""
    inside = (name for name in self._file.namelist() if name.startswith(self._prefix) and not name.endswith("/"))
    return sorted(name.removeprefix(self._prefix) for name in inside)

  def read(self, name: str) -> str:
    try:
      return self._file.read(self._prefix + name).decode("utf-8")
    except _DAMAGE as error:
      raise InputError(f"{self.where}: {name} is missing or damaged: {error}") from error


def find(root: pathlib.Path, holds: str) -> Folder | Zip:
  """The folder at or below `root`, else the first zip in `root`, that holds the folder `holds`.

  `root` may also be the zip itself.

  Raises:
    InputError: no such root, nothing found in it, or only damaged zips.
  """
  if not root.exists():
    raise InputError(
      f"no data folder {root}, where {holds}/ was looked for in a folder or a zip; set config.data.root or the "
      "environment variable BEHAVEJAX_DATA to where the data lie"
    )
  if root.is_dir():
    children = sorted(path for path in root.iterdir() if path.is_dir())
    for folder in (root, *children):
      if (folder / holds).is_dir():
        return Folder(folder)
    for place in sorted(root.rglob(holds)):
      if place.is_dir():
        return Folder(place.parents[holds.count("/")])
  damaged = []
  for path in sorted(root.glob("*.zip")) if root.is_dir() else [root]:
    try:
      with zipfile.ZipFile(path) as file:
        names = [f"/{name}" for name in file.namelist() if not name.startswith("__MACOSX/")]
    except (zipfile.BadZipFile, OSError) as error:
      damaged.append(f"{path.name} is damaged or cut short ({error})")
      continue
    for name in names:
      before, found, _ = name.partition(f"/{holds}/")
      if found:
        return Zip(path, f"{before}/".removeprefix("/"))
  raise InputError(
    f"{root} holds neither a folder with {holds}/ nor a zip with one{''.join(f': {d}' for d in damaged)}"
  )


def numbers(source: pathlib.Path | str, where: str, *, columns: int) -> Float[np.ndarray, "row column"]:
  """Rows of numbers separated by blanks, from a file's path or from its text.

  Raises:
    InputError: unreadable, empty, not numeric, or another number of columns.
  """
  try:
    with warnings.catch_warnings(action="ignore"):  # that a file is empty is an error below
      values = np.loadtxt(source.splitlines() if isinstance(source, str) else source, ndmin=2)
  except (OSError, ValueError) as error:
    raise InputError(f"{where}: {error}") from error
  if values.size == 0:
    raise InputError(f"{where} is empty")
  if values.shape[1] != columns:
    raise InputError(f"{where}: {values.shape[1]} columns, expected {columns}")
  return values


def class_names(text: str, where: str) -> tuple[str, ...]:
  """`activity_labels.txt`, a number from 1 and a name per line, as lower-case names in order."""
  words = [line.split() for line in text.splitlines() if line.strip()]
  try:
    numbered = {int(number): name.lower() for number, name in words}
  except ValueError as error:
    raise InputError(f"{where}: expected a number and a name per line ({error})") from error
  if not numbered or sorted(numbered) != list(range(1, len(numbered) + 1)):
    raise InputError(f"{where} must number the activities from 1, got {sorted(numbered)}")
  return tuple(numbered[i] for i in sorted(numbered))
