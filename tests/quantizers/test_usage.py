"""Code usage statistics against NumPy and SciPy."""

import jax.numpy as jnp
import numpy as np
from scipy import stats

from behavejax.quantizers import usage


def test_histogram_equals_bincount_and_merges():
  tokens = np.random.default_rng(0).integers(0, 12, (10, 2, 7))
  whole = usage.histogram(jnp.asarray(tokens), num_codes=16)
  np.testing.assert_array_equal(whole, np.bincount(tokens.ravel(), minlength=16))
  halves = sum(usage.histogram(jnp.asarray(part), num_codes=16) for part in (tokens[:3], tokens[3:]))
  np.testing.assert_array_equal(whole, halves)


def test_masked_examples_count_nowhere():
  tokens = np.random.default_rng(1).integers(0, 8, (6, 5))
  mask = np.array([True, False, True, True, False, True])
  masked = usage.histogram(jnp.asarray(tokens), num_codes=8, mask=jnp.asarray(mask))
  np.testing.assert_array_equal(masked, usage.histogram(jnp.asarray(tokens[mask]), num_codes=8))


def test_entropy_perplexity_usage():
  counts = np.array([5.0, 0.0, 2.0, 1.0])
  np.testing.assert_allclose(usage.entropy(jnp.asarray(counts)), stats.entropy(counts), rtol=1e-6)
  np.testing.assert_allclose(usage.perplexity(jnp.asarray(counts)), np.exp(stats.entropy(counts)), rtol=1e-6)
  assert float(usage.usage(jnp.asarray(counts))) == 0.75
  assert float(usage.perplexity(jnp.zeros(4))) == 1.0
