"""The page of a sweep and its figures (sweep_figures, sweep_trials): what stands behind the axes."""

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgba

from behavejax.evaluation import sweep_figures, sweep_report
from behavejax.evaluation.figures import BLUE, GREY, ORANGE
from behavejax.evaluation.sweep_trials import Axis, Sweep, Trial, best_table, show

BRIGHT = "#fde725"  # end of the colour map viridis
AXES = (
  Axis("train.learning_rate", 1e-4, 1e-2, log=True),
  Axis("train.batch_size", 32, 128, step=32),
  Axis("quantizer.levels", choices=([8, 6, 5], [8, 5, 5, 5], [7, 7, 5])),
)


def trial(number, state, value, rate, size, levels, message=""):
  changes = {"train.learning_rate": rate, "train.batch_size": size, "quantizer.levels": levels}
  return Trial(number, state, value, changes, message)


def sweep(*trials, **changes):
  values = {
    "title": "Sweep of 3 settings", "objective": "val/score", "direction": "maximize", "axes": AXES, "trials": trials,
    "importances": {"train.learning_rate": 0.7, "train.batch_size": 0.1, "quantizer.levels": 0.2},
    "command": "python launch/train.py --config=configs/fsq.py",
  }  # fmt: skip
  return Sweep(**(values | changes))


MIXED = sweep(
  trial(0, "complete", 0.5, 1e-3, 32, [8, 6, 5]),
  trial(1, "complete", 0.9, 1e-2, 128, [7, 7, 5]),
  trial(2, "failed", None, 1e-4, 64, [8, 5, 5, 5], "step 3: the loss is NaN or Inf"),
  trial(3, "pruned", 0.3, 1e-4, 96, [8, 5, 5, 5]),
  trial(4, "complete", 0.7, 5e-3, 64, [8, 5, 5, 5]),
)


def lines(axes, label):
  return [line for line in axes.lines if line.get_label() == label]


def test_ranking_and_table():
  assert [t.number for t in MIXED.ranked()] == [1, 4, 0]
  assert [t.number for t in sweep(*MIXED.trials, direction="minimize").ranked()] == [0, 4, 1]
  table = best_table(MIXED, most=2).splitlines()
  assert table[0].split() == ["trial", "val/score", "train.learning_rate", "train.batch_size", "quantizer.levels"]
  assert table[1].split() == ["1", "0.9000", "0.01", "128", "7-7-5"]
  assert table[2].split() == ["4", "0.7000", "0.005", "64", "8-5-5-5"]
  assert [show(v) for v in ("vq", (), 0.1 + 0.2, True, [["a", 1], 2])] == ["vq", "none", "0.3", "True", "a-1-2"]


def test_parallel_coordinates_run_through_the_settings():
  axes = sweep_figures.parallel_coordinates(MIXED).axes[0]
  (best,) = lines(axes, "trial 1")
  np.testing.assert_allclose(best.get_ydata(), [1, 1, 1, 1])
  (middle,) = lines(axes, "trial 4")
  np.testing.assert_allclose(middle.get_ydata(), [np.log(50) / np.log(100), 1 / 3, 0.5, 0.5])
  (worst,) = lines(axes, "trial 0")
  np.testing.assert_allclose(worst.get_ydata(), [0.5, 0, 0, 0])
  assert len({line.get_color() for line in (best, middle, worst)}) == 3
  assert best.get_linewidth() > middle.get_linewidth() == worst.get_linewidth()
  assert to_hex(best.get_color()) == BRIGHT
  (pruned,) = lines(axes, "pruned")
  np.testing.assert_allclose(pruned.get_ydata(), [0, 2 / 3, 0.5])
  assert pruned.get_alpha() < 0.5
  assert pruned.get_color() == GREY
  names = [label.get_text().replace("\n", "") for label in axes.get_xticklabels()]
  assert names == ["train.learning_rate(log)", "train.batch_size", "quantizer.levels", "val/score"]


def test_ticks_stand_at_their_values():
  axes = sweep_figures.parallel_coordinates(MIXED).axes[0]
  places = {}
  for text in axes.texts:
    places.setdefault(round(text.get_position()[0] + 0.04), {})[text.get_text()] = text.get_position()[1]
  assert places[0] == pytest.approx(
    {"0.0001": 0, "0.0002": np.log10(2) / 2, "0.0005": np.log10(5) / 2, "0.001": 0.5, "0.002": 0.5 + np.log10(2) / 2,
     "0.005": 0.5 + np.log10(5) / 2, "0.01": 1.0}
  )  # fmt: skip
  assert places[1] == pytest.approx({"32": 0, "64": 1 / 3, "96": 2 / 3, "128": 1})
  assert places[2] == pytest.approx({"8-6-5": 0, "8-5-5-5": 0.5, "7-7-5": 1})
  assert places[3] == pytest.approx({"0.5": 0, "0.6": 0.25, "0.7": 0.5, "0.8": 0.75, "0.9": 1})


