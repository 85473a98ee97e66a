"""Best, random and online segmentations against brute force over all segmentations, and dynamax."""

import functools
from collections import Counter

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from behavejax.segmentation import decode, durations, messages
from behavejax.segmentation.model import HSMM, hsmm
from tests.segmentation import brute

STEPS = 8
SAMPLES = 3000
BOTH_STARTS = pytest.mark.parametrize("start", ["fresh", "stationary"])
BOTH_ENDS = pytest.mark.parametrize("right_censored", [True, False])


@functools.cache
def compiled(function, right_censored):
  return jax.jit(functools.partial(function, right_censored=right_censored))


def best(model, log_likelihoods, mask=None, *, right_censored=True):
  mask = jnp.ones(len(log_likelihoods), bool) if mask is None else mask
  return compiled(decode.viterbi, right_censored)(model, jnp.asarray(log_likelihoods), mask)


@functools.cache
def compiled_draws(right_censored):
  draw = functools.partial(decode.sample_posterior, right_censored=right_censored)
  return jax.jit(jax.vmap(draw, in_axes=(None, None, 0, None)))


def draws(model, log_likelihoods, mask, *, right_censored=True, seed=0):
  keys = jax.random.split(jax.random.key(seed), SAMPLES)
  with jax.debug_key_reuse(False):  # it takes any scan over keys under vmap for a reuse (jax 0.10)
    return compiled_draws(right_censored)(model, jnp.asarray(log_likelihoods), keys, mask)


def mask_of(length, steps=STEPS):
  return jnp.arange(steps) < length


def key_of(path, length):
  return tuple(np.asarray(path.states)[:length].tolist()), tuple(np.asarray(path.starts)[:length].tolist())


def assert_best(path, exact, length):
  """The score is the best one; so is the path, unless two are equal in float32."""
  ranked = sorted(exact.paths, key=exact.paths.get, reverse=True)
  scores = [exact.paths[key] for key in ranked[:2]]
  assert float(path.log_probability) == pytest.approx(scores[0], rel=1e-6, abs=1e-4)
  if len(scores) == 1 or scores[0] - scores[1] > 1e-3:
    assert key_of(path, length) == ranked[0]
  assert (path.states[length:] == -1).all()
  assert not path.starts[length:].any()


@pytest.mark.parametrize("family", durations.NAMES)
@BOTH_STARTS
@BOTH_ENDS
def test_best_segmentation_of_every_family(family, start, right_censored):
  model = brute.random_model(durations.NAMES.index(family), start=start, family=family)
  log_likelihoods = brute.random_log_likelihoods(durations.NAMES.index(family))
  for length in (5, 3, 1):
    exact = brute.smooth(model, log_likelihoods[:length], right_censored=right_censored)
    path = best(model, log_likelihoods, mask_of(length), right_censored=right_censored)
    assert_best(path, exact, length)


@BOTH_ENDS
def test_best_of_eight_steps(right_censored):
  model, log_likelihoods = brute.random_model(9), brute.random_log_likelihoods(9)
  exact = brute.smooth(model, log_likelihoods, right_censored=right_censored)
  assert_best(best(model, log_likelihoods, right_censored=right_censored), exact, STEPS)


@pytest.mark.parametrize(("states", "longest", "steps"), [(3, 4, 1), (1, 4, 3), (3, 1, 6), (1, 1, 4), (2, 9, 5)])
@pytest.mark.parametrize(("start", "right_censored"), [("fresh", False), ("stationary", True)])
def test_best_of_edge_sizes(states, longest, steps, start, right_censored):
  model = brute.random_model(steps, states=states, longest=longest, start=start)
  log_likelihoods = brute.random_log_likelihoods(steps, steps=steps, states=states)
  exact = brute.smooth(model, log_likelihoods, right_censored=right_censored)
  assert_best(best(model, log_likelihoods, right_censored=right_censored), exact, steps)


@pytest.mark.parametrize("seed", range(6))
def test_best_with_gaps_and_forbidden_states(seed):
  rng = np.random.default_rng(seed)
  model = brute.random_model(seed, start=("fresh", "stationary")[seed % 2])
  model = model._replace(
    log_transitions=model.log_transitions.at[0, 1].set(-jnp.inf),
    log_durations=model.log_durations.at[1, 0].set(-jnp.inf),
  )
  log_likelihoods = brute.random_log_likelihoods(seed, spread=150.0)
  log_likelihoods[rng.random((STEPS, 3)) < 0.2] = -np.inf
  exact = brute.smooth(model, log_likelihoods)
  path = best(model, log_likelihoods)
  if exact.paths:
    assert_best(path, exact, STEPS)
  else:
    assert float(path.log_probability) == -np.inf
    assert (path.states == -1).all()


