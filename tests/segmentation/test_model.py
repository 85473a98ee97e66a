"""The model's parameters, what a random step sees of them, and sequences drawn from it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from behavejax.errors import InputError
from behavejax.segmentation import model as models
from behavejax.segmentation.model import HSMM, hsmm
from tests.segmentation import brute

INITIAL, CHANGES = [0.5, 0.3, 0.2], [[0, 0.6, 0.4], [0.9, 0, 0.1], [0.5, 0.5, 0]]
PMF = [[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]


def test_hsmm_holds_logs_in_float32():
  model = hsmm(INITIAL, CHANGES, PMF)
  assert model.log_first_durations is None
  for found, expected in zip(model[:3], (INITIAL, CHANGES, PMF), strict=True):
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(np.exp(found), expected, atol=1e-6)
  assert (jnp.diag(model.log_transitions) == -jnp.inf).all()


def test_stationary_start_sees_what_remains():
  model = hsmm(INITIAL, CHANGES, PMF, start="stationary")
  expected = [[1 / 3, 0.9 / 3, 0.7 / 3, 0.4 / 3], [1 / 1.5, 0.5 / 1.5, 0, 0], [0.25] * 4]
  np.testing.assert_allclose(np.exp(model.log_first_durations), expected, atol=1e-6)


def test_tiny_probabilities_keep_their_logs():
  model = hsmm([1.0, 0.0], [[0, 1], [1, 0]], [[1.0, 1e-200], [0.0, 1.0]])
  assert float(model.log_durations[0, 1]) == pytest.approx(-200 * np.log(10))


@pytest.mark.parametrize(("initial", "changes", "pmf"), [
  ([1.0], [[0.0]], [[0.2, 0.8]]),
  ([1.0], [[1.0]], [[1.0]]),
  ([0.5, 0.5], [[0.3, 0.7], [0.5, 0.5]], [[1.0], [1.0]]),
])  # fmt: skip
def test_small_models(initial, changes, pmf):
  model = hsmm(np.array(initial), np.array(changes), np.array(pmf))
  np.testing.assert_allclose(np.exp(model.log_transitions), changes, atol=1e-6)


@pytest.mark.parametrize(("change", "message"), [
  ({"start": "middle"}, "start must be 'fresh' or 'stationary', got 'middle'"),
  ({"initial_distribution": [1.2, -0.2, 0]}, "initial_distribution must hold probabilities, got -0.2"),
  ({"initial_distribution": [0.5, 0.4, 0]}, "initial_distribution must sum to 1, got 0.9"),
  ({"initial_distribution": [np.nan, 0.5, 0.5]}, "initial_distribution must hold probabilities, got nan"),
  ({"initial_distribution": [[0.5, 0.3, 0.2]]}, r"do not fit each other: \(1, 3\), \(3, 3\), \(3, 4\)"),
  ({"initial_distribution": []}, r"do not fit each other: \(0,\)"),
  ({"initial_distribution": [0.5, 0.5]}, r"do not fit each other: \(2,\), \(3, 3\), \(3, 4\)"),
  ({"transition_matrix": [[0, 1, 0], [1, 0, 0], [0.5, 0.4, 0]]}, "row 2 of transition_matrix must sum to 1, got 0.9"),
  ({"transition_matrix": [[0, 2, -1], [1, 0, 0], [1, 0, 0]]}, "transition_matrix must hold probabilities, got -1"),
  ({"transition_matrix": [[0, 1, 0], [0.5, 0.5, 0], [1, 0, 0]]}, "transition_matrix must have a zero diagonal.* 0.5"),
  ({"transition_matrix": [[0, 1, 0], [0, 0, 0], [1, 0, 0]]}, "row 1 of transition_matrix must sum to 1, got 0"),
  ({"transition_matrix": [[0, 1], [1, 0]]}, r"do not fit each other: \(3,\), \(2, 2\), \(3, 4\)"),
  ({"durations": [[0.5, 0.5], [1, 0.5], [1, 0]]}, "row 1 of durations must sum to 1, got 1.5"),
  ({"durations": [[1, 0], [1.1, -0.1], [1, 0]]}, "durations must hold probabilities, got -0.1"),
  ({"durations": [[1, 0], [np.inf, 0], [1, 0]]}, "durations must hold probabilities, got inf"),
  ({"durations": [[1, 0], [1, 0]]}, r"do not fit each other: \(3,\), \(3, 3\), \(2, 2\)"),
  ({"durations": [1, 0, 0]}, r"do not fit each other: \(3,\), \(3, 3\), \(3,\)"),
  ({"durations": np.zeros((3, 0))}, r"do not fit each other: \(3,\), \(3, 3\), \(3, 0\)"),
])  # fmt: skip
def test_bad_input(change, message):
  with pytest.raises(ValueError, match=message) as caught:
    hsmm(**{"initial_distribution": INITIAL, "transition_matrix": CHANGES, "durations": PMF, **change})
  assert isinstance(caught.value, InputError)
  assert "\n" not in str(caught.value)


def long_run(changes, pmf):
  """`[K, D]` stationary distribution of (state, steps left): linear algebra on the chain of all pairs, float64."""
  states, longest = pmf.shape
  chain = np.zeros((states, longest, states, longest))
  for state in range(states):
    for left in range(1, longest):
      chain[state, left, state, left - 1] = 1
    chain[state, 0] = changes[state][:, None] * pmf
  chain = chain.reshape(states * longest, -1)
  equations = np.vstack([chain.T - np.eye(len(chain)), np.ones(len(chain))])
  return np.linalg.lstsq(equations, np.append(np.zeros(len(chain)), 1.0), rcond=None)[0].reshape(states, longest)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(1, 6))
def test_occupancy_and_remaining_are_the_long_run(seed, states, longest):
  rng = np.random.default_rng(seed)
  changes, pmf = brute.random_transitions(rng, states), rng.dirichlet(np.ones(longest), size=states)
  expected = long_run(changes, pmf)
  found = models.occupancy(changes, pmf @ np.arange(1, longest + 1))
  np.testing.assert_allclose(found, expected.sum(axis=1), atol=1e-9)
  np.testing.assert_allclose(models.remaining(pmf) * found[:, None], expected, atol=1e-9)


def test_occupancy_of_states_that_are_never_entered_is_zero():
  changes = [[0, 1, 0], [1, 0, 0], [0.5, 0.5, 0]]
  np.testing.assert_allclose(
    models.occupancy(np.array(changes), np.array([1.0, 3.0, 9.0])), [0.25, 0.75, 0], atol=1e-12
  )


@functools.cache
def drawn(start, count=2000, steps=20):
  model = hsmm(models.occupancy(np.array(CHANGES), np.array(PMF) @ [1, 2, 3, 4]), CHANGES, PMF, start=start)
  sample = jax.jit(jax.vmap(functools.partial(models.sample, steps=steps), in_axes=(None, 0)))
  with jax.debug_key_reuse(False):  # it takes any scan over keys under vmap for a reuse (jax 0.10)
    found = sample(model, jax.random.split(jax.random.key(3), count))
  return np.asarray(found.states), np.asarray(found.starts)


def assert_follows(seen, expected):
  """Chi-square over the outcomes that are possible; none else is seen."""
  seen, expected = np.asarray(seen, float), np.asarray(expected, float)
  assert not seen[expected == 0].any()
  possible = expected > 0
  if possible.sum() > 1:
    assert scipy.stats.chisquare(seen[possible], expected[possible] / expected.sum() * seen.sum()).pvalue > 1e-3


def test_samples_have_the_model_s_durations_and_changes():
  """Of the first four segments, which are always complete; of all complete ones, short ones are too many."""
  counts, changes = np.zeros((3, 4)), np.zeros((3, 3))
  for states, starts in zip(*drawn("fresh"), strict=True):
    begins = np.flatnonzero(starts)[:5]
    np.add.at(counts, (states[begins[:4]], np.diff(begins) - 1), 1)
    np.add.at(changes, (states[begins[:4]], states[begins[1:]]), 1)
  for row in range(3):
    assert_follows(counts[row], PMF[row])
    assert_follows(changes[row], CHANGES[row])


def test_samples_are_segmentations():
  for start in ("fresh", "stationary"):
    states, starts = drawn(start)
    assert starts[:, 0].all()
    np.testing.assert_array_equal(np.diff(states) != 0, starts[:, 1:])  # a state never follows itself
    longest = max(np.diff(np.flatnonzero(np.append(row, True))).max() for row in starts)
    assert longest == 4


def test_stationary_samples_begin_inside_a_segment():
  """Every step is then like every other: the first one's state and what remains of its segment too."""
  states, starts = drawn("stationary")
  expected = long_run(np.array(CHANGES), np.array(PMF))
  for time in (0, 1, 19):
    assert_follows(np.bincount(states[:, time], minlength=3), expected.sum(axis=1))
  left = np.argmax(starts[:, 1:], axis=1) + 1
  counts = np.zeros((3, 4))
  np.add.at(counts, (states[:, 0], left - 1), 1)
  assert_follows(counts.ravel(), expected.ravel())


def test_fresh_samples_begin_with_a_segment():
  states, starts = drawn("fresh")
  first = np.argmax(starts[:, 1:], axis=1) + 1
  for state in range(3):
    assert_follows(np.bincount(first[states[:, 0] == state] - 1, minlength=4), PMF[state])


def test_sample_is_fixed_by_its_key_and_shorter_ones_are_valid():
  model = brute.random_model(0)
  one, other = (models.sample(model, jax.random.key(5), steps=7) for _ in range(2))
  np.testing.assert_array_equal(one.states, other.states)
  assert models.sample(model, jax.random.key(5), steps=1).starts.tolist() == [True]


def test_one_state_is_sampled_to_the_end_of_its_segment():
  model = HSMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.log(jnp.array([[0.0, 0.0, 1.0]])))
  sampled = models.sample(model, jax.random.key(0), steps=7)
  assert sampled.states.tolist() == [0] * 7
  assert sampled.starts.tolist() == [True, False, False, True, False, False, True]
