"""Rotation by places, and positions that are scored together or one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.nets.prior import Prior, rotate, rotation
from tests.nets.weights import weights_key


def test_rotation_keeps_lengths_and_depends_on_differences():
  rng = np.random.default_rng(0)
  places = np.stack(np.unravel_index(np.arange(12), (3, 4)), axis=1)
  turn = rotation(places, depth=8)
  q, k = (jnp.asarray(np.repeat(rng.normal(size=(1, 1, 2, 8)), 12, axis=1), jnp.float32) for _ in range(2))
  turned_q, turned_k = rotate(q, turn.queries), rotate(k, turn.keys)
  np.testing.assert_allclose(jnp.sum(turned_q**2, -1), jnp.sum(q**2, -1), rtol=1e-5)
  products = np.asarray(jnp.einsum("bthd,bshd->hts", turned_q, turned_k))
  held = np.concatenate([[[-1, -1]], places[:-1]])
  by_difference = {}
  for t in range(12):
    for s in range(12):
      by_difference.setdefault(tuple(places[t] - held[s]), []).append(products[:, t, s])
  shared = [np.stack(v) for v in by_difference.values() if len(v) > 1]
  assert len(shared) > 10
  for values in shared:
    np.testing.assert_allclose(values, np.broadcast_to(values[:1], values.shape), atol=1e-4)
  distinct = np.stack([v[0] for v in by_difference.values()])
  assert len(np.unique(distinct.round(4), axis=0)) > 0.9 * len(distinct)


def test_rotation_equals_complex_numbers():
  rng = np.random.default_rng(0)
  x, angles = rng.normal(size=(2, 5, 3, 8)), rng.normal(size=(5, 4))
  turned = (x[..., :4] + 1j * x[..., 4:]) * np.exp(1j * angles)[None, :, None]
  found = rotate(jnp.asarray(x, jnp.float32), jnp.asarray(angles, jnp.float32))
  np.testing.assert_allclose(found, np.concatenate([turned.real, turned.imag], -1), atol=1e-5)


def test_too_few_pairs_for_the_axes():
  with pytest.raises(ValueError, match="1 pairs of a head cannot be shared by 3 axes"):
    rotation(np.zeros((4, 3), int), depth=2)


def test_chunks_with_a_memory_equal_the_whole():
  network = Prior(6, 2, tuple((i,) for i in range(10)), width=16, layers=2, heads=2)
  codes = np.random.default_rng(0).integers(0, 6, (3, 10))
  labels = np.array([0, 1, -1])
  variables = jax.jit(network.init)(weights_key(), codes, labels)
  whole, nothing = network.apply(variables, codes, labels)
  assert nothing is None
  memory, parts = network.empty_memory(3), []
  for start, stop in ((0, 4), (4, 5), (5, 10)):
    scores, memory = network.apply(variables, codes[:, start:stop], labels, start=start, memory=memory)
    parts.append(scores)
  np.testing.assert_allclose(jnp.concatenate(parts, axis=1), whole, atol=1e-5)
