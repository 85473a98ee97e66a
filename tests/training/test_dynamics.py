"""What expected statistics say of changes and durations is what counting says of known segmentations."""

import itertools

import numpy as np
import pytest

from behavejax.segmentation.learning import Statistics
from behavejax.training.dynamics import dynamics, state_numbers

RATE = 4.0


def statistics(sequences, *, states=3, longest=10):
  """Statistics of segmentations that are known."""
  initial, transitions = np.zeros((1, states)), np.zeros((1, states, states))
  time, durations = np.zeros(states), np.zeros((states, longest))
  for sequence in sequences:
    initial[0, sequence[0]] += 1
    for a, b in itertools.pairwise(sequence):
      transitions[0, a, b] += a != b
    time += np.bincount(sequence, minlength=states)
  return Statistics(initial, transitions, durations, None, np.zeros((states, states)), 0.0, time, time.sum())


def test_counts_of_known_segmentations():
  found = dynamics(statistics([[0, 0, 0, 1, 1, 0], [2, 2]]), rate_hz=RATE)
  assert found == {
    "transitions_per_minute": pytest.approx(2 / (8 / RATE / 60)),
    "mean_duration_s": pytest.approx(8 / 4 / RATE),
    "persistence": pytest.approx(4 / 6),
  }


def test_numbers_of_states():
  found = state_numbers(statistics([[0, 0, 0, 1, 1, 0], [2, 2]]), rate_hz=RATE, in_use=0.01)
  assert found["largest_state"] == pytest.approx(0.5)
  assert found["states"] == 3
  assert found["shortest_mean_steps"] == pytest.approx(2)
  assert found["longest_mean_share"] == pytest.approx(0.2)
  assert found["transitions_per_minute"] == pytest.approx(60)


def test_single_steps_have_no_order():
  singles = statistics([[0], [1], [0]], longest=1)
  assert dynamics(singles, rate_hz=RATE) == {}
  found = state_numbers(singles, rate_hz=RATE, in_use=0.01)
  assert np.isnan(found["transitions_per_minute"])
  assert "shortest_mean_steps" not in found


def test_states_that_never_begin_have_no_duration():
  found = state_numbers(statistics([[0, 0, 0, 0]]), rate_hz=RATE, in_use=0.01)
  assert found["states"] == 1
  assert found["largest_state"] == 1
  assert found["transitions_per_minute"] == 0
