"""Opens an exported package, be it a folder or the zip of one, and trusts neither."""

from __future__ import annotations

import os
import pathlib
import stat
import tempfile
import zipfile
import zlib
from typing import NamedTuple

from behavejax.errors import InputError
from behavejax.export import manifest
from behavejax.export.manifest import Preprocess

_LARGEST_ZIP = 1 << 30  # bytes, unpacked
_MOST_FILES = 1000
_DAMAGE = (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


class Bundle(NamedTuple):
  """An opened package.

  Attributes:
    folder: where its files lie, all of them checked.
    preprocess: the content of `preprocess.json`.
    temporary: holds the files of a zip for as long as the bundle lives.
  """

  folder: pathlib.Path
  preprocess: Preprocess
  temporary: tempfile.TemporaryDirectory | None


def open_bundle(path: str | os.PathLike) -> Bundle:
  """Opens and checks a package.

  A zip holds the files at its top or in one folder; only files that `preprocess.json` lists are unpacked, into a
  temporary folder.

  Raises:
    InputError: no package, or one that is damaged, incomplete or changed.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    return Bundle(path, Preprocess.load(path), None)
  if not path.is_file():
    raise InputError(f"no package at {path}; expected the folder that the export wrote, or the zip of it")
  temporary = tempfile.TemporaryDirectory(prefix="behavejax-")
  try:
    _unpack(path, pathlib.Path(temporary.name))
    return Bundle(pathlib.Path(temporary.name), Preprocess.load(temporary.name), temporary)
  except BaseException:
    temporary.cleanup()
    raise


def _unpack(path: pathlib.Path, folder: pathlib.Path) -> None:
  try:
    with zipfile.ZipFile(path) as file:
      entries, prefix = _entries(path, file)
      _copy(file, entries, prefix + manifest.NAME, folder / manifest.NAME)
      listed = manifest.parse(manifest.read_limited(folder / manifest.NAME), f"{manifest.NAME} in {path}").files
      for name in {*listed, manifest.HEF}:
        if prefix + name in entries:
          target = folder / name
          target.parent.mkdir(parents=True, exist_ok=True)
          _copy(file, entries, prefix + name, target)
  except InputError:
    raise
  except _DAMAGE as error:
    raise InputError(f"{path} is damaged or no zip: {error}") from error


def _entries(path: pathlib.Path, file: zipfile.ZipFile) -> tuple[dict[str, zipfile.ZipInfo], str]:
  """Files of the zip by name, and what stands before their names in the package."""
  infos = [info for info in file.infolist() if not info.is_dir()]
  if len(infos) > _MOST_FILES:
    raise InputError(f"{path} holds {len(infos)} files, more than the {_MOST_FILES} of any package")
  size = sum(info.file_size for info in infos)
  if size > _LARGEST_ZIP:
    raise InputError(f"{path} unpacks to {size >> 20} MiB, more than the {_LARGEST_ZIP >> 20} MiB of any package")
  for info in infos:
    manifest.safe_name(info.filename)
    if stat.S_ISLNK(info.external_attr >> 16):
      raise InputError(f"{path}: {info.filename} is a link, expected a file")
  entries = {info.filename: info for info in infos}
  if len(entries) != len(infos):
    raise InputError(f"{path} holds two files of one name")
  places = [name for name in entries if name.split("/")[-1] == manifest.NAME and name.count("/") <= 1]
  if len(places) != 1:
    raise InputError(f"{path} holds {len(places)} {manifest.NAME}, expected one, at its top or in one folder")
  return entries, places[0].removesuffix(manifest.NAME)


def _copy(file: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], name: str, target: pathlib.Path) -> None:
  """Unpacks one file; `zipfile` stops at the size that the zip states and compares the checksum."""
  with file.open(entries[name]) as source, target.open("wb") as sink:
    while piece := source.read(1 << 20):
      sink.write(piece)
