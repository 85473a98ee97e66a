"""Runs side by side: numbers that NumPy and scikit-learn give, whatever states are called, and refusals."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from behavejax import config as config_lib
from behavejax.errors import InputError
from behavejax.evaluation import compare as lib
from behavejax.evaluation import compare_figures, segment_files
from behavejax.evaluation.segments import Segmentation
from behavejax.workdir import Workdir
from tests.export.runs import ROOT

LABELS = np.repeat([0, 1, -1, 1, 2], 20)


def write(folder, *, seed, states=None, labels=LABELS, name="walk", report=True, **metrics):
  """What a run with this seed would leave of its reports."""
  settings = config_lib.default_config()
  settings.seed = seed
  Workdir(folder).start(config_lib.resolve(settings))
  if report:
    (folder / "report").mkdir()
    (folder / "report" / "metrics.json").write_text(json.dumps({"test/accuracy": 0.5 + 0.1 * seed, **metrics}))
  if states is not None:
    (folder / "segments").mkdir()
    found = Segmentation([states], [np.ones(len(states))], [labels], (name,), ("Rex",), ("rest", "walk", "run"), 10.0)
    segment_files.write_states(folder / "segments" / "states.npz", found)
    (folder / "segments" / "metrics.json").write_text(json.dumps({"segments/states": len(np.unique(states))}))
  return folder


def test_scores_and_agreement_of_three_runs(tmp_path):
  rng = np.random.default_rng(0)
  every = [rng.permutation(4)[LABELS + 1], LABELS + 5, rng.integers(0, 4, 100)]
  folders = [write(tmp_path / f"run_{i}", seed=i, states=states) for i, states in enumerate(every)]
  values = lib.compare(folders, tmp_path / "out")
  assert values["test/accuracy/mean"] == pytest.approx(0.6)
  assert values["test/accuracy/std"] == pytest.approx(0.1)
  pairs = [adjusted_rand_score(every[i], every[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
  assert values["agreement/states/mean"] == pytest.approx(np.mean(pairs))
  assert values["agreement/states/least"] == pytest.approx(min(pairs))
  assert pairs[0] == 1
  assert values == json.loads((tmp_path / "out" / "compare.json").read_text())
  text = (tmp_path / "out" / "compare.md").read_text()
  assert "What differs between the runs: config.seed." in text
  assert "0.600 ± 0.100" in text
  assert (tmp_path / "out" / "figures" / "agreement_behaviours.png").exists()
  assert "accuracy                                                   0.600     0.100" in lib.table(values)
  again = lib.compare(folders[:2], tmp_path / "out")
  assert again["agreement/states/least"] == 1


def test_behaviours_forgive_a_behaviour_in_parts():
  parts = np.where(LABELS == 1, LABELS * 10 + np.arange(100) % 2, LABELS + 1)
  found = lib.as_behaviours(parts, LABELS)
  np.testing.assert_array_equal(found[LABELS >= 0], LABELS[LABELS >= 0])
  np.testing.assert_array_equal(found[LABELS < 0], -1)
  assert lib.agreement([parts, LABELS + 1])[0, 1] < 0.9
  assert lib.agreement([found, lib.as_behaviours(LABELS + 1, LABELS)])[0, 1] == 1


@given(st.lists(st.integers(-1, 5), min_size=5, max_size=40), st.permutations(range(7)))
def test_names_of_states_do_not_matter(states, names):
  states = np.array(states)
  renamed = np.where(states >= 0, np.array(names)[states], -1)
  if (states >= 0).sum() > 1:
    assert lib.agreement([states, renamed])[0, 1] == 1
  labels = np.arange(len(states)) % 3 - 1
  np.testing.assert_array_equal(lib.as_behaviours(states, labels), lib.as_behaviours(renamed, labels))


def test_runs_without_segments_have_scores_only(tmp_path):
  folders = [write(tmp_path / f"run_{i}", seed=i, **({"codes/perplexity": 100.0} if i else {})) for i in range(2)]
  values = lib.compare(folders, tmp_path / "out")
  assert sorted(values) == ["test/accuracy/mean", "test/accuracy/std"]
  assert not (tmp_path / "out" / "figures").exists()


def test_states_of_recordings_that_differ_are_not_compared(tmp_path):
  folders = [
    write(tmp_path / f"run_{i}", seed=i, states=LABELS + 1, labels=labels)
    for i, labels in enumerate((LABELS, LABELS, LABELS[::-1]))
  ]
  values = lib.compare(folders, tmp_path / "out")
  assert values["segments/states/mean"] == 4
  assert not any(key.startswith("agreement") for key in values)
  assert "States are not compared" in lib.table(values)
  assert "States are not compared" in (tmp_path / "out" / "compare.md").read_text()
  assert not (tmp_path / "out" / "figures").exists()
  alike = lib.compare(folders[:2], tmp_path / "out")
  assert alike["agreement/states/least"] == 1
  assert "States are not compared" not in lib.table(alike)


def test_what_cannot_be_compared_is_refused(tmp_path):
  first = write(tmp_path / "first", seed=0, states=LABELS + 1)
  other = write(tmp_path / "other", seed=1, states=LABELS + 1, name="trot")
  bare = write(tmp_path / "bare", seed=2, report=False)
  broken = write(tmp_path / "broken", seed=3)
  (broken / "report" / "metrics.json").write_text("{")
  for folders, message in (
    ([first], "two runs or more"),
    ([first, first], "each named once"),
    ([first, other], "other is of other recordings than first"),
    ([first, bare], "has no report"),
    ([first, broken], "cannot be read"),
  ):
    with pytest.raises(InputError, match=message):
      lib.compare(folders, tmp_path / "out")
  assert not (tmp_path / "out").exists()
  with pytest.raises(InputError, match="not empty"):
    lib.compare([first, other], first)


def test_figure_has_a_cell_for_every_pair():
  figure = compare_figures.agreement(np.array([[1, 0.25], [0.25, 1]]), ["a", "b"], title="States")
  assert [text.get_text() for text in figure.axes[0].texts] == ["1.00", "0.25", "0.25", "1.00"]


def test_the_program_prints_the_table(tmp_path):
  folders = [write(tmp_path / f"run_{i}", seed=i, states=LABELS + 1) for i in range(2)]

  def run(*flags):
    command = [sys.executable, "launch/compare.py", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)

  answer = run(f"--workdirs={folders[0]},{folders[1]}", f"--out={tmp_path / 'out'}")
  assert answer.returncode == 0, answer.stderr
  assert "states of two runs, adjusted Rand index" in answer.stdout
  alone = run(f"--workdirs={folders[0]}", f"--out={tmp_path / 'none'}")
  assert (alone.returncode, alone.stderr.count("\n")) == (2, 1)
  assert not (tmp_path / "none").exists()