def test_impossible_sequence_has_no_segmentation():
  model, log_likelihoods = brute.random_model(1), brute.random_log_likelihoods(1)
  log_likelihoods[4] = -np.inf
  one = best(model, log_likelihoods, mask_of(6))
  many = draws(model, log_likelihoods, mask_of(6))
  for path in (one, many):
    assert (path.log_probability == -np.inf).all()
    assert (path.states == -1).all()
    assert not path.starts.any()


@pytest.mark.parametrize("filler", [1e3, -np.inf, np.nan])
def test_padding_changes_nothing(filler):
  model, log_likelihoods = brute.random_model(2, start="stationary"), brute.random_log_likelihoods(2)
  other = log_likelihoods.copy()
  other[5:] = filler
  for run in (best, draws):
    chex.assert_trees_all_equal(run(model, other, mask_of(5)), run(model, log_likelihoods, mask_of(5)))
  other[:] = filler
  for run in (best, draws):
    nothing = run(model, other, mask_of(0))
    assert (nothing.states == -1).all()
    np.testing.assert_array_equal(nothing.log_probability, np.zeros_like(nothing.log_probability))


def test_best_under_vmap_equals_loop():
  model = brute.random_model(3, start="stationary")
  log_likelihoods = jnp.stack([brute.random_log_likelihoods(i) for i in range(3)])
  masks = jnp.stack([mask_of(length) for length in (8, 4, 1)])
  together = jax.jit(jax.vmap(decode.viterbi, in_axes=(None, 0, 0)))(model, log_likelihoods, masks)
  looped = [best(model, *one) for one in zip(log_likelihoods, masks, strict=True)]
  chex.assert_trees_all_close(together, jax.tree.map(lambda *parts: jnp.stack(parts), *looped), atol=1e-5)


