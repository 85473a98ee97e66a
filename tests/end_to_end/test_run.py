"""A whole run, from the command to the report, and variations of the config that must train too."""

import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from behavejax import config as config_lib
from behavejax.evaluation import evaluate as evaluate_lib
from behavejax.evaluation.predictions import load_predictions
from behavejax.training import stages
from behavejax.workdir import Workdir, read_metrics
from tests.data.layouts import write_hapt
from tests.test_config import load

ROOT = pathlib.Path(__file__).parent.parent.parent
pytestmark = pytest.mark.slow


def launch(program, *flags):
  """A command as its users run it: with XLA's optimizations."""
  env = {**os.environ, "XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
  answer = subprocess.run(
    [sys.executable, f"launch/{program}.py", *flags], cwd=ROOT, env=env, capture_output=True, text=True, timeout=400
  )
  assert answer.returncode == 0, answer.stderr
  return answer.stdout


def tiny(**sections):
  config = config_lib.resolve(load("fsq").get_config("tiny"))
  return dataclasses.replace(
    config, **{name: dataclasses.replace(getattr(config, name), **values) for name, values in sections.items()}
  )


def test_train_evaluate_prepare(tmp_path):
  run = tmp_path / "run"
  output = launch("train", "--config=configs/fsq.py:tiny", f"--workdir={run}", "--config.evaluation.random_forest=True")
  assert f"report: {run}/report/report.html" in output
  metrics = json.loads((run / "report" / "metrics.json").read_text())
  for key in ("test/accuracy", "test/macro_f1", "codes/perplexity", "codes/usage", "baseline/random_forest/macro_f1"):
    assert np.isfinite(metrics[key])
  assert sorted(p.name for p in run.iterdir()) == [
    "config.json", "metrics.jsonl", "normalization.npz", "report", "stages", "tensorboard",
  ]  # fmt: skip
  html = (run / "report" / "report.html").read_text()
  for name in ("confusion", "ethogram", "calibration", "training", "code_usage"):
    assert f"figures/{name}.png" in html
    assert (run / "report" / "figures" / f"{name}.png").stat().st_size > 3000
  predictions = load_predictions(run / "report" / "predictions.npz")["test"]
  known = predictions.labels >= 0
  assert np.mean(predictions.predicted[known] == predictions.labels[known]) == pytest.approx(metrics["test/accuracy"])
  rows = read_metrics(run / "metrics.jsonl")
  assert {"train/loss", "learning_rate", "gradient_norm", "train/code_usage", "examples_per_second"} <= rows[0].keys()
  assert any("val/accuracy" in row for row in rows)
  evaluated = {"val/tokens_changed", "val/psnr/acc_x", "val/mse/gyro_z", "val/largest_code"}
  assert any(evaluated <= row.keys() for row in rows)
  assert "gradient_norm/encoder" in rows[0]
  assert "encoder: finding: poor reconstruction" in output  # after a few steps
  again = launch("evaluate", f"--workdir={run}")
  assert "random forest" in again
  assert json.loads((run / "report" / "metrics.json").read_text()) == metrics
  out = tmp_path / "prepared"
  assert "quality report" in launch("prepare_data", "--config=configs/fsq.py:tiny", f"--out={out}")
  assert sorted(p.name for p in (out / "qa").iterdir()) == ["figures", "qa.html", "qa.json", "qa.md"]


@pytest.mark.parametrize(
  "sections",
  [
    {"model": {"pool": "window", "dtype": "bfloat16"},
     "train": {"schedule": "plateau", "plateau_patience": 0, "accumulate": 2}},
    {"model": {"device_attention": True}, "quantizer": {"symmetric": True, "levels": (2, 3, 4)},
     "train": {"parallel": "sharding", "patience": 1, "evaluations": 6, "learning_rate": 1e-9, "steps_per_call": 1}},
    {"data": {"fold": False, "rate_hz": 25.0}, "train": {"ema_decay": 0.0}, "loss": {"classification": 0.0}},
  ],
)  # fmt: skip
def test_variations_train(tmp_path, sections):
  config = tiny(**sections)
  workdir = stages.run(config, tmp_path / "run")
  metrics = evaluate_lib.evaluate(workdir.path)
  assert np.isfinite(metrics["test/reconstruction_mse"])
  rows = [row for row in read_metrics(workdir.metrics_file) if "val/score" in row]
  if config.train.patience:
    assert len(rows) < config.train.evaluations  # stopped early
  if config.train.schedule == "plateau":
    rates = [row["learning_rate"] for row in read_metrics(workdir.metrics_file) if row.get("learning_rate")]
    halvings = np.log2(config.train.learning_rate / np.array(rates))
    np.testing.assert_allclose(halvings, np.round(halvings), atol=1e-3)


def two_processes(*flags):
  """What each of two processes of one run prints."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
  command = [sys.executable, "launch/train.py", *flags, f"--coordinator={address}", "--processes=2"]
  both = [
    subprocess.Popen(
      [*command, f"--process={i}"],
      cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    for i in range(2)
  ]  # fmt: skip
  outputs = [process.communicate(timeout=500)[0] for process in both]
  assert [process.returncode for process in both] == [0, 0], outputs
  return outputs


def test_two_processes_train_all_stages_of_one_run(tmp_path):
  outputs = two_processes(
    "--config=configs/vq_hdp_hsmm.py:tiny", "--config.train.steps=8", "--config.train.evaluations=4",
    "--config.segmentation.iterations=3", "--config.segmentation.moves=False", f"--workdir={tmp_path / 'run'}",
  )  # fmt: skip
  for said in ("val loss", "rounds of EM"):
    assert said in outputs[0]
    assert said not in outputs[1]
  steps = [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["stage"] == "encoder"]
  assert sorted({*steps}) == [2, 4, 6, 8]
  assert all(Workdir(tmp_path / "run").is_complete(stage) for stage in ("encoder", "hdp", "hsmm", "finetune"))
  assert "behavejax (from codes)" in launch("evaluate", f"--workdir={tmp_path / 'run'}")


@pytest.mark.parametrize("method", ["variational", "gibbs"])
def test_two_processes_segment_as_one_does(method, tmp_path):
  short = (
    "--config=configs/hsmm.py:tiny", f"--config.segmentation.method={method}", "--config.segmentation.iterations=3",
    "--config.segmentation.moves=False", "--config.segmentation.states=4",
  )  # fmt: skip
  outputs = two_processes(*short, f"--workdir={tmp_path / 'two'}")
  assert "states after 3 rounds" in outputs[0]
  assert "states after" not in outputs[1]
  launch("segment", *short, f"--workdir={tmp_path / 'one'}")
  two, one = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("two", "one"))
  assert [row["step"] for row in two] == [1, 2, 3]
  np.testing.assert_allclose(two[0]["hsmm/bound"], one[0]["hsmm/bound"], rtol=1e-4)


def test_hapt_layout_and_unlabelled_arrays(tmp_path):
  write_hapt(tmp_path / "hapt.zip")
  config = tiny(
    data={"name": "hapt", "root": str(tmp_path), "val_subjects": (2,), "test_subjects": (3,), "stride_s": 0.5}
  )
  metrics = evaluate_lib.evaluate(stages.run(config, tmp_path / "hapt_run").path)
  assert "test/f1/stand_to_sit" in metrics
  x = np.random.default_rng(0).normal(size=(9, 4, 300))
  np.savez(tmp_path / "x.npz", x=x, rate_hz=50.0)
  config = tiny(
    data={"name": "arrays", "root": str(tmp_path), "path": "x.npz", "val_subjects": (), "test_subjects": ()},
    quantizer={"levels": (4, 4)},
  )
  metrics = evaluate_lib.evaluate(stages.run(config, tmp_path / "array_run").path)
  assert "test/accuracy" not in metrics
  assert metrics["codes/size"] == 16
  assert Workdir(tmp_path / "array_run").is_complete("encoder")
