"""k-means: against scikit-learn, and on points where one cluster would be lost."""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.cluster import KMeans

from behavejax.segmentation import starts


def inertia(points, centres):
  return float(np.min(np.sum((points[:, None] - centres[None]) ** 2, axis=2), axis=1).sum())


def test_finds_separate_clusters_as_scikit_learn_does():
  rng = np.random.default_rng(0)
  points = np.concatenate([rng.normal(size=(50, 3)) * 0.2 + 4 * rng.normal(size=3) for _ in range(5)])
  peer = KMeans(5, n_init=10, random_state=0).fit(points).inertia_
  keys = jax.random.split(jax.random.key(0), 4)
  run = jax.jit(jax.vmap(lambda key: starts.kmeans(jnp.asarray(points, jnp.float32), key, clusters=5)))
  assert min(inertia(points, np.asarray(centres)) for centres in run(keys)) < 1.01 * peer


def test_points_that_coincide_leave_centres_finite():
  points = jnp.concatenate([jnp.zeros((30, 2)), jnp.ones((1, 2))])
  centres = starts.kmeans(points, jax.random.key(0), clusters=4)
  assert jnp.isfinite(centres).all()
  assert set(np.asarray(starts.nearest(points, centres))[-1:]) != set(np.asarray(starts.nearest(points, centres))[:1])


def test_one_cluster_is_the_mean():
  points = jax.random.normal(jax.random.key(0), (40, 3))
  np.testing.assert_allclose(starts.kmeans(points, jax.random.key(1), clusters=1)[0], points.mean(axis=0), atol=1e-5)
