"""Differences of versions are paired over neurons; undefined neurons are left out."""

import json

import numpy as np
import pytest

from behavejax.evaluation.neural_ablation import Variant, change, changes_figure, table, write_report

WHOLE = Variant("whole", np.array([0.5, 1.0, np.nan, 2.0]), 100, 3.0)
OTHER = Variant("no registers", np.array([0.4, 0.8, 1.0, np.nan]), 90, 2.0)


def test_change_is_paired():
  found = change(OTHER, WHOLE)
  assert found.mean == pytest.approx(-0.15)
  assert found.error == pytest.approx(np.std([-0.1, -0.2], ddof=1) / np.sqrt(2))


def test_one_neuron_has_no_error():
  found = change(Variant("a", np.array([0.5]), 1, 1.0), Variant("b", np.array([0.7]), 1, 1.0))
  assert found.mean == pytest.approx(-0.2)
  assert np.isnan(found.error)
  assert changes_figure({"a": found}).axes


def test_report_and_table(tmp_path):
  values = write_report(tmp_path / "report", [WHOLE, OTHER])
  assert values == json.loads((tmp_path / "report" / "metrics.json").read_text())
  page = (tmp_path / "report" / "ablation.md").read_text()
  assert "| no registers | 0.7333 | -0.1500 ± 0.0500 | 90 | 2 |" in page
  assert (tmp_path / "report" / "figures" / "ablation.png").exists()
  assert "-0.1500" in table(values)
