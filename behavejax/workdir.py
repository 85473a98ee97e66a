"""The folder of a run: fixed names, so that every later command needs `--workdir` and nothing else."""

import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

import behavejax
from behavejax import config as config_lib
from behavejax import config_frames, config_neural
from behavejax.config_checks import SEGMENTING
from behavejax.errors import InputError
from behavejax.types import Variables

_VERSIONS = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "grain", "scikit-learn")
_USERS = {
  "segmentation": {*SEGMENTING, "finetune"},
  "finetune": {"finetune"},
  "qat": {"qat"},
  "codebook": {"codebook"},
  "frames": {*config_frames.STAGES},
  "vqvae": {"vqvae"},
  "neural": {*config_neural.STAGES},
  "vivit": {*config_neural.STAGES},
  "readout": {"readout"},
  "vae": {"vae"},
  "prior": {"prior", "generate"},
  "generate": {"generate"},
}
"""Sections of the config that only some stages use."""


class Workdir:
  """Paths of a run, and reading and writing of its record.

  Attributes:
    path: the folder itself.
  """

  def __init__(self, path: str | os.PathLike):
    self.path = pathlib.Path(path).absolute()

  @property
  def config_file(self) -> pathlib.Path:
    return self.path / "config.json"

  @property
  def normalization_file(self) -> pathlib.Path:
    return self.path / "normalization.npz"

  @property
  def metrics_file(self) -> pathlib.Path:
    return self.path / "metrics.jsonl"

  @property
  def report(self) -> pathlib.Path:
    return self.path / "report"

  def stage(self, name: str) -> pathlib.Path:
    return self.path / "stages" / name

  def check(self, config: config_lib.Config, *, again: Sequence[str] = ()) -> None:
    """Whether a run may start or go on here; changes nothing.

    What was learned must stay true: `evaluation`, `export`, `neural.glm` (a baseline of the report) and the list of
    stages may differ between two runs of one folder, and the settings of stages that have not begun or are run again.

    Args:
      config: of the run.
      again: stages that will be forgotten.

    Raises:
      InputError: the folder holds a run of another config (each differing key is named), or other files.
    """
    if self.config_file.exists():
      found = self.read_config()
      begun = {path.name for path in (self.path / "stages").glob("*")} - set(again)
      unused = [f"{section}." for section, users in _USERS.items() if not users & begun]
      free = ("evaluation.", "export.", "neural.glm.", "stages", *unused) if begun or not again else ("",)
      differing = {
        key: f"config.{key} is {new!r} here and {old!r} there"
        for key, old, new in differences(config_lib.to_dict(found), config_lib.to_dict(config))
        if not key.startswith(free)
      }
      if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise InputError(
          f"{self.path} holds a run of another config: {'; '.join(list(differing.values())[:3])}{more}; "
          f"choose another --workdir{_or_restart(differing, [name for name in config.stages if name in begun])}"
        )
    elif self.path.is_file():
      raise InputError(f"--workdir {self.path} is a file")
    elif self.path.exists() and any(self.path.iterdir()):
      raise InputError(f"--workdir {self.path} is not empty and holds no config.json of a run; choose another")

  def start(self, config: config_lib.Config, *, again: Sequence[str] = ()) -> None:
    """Creates the folder with its `config.json`, or goes on with the run it holds, without the stages in `again`.

    Raises:
      InputError: as `check`.
    """
    self.check(config, again=again)
    for name in again:
      (self.stage(name) / "complete").unlink(missing_ok=True)
      shutil.rmtree(self.stage(name), ignore_errors=True)
    record = {
      "config": config_lib.to_dict(config),
      "behavejax": behavejax.__version__,
      "python": platform.python_version(),
      "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
      "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
      "git": _git_revision(),
    }
    self.path.mkdir(parents=True, exist_ok=True)
    write_json(self.config_file, record)

  def read_config(self) -> config_lib.Config:
    """The config of the run in this folder; `InputError` if there is none or it cannot be read."""
    if not self.config_file.exists():
      raise InputError(f"--workdir {self.path} holds no run: {self.config_file.name} is missing")
    try:
      return config_lib.resolve(json.loads(self.config_file.read_text())["config"])
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
      raise InputError(f"{self.config_file} is damaged: {error}") from error

  def is_complete(self, stage: str) -> bool:
    return (self.stage(stage) / "complete").exists()

  def write_result(self, stage: str, variables: Variables, summary: dict[str, Any]) -> None:
    """Saves what a stage learned, then marks the stage complete."""
    self.write_part(stage, "result", variables)
    if jax.process_index() == 0:
      write_json(self.stage(stage) / "complete", summary)

  def write_part(self, stage: str, part: str, variables: Variables) -> None:
    """Saves something that a stage learned beside its result."""
    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(self.stage(stage) / part, variables, force=True)

  def read_result(self, stage: str, like: Variables, *, part: str = "result") -> Variables:
    """What a complete stage learned, or a part of it, with the structure and shapes of `like`.

    Raises:
      InputError: the stage is not complete, or its checkpoint does not fit the config.
    """
    if not self.is_complete(stage):
      raise InputError(f"stage {stage!r} of {self.path} is not complete; repeat the training command to finish it")
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])  # wherever it was trained

    def here(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
      return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)

    with ocp.StandardCheckpointer() as checkpointer:
      try:
        return checkpointer.restore(self.stage(stage) / part, jax.tree.map(here, jax.eval_shape(lambda: like)))
      except (ValueError, KeyError, FileNotFoundError) as error:
        raise InputError(
          f"the checkpoint of stage {stage!r} in {self.path} does not fit its config.json: {first_line(error)}"
        ) from error


