"""Sweeps of real runs, in processes of their own: killed and repeated, ended by their watcher and resumed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from behavejax.training import sweep_objective
from behavejax.workdir import read_metrics
from tests.training.test_sweep import PLAIN, ROOT, study_of

optuna = pytest.importorskip("optuna")

SMALL = {
  "train.steps": 6, "model.widths": (4,), "model.dilations": (), "model.decoder_widths": (4,), "model.gains": (),
  "model.classifier_hidden": 4, "model.token_stride": 2, "augment.rotation_deg": 0.0, "augment.time_warp": 0.0,
  "augment.scale": 0.0,
}  # fmt: skip
WATCHED = """
import json, pathlib, sys
from behavejax import config as config_lib
from behavejax.training import sweep

folder, stop = pathlib.Path(sys.argv[1]), int(sys.argv[2])
told = []

def watch(step, values):
  told.append((step, values["val/score"]))
  if len(told) == stop:
    raise KeyError("enough")

config = config_lib.resolve(json.loads((folder.parent / "whole/trials/0000/config.json").read_text())["config"])
try:
  kept = sweep.train(config, folder, watch)["val/score"]
except KeyError:
  kept = None
saved = sorted(path.name for path in (folder / "stages/encoder/checkpoints").iterdir())
print(json.dumps([told, kept, saved]))
"""


def start(*command):
  env = {**os.environ, "PYTHONPATH": str(ROOT)}
  return subprocess.Popen(
    [sys.executable, *command], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
  )


def start_sweep(folder):
  space = folder.parent / "space.json"
  space.write_text(json.dumps({key: PLAIN[key] for key in list(PLAIN)[:2]}))
  changes = [f"--config.{key}={value}" for key, value in SMALL.items()]
  return start(
    "launch/sweep.py", "--config=configs/fsq.py:tiny", *changes, f"--space={space}", f"--workdir={folder}",
    "--trials=3",
  )  # fmt: skip


def finish(process):
  output, _ = process.communicate(timeout=600)
  assert process.returncode == 0, output
  return output


@pytest.fixture(scope="module")
def real(tmp_path_factory):
  """A folder with an undisturbed sweep of three runs in `whole`, and what it printed."""
  folder = tmp_path_factory.mktemp("real")
  return folder, finish(start_sweep(folder / "whole"))


def evaluations(run):
  return [row for row in read_metrics(run / "metrics.jsonl") if "val/score" in row]


@pytest.mark.slow
def test_a_sweep_of_real_runs(real):
  folder, output = real
  assert "trial 2 of 3: train.learning_rate=" in output
  assert json.loads((folder / "whole/best.json").read_text())["command"] in output
  assert (folder / "whole/report/report.html").exists()
  for trial in study_of(folder / "whole").trials:
    assert trial.state.name == "COMPLETE"
    rows = evaluations(folder / f"whole/trials/{trial.number:04d}")
    assert trial.intermediate_values == {i: row["val/score"] for i, row in enumerate(rows, 1)}
    assert trial.value == max(row["val/score"] for row in rows)
    assert set(sweep_objective.OBJECTIVES) - set(rows[-1]) == {"val/bits_per_spike"}  # what the neural encoder measures


@pytest.mark.slow
def test_a_killed_sweep_of_real_runs_equals_an_undisturbed_one(real):
  folder, _ = real
  process = start_sweep(folder / "cut")
  deadline = time.monotonic() + 300
  while process.poll() is None and time.monotonic() < deadline:
    if evaluations(folder / "cut/trials/0001"):
      process.send_signal(signal.SIGKILL)
      break
    time.sleep(0.005)
  process.communicate(timeout=60)
  assert process.returncode == -signal.SIGKILL
  assert len(study_of(folder / "cut").trials) == 2
  finish(start_sweep(folder / "cut"))
  expected, found = (study_of(folder / name).trials for name in ("whole", "cut"))
  for old, new in zip(expected, found, strict=True):
    assert (new.params, new.value, new.state) == (old.params, old.value, old.state)
    assert new.intermediate_values == old.intermediate_values


@pytest.mark.slow
def test_a_run_that_is_ended_by_its_watcher_can_be_resumed(real):
  folder, _ = real
  expected = [[row["step"], row["val/score"]] for row in evaluations(folder / "whole/trials/0000")]
  told, kept, saved = json.loads(finish(start("-c", WATCHED, str(folder / "run"), "2")).splitlines()[-1])
  assert (told, kept) == (expected[:2], None)
  assert saved == ["2"], "what was saved before is whole"
  told, kept, _ = json.loads(finish(start("-c", WATCHED, str(folder / "run"), "9")).splitlines()[-1])
  assert told == expected[1:]
  assert kept == max(score for _, score in expected)
