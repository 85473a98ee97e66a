"""Which codes may be drawn, against brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from behavejax.models.sampling import draw, restrict


def kept_by_hand(row, top_k, top_p):
  """The likeliest first, until there are enough of them or of their probability."""
  order = sorted(range(len(row)), key=lambda i: (-row[i], i))
  if top_k:
    order = order[:top_k]
  probs = softmax(row[order])
  kept, total = set(), 0.0
  for i, p in zip(order, probs, strict=True):
    if total >= top_p:
      break
    kept.add(i)
    total += p
  return kept


@pytest.mark.parametrize("top_k", [0, 1, 3, 9, 50])
@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.9, 1.0])
def test_restriction_equals_brute_force(top_k, top_p):
  logits = np.random.default_rng(0).normal(size=(4, 5, 9)).astype(np.float32) * 2
  found = np.asarray(restrict(jnp.asarray(logits), top_k=top_k, top_p=top_p))
  for place in np.ndindex(4, 5):
    expected = kept_by_hand(logits[place].astype(np.float64), top_k, top_p)
    assert set(np.flatnonzero(np.isfinite(found[place]))) == expected
    np.testing.assert_array_equal(found[place][sorted(expected)], logits[place][sorted(expected)])


def test_equal_scores_go_by_index():
  assert np.isfinite(restrict(jnp.zeros(6), top_k=2)).tolist() == [True, True] + [False] * 4


def test_temperature():
  logits = jnp.log(jnp.array([[0.5, 0.3, 0.2]]))
  rows = jnp.repeat(logits, 20_000, axis=0)

  def keys(seed):
    return jax.random.split(jax.random.key(seed), 20_000)

  for seed, temperature in enumerate((0.5, 1.0, 2.0)):
    found = np.bincount(draw(rows, keys(seed), temperature=temperature), minlength=3) / 20_000
    np.testing.assert_allclose(found, softmax(np.log([0.5, 0.3, 0.2]) / temperature), atol=0.015)
  assert (draw(rows, keys(3), temperature=0.0) == 0).all()
  assert set(np.asarray(draw(rows, keys(4), temperature=5.0, top_k=2)).tolist()) == {0, 1}
