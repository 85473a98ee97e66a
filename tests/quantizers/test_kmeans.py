"""K-means starts: separated blobs, masks, the quality of scikit-learn's, and codebooks that are left alone."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.cluster

from behavejax.quantizers import kmeans, vq, vq_state

fit = jax.jit(kmeans.fit, static_argnames=("num_codes", "iterations", "cosine"))
initialise = jax.jit(kmeans.initialise)


def blobs(seed, *, size=600, num_codes=20, dim=4, offset=0.0):
  """Well separated places, at least one vector each, and which vector belongs to which."""
  rng = np.random.default_rng(seed)
  places = rng.permutation(np.indices((3,) * dim).reshape(dim, -1).T)[:num_codes] * 10.0 + offset
  labels = np.concatenate([np.arange(num_codes), rng.integers(0, num_codes, size - num_codes)])
  return jnp.asarray(places[labels] + 0.1 * rng.normal(size=(size, dim)), jnp.float32), places, labels


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("offset", [0.0, 3e4])
def test_separated_blobs_are_all_found(seed, offset):
  z, places, labels = blobs(seed, offset=offset)
  centres, count = fit(z, jax.random.key(seed), num_codes=20)
  order = np.argmin(((np.asarray(centres)[None] - places[:, None]) ** 2).sum(-1), axis=1)
  assert sorted(order) == list(range(20))
  np.testing.assert_array_equal(np.asarray(count)[order], np.bincount(labels))
  means = [np.asarray(z, np.float64)[labels == k].mean(0) for k in range(20)]
  np.testing.assert_allclose(np.asarray(centres)[order], means, atol=1e-2)


def test_directions_are_found_whatever_the_length():
  rng = np.random.default_rng(0)
  axes = np.concatenate([np.eye(4), -np.eye(4)])
  z = (axes[np.arange(400) % 8] + 0.01 * rng.normal(size=(400, 4))) * rng.uniform(0.01, 100, (400, 1))
  centres, count = fit(jnp.asarray(z, jnp.float32), jax.random.key(1), num_codes=8, cosine=True)
  np.testing.assert_array_equal(count, 50)
  np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1, rtol=1e-5)
  np.testing.assert_allclose(np.sort((np.asarray(centres) @ axes.T).max(axis=1)), 1, atol=1e-3)


def test_as_good_as_scikit_learn():
  z = np.random.default_rng(2).normal(size=(2000, 5)).astype(np.float32)
  centres, _ = fit(jnp.asarray(z), jax.random.key(3), num_codes=32, iterations=50)
  inertia = float(vq.quantize(jnp.asarray(z), centres, codebook_weight=1.0, commitment_weight=0.0).loss.sum())
  expected = sklearn.cluster.KMeans(32, n_init=1, max_iter=50, random_state=0).fit(z).inertia_
  assert inertia < 1.03 * expected


@pytest.mark.parametrize("cosine", [False, True])
def test_masked_and_broken_vectors_change_nothing(cosine):
  z, _, _ = blobs(4, size=200, num_codes=8)
  mask = jnp.asarray(np.random.default_rng(5).random(200) < 0.6)
  broken = jnp.where(mask[:, None], z, jnp.nan)
  static = {"num_codes": 8, "cosine": cosine}
  expected = fit(z[mask], jax.random.key(6), **static)
  for vectors, which in ((z, mask), (broken, None), (broken, mask)):
    chex.assert_trees_all_close(fit(vectors, jax.random.key(6), which, **static), expected, rtol=1e-4, atol=1e-4)


def test_fewer_vectors_than_codes():
  z = jnp.array([[1.0, 2.0], [5.0, 5.0], [1.0, 2.0], [-7.0, 7.0]])
  mask = jnp.array([True, True, True, False])
  centres, count = fit(z, jax.random.key(0), mask, num_codes=6)
  np.testing.assert_array_equal(np.unique(np.asarray(centres).round(4), axis=0), [[1, 2], [5, 5]])
  assert count.sum() == 3
  state = initialise(vq_state.init(jax.random.key(1), num_codes=6, dim=2), z, jax.random.key(2), mask)
  chex.assert_tree_all_finite(state)
  assert state.count.min() == 1


def test_single_code_is_the_mean():
  z, _, _ = blobs(7)
  centres, count = fit(z, jax.random.key(0), num_codes=1)
  np.testing.assert_allclose(centres[0], np.asarray(z, np.float64).mean(0), rtol=1e-5)
  assert count == 600


def test_initialises_once():
  z, _, _ = blobs(8)
  fresh = vq_state.init(jax.random.key(0), num_codes=20, dim=4)
  state = initialise(fresh, z, jax.random.key(1))
  assert state.initialised
  np.testing.assert_allclose(vq.quantize(z, state.codebook).loss.mean() / 1.25, 0.04, rtol=0.2)
  np.testing.assert_allclose(state.total, state.codebook * state.count[:, None], rtol=1e-6)
  chex.assert_trees_all_equal(initialise(state, z + 5, jax.random.key(2)), state)
  trained = vq_state.update(fresh, vq_state.statistics(z, jnp.zeros(600, jnp.int32), num_codes=20))
  chex.assert_trees_all_equal(initialise(trained, z, jax.random.key(3)), trained)
  untouched = initialise(fresh, z, jax.random.key(4), jnp.zeros(600, bool))
  chex.assert_trees_all_equal(untouched, fresh)
  assert not untouched.initialised


def test_reloaded_codebook_moves_no_more_than_a_running_one(tmp_path):
  z, _, _ = blobs(9)
  state = initialise(vq_state.init(jax.random.key(0), num_codes=20, dim=4), z, jax.random.key(1))
  np.savez(tmp_path / "state.npz", **{name: np.asarray(leaf) for name, leaf in state._asdict().items()})
  with np.load(tmp_path / "state.npz") as saved:
    reloaded = vq_state.State(**{name: jnp.asarray(saved[name]) for name in saved.files})

  @jax.jit
  def advance(state):
    state = kmeans.initialise(state, z[::-1] + 0.2, jax.random.key(2))
    batch = vq_state.statistics(z + 0.2, vq.codes_to_indices(z + 0.2, state.codebook), num_codes=20)
    return vq_state.update(state, batch)

  chex.assert_trees_all_equal(advance(reloaded), advance(state))
  moved = jnp.linalg.norm(advance(reloaded).codebook - state.codebook) / jnp.linalg.norm(state.codebook)
  assert moved < 0.004
