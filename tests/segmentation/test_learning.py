"""Learning: the bound rises, devices agree, gradients are exact, moves and priors do what they say."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from behavejax.segmentation import emissions, gibbs, hdp, learning

STATES, SEQUENCES, TIME, LONGEST = 4, 4, 60, 12
EMISSION = emissions.gaussian(2)
SEGMENTER = learning.Segmenter(EMISSION, STATES, 2, "negative_binomial", jnp.full(LONGEST, 1 / LONGEST))
GROUP = jnp.array([0, 1, 0, 1])


def make_batch():
  rng = np.random.default_rng(0)
  means = np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, 2.5]])
  states = np.stack([np.repeat(rng.integers(3, size=TIME), rng.integers(2, 8, size=TIME))[:TIME] for _ in range(4)])
  features = means[states] + 0.7 * rng.normal(size=(SEQUENCES, TIME, 2))
  mask = np.arange(TIME)[None] < np.array([60, 60, 45, 30])[:, None]
  return learning.Batch(jax.vmap(EMISSION.observe)(jnp.asarray(features, jnp.float32)), jnp.asarray(mask), GROUP)


@functools.cache
def compiled(method="variational", family=SEGMENTER.family, stationary=False):
  segmenter = SEGMENTER._replace(family=family, stationary=stationary)
  expect = jax.jit(functools.partial(learning.expect, segmenter))
  maximize = jax.jit(functools.partial(learning.maximize, segmenter, method=method))
  return expect, maximize


def first_fit(*options):
  batch = make_batch()
  probs = jnp.asarray(np.random.default_rng(1).dirichlet(np.ones(STATES), (SEQUENCES, TIME)), jnp.float32)
  statistics = learning.from_assignments(SEGMENTER, batch, probs)
  return batch, compiled(*options)[1](statistics, hdp.uniform(2, STATES))


@pytest.mark.parametrize("method", learning.METHODS)
def test_the_bound_never_falls(method):
  expect, maximize = compiled(method)
  batch, learned = first_fit(method)
  weights = learned.weights
  for _ in range(3):  # the weights of the hierarchy are point estimates with a fixed point of their own
    learned = maximize(expect(learned.parameters, batch), learned.weights)
    weights = learned.weights
  bounds = []
  for _ in range(12):
    statistics = expect(learned.parameters, batch)
    bounds.append(float(statistics.log_likelihood + learned.prior))
    learned = maximize(statistics, weights)
    weights = learned.weights
  assert np.isfinite(bounds).all()
  assert np.diff(bounds).min() > -0.2
  assert bounds[-1] > bounds[0]


def test_learning_on_is_em_from_where_it_was():
  expect, maximize = compiled("map")
  batch, learned = first_fit("map")
  chex.assert_trees_all_equal(learning.learn_on(SEGMENTER, learned, batch, rounds=0), learned)
  found, by_hand = learning.learn_on(SEGMENTER, learned, batch, rounds=3), learned
  for _ in range(3):
    by_hand = maximize(expect(by_hand.parameters, batch), by_hand.weights)
  chex.assert_trees_all_close(found, by_hand, rtol=1e-3, atol=1e-3)
  evidence = [expect(point.parameters, batch).log_likelihood for point in (learned, found)]
  assert evidence[1] > evidence[0] + 1


def test_statistics_do_not_depend_on_the_devices():
  batch, learned = first_fit()
  whole = compiled()[0](learned.parameters, batch)
  mapped = jax.pmap(
    functools.partial(learning.expect, SEGMENTER, axis_name="device"),
    "device",
    in_axes=(None, 0),
    devices=jax.devices()[:2],
  )(learned.parameters, jax.tree.map(lambda a: a.reshape(2, 2, *a.shape[1:]), batch))
  for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(mapped), strict=True):
    np.testing.assert_allclose(a, b[0], rtol=2e-4, atol=2e-3)
    np.testing.assert_array_equal(b[0], b[1])


def test_padding_counts_nowhere():
  batch, learned = first_fit()
  statistics = compiled()[0](learned.parameters, batch)
  np.testing.assert_allclose(statistics.steps, 195)
  np.testing.assert_allclose(statistics.initial.sum(), SEQUENCES, rtol=1e-4)
  np.testing.assert_allclose(statistics.emission.count.sum(), 195, rtol=1e-4)
  np.testing.assert_allclose(statistics.durations.sum(), statistics.transitions.sum() + SEQUENCES, rtol=1e-3)


def test_temperature_divides_evidence_and_counts():
  warm = SEGMENTER._replace(temperature=3.0)
  batch, learned = first_fit()
  likelihoods = learning.log_likelihoods(SEGMENTER, learned.parameters, jax.tree.map(lambda a: a[0], batch.observed))
  tempered = learning.log_likelihoods(warm, learned.parameters, jax.tree.map(lambda a: a[0], batch.observed))
  np.testing.assert_allclose(tempered, likelihoods / 3, rtol=1e-6)
  statistics = learning.expect(warm, learned.parameters, batch)
  np.testing.assert_allclose(statistics.emission.count.sum(), 195 / 3, rtol=1e-4)


def test_gradient_of_the_loss_matches_differences():
  batch, learned = first_fit()
  loss = jax.jit(functools.partial(learning.loss, SEGMENTER))
  parameters = learned.parameters._replace(log_transitions=jnp.zeros((2, STATES, STATES)))
  gradient = jax.jit(jax.grad(functools.partial(learning.loss, SEGMENTER)))(parameters, batch)
  size = 1e-2
  for where in ("theta", "log_initial", "log_transitions"):
    leaf = getattr(parameters, where)
    index = (0,) * (leaf.ndim - 1) + (1,)
    plus, minus = (loss(parameters._replace(**{where: leaf.at[index].add(s)}), batch) for s in (size, -size))
    np.testing.assert_allclose(getattr(gradient, where)[index], (plus - minus) / (2 * size), atol=2e-3)


def test_gradient_steps_raise_the_evidence():
  batch, learned = first_fit()
  optimizer, free = optax.adam(0.05), learned.parameters
  loss = functools.partial(learning.loss, SEGMENTER)

  @jax.jit
  def step(free, state):
    value, slope = jax.value_and_grad(loss)(free, batch)
    updates, state = optimizer.update(slope, state, free)
    return optax.apply_updates(free, updates), state, value

  state, values = optimizer.init(free), []
  for _ in range(15):
    free, state, value = step(free, state)
    values.append(float(value))
  assert np.isfinite(values).all()
  assert values[-1] < values[0] - 0.05
  valid = learning.constrain(SEGMENTER, free)
  np.testing.assert_allclose(jnp.exp(valid.log_transitions).sum(axis=-1), 1.0, rtol=1e-5)


def test_blending_with_rate_one_is_coordinate_ascent():
  batch, learned = first_fit()
  seen = compiled()[0](learned.parameters, batch)
  old = jax.tree.map(jnp.zeros_like, seen)
  chex.assert_trees_all_close(learning.blend(old, seen, rate=jnp.float32(1), scale=jnp.float32(1)), seen)


def test_moves_pour_or_leave_statistics():
  batch, learned = first_fit()
  statistics = compiled()[0](learned.parameters, batch)
  merged = learning.relabelled(statistics, jnp.array([0, 0, 2, 3]))
  np.testing.assert_allclose(merged.emission.count[0], statistics.emission.count[:2].sum(axis=0), rtol=1e-5)
  assert merged.durations[1].sum() == 0
  np.testing.assert_allclose(
    merged.transitions.sum(), statistics.transitions.sum() - statistics.transitions[:, [0, 1], [1, 0]].sum(), rtol=1e-4
  )
  removed = learning.relabelled(statistics, jnp.array([0, STATES, 2, 3]))
  np.testing.assert_allclose(removed.emission.count[0], statistics.emission.count[0], rtol=1e-6)
  assert removed.emission.count[1].sum() == 0
  chex.assert_trees_all_close(learning.relabelled(statistics, jnp.arange(STATES)), statistics, rtol=1e-5)


def test_a_state_without_data_costs_nothing():
  batch, _ = first_fit()
  probs = jax.nn.one_hot(jnp.zeros((SEQUENCES, TIME), int), STATES)
  statistics = learning.from_assignments(SEGMENTER, batch, probs)
  divergence = EMISSION.divergence(statistics.emission)
  np.testing.assert_allclose(divergence[1:], 0.0, atol=1e-4)
  assert divergence[0] > 1


@pytest.mark.parametrize("family", ["geometric", "categorical"])
@pytest.mark.parametrize("stationary", [False, True])
def test_other_families_and_starts_learn(family, stationary):
  options = ("variational", family, stationary)
  batch, learned = first_fit(*options)
  expect, maximize = compiled(*options)
  first = last = float(expect(learned.parameters, batch).log_likelihood + learned.prior)
  for _ in range(6):
    statistics = expect(learned.parameters, batch)
    last = float(statistics.log_likelihood + learned.prior)
    learned = maximize(statistics, learned.weights)
  assert last > first


def test_gibbs_reaches_what_variational_inference_reaches():
  expect, maximize = compiled()
  batch, start = first_fit()

  @jax.jit
  def sweep(learned, key):
    segment_key, draw_key = jax.random.split(key)
    keys = jax.random.split(segment_key, SEQUENCES)
    statistics = gibbs.sample_statistics(SEGMENTER, learned.parameters, batch, keys)
    return gibbs.draw(SEGMENTER, statistics, learned, draw_key), statistics

  sampled = start
  evidence = []
  for key in jax.random.split(jax.random.key(0), 60):
    sampled, statistics = sweep(sampled, key)
    evidence.append(float(statistics.log_likelihood))
    np.testing.assert_allclose(statistics.steps, 195)
    np.testing.assert_allclose(statistics.durations.sum(), statistics.transitions.sum() + SEQUENCES, rtol=1e-5)
  learned = start
  for _ in range(30):
    statistics = expect(learned.parameters, batch)
    learned = maximize(statistics, learned.weights)
  assert np.mean(evidence[30:]) > float(statistics.log_likelihood) - 25
  assert np.mean(evidence[30:]) > evidence[0]


def test_a_last_segment_that_ends_with_the_recording_has_its_own_duration():
  segmenter = SEGMENTER._replace(right_censored=False)
  batch, learned = first_fit()
  keys = jax.random.split(jax.random.key(0), SEQUENCES)
  sampled = jax.jit(functools.partial(gibbs.sample_statistics, segmenter))(learned.parameters, batch, keys)
  time = (sampled.durations * (jnp.arange(LONGEST) + 1.0)[None]).sum(axis=1)
  np.testing.assert_allclose(time, sampled.time, rtol=1e-5)
  assert sampled.time.sum() == 195


def test_single_steps_are_a_mixture():
  segmenter = SEGMENTER._replace(family="categorical", duration_prior=jnp.ones(1))
  batch = make_batch()
  flat = jax.tree.map(lambda a: a.reshape(-1, 1, *a.shape[2:]), (batch.observed, batch.mask))
  single = learning.Batch(*flat, jnp.repeat(batch.group, TIME))
  rng = np.random.default_rng(1)
  probs = jnp.asarray(rng.dirichlet(np.ones(STATES), (SEQUENCES * TIME, 1)), jnp.float32)
  maximize = jax.jit(functools.partial(learning.maximize, segmenter))
  learned = maximize(learning.from_assignments(segmenter, single, probs), hdp.uniform(2, STATES))
  total, steps = learning.evidence(segmenter, learned.parameters, single)
  values = jax.vmap(lambda o: learning.log_likelihoods(segmenter, learned.parameters, o))(batch.observed)
  own = learned.parameters.log_initial[batch.group][:, None]
  wanted = jnp.sum(jnp.where(batch.mask, jax.nn.logsumexp(values + own, axis=2), 0.0))
  np.testing.assert_allclose(total, wanted, rtol=1e-5)
  assert steps == 195
