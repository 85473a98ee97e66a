"""Rescaled messages equal log-space ones wherever `is_exact` lets them be used, and inputs where it must not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.segmentation import logspace, messages, rescaled
from behavejax.segmentation.model import HSMM, hsmm
from tests.segmentation import brute

STEPS = 8


@functools.cache
def evidence(space):
  return jax.jit(functools.partial(messages.log_likelihood, space=space))


def as_logs(message):
  stored = np.asarray(message.profile, np.float64)
  with np.errstate(divide="ignore"):
    return np.log(stored) - 64 * np.log(2) + np.asarray(message.log_scale, np.float64)[:, None]


def remaining_logs(weights, message):
  """Log mass by steps left of a log-space forward message: for each elapsed `u`, durations `u + r`."""
  elapsed, pmf = np.asarray(message.elapsed, np.float64), np.asarray(weights.durations, np.float64)
  states, longest = pmf.shape
  left = np.full((states, longest), -np.inf)
  for steps in range(longest):
    shifted = np.full((states, longest), -np.inf)
    shifted[:, : longest - steps] = pmf[:, steps:]
    left = np.logaddexp(left, elapsed[:, steps : steps + 1] + shifted)
  return left if message.first is None else np.logaddexp(left, np.asarray(message.first, np.float64))


@pytest.mark.parametrize("start", ["fresh", "stationary"])
def test_forward_steps_equal_log_space(start):
  model, log_likelihoods = brute.random_model(1, start=start), jnp.asarray(brute.random_log_likelihoods(1))
  weights, log_weights = rescaled.prepare(model), logspace.prepare(model)
  ours, theirs = (
    space.forward_init(w, log_likelihoods[0]) for space, w in ((rescaled, weights), (logspace, log_weights))
  )  # fmt: skip
  lowered = [0.0, 0.0]
  for log_likelihood in log_likelihoods[1:]:
    ours, *our_trace, our_scale = rescaled.forward_step(weights, ours, log_likelihood)
    theirs, *their_trace, their_scale = logspace.forward_step(log_weights, theirs, log_likelihood)
    for our_part, their_part in zip(our_trace, their_trace, strict=True):
      np.testing.assert_allclose(our_part + lowered[0], their_part + lowered[1], rtol=1e-5, atol=1e-5)
    lowered = [lowered[0] + float(our_scale), lowered[1] + float(their_scale)]
    found, expected = as_logs(ours) + lowered[0], remaining_logs(log_weights, theirs) + lowered[1]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.log_mass + lowered[0], np.logaddexp.reduce(expected, axis=1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("right_censored", [True, False])
def test_backward_steps_equal_log_space(right_censored):
  model, log_likelihoods = brute.random_model(2), jnp.asarray(brute.random_log_likelihoods(2))
  on = jnp.array(True)
  weights, log_weights = rescaled.prepare(model), logspace.prepare(model)
  ours, theirs = (
    space.backward_init(w, right_censored=right_censored) for space, w in ((rescaled, weights), (logspace, log_weights))
  )
  lowered = [0.0, 0.0]
  for log_likelihood in log_likelihoods[::-1]:
    our_start, by_duration, our_total = rescaled.backward_starts(weights.durations, ours, log_likelihood)
    their_start, their_by_duration, their_total = logspace.backward_starts(
      log_weights.durations, theirs, log_likelihood
    )  # fmt: skip
    np.testing.assert_allclose(our_start + lowered[0], their_start + lowered[1], rtol=1e-5, atol=1e-5)
    share = rescaled.duration_counts(weights.durations, by_duration) / our_total[:, None]
    np.testing.assert_allclose(share, their_by_duration / their_total[:, None], atol=1e-6)
    ours, our_end, our_scale = rescaled.backward_step(weights, ours, our_start, log_likelihood, on, right_censored)
    theirs, their_end, their_scale = logspace.backward_step(
      log_weights, theirs, their_start, log_likelihood, on, right_censored
    )  # fmt: skip
    lowered = [lowered[0] + float(our_scale), lowered[1] + float(their_scale)]
    np.testing.assert_allclose(our_end + lowered[0], their_end + lowered[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(as_logs(ours) + lowered[0], theirs + lowered[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("right_censored", [True, False])
def test_beyond_the_end_beta_stays_as_it_began(right_censored):
  weights = rescaled.prepare(brute.random_model(0))
  beta = rescaled.backward_init(weights, right_censored=right_censored)
  earlier, ended, scale = rescaled.backward_step(
    weights, beta, jnp.zeros(3), jnp.zeros(3), jnp.array(False), right_censored
  )  # fmt: skip
  for found, expected in zip(earlier, beta, strict=True):
    np.testing.assert_array_equal(found, expected)
  assert not ended.any()
  assert float(scale) == 0


def near_the_limit(seed, states=3):
  """A model and observations that use up the range of float32: rare durations, rare transitions, or wide gaps."""
  rng = np.random.default_rng(seed)
  shape = (states, states)
  log_pmf, log_transitions = np.zeros((states, 4)), np.where(np.eye(states), -np.inf, 0.0)
  log_likelihoods = rng.normal(size=(STEPS, states)) / 10
  if seed % 5 == 0:
    log_pmf[rng.random((states, 4)) < 0.5] = -24
  elif seed % 5 == 1:
    log_transitions[rng.random(shape) < 0.5] -= 35
  elif seed % 5 == 2:
    log_likelihoods -= rng.choice([0.0, 65.0], size=(STEPS, states))
  elif seed % 5 == 3:  # one state of a step as unlikely as can be
    log_likelihoods[np.arange(STEPS), rng.integers(states, size=STEPS)] -= 2000.0
  else:  # a state that is never reached
    log_transitions[:, 1] -= 60
    log_likelihoods[:, 1] += rng.choice([-300.0, 0.0], size=STEPS)
  log_pmf = log_pmf - np.logaddexp.reduce(log_pmf, axis=1, keepdims=True)
  log_transitions -= np.logaddexp.reduce(log_transitions, axis=1, keepdims=True)
  parts = (np.log(rng.dirichlet(np.ones(states))), log_transitions, log_pmf)
  model = HSMM(*(jnp.asarray(part, jnp.float32) for part in parts))
  return model, jnp.asarray(log_likelihoods, jnp.float32)


@pytest.mark.parametrize("seed", range(10))
def test_allowed_up_to_the_limit_and_right_there(seed):
  model, log_likelihoods = near_the_limit(seed)
  assert bool(rescaled.is_exact(model, log_likelihoods))
  exact = brute.smooth(model, log_likelihoods).log_likelihood
  assert float(evidence("rescaled")(model, log_likelihoods)) == pytest.approx(exact, rel=1e-6, abs=1e-4)


def test_wherever_it_is_allowed_it_equals_log_space():
  rng = np.random.default_rng(0)
  models, observations = zip(*(near_the_limit(seed, 4) for seed in range(400)), strict=True)
  models = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
  observations = jnp.stack(observations) * jnp.asarray(rng.uniform(0.5, 3.0, (400, 1, 1)), jnp.float32)
  allowed = np.asarray(jax.vmap(rescaled.is_exact)(models, observations))
  assert 0.3 < allowed.mean() < 0.95
  for censored in (True, False):
    both = [
      jax.jit(jax.vmap(functools.partial(messages.smooth, space=space, right_censored=censored)))(models, observations)
      for space in ("rescaled", "log")
    ]
    for name in ("log_likelihood", "state_probs", "durations", "transitions"):
      found, expected = (np.asarray(getattr(posterior, name))[allowed] for posterior in both)
      np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-4, err_msg=name)


def test_a_stay_longer_than_the_longest_duration():
  """Most of a state's mass ends in one step and what is left lies 90 nats below: beyond a factor of float32."""
  model = hsmm([1 / 3] * 3, (1 - np.eye(3)) / 2, np.full((3, 10), 0.1))
  states = np.repeat([0, 1, 0, 2], [30, 5, 5, 10])
  for gap in (60.0, 75.0, 90.0, 105.0):
    values = jnp.where(jnp.arange(3)[None] == jnp.asarray(states)[:, None], 0.0, -gap)
    found, expected = (functools.partial(messages.smooth, space=space)(model, values) for space in ("auto", "log"))
    np.testing.assert_allclose(found.log_likelihood, expected.log_likelihood, rtol=1e-5)
    np.testing.assert_allclose(found.state_probs, expected.state_probs, atol=1e-4)


