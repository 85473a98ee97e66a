"""Drawing codes from scores: temperature, the k likeliest, the nucleus."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from behavejax.types import Key


def restrict(logits: Float[Array, "*batch code"], *, top_k: int = 0, top_p: float = 1.0) -> Float[Array, "*batch code"]:
  """Scores of the codes that may be drawn, -inf for the others.

  Args:
    logits: at the temperature of the draw.
    top_k: the k likeliest codes; 0 keeps all. Of equal ones the lower index goes first.
    top_p: the fewest codes that together have at least this probability (Holtzman et al. 2020), after `top_k`.

  >>> jnp.isfinite(restrict(jnp.log(jnp.array([0.5, 0.2, 0.3])), top_p=0.6)).tolist()
  [True, False, True]
  """
  codes = logits.shape[-1]
  if not 0 < top_k < codes and top_p >= 1:
    return logits
  order = jnp.argsort(-logits, axis=-1, stable=True)
  ranked = jnp.take_along_axis(logits, order, axis=-1)
  if 0 < top_k < codes:
    ranked = jnp.where(jnp.arange(codes) < top_k, ranked, -jnp.inf)
  if top_p < 1:
    probs = jax.nn.softmax(ranked, axis=-1)
    ranked = jnp.where(jnp.cumsum(probs, axis=-1) - probs < top_p, ranked, -jnp.inf)
  return jnp.take_along_axis(ranked, jnp.argsort(order, axis=-1), axis=-1)


def draw(
  logits: Float[Array, "batch code"],
  keys: Key,
  *,
  temperature: Float[Array, ""] | float,
  top_k: int = 0,
  top_p: float = 1.0,
) -> Int[Array, " batch"]:
  """One code of each row with a key of its own; at temperature 0 the likeliest."""
  warm = restrict(logits / jnp.maximum(temperature, 1e-6), top_k=top_k, top_p=top_p)
  drawn = jax.vmap(jax.random.categorical)(keys, warm)
  return jnp.where(temperature > 0, drawn, jnp.argmax(logits, axis=-1)).astype(jnp.int32)
