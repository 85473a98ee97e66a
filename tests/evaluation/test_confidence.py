"""Probabilities and sets are calibrated on the validation split alone, and the report says what they are worth."""

import dataclasses

import numpy as np
import pytest
from scipy.special import softmax

from behavejax.evaluation import confidence, conformal, metrics
from behavejax.evaluation.page import Table
from behavejax.evaluation.predictions import Predictions


def predictions(n, seed, classes=4):
  """Twice as sure as they should be."""
  rng = np.random.default_rng(seed)
  logits = rng.normal(size=(n, classes)) * 2
  labels = (softmax(logits, axis=1).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
  labels[:5] = -1
  return Predictions(
    2 * logits.astype(np.float32), labels, np.zeros((n, 1, 1), int), np.zeros((n, 2)), np.zeros(n),
    rng.integers(0, 3, n), rng.integers(0, 6, n), np.arange(n, dtype=float),
  )  # fmt: skip


@pytest.fixture(scope="module")
def splits():
  return {"val": predictions(2000, 0), "test": predictions(3000, 1)}


def test_calibration_uses_the_validation_split(splits):
  found = confidence.calibrated(splits, coverage=0.9)
  temperature = metrics.fit_temperature(splits["val"].logits, splits["val"].labels)
  assert temperature == pytest.approx(2, rel=0.1)
  expected = softmax(splits["test"].logits / temperature, axis=1)
  np.testing.assert_allclose(found["test"].probabilities, expected, atol=1e-5)
  shuffled = dataclasses.replace(splits["test"], labels=splits["test"].labels[::-1])
  again = confidence.calibrated({**splits, "test": shuffled}, coverage=0.9)
  np.testing.assert_array_equal(again["test"].label_sets, found["test"].label_sets)
  assert conformal.coverage_of(found["test"].label_sets, splits["test"].labels).covered == pytest.approx(0.9, abs=0.03)


def test_nothing_is_calibrated_without_labels(splits):
  val = dataclasses.replace(splits["val"], labels=np.full(2000, -1))
  found = confidence.calibrated({**splits, "val": val}, coverage=0.9)
  assert found["test"].label_sets is None
  groups = ("subject", splits["test"].subject, ["a", "b", "c"])
  assert confidence.section(found, list("wxyz"), groups, coverage=0.9) == ({}, [])


def test_the_section_measures_each_subject_and_class(splits):
  found = confidence.calibrated(splits, coverage=0.9)
  test = found["test"]
  groups = ("subject", test.subject, ["a", "b", "c"])
  values, blocks = confidence.section(found, list("wxyz"), groups, coverage=0.9)
  known = test.labels >= 0
  hit = test.label_sets[np.arange(3000), np.maximum(test.labels, 0)]
  assert values["test/coverage"] == pytest.approx(hit[known].mean())
  assert values["test/coverage_worst_subject"] == pytest.approx(
    min(hit[known & (test.subject == i)].mean() for i in range(3))
  )
  assert values["test/coverage_worst_class"] == pytest.approx(min(hit[test.labels == k].mean() for k in range(4)))
  assert all(np.isfinite(value) for value in values.values())
  table = next(block for block in blocks if isinstance(block, Table))
  assert [row[0] for row in table.rows] == ["all", "a", "b", "c"]
  assert sum(int(row[1].replace(",", "")) for row in table.rows[1:]) == known.sum()
  text = " ".join(block.text for block in blocks if hasattr(block, "text"))
  assert "exchangeable" in text
  assert "no guarantee for a new subject" in text


def test_many_groups_are_summed_up_and_absent_classes_left_out(splits):
  found = confidence.calibrated(splits, coverage=0.9)
  test = dataclasses.replace(found["test"], recording=np.arange(3000) % 60)
  groups = ("recording", test.recording, [f"r{i}" for i in range(61)])
  values, blocks = confidence.section({**found, "test": test}, ["w", "x", "y", "z"], groups, coverage=0.9)
  table = next(block for block in blocks if isinstance(block, Table))
  assert len(table.rows) == 2
  assert table.rows[1][0].startswith("worst recording: r")
  assert float(table.rows[1][2]) == pytest.approx(values["test/coverage_worst_recording"], abs=1e-3)
  only = dataclasses.replace(test, labels=np.where(test.labels == 2, -1, test.labels))
  values, _ = confidence.section({**found, "test": only}, ["w", "x", "y", "z"], groups, coverage=0.9)
  assert np.isfinite(values["test/coverage_worst_class"])
