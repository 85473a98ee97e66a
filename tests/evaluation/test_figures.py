"""Figures draw what they are given, at the edges too."""

import io
import itertools

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb

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
  draw(figures.code_usage(metrics.code_statistics(rng.integers(0, 5, (30, 2)), num_codes=8)))
  draw(figures.embedding_scatter(rng.normal(size=(20, 4)), np.full(20, -1), (), method="tsne"))


@pytest.mark.parametrize("method", ["tsne", "pca"])
@pytest.mark.parametrize("windows", [1, 50])
def test_collapsed_codebook_is_drawn(method, windows):
  draw(figures.embedding_scatter(np.ones((windows, 4), np.float32), np.zeros(windows, int), ["a"], method=method))
  axes = figures.code_usage(metrics.code_statistics(np.zeros((windows, 2), int), num_codes=32)).axes[0]
  assert axes.get_ylim()[0] < 1 / 32 < axes.get_ylim()[1]


def test_callers_settings_are_left_alone(tmp_path):
  before = dict(mpl.rcParams)
  figure = figures.accuracy_by_subject({"a": 0.5, "b": 0.0}, overall=0.4)
  figures.save(figure, tmp_path / "a.png")
  assert dict(mpl.rcParams) == before
  assert not figure.axes[0].spines["top"].get_visible()
  assert (tmp_path / "a.png").stat().st_size > 1000


def test_colours_stay_apart_under_red_green_blindness():
  """Distances in OKLab (Ottosson 2020), seen normally and as in Machado et al. (2009), severity 1."""
  to_lms = np.array([[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]])
  to_lab = np.array([[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]])
  deuteranopia = np.array([[0.36732, 0.86065, -0.22797], [0.28009, 0.67250, 0.04741], [-0.01182, 0.04294, 0.96888]])
  protanopia = np.array([[0.15229, 1.05258, -0.20487], [0.11450, 0.78628, 0.09922], [-0.00388, -0.04812, 1.05200]])
  srgb = np.array([to_rgb(colour) for colour in figures.class_colours(20)])
  linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
  for view in (np.eye(3), deuteranopia, protanopia):
    lab = np.cbrt(np.clip(linear @ view.T, 0, 1) @ to_lms.T) @ to_lab.T
    distance = {pair: np.linalg.norm(lab[pair[0]] - lab[pair[1]]) for pair in itertools.combinations(range(20), 2)}
    assert min(distance.values()) > 0.05
    assert min(d for (_, j), d in distance.items() if j < 12) > 0.08


def test_codes_are_grouped_by_the_share_that_is_shown():
  joint = np.array([[90, 9], [50, 0], [0, 1], [60, 0]], float)  # code 0: more often a, but speaks for b
  dictionary = metrics.CodeDictionary(joint, joint.argmax(1), joint.max(1) / joint.sum(1), 0.5)
  axes = figures.code_behaviour(dictionary, ["a", "b"]).axes[0]
  codes = [label.get_text() for label in axes.get_xticklabels()]
  assert (set(codes[:2]), codes[2:]) == ({"1", "3"}, ["2", "0"])
  shown = axes.images[0].get_array()
  assert (np.diff(shown.argmax(0)) >= 0).all()


@pytest.mark.parametrize(("classes", "name"), [(19, "moving_around_in_an_elevator"), (12, "lie_to_sit"), (1, "a")])
def test_legend_of_an_ethogram_fits(classes, name):
  time, labels = np.arange(60.0), np.arange(60) % classes
  figure = figures.ethogram([("p7/a01", time, labels, labels)], [f"{name}_{i}" for i in range(classes)], step_s=1.0)
  figure.draw_without_rendering()
  legend, page = figure.legends[0].get_window_extent(), figure.bbox
  assert page.x0 <= legend.x0
  assert legend.x1 <= page.x1
  assert legend.y1 < figure.axes[0].get_window_extent().y0
