"""A killed run, repeated, ends with the same bits; SIGTERM saves and leaves cleanly."""

import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from behavejax.workdir import Workdir, read_metrics

ROOT = pathlib.Path(__file__).parent.parent.parent
COMMAND = [
  sys.executable,
  "launch/train.py",
  "--config=configs/fsq.py:tiny",
  "--noreport",
  "--config.train.steps=30",
  "--config.train.evaluations=10",
]


def start(workdir):
  return subprocess.Popen(
    [*COMMAND, f"--workdir={workdir}"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
  )


def finish(workdir):
  process = start(workdir)
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output
  return output


def interrupt(workdir, *, after_step, how):
  """Starts the run and sends it a signal once `metrics.jsonl` shows a step of at least `after_step`."""
  process = start(workdir)
  metrics = workdir / "metrics.jsonl"
  deadline = time.monotonic() + 200
  while process.poll() is None and time.monotonic() < deadline:
    if any(row["step"] >= after_step for row in read_metrics(metrics)):
      process.send_signal(how)
      break
    time.sleep(0.005)
  output, _ = process.communicate(timeout=200)
  return process.returncode, output


def last_state(workdir):
  """Every array of the last checkpoint and of the result, as NumPy."""
  import orbax.checkpoint as ocp

  folder = Workdir(workdir).stage("encoder")
  last = max((folder / "checkpoints").iterdir(), key=lambda path: int(path.name) if path.name.isdigit() else -1)
  with ocp.PyTreeCheckpointer() as checkpointer:
    trees = [checkpointer.restore(path) for path in (last / "state", folder / "result")]
  leaves = jax.tree_util.tree_flatten_with_path(trees)[0]
  return {jax.tree_util.keystr(path): _plain(leaf) for path, leaf in leaves}


def _plain(leaf):
  is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


@pytest.mark.slow
def test_killed_and_repeated_equals_uninterrupted(tmp_path):
  finish(tmp_path / "whole")
  expected = last_state(tmp_path / "whole")
  rng = np.random.default_rng()
  broken = tmp_path / "broken"
  points = sorted(rng.integers(1, 29, 3).tolist())
  for step in points:
    code, output = interrupt(broken, after_step=step, how=signal.SIGKILL)
    assert code in (-signal.SIGKILL, 0), output
  finish(broken)
  found = last_state(broken)
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=f"{name} after kills at {points}")
  whole, repeated = (
    [{name: value for name, value in row.items() if name != "examples_per_second"} for row in read_metrics(run)]
    for run in (tmp_path / "whole" / "metrics.jsonl", broken / "metrics.jsonl")
  )
  assert whole == repeated
  evaluations = [row for row in whole if "val/loss" in row]
  assert ["val/tokens_changed" in row for row in evaluations] == [False] + [True] * (len(evaluations) - 1)
  assert "resumed" not in finish(broken)  # a complete stage is skipped


@pytest.mark.slow
def test_sigterm_saves_and_exits_cleanly(tmp_path):
  code, output = interrupt(tmp_path / "run", after_step=4, how=signal.SIGTERM)
  assert code == 0, output
  assert "repeat the command to resume" in output
  assert not Workdir(tmp_path / "run").is_complete("encoder")
  assert "resumed at step" in finish(tmp_path / "run")
