"""From a config and sequences to a model of them, and back to states."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.config import SegmentationConfig
from behavejax.errors import InputError
from behavejax.models import syllables
from behavejax.segmentation import emissions, hdp, learning, messages

SETTINGS = SegmentationConfig(states=4, max_duration_s=2.0, mean_duration_s=1.0)
LENGTHS = (60, 45, 30)


def feature_steps():
  rng = np.random.default_rng(0)
  centre = np.array([[-3.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
  states = [np.repeat(rng.permutation(12) % 3, 5)[:n] for n in LENGTHS]
  values = [(centre[s] + 0.5 * rng.normal(size=(len(s), 2))).astype(np.float32) for s in states]
  return syllables.Steps(values, np.array([0, 1, 0]), (), 10.0, 1.0), states


def code_steps():
  steps, states = feature_steps()
  codes = [np.stack([np.eye(5)[s], np.eye(5)[(s == 1) * 2]], axis=1).astype(np.float32) for s in states]
  return steps._replace(values=codes, levels=(3, 5)), states


@functools.cache
def learned(kind):
  steps, states = feature_steps() if kind == "features" else code_steps()
  segmenter = syllables.make_segmenter(SETTINGS, steps)
  batch = syllables.make_batch(segmenter, steps)
  truth = syllables.stacked([np.eye(4, dtype=np.float32)[s] for s in states])
  start = learning.from_assignments(segmenter, batch, truth)
  return segmenter, batch, learning.maximize(segmenter, start, hdp.uniform(1, 4)), states


@pytest.mark.parametrize("kind", ["features", "codes"])
def test_states_come_back_for_features_and_codes(kind):
  segmenter, batch, fit, states = learned(kind)
  decoded = syllables.decode_all(segmenter, fit.parameters, batch)
  for found, true in zip(decoded, states, strict=True):
    assert len(found.states) == len(true) == len(found.probabilities)
    assert np.mean(found.states == true) > 0.97
    assert found.probabilities.min() > 0
    assert found.probabilities.max() <= 1 + 1e-5


def test_entropy_is_that_of_the_posterior_over_all_states():
  segmenter, batch, fit, _ = learned("features")
  decoded = syllables.decode_all(segmenter, fit.parameters, batch)
  for i in (0, 2):
    observed, mask, group = jax.tree.map(lambda a, i=i: a[i], batch)
    values = learning.log_likelihoods(segmenter, fit.parameters, observed)
    model = learning.hsmm_of(segmenter, fit.parameters, group)
    posterior = messages.smooth(model, values, mask, right_censored=segmenter.right_censored)
    p = np.asarray(posterior.state_probs, np.float64)[mask]
    expected = -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=1)
    np.testing.assert_allclose(decoded[i].entropy, expected, atol=1e-5)
    assert len(decoded[i].entropy) == len(decoded[i].states)
    assert decoded[i].entropy.max() <= np.log(segmenter.states) + 1e-5


def test_the_shapes_to_read_back_are_those_that_are_learned():
  segmenter, batch, fit, _ = learned("features")
  like = syllables.learned_like(segmenter, batch)
  assert jax.tree.map(lambda a: (a.shape, a.dtype), fit) == jax.tree.map(lambda a: (a.shape, a.dtype), like)


def test_a_value_that_is_not_a_number_names_the_sequence():
  segmenter, batch, fit, _ = learned("features")
  y = batch.observed.y.copy()
  y[1, 7] = np.nan
  with pytest.raises(InputError, match="sequence 1"):
    syllables.decode_all(segmenter, fit.parameters, batch._replace(observed=batch.observed._replace(y=y)))


def test_durations_are_seconds_in_the_config():
  steps, _ = feature_steps()
  segmenter = syllables.make_segmenter(SETTINGS, steps)
  assert len(segmenter.duration_prior) == 20
  np.testing.assert_allclose(segmenter.duration_prior.sum(), SETTINGS.duration_strength, rtol=1e-3)
  with pytest.raises(InputError, match="shorter than a step"):
    syllables.make_segmenter(dataclasses.replace(SETTINGS, max_duration_s=0.01), steps)
  settings = dataclasses.replace(SETTINGS, min_duration_s=0.3)
  assert (segmenter.shortest, syllables.make_segmenter(settings, steps).shortest) == (1, 3)
  with pytest.raises(InputError, match="longer than the longest segment there can be, 2 s"):
    syllables.make_segmenter(dataclasses.replace(SETTINGS, min_duration_s=2.5), steps)


@pytest.mark.parametrize(("shortest", "switches"), [(0.0, True), (0.3, False)])
def test_codes_that_take_turns_are_one_state_where_segments_last(shortest, switches):
  """A behaviour whose codes depend on where in a window they stand: 0, 1, 0, 1, ..."""
  true = np.tile(np.repeat([0, 2], 20), 5)
  codes = np.where(true == 0, np.arange(200) % 2, 2)
  counts = 5 * np.eye(3, dtype=np.float32)[codes][:, None]
  steps = syllables.Steps([counts], np.array([0]), (3,), 10.0, 1.0)
  segmenter = syllables.make_segmenter(dataclasses.replace(SETTINGS, min_duration_s=shortest), steps)
  batch = syllables.make_batch(segmenter, steps)
  fit = learning.maximize(
    segmenter,
    learning.from_assignments(segmenter, batch, np.eye(4, dtype=np.float32)[codes][None]),
    hdp.uniform(1, 4),
  )
  expect, maximize = (jax.jit(functools.partial(f, segmenter)) for f in (learning.expect, learning.maximize))
  for _ in range(10):
    fit = maximize(expect(fit.parameters, batch), fit.weights)
  changes = np.flatnonzero(np.diff(syllables.decode_all(segmenter, fit.parameters, batch)[0].states)) + 1
  if switches:
    assert len(changes) > 90
  else:
    np.testing.assert_array_equal(changes, np.arange(20, 200, 20))


def test_no_duration_is_longer_than_a_recording():
  steps, _ = feature_steps()
  segmenter = syllables.make_segmenter(dataclasses.replace(SETTINGS, max_duration_s=float("inf")), steps)
  assert len(segmenter.duration_prior) == 60
  settings = dataclasses.replace(SETTINGS, emission="autoregressive", lags=60)
  with pytest.raises(InputError, match="lags=60"):
    syllables.make_segmenter(settings, steps)


def test_temperature_is_the_overlap_unless_given():
  steps = feature_steps()[0]._replace(overlap=7.0)
  assert syllables.make_segmenter(SETTINGS, steps).temperature == 7.0
  assert syllables.make_segmenter(dataclasses.replace(SETTINGS, temperature=2.0), steps).temperature == 2.0


def test_groups_are_subjects_only_when_asked_for():
  steps, _ = feature_steps()
  together = syllables.make_segmenter(SETTINGS, steps)
  apart = syllables.make_segmenter(dataclasses.replace(SETTINGS, groups=True), steps)
  assert (together.groups, apart.groups) == (1, 2)
  np.testing.assert_array_equal(syllables.make_batch(together, steps).group, 0)
  np.testing.assert_array_equal(syllables.make_batch(apart, steps).group, [0, 1, 0])


@pytest.mark.parametrize(("emission", "blocks", "inputs"), [("gaussian", 1, 1), ("diagonal", 2, 1)])
def test_emissions_by_name(emission, blocks, inputs):
  made = syllables.make_emission(dataclasses.replace(SETTINGS, emission=emission), feature_steps()[0])
  observed = made.observe(np.zeros((5, 2), np.float32))
  assert observed.x.shape == (5, blocks, inputs)


def test_autoregressive_emission_sees_the_past():
  settings = dataclasses.replace(SETTINGS, emission="autoregressive", lags=2)
  observed = syllables.make_emission(settings, feature_steps()[0]).observe(np.zeros((5, 2), np.float32))
  assert observed.x.shape == (5, 1, 5)


def test_the_mixture_takes_every_step_for_itself():
  segmenter, batch, _, _ = learned("features")
  single = syllables.single_steps(batch)
  assert single.mask.shape == (3 * 60, 1)
  assert single.mask.sum() == sum(LENGTHS)
  np.testing.assert_array_equal(single.observed.y[60:105, 0], batch.observed.y[1, :45])
  assert len(syllables.as_mixture(segmenter).duration_prior) == 1


def test_clusters_start_from_what_is_around_each_step():
  steps, _ = feature_steps()
  around = syllables.start_features(steps)
  assert around[0].shape == (60, 4)
  np.testing.assert_allclose(around[0][20, :2], steps.values[0][15:26].mean(axis=0), atol=1e-4)
  overlapping = syllables.start_features(steps._replace(overlap=4.0))
  np.testing.assert_array_equal(overlapping[0], steps.values[0])
  codes, _ = code_steps()
  shares = syllables.start_features(codes)[0]
  assert shares.shape == (60, 10)
  np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-4)
  np.testing.assert_allclose(shares[20], np.mean(codes.values[0][15:26].reshape(11, 10), axis=0) / 2, atol=1e-5)


def test_parts_of_sequences_are_sequences():
  steps, _ = code_steps()
  part = syllables.select(steps, [syllables.Span(1, 5, 20), syllables.Span(0, 3, 3), syllables.Span(2, 0, 30)])
  assert [len(values) for values in part.values] == [15, 30]
  np.testing.assert_array_equal(part.values[0], steps.values[1][5:20])
  np.testing.assert_array_equal(part.groups, [1, 0])


def test_the_mixture_clusters_steps_by_what_they_look_like():
  segmenter, batch, fit, states = learned("codes")
  found = syllables.clusters(segmenter, fit.parameters, batch)
  for row, true in zip(found, states, strict=True):
    assert len(row) == len(true)
    assert np.mean(row == true) > 0.97
  steps, _ = code_steps()
  mixture = syllables.mixture_of(dataclasses.replace(SETTINGS, temperature=50.0), steps._replace(overlap=9.0))
  assert mixture.groups
  assert mixture.temperature == 4.5  # however slowly neighbouring steps change


def test_tables_of_the_report_sum_to_one():
  segmenter, _, fit, _ = learned("features")
  transitions, durations = syllables.fitted_tables(segmenter, fit.parameters)
  np.testing.assert_allclose(transitions.sum(axis=1), 1, rtol=1e-6)
  np.testing.assert_allclose(durations.sum(axis=1), 1, rtol=1e-4)


def test_a_plain_hmm_has_geometric_durations():
  plain = syllables.plain_hmm(dataclasses.replace(SETTINGS, min_duration_s=0.3))
  assert plain.durations == "geometric"
  assert syllables.make_segmenter(plain, feature_steps()[0]).shortest == 1


def test_a_recording_without_steps_is_refused():
  steps, _ = feature_steps()
  segmenter = syllables.make_segmenter(SETTINGS, steps)
  with pytest.raises(InputError, match="no step"):
    syllables.make_batch(segmenter, steps._replace(values=[np.zeros((0, 2), np.float32)] * 3))
  with pytest.raises(InputError, match="the val part has a step"):
    syllables.part_batch(segmenter, steps._replace(spans={"val": (syllables.Span(0, 60, 60),)}), "val")


GAUSSIAN = learning.Segmenter(emissions.gaussian(2), 3, 1, "negative_binomial", jnp.full(8, 1 / 8))


def recordings_at(shift):
  rng = np.random.default_rng(0)
  states = np.repeat(rng.integers(3, size=(2, 10)), 4, axis=1)
  features = 3.0 * np.eye(3)[states][..., :2] + 0.5 * rng.normal(size=(2, 40, 2)) + shift
  observed = jax.vmap(GAUSSIAN.emission.observe)(jnp.asarray(features, jnp.float32))
  return learning.Batch(observed, jnp.ones((2, 40), bool), jnp.zeros(2, jnp.int32))


@pytest.mark.parametrize(("val", "kept"), [(5.0, True), (0.0, False)])
def test_rounds_of_em_are_kept_where_held_out_recordings_gain(val, kept):
  here, moved = recordings_at(0.0), recordings_at(5.0)
  probs = jnp.asarray(np.random.default_rng(1).dirichlet(np.ones(3), (2, 40)), jnp.float32)
  statistics = learning.from_assignments(GAUSSIAN, here, probs)
  learned = jax.jit(lambda s: learning.maximize(GAUSSIAN, s, hdp.uniform(1, 3), method="map"))(statistics)
  found, before, after = syllables.learn_on(GAUSSIAN, learned, moved, recordings_at(val), rounds=2)
  assert (after > before) == kept
  if kept:
    chex.assert_trees_all_equal(found, learning.learn_on(GAUSSIAN, learned, moved, rounds=2).parameters)
  else:
    chex.assert_trees_all_equal(found, learned.parameters)