def needs_a_lost_duration():
  """State 0 must last four steps, which it does with probability exp(-150): nothing in float32."""
  log_pmf = np.log([[1, 1, 1, 1], [0.4, 0.3, 0.2, 0.1]])
  log_pmf[0, 1:] = -150
  changes = [[-np.inf, 0], [0, -np.inf]]
  model = HSMM(*(jnp.asarray(part, jnp.float32) for part in (np.log([0.5, 0.5]), changes, log_pmf)))
  return model, np.array([[0.0, -900.0]] * 4, np.float32)


def needs_a_lost_segment():
  """A cycle; the segment of state 0 that is needed began 200 nats below a later one that soon cannot be."""
  model = hsmm([1 / 3] * 3, [[0, 1, 0], [0, 0, 1], [1, 0, 0]], [[0.5, 0, 0, 0.5], [1, 0, 0, 0], [1, 0, 0, 0]])
  only_zero = [0.0, -600.0, -600.0]
  return model, np.array([[-200, -900, 0], only_zero, only_zero, only_zero, [-600, 0, -600]], np.float32)


@pytest.mark.parametrize("make", [needs_a_lost_duration, needs_a_lost_segment])
def test_forced_beyond_its_range_it_goes_wrong_and_auto_does_not(make):
  model, log_likelihoods = make()
  exact = brute.smooth(model, log_likelihoods).log_likelihood
  assert not bool(rescaled.is_exact(model, jnp.asarray(log_likelihoods)))
  forced = float(evidence("rescaled")(model, jnp.asarray(log_likelihoods)))
  assert np.isnan(forced) or forced < exact - 50
  for space in ("auto", "log"):
    assert float(evidence(space)(model, jnp.asarray(log_likelihoods))) == pytest.approx(exact, rel=1e-6)


