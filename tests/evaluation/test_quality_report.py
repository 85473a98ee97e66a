"""The quality report names what is wrong and draws the gaps."""

import dataclasses
import json

import numpy as np

from behavejax.config import DataConfig, SimulateConfig
from behavejax.data import prepare, simulate
from behavejax.evaluation.quality_report import quality_figure, write_quality_report


def test_report_of_a_gappy_set(tmp_path):
  settings = SimulateConfig(subjects=3, minutes=0.5, gaps=0.15)
  recordings = simulate.quadruped(settings, 0)
  data = prepare.prepare_recordings(recordings, DataConfig(simulate=settings, window_s=1.0), 0)
  write_quality_report(tmp_path / "qa", recordings, data, title="Quality")
  found = json.loads((tmp_path / "qa" / "qa.json").read_text())
  assert len(found["channels"]) == 9
  assert found["channels"][0]["strategy"] == "interpolate"
  assert any("acc_x" in line and "NaN" in line for line in found["warnings"])
  assert 80 < found["score"] < 90
  page = (tmp_path / "qa" / "qa.html").read_text()
  assert "longest gap" in page
  assert (tmp_path / "qa" / "figures" / "quality.png").stat().st_size > 20_000


def test_figure_shows_the_part_with_gaps_and_says_what_is_left_out():
  settings = SimulateConfig(subjects=3, minutes=2.0, gaps=0.0)
  first, *others = simulate.quadruped(settings, 0)
  signal = np.concatenate([first.signal, first.signal[:, :3]], axis=1)
  signal[5000:5003] = np.nan
  names, units = tuple(f"c{i}" for i in range(12)), ("g",) * 12
  wide = [
    dataclasses.replace(r, signal=np.concatenate([r.signal, r.signal[:, :3]], axis=1), channels=names, units=units)
    for r in others
  ]
  recordings = [*wide, dataclasses.replace(first, signal=signal, channels=names, units=units)]
  data = prepare.prepare_recordings(recordings, DataConfig(simulate=settings, window_s=1.0), 0)
  figure = quality_figure(recordings, data)
  titles = [axes.get_title("left") or axes.get_title() for axes in figure.get_axes()]
  assert "Recording 1, lost samples shaded" in titles
  assert any("9 of 12 channels shown" in axes.get_xlabel() for axes in figure.get_axes())
  low, high = figure.get_axes()[0].get_xlim()
  assert low < 100 < high  # sample 5 000 at 50 Hz
