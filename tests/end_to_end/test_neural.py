"""A small neural encoder from simulation to report, export and new readouts; interrupted, it ends the same."""

import csv
import dataclasses
import importlib.util
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from behavejax import config as config_lib
from behavejax.errors import InputError
from behavejax.evaluation import neural_report, neural_run, neural_scores
from behavejax.evaluation.neural_attention import attention, attention_metrics
from behavejax.evaluation.neural_fields import gradient_energy, receptive_fields
from behavejax.evaluation.neural_scores import ENCODER, TRUTH
from behavejax.export import neural as export_neural
from behavejax.training import neural, stages, sweep_space
from behavejax.workdir import Workdir, read_metrics

ROOT = pathlib.Path(__file__).parent.parent.parent
pytestmark = pytest.mark.slow


def small():
  spec = importlib.util.spec_from_file_location("vivit", ROOT / "configs" / "vivit.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config("tiny")
  config.train.steps = 4
  config.train.evaluations = 2
  config.neural.glm.iterations = 3
  config.neural.glm.penalties = (1.0,)
  return config_lib.resolve(config)


def leaves(tree):
  return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  config = small()
  return config, stages.run(config, tmp_path_factory.mktemp("neural") / "run")


@pytest.fixture(scope="module")
def trained(run):
  return neural_run.restore(run[1], run[0])


def test_interrupted_between_evaluations_it_ends_with_the_same_bits(run, trained, tmp_path):
  class EnoughError(Exception):
    pass

  def stop(step, values):
    if step == 4:
      raise EnoughError

  with pytest.raises(EnoughError):
    stages.run(run[0], tmp_path / "again", on_evaluation=stop)
  assert not Workdir(tmp_path / "again").is_complete("vivit")
  again = neural_run.restore(stages.run(run[0], tmp_path / "again"), run[0])
  expected, found = leaves(trained.variables), leaves(again.variables)
  assert expected.keys() == found.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_metrics_are_of_every_data_set(run):
  rows = [row for row in read_metrics(run[1].metrics_file) if "val/score" in row]
  for row in rows:
    assert {"val/bits_per_spike/simulated_1", "val/bits_per_spike/simulated_2", "val/loss"} <= row.keys()
    assert row["val/score"] == row["val/bits_per_spike"]
  for row in read_metrics(run[1].metrics_file):
    if "train/loss" in row:
      assert ("gradient_norm/readout_0" in row) != ("gradient_norm/readout_1" in row)  # of the data set of the call
  kept = [int(p.name) for p in (run[1].stage("vivit") / "checkpoints").iterdir() if p.name.isdigit()]
  assert len(kept) <= run[0].train.keep_best + 1


def test_report_holds_what_it_says(run, trained):
  values = neural_report.report(run[1].path)
  folder = run[1].path / "neural"
  assert values == json.loads((folder / "metrics.json").read_text())
  for name in ("test", "achievable", "baseline/constant", "baseline/glm"):
    assert np.isfinite(values[f"{name}/bits_per_spike"])
  best = max(v for k, v in values.items() if k.endswith("/bits_per_spike"))
  assert best == values["achievable/bits_per_spike"]
  page = (folder / "neural.md").read_text()
  for heading in ("Beside simpler models", "Receptive fields", "Attention", "Behaviour", "Training"):
    assert f"## {heading}" in page
  for picture in (folder / "figures").glob("*.png"):
    assert f"figures/{picture.name}" in page
    assert picture.stat().st_size > 2000
  with (folder / "neurons.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == sum(d.recording.neurons for d in trained.data)
  saved = np.load(folder / "predictions.npz")
  judged = neural_scores.judge(trained, run[1])
  for own, data in zip(judged, trained.data, strict=True):
    frames = saved[f"{own.name}/frame"]
    np.testing.assert_array_equal(saved[f"{own.name}/spikes"], data.recording.spikes[frames])
    again = neural_scores.score(data, own.rates[ENCODER], own.mask).bits
    np.testing.assert_array_equal(again, own.scores[ENCODER].bits)
    assert np.nanmean(own.scores[TRUTH].bits) > np.nanmean(again)


def test_gradients_are_those_of_finite_differences(trained):
  clips = trained.data[0].test
  energy = gradient_energy(trained, 0, clips)
  fields = receptive_fields(trained, 0)
  np.testing.assert_array_equal(fields.energy, energy)
  assert energy.shape[0] == trained.data[0].recording.neurons
  assert energy.shape[2:] == clips.shape[1:3]
  inside = np.flatnonzero(clips.counted().any(-1)[:, -1])
  batch = clips.gather(inside[np.linspace(0, len(inside) - 1, min(8, len(inside))).astype(int)])
  rates = jax.jit(lambda video: trained.model.rates(trained.variables, video, batch.behaviour, 0)[:, -1, 1])
  lag, row, column = np.unravel_index(int(energy[1].argmax()), energy[1].shape)
  step = 0.03
  nudged = [batch.video.copy() for _ in range(2)]
  for video, sign in zip(nudged, (1, -1), strict=True):
    video[:, -1 - lag, row, column] += sign * step
  slope = (np.asarray(rates(nudged[0]), np.float64) - np.asarray(rates(nudged[1]), np.float64)) / (2 * step)
  assert np.mean(slope**2) == pytest.approx(energy[1, lag, row, column], rel=0.05)


def test_attention_is_a_distribution(trained):
  found = attention(trained, 1)
  settings = trained.config.vivit
  places = found.grid[0] * found.grid[1]
  assert found.spatial.shape == (1, settings.heads, places + settings.registers, places + settings.registers)
  np.testing.assert_allclose(found.spatial.sum(-1), 1, rtol=1e-4)
  np.testing.assert_allclose(found.temporal.sum(-1), 1, rtol=1e-4)
  assert (np.triu(found.temporal[0, 0], 1) == 0).all()
  for name in ("spatial_entropy", "temporal_entropy", "registers"):
    assert ((getattr(found, name) >= 0) & (getattr(found, name) <= 1 + 1e-5)).all()
  assert set(attention_metrics(found)) == {
    "attention/spatial_entropy/0", "attention/temporal_entropy/0", "attention/registers/0",
  }  # fmt: skip


def test_new_readouts_leave_the_core_alone(run, trained, tmp_path):
  """Those of a recording that was learned from, and of another: one neuron, other frames, no behaviour."""
  rng = np.random.default_rng(0)
  np.savez(
    tmp_path / "own.npz", video=rng.normal(size=(400, 9, 12)), spikes=rng.poisson(0.5, 400), rate_hz=30.0
  )  # fmt: skip
  own = sweep_space.override(run[0], {
    "stages": ["readout"], "readout.workdir": str(run[1].path), "readout.steps": 3, "readout.evaluations": 1,
    "neural.recordings": ["simulated_2", "own.npz"], "neural.block": 40, "data.root": str(tmp_path),
  })  # fmt: skip
  found = neural_run.restore(stages.run(own, tmp_path / "readout"), own).variables["params"]
  core = leaves({name: trained.variables["params"][name] for name in ("core", "modulator")})
  for name, value in leaves({name: found[name] for name in ("core", "modulator")}).items():
    np.testing.assert_array_equal(value, core[name], err_msg=name)
  old = trained.variables["params"]["readout_1"]["weights"]
  assert np.abs(np.asarray(found["readout_0"]["weights"]) - np.asarray(old)).max() > 1e-3
  other = dataclasses.replace(own, vivit=dataclasses.replace(own.vivit, hidden=12))
  with pytest.raises(InputError, match=r"config.vivit.hidden is 12 here and 24 there"):
    neural.fit_readouts(other, Workdir(tmp_path / "readout"), data=trained.data[1:])


def test_exported_files_give_the_same_counts(run, tmp_path):
  pytest.importorskip("tensorflow")
  pytest.importorskip("tf2onnx")
  shutil.copytree(run[1].path, tmp_path / "run")
  rows = export_neural.export(tmp_path / "run")
  assert export_neural.is_neural(Workdir(tmp_path / "run"))
  for row in rows:
    assert row.jax_export < 1e-5
    assert row.onnx < 1e-4
    assert row.name in export_neural.table(rows)
  written = json.loads((tmp_path / "run" / "export" / "encoder.json").read_text())
  assert set(written["data_sets"]) == {"simulated_1", "simulated_2"}
  assert len(list((tmp_path / "run" / "export").iterdir())) == 5


def test_weight_decay_leaves_positions_and_norms_alone(trained):
  acts = leaves(neural.decays(trained.variables["params"]))
  for name, value in acts.items():
    spared = any(word in name for word in ("mean", "sigma", "angle", "bias", "scale", "registers"))
    assert bool(value) != spared, name
