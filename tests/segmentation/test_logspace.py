"""Log-space messages, step by step, against brute force on the steps before and after."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from behavejax.segmentation import logspace
from behavejax.segmentation.model import HSMM
from tests.segmentation import brute

STEPS = 6
CASES = pytest.mark.parametrize(("start", "right_censored"), [("fresh", True), ("stationary", False)])


def forward(model, log_likelihoods):
  """`(message, log mass lost to scales, log mass of the segments that end)` after each step."""
  weights = logspace.prepare(model)
  message, scales = logspace.forward_init(weights, log_likelihoods[0]), 0.0
  after = [(message, scales, logspace.ends(weights, message))]
  for log_likelihood in log_likelihoods[1:]:
    message, _, _, scale = logspace.forward_step(weights, message, log_likelihood)
    scales += float(scale)
    after.append((message, scales, logspace.ends(weights, message)))
  return after


def backward(model, log_likelihoods, right_censored):
  """`(beta, scales)` at each step, and `from_start` of a segment that starts there."""
  weights = logspace.prepare(model)
  beta, scales = logspace.backward_init(weights, right_censored=right_censored), 0.0
  at = []
  for log_likelihood in log_likelihoods[::-1]:
    from_start, _, _ = logspace.backward_starts(weights.durations, beta, log_likelihood)
    at.append((beta, scales, from_start))
    beta, _, scale = logspace.backward_step(
      weights, beta, from_start, log_likelihood, jnp.array(True), right_censored
    )  # fmt: skip
    scales += float(scale)
  return at[::-1]


def case(start):
  return brute.random_model(11, start=start), jnp.asarray(brute.random_log_likelihoods(11, steps=STEPS))


@CASES
def test_ends_are_the_evidence_of_a_prefix(start, right_censored):
  del right_censored
  model, log_likelihoods = case(start)
  for step, (_, scales, ends) in enumerate(forward(model, log_likelihoods)):
    exact = brute.smooth(model, log_likelihoods[: step + 1], right_censored=False)
    np.testing.assert_allclose(
      ends + scales, exact.log_likelihood + np.log(exact.end_probs[-1]), rtol=1e-5, atol=1e-5
    )  # fmt: skip


@CASES
def test_starts_are_the_evidence_of_the_rest(start, right_censored):
  model, log_likelihoods = case(start)
  for step, (_, scales, from_start) in enumerate(backward(model, log_likelihoods, right_censored)):
    for state in range(3):
      only = np.where(np.arange(3) == state, 0.0, -np.inf)
      begun = HSMM(only, model.log_transitions, model.log_durations)
      exact = brute.smooth(begun, log_likelihoods[step:], right_censored=right_censored)
      assert float(from_start[state]) + scales == pytest.approx(exact.log_likelihood, abs=1e-5)


@CASES
def test_forward_and_backward_meet_in_the_posterior(start, right_censored):
  model, log_likelihoods = case(start)
  exact = brute.smooth(model, log_likelihoods, right_censored=right_censored)
  pairs = jax.jit(logspace.pair)
  messages = zip(forward(model, log_likelihoods), backward(model, log_likelihoods, right_censored), strict=True)
  for step, ((message, before, _), (beta, after, _)) in enumerate(messages):
    joint = pairs(logspace.prepare(model), message, beta) + before + after
    np.testing.assert_allclose(joint, exact.log_likelihood + np.log(exact.state_probs[step]), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("right_censored", [True, False])
def test_beyond_the_end_beta_stays_as_it_began(right_censored):
  weights = logspace.prepare(brute.random_model(0))
  beta = logspace.backward_init(weights, right_censored=right_censored)
  earlier, ended, scale = logspace.backward_step(
    weights, beta, jnp.full(3, jnp.nan), jnp.full(3, jnp.nan), jnp.array(False), right_censored
  )  # fmt: skip
  np.testing.assert_array_equal(earlier, beta)
  assert not ended.any()
  assert float(scale) == 0


def test_sums_equal_scipy():
  rng = np.random.default_rng(0)
  values = (rng.normal(size=(50, 6)) * 200).astype(np.float32)
  values[rng.random(values.shape) < 0.3] = -np.inf
  values[7] = -np.inf
  for axis in (0, 1):
    expected = scipy.special.logsumexp(values.astype(np.float64), axis=axis)
    np.testing.assert_allclose(logspace.logsumexp(jnp.asarray(values), axis=axis), expected, rtol=1e-6)
  assert np.isnan(logspace.logsumexp(jnp.array([0.0, jnp.nan]), axis=0))


def test_transitions_are_summed_over_steps():
  rng = np.random.default_rng(1)
  ended, followed = rng.normal(size=(2, STEPS, 3)).astype(np.float32)
  weights = logspace.prepare(brute.random_model(2))
  expected = np.exp(ended.astype(np.float64)).T @ np.exp(followed) * np.exp(np.asarray(weights.transitions))
  found = logspace.transitions(weights, jnp.asarray(ended), jnp.asarray(followed))
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  assert not jnp.diag(found).any()


def test_small_helpers():
  values = jnp.array([1.0, -jnp.inf, jnp.inf, jnp.nan])
  np.testing.assert_array_equal(logspace.finite_or_zero(values), [1, 0, 0, 0])
  table = jnp.arange(6.0).reshape(2, 3)
  np.testing.assert_array_equal(logspace.shift_in(jnp.array([8.0, 9.0]), table), [[8, 0, 1], [9, 3, 4]])
  np.testing.assert_array_equal(logspace.duration_counts(table, 2 * table), 2 * table)
