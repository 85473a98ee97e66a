"""Figures show what they are given."""

import numpy as np

from behavejax.evaluation import geodesic_figures as figures


def test_divergence_is_sorted():
  bits = np.array([0.5, 2.0, 0.001])
  (axes,) = figures.divergence(bits).axes
  assert [bar.get_height() for bar in axes.patches] == [2.0, 0.5, 0.001]
  assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "0", "2"]
  assert "2.5 bits" in axes.get_title(loc="left") + axes.get_title()


def test_signals_have_a_panel_each():
  x = np.random.default_rng(0).normal(size=(5, 20, 2))
  figure = figures.signals(x, channels=("a", "b"), rate_hz=10.0, columns=3, names=("first", "second"))
  assert [figure.axes[i].get_ylabel() for i in (0, 3)] == ["first", "second"]
  shown = [axes for axes in figure.axes if axes.get_visible()]
  assert len(shown) == 5
  for i, axes in enumerate(shown):
    for channel, line in enumerate(axes.get_lines()):
      np.testing.assert_array_equal(line.get_ydata(), x[i, :, channel])
      assert line.get_xdata()[-1] == 1.9
