"""The student starts as its teacher in 8 bits, comes nearer, and a stage of it can be interrupted and exported."""

import dataclasses

import jax
import numpy as np
import pytest

from behavejax.data.batches import Batch
from behavejax.data.normalization import Normalization
from behavejax.errors import InputError
from behavejax.export import fake_quant, package, run_jax
from behavejax.export.trained import load_trained
from behavejax.training import qat, stages
from behavejax.workdir import Workdir, read_metrics
from tests.export.runs import tiny_config, write_run


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  config = tiny_config(qat={"steps": 8, "evaluations": 2}, train={"batch_size": 16}, export={"calibration": 64})
  return write_run(tmp_path_factory.mktemp("runs") / "run", config)


@pytest.fixture(scope="module")
def trained(workdir):
  return load_trained(workdir, workdir.read_config())


def test_without_rounding_the_student_is_the_teacher(trained):
  x = trained.data.train.gather(np.arange(4))
  batch = Batch(x, trained.data.train.labels[:4], np.array([True, True, True, False]))
  wide = dict.fromkeys(fake_quant.ranges(trained.graph, trained.calibration), (-100.0, 100.0))
  limits = fake_quant.ranges(trained.graph, trained.calibration)
  student = qat.make_student(trained, limits)
  variables = student.init(jax.random.key(0), x)
  values, (_, metrics) = jax.jit(student.loss)(variables, batch, jax.random.split(jax.random.key(0), 4))
  assert values.shape == (4,)
  assert values[3] == 0  # masked
  assert np.all(values[:3] > 0)
  assert metrics["count"] == 3
  coarse = qat.make_student(trained, wide)
  assert jax.jit(coarse.score)(variables, batch)["loss"] > metrics["loss"]  # 8 bits over a wider range are coarser


def test_a_stage_is_run_saved_and_exported(workdir, trained):
  stages.add(workdir.path, "qat")
  rows = [row for row in read_metrics(workdir.metrics_file) if row["stage"] == "qat"]
  assert rows[-1]["step"] == 8
  assert {"val/agreement", "val/score", "train/loss"} <= set(rows[-1]) | set(rows[-2])
  tuned = package.tuned_graph(workdir, trained.graph)
  before, after = run_jax.parameters(trained.graph), run_jax.parameters(tuned)
  scores = {row["step"]: row["val/score"] for row in rows if "val/score" in row}
  kept = all(np.array_equal(before[name][0], after[name][0]) for name in before)
  assert kept == (max(scores, key=scores.get) == 0)  # the weights as they were, only if no step came nearer
  stages.add(workdir.path, "qat")  # complete: nothing is done again
  assert len([row for row in read_metrics(workdir.metrics_file) if row["stage"] == "qat"]) == len(rows)


def test_more_steps_come_nearer(workdir, trained, tmp_path):
  config = workdir.read_config()
  config = dataclasses.replace(config, qat=dataclasses.replace(config.qat, steps=60, learning_rate=3e-4))
  other = Workdir(tmp_path / "run")
  other.start(config)
  trained.data.normalization.save(other.normalization_file)
  variables = workdir.read_result("encoder", trained.variables)
  other.write_result("encoder", variables, {"stage": "encoder"})
  qat.fit(config, other)
  losses = [row["val/loss"] for row in read_metrics(other.metrics_file) if "val/loss" in row]
  x = trained.data.val.gather(np.arange(len(trained.data.val)))
  batch = Batch(x, trained.data.val.labels, np.ones(len(x), bool))
  student = qat.make_student(trained, fake_quant.ranges(trained.graph, trained.calibration))
  start = float(jax.jit(student.score)(student.init(jax.random.key(0), x), batch)["loss"]) / len(x)
  assert losses[0] == pytest.approx(start, rel=1e-3)  # before the first step
  assert losses[-1] < start


def test_weights_that_no_step_improves_stay_as_they_are(workdir, trained, tmp_path):
  config = workdir.read_config()
  config = dataclasses.replace(config, qat=dataclasses.replace(config.qat, steps=4, evaluations=1, learning_rate=10.0))
  other = Workdir(tmp_path / "run")
  other.start(config)
  trained.data.normalization.save(other.normalization_file)
  other.write_result("encoder", workdir.read_result("encoder", trained.variables), {"stage": "encoder"})
  kept = qat.fit(config, other)
  for name, (weights, bias) in run_jax.parameters(trained.graph).items():
    np.testing.assert_array_equal(kept[name][0], weights)
    np.testing.assert_array_equal(kept[name][1], bias)


def test_changed_data_are_named(workdir, tmp_path):
  other = Workdir(tmp_path / "run")
  other.start(workdir.read_config())
  then = Normalization.load(workdir.normalization_file)
  then._replace(mean=then.mean + 1).save(other.normalization_file)
  like = load_trained(workdir, workdir.read_config()).variables
  other.write_result("encoder", workdir.read_result("encoder", like), {"stage": "encoder"})
  with pytest.raises(InputError, match=r"data have changed .* channel acc_x had mean"):
    load_trained(other, other.read_config())


def test_without_an_encoder_there_is_nothing_to_tune(tmp_path):
  workdir = Workdir(tmp_path / "run")
  workdir.start(tiny_config())
  with pytest.raises(InputError, match="'encoder'"):
    stages.add(workdir.path, "qat")
