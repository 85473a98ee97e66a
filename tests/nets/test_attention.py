"""Attention is a function of positions, and equals NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from behavejax.nets.attention import PositionAttention, RowAttention, dot_product_attention, position_features

WIDTH, HEADS = 8, 2


def setup(kind, grid):
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *grid, WIDTH)), jnp.float32)
  layer = PositionAttention(kind, HEADS)
  return layer, jax.jit(layer.init)(jax.random.key(0), x), x


def attend(x, qkv, out, bias):
  """NumPy: attention over the second to last axis."""
  q, k, v = (a.reshape(*x.shape[:-1], HEADS, -1) for a in np.split(x @ qkv, 3, axis=-1))
  scores = np.einsum("...qhd,...khd->...hqk", q, k) / np.sqrt(WIDTH // HEADS)
  mixed = np.einsum("...hqk,...khd->...qhd", softmax(scores, axis=-1), v)
  return mixed.reshape(x.shape) @ out + bias


@pytest.mark.parametrize("grid", [(5,), (2, 3), (2, 3, 2)])
def test_full_attention_equals_numpy(grid):
  layer, variables, x = setup("full", grid)
  p = jax.tree.map(np.asarray, variables["params"])
  placed = np.asarray(x) + position_features(grid) @ p["position"]["kernel"]
  flat = placed.reshape(2, -1, WIDTH)
  expected = attend(flat, p["qkv_all"]["kernel"], p["out_all"]["kernel"], p["out_all"]["bias"]).reshape(x.shape)
  np.testing.assert_allclose(layer.apply(variables, x), expected, atol=1e-5)


def test_axial_attention_equals_numpy_along_each_axis():
  layer, variables, x = setup("axial", (3, 4))
  p = jax.tree.map(np.asarray, variables["params"])
  placed = np.asarray(x) + position_features((3, 4)) @ p["position"]["kernel"]
  expected = 0
  for axis in (0, 1):
    weights = p[f"qkv_axis_{axis}"]["kernel"], p[f"out_axis_{axis}"]["kernel"], p[f"out_axis_{axis}"]["bias"]
    expected = expected + np.moveaxis(attend(np.moveaxis(placed, 1 + axis, -2), *weights), -2, 1 + axis)
  np.testing.assert_allclose(layer.apply(variables, x), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["full", "axial"])
def test_channels_may_change_places_and_positions_may_not(kind):
  layer, variables, x = setup(kind, (3, 4))
  order = np.random.default_rng(1).permutation(WIDTH)

  def permuted(path, leaf):
    """Weights of a network whose features are in another order, heads as they are."""
    name = path[0].key
    if name == "position":
      return leaf[:, order]
    if name.startswith("qkv"):
      return leaf[order]
    return leaf[..., order]

  other = jax.tree_util.tree_map_with_path(permuted, variables["params"])
  there = layer.apply({"params": other}, x[..., order])
  here = layer.apply(variables, x)
  np.testing.assert_allclose(there, here[..., order], atol=1e-5)
  moved = layer.apply(variables, x[:, ::-1])
  assert np.abs(moved - here[:, ::-1]).max() > 1e-3


def test_axial_attention_sees_only_its_axes_and_full_attention_all():
  for kind, seen in (("axial", 3 + 4 - 1), ("full", 12)):
    layer, variables, x = setup(kind, (3, 4))
    gradient = jax.grad(lambda x, layer=layer, v=variables: jnp.sum(jnp.sin(layer.apply(v, x)[0, 1, 2])))(x)
    assert np.sum(np.abs(gradient[0]).max(-1) > 1e-9) == seen
    assert np.abs(gradient[1]).max() == 0


MASKS = {
  "all": None,
  "causal": np.arange(7)[None] <= np.arange(5)[:, None],
  "the same keys for every query": np.arange(7)[None] % 3 > 0,
}


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(("dtype", "atol"), [(jnp.float32, 1e-5), (jnp.bfloat16, 0.03)])
@pytest.mark.parametrize("seen", MASKS)
def test_dot_product_attention_and_its_gradient_equal_jax(seen, dtype, atol, compiled):
  rng = np.random.default_rng(0)
  shapes = ((3, 5, 2, 4), (3, 7, 2, 4), (3, 7, 2, 4), (3, 5, 2, 4))
  *rows, given = (jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes)
  mask = MASKS[seen]
  expected, back = jax.vjp(
    lambda *a: jax.nn.dot_product_attention(*a, mask=None if mask is None else mask[None, None]),
    *(a.astype(jnp.float32) for a in rows),
  )
  wanted = (expected, *back(given.astype(jnp.float32)))

  def ours(rows, given):
    found, back = jax.vjp(lambda *a: dot_product_attention(*a, mask=mask), *rows)
    return found, *back(given)

  found = (jax.jit(ours) if compiled else ours)(rows, given)
  for a, b in zip(found, wanted, strict=True):
    assert a.dtype == dtype
    np.testing.assert_allclose(a.astype(np.float32), b, atol=atol)


def test_what_is_masked_has_no_gradient_and_no_say():
  rows = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 4, 2, 4)), jnp.float32)
  mask = np.array([[True, True, False, True]])

  def through(rows):
    return dot_product_attention(*rows, mask=mask)

  gradient = jax.grad(lambda rows: jnp.sum(jnp.sin(through(rows))))(rows)
  assert np.abs(gradient[1:, :, 2]).max() == 0
  assert np.abs(gradient[1:, :, 3]).min() > 0
  np.testing.assert_array_equal(through(rows), through(rows.at[1:, :, 2].set(1e6)))


def test_position_features_tell_all_places_apart():
  flat = position_features((4, 6, 2)).reshape(48, -1)
  apart = np.abs(flat[:, None] - flat[None]).max(-1) + np.eye(48)
  assert apart.min() > 0.05


def test_rows_must_be_divided_by_heads():
  with pytest.raises(ValueError, match="width 6 is not a multiple of 4 heads"):
    RowAttention().init(jax.random.key(0), jnp.zeros((1, 2, 3, 6)))
