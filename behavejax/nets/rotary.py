"""Rotary position embedding: queries and keys are turned by their positions, so that scores know distances only."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_BASE = 10_000.0


def rotate(
  x: Float[Array, "*batch position head depth"],
  positions: Float[Array, "*#batch position axis"] | Int[Array, "*#batch position axis"],
  *,
  base: float = _BASE,
) -> Float[Array, "*batch position head depth"]:
  """Turns pairs of features by angles that grow with the position (Su et al. 2021, arXiv:2104.09864).

  The depth is cut into equal parts, one for each axis of the positions; within a part feature `i` and feature
  `i + half` turn together by `position * base ** (-i / half)`. What an odd rest of the depth leaves stays unturned,
  and so does everything at position 0.

  Args:
    x: queries or keys.
    positions: of the tokens, such as time steps (one axis) or rows and columns (two axes); any unit. Without the
      leading axes of `x` they are those of every example.
    base: the slowest pair turns once in about `2 pi base` positions.

  Returns:
    The same shape and type; the turning is done in float32.
  """
  axes = positions.shape[-1]
  half = x.shape[-1] // (2 * axes)
  frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
  positions = positions.reshape(*[1] * (x.ndim - 1 - positions.ndim), *positions.shape).astype(jnp.float32)
  angles = jnp.expand_dims(positions, (-3, -1))  # alike for all heads
  angles = angles * frequencies.reshape(*[1] * (x.ndim), half)
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  cos, sin = (jnp.stack(a, axis=-2).reshape(*angles.shape[:-2], -1) for a in ((cos, cos), (-sin, sin)))
  pairs = x[..., : 2 * axes * half].astype(jnp.float32)
  partners = jnp.flip(pairs.reshape(-1, axes, 2, half), axis=2).reshape(pairs.shape)  # TFLite multiplies up to 6 axes
  turned = (pairs * cos + partners * sin).astype(x.dtype)
  return jnp.concatenate([turned, x[..., 2 * axes * half :]], axis=-1)
