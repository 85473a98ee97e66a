"""Models of samples in the common loop: the same on one device and on eight, in both forms."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from behavejax.config import Config, FramesConfig, TrainConfig, VaeConfig
from behavejax.data.batches import Batch
from behavejax.data.prepare_samples import prepare_samples
from behavejax.evaluation.latents import build_vae
from behavejax.training.sample_task import fit_samples
from behavejax.workdir import Workdir, read_metrics

CONFIG = Config(
  frames=FramesConfig(val=0.4, test=0.4),
  # one vector for a sample: before a grid's, batch normalisation takes the bias of the means away, which then has no
  # gradient but rounding, and Adam makes steps of that
  vae=VaeConfig(latent="vanilla", widths=(4, 6), halvings=1, dim=3, free_bits=0.05),
  train=TrainConfig(steps=4, evaluations=2, batch_size=32),
)


def trained(config, data, folder):
  workdir = Workdir(folder)
  workdir.start(config)
  found = fit_samples(
    config, data, workdir, stage="vae", build=functools.partial(build_vae, updates=4),
    line=lambda values: "", checks=(),
  )  # fmt: skip
  return found, [row for row in read_metrics(workdir.metrics_file) if "val/loss" in row]


@pytest.mark.slow
def test_both_forms_train_the_same(tmp_path):
  data = prepare_samples(CONFIG, 0)
  by_pmap, rows = trained(CONFIG, data, tmp_path / "pmap")
  sharding = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, parallel="sharding"))
  by_sharding, others = trained(sharding, data, tmp_path / "sharding")
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), by_pmap, by_sharding)
  assert [row["step"] for row in rows] == [row["step"] for row in others] == [2, 4]
  model = build_vae(CONFIG, data.val)
  every = Batch(data.val.gather(np.arange(len(data.val))), data.val.labels, np.ones(len(data.val), bool))
  values = model.summarize(jax.tree.map(np.asarray, jax.jit(model.score)(by_pmap, every)))
  best = min(rows, key=lambda row: row["val/loss"])
  np.testing.assert_allclose(values["loss"], best["val/loss"], rtol=1e-4)
  assert best["val/score"] == -best["val/loss"]
