"""The folder of a sweep: whose it is, what was swept in it, and one process at a time."""

import contextlib
import fcntl
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from behavejax import config as config_lib
from behavejax.errors import InputError
from behavejax.training import sweep_space
from behavejax.workdir import write_json


@contextlib.contextmanager
def alone(folder: pathlib.Path) -> Iterator[None]:
  """Makes the folder and keeps other processes out of it; a kill lets go of it."""
  if folder.is_file():
    raise InputError(f"--workdir {folder} is a file")
  names = {path.name for path in folder.iterdir()} if folder.exists() else set()
  if names - {"sweep.lock"} and "sweep.json" not in names:
    raise InputError(f"--workdir {folder} is not empty and holds no sweep.json of a sweep; choose another")
  folder.mkdir(parents=True, exist_ok=True)
  with (folder / "sweep.lock").open("a") as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise InputError(f"another process runs the sweep in {folder}") from error
    yield


def start(folder: pathlib.Path, record: dict[str, Any]) -> None:
  """Writes `sweep.json`, or checks that the folder holds the same sweep."""
  file = folder / "sweep.json"
  if not file.exists():
    write_json(file, record)
    return
  try:
    found = json.loads(file.read_text())
    found["config"] = config_lib.to_dict(config_lib.resolve(found["config"]))
    old = _flat(found)
  except (json.JSONDecodeError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
    raise InputError(f"{file} is damaged: {error}") from error
  new = _flat(record)
  differing = [
    f"{key} is {_quoted(new, key)} here and {_quoted(old, key)} there"
    for key in sorted(old.keys() | new.keys())
    if old.get(key) != new.get(key)
  ]
  if differing:
    more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
    raise InputError(f"{folder} holds another sweep: {'; '.join(differing[:3])}{more}; choose another --workdir")


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
  """Config keys, space keys, objective and direction, as JSON gives them back."""
  plain = json.loads(json.dumps({name: record[name] for name in ("config", "space", "objective", "direction")}))
  config = {f"config.{key}": value for key, value in sweep_space.settings(plain.pop("config"))}
  return config | {f"space.{key}": value for key, value in plain.pop("space").items()} | plain


def _quoted(values: Mapping[str, Any], key: str) -> str:
  return json.dumps(values[key]) if key in values else "absent"
