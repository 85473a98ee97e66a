"""Evidence, posterior and gradients against brute force, a NumPy hidden Markov model and dynamax."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from behavejax.segmentation import durations, messages, rescaled
from behavejax.segmentation.model import HSMM, hsmm
from tests.segmentation import brute

STEPS = 8
BOTH_STARTS = pytest.mark.parametrize("start", ["fresh", "stationary"])
BOTH_ENDS = pytest.mark.parametrize("right_censored", [True, False])
seeds = st.integers(0, 10**6)


@functools.cache
def compiled(right_censored, space):
  return jax.jit(functools.partial(messages.smooth, right_censored=right_censored, space=space))


def smooth(model, log_likelihoods, mask=None, *, right_censored=True, space="auto"):
  mask = jnp.ones(len(log_likelihoods), bool) if mask is None else mask
  return compiled(right_censored, space)(model, log_likelihoods, mask)


@functools.cache
def compiled_gradient(right_censored):
  def weighted(model, log_likelihoods, mask, weight):
    return weight * messages.log_likelihood(model, log_likelihoods, mask, right_censored=right_censored)

  return jax.jit(jax.value_and_grad(weighted, argnums=(0, 1)))


def gradient(model, log_likelihoods, mask, *, right_censored=True, weight=1.0):
  """Value and gradients, by model and by log likelihoods, of `weight` times the evidence."""
  return compiled_gradient(right_censored)(model, log_likelihoods, mask, weight)


def mask_of(length, steps=STEPS):
  return jnp.arange(steps) < length


def padded(log_likelihoods, filler, steps=STEPS):
  missing = np.full((steps - len(log_likelihoods), log_likelihoods.shape[1]), filler, np.float32)
  return jnp.asarray(np.concatenate([log_likelihoods, missing]))


def assert_exact(posterior, exact, length):
  """Agrees with brute force; nothing in the padding."""
  assert float(posterior.log_likelihood) == pytest.approx(exact.log_likelihood, rel=1e-6, abs=1e-4)
  for name in ("state_probs", "start_probs", "end_probs"):
    found = getattr(posterior, name)
    np.testing.assert_allclose(found[:length], getattr(exact, name), atol=1e-4, err_msg=name)
    assert not found[length:].any(), name
  for name in ("transitions", "durations"):
    np.testing.assert_allclose(getattr(posterior, name), getattr(exact, name), atol=1e-4, err_msg=name)
  if posterior.first_durations is not None:
    np.testing.assert_allclose(posterior.first_durations, exact.first_durations, atol=1e-4)


def assert_cleared(posterior):
  """No segmentation is possible: evidence 0 and no NaN in what is left."""
  assert float(posterior.log_likelihood) == -np.inf
  for part in jax.tree.leaves(posterior._replace(log_likelihood=jnp.zeros(()))):
    np.testing.assert_array_equal(part, np.zeros_like(part))


@pytest.mark.parametrize("family", durations.NAMES)
@BOTH_STARTS
@BOTH_ENDS
def test_every_family_equals_brute_force(family, start, right_censored):
  model = brute.random_model(durations.NAMES.index(family), start=start, family=family)
  for length in (5, 3):  # the longest duration is 4
    log_likelihoods = brute.random_log_likelihoods(length, steps=length)
    exact = brute.smooth(model, log_likelihoods, right_censored=right_censored)
    inputs = padded(log_likelihoods, 0.0)
    assert bool(rescaled.is_exact(model, inputs))
    for space in messages.SPACES:
      posterior = smooth(model, inputs, mask_of(length), right_censored=right_censored, space=space)
      assert_exact(posterior, exact, length)


@BOTH_ENDS
def test_eight_steps_without_padding(right_censored):
  model, log_likelihoods = brute.random_model(9), brute.random_log_likelihoods(9)
  exact = brute.smooth(model, log_likelihoods, right_censored=right_censored)
  for space in messages.SPACES:
    posterior = smooth(
      model, jnp.asarray(log_likelihoods), mask_of(STEPS), right_censored=right_censored, space=space
    )  # fmt: skip
    assert_exact(posterior, exact, STEPS)


@pytest.mark.parametrize(
  ("states", "longest", "steps", "space"),
  [(3, 4, 1, "auto"), (1, 4, 3, "auto"), (3, 1, 6, "auto"), (1, 1, 4, "log"), (2, 9, 5, "rescaled")],
)
@pytest.mark.parametrize(("start", "right_censored"), [("fresh", False), ("stationary", True)])
def test_edge_sizes_equal_brute_force(states, longest, steps, space, start, right_censored):
  model = brute.random_model(steps, states=states, longest=longest, start=start)
  log_likelihoods = brute.random_log_likelihoods(steps, steps=steps, states=states)
  exact = brute.smooth(model, log_likelihoods, right_censored=right_censored)
  assert np.isfinite(exact.log_likelihood)
  posterior = smooth(model, jnp.asarray(log_likelihoods), right_censored=right_censored, space=space)
  assert_exact(posterior, exact, steps)


def test_one_state_cannot_outlast_its_longest_duration():
  model, log_likelihoods = brute.random_model(1, states=1), brute.random_log_likelihoods(1, steps=6, states=1)
  inputs = model, jnp.asarray(log_likelihoods)
  assert_exact(smooth(*inputs, mask_of(4, 6), space="log"), brute.smooth(model, log_likelihoods[:4]), 4)
  assert brute.smooth(model, log_likelihoods).log_likelihood == -np.inf
  assert_cleared(smooth(*inputs, mask_of(6, 6), space="log"))


def test_worked_by_hand():
  """Two states that alternate, one or two steps long: A B, or A A cut off, or B A, or B B."""
  model = hsmm([0.25, 0.75], [[0, 1], [1, 0]], [[0.5, 0.5], [0.2, 0.8]])
  weights = np.array([0.25 * 0.5, 0.25 * 0.5, 0.75 * 0.2, 0.75 * 0.8])
  seen = jnp.log(jnp.array([[0.1, 0.3], [0.7, 0.2]]))
  joint = weights * [0.1 * 0.2, 0.1 * 0.7, 0.3 * 0.7, 0.3 * 0.2]
  posterior = smooth(model, seen, space="log")
  share = joint / joint.sum()
  assert float(posterior.log_likelihood) == pytest.approx(np.log(joint.sum()), abs=1e-6)
  np.testing.assert_allclose(posterior.state_probs[0], [share[:2].sum(), share[2:].sum()], atol=1e-6)
  np.testing.assert_allclose(posterior.state_probs[1], [share[1:3].sum(), share[[0, 3]].sum()], atol=1e-6)
  np.testing.assert_allclose(posterior.transitions, [[0, share[0]], [share[2], 0]], atol=1e-6)
  np.testing.assert_allclose(posterior.start_probs[1], [share[2], share[0]], atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(seeds, st.sampled_from(["fresh", "stationary"]), st.integers(1, STEPS))
def test_marginals_are_probabilities_that_fit_each_other(seed, start, length):
  model = brute.random_model(seed, start=start)
  posterior = smooth(model, jnp.asarray(brute.random_log_likelihoods(seed)), mask_of(length))
  np.testing.assert_allclose(posterior.state_probs[:length].sum(axis=1), 1, atol=1e-5)
  np.testing.assert_allclose(posterior.start_probs[0], posterior.state_probs[0], atol=1e-5)
  change = np.diff(posterior.state_probs[:length], axis=0)
  np.testing.assert_allclose(change, (posterior.start_probs[1:] - posterior.end_probs[:-1])[: length - 1], atol=1e-5)
  np.testing.assert_allclose(posterior.transitions.sum(axis=0), posterior.start_probs[1:].sum(axis=0), atol=1e-5)
  segments = posterior.durations.sum(axis=1)
  if start == "stationary":
    segments += posterior.first_durations.sum(axis=1)
  np.testing.assert_allclose(segments, posterior.start_probs.sum(axis=0), atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(seeds, st.integers(1, STEPS), st.sampled_from([0.0, 1e3, -np.inf, np.inf, np.nan]))
def test_padding_changes_nothing(seed, length, filler):
  model, log_likelihoods = brute.random_model(seed), brute.random_log_likelihoods(seed, steps=length)
  zeros, other = (smooth(model, padded(log_likelihoods, value), mask_of(length)) for value in (0.0, filler))
  chex.assert_trees_all_equal(zeros, other)


def test_padded_equals_unpadded():
  model, log_likelihoods = brute.random_model(3, start="stationary"), brute.random_log_likelihoods(3, steps=5)
  short = smooth(model, jnp.asarray(log_likelihoods), right_censored=False, space="log")
  long = smooth(model, padded(log_likelihoods, np.nan), mask_of(5), right_censored=False, space="log")
  per_step = ("state_probs", "start_probs", "end_probs")
  cut = long._replace(**{name: getattr(long, name)[:5] for name in per_step})
  chex.assert_trees_all_close(cut, short, atol=1e-5)


def test_nothing_but_padding_says_nothing():
  model = brute.random_model(3, start="stationary")
  posterior = smooth(model, jnp.full((STEPS, 3), jnp.nan), mask_of(0))
  for part in jax.tree.leaves(posterior):
    np.testing.assert_array_equal(part, np.zeros_like(part))
  value, gradients = gradient(brute.random_model(3), jnp.full((STEPS, 3), jnp.nan), mask_of(0))
  assert float(value) == 0
  assert not any(part.any() for part in jax.tree.leaves(gradients))


@settings(max_examples=10, deadline=None)
@given(seeds, st.permutations(range(3)), st.sampled_from(["fresh", "stationary"]))
def test_permuted_states_permute_the_posterior(seed, order, start):
  model, log_likelihoods = brute.random_model(seed, start=start), brute.random_log_likelihoods(seed)
  order = np.array(order)
  first = None if start == "fresh" else model.log_first_durations[order]
  permuted = HSMM(
    model.log_initial[order], model.log_transitions[order][:, order], model.log_durations[order], first
  )  # fmt: skip
  one = smooth(model, jnp.asarray(log_likelihoods), mask_of(STEPS))
  other = smooth(permuted, jnp.asarray(log_likelihoods[:, order]), mask_of(STEPS))
  assert float(other.log_likelihood) == pytest.approx(float(one.log_likelihood), abs=1e-5)
  for name in ("state_probs", "start_probs", "end_probs"):
    np.testing.assert_allclose(getattr(other, name), getattr(one, name)[:, order], atol=1e-5)
  np.testing.assert_allclose(other.durations, one.durations[order], atol=1e-5)
  np.testing.assert_allclose(other.transitions, one.transitions[order][:, order], atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(seeds, st.sampled_from([1.0, 100.0, 1e4]))
def test_constants_per_step_move_the_evidence_only(seed, size):
  model, log_likelihoods = brute.random_model(seed), np.round(brute.random_log_likelihoods(seed) * 64) / 64
  constants = np.round(np.random.default_rng(seed).normal(size=(STEPS, 1)) * size).astype(np.float32)
  plain = smooth(model, jnp.asarray(log_likelihoods), mask_of(STEPS))
  moved = smooth(model, jnp.asarray(log_likelihoods + constants), mask_of(STEPS))
  expected = float(plain.log_likelihood) + constants.sum(dtype=np.float64)
  assert float(moved.log_likelihood) == pytest.approx(expected, rel=1e-6, abs=1e-4)
  chex.assert_trees_all_close(moved[1:], plain[1:], atol=1e-6)


@pytest.mark.parametrize(("start", "right_censored"), [("fresh", True), ("stationary", False)])
def test_gradients_are_posterior_and_finite_differences(start, right_censored):
  model, log_likelihoods = brute.random_model(5, start=start), brute.random_log_likelihoods(5)
  length = 5
  inputs = model, jnp.asarray(log_likelihoods), mask_of(length)
  value, (by_model, by_likelihood) = gradient(*inputs, right_censored=right_censored)
  posterior = smooth(*inputs, right_censored=right_censored)
  np.testing.assert_allclose(by_likelihood, posterior.state_probs, atol=1e-5)
  assert float(value) == pytest.approx(float(posterior.log_likelihood), abs=1e-5)

  logs = [None if part is None else np.array(part, np.float64) for part in model]
  values = log_likelihoods[:length].astype(np.float64)

  def evidence():
    listed = brute.segmentations(HSMM(*logs), values, right_censored=right_censored)
    return logsumexp([log_weight for log_weight, _ in listed])

  parts = zip((*logs, values), (*by_model, by_likelihood), strict=True)
  for array, found in parts:
    if array is None:
      assert found is None
      continue
    for place in [tuple(place) for place in np.argwhere(np.isfinite(array))]:
      kept = array[place]
      ends = []
      for step in (1e-4, -1e-4):
        array[place] = kept + step
        ends.append(evidence())
      array[place] = kept
      assert float(found[place]) == pytest.approx((ends[0] - ends[1]) / 2e-4, abs=1e-4)


def test_gradient_is_scaled_by_what_follows():
  inputs = brute.random_model(6), jnp.asarray(brute.random_log_likelihoods(6)), mask_of(STEPS)
  plain, scaled = gradient(*inputs), gradient(*inputs, weight=-2.5)
  chex.assert_trees_all_close(scaled, jax.tree.map(lambda part: -2.5 * part, plain), atol=1e-5)


def test_gradient_under_forbidden_states_has_no_nan():
  model = hsmm([1, 0, 0], [[0, 1, 0], [1, 0, 0], [0.5, 0.5, 0]], [[0, 1, 0, 0], [0.5, 0, 0.5, 0], [0.25] * 4])
  log_likelihoods = jnp.asarray(brute.random_log_likelihoods(7)).at[3, 1].set(-jnp.inf)
  value, (by_model, by_likelihood) = gradient(model, log_likelihoods, mask_of(STEPS))
  exact = brute.smooth(model, log_likelihoods)
  assert float(value) == pytest.approx(exact.log_likelihood, abs=1e-4)
  np.testing.assert_allclose(by_likelihood, exact.state_probs, atol=1e-4)
  np.testing.assert_allclose(by_model.log_transitions, exact.transitions, atol=1e-4)
  np.testing.assert_allclose(by_model.log_durations, exact.durations, atol=1e-4)
  impossible = log_likelihoods.at[3].set(-jnp.inf)
  value, gradients = gradient(model, impossible, mask_of(STEPS))
  assert float(value) == -np.inf
  assert not any(part.any() for part in jax.tree.leaves(gradients))


class Variants(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_smooth(self):
    model, log_likelihoods = brute.random_model(8, start="stationary"), brute.random_log_likelihoods(8, steps=6)
    posterior = self.variant(functools.partial(messages.smooth, space="log"))(model, jnp.asarray(log_likelihoods))
    assert_exact(posterior, brute.smooth(model, log_likelihoods), 6)

  @chex.variants(with_jit=True, without_jit=True)
  def test_log_likelihood(self):
    model, log_likelihoods = brute.random_model(8), brute.random_log_likelihoods(8, steps=6)
    found = self.variant(functools.partial(messages.log_likelihood, space="log"))(model, jnp.asarray(log_likelihoods))
    assert float(found) == pytest.approx(brute.smooth(model, log_likelihoods).log_likelihood, abs=1e-4)


def batch():
  """Four sequences of different lengths; the last one needs log space."""
  log_likelihoods = np.stack([brute.random_log_likelihoods(i) for i in range(4)])
  log_likelihoods[3] *= 100
  return jnp.asarray(log_likelihoods), jnp.stack([mask_of(length) for length in (8, 5, 1, 7)])


def test_vmap_equals_loop():
  model, (log_likelihoods, masks) = brute.random_model(1, start="stationary"), batch()
  exact = [bool(rescaled.is_exact(model, values)) for values in log_likelihoods]
  assert exact == [True, True, True, False]
  together = jax.jit(jax.vmap(messages.smooth, in_axes=(None, 0, 0)))
  looped = [smooth(model, *one) for one in zip(log_likelihoods, masks, strict=True)]
  for chosen in ([0, 1, 2, 0], [0, 1, 2, 3]):
    found = together(model, log_likelihoods[np.array(chosen)], masks[np.array(chosen)])
    expected = jax.tree.map(lambda *parts: jnp.stack(parts), *[looped[i] for i in chosen])
    np.testing.assert_allclose(found.log_likelihood, expected.log_likelihood, rtol=1e-6, atol=1e-5)
    chex.assert_trees_all_close(found[1:], expected[1:], atol=1e-5)


def test_gradient_of_a_batch_equals_loop():
  model, (log_likelihoods, masks) = brute.random_model(1, start="stationary"), batch()

  def total(model, log_likelihoods):
    return jnp.sum(jax.vmap(messages.log_likelihood, in_axes=(None, 0, 0))(model, log_likelihoods, masks))

  by_model, by_likelihood = jax.jit(jax.grad(total, argnums=(0, 1)))(model, log_likelihoods)
  looped = [smooth(model, *one) for one in zip(log_likelihoods, masks, strict=True)]
  np.testing.assert_allclose(by_likelihood, [one.state_probs for one in looped], atol=1e-5)
  np.testing.assert_allclose(by_model.log_transitions, sum(one.transitions for one in looped), atol=1e-4)
  np.testing.assert_allclose(by_model.log_first_durations, sum(one.first_durations for one in looped), atol=1e-4)


def test_choice_of_space_stays_a_branch_in_a_batch():
  model, (log_likelihoods, masks) = brute.random_model(1), batch()
  program = jax.make_jaxpr(jax.vmap(messages.log_likelihood, in_axes=(None, 0, 0)))(model, log_likelihoods, masks)
  assert "cond[" in str(program)


def test_empty_batch():
  model = brute.random_model(1)
  posterior = jax.vmap(messages.smooth, in_axes=(None, 0))(model, jnp.zeros((0, STEPS, 3)))
  assert posterior.state_probs.shape == (0, STEPS, 3)
  assert posterior.log_likelihood.shape == (0,)


@pytest.mark.parametrize("seed", range(12))
def test_gaps_and_forbidden_states_equal_brute_force(seed):
  rng = np.random.default_rng(seed)
  transitions = brute.random_transitions(rng, 3)
  transitions[0, 1] *= seed % 3 > 0
  pmf = rng.random((3, 4)) * (rng.random((3, 4)) < 0.7)
  pmf[:, 3] += 0.05
  initial = rng.dirichlet(np.ones(3)) * [1, 1, seed % 2]
  start = ("fresh", "stationary")[seed // 2 % 2]
  model = hsmm(
    initial / initial.sum(),
    transitions / transitions.sum(axis=1, keepdims=True),
    pmf / pmf.sum(axis=1, keepdims=True),
    start=start,
  )
  log_likelihoods = brute.random_log_likelihoods(seed, spread=(100.0, 300.0)[seed % 2])
  log_likelihoods[rng.random((STEPS, 3)) < 0.15 * (seed % 4 > 1)] = -np.inf
  assert np.ptp(np.maximum(log_likelihoods, -1e9), axis=1).max() > 200
  for right_censored in (True, False):
    exact = brute.smooth(model, log_likelihoods, right_censored=right_censored)
    for space in ("auto", "log"):
      posterior = smooth(
        model, jnp.asarray(log_likelihoods), mask_of(STEPS), right_censored=right_censored, space=space
      )  # fmt: skip
      if np.isfinite(exact.log_likelihood):
        assert_exact(posterior, exact, STEPS)
      else:
        assert_cleared(posterior)


def test_state_without_mass():
  """It explains every step by far the best, but it is never the first one and never entered."""
  model = hsmm([0.5, 0.5, 0], [[0, 1, 0], [1, 0, 0], [0.5, 0.5, 0]], [[0.25] * 4] * 3, start="stationary")
  log_likelihoods = brute.random_log_likelihoods(2)
  for value in (64, -np.inf):
    log_likelihoods[:, 2] = value
    posterior = smooth(model, jnp.asarray(log_likelihoods), mask_of(STEPS))
    assert_exact(posterior, brute.smooth(model, log_likelihoods), STEPS)
    assert not posterior.state_probs[:, 2].any()


def test_favourite_of_every_step_that_is_impossible_costs_digits_only():
  """Steps are measured from their best state, 500 nats above here: float32 then resolves 3e-5 nats a step."""
  model = hsmm([0.5, 0.5, 0], [[0, 1, 0], [1, 0, 0], [0.5, 0.5, 0]], [[0.25] * 4] * 3, start="stationary")
  log_likelihoods = brute.random_log_likelihoods(2)
  log_likelihoods[:, 2] = 500
  exact = brute.smooth(model, log_likelihoods)
  posterior = smooth(model, jnp.asarray(log_likelihoods), mask_of(STEPS))
  assert float(posterior.log_likelihood) == pytest.approx(exact.log_likelihood, abs=STEPS * 500 * 2.0**-22)
  np.testing.assert_allclose(posterior.state_probs, exact.state_probs, atol=1e-4)


@pytest.mark.parametrize("place", [0, 3, STEPS - 1])
def test_step_that_no_state_explains(place):
  log_likelihoods = brute.random_log_likelihoods(4)
  log_likelihoods[place] = -np.inf
  for start in ("fresh", "stationary"):
    for space in ("auto", "log"):
      model = brute.random_model(4, start=start)
      assert_cleared(smooth(model, jnp.asarray(log_likelihoods), mask_of(STEPS), space=space))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_missing_values_become_nan_evidence(bad):
  model, log_likelihoods = brute.random_model(4), jnp.asarray(brute.random_log_likelihoods(4))
  for place in ((0, 0), (4, 2), (STEPS - 1, 1)):
    values = log_likelihoods.at[place].set(bad)
    for space in ("auto", "log"):
      posterior = smooth(model, values, mask_of(STEPS), space=space)
      assert np.isnan(posterior.log_likelihood)
      assert np.isnan(posterior.state_probs).all()
    assert np.isnan(gradient(model, values, mask_of(STEPS))[0])


def test_validate_names_the_place():
  fine = np.array([[0.0, -np.inf], [-1e30, 3.0]])
  messages.validate(fine)
  messages.validate(jnp.asarray(fine))
  for bad in (np.nan, np.inf):
    wrong = np.stack([fine, fine])
    wrong[1, 0, 1] = wrong[1, 1, 1] = bad
    with pytest.raises(ValueError, match=rf"log_likelihoods\[1, 0, 1\] is {bad}: 2 of 8 values"):
      messages.validate(jnp.asarray(wrong))


def hmm(initial, transitions, log_likelihoods):
  """Evidence, marginals and expected transitions of a hidden Markov model, float64."""
  steps = len(log_likelihoods)
  tops = log_likelihoods.max(axis=1, keepdims=True)
  likelihoods = np.exp(log_likelihoods - tops)
  forward, backward, scales = np.zeros_like(likelihoods), np.ones_like(likelihoods), np.zeros(steps)
  for t in range(steps):
    forward[t] = (initial if t == 0 else forward[t - 1] @ transitions) * likelihoods[t]
    scales[t] = forward[t].sum()
    forward[t] /= scales[t]
  pairs = np.zeros_like(transitions)
  for t in range(steps - 2, -1, -1):
    following = likelihoods[t + 1] * backward[t + 1] / scales[t + 1]
    backward[t] = transitions @ following
    pairs += forward[t][:, None] * transitions * following
  return np.log(scales).sum() + tops.sum(), forward * backward, pairs


def geometric_case(steps, longest, seed=0):
  """An HSMM with geometric durations, the hidden Markov model that it is, and observations."""
  rng = np.random.default_rng(seed)
  stay = np.array([0.5, 0.7, 0.6])
  initial, changes = rng.dirichlet(np.ones(3)), brute.random_transitions(rng, 3)
  log_pmf = durations.log_pmf(
    "geometric", jnp.log(jnp.asarray(stay / (1 - stay), jnp.float32))[:, None], longest=longest
  )
  pmf = np.exp(np.asarray(log_pmf, np.float64))
  model = hsmm(initial, changes, pmf / pmf.sum(axis=1, keepdims=True))
  transitions = np.diag(stay) + (1 - stay)[:, None] * changes
  return model, initial, transitions, brute.random_log_likelihoods(seed, steps=steps)


@pytest.mark.parametrize(("steps", "longest"), [(60, 400), (3000, 100)])
def test_geometric_durations_are_a_hidden_markov_model(steps, longest):
  model, initial, transitions, log_likelihoods = geometric_case(steps, longest)
  evidence, marginals, pairs = hmm(initial, transitions, log_likelihoods.astype(np.float64))
  posterior = smooth(model, jnp.asarray(log_likelihoods))
  assert float(posterior.log_likelihood) == pytest.approx(evidence, rel=1e-6, abs=1e-3)
  np.testing.assert_allclose(posterior.state_probs, marginals, atol=1e-4)
  changes = pairs * (1 - np.eye(3))
  np.testing.assert_allclose(posterior.transitions, changes, rtol=1e-4, atol=1e-3)


def test_geometric_durations_reproduce_dynamax():
  dynamax = pytest.importorskip("dynamax.hidden_markov_model", reason="dynamax, an independent HMM, is not installed")
  model, initial, transitions, log_likelihoods = geometric_case(60, 400)
  with jax.numpy_rank_promotion("allow"):
    expected = dynamax.hmm_smoother(jnp.asarray(initial), jnp.asarray(transitions), jnp.asarray(log_likelihoods))
  posterior = smooth(model, jnp.asarray(log_likelihoods))
  assert float(posterior.log_likelihood) == pytest.approx(float(expected.marginal_loglik), abs=1e-3)
  np.testing.assert_allclose(posterior.state_probs, expected.smoothed_probs, atol=1e-4)


def test_one_step_durations_are_a_hidden_markov_model():
  rng = np.random.default_rng(3)
  initial, transitions = rng.dirichlet(np.ones(3)), brute.random_transitions(rng, 3, diagonal=True)
  log_likelihoods = brute.random_log_likelihoods(3, steps=6)
  evidence, marginals, pairs = hmm(initial, transitions, log_likelihoods.astype(np.float64))
  for right_censored in (True, False):  # an end is a step's end
    model = hsmm(initial, transitions, np.ones((3, 1)))
    posterior = smooth(model, jnp.asarray(log_likelihoods), right_censored=right_censored)
    assert float(posterior.log_likelihood) == pytest.approx(evidence, abs=1e-4)
    np.testing.assert_allclose(posterior.state_probs, marginals, atol=1e-5)
    np.testing.assert_allclose(posterior.transitions, pairs, atol=1e-4)


@pytest.mark.slow
def test_memory_of_long_recordings():
  """100 000 steps, 20 states, durations up to 200: `[T, K, D]` would be 1.6 GB; compiled, not run."""
  model = jax.eval_shape(lambda: HSMM(jnp.zeros(20), jnp.zeros((20, 20)), jnp.zeros((20, 200))))
  log_likelihoods = jax.ShapeDtypeStruct((100_000, 20), jnp.float32)

  for run in (messages.smooth, jax.value_and_grad(messages.log_likelihood, argnums=(0, 1))):
    memory = jax.jit(run).lower(model, log_likelihoods).compile().memory_analysis()
    total = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    assert 100_000 * 20 * 4 < total < 0.5 * 2**30


@pytest.mark.parametrize("function", [messages.smooth, messages.log_likelihood])
def test_bad_input(function):
  model = brute.random_model(0)
  for shape in ((0, 3), (STEPS, 2), (2, STEPS, 3), (3,)):
    with pytest.raises(ValueError, match=r"log_likelihoods must be \[time, 3\] with at least one step, got"):
      function(model, jnp.zeros(shape))
  with pytest.raises(ValueError, match=r"mask must be \[8\], got \(7,\)"):
    function(model, jnp.zeros((STEPS, 3)), jnp.ones(7, bool))
  with pytest.raises(ValueError, match="space must be one of auto, rescaled, log, got 'linear'"):
    function(model, jnp.zeros((STEPS, 3)), space="linear")
