"""From a finished run to its report, and the one line that each wrong input gives."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from behavejax.evaluation.segment import comparison_table, segment
from behavejax.workdir import Workdir

ROOT = pathlib.Path(__file__).parent.parent.parent
SHORT = ("--config.segmentation.iterations=2", "--config.segmentation.moves=False", "--config.segmentation.restarts=1")


def launch(*flags, **env):
  return subprocess.run(
    [sys.executable, "launch/segment.py", *flags], cwd=ROOT, env={**os.environ, **env},
    capture_output=True, text=True, timeout=400,
  )  # fmt: skip


def test_the_table_shows_each_method_once():
  metrics = {
    "segments/v_measure": 0.5, "segments/boundary_f1": 0.25, "segments/states": 3.0, "hsmm/bound": -1.0,
    "baseline/gmm/v_measure": 0.4, "baseline/gmm/boundary_f1": 0.2, "baseline/gmm/states": 12.0,
  }  # fmt: skip
  lines = comparison_table(metrics).splitlines()
  assert lines[0].split() == ["V-measure", "boundary", "F1", "states"]
  assert lines[1].split() == ["HDP-HSMM", "0.500", "0.250", "3"]
  assert lines[2].split() == ["gmm", "0.400", "0.200", "12"]


def test_the_table_of_a_run_without_labels_shows_the_states():
  lines = comparison_table({"segments/states": 3.0, "baseline/gmm/states": 4.0}).splitlines()
  assert [line.split()[-1] for line in lines] == ["states", "3", "4"]


@pytest.mark.slow
def test_command_to_report(tmp_path):
  run = tmp_path / "run"
  answer = launch("--config=configs/hsmm.py:tiny", "--config.stages=('hmm', 'hsmm')", f"--workdir={run}")
  assert answer.returncode == 0, answer.stderr
  assert "HDP-HSMM" in answer.stdout
  assert f"report: {run}/segments/segments.html" in answer.stdout
  metrics = json.loads((run / "segments" / "metrics.json").read_text())
  assert metrics["segments/states"] == 3
  assert metrics["segments/hungarian_accuracy"] > 0.95
  for method in ("hdp_hmm", "hmm", "k_means_median_filter", "k_means_minimum_dwell", "gmm"):
    assert np.isfinite(metrics[f"baseline/{method}/boundary_f1"])
  html = (run / "segments" / "segments.html").read_text()
  for name in ("behaviours", "durations", "ethogram", "learning", "transitions", "usage"):
    assert f"figures/{name}.png" in html
    assert (run / "segments" / "figures" / f"{name}.png").stat().st_size > 3000
  with np.load(run / "segments" / "states.npz", allow_pickle=False) as stored:
    np.testing.assert_array_equal(np.diff(stored["offsets"]), 150)
    assert stored["states"].shape == (600,)
  assert (run / "segments" / "segments.csv").read_text().count("\n") > 20
  again = launch(f"--workdir={run}")
  assert again.returncode == 0, again.stderr
  assert answer.stdout.endswith(again.stdout)  # nothing is learned again
  assert segment(run) == metrics


@pytest.mark.slow
def test_a_table_of_ones_own_is_segmented(tmp_path):
  rng = np.random.default_rng(0)
  rows = ["t,x,y"]
  for i in range(1200):
    busy = i // 200 % 2
    rows.append(f"{i / 20:.2f}," + ",".join(f"{v:.4f}" for v in (1 + 4 * busy) * rng.normal(size=2)))
  (tmp_path / "own.csv").write_text("\n".join(rows) + "\n")
  run = tmp_path / "run"
  answer = launch(
    "--config=configs/hsmm.py:hapt", f"--workdir={run}", "--config.data.name=table",
    f"--config.data.root={tmp_path}", "--config.data.path=own.csv", "--config.data.table.time=t",
    "--config.segmentation.states=4", "--config.segmentation.restarts=2", "--config.segmentation.max_duration_s=15.0",
  )  # fmt: skip
  assert answer.returncode == 0, answer.stderr
  with np.load(run / "segments" / "states.npz", allow_pickle=False) as stored:
    states = stored["states"]
  truth = np.arange(1200) // 200 % 2
  agreement = np.mean([np.bincount(states[truth == k]).max() / np.sum(truth == k) for k in (0, 1)])
  assert agreement > 0.9
  assert states[truth == 0][0] != states[truth == 1][0]


@pytest.mark.slow
@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (("--config=configs/hsmm.py:tinny",), "did you mean 'tiny'"),
    ((), "holds no run"),
    (("--config=configs/fsq.py:tiny",), "without 'hsmm' nothing is segmented"),
    (("--config=configs/hsmm.py:mocap6", "--config.data.path=none.npz"), "none.npz"),
    (("--config=configs/hsmm.py:tiny", "--config.segmentation.states=1000"), "are too few to tell"),
    (("--config=configs/hsmm.py:tiny", "--config.segmentation.max_duration_s=0.01"), "shorter than a step"),
    (("--config=configs/hsmm.py:tiny", "--config.segmentation.durations=normal"), "must be one of geometric"),
    (("--config=configs/hsmm.py:tiny", "--config.segmentation.features.components=99.0"), "window statistics"),
  ],
)
def test_bad_input_gives_one_line(flags, message, tmp_path):
  answer = launch(*flags, f"--workdir={tmp_path / 'run'}", BEHAVEJAX_DATA=str(tmp_path))
  lines = [line for line in answer.stderr.splitlines() if line.strip()]
  assert answer.returncode == 2, answer.stderr
  assert len(lines) == 1, answer.stderr
  assert lines[0].startswith("behavejax: ")
  assert message in lines[0]
  assert not Workdir(tmp_path / "run").is_complete("hsmm")


@pytest.mark.slow
def test_a_segmentation_that_is_not_finished_is_named(tmp_path):
  run = tmp_path / "run"
  answer = launch("--config=configs/hsmm.py:tiny", *SHORT, f"--workdir={run}")
  assert answer.returncode == 0, answer.stderr
  (run / "stages" / "hsmm" / "complete").unlink()
  with pytest.raises(ValueError, match="is not complete"):
    segment(run)
