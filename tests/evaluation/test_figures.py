"""Figures draw what they are given, at the edges too."""

import io

import numpy as np
import pytest

from behavejax.evaluation import figures, metrics


def draw(figure):
  file = io.BytesIO()
  figure.savefig(file, format="png", dpi=40)
  assert file.tell() > 1000


@pytest.mark.parametrize("classes", [1, 2, 19])
def test_classification_figures(classes):
  rng = np.random.default_rng(0)
  names = [f"behaviour_{i}" for i in range(classes)]
  labels, predicted = rng.integers(0, classes, 200), rng.integers(0, classes, 200)
  table = metrics.confusion(labels, predicted, classes=classes)
  draw(figures.confusion_matrix(table, names))
  draw(figures.f1_by_class({"a": rng.random(classes), "b": rng.random(classes)}, names))
  draw(figures.ethogram([("a/1", np.arange(200.0), np.where(labels > 0, labels, -1), predicted)], names, step_s=1.0))
  draw(figures.accuracy_by_subject({"a": 0.5}, overall=0.5))
  tokens = rng.integers(0, 30, (200, 5))
  draw(figures.code_behaviour(metrics.code_dictionary(tokens, labels, num_codes=32, classes=classes), names))
  draw(figures.embedding_scatter(rng.normal(size=(60, 4)), labels[:60], names, method="pca"))
  assert len(set(figures.class_colours(classes))) == classes


def test_other_figures():
  rng = np.random.default_rng(0)
  bins = metrics.reliability(rng.normal(size=(50, 3)), rng.integers(0, 3, 50))
  draw(figures.reliability_diagram(bins, bins, temperature=1.3))
  draw(figures.training_curves([{"step": 1, "train/loss": 2.0}, {"step": 2, "val/loss": 1.0, "learning_rate": 0.1}]))
  draw(figures.code_usage(metrics.code_statistics(rng.integers(0, 5, (30, 2)), num_codes=8)))
  draw(figures.embedding_scatter(rng.normal(size=(20, 4)), np.full(20, -1), (), method="tsne"))
