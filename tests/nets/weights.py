"""Parameters for tests, drawn by NumPy: nothing has to be compiled, and no bias is 0 and no scale 1."""

import jax
import numpy as np


def drawn(shapes, seed=0):
  """Normal numbers of the given shapes, matrices with the spread of a layer's first weights."""
  rng = np.random.default_rng(seed)

  def draw(leaf):
    fan_in = max(np.prod(leaf.shape[:-1]), 1) if len(leaf.shape) > 1 else 4.0
    return (rng.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

  return jax.tree.map(draw, shapes)


def weights_key(seed=0):
  """A key for first weights; what it draws is compiled in a seventh of the time that draws of a default key take."""
  return jax.random.key(seed, impl="rbg")