class Variants(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_viterbi(self):
    model, log_likelihoods = brute.random_model(4, start="stationary"), brute.random_log_likelihoods(4, steps=5)
    path = self.variant(decode.viterbi)(model, jnp.asarray(log_likelihoods))
    assert_best(path, brute.smooth(model, log_likelihoods), 5)

  @chex.variants(with_jit=True, without_jit=True)
  def test_filter_step(self):
    model, log_likelihoods = brute.random_model(4), jnp.asarray(brute.random_log_likelihoods(4, steps=1))
    carried, answer = self.variant(decode.filter_step)(model, decode.filter_init(model), log_likelihoods[0])
    exact = brute.smooth(model, log_likelihoods)
    assert float(carried.log_likelihood) == pytest.approx(exact.log_likelihood, abs=1e-5)
    np.testing.assert_allclose(answer.state_probs, exact.state_probs[0], atol=1e-5)


def geometric_case():
  rng = np.random.default_rng(0)
  stay = np.array([0.5, 0.7, 0.6])
  initial, changes = rng.dirichlet(np.ones(3)), brute.random_transitions(rng, 3)
  theta = jnp.log(jnp.asarray(stay / (1 - stay), jnp.float32))[:, None]
  pmf = np.exp(np.asarray(durations.log_pmf("geometric", theta, longest=400), np.float64))
  model = hsmm(initial, changes, pmf / pmf.sum(axis=1, keepdims=True))
  return model, initial, np.diag(stay) + (1 - stay)[:, None] * changes, brute.random_log_likelihoods(0, steps=60)


def hmm_viterbi(initial, transitions, log_likelihoods):
  """Best states and their score, float64."""
  scores, origins = np.log(initial) + log_likelihoods[0], []
  for log_likelihood in log_likelihoods[1:]:
    arrivals = scores[:, None] + np.log(transitions)
    origins.append(arrivals.argmax(axis=0))
    scores = arrivals.max(axis=0) + log_likelihood
  states = [int(scores.argmax())]
  for origin in origins[::-1]:
    states.append(int(origin[states[-1]]))
  return states[::-1], scores.max()


def test_best_path_of_geometric_durations_is_the_hidden_markov_model_s():
  model, initial, transitions, log_likelihoods = geometric_case()
  states, score = hmm_viterbi(initial, transitions, log_likelihoods.astype(np.float64))
  path = best(model, log_likelihoods)
  np.testing.assert_array_equal(path.states, states)
  np.testing.assert_array_equal(path.starts, np.diff(states, prepend=-1) != 0)
  assert float(path.log_probability) == pytest.approx(score, rel=1e-5)


def test_best_path_of_geometric_durations_reproduces_dynamax():
  dynamax = pytest.importorskip("dynamax.hidden_markov_model", reason="dynamax, an independent HMM, is not installed")
  model, initial, transitions, log_likelihoods = geometric_case()
  with jax.numpy_rank_promotion("allow"):
    expected = dynamax.hmm_posterior_mode(jnp.asarray(initial), jnp.asarray(transitions), jnp.asarray(log_likelihoods))
  np.testing.assert_array_equal(best(model, log_likelihoods).states, expected)


@pytest.mark.parametrize(("start", "right_censored"), [("fresh", True), ("stationary", False), ("stationary", True)])
@pytest.mark.parametrize("length", [5, 2])
def test_draws_follow_the_posterior(start, right_censored, length):
  """Chi-square over whole segmentations, the rare ones pooled."""
  model, log_likelihoods = brute.random_model(6, start=start), brute.random_log_likelihoods(6, spread=1.0)
  exact = brute.smooth(model, log_likelihoods[:length], right_censored=right_censored)
  paths = draws(model, log_likelihoods, mask_of(length), right_censored=right_censored, seed=length)
  np.testing.assert_allclose(paths.log_probability, exact.log_likelihood, atol=1e-4)
  assert (paths.states[:, length:] == -1).all()
  assert not paths.starts[:, length:].any()
  drawn = zip(np.asarray(paths.states).tolist(), np.asarray(paths.starts).tolist(), strict=True)
  seen = Counter((tuple(states[:length]), tuple(starts[:length])) for states, starts in drawn)
  assert set(seen) <= set(exact.paths)
  expected = {key: SAMPLES * np.exp(weight - exact.log_likelihood) for key, weight in exact.paths.items()}
  common = [key for key, count in expected.items() if count >= 5]
  rare = [SAMPLES - sum(counts[key] for key in common) for counts in (seen, expected)]
  observed, wanted = (
    [*(counts[key] for key in common), rest] for counts, rest in zip((seen, expected), rare, strict=True)
  )
  if rare[1] < 5:
    observed, wanted = observed[:-1], np.array(wanted[:-1]) * sum(observed[:-1]) / sum(wanted[:-1])
  assert len(wanted) > 3
  assert scipy.stats.chisquare(observed, wanted).pvalue > 1e-3


def test_draws_have_the_marginals_of_smoothing():
  model, log_likelihoods = brute.random_model(7, start="stationary"), brute.random_log_likelihoods(7)
  paths = draws(model, log_likelihoods, mask_of(STEPS))
  posterior = messages.smooth(model, jnp.asarray(log_likelihoods), space="log")
  one_hot = np.asarray(paths.states)[..., None] == np.arange(3)
  for found, expected in ((one_hot, posterior.state_probs), (one_hot & paths.starts[..., None], posterior.start_probs)):
    counts = np.array([found.sum(axis=0), (~found).sum(axis=0)], float)
    wanted = SAMPLES * np.array([expected, 1 - expected], np.float64)
    wanted = np.maximum(wanted, 1e-3)
    assert ((counts - wanted) ** 2 / wanted).sum(axis=0).max() < scipy.stats.chi2(1).isf(1e-3 / expected.size)


def test_draws_of_edge_sizes():
  for states, longest, steps in ((3, 4, 1), (1, 4, 3), (2, 1, 3)):
    model = brute.random_model(steps, states=states, longest=longest)
    log_likelihoods = jnp.asarray(brute.random_log_likelihoods(steps, steps=steps, states=states))
    path = jax.jit(decode.sample_posterior)(model, log_likelihoods, jax.random.key(steps))
    exact = brute.smooth(model, log_likelihoods)
    assert key_of(path, steps) in exact.paths
    assert float(path.log_probability) == pytest.approx(exact.log_likelihood, abs=1e-4)


def test_draw_keeps_to_what_gaps_leave():
  """200 nats and more between states: one segmentation holds all the mass, and no other is drawn."""
  model, log_likelihoods = brute.random_model(8), brute.random_log_likelihoods(8)
  best_states = np.array([0, 0, 2, 1, 1, 1, 0, 2])  # alternates: only one way to start and end the segments
  log_likelihoods[np.arange(3) != best_states[:, None]] -= 250
  exact = brute.smooth(model, log_likelihoods)
  (first, second) = sorted(exact.paths, key=exact.paths.get, reverse=True)[:2]
  assert exact.paths[first] - exact.paths[second] > 20
  paths = draws(model, log_likelihoods, mask_of(STEPS))
  np.testing.assert_array_equal(paths.states, np.broadcast_to(first[0], (SAMPLES, STEPS)))
  np.testing.assert_array_equal(paths.starts, np.broadcast_to(first[1], (SAMPLES, STEPS)))


filter_sequence = jax.jit(decode.filter_sequence)


@BOTH_STARTS
def test_filter_online_equals_whole_and_smoothed_prefixes(start):
  model, log_likelihoods = brute.random_model(10, start=start), jnp.asarray(brute.random_log_likelihoods(10))
  last, answers = filter_sequence(model, log_likelihoods)
  prefixes = jnp.stack([mask_of(length) for length in range(1, STEPS + 1)])
  smoothed = jax.jit(jax.vmap(functools.partial(messages.smooth, space="log"), in_axes=(None, None, 0)))(
    model, log_likelihoods, prefixes
  )
  step, carried = jax.jit(decode.filter_step), decode.filter_init(model)
  for time, log_likelihood in enumerate(log_likelihoods):
    carried, answer = step(model, carried, log_likelihood)
    np.testing.assert_allclose(answer.state_probs, answers.state_probs[time], atol=1e-6)
    np.testing.assert_allclose(answer.remaining, answers.remaining[time], atol=1e-6)
    np.testing.assert_allclose(answer.state_probs, smoothed.state_probs[time, time], atol=1e-5)
    assert float(carried.log_likelihood) == pytest.approx(float(smoothed.log_likelihood[time]), abs=1e-5)
  chex.assert_trees_all_close(carried, last, atol=1e-5)


@pytest.mark.parametrize("family", durations.NAMES)
@BOTH_STARTS
def test_remaining_time_equals_brute_force(family, start):
  model = brute.random_model(durations.NAMES.index(family), start=start, family=family)
  log_likelihoods = jnp.asarray(brute.random_log_likelihoods(12))
  answers = filter_sequence(model, log_likelihoods)[1]
  for length in (1, 2, 5):
    exact = brute.smooth(model, log_likelihoods[:length])
    np.testing.assert_allclose(answers.state_probs[length - 1], exact.state_probs[-1], atol=1e-5)
    np.testing.assert_allclose(answers.remaining[length - 1], exact.remaining, rtol=1e-4, atol=1e-5)


def test_remaining_time_of_a_state_that_is_all_but_ruled_out():
  """It is the time were it of that state, however improbable that is."""
  model, log_likelihoods = brute.random_model(13), brute.random_log_likelihoods(13)
  log_likelihoods[:, 1] -= 60
  for last in (-60, -250):
    log_likelihoods[5, 2] = last
    answers = filter_sequence(model, jnp.asarray(log_likelihoods))[1]
    exact = brute.smooth(model, log_likelihoods[:6])
    np.testing.assert_allclose(answers.remaining[5], exact.remaining, rtol=1e-3)


def test_filter_of_an_impossible_step():
  model, log_likelihoods = brute.random_model(14), jnp.asarray(brute.random_log_likelihoods(14)).at[3].set(-jnp.inf)
  last, answers = filter_sequence(model, log_likelihoods)
  assert float(last.log_likelihood) == -np.inf
  np.testing.assert_allclose(answers.state_probs[:3].sum(axis=1), 1, atol=1e-5)
  assert not answers.state_probs[3:].any()
  assert not answers.remaining[3:].any()
  assert np.isnan(filter_sequence(model, log_likelihoods.at[3].set(jnp.nan))[0].log_likelihood)


def test_bad_input():
  model = brute.random_model(0)
  for run in (decode.viterbi, lambda *given: decode.sample_posterior(*given[:2], jax.random.key(0), *given[2:])):
    for shape in ((0, 3), (STEPS, 2), (2, STEPS, 3)):
      with pytest.raises(ValueError, match=r"log_likelihoods must be \[time, 3\] with at least one step, got"):
        run(model, jnp.zeros(shape))
    with pytest.raises(ValueError, match=r"mask must be \[8\], got \(7,\)"):
      run(model, jnp.zeros((STEPS, 3)), jnp.ones(7, bool))


def test_zero_rows_of_transitions_end_the_recording():
  """One state that is left for nothing: the last segment must reach the end."""
  model = HSMM(jnp.zeros(1), jnp.full((1, 1), -jnp.inf), jnp.log(jnp.array([[0.25, 0.25, 0.5]])))
  assert float(best(model, np.zeros((3, 1), np.float32)).log_probability) == pytest.approx(np.log(0.5))
  assert float(best(model, np.zeros((4, 1), np.float32)).log_probability) == -np.inf
