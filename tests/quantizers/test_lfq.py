"""Lookup-free quantization against NumPy in float64 with the whole codebook written out."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavejax.quantizers import fsq, lfq, vq
from tests.quantizers.test_vq import largest, unit

quantize = jax.jit(lfq.quantize, static_argnames=("scale", "spherical"))


def example(seed, *, size, dim):
  return jnp.asarray(np.random.default_rng(seed).normal(size=(size, dim)), jnp.float32)


def all_codes(dim, *, scale=1.0, spherical=False):
  bits = np.arange(2**dim)[:, None] >> np.arange(dim) & 1
  return (2.0 * bits - 1) * scale / (math.sqrt(dim) if spherical else 1)


@settings(max_examples=30, deadline=None)
@given(
  size=st.sampled_from([1, 40]),
  dim=st.sampled_from([1, 2, 7]),
  scale=st.sampled_from([1.0, 0.25]),
  spherical=st.booleans(),
  seed=st.integers(0, 2**31 - 1),
)
def test_equals_the_nearest_of_all_codes(size, dim, scale, spherical, seed):
  z = example(seed, size=size, dim=dim)
  found = quantize(z, scale=scale, spherical=spherical)
  vectors = unit(z) if spherical else np.asarray(z, np.float64)
  codebook = all_codes(dim, scale=scale, spherical=spherical)
  distances = ((vectors[:, None] - codebook[None]) ** 2).sum(-1)
  np.testing.assert_array_equal(found.indices, distances.argmin(1))
  np.testing.assert_allclose(found.codes, codebook[distances.argmin(1)], rtol=1e-6)
  np.testing.assert_allclose(found.loss, 0.25 * distances.min(1), rtol=1e-4, atol=1e-5)
  again = quantize(found.codes, scale=scale, spherical=spherical)
  np.testing.assert_array_equal(again.indices, found.indices)
  np.testing.assert_array_equal(lfq.codes_to_indices(found.codes), found.indices)
  if spherical:
    np.testing.assert_allclose(np.linalg.norm(found.codes, axis=1), scale, rtol=1e-6)


@pytest.mark.parametrize("spherical", [False, True])
def test_codes_and_indices_are_inverse(spherical):
  indices = jnp.arange(64).reshape(4, 16)
  codes = lfq.indices_to_codes(indices, dim=6, scale=0.5, spherical=spherical)
  assert codes.dtype == jnp.float32
  np.testing.assert_array_equal(codes.reshape(64, 6), all_codes(6, scale=0.5, spherical=spherical).astype(np.float32))
  np.testing.assert_array_equal(lfq.codes_to_indices(codes), indices)


def test_codes_are_those_of_a_grid_of_two_levels():
  z = example(0, size=100, dim=5).at[0].set(0.0)
  static = {"levels": (2,) * 5, "symmetric": True}
  found = quantize(z)
  np.testing.assert_array_equal(found.codes, fsq.quantize(z, **static))
  np.testing.assert_array_equal(found.indices, fsq.codes_to_indices(found.codes, **static))


@pytest.mark.parametrize("spherical", [False, True])
def test_gradients(spherical):
  z, cotangent = example(1, size=20, dim=4), example(2, size=20, dim=4)
  gradient = jax.grad(lambda z: jnp.sum(cotangent * lfq.quantize(z, spherical=spherical).codes))(z)
  if not spherical:
    np.testing.assert_array_equal(gradient, cotangent)
    loss = jax.grad(lambda z: lfq.quantize(z, commitment_weight=0.5).loss.sum())(z)
    np.testing.assert_allclose(loss, z - jnp.sign(z), rtol=1e-6)
  else:  # of the scaling to length 1
    directions, lengths = unit(z), np.linalg.norm(np.asarray(z, np.float64), axis=1, keepdims=True)
    along = (directions * cotangent).sum(1, keepdims=True)
    np.testing.assert_allclose(gradient, (cotangent - along * directions) / lengths, rtol=1e-4, atol=1e-5)
  chex.assert_tree_all_finite(jax.grad(lambda z: lfq.quantize(z, spherical=spherical).codes.sum())(jnp.zeros((2, 4))))


@pytest.mark.parametrize("spherical", [False, True])
def test_mask_and_broken_vectors_cost_nothing(spherical):
  z = example(3, size=40, dim=3)
  mask = np.random.default_rng(4).random(40) < 0.6
  broken = z.at[3].set(jnp.nan).at[5, 1].set(jnp.inf).at[6].set(3e38)
  mask[[3, 5, 6]] = True
  valid = mask & ~np.isin(np.arange(40), [3, 5, 6])

  def total(z, mask):
    found = lfq.quantize(z, mask, spherical=spherical)
    return found.loss.sum() + lfq.entropy_penalty(z, mask, spherical=spherical), found

  both = jax.jit(jax.value_and_grad(total, has_aux=True))
  (value, whole), gradient = both(broken, jnp.asarray(mask))
  (expected, part), expected_gradient = both(z[valid], None)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[valid], whole), part, rtol=1e-6)
  np.testing.assert_allclose(gradient[valid], expected_gradient, rtol=1e-4, atol=1e-6)
  np.testing.assert_array_equal(gradient[~valid], 0)
  np.testing.assert_array_equal(whole.loss[~valid], 0)
  chex.assert_tree_all_finite(whole)


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize(("dim", "temperature"), [(1, 1.0), (5, 1.0), (6, 0.02)])
def test_entropy_penalty_is_that_of_all_codes(spherical, dim, temperature):
  z, mask = example(5, size=40, dim=dim), np.arange(40) < 30
  codebook = all_codes(dim, spherical=spherical)
  vectors = unit(z) if spherical else np.asarray(z, np.float64)
  logits = -((vectors[mask][:, None] - codebook[None]) ** 2).sum(-1) / temperature
  probs = np.exp(logits - logits.max(1, keepdims=True))
  probs /= probs.sum(1, keepdims=True)

  def entropy(p):
    return -(p * np.log(np.maximum(p, 1e-300))).sum(-1)

  penalty = jax.jit(functools.partial(lfq.entropy_penalty, temperature=temperature, spherical=spherical))
  found = penalty(z, jnp.asarray(mask))
  np.testing.assert_allclose(found, entropy(probs).mean() - entropy(probs.mean(0)), rtol=1e-4, atol=1e-6)
  assert -dim * math.log(2) - 1e-5 <= found <= 1e-5
  gradient = jax.grad(penalty)(z, jnp.asarray(mask))
  chex.assert_tree_all_finite(gradient)
  np.testing.assert_array_equal(gradient[~mask], 0)
  if not spherical:
    codes = jnp.asarray(codebook, jnp.float32)
    theirs = jax.grad(lambda z: vq.entropy_penalty(z, codes, jnp.asarray(mask), temperature=temperature))(z)
    np.testing.assert_allclose(gradient, theirs, rtol=1e-3, atol=1e-5)
  assert penalty(z, jnp.zeros(40, bool)) == 0


def test_entropy_penalty_of_all_codes_of_sixteen_bits_keeps_no_table_of_them():
  z = jnp.zeros((300, 16))
  program = jax.make_jaxpr(jax.value_and_grad(lfq.entropy_penalty))(z)
  assert largest(program.jaxpr) <= max(2**16, 300 * 2**8)
  sure = 20 * example(6, size=300, dim=16)  # each vector has a code of its own
  assert float(jax.jit(lfq.entropy_penalty)(sure)) == pytest.approx(-math.log(300), rel=0.02)


def test_entropy_penalty_on_eight_devices_equals_one():
  z, mask = example(7, size=64, dim=5), jnp.asarray(np.random.default_rng(8).random(64) < 0.7)

  def on_devices(weight, z, mask):
    def total(weight):
      return lfq.entropy_penalty(weight * z, mask, axis_name="device")

    value, gradient = jax.value_and_grad(total)(weight)
    return value, jax.lax.pmean(gradient, "device")

  spread = jax.pmap(on_devices, "device", in_axes=(None, 0, 0))
  values, gradients = jax.block_until_ready(spread(jnp.ones(()), z.reshape(8, 8, 5), mask.reshape(8, 8)))
  value, gradient = jax.value_and_grad(lambda w: lfq.entropy_penalty(w * z, mask))(jnp.ones(()))
  np.testing.assert_allclose(values, np.full(8, value), rtol=1e-5)
  np.testing.assert_allclose(gradients, np.full(8, gradient), rtol=1e-4)


class Variants(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_quantize(self):
    z = example(9, size=48, dim=3)
    found = self.variant(lfq.quantize)(z)
    np.testing.assert_array_equal(found.codes, np.sign(z))

  @chex.variants(with_jit=True, without_jit=True)
  def test_entropy_penalty(self):
    z = example(10, size=48, dim=3)
    found = self.variant(lfq.entropy_penalty)(z)
    np.testing.assert_allclose(found, vq.entropy_penalty(z, jnp.asarray(all_codes(3), jnp.float32)), rtol=1e-4)


def test_any_leading_axes_and_types():
  z = example(11, size=24, dim=3)
  flat = lfq.quantize(z)
  shaped = lfq.quantize(z.reshape(2, 3, 4, 3), jnp.ones((2, 3, 4), bool))
  chex.assert_trees_all_close(shaped, jax.tree.map(lambda a, b: a.reshape(b.shape), flat, shaped))
  chex.assert_trees_all_close(jax.vmap(lfq.quantize)(z), flat)
  short = lfq.quantize(z.astype(jnp.bfloat16))
  assert short.codes.dtype == jnp.bfloat16
  assert short.loss.dtype == jnp.float32
