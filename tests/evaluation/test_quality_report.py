"""The quality report names what is wrong and draws the gaps."""

import json

from behavejax.config import DataConfig, SimulateConfig
from behavejax.data import prepare, simulate
from behavejax.evaluation.quality_report import write_quality_report


def test_report_of_a_gappy_set(tmp_path):
  settings = SimulateConfig(subjects=3, minutes=0.5, gaps=0.15)
  recordings = simulate.quadruped(settings, 0)
  data = prepare.prepare_recordings(recordings, DataConfig(simulate=settings, window_s=1.0), 0)
  write_quality_report(tmp_path / "qa", recordings, data, title="Quality")
  found = json.loads((tmp_path / "qa" / "qa.json").read_text())
  assert len(found["channels"]) == 9
  assert found["channels"][0]["strategy"] == "interpolate"
  assert any("acc_x" in line and "NaN" in line for line in found["warnings"])
  page = (tmp_path / "qa" / "qa.html").read_text()
  assert "longest gap" in page
  assert (tmp_path / "qa" / "figures" / "quality.png").stat().st_size > 20_000