def read_metrics(path: pathlib.Path) -> list[dict[str, float | str]]:
  """Rows of a `metrics.jsonl`; a last line cut short by a kill is left out."""
  rows = []
  if path.exists():
    for line in path.read_text().splitlines():
      try:
        rows.append(json.loads(line))
      except json.JSONDecodeError:
        break
  return rows


def first_line(error: BaseException) -> str:
  """The first line of what an exception says."""
  return (str(error).strip().splitlines() or [type(error).__name__])[0]


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes JSON to a temporary name, then renames: a reader sees all of it or none."""
  temporary = path.with_name(f".{path.name}.tmp")
  temporary.write_text(json.dumps(value, indent=2, default=_plain) + "\n")
  os.replace(temporary, path)


def write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes named arrays as `.npz`, under a temporary name first."""
  temporary = path.with_name(f".{path.name}.tmp")
  with temporary.open("wb") as file:
    np.savez(file, **arrays)
  os.replace(temporary, path)


def _plain(value: Any) -> Any:
  return value.tolist() if isinstance(value, np.ndarray | np.generic | jax.Array) else str(value)


def _or_restart(keys: Iterable[str], begun: Sequence[str]) -> str:
  """The earliest stage that uses the settings, if all of them are of some stages only."""
  users = [_USERS.get(key.split(".")[0]) for key in keys]
  first = next((name for name in begun if any(name in own for own in users if own)), None)
  return f" or launch/train.py --restart_from={first}" if first and all(users) else ""


def differences(old: Any, new: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
  """Dotted keys under which two nested dictionaries differ, with both values."""
  if isinstance(old, dict):
    return [
      row
      for key in old
      for row in differences(old[key], new.get(key), f"{prefix}.{key}" if prefix else key)
    ]  # fmt: skip
  old, new = (list(v) if isinstance(v, tuple) else v for v in (old, new))
  return [] if old == new else [(prefix, old, new)]


def _git_revision() -> str:
  folder = pathlib.Path(__file__).parent
  try:
    answer = subprocess.run(
      ["git", "describe", "--always", "--dirty"], cwd=folder, capture_output=True, text=True, check=True, timeout=10
    )
  except (OSError, subprocess.SubprocessError):
    return ""
  return answer.stdout.strip()
