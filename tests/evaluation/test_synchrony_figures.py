"""Figures of two devices draw what they are given, with few states and with many."""

import io

import numpy as np
import pytest
from matplotlib.colors import same_color

from behavejax.evaluation import synchrony_figures as figures
from behavejax.evaluation.synchrony import synchrony

NAMES = ("collar", "handler")


def draw(figure):
  file = io.BytesIO()
  figure.savefig(file, format="png", dpi=40)
  assert file.tell() > 1000


def example(states, *, lag=4):
  rng = np.random.default_rng(states)
  first = np.repeat(rng.integers(-1, states, 80), rng.integers(2, 9, 80))
  second = np.roll(first, lag)
  return first, second, synchrony([first], [second], rate_hz=4.0, lag_s=2.0, shuffles=30, rng=rng)


@pytest.mark.parametrize("states", [1, 2, 10, 40])
def test_all_are_drawn(states):
  first, second, result = example(states)
  draw(figures.lag_curves(result, NAMES))
  draw(figures.joint_heat_map(result, NAMES))
  tracks = [figures.PairTrack("p7/a01", first, second), figures.PairTrack("p8", second[:100], first[:100])]
  draw(figures.paired_ethogram(tracks, NAMES, rate_hz=4.0))
  draw(figures.paired_ethogram([figures.PairTrack("p", 0 * first - 1, second)], NAMES, rate_hz=0.5))


def test_nothing_known_in_common_is_drawn():
  first, _, _ = example(3)
  nothing = np.full(len(first), -1)
  result = synchrony([first], [nothing], rate_hz=4.0, lag_s=2.0, shuffles=5, rng=np.random.default_rng(0))
  draw(figures.lag_curves(result, NAMES))
  draw(figures.paired_ethogram([figures.PairTrack("p", nothing, nothing)], NAMES, rate_hz=4.0))


def test_the_peak_is_marked_where_it_is_more_than_chance():
  _, _, result = example(5)
  assert result.peak_lag_s == 1
  information, agreement, _ = figures.lag_curves(result, NAMES).axes
  assert [text.get_text() for text in information.texts] == ["+1 s"]
  found = max(agreement.lines, key=lambda line: np.nanmax(line.get_ydata()) * (len(line.get_xdata()) > 2))
  np.testing.assert_allclose(found.get_ydata(), 100 * result.agreement.values)
  chance = figures.lag_curves(result._replace(p_peak=0.5), NAMES).axes[0]
  assert not chance.texts
  at_once = figures.lag_curves(result._replace(peak_lag_s=0.0), NAMES).axes[0]
  assert at_once.texts[0].get_text() == "0 s"


def test_pairs_are_shares_of_the_time_at_the_peak():
  _, _, result = example(3)
  axes = figures.joint_heat_map(result, NAMES).axes[0]
  shown = {tuple(int(v) for v in text.get_position()): float(text.get_text()) for text in axes.texts}
  share = 100 * result.joint / result.joint.sum()
  for (column, row), value in shown.items():
    assert value == pytest.approx(share[row, column], abs=0.5)
  assert set(shown) >= {(i, i) for i in range(3)}
  assert axes.get_xlabel() == "state of handler, 1 s later"
  earlier = figures.joint_heat_map(result._replace(peak_lag_s=-0.5), NAMES).axes[0]
  assert earlier.get_xlabel() == "state of handler, 0.5 s earlier"


def test_the_ethogram_shows_states_where_they_are():
  first, second = np.array([0, 0, 1, 1, -1]), np.array([1, 1, 1, 1, -1])
  figure = figures.paired_ethogram([figures.PairTrack("r", first, second)], NAMES, rate_hz=1.0)
  axes = figure.axes[0]
  bars = {}
  for collection in axes.collections:
    for path in collection.get_paths():
      box = path.get_extents()
      bars[round(box.ymin, 2), box.xmin] = (box.xmax, collection.get_facecolor()[0])
  spans = {key: value[0] for key, value in bars.items()}
  assert spans == {(0.06, 0.0): 2.0, (0.06, 2.0): 4.0, (1.06, 0.0): 4.0, (2.06, 2.0): 4.0}
  assert same_color(bars[0.06, 2.0][1], bars[1.06, 0.0][1])
  assert [tick.get_text() for tick in axes.get_yticklabels()] == ["collar", "handler", "equal"]
  assert [text.get_text() for text in figure.legends[0].get_texts()] == ["S0", "S1"]


def test_the_most_frequent_states_get_the_colours():
  first, second, _ = example(40)
  figure = figures.paired_ethogram([figures.PairTrack("r", first, second)], NAMES, rate_hz=4.0)
  names = [text.get_text() for text in figure.legends[0].get_texts()]
  assert len(names) == 20
  assert names[-1] == "others"
