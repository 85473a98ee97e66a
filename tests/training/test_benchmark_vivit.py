"""What the benchmark of the video transformer counts, beside XLA and PyTorch; not how fast anything is."""

import dataclasses

import jax
import numpy as np
import pytest

from behavejax.models.neural_encoder import DataSet, make_model
from behavejax.training import benchmark_vivit, vivit_torch
from behavejax.training.benchmark_vivit import SMALL, operations


@pytest.mark.parametrize("modulator", [False, True])
def test_operations_are_what_xla_counts(modulator):
  settings = dataclasses.replace(SMALL, modulator=modulator, hidden=256, width=96, head_width=32)
  data = DataSet((32, 40), 3, (0.5,) * 40)
  model = make_model(settings, [data])
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  video, behaviour = (jax.ShapeDtypeStruct(s, np.float32) for s in ((1, 32, 32, 40, 1), (1, 32, 3)))
  lowered = jax.jit(lambda v, x, b: model.rates(v, x, b, 0)).lower(shapes, video, behaviour)
  counted = lowered.cost_analysis()["flops"]
  assert operations(settings, data, frames=32) * 32 == pytest.approx(counted, rel=0.15)  # XLA counts sums and norms too


def test_pytorch_has_the_same_parameters():
  pytest.importorskip("torch")
  data = DataSet((30, 22), 0, (0.5,) * 7)
  for settings in (SMALL, dataclasses.replace(SMALL, kernel=(4, 5, 6), stride=(1, 5, 3), registers=0)):
    shapes = jax.eval_shape(make_model(settings, [data]).init, jax.random.key(0))
    ours = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    registers = settings.registers * settings.width
    assert vivit_torch.parameters(settings, data, (16, 30, 22)) == ours, registers


def test_pytorch_step_runs_and_learns():
  torch = pytest.importorskip("torch")
  torch.manual_seed(0)
  settings = dataclasses.replace(SMALL, width=16, heads=2, head_width=8, hidden=16, spatial_blocks=1, temporal_blocks=1)
  data = DataSet((16, 16), 0, (0.5,) * 3)
  rng = np.random.default_rng(0)
  video, spikes = rng.normal(size=(1, 8, 16, 16, 1)).astype(np.float32), rng.poisson(3.0, (1, 8, 3)).astype(np.float32)
  step = vivit_torch.make_step(settings, data, video, spikes)
  for _ in range(3):
    step()


def test_size_of_the_baseline_is_told_without_training(monkeypatch):
  monkeypatch.setattr(benchmark_vivit, "_activations", lambda settings, data, batch: 2**30 * batch)
  lines = list(benchmark_vivit.run(repeats=5, only="size"))
  assert "22,0" in lines[1] or "parameters" in lines[1]
  assert any("GFLOP" in line for line in lines)
  assert len(lines) == 7
