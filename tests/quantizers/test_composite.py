"""Stages and groups of quantizers against a loop in NumPy, separate quantizers, and eight devices against one."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavejax.errors import InputError
from behavejax.quantizers import composite, fsq, kmeans, lfq, vq, vq_state
from behavejax.quantizers.composite import finite_scalar, grouped, lookup_free, residual, vector
from tests.quantizers.test_vq import largest


def example(seed, *, size, dim, num_codes=(5, 4, 3)):
  """Vectors, and codebooks each a third as wide as the one before."""
  rng = np.random.default_rng(seed)
  codebooks = [rng.normal(size=(count, dim)) * 3.0**-i for i, count in enumerate(num_codes)]
  z = rng.normal(size=(size, dim))
  return jnp.asarray(z, jnp.float32), [jnp.asarray(codebook, jnp.float32) for codebook in codebooks]


def reference(z, codebooks):
  """Sums of codes, indices of every stage, squared distances at every stage, and which rows float32 cannot turn."""
  left, codes, indices, distances = np.asarray(z, np.float64), 0, [], []
  sure = np.ones(len(left), bool)
  for codebook in (np.asarray(c, np.float64) for c in codebooks):
    squares = ((left[:, None] - codebook[None]) ** 2).sum(-1)
    sure &= np.ptp(np.sort(squares, axis=1)[:, :2], axis=1) > 1e-4
    indices.append(squares.argmin(1))
    distances.append(squares.min(1))
    left, codes = left - codebook[indices[-1]], codes + codebook[indices[-1]]
  return codes, np.stack(indices), np.stack(distances), sure


@settings(max_examples=20, deadline=None)
@given(size=st.sampled_from([1, 60]), stages=st.sampled_from([2, 3]), seed=st.integers(0, 2**31 - 1))
def test_stages_equal_a_loop(size, stages, seed):
  z, codebooks = example(seed, size=size, dim=4)
  codebooks = codebooks[:stages]
  part = residual([vector(codebook) for codebook in codebooks])
  found = part.quantize(z, None)
  codes, indices, distances, sure = reference(z, codebooks)
  assert part.levels == (5, 4, 3)[:stages]
  assert part.num_codes == np.prod(part.levels)
  np.testing.assert_allclose(found.codes[sure], codes[sure], atol=1e-5)
  np.testing.assert_array_equal(found.indices[sure], (indices * [[1], [5], [20]][:stages]).sum(0)[sure])
  np.testing.assert_allclose(found.loss[sure], 1.25 * distances.sum(0)[sure], rtol=1e-4, atol=1e-4)
  for seen, own in zip(found.seen, indices, strict=True):
    np.testing.assert_array_equal(seen.indices[sure], own[sure])
  np.testing.assert_allclose(part.indices_to_codes(found.indices), found.codes, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(cosine=st.booleans(), seed=st.integers(0, 2**31 - 1))
def test_groups_equal_separate_quantizers(cosine, seed):
  z, (first, second, _) = example(seed, size=40, dim=3)
  wide, _ = example(seed + 1, size=40, dim=2)
  parts = [vector(first, cosine=cosine), finite_scalar((4, 3)), residual([vector(first), vector(second)])]
  part, whole = grouped(parts), jnp.concatenate([z, wide, -z], axis=1)
  cotangent = jax.random.normal(jax.random.key(0), whole.shape)

  def total(vectors):
    found = part.quantize(vectors, None)
    return jnp.sum(cotangent * found.codes) + found.loss.sum(), found

  gradient, found = jax.grad(total, has_aux=True)(whole)
  basis, begin = 1, 0
  indices, losses = 0, 0
  assert part.levels == (5, 4, 3, 5, 4)
  assert part.dim == 8
  for own in parts:
    piece = slice(begin, begin + own.dim)

    def alone(vectors, own=own, piece=piece):
      found = own.quantize(vectors, None)
      return jnp.sum(cotangent[:, piece] * found.codes) + found.loss.sum(), found

    expected, separate = jax.grad(alone, has_aux=True)(whole[:, piece])
    np.testing.assert_allclose(gradient[:, piece], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.codes[:, piece], separate.codes, atol=1e-6)
    indices, losses = indices + basis * separate.indices, losses + separate.loss
    basis, begin = basis * own.num_codes, begin + own.dim
  np.testing.assert_array_equal(found.indices, indices)
  np.testing.assert_allclose(found.loss, losses, rtol=1e-5)
  assert len(found.seen) == 4
  np.testing.assert_allclose(part.indices_to_codes(indices), found.codes, atol=1e-6)


def some_parts():
  _, codebooks = example(1, size=1, dim=3)
  _, others = example(2, size=1, dim=3)
  stages, more = ([vector(c) for c in own[:2]] for own in (codebooks, others))
  return {
    "residual": residual(stages),
    "grouped": grouped([stages[0], more[0]]),
    "groups of stages": grouped([residual(stages), residual(more)]),
    "residual grid": finite_scalar((8, 6, 5), stages=2),
    "symmetric residual grid": finite_scalar((2, 3), symmetric=True, stages=5),
    "one digit": finite_scalar((256,), stages=2),
    "groups of grids": grouped([finite_scalar((4, 3)), finite_scalar((5, 3), stages=2)]),
    "signs": grouped([lookup_free(3), lookup_free(2, spherical=True)]),
    "residual signs": residual([lookup_free(3, scale=2.0**-i) for i in range(3)], search=False),
  }


PARTS = some_parts()


@pytest.mark.parametrize("name", PARTS)
def test_every_code_inverts(name):
  part = PARTS[name]
  indices = jnp.arange(part.num_codes)
  codes = jax.jit(part.indices_to_codes)(indices)
  assert codes.shape == (part.num_codes, part.dim)
  np.testing.assert_array_equal(jax.jit(part.codes_to_indices)(codes), indices)
  np.testing.assert_allclose(part.codebook(), codes, atol=1e-6)


def test_groups_of_a_grid_are_a_longer_grid():
  z = jax.random.normal(jax.random.key(3), (50, 4))
  part, levels = grouped([finite_scalar((5, 4))] * 2), (5, 4, 5, 4)
  found = part.quantize(z, None)
  np.testing.assert_array_equal(found.codes, fsq.quantize(z, levels=levels))
  np.testing.assert_array_equal(found.indices, fsq.codes_to_indices(found.codes, levels=levels))


@pytest.mark.parametrize(("levels", "symmetric"), [((8, 5), False), ((2, 7), True)])
def test_stages_of_a_grid_are_a_finer_grid(levels, symmetric):
  """All points are one step apart, each is the nearest of some vector, none is further than half a step from those."""
  part = finite_scalar(levels, symmetric=symmetric, stages=2)
  codes = np.asarray(part.codebook(), np.float64)
  z = jax.random.normal(jax.random.key(4), (500, 2))
  found = part.quantize(z, None)
  squashed = np.asarray(composite._squash_wide(z, levels=levels, symmetric=symmetric))
  first = finite_scalar(levels, symmetric=symmetric)
  coarse = first.indices_to_codes(found.indices % first.num_codes)
  for digit, count in enumerate(levels):
    places = np.unique(codes[:, digit].round(5))
    assert len(places) == count**2
    step = np.diff(places)
    np.testing.assert_allclose(step, step[0], atol=3e-5)
    assert np.abs(found.codes[:, digit] - squashed[:, digit]).max() < 0.51 * step[0]
    assert np.abs(found.codes - coarse)[:, digit].max() < 0.5 * step[0] * count
  np.testing.assert_array_equal(first.quantize(z, None).codes, fsq.quantize(z, levels=levels, symmetric=symmetric))


@pytest.mark.parametrize(
  ("levels", "symmetric", "stages"), [((8, 6, 5), False, 2), ((3, 4), False, 3), ((2, 3), True, 5), ((2, 5), True, 2)]
)
def test_every_level_of_every_stage_occurs(levels, symmetric, stages):
  part = finite_scalar(levels, symmetric=symmetric, stages=stages)
  z = jnp.arctanh(jnp.linspace(-1, 1, 20_003)[1:-1])
  codes = np.asarray(part.quantize(jnp.stack([z] * len(levels), axis=1), None).codes)
  for digit, count in enumerate(levels):
    assert len(np.unique(codes[:, digit].round(5))) == count**stages


def test_further_stages_come_nearer():
  z, _ = example(5, size=400, dim=4)
  left, parts, errors = z, [], []
  for i in range(4):
    codebook, _ = kmeans.fit(left, jax.random.key(i), num_codes=8)
    parts.append(vector(codebook))
    codes = residual(parts).quantize(z, None).codes
    left = z - codes
    errors.append(float(jnp.mean(jnp.square(left))))
  assert errors[0] > 1.3 * errors[1] > 1.3**2 * errors[2] > 1.3**3 * errors[3]
  targets = fsq.squash(z, levels=(5, 4, 3, 3)), composite._squash_wide(z, levels=(5, 4, 3, 3), symmetric=False)
  grids = [finite_scalar((5, 4, 3, 3), stages=i).quantize(z, None).codes for i in (1, 2)]
  errors = [float(jnp.mean(jnp.square(codes - target))) for codes, target in zip(grids, targets, strict=True)]
  assert errors[0] > 8 * errors[1]
  signs = [residual([lookup_free(4, scale=2.0**-i) for i in range(n)], search=False) for n in (1, 2, 3)]
  errors = [float(jnp.mean(jnp.square(part.quantize(z, None).codes - z))) for part in signs]
  assert errors[0] > 1.5 * errors[1] > 1.5**2 * errors[2]


@pytest.mark.parametrize("inner", vq.GRADIENTS)
def test_the_gradient_is_that_of_one_quantizer(inner):
  z, codebooks = example(6, size=20, dim=4)
  cotangent = jax.random.normal(jax.random.key(7), z.shape)
  part = grouped([residual([vector(c[:, :2], gradient=inner) for c in codebooks])] * 2)
  gradient = jax.grad(lambda z: jnp.sum(cotangent * part.quantize(z, None).codes))(z)
  np.testing.assert_array_equal(gradient, cotangent)
  part = residual([vector(c) for c in codebooks], gradient="rotation")

  def rotated(z):
    rows = vq.GRADIENTS["rotation"](z, jax.lax.stop_gradient(part.quantize(z, None).codes))
    return jnp.sum(cotangent * rows)

  found = jax.grad(lambda z: jnp.sum(cotangent * part.quantize(z, None).codes))(z)
  np.testing.assert_allclose(found, jax.grad(rotated)(z), rtol=1e-5, atol=1e-6)
  grid = finite_scalar((8, 6, 5, 4), symmetric=True, stages=1)
  fine = finite_scalar((3, 4, 3, 4), symmetric=True, stages=2)
  slopes = [jax.grad(lambda z, p=p: jnp.sum(cotangent * p.quantize(z, None).codes))(z) for p in (grid, fine)]
  count = np.array([[3, 4, 3, 4]])  # several stages reach to the outer edges of the outermost cells
  np.testing.assert_allclose(slopes[0] * count / (count - 1), slopes[1], rtol=1e-4, atol=1e-6)


def test_losses_move_codes_and_vectors():
  z, codebooks = example(8, size=30, dim=3)

  def total(z, codebooks):
    return residual([vector(c, commitment_weight=0.5) for c in codebooks]).quantize(z, None).loss.sum()

  by_z, by_codebooks = jax.grad(total, argnums=(0, 1))(z, codebooks)
  _, indices, _, _ = reference(z, codebooks)
  left, expected = np.asarray(z, np.float64), 0
  for codebook, own, gradient in zip(codebooks, indices, by_codebooks, strict=True):
    codes = np.asarray(codebook, np.float64)[own]
    sums = np.zeros(codebook.shape)
    np.add.at(sums, own, 2 * (codes - left))
    np.testing.assert_allclose(gradient, sums, rtol=1e-3, atol=1e-4)
    left = left - codes
    expected = expected + 2 * 0.5 * left
  np.testing.assert_allclose(by_z, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", PARTS)
def test_mask_and_broken_vectors_cost_nothing(name):
  part = PARTS[name]
  z = jax.random.normal(jax.random.key(9), (24, part.dim))
  mask = np.random.default_rng(10).random(24) < 0.6
  broken = z.at[3].set(jnp.nan).at[5, -1].set(jnp.inf).at[6].set(3e38)
  mask[[3, 5, 6]] = True
  valid = mask & ~np.isin(np.arange(24), [3, 5, 6])

  def total(z, mask):
    found = part.quantize(z, mask)
    return found.loss.sum() + jnp.where(jnp.asarray(valid)[: len(z), None], found.codes, 0).sum(), found

  gradient, whole = jax.jit(jax.grad(total, has_aux=True))(broken, jnp.asarray(mask))
  only = part.quantize(z[valid], None)
  chex.assert_tree_all_finite((gradient, whole.codes, whole.loss))
  np.testing.assert_array_equal(gradient[~valid], 0)
  np.testing.assert_array_equal(whole.loss[~valid], 0)
  np.testing.assert_array_equal(whole.indices[valid], only.indices)
  np.testing.assert_allclose(whole.codes[valid], only.codes, atol=1e-6)
  for seen, alone in zip(whole.seen, only.seen, strict=True):
    np.testing.assert_array_equal(seen.mask, valid)
    np.testing.assert_allclose(seen.vectors[valid], alone.vectors, atol=1e-6)


def advance(states, z, key, mask, axis_name=None):
  """One step of two groups of two stages whose codebooks are running averages."""
  parts = [vector(state.codebook, codebook_weight=0.0) for state in states]
  found = grouped([residual(parts[:2]), residual(parts[2:])]).quantize(z, mask)
  moved = []
  for i, (state, seen) in enumerate(zip(states, found.seen, strict=True)):
    used = vq_state.statistics(seen.vectors, seen.indices, seen.mask, num_codes=len(state.codebook))
    state = vq_state.update(state, used, decay=0.9, axis_name=axis_name)
    key_of_part = jax.random.fold_in(key, i)
    moved.append(vq_state.restart(state, seen.vectors, key_of_part, seen.mask, patience=3, axis_name=axis_name))
  return moved, found.indices


def test_eight_devices_equal_one():
  rng = np.random.default_rng(11)
  shapes = ((12, 3, 1.0), (6, 3, 0.3), (4, 2, 1.0), (6, 2, 0.3))
  one = many = [
    vq_state.from_codebook(jnp.asarray(s * (rng.normal(size=(n, d)) + np.arange(n)[:, None]), jnp.float32))
    for n, d, s in shapes
  ]
  alone = jax.jit(advance)
  mapped = jax.pmap(
    lambda *args: advance(*args, axis_name="device"), "device", in_axes=(None, 0, None, 0), out_axes=(None, 0)
  )
  restarts = np.zeros(4, int)
  for i in range(12):
    z = jnp.asarray(rng.normal(size=(64, 5)), jnp.float32).at[5].set(jnp.nan)
    mask = jnp.asarray(rng.random(64) < np.repeat([1, 0, 0.5, 0.1, 1, 1, 0.5, 0.9], 8))  # one device: padding only
    restarts += [int(jnp.sum(state.idle == 2)) for state in one]
    one, indices = alone(one, z, jax.random.key(i), mask)
    found, theirs = jax.block_until_ready(mapped(many, z.reshape(8, 8, 5), jax.random.key(i), mask.reshape(8, 8)))
    for leaf in jax.tree.leaves(found):
      copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
      assert all((copy == copies[0]).all() for copy in copies)
    many = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), found)
    chex.assert_trees_all_close(one, many, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(theirs.reshape(64)[mask], indices[mask])
  chex.assert_tree_all_finite(one)
  assert (restarts > 0).all()


def test_masked_and_broken_vectors_leave_no_trace_in_any_state():
  z = jax.random.normal(jax.random.key(12), (40, 5))
  mask = jnp.asarray(np.random.default_rng(13).random(40) < 0.6)
  broken = z.at[:, 4].set(jnp.where(mask, z[:, 4], jnp.nan))  # one piece of the vector is enough
  states = [
    vq_state.init(jax.random.key(i), num_codes=6, dim=dim)._replace(idle=jnp.full(6, 2))
    for i, dim in enumerate((3, 3, 2, 2))
  ]
  expected, _ = advance(states, z[mask], jax.random.key(14), None)
  for vectors, which in ((z, mask), (broken, None), (broken, mask)):
    found, _ = jax.jit(advance)(states, vectors, jax.random.key(14), which)
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)


def test_nothing_of_size_rows_codes_dim_is_kept():
  z = jnp.zeros((4100, 8))
  codebooks = [jnp.zeros((64, 4))] * 2

  def total(z, codebooks):
    group = residual([vector(c) for c in codebooks], gradient="rotation")
    found = group.quantize(z[:, :4], None)
    both = grouped([group, vector(codebooks[0][:16])]).quantize(z, None)
    return found.loss.sum() + both.codes.sum()

  program = jax.make_jaxpr(jax.grad(total, argnums=(0, 1)))(z, codebooks)
  assert largest(program.jaxpr) <= max(4100 * 8, 1024 * 64)
  part = residual([vector(jnp.zeros((256, 4)))] * 2)
  assert largest(jax.make_jaxpr(part.codes_to_indices)(jnp.zeros((4100, 4))).jaxpr) <= 64 * 256**2


class Variants(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_residual(self):
    z, codebooks = example(15, size=30, dim=3)
    found = self.variant(lambda z, codebooks: residual([vector(c) for c in codebooks]).quantize(z, None))(z, codebooks)
    codes, indices, _, sure = reference(z, codebooks)
    np.testing.assert_allclose(found.codes[sure], codes[sure], atol=1e-5)
    np.testing.assert_array_equal(found.indices[sure], (indices * [[1], [5], [20]]).sum(0)[sure])

  @chex.variants(with_jit=True, without_jit=True)
  def test_grouped(self):
    z, (codebook, *_) = example(16, size=30, dim=3)
    part = grouped([vector(codebook), lookup_free(3)])
    found = self.variant(lambda z: part.quantize(jnp.concatenate([z, z], axis=1), None))(z)
    np.testing.assert_array_equal(found.codes[:, :3], vq.quantize(z, codebook).codes)
    np.testing.assert_array_equal(found.codes[:, 3:], lfq.quantize(z).codes)


def test_any_leading_axes_and_types():
  z, codebooks = example(17, size=24, dim=3)
  part = grouped([residual([vector(c) for c in codebooks]), finite_scalar((4, 4, 3)), lookup_free(3)])
  z = jnp.concatenate([z, z, z], axis=1)
  flat, shaped = part.quantize(z, None), part.quantize(z.reshape(2, 3, 4, 9), jnp.ones((2, 3, 4), bool))
  for a, b in zip(flat[:3], shaped[:3], strict=True):
    np.testing.assert_allclose(a, b.reshape(a.shape), rtol=1e-6)
  assert part.quantize(z[0], None).indices.shape == ()
  assert part.quantize(z.astype(jnp.bfloat16), None).codes.dtype == jnp.bfloat16


def test_one_part_is_itself_and_too_many_codes_are_refused():
  part = lookup_free(9)
  assert residual([part]) is grouped([part]) is part
  with pytest.raises(InputError, match="parts of 512 x 512 codes make 262144, the most is 65536"):
    grouped([part, part])
  assert grouped([lookup_free(8), lookup_free(8)]).num_codes == composite.LARGEST
