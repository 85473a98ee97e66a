"""The simulated animals follow the chain they claim to follow."""

import numpy as np
import pytest

from behavejax.config import SimulateConfig
from behavejax.data import simulate
from behavejax.data.quality import runs
from behavejax.errors import InputError


def test_states_follow_the_chain():
  chain = simulate.truth(50.0)
  np.testing.assert_allclose(chain.transition_matrix.sum(1), 1)
  assert (np.diag(chain.transition_matrix) == 0).all()
  states = simulate.sample_states(chain, 2_000_000, np.random.default_rng(0))
  counts = np.zeros_like(chain.transition_matrix)
  changes = np.flatnonzero(np.diff(states))
  np.add.at(counts, (states[changes], states[changes + 1]), 1)
  np.testing.assert_allclose(counts / counts.sum(1, keepdims=True), chain.transition_matrix, atol=0.05)
  for state, mean in enumerate(chain.mean_durations):
    lengths = runs(states == state)[1:-1, 1]
    assert lengths.min() >= chain.shortest
    assert lengths.mean() == pytest.approx(mean, rel=0.08)


def test_seeds_animals_and_gaps():
  config = SimulateConfig(subjects=3, minutes=2.0, gaps=0.05)
  first, again, other = (simulate.quadruped(config, seed) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first[1].signal, again[1].signal)
  assert not np.array_equal(first[1].labels[:500], other[1].labels[:500]) or not np.array_equal(
    first[1].signal, other[1].signal, equal_nan=True
  )
  assert [r.subject for r in first] == ["1", "2", "3"]
  lost = np.mean([np.isnan(r.signal).any(axis=1).mean() for r in first])
  assert lost == pytest.approx(0.05, abs=0.02)


def test_an_empty_simulation_is_refused():
  with pytest.raises(InputError, match=r"minutes=1e-05 at 50 Hz is less than 2 samples"):
    simulate.quadruped(SimulateConfig(minutes=1e-5), 0)


def test_postures_and_turns_show_in_the_right_channels():
  (animal,) = simulate.quadruped(SimulateConfig(subjects=1, minutes=20.0, gaps=0.0, noise=0.2), 3)
  mean = {name: animal.signal[animal.labels == i].mean(0) for i, name in enumerate(animal.classes)}
  gravity = np.linalg.norm(mean["stand"][:3])
  assert gravity == pytest.approx(9.81, rel=0.05)
  assert mean["turn_left"][5] - mean["stand"][5] > 0.5
  assert mean["turn_right"][5] - mean["stand"][5] < -0.5
  cosine = mean["stand"][:3] @ mean["sit"][:3] / np.linalg.norm(mean["stand"][:3]) / np.linalg.norm(mean["sit"][:3])
  assert np.rad2deg(np.arccos(cosine)) == pytest.approx(35, abs=6)
