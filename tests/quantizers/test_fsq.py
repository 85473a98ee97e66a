"""FSQ against a NumPy reference written from the formulas of Mentzer et al. (2023)."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavejax.quantizers import fsq, usage


def reference(z, levels, symmetric):
  """Codes, indices and derivative of the bound, in float64."""
  z, levels = np.asarray(z, np.float64), np.asarray(levels)
  basis = np.cumprod([1, *levels[:-1]])
  if symmetric:
    digits = np.floor((levels - 1) * (np.tanh(z) + 1) / 2 + 0.5)
    return 2 / (levels - 1) * digits - 1, (digits * basis).sum(-1).astype(int), 1 - np.tanh(z) ** 2
  half = (levels - 1) * (1 + 1e-3) / 2
  offset = np.where(levels % 2 == 0, 0.5, 0.0)
  shift = np.arctanh(offset / half)
  grid = np.round(np.tanh(z + shift) * half - offset)
  slope = (1 - np.tanh(z + shift) ** 2) * half / (levels // 2)
  return grid / (levels // 2), ((grid + levels // 2) * basis).sum(-1).astype(int), slope


def away_from_thresholds(z, levels, symmetric):
  """Rows whose rounding float32 cannot turn."""
  bounded = np.asarray(fsq.bound(jnp.asarray(z), levels=levels, symmetric=symmetric), np.float64)
  return (np.abs(bounded - np.floor(bounded) - 0.5) > 1e-4).all(-1)


@settings(max_examples=40, deadline=None)
@given(
  levels=st.lists(st.integers(2, 16), min_size=1, max_size=6),
  symmetric=st.booleans(),
  seed=st.integers(0, 2**31 - 1),
  spread=st.sampled_from([0.3, 1.0, 3.0]),
)
def test_equals_reference(levels, symmetric, seed, spread):
  symmetric = symmetric or 2 in levels
  z = (np.random.default_rng(seed).normal(size=(64, len(levels))) * spread).astype(np.float32)
  codes = fsq.quantize(jnp.asarray(z), levels=levels, symmetric=symmetric)
  indices = fsq.codes_to_indices(codes, levels=levels, symmetric=symmetric)
  gradient = jax.grad(lambda z: fsq.quantize(z, levels=levels, symmetric=symmetric).sum())(jnp.asarray(z))
  expected_codes, expected_indices, slope = reference(z, levels, symmetric)
  keep = away_from_thresholds(z, levels, symmetric)
  np.testing.assert_allclose(codes[keep], expected_codes[keep], atol=1e-6)
  np.testing.assert_array_equal(indices[keep], expected_indices[keep])
  np.testing.assert_allclose(gradient, slope, atol=2e-5)
  assert int(indices.min()) >= 0
  assert int(indices.max()) < fsq.codebook_size(levels)


@pytest.mark.parametrize(
  ("levels", "symmetric"),
  [
    ((8, 6, 5), False),
    ((4, 4, 4), False),
    ((8, 5, 5, 5), True),
    ((2, 3, 2), True),
    ((8, 6, 5, 5, 4), False),
    ((7,), 1),
  ],
)
def test_every_code_inverts(levels, symmetric):
  indices = jnp.arange(fsq.codebook_size(levels))
  codes = fsq.indices_to_codes(indices, levels=levels, symmetric=symmetric)
  assert len(np.unique(np.asarray(codes), axis=0)) == len(indices)
  np.testing.assert_array_equal(fsq.codes_to_indices(codes, levels=levels, symmetric=symmetric), indices)
  assert float(jnp.abs(codes).max()) == 1.0


def test_every_level_is_reached():
  z = jnp.linspace(-8, 8, 4001)[:, None]
  for level in range(3, 17):
    digits = fsq.codes_to_digits(fsq.quantize(z, levels=(level,)), levels=(level,))
    np.testing.assert_array_equal(np.unique(digits), np.arange(level))
    assert (np.diff(np.asarray(digits)[:, 0]) >= 0).all()


@pytest.mark.parametrize(("spread", "levels", "share"), [
  (1.0, (8, 6, 5), 0.94), (0.5, (8, 6, 5), 0.37), (3.0, (8, 6, 5), 0.38),
  (1.0, (8, 5, 5, 5), 0.94), (0.5, (8, 5, 5, 5), 0.26), (3.0, (8, 5, 5, 5), 0.31),
])  # fmt: skip
def test_perplexity_depends_on_spread(spread, levels, share):
  z = spread * jax.random.normal(jax.random.key(0), (200_000, len(levels)))
  tokens = fsq.codes_to_indices(fsq.quantize(z, levels=levels), levels=levels)
  counts = usage.histogram(tokens, num_codes=fsq.codebook_size(levels))
  assert float(usage.perplexity(counts)) / fsq.codebook_size(levels) == pytest.approx(share, abs=0.02)


class Variants(chex.TestCase):
  @chex.all_variants()
  def test_quantize(self):
    z = jax.random.normal(jax.random.key(1), (8, 5, 3))  # the leading axis is the devices' under pmap
    codes = self.variant(lambda z: fsq.quantize(z, levels=(8, 6, 5)))(z)
    np.testing.assert_allclose(codes, reference(z, (8, 6, 5), False)[0], atol=1e-6)

  @chex.all_variants()
  def test_codes_to_indices(self):
    indices = jnp.arange(240).reshape(8, 30)
    codes = fsq.indices_to_codes(indices, levels=(8, 6, 5))
    found = self.variant(lambda codes: fsq.codes_to_indices(codes, levels=(8, 6, 5)))(codes)
    np.testing.assert_array_equal(found, indices)


def test_vmap_equals_batch():
  z = jax.random.normal(jax.random.key(2), (16, 3))
  single = jax.vmap(lambda row: fsq.quantize(row, levels=(8, 6, 5)))(z)
  np.testing.assert_array_equal(single, fsq.quantize(z, levels=(8, 6, 5)))


def test_bfloat16_stays_bfloat16():
  z = jnp.ones((2, 3), jnp.bfloat16)
  assert fsq.quantize(z, levels=(8, 6, 5)).dtype == jnp.bfloat16
