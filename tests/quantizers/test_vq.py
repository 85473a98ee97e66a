"""Vector quantization against NumPy in float64, written from the formulas of the papers."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavejax.quantizers import kmeans, vq, vq_state

quantize = jax.jit(vq.quantize, static_argnames=("cosine", "chunk"))


def reference(z, codebook):
  """Indices, squared distances, and which rows float32 cannot turn to another code."""
  z, codebook = np.asarray(z, np.float64), np.asarray(codebook, np.float64)
  distances = ((z[:, None] - codebook[None]) ** 2).sum(-1)
  two = np.sort(distances, axis=1)[:, :2]
  return distances.argmin(1), two[:, 0], np.ptp(two, axis=1) > 1e-4 if len(codebook) > 1 else np.ones(len(z), bool)


def example(seed, *, size, dim, num_codes):
  rng = np.random.default_rng(seed)
  z, codebook = rng.normal(size=(size, dim)), rng.normal(size=(num_codes, dim))
  return jnp.asarray(z, jnp.float32), jnp.asarray(codebook, jnp.float32)


def unit(x):
  x = np.asarray(x, np.float64)
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


@settings(max_examples=25, deadline=None)
@given(
  size=st.sampled_from([1, 64, 130]),
  dim=st.sampled_from([1, 8]),
  num_codes=st.sampled_from([1, 17]),
  cosine=st.booleans(),
  seed=st.integers(0, 2**31 - 1),
)
def test_equals_reference(size, dim, num_codes, cosine, seed):
  z, codebook = example(seed, size=size, dim=dim, num_codes=num_codes)
  found = quantize(z, codebook, cosine=cosine, chunk=64)
  compared, codes = (unit(z), unit(codebook)) if cosine else (z, np.asarray(codebook, np.float64))
  indices, distances, sure = reference(compared, codes)
  assert found.indices.dtype == jnp.int32
  assert (found.indices >= 0).all()
  assert (found.indices < num_codes).all()
  np.testing.assert_array_equal(found.indices[sure], indices[sure])
  np.testing.assert_allclose(found.codes[sure], codes[indices][sure], atol=1e-6)
  np.testing.assert_allclose(found.loss, 1.25 * distances, rtol=1e-4, atol=1e-4)
  again = quantize(found.codes, codebook, cosine=cosine, chunk=64)
  _, _, distinct = reference(unit(found.codes) if cosine else found.codes, codes)  # from the other codes, in float32
  np.testing.assert_allclose(again.codes[distinct], found.codes[distinct], atol=1e-6)
  np.testing.assert_allclose(again.loss[distinct], 0, atol=1e-10)


def test_codes_and_indices_are_inverse():
  codebook = jax.random.normal(jax.random.key(0), (300, 5))
  for cosine in (False, True):
    codes = vq.indices_to_codes(jnp.arange(300), codebook, cosine=cosine)
    np.testing.assert_array_equal(vq.codes_to_indices(codes, codebook, cosine=cosine, chunk=64), np.arange(300))
  assert np.isnan(vq.indices_to_codes(jnp.array([300]), codebook)).all()


def test_of_equally_near_codes_the_first():
  codebook = jnp.array([[2.0, 0.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
  np.testing.assert_array_equal(vq.codes_to_indices(jnp.array([[1.0, 5.0], [0.0, 1.0]]), codebook), [1, 1])


def test_losses_and_their_gradients():
  z, codebook = example(1, size=50, dim=4, num_codes=6)
  weights = np.random.default_rng(2).normal(size=50).astype(np.float32)

  def total(z, codebook, **weighting):
    return jnp.sum(weights * vq.quantize(z, codebook, **weighting).loss)

  indices, distances, _ = reference(z, codebook)
  difference = 2 * weights[:, None] * (np.asarray(z, np.float64) - np.asarray(codebook)[indices])
  to_codes = np.zeros(codebook.shape)
  np.add.at(to_codes, indices, -difference)
  for beta, codebook_weight in ((0.25, 1.0), (0.1, 0.0), (0.0, 2.0)):
    weighting = {"commitment_weight": beta, "codebook_weight": codebook_weight}
    value, (by_z, by_codebook) = jax.value_and_grad(total, argnums=(0, 1))(z, codebook, **weighting)
    np.testing.assert_allclose(value, (beta + codebook_weight) * (weights * distances).sum(), rtol=1e-5)
    np.testing.assert_allclose(by_z, beta * difference, atol=1e-5)
    np.testing.assert_allclose(by_codebook, codebook_weight * to_codes, atol=1e-4)


def test_straight_through():
  z, codebook = example(3, size=20, dim=4, num_codes=6)
  cotangent = jax.random.normal(jax.random.key(4), z.shape)
  by_z, by_codebook = jax.grad(lambda *a: jnp.sum(cotangent * vq.quantize(*a).codes), argnums=(0, 1))(z, codebook)
  np.testing.assert_array_equal(by_z, cotangent)
  np.testing.assert_array_equal(by_codebook, 0)


def rotation_matrix(a, b):
  """Turns the direction of `a` into that of `b` within their plane and leaves the rest alone (Gram-Schmidt)."""
  first = a / np.linalg.norm(a)
  second = b - (b @ first) * first
  second /= np.linalg.norm(second)
  angle = np.arctan2(b @ second, b @ first)
  plane = np.stack([first, second])
  turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
  return np.eye(len(a)) + plane.T @ (turn - np.eye(2)) @ plane


@pytest.mark.parametrize("cosine", [False, True])
def test_rotation_trick(cosine):
  z, codebook = example(5, size=30, dim=5, num_codes=4)
  z = jnp.asarray(unit(z), jnp.float32) if cosine else z  # then scaling to length 1 is a projection
  cotangent = np.random.default_rng(6).normal(size=z.shape).astype(np.float32)
  found = vq.quantize(z, codebook, gradient="rotation", cosine=cosine)
  gradient = jax.grad(
    lambda z: jnp.sum(cotangent * vq.quantize(z, codebook, gradient="rotation", cosine=cosine).codes)
  )(z)
  codes = vq.indices_to_codes(found.indices, codebook, cosine=cosine)
  np.testing.assert_array_equal(found.codes, codes)
  for row, code, out, back in zip(*(np.asarray(a, np.float64) for a in (z, codes, cotangent, gradient)), strict=True):
    matrix = np.linalg.norm(code) / np.linalg.norm(row) * rotation_matrix(row, code)
    np.testing.assert_allclose(matrix @ row, code, atol=1e-6)
    expected = matrix.T @ out
    if cosine:
      expected = expected - (expected @ row) * row
    np.testing.assert_allclose(back, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gradient", vq.GRADIENTS)
@pytest.mark.parametrize("cosine", [False, True])
def test_vectors_without_direction_have_finite_gradients(gradient, cosine):
  z = jnp.array([[0.0, 0.0], [1.0, 0.0], [1e-20, 0.0]])
  for codebook in (jnp.array([[0.0, 0.0], [-3.0, 0.0]]), jnp.array([[-3.0, 0.0]])):  # the origin, the opposite
    both = jax.grad(lambda *a: jnp.sum(vq.quantize(*a, gradient=gradient, cosine=cosine).codes), argnums=(0, 1))
    chex.assert_tree_all_finite(both(z, codebook))


def test_mask_and_broken_vectors_cost_nothing():
  z, codebook = example(7, size=40, dim=3, num_codes=5)
  mask = np.random.default_rng(8).random(40) < 0.6
  broken = z.at[3].set(jnp.nan).at[5, 1].set(jnp.inf).at[6].set(3e38)
  mask[[3, 5, 6]] = True
  valid = mask & ~np.isin(np.arange(40), [3, 5, 6])

  def total(z, mask):
    quantized = vq.quantize(z, codebook, mask, gradient="rotation")
    return quantized.loss.sum(), quantized

  both = jax.jit(jax.value_and_grad(total, has_aux=True))
  (value, whole), gradient = both(broken, jnp.asarray(mask))
  (expected, part), expected_gradient = both(z[valid], None)
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[valid], whole), part, rtol=1e-6)
  np.testing.assert_allclose(gradient[valid], expected_gradient, rtol=1e-5)
  np.testing.assert_array_equal(gradient[~valid], 0)
  np.testing.assert_array_equal(whole.loss[~valid], 0)
  chex.assert_tree_all_finite(whole)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.01])
def test_entropy_penalty(cosine, temperature):
  z, codebook = example(9, size=40, dim=3, num_codes=5)
  mask = np.arange(40) < 30
  rows, codes = (unit(z), unit(codebook)) if cosine else (np.asarray(z, np.float64), np.asarray(codebook))
  logits = -((rows[mask][:, None] - codes[None]) ** 2).sum(-1) / temperature
  probs = np.exp(logits - logits.max(1, keepdims=True))
  probs /= probs.sum(1, keepdims=True)

  def entropy(p):
    return -(p * np.log(np.maximum(p, 1e-300))).sum(-1)

  penalty = jax.jit(functools.partial(vq.entropy_penalty, temperature=temperature, cosine=cosine))
  found = penalty(z, codebook, jnp.asarray(mask))
  np.testing.assert_allclose(found, entropy(probs).mean() - entropy(probs.mean(0)), rtol=1e-4)
  assert -math.log(5) <= found <= 0
  gradients = jax.grad(penalty, argnums=(0, 1))(z, codebook, jnp.asarray(mask))
  chex.assert_tree_all_finite(gradients)
  np.testing.assert_array_equal(gradients[0][~mask], 0)
  assert penalty(z, codebook, jnp.zeros(40, bool)) == 0


def test_entropy_penalty_on_eight_devices_equals_one():
  z, codebook = example(10, size=64, dim=3, num_codes=5)
  mask = jnp.asarray(np.random.default_rng(11).random(64) < 0.7)

  def on_devices(codebook, z, mask):
    value, gradient = jax.value_and_grad(lambda c: vq.entropy_penalty(z, c, mask, axis_name="device"))(codebook)
    return value, jax.lax.pmean(gradient, "device")

  spread = jax.pmap(on_devices, "device", in_axes=(None, 0, 0))
  values, gradients = jax.block_until_ready(spread(codebook, z.reshape(8, 8, 3), mask.reshape(8, 8)))
  value, gradient = jax.value_and_grad(lambda c: vq.entropy_penalty(z, c, mask))(codebook)
  np.testing.assert_allclose(values, np.full(8, value), rtol=1e-5)
  np.testing.assert_allclose(gradients[0], gradient, rtol=1e-4, atol=1e-6)


def test_orthogonality_penalty():
  _, codebook = example(12, size=1, dim=3, num_codes=7)
  cosines = unit(codebook) @ unit(codebook).T
  np.testing.assert_allclose(vq.orthogonality_penalty(codebook), ((cosines - np.eye(7)) ** 2).sum() / 49, rtol=1e-5)
  chex.assert_tree_all_finite(jax.grad(vq.orthogonality_penalty)(jnp.zeros((3, 2))))


def largest(jaxpr):
  """Size of the largest array that a program computes, subprograms included."""
  size = 0
  for equation in jaxpr.eqns:
    size = max([size, *(math.prod(v.aval.shape) for v in equation.outvars)])
    inner = jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr"))
    size = max([size, *(largest(getattr(p, "jaxpr", p)) for p in inner if hasattr(p, "eqns") or hasattr(p, "jaxpr"))])
  return size


@pytest.mark.parametrize("cosine", [False, True])
def test_nothing_of_size_rows_codes_dim_is_kept(cosine):
  z, codebook = jnp.zeros((4100, 8)), jnp.zeros((64, 8))

  def total(z, codebook, chunk):
    quantized = vq.quantize(z, codebook, gradient="rotation", cosine=cosine, chunk=chunk)
    return quantized.codes.sum() + quantized.loss.sum()

  for chunk, bound in ((256, 4100 * 8), (8192, 4100 * 64)):
    program = jax.make_jaxpr(jax.grad(total, argnums=(0, 1)), static_argnums=2)(z, codebook, chunk)
    assert largest(program.jaxpr) == bound
  assert largest(jax.make_jaxpr(vq.entropy_penalty)(z, codebook).jaxpr) == 4100 * 64

  def learn(z, codebook, key):
    state = kmeans.initialise(vq_state.from_codebook(codebook), z, key, cosine=cosine)
    indices = vq.codes_to_indices(z, state.codebook, cosine=cosine)
    state = vq_state.update(state, vq_state.statistics(z, indices, num_codes=64, cosine=cosine), cosine=cosine)
    return vq_state.restart(state, z, jax.random.fold_in(key, 0), cosine=cosine)

  assert largest(jax.make_jaxpr(learn)(z, codebook, jax.random.key(0)).jaxpr) <= 1024 * 64


class Variants(chex.TestCase):
  @chex.all_variants()
  def test_quantize(self):
    z, codebook = example(13, size=48, dim=3, num_codes=5)
    indices, distances, _ = reference(z, codebook)
    found = self.variant(lambda z: vq.quantize(z, codebook, chunk=20))(z)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.loss, 1.25 * distances, rtol=1e-4, atol=1e-5)


def test_any_leading_axes_and_vmap():
  z, codebook = example(14, size=60, dim=3, num_codes=5)
  flat = vq.quantize(z, codebook)
  for shape in ((4, 15), (2, 5, 6), (60, 1)):
    shaped = quantize(z.reshape(*shape, 3), codebook, jnp.ones(shape, bool))
    assert shaped.codes.shape == (*shape, 3)
    assert shaped.indices.shape == shaped.loss.shape == shape
    chex.assert_trees_all_close(shaped, jax.tree.map(lambda a, b: a.reshape(b.shape), flat, shaped))
  chex.assert_trees_all_close(jax.vmap(lambda row: quantize(row, codebook))(z), flat, rtol=1e-5)
  assert vq.quantize(z[0], codebook).indices.shape == ()
  assert vq.quantize(z[:0], codebook).codes.shape == (0, 3)


def test_bfloat16_stays_bfloat16():
  z, codebook = example(15, size=8, dim=3, num_codes=5)
  quantized = vq.quantize(z.astype(jnp.bfloat16), codebook)
  assert quantized.codes.dtype == jnp.bfloat16
  assert quantized.loss.dtype == jnp.float32


def test_wrong_dimension_is_refused():
  with pytest.raises(AssertionError):
    vq.quantize(jnp.zeros((4, 3)), jnp.zeros((5, 2)))
