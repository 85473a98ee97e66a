"""Ablations: each switch changes the default, and what cannot be compared is refused."""

import importlib.util
import pathlib

import numpy as np
import pytest

from behavejax import config as config_lib
from behavejax.errors import InputError
from behavejax.evaluation.neural_ablation import Variant
from behavejax.training import ablation, sweep_space

ROOT = pathlib.Path(__file__).parent.parent.parent


def config_of(**changes):
  spec = importlib.util.spec_from_file_location("vivit", ROOT / "configs" / "vivit.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return sweep_space.override(config_lib.resolve(module.get_config("simulated")), changes)


def test_every_version_is_trained_and_reported(monkeypatch, tmp_path):
  seen = {}

  def train(name, config, folder):
    seen[name] = (config, folder)
    return Variant(name, np.array([1.0, 0.5, np.nan]) - 0.1 * (name != "whole"), 10, 1.0)

  monkeypatch.setattr(ablation, "_variant", train)
  values = ablation.run(config_of(), tmp_path / "ablation")
  assert list(seen) == ["whole", *ablation.SWITCHES]
  assert len({config for config, _ in seen.values()}) == len(seen)
  assert len({folder for _, folder in seen.values()}) == len(seen)
  assert values["no registers/change"] == pytest.approx(-0.1)
  assert (tmp_path / "ablation" / "report" / "ablation.html").exists()


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"vivit.registers": 0}, "no registers already (config.vivit.registers=0)"),
    ({"vivit.core": "conv3d"}, "core=vivit"),
    ({"stages": ["encoder"]}, "config.stages=('vivit',)"),
  ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, changes, words):
  with pytest.raises(InputError) as caught:
    ablation.run(config_of(**changes), tmp_path / "none")
  assert words in str(caught.value)
  assert not (tmp_path / "none").exists()
