"""All stages of the staged run: killed in each of them it ends the same, and a stage is run again when asked."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from behavejax.evaluation import finetuned
from behavejax.evaluation.segment import segment
from behavejax.workdir import Workdir, read_metrics

ROOT = pathlib.Path(__file__).parent.parent.parent
STAGES = ("encoder", "hdp", "hsmm", "finetune")


def learned(workdir):
  """Every array that a stage left behind, by stage and name."""
  found = {}
  with ocp.PyTreeCheckpointer() as checkpointer:
    for stage in STAGES:
      for part in ("result", "syllables"):
        if (workdir.stage(stage) / part).exists():
          tree = checkpointer.restore(workdir.stage(stage) / part)
          for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            found[f"{stage}/{part}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
  return found


def start(workdir, *further):
  """The run in a process of its own, with one device: sums are then always taken in the same order."""
  shorter = ("train.steps=8", "train.evaluations=4", "segmentation.iterations=3", "segmentation.moves=False")
  command = [
    sys.executable, "launch/train.py", "--config=configs/vq_hdp_hsmm.py:tiny", "--noreport", f"--workdir={workdir}",
    *(f"--config.{key}" for key in shorter), *further,
  ]  # fmt: skip
  return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(workdir, *further, code=0):
  process = start(workdir, *further)
  output, _ = process.communicate(timeout=400)
  assert process.returncode == code, output
  return output


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  folder = tmp_path_factory.mktemp("staged") / "whole"
  finish(folder)
  return Workdir(folder)


@pytest.mark.slow
def test_killed_in_every_stage_it_ends_the_same(whole, tmp_path):
  broken = tmp_path / "broken"
  for stage in STAGES:
    process = start(broken)
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
      if any(row["stage"] == stage and row["step"] >= 1 for row in read_metrics(broken / "metrics.jsonl")):
        process.send_signal(signal.SIGKILL)
        break
      time.sleep(0.005)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, output
    assert not Workdir(broken).is_complete("finetune")
  finish(broken)
  expected, found = learned(whole), learned(Workdir(broken))
  assert expected.keys() == found.keys()
  for name, values in expected.items():
    np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.slow
def test_the_report_says_what_was_gained(whole):
  metrics = segment(whole.path)
  for name in ("accuracy", "log_likelihood_per_step", "perplexity", "reconstruction_mse"):
    assert {f"finetune/{name}_before", f"finetune/{name}_after"} <= metrics.keys()
  assert np.isfinite(metrics["finetune/log_likelihood_per_step_em_alone"])
  for name in ("window", "smoothed", "syllables"):
    assert 0 <= metrics[f"frames/{name}/macro_f1"] <= 1
  assert metrics["frames/weight"] > 0
  again, _ = finetuned.compare(whole, whole.read_config())
  for name, value in again.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
  page = (whole.path / "segments" / "segments.md").read_text()
  for heading in ("Behaviour, sample by sample", "Fine-tuning", "HDP mixture"):
    assert heading in page
  assert json.loads((whole.stage("hsmm") / "complete").read_text())["seconds"] > 0


@pytest.mark.slow
def test_a_stage_is_run_again_with_those_after_it(whole, tmp_path):
  shutil.copytree(whole.path, tmp_path / "again")
  again, before = Workdir(tmp_path / "again"), learned(whole)
  finish(again.path, "--restart_from=finetune")
  for name, values in learned(again).items():
    np.testing.assert_array_equal(values, before[name], err_msg=name)
  rows = [row["step"] for row in read_metrics(again.metrics_file) if row["stage"] == "finetune"]
  assert rows == sorted(rows)
  faster = "--config.finetune.learning_rate=0.001"
  assert "config.finetune.learning_rate is 0.001 here" in finish(again.path, faster, code=2)
  finish(again.path, faster, "--restart_from=finetune")
  assert again.read_config().finetune.learning_rate == 1e-3
  assert "did you mean 'hsmm'" in finish(again.path, faster, "--restart_from=hsm", code=2)
  finish(again.path, faster, "--config.stages=('encoder', 'hdp', 'hsmm')", "--restart_from=hsmm")
  assert not again.is_complete("finetune")  # it rests on syllables that are gone