def test_rule():
  model, calm = brute.random_model(3, start="stationary"), jnp.asarray(brute.random_log_likelihoods(3))
  exact = functools.partial(rescaled.is_exact, model)
  assert bool(exact(calm))
  assert bool(exact(calm + 1e4 * jnp.arange(STEPS)[:, None]))  # gaps are within a step
  assert bool(exact(calm.at[3, 1].set(-200.0)))  # two states are left to choose from
  assert not bool(exact(calm.at[3, :2].set(-200.0)))
  for bad in (-np.inf, np.inf, np.nan):
    assert not bool(exact(calm.at[3, 1].set(bad))), bad
  assert not bool(rescaled.is_exact(model._replace(log_durations=model.log_durations.at[1, 2].set(-jnp.inf)), calm))
  rare = model.log_transitions.at[0, 1].set(-70.0)
  assert bool(rescaled.is_exact(model._replace(log_transitions=rare), calm))
  assert not bool(rescaled.is_exact(model._replace(log_transitions=rare.at[1, 0].set(-70.0)), calm))
  late = model.log_first_durations.at[0, 3].set(-60.0)
  assert not bool(rescaled.is_exact(model._replace(log_first_durations=late), calm))
  assert not bool(rescaled.is_exact(brute.random_model(3, states=1), calm[:, :1]))


def test_transitions_equal_log_space_over_wide_ranges():
  rng = np.random.default_rng(5)
  ended = rng.normal(size=(STEPS, 3)).astype(np.float32) * 20 - 300
  followed = 290 + rng.normal(size=(STEPS, 3)).astype(np.float32) * 20
  ended[2] = followed[5] = -np.inf
  model = brute.random_model(5)
  found = rescaled.transitions(rescaled.prepare(model), jnp.asarray(ended), jnp.asarray(followed))
  expected = logspace.transitions(logspace.prepare(model), jnp.asarray(ended), jnp.asarray(followed))
  np.testing.assert_allclose(found, expected, rtol=1e-4)
