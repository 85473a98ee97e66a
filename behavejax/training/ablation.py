"""Trains the video encoder whole and without each of its parts, and reports the difference."""

import json
import os
import pathlib
from typing import Any

import jax

from behavejax.config import Config
from behavejax.errors import InputError
from behavejax.evaluation import neural_ablation
from behavejax.evaluation.neural_ablation import Variant
from behavejax.evaluation.neural_run import restore
from behavejax.training import stages, sweep_space
from behavejax.workdir import Workdir

SWITCHES: dict[str, dict[str, Any]] = {
  "no patch dropout": {"vivit.patch_dropout": 0.0},
  "no registers": {"vivit.registers": 0},
  "not causal": {"vivit.causal": False},
  "no position code": {"vivit.position": "none"},
  "no modulator": {"vivit.modulator": False},
}
"""Versions of a config that lack one part."""


def run(config: Config, folder: str | os.PathLike) -> dict[str, float]:
  """Trains every version in a folder of its own below `folder`, then writes `folder/report`.

  Finished versions are not trained again, and an interrupted one goes on.

  Raises:
    InputError: the config does not train the video encoder, or lacks one of the parts already.
    loop.Stopped: SIGTERM arrived; everything is saved.
  """
  if config.stages != ("vivit",) or config.vivit.core != "vivit":
    raise InputError(
      f"an ablation takes config.stages=('vivit',) and core=vivit, got {config.stages}, {config.vivit.core}"
    )
  versions = {"whole": config}
  for name, changes in SWITCHES.items():
    versions[name] = sweep_space.override(config, changes)
    if versions[name] == config:
      raise InputError(f"the config is {name} already ({', '.join(f'config.{k}={v}' for k, v in changes.items())})")
  folder, variants = pathlib.Path(folder).absolute(), []
  for name, own in versions.items():
    print(f"{name}:", flush=True)
    variants.append(_variant(name, own, folder / name.replace(" ", "_")))
    jax.clear_caches()  # each version compiles its own functions
  return neural_ablation.write_report(folder / "report", variants)


def _variant(name: str, config: Config, folder: pathlib.Path) -> Variant:
  workdir = stages.run(config, folder)
  trained = restore(workdir, config)
  seconds = json.loads((Workdir(folder).stage("vivit") / "complete").read_text())["seconds"]
  count = sum(leaf.size for leaf in jax.tree.leaves(trained.variables["params"]))
  return Variant(name, neural_ablation.bits_of(trained), count, seconds)
