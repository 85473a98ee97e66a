"""Figures of segmentations draw what they are given, with one state and with many."""

import io

import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.patches import FancyArrowPatch

from behavejax.evaluation import segment_figures as figures
from behavejax.evaluation.figures import class_colours


def draw(figure):
  file = io.BytesIO()
  figure.savefig(file, format="png", dpi=40)
  assert file.tell() > 1000


def example(states, classes):
  rng = np.random.default_rng(0)
  table = rng.dirichlet(np.ones(max(classes, 1)), states)[:, :classes]
  names = [f"moving_around_{i}" for i in range(classes)]
  transitions = rng.dirichlet(np.full(states, 0.3), states)
  return rng, table, names, transitions, rng.dirichlet(np.ones(states))


@pytest.mark.parametrize(("states", "classes"), [(1, 1), (2, 0), (3, 12), (20, 5), (40, 19)])
def test_all_are_drawn(states, classes):
  rng, table, names, transitions, share = example(states, classes)
  palette = figures.state_palette(table, names)
  shown = figures.behaviour_order(table, range(states))
  assert sorted(shown) == list(range(states))
  found = np.repeat(rng.integers(-1, states, 30), rng.integers(1, 9, 30))
  labels = np.maximum(found, 0) % classes if classes else np.full(len(found), -1)
  tracks = [figures.Track("p7/a01", labels, found), figures.Track("p8", labels, found)]
  draw(figures.segment_ethogram(tracks, shown, palette, rate_hz=2.0))
  draw(figures.usage_bars(share, palette, threshold=0.01))
  draw(figures.transition_graph(transitions, share, shown, palette))
  observed = {state: rng.gamma(2, 3, 5 + state) for state in shown}
  pmf = rng.dirichlet(np.ones(30), states)
  draw(figures.duration_histograms(observed, pmf, step_s=0.5, palette=palette))
  if classes:
    draw(figures.behaviour_heat_map(table, share, shown, names))
  if shown:
    draw(figures.subject_heat_map(np.stack([share, share[::-1]]), ["a", "b"], shown))


def test_colours_are_those_of_behaviours():
  table = np.array([[0.2, 0.8], [0.9, 0.1], [0, 0]])
  palette = figures.state_palette(table, ["a", "b"])
  blue, green = class_colours(2)
  assert palette.states[:2] == [green, blue]
  assert palette.states[2] not in class_colours(20)
  assert list(palette.behaviours) == ["a", "b", "(no labels)"]
  assert figures.behaviour_order(table, [0, 1, 2]) == [1, 0, 2]


def test_arrows_are_the_probable_transitions():
  transitions = np.array([[0.9, 0.1, 0.0], [0.04, 0.0, 0.96], [0.5, 0.5, 0.0]])
  palette = figures.state_palette(np.ones((3, 1)), ["a"])
  axes = figures.transition_graph(transitions, np.full(3, 1 / 3), [0, 1, 2], palette).axes[0]
  assert sum(isinstance(patch, FancyArrowPatch) for patch in axes.patches) == 4


def test_histogram_and_fit_are_shares_of_the_same_bins():
  steps = np.array([1, 1, 2, 3, 4, 4, 4, 50])
  pmf = np.array([[0.25, 0.125, 0.125, 0.5, *np.zeros(60)]])
  palette = figures.state_palette(np.ones((1, 1)), ["a"])
  figure = figures.duration_histograms({0: 0.1 * steps}, pmf, step_s=0.1, palette=palette)
  observed, fitted = (patch.get_data() for patch in figure.axes[0].patches)
  np.testing.assert_array_equal(observed.edges, fitted.edges)
  np.testing.assert_allclose(fitted.values.sum(), 1)
  width = round((observed.edges[1] - observed.edges[0]) / 0.1)
  expected = [np.sum((steps - 1) // width == i) / 8 for i in range(len(observed.values))]
  np.testing.assert_allclose(observed.values, expected)


def test_what_lies_beyond_the_axis_is_said():
  durations = np.concatenate([np.full(99, 1.0), [500.0]])
  pmf = np.array([[0.0, 1.0, *np.zeros(2000)]])
  palette = figures.state_palette(np.ones((1, 0)), [])
  axes = figures.duration_histograms({0: durations}, pmf, step_s=0.5, palette=palette).axes[0]
  assert axes.get_title(loc="left") == "S0, n = 100, 1% beyond"
  assert axes.get_xlim()[1] < 2


def test_ethogram_shows_runs_where_they_are():
  labels, states = np.array([0, 0, 1, 1, -1, -1]), np.array([1, 1, 1, 0, 0, -1])
  palette = figures.state_palette(np.array([[0.0, 1.0], [1.0, 0.0]]), ["a", "b"])
  axes = figures.segment_ethogram([figures.Track("r", labels, states)], [1, 0], palette, rate_hz=2.0).axes[0]
  bars = {}
  for collection in axes.collections:
    for path in collection.get_paths():
      box = path.get_extents()
      bars[round(box.ymin, 2), box.xmin] = (box.xmax, collection.get_facecolor()[0])
  spans = {key: value[0] for key, value in bars.items()}
  assert spans == {(-0.42, 0.0): 1.5, (0.58, 1.5): 2.5, (-3.4, 0.0): 1.0, (-3.4, 1.0): 2.0}
  assert same_color(bars[-0.42, 0.0][1], bars[-3.4, 0.0][1])
  assert [tick.get_text() for tick in axes.get_yticklabels()] == ["behaviour", "S1", "S0"]


def test_panels_share_their_unit():
  palette = figures.state_palette(np.ones((1, 0)), [])
  tracks = [figures.Track(str(n), np.full(n, -1), np.zeros(n, int)) for n in (100, 400)]
  figure = figures.segment_ethogram(tracks, [0], palette, rate_hz=1.0)
  assert {axes.get_xlabel() for axes in figure.axes} == {"time in the recording (min)"}


@pytest.mark.parametrize("classes", [0, 5, 19])
def test_legend_lies_below_the_axes(classes):
  _, table, names, transitions, share = example(20, classes)
  figure = figures.transition_graph(transitions, share, range(20), figures.state_palette(table, names))
  figure.draw_without_rendering()
  for legend in figure.legends:
    box = legend.get_window_extent()
    assert figure.bbox.x0 <= box.x0
    assert box.x1 <= figure.bbox.x1
    assert box.y1 < figure.axes[0].get_window_extent().y0
