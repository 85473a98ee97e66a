"""Which of its evaluations a run of windows keeps."""

import jax
import numpy as np
import pytest

from behavejax.data.prepare import prepare
from behavejax.training import loop, validation
from behavejax.workdir import read_metrics
from tests.export.runs import tiny_config

GOODNESS = {
  "labels": lambda row: (row["val/accuracy"] + row["val/macro_f1"]) / 2,
  "loss": lambda row: -row["val/loss"],
}


@pytest.mark.slow
@pytest.mark.parametrize("by", GOODNESS)
def test_the_best_evaluation_is_returned(by, tmp_path):
  config = tiny_config(train={"keep_by": by, "learning_rate": 0.03, "steps": 24, "evaluations": 6})
  data = prepare(config.data, config.seed)
  found = loop.fit(config, data, tmp_path / "encoder", tmp_path / "metrics.jsonl", stage="encoder")
  rows = [row for row in read_metrics(tmp_path / "metrics.jsonl") if "val/score" in row]
  assert len(rows) == 6
  assert [row["val/score"] for row in rows] == [pytest.approx(GOODNESS[by](row)) for row in rows]
  best = max(rows, key=lambda row: row["val/score"])
  sums = validation.make_sums(loop.build(config, data.val).score, data.val, kind="pmap", batch_size=32)
  values = validation.summarize(jax.tree.map(np.asarray, sums(found)), prefix="val")
  np.testing.assert_allclose(values["val/loss"], best["val/loss"], rtol=1e-4)
  np.testing.assert_allclose(values["val/accuracy"], best["val/accuracy"])
