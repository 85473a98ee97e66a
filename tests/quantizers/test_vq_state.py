"""The running-average codebook against a simulation in float64, and eight devices against one."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from behavejax.quantizers import vq, vq_state


def blobs(seed, *, size, num_codes, dim=3, spread=0.1):
  """Vectors around well separated places, and the places."""
  rng = np.random.default_rng(seed)
  places = rng.permutation(
    np.eye(dim, dtype=np.float32)[np.arange(num_codes) % dim] * (3.0 + np.arange(num_codes)[:, None])
  )
  z = places[rng.integers(0, num_codes, size)] + spread * rng.normal(size=(size, dim))
  return jnp.asarray(z, jnp.float32), jnp.asarray(places)


def step(state, z, key, mask=None, *, cosine=False, axis_name=None):
  quantized = vq.quantize(z, state.codebook, mask, codebook_weight=0.0, cosine=cosine)
  batch = vq_state.statistics(z, quantized.indices, mask, num_codes=len(state.codebook), cosine=cosine)
  state = vq_state.update(state, batch, decay=0.9, cosine=cosine, axis_name=axis_name)
  return vq_state.restart(state, z, key, mask, patience=3, cosine=cosine, axis_name=axis_name)


jitted_step = jax.jit(step, static_argnames="cosine")


def test_statistics_equal_numpy_and_add_up():
  rng = np.random.default_rng(0)
  z, indices, mask = (
    rng.normal(size=(6, 10, 3)).astype(np.float32),
    rng.integers(0, 4, (6, 10)),
    rng.random((6, 10)) < 0.7,
  )
  found = vq_state.statistics(jnp.asarray(z), jnp.asarray(indices), jnp.asarray(mask), num_codes=5)
  np.testing.assert_array_equal(found.count, [np.sum(mask & (indices == k)) for k in range(5)])
  np.testing.assert_allclose(found.total, [z[mask & (indices == k)].sum(0) for k in range(5)], atol=1e-5)
  halves = [
    vq_state.statistics(*map(jnp.asarray, (z[i], indices[i], mask[i])), num_codes=5) for i in (slice(3), slice(3, 6))
  ]
  chex.assert_trees_all_close(jax.tree.map(jnp.add, *halves), found, atol=1e-5)


@pytest.mark.parametrize("cosine", [False, True])
def test_hundred_steps_equal_a_simulation(cosine):
  decay, epsilon, num_codes = 0.95, 1e-3, 6
  state = vq_state.from_codebook(blobs(1, size=1, num_codes=num_codes)[1] + 0.3)
  codes, count, total = (np.asarray(a, np.float64) for a in (state.codebook, state.count, state.total))
  rng = np.random.default_rng(2)

  @jax.jit
  def advance(state, z):
    indices = vq.quantize(z, state.codebook, cosine=cosine).indices
    batch = vq_state.statistics(z, indices, num_codes=num_codes, cosine=cosine)
    return vq_state.update(state, batch, decay=decay, epsilon=epsilon, cosine=cosine), indices

  for _ in range(100):
    z = (codes[rng.integers(0, num_codes, 64)] + 0.2 * rng.normal(size=(64, 3))).astype(np.float32)
    state, indices = advance(state, jnp.asarray(z))
    z = z / np.linalg.norm(z, axis=1, keepdims=True) if cosine else z.astype(np.float64)
    chosen = np.eye(num_codes)[np.asarray(indices)]
    count = decay * count + (1 - decay) * chosen.sum(0)
    total = decay * total + (1 - decay) * chosen.T @ z
    codes = total / ((count + epsilon) / (count.sum() + num_codes * epsilon) * count.sum())[:, None]
    if cosine:
      codes /= np.linalg.norm(codes, axis=1, keepdims=True)
  np.testing.assert_allclose(state.count, count, rtol=1e-5)
  np.testing.assert_allclose(state.total, total, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(state.codebook, codes, rtol=1e-4, atol=1e-5)
  assert state.initialised


@pytest.mark.parametrize("cosine", [False, True])
def test_masked_and_broken_vectors_leave_no_trace(cosine):
  z, places = blobs(3, size=40, num_codes=5)
  mask = jnp.asarray(np.random.default_rng(4).random(40) < 0.6)
  broken = jnp.where(mask[:, None], z, jnp.nan)
  state = vq_state.from_codebook(jnp.concatenate([places, jnp.full((3, 3), -9.0)]))._replace(idle=jnp.full(8, 2))
  results = [
    jitted_step(state, z, jax.random.key(0), mask, cosine=cosine),
    jitted_step(state, z[mask], jax.random.key(0), cosine=cosine),
    jitted_step(state, broken, jax.random.key(0), cosine=cosine),
    jitted_step(state, broken.at[~mask, 0].set(jnp.inf), jax.random.key(0), mask, cosine=cosine),
  ]
  assert (np.asarray(results[0].codebook[5:]) != -9).any(axis=1).all()
  for other in results[1:]:
    chex.assert_trees_all_close(results[0], other, rtol=1e-5, atol=1e-6)


def test_batch_in_which_nothing_counts_changes_nothing():
  z, places = blobs(5, size=40, num_codes=5)
  state = vq_state.init(jax.random.key(0), num_codes=5, dim=3)._replace(count=jnp.full(5, 0.5), idle=jnp.arange(5))
  for vectors, mask in ((z, jnp.zeros(40, bool)), (z * jnp.nan, None)):
    chex.assert_trees_all_equal(jitted_step(state, vectors, jax.random.key(1), mask), state)
  assert not state.initialised
  empty = vq_state.State(places, jnp.zeros(5), jnp.zeros((5, 3)), jnp.zeros(5, jnp.int32), jnp.array(True))
  chex.assert_tree_all_finite(jitted_step(empty, z, jax.random.key(1)))


def test_single_code_becomes_the_mean():
  z, _ = blobs(6, size=40, num_codes=5)
  state = vq_state.init(jax.random.key(0), num_codes=1, dim=3)
  for i in range(150):
    state = jitted_step(state, z, jax.random.key(i))
  np.testing.assert_allclose(state.codebook[0], z.mean(0), rtol=1e-4)


def test_dead_codes_come_back_as_different_vectors():
  z, places = blobs(7, size=400, num_codes=4)
  state = vq_state.from_codebook(jnp.concatenate([places, jnp.full((5, 3), -50.0)]))
  for i in range(2):
    state = jitted_step(state, z, jax.random.key(i))
  np.testing.assert_array_equal(state.idle, [0] * 4 + [2] * 5)
  before, state = state, jitted_step(state, z, jax.random.key(2))
  moved = np.asarray(state.codebook[4:])
  assert len(np.unique(moved, axis=0)) == 5
  assert all((np.asarray(z) == row).all(axis=1).any() for row in moved)
  np.testing.assert_array_equal(state.count[4:], 1)
  np.testing.assert_array_equal(state.total[4:], moved)
  np.testing.assert_array_equal(state.idle, 0)
  np.testing.assert_allclose(state.codebook[:4], before.codebook[:4], atol=0.1)
  for i in range(3, 20):
    state = jitted_step(state, z, jax.random.key(i))
  assert len(np.unique(vq.codes_to_indices(z, state.codebook))) >= 8


@pytest.mark.parametrize("batch", [16, 64])
def test_where_vectors_are_few_codes_in_use_stay_and_others_move(batch):
  z, places = blobs(3, size=450 * batch, num_codes=60)
  state = vq_state.from_codebook(jnp.concatenate([places, jnp.full((4, 3), -50.0)]))

  def advance(state, this):
    used = vq_state.statistics(this[0], vq.codes_to_indices(this[0], state.codebook), num_codes=64)
    before = vq_state.update(state, used)
    state = vq_state.restart(before, *this)
    return state, jnp.any(state.codebook != before.codebook, axis=1)

  keys = jax.random.split(jax.random.key(0), 450)
  _, moved = jax.jit(lambda s: jax.lax.scan(advance, s, (z.reshape(450, batch, 3), keys)))(state)
  np.testing.assert_array_equal(np.any(moved, axis=0), [False] * 60 + [True] * 4)


@pytest.mark.parametrize(("available", "dead"), [(0, 5), (3, 5), (5, 5), (64, 5), (64, 0), (63, 31)])
def test_restarts_take_no_vector_twice(available, dead):
  z = jnp.arange(64.0)[:, None]
  mask = np.isin(np.arange(64), np.random.default_rng(8).permutation(64)[:available])
  state = vq_state.from_codebook(jnp.full((31, 1), -1.0))
  state = state._replace(count=jnp.where(jnp.arange(31) < dead, 0.0, 9.0))
  restart = jax.jit(vq_state.restart, static_argnames="patience")
  for seed in range(4):
    found = restart(state, z, jax.random.key(seed), jnp.asarray(mask), patience=1)
    moved = np.asarray(found.codebook[:, 0] >= 0)
    assert moved.sum() == min(available, dead)
    assert not moved[dead:].any()
    chosen = np.asarray(found.codebook[moved, 0]).astype(int)
    assert len(set(chosen)) == len(chosen)
    assert mask[chosen].all()


def test_every_vector_is_as_likely_to_be_taken():
  z = jnp.arange(10.0)[:, None]
  state = vq_state.from_codebook(jnp.full((3, 1), -1.0))._replace(count=jnp.zeros(3))
  keys = jax.random.split(jax.random.key(0), 4000)
  chosen = jax.jit(jax.vmap(lambda key: vq_state.restart(state, z, key, patience=1).codebook[:, 0]))(keys)
  counts = np.bincount(np.asarray(chosen).astype(int).ravel(), minlength=10)
  np.testing.assert_allclose(counts, 1200, atol=250)


def spread(kind, *, cosine):
  """The step on eight devices, in each of the three forms that JAX has for it."""

  def one(state, z, key, mask):
    return step(state, z, key, mask, cosine=cosine, axis_name=None if kind == "sharding" else "device")

  if kind == "pmap":
    mapped = jax.pmap(one, "device", in_axes=(None, 0, None, 0), out_axes=None)
    return lambda state, z, key, mask: mapped(state, z.reshape(8, -1, 3), key, mask.reshape(8, -1))
  mesh, split, same = Mesh(np.array(jax.devices()), ("device",)), PartitionSpec("device"), PartitionSpec()
  if kind == "shard_map":
    return jax.jit(jax.shard_map(one, mesh=mesh, in_specs=(same, split, same, split), out_specs=same))
  everywhere, parts = NamedSharding(mesh, same), NamedSharding(mesh, split)
  return jax.jit(one, in_shardings=(everywhere, parts, everywhere, parts), out_shardings=everywhere)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("kind", ["pmap", "shard_map", "sharding"])
def test_eight_devices_equal_one(kind, cosine):
  rng = np.random.default_rng(9)
  one = many = vq_state.from_codebook(jnp.asarray(rng.normal(size=(12, 3)) + np.arange(12)[:, None], jnp.float32))
  mapped, restarts = spread(kind, cosine=cosine), 0
  for i in range(12):
    z = jnp.asarray(rng.normal(size=(64, 3)), jnp.float32).at[5].set(jnp.nan)
    mask = jnp.asarray(rng.random(64) < np.repeat([1, 0, 0.5, 0.1, 1, 1, 0.5, 0.9], 8))  # one device: padding only
    restarts += int(jnp.sum(one.idle == 2))
    one = jitted_step(one, z, jax.random.key(i), mask, cosine=cosine)
    found = jax.block_until_ready(mapped(many, z, jax.random.key(i), mask))
    for leaf in jax.tree.leaves(found):
      copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
      assert len(copies) == 8
      assert all((copy == copies[0]).all() for copy in copies)
    many = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), found)
    chex.assert_trees_all_close(one, many, rtol=1e-5, atol=1e-6)
  assert restarts > 3


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), scale=st.sampled_from([1e-3, 1.0, 1e3]), cosine=st.booleans())
def test_codes_stay_within_the_data(seed, scale, cosine):
  z, places = blobs(seed, size=64, num_codes=4)
  state = vq_state.from_codebook(scale * places)
  state = jitted_step(state, scale * z, jax.random.key(seed), cosine=cosine)
  chex.assert_tree_all_finite(state)
  assert (state.count >= 0).all()
  if cosine:
    np.testing.assert_allclose(np.linalg.norm(state.codebook, axis=1), 1, rtol=1e-5)
  else:
    assert (jnp.abs(state.codebook) <= 1.01 * scale * max(jnp.abs(z).max(), jnp.abs(places).max())).all()


class Variants(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_step(self):
    z, places = blobs(10, size=60, num_codes=5)
    state = vq_state.from_codebook(jnp.concatenate([places, places - 100]))._replace(idle=jnp.full(10, 2))
    found = self.variant(step)(state, z, jax.random.key(0))
    chex.assert_trees_all_close(found, jitted_step(state, z, jax.random.key(0)), rtol=1e-6)
    assert found.codebook.min() > -2


def test_no_gradient_flows_through_the_state():
  z, places = blobs(11, size=40, num_codes=5)
  state = vq_state.from_codebook(places)
  gradient = jax.grad(lambda z: step(state, z, jax.random.key(0)).codebook.sum())(z)
  np.testing.assert_array_equal(gradient, 0)
