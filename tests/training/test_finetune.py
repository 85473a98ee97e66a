"""The end of fine-tuning: rounds of EM for the syllables are kept only where held-out recordings gain."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.segmentation import emissions, hdp, learning
from behavejax.training import finetune

SEGMENTER = learning.Segmenter(emissions.gaussian(2), 3, 1, "negative_binomial", jnp.full(8, 1 / 8))


def recordings(shift):
  rng = np.random.default_rng(0)
  states = np.repeat(rng.integers(3, size=(2, 10)), 4, axis=1)
  features = 3.0 * np.eye(3)[states][..., :2] + 0.5 * rng.normal(size=(2, 40, 2)) + shift
  observed = jax.vmap(SEGMENTER.emission.observe)(jnp.asarray(features, jnp.float32))
  return learning.Batch(observed, jnp.ones((2, 40), bool), jnp.zeros(2, jnp.int32))


@pytest.mark.parametrize(("val", "kept"), [(5.0, True), (0.0, False)])
def test_rounds_are_kept_where_held_out_recordings_gain(val, kept):
  here, moved = recordings(0.0), recordings(5.0)
  probs = jnp.asarray(np.random.default_rng(1).dirichlet(np.ones(3), (2, 40)), jnp.float32)
  statistics = learning.from_assignments(SEGMENTER, here, probs)
  learned = jax.jit(lambda s: learning.maximize(SEGMENTER, s, hdp.uniform(1, 3), method="map"))(statistics)
  found, before, after = finetune.learn_on(SEGMENTER, learned, moved, recordings(val), rounds=2)
  assert (after > before) == kept
  if kept:
    chex.assert_trees_all_equal(found, learning.learn_on(SEGMENTER, learned, moved, rounds=2).parameters)
  else:
    chex.assert_trees_all_equal(found, learned.parameters)
