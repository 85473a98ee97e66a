"""A small run with everything an exporter reads, without the training."""

import importlib.util
import pathlib

import jax
import numpy as np

from behavejax.config import Config, resolve
from behavejax.data.prepare import prepare
from behavejax.models.autoencoder import make_model
from behavejax.workdir import Workdir

ROOT = pathlib.Path(__file__).parent.parent.parent
LEVELS = {"even": (8, 6, 4), "odd": (7, 5, 5), "mixed": (8, 5, 3)}


def tiny_config(**changes) -> Config:
  """The tiny configuration of Conv2d-FSQ with sections changed."""
  spec = importlib.util.spec_from_file_location("fsq", ROOT / "configs" / "fsq.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config("tiny").to_dict()
  for section, values in changes.items():
    config[section] = {**config[section], **values} if isinstance(values, dict) else values
  return resolve(config)


def random_variables(model, shape, *, seed=0):
  """Variables as training leaves them: nothing is 0 or 1 by chance of the initial values."""
  rng = np.random.default_rng(seed)
  variables = jax.tree.map(np.asarray, jax.jit(model.init)(jax.random.key(seed), np.zeros((1, *shape), np.float32)))

  def change(path, leaf):
    name = jax.tree_util.keystr(path)
    if "var" in name:
      return rng.uniform(0.3, 1.5, leaf.shape).astype(np.float32)
    if "kernel" in name:
      return leaf
    return (leaf + 0.2 * rng.normal(size=leaf.shape)).astype(np.float32)

  return jax.tree_util.tree_map_with_path(change, variables)


def small_model(config, *, shape=(2, 20, 3), classes=4):
  model = make_model(config, shape=shape, classes=classes)
  return model, random_variables(model, shape)


def write_run(folder, config: Config) -> Workdir:
  """A workdir whose encoder is complete, with the data's normalization."""
  data = prepare(config.data, config.seed)
  model = make_model(config, shape=data.train.shape, classes=len(data.train.classes))
  workdir = Workdir(folder)
  workdir.start(config)
  data.normalization.save(workdir.normalization_file)
  workdir.write_result("encoder", random_variables(model, data.train.shape), {"stage": "encoder"})
  return workdir