def test_lower_is_better_turns_the_colours_round():
  axes = sweep_figures.parallel_coordinates(sweep(*MIXED.trials, direction="minimize")).axes[0]
  assert to_hex(lines(axes, "trial 0")[0].get_color()) == BRIGHT
  assert lines(axes, "trial 0")[0].get_linewidth() > lines(axes, "trial 1")[0].get_linewidth()


def test_importance_bars_are_sorted():
  axes = sweep_figures.importance_bars(MIXED.importances, trials=3).axes[0]
  assert [label.get_text() for label in axes.get_yticklabels()] == [
    "train.batch_size", "quantizer.levels", "train.learning_rate",
  ]  # fmt: skip
  assert [bar.get_width() for bar in axes.patches] == [0.1, 0.2, 0.7]
  assert "3 finished trials" in axes.get_title(loc="left")


def test_history_shows_every_trial():
  axes = sweep_figures.optimisation_history(MIXED).axes[0]
  finished, pruned = axes.collections
  np.testing.assert_allclose(finished.get_offsets(), [[0, 0.5], [1, 0.9], [4, 0.7]])
  np.testing.assert_allclose(pruned.get_offsets(), [[3, 0.3]])
  (best,) = lines(axes, "best so far")
  np.testing.assert_allclose(best.get_xydata(), [[0, 0.5], [1, 0.9], [4, 0.9], [4, 0.9]])
  (failed,) = lines(axes, "failed")
  np.testing.assert_allclose(failed.get_xdata(), [2])
  assert best.get_color() == ORANGE
  assert tuple(finished.get_facecolor()[0]) == to_rgba(BLUE)
  best = lines(sweep_figures.optimisation_history(sweep(*MIXED.trials, direction="minimize")).axes[0], "best so far")
  np.testing.assert_allclose(best[0].get_ydata(), [0.5, 0.5, 0.5, 0.5])


@pytest.mark.parametrize("states", [(), (0,), (3,), (2,), (0, 1)])
def test_sweeps_of_few_trials_are_drawn(tmp_path, states):
  found = sweep(*(MIXED.trials[i] for i in states), axes=AXES[: max(len(states), 1)], importances={})
  sweep_report.write_report(tmp_path / "report", found)
  text = (tmp_path / "report" / "report.md").read_text()
  assert "are too few, or too much alike, to tell" in text
  assert ("no trial finished" in text) == (0 not in states)
  assert (tmp_path / "report" / "figures" / "history.png").stat().st_size > 1000


def test_equal_scores_are_drawn():
  flat = sweep(*(trial(i, "complete", 0.5, 1e-3, 32, [8, 6, 5]) for i in range(3)))
  axes = sweep_figures.parallel_coordinates(flat).axes[0]
  assert lines(axes, "trial 2")[0].get_ydata()[-1] == 0.5


def test_page(tmp_path):
  (tmp_path / "report").mkdir()
  (tmp_path / "report" / "old.txt").write_text("old")
  sweep_report.write_report(tmp_path / "report", MIXED)
  text = (tmp_path / "report" / "report.md").read_text()
  assert not (tmp_path / "report" / "old.txt").exists()
  assert "5 trials to raise val/score: 3 finished, 1 pruned, 1 failed." in text
  assert "| 1 | 0.9000 | 0.01 | 128 | 7-7-5 |" in text
  assert "| 2 | failed |  | 0.0001 | 64 | 8-5-5-5 |" in text
  assert "trial 2: step 3: the loss is NaN or Inf" in text
  assert "train.learning_rate=0.01 lies at the end of its range" in text
  assert "quantizer.levels=7-7-5 lies at the end" not in text
  assert "rest on 3 finished trials, and hold for the ranges that were searched; below 20" in text
  assert "Pruned trials are left out" in text
  assert "the test split was not looked at" in text
  assert "not all judged on the same windows" not in text
  assert MIXED.command in text
  assert "<table>" in (tmp_path / "report" / "report.html").read_text()
  names = {path.stem for path in (tmp_path / "report" / "figures").iterdir()}
  assert names == {"parallel_coordinates", "importances", "history"}


def test_trials_on_other_windows_are_pointed_out():
  axes = (Axis("data.window_s", 1.0, 4.0), Axis("seed", 0, 9))
  trials = [Trial(i, "complete", i / 10, {"data.window_s": 1.0 + i, "seed": i}) for i in range(2)]
  notes = str(sweep_report.blocks(sweep(*trials, axes=axes)))
  assert "Trials differ in data.window_s: they were not all judged on the same windows." in notes
  assert "Trials differ in their seed" in notes


def test_many_trials_need_no_warning():
  trials = [trial(i, "complete", i / 30, 1e-3, 32, [8, 6, 5]) for i in range(sweep_report.FEW_TRIALS)]
  notes = str(sweep_report.blocks(sweep(*trials)))
  assert "rest on 20 finished trials, and hold for the ranges that were searched." in notes
