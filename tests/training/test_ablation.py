"""Ablations: each switch changes the default, and what cannot be compared is refused."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from behavejax import config as config_lib
from behavejax.errors import InputError
from behavejax.evaluation.neural_ablation import Variant
from behavejax.models.neural_encoder import DataSet, make_model
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


@pytest.mark.parametrize("switch", ablation.SWITCHES)
def test_every_version_can_be_built_and_saved(switch):
  settings = config_of(**ablation.SWITCHES[switch]).vivit
  model = make_model(settings, [DataSet((32, 32), 2, (0.5, 0.7))])
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  assert all(leaf.size for leaf in jax.tree.leaves(shapes))  # Orbax refuses arrays of size 0
  clips = [jax.ShapeDtypeStruct((1, 8, *shape), np.float32) for shape in ((32, 32, 1), (2,))]
  assert jax.eval_shape(lambda v, *given: model.rates(v, *given, 0), shapes, *clips).shape == (1, 8, 2)


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
