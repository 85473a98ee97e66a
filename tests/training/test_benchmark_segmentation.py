"""What the benchmark of segmentation prints at a small size, and that learning recovers what was simulated."""

import numpy as np
import pytest

from behavejax.config import SegmentationConfig, SyllablesConfig
from behavejax.data.recording import Recording
from behavejax.data.streams import Streams
from behavejax.segmentation import messages
from behavejax.training import benchmark_segmentation as benchmark

pytestmark = pytest.mark.slow


def test_each_size_gives_a_line_of_times():
  lines = list(benchmark.speed(((3, 4, 12, 2),), repeats=5))
  assert "pyhsmm" in lines[1]
  cells = lines[-1].split()
  assert cells[:4] == ["3", "4", "12", "2"]
  times = [float(cell) for cell in cells[4:]]
  assert len(times) >= 6
  assert min(times) >= 0


def test_the_plain_scan_gives_the_same_evidence():
  model, values = benchmark.random_problem(3, 4, 12, 1)
  np.testing.assert_allclose(
    benchmark.plain_evidence(model, values[0]), messages.log_likelihood(model, values[0]), rtol=1e-6
  )


def labelled(labels, subject):
  return Recording(
    signal=np.zeros((len(labels), 1), np.float32), rate_hz=10.0, channels=("x",), units=("",), labels=labels,
    classes=("a", "b"), subject=subject, session="1", source="test",
  )  # fmt: skip


def test_errors_are_measured_against_the_matched_states():
  truth = [np.repeat([0, 1, 0], [4, 2, 4]), np.repeat([1, 0], [8, 2])]
  steps = tuple(np.arange(10) for _ in truth)
  streams = Streams((), steps, tuple(labelled(t, s) for t, s in zip(truth, "pq", strict=True)), 10.0, 1.0, 1.0)
  perfect = [1 - t for t in truth]
  assert benchmark.describe(streams, perfect).split() == ["2", "1.000", "1.000", "0.000", "0.000"]
  longer = [np.repeat([0, 1, 0], [3, 4, 3]), truth[1]]
  assert benchmark.describe(streams, longer).split()[4] == "0.200"
  weights = np.array([[1 / 3, 2 / 3], [1 / 2, 1 / 2]])
  assert benchmark.weights_agreement(streams, perfect, weights) == pytest.approx(1)
  assert benchmark.weights_agreement(streams, perfect, weights[::-1]) == pytest.approx(-1)


@pytest.fixture(scope="module")
def recovered():
  simulated = SyllablesConfig(states=4, recordings=6, steps=500, channels=3, separation=3.0, longest=20.0)
  settings = SegmentationConfig(states=8, max_duration_s=5.0, mean_duration_s=1.0, restarts=2, iterations=8)
  return list(benchmark.recovery(simulated, settings, seeds=2))


def test_states_durations_and_weights_are_recovered(recovered):
  rows = [line.split(": ") for line in recovered if "seed " in line]
  assert len(rows) == 4
  for _, numbers in rows:
    states, hungarian, rand, duration, usage = map(float, numbers.split()[:5])
    assert 4 <= states <= 5
    assert hungarian > 0.95
    assert rand > 0.9
    assert duration < 0.1
    assert usage < 0.05
  for _, numbers in rows[2:]:
    assert float(numbers.split("r = ")[1].split()[0]) > 0.8


def test_seeds_agree(recovered):
  between = [line for line in recovered if "between seeds" in line]
  assert len(between) == 2
  assert all(float(line.split()[-1]) > 0.9 for line in between)
