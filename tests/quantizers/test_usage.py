"""Code usage statistics against NumPy and SciPy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from behavejax.evaluation import metrics
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


def test_dead_codes_are_those_of_merged_histograms():
  parts = [np.array([0, 3, 0, 0, 1.0]), np.array([0, 0, 2, 0, 1.0])]
  assert [int(usage.dead_codes(jnp.asarray(counts))) for counts in (*parts, sum(parts))] == [3, 3, 2]
  assert usage.dead_codes(jnp.zeros(7)) == 7


def labelled_tokens(seed, *, size=40, num_codes=9, classes=4):
  """Tokens that depend on their label, some labels missing, some examples masked."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(-1, classes, size)
  tokens = (rng.integers(0, 4, (size, 2, 3)) + np.maximum(labels, 0)[:, None, None]) % num_codes
  return tokens, labels, rng.random(size) < 0.7


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_joint_histogram_and_information_equal_the_evaluation(seed):
  tokens, labels, mask = labelled_tokens(seed)
  static = {"num_codes": 9, "classes": 4}
  joint = usage.joint_histogram(*map(jnp.asarray, (tokens, labels)), **static, mask=jnp.asarray(mask))
  expected = metrics.code_dictionary(tokens[mask], labels[mask], **static)
  np.testing.assert_array_equal(joint, expected.joint)
  np.testing.assert_allclose(usage.normalized_information(joint), expected.information, atol=1e-5)
  np.testing.assert_allclose(metrics.normalized_information(np.asarray(joint, np.float64)), expected.information)
  known = mask & (labels >= 0)
  flat = tokens[known].reshape(known.sum(), -1)
  pairs = flat.ravel(), np.repeat(labels[known], flat.shape[1])
  np.testing.assert_allclose(usage.information(joint), sklearn_metrics.mutual_info_score(*pairs), atol=1e-5)
  np.testing.assert_allclose(
    usage.normalized_information(joint), sklearn_metrics.normalized_mutual_info_score(*pairs), atol=1e-5
  )
  halves = [usage.joint_histogram(tokens[i], labels[i], **static, mask=mask[i]) for i in (slice(15), slice(15, 40))]
  np.testing.assert_array_equal(sum(halves), joint)
  np.testing.assert_array_equal(usage.joint_histogram(tokens[mask], labels[mask], **static), joint)


@pytest.mark.parametrize(
  ("joint", "nats", "share"),
  [
    (np.eye(4), np.log(4), 1.0),
    (np.ones((4, 3)), 0.0, 0.0),
    (np.zeros((4, 3)), 0.0, 1.0),
    ([[5.0, 0.0], [0.0, 0.0]], 0.0, 1.0),
  ],
)
def test_information_at_its_ends(joint, nats, share):
  joint = jnp.asarray(joint, jnp.float32)
  np.testing.assert_allclose(usage.information(joint), nats, atol=1e-6)
  np.testing.assert_allclose(usage.normalized_information(joint), share, atol=1e-6)
  np.testing.assert_allclose(metrics.normalized_information(np.asarray(joint)), share, atol=1e-6)


def test_counts_of_eight_devices_add_up():
  tokens, labels, mask = (jnp.asarray(a) for a in labelled_tokens(0))

  def counts(tokens, labels, mask):
    joint = usage.joint_histogram(tokens, labels, num_codes=9, classes=4, mask=mask)
    return jax.lax.psum((joint, usage.histogram(tokens, num_codes=9, mask=mask)), "device")

  parts = [a.reshape(8, 5, *a.shape[1:]) for a in (tokens, labels, mask)]
  joint, single = jax.tree.map(lambda a: a[0], jax.block_until_ready(jax.pmap(counts, "device")(*parts)))
  np.testing.assert_array_equal(joint, usage.joint_histogram(tokens, labels, num_codes=9, classes=4, mask=mask))
  np.testing.assert_array_equal(single, usage.histogram(tokens, num_codes=9, mask=mask))
  assert usage.dead_codes(single) == usage.dead_codes(usage.histogram(tokens, num_codes=9, mask=mask))


class Variants(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_information(self):
    tokens, labels, mask = (jnp.asarray(a) for a in labelled_tokens(1))

    def both(tokens, labels, mask):
      joint = usage.joint_histogram(tokens, labels, num_codes=9, classes=4, mask=mask)
      return usage.information(joint), usage.normalized_information(joint)

    nats, share = self.variant(both)(tokens, labels, mask)
    assert 0 < share < 1
    assert 0 < nats < np.log(4)
