"""Simulated syllables: the truth that learning is compared with is what it says it is."""

import dataclasses

import numpy as np
import pytest

from behavejax.config import SyllablesConfig
from behavejax.data import simulate_syllables
from behavejax.evaluation.segments import runs


def test_every_state_looks_and_lasts_as_configured():
  config = SyllablesConfig(recordings=10, steps=5000)
  recordings = simulate_syllables.syllables(config, 3)
  labels = np.concatenate([r.labels for r in recordings])
  signal = np.concatenate([r.signal for r in recordings])
  assert set(labels) == set(range(config.states))
  for state in range(config.states):
    np.testing.assert_allclose(signal[labels == state].std(axis=0), 1, rtol=0.05)
  lengths = {state: [] for state in range(config.states)}
  for r in recordings:
    starts, stops, states = runs(r.labels)
    for start, stop, state in list(zip(starts, stops, states, strict=True))[:-1]:
      lengths[int(state)].append(stop - start)
  means = sorted(np.mean(values) for values in lengths.values())
  expected = np.exp(np.linspace(np.log(config.shortest), np.log(config.longest), config.states))
  np.testing.assert_allclose(means, expected, rtol=0.1)


def test_a_seed_is_a_data_set():
  config = SyllablesConfig(recordings=2, steps=100)
  first, second, other = (simulate_syllables.syllables(config, seed) for seed in (1, 1, 2))
  np.testing.assert_array_equal(first[1].signal, second[1].signal)
  assert not np.array_equal(first[1].signal, other[1].signal)


def test_subjects_differ_in_what_they_like():
  config = SyllablesConfig(recordings=6, steps=5000, subjects=3)
  recordings = simulate_syllables.syllables(config, 0)
  assert [r.subject for r in recordings] == ["1", "2", "3", "1", "2", "3"]
  usage = np.array([np.bincount(r.labels, minlength=config.states) / config.steps for r in recordings])
  within = np.abs(usage[:3] - usage[3:]).sum(axis=1).mean()
  between = np.abs(usage[:3] - np.roll(usage[3:], 1, axis=0)).sum(axis=1).mean()
  assert between > 2 * within
  alike = simulate_syllables.syllables(dataclasses.replace(config, subjects=1), 0)
  usage = np.array([np.bincount(r.labels, minlength=config.states) / config.steps for r in alike])
  assert np.abs(usage - usage.mean(axis=0)).sum(axis=1).mean() < between


@pytest.mark.parametrize("states", [2, 5])
def test_transitions_leave_the_state(states):
  chain = simulate_syllables.transitions(np.random.default_rng(0).dirichlet(np.ones(states), states))
  np.testing.assert_allclose(chain.sum(axis=1), 1)
  assert not chain.diagonal().any()
