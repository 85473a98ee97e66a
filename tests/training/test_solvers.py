"""One round by each method: parts add up to the whole, and every sequence is seen once a pass."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.config import SegmentationConfig
from behavejax.models import syllables
from behavejax.segmentation import hdp, learning
from behavejax.training import solvers

SETTINGS = SegmentationConfig(
  states=3, max_duration_s=1.0, mean_duration_s=0.5, batch_size=3, restarts=2, learning_rate=0.05
)
SEQUENCES = 8


@functools.cache
def start(method="variational", kind="pmap"):
  rng = np.random.default_rng(0)
  states = [np.repeat(rng.permutation(20) % 2, 4)[:n] for n in rng.integers(30, 41, SEQUENCES)]
  values = [(np.array([[-1.5], [1.5]])[s] + rng.normal(size=(len(s), 1))).astype(np.float32) for s in states]
  steps = syllables.Steps(values, np.zeros(SEQUENCES, np.int32), (), 10.0, 1.0)
  settings = dataclasses.replace(SETTINGS, method=method)
  segmenter = syllables.make_segmenter(settings, steps)
  batch = syllables.make_batch(segmenter, steps)
  problem = solvers.Problem(segmenter, settings, batch, 0, settings.batch_size)
  calls = solvers.compile_calls(segmenter, settings, kind=kind)
  probs = rng.dirichlet(np.ones(3), (2, *batch.mask.shape)).astype(np.float32)
  first = jax.vmap(functools.partial(learning.from_assignments, segmenter, batch))(jnp.asarray(probs))
  weights = jax.tree.map(lambda a: jnp.stack([a] * 2), hdp.uniform(1, 3))
  learned = calls.maximize(first, weights)
  fits = solvers.Fits(
    jnp.zeros((), jnp.int32), learned, first, jnp.full(2, -jnp.inf), solvers.extra_of(settings, learned)
  )
  return problem, calls, fits


def rounds(method, count):
  problem, calls, fits = start(method)
  bounds = []
  for i in range(count):
    fits = solvers.SOLVERS[method](problem, calls, fits, jax.random.key(i))
    fits = fits._replace(step=fits.step + 1)
    bounds.append(np.asarray(fits.bound))
  return fits, np.stack(bounds)


@pytest.mark.parametrize("method", list(solvers.SOLVERS))
def test_every_method_explains_the_data_better_round_by_round(method):
  _, bounds = rounds(method, 6)
  assert np.isfinite(bounds).all()
  assert bounds.shape == (6, 2)
  assert (bounds[-3:].mean(axis=0) > bounds[0]).all()


def test_lanes_do_not_touch_each_other():
  problem, calls, fits = start()
  both = calls.expect(fits.learned.parameters, problem.batch)
  swapped = jax.tree.map(lambda a: a[::-1], fits.learned.parameters)
  other = calls.expect(swapped, problem.batch)
  for a, b in zip(jax.tree.leaves(both), jax.tree.leaves(other), strict=True):
    np.testing.assert_array_equal(a, b[::-1])


def test_both_kinds_of_parallelism_agree():
  problem, calls, fits = start()
  _, sharded, _ = start("variational", "sharding")
  for name in ("expect", "gradient"):
    pair = [getattr(c, name)(fits.learned.parameters, problem.batch) for c in (calls, sharded)]
    for a, b in zip(*map(jax.tree.leaves, pair), strict=True):
      np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


def test_devices_draw_what_one_device_would():
  problem, calls, fits = start("gibbs")
  _, sharded, _ = start("gibbs", "sharding")
  inputs = (fits.learned.parameters, jax.random.key(0))
  batch = (problem.batch, np.arange(SEQUENCES))
  pair = [c.sample(inputs, batch) for c in (calls, sharded)]
  np.testing.assert_array_equal(pair[0].durations, pair[1].durations)


def test_a_pass_sees_every_sequence_once():
  problem, _, _ = start()
  parts = list(solvers._minibatches(problem, jax.random.key(0)))
  assert len(parts) == 3
  assert len({len(part.group) for part in parts}) == 1
  seen = np.sort(np.concatenate([part.mask.sum(axis=1) for part in parts]))
  np.testing.assert_array_equal(seen[seen > 0], np.sort(problem.batch.mask.sum(axis=1)))


def test_padding_adds_empty_sequences():
  problem, _, _ = start()
  some = solvers.rows(problem.batch, np.arange(5))
  padded = solvers.padded(some, multiple=4)
  assert len(padded.group) == 8
  assert not padded.mask[5:].any()
  np.testing.assert_array_equal(padded.observed.y[:5], some.observed.y)
  assert len(solvers.padded(some, multiple=5).group) == 5


def test_a_code_that_was_never_seen_is_rare_and_not_impossible():
  """The estimate is the mean of the posterior, whose expected logarithm would rule the code out."""
  rng = np.random.default_rng(0)
  levels, seen = 20, np.eye(20, dtype=np.float32)[rng.integers(0, 10, 60)]
  steps = syllables.Steps([seen[:, None]], np.zeros(1, np.int32), (levels,), 10.0, 1.0)
  segmenter = syllables.make_segmenter(SETTINGS, steps)
  batch = syllables.make_batch(segmenter, steps)
  for method in ("variational", "map"):
    calls = solvers.compile_calls(segmenter, dataclasses.replace(SETTINGS, method=method), kind="pmap")
    statistics = learning.from_assignments(segmenter, batch, jnp.ones((1, 60, 3)) / 3)
    learned = learning.maximize(segmenter, statistics, hdp.uniform(1, 3), method=method)
    found = calls.estimate(learned, statistics).emission
    counts = seen.sum(axis=0) / 3
    np.testing.assert_allclose(np.exp(found[0, 0]), (counts + 1 / levels) / (counts.sum() + 1), rtol=1e-4)
    if method == "variational":
      assert (learned.parameters.emission[0, 0, 10:] < found[0, 0, 10:] - 10).all()
    else:
      np.testing.assert_array_equal(found, learned.parameters.emission)
