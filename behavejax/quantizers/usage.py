"""How a quantizer's codes are used: histograms that add up over batches and devices."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def histogram(
  tokens: Int[Array, "batch *token"], *, num_codes: int, mask: Bool[Array, " batch"] | None = None
) -> Float[Array, " code"]:
  """Counts of each code; examples where `mask` is False count nowhere.

  Histograms of several batches or devices are merged by adding them.
  """
  flat = tokens.reshape(tokens.shape[0], -1)
  weight = jnp.ones(flat.shape, jnp.float32)
  if mask is not None:
    weight = weight * mask[:, None]
  return jnp.zeros(num_codes, jnp.float32).at[flat].add(weight)


def entropy(counts: Float[Array, " code"]) -> Float[Array, ""]:
  """Entropy of a histogram in nats, 0 for an empty one."""
  p = counts / jnp.maximum(counts.sum(), 1.0)
  return -jnp.sum(jax.scipy.special.xlogy(p, p))


def perplexity(counts: Float[Array, " code"]) -> Float[Array, ""]:
  """exp(entropy): the number of codes that, equally used, would carry as much information.

  >>> float(perplexity(jnp.ones(4)))
  4.0
  """
  return jnp.exp(entropy(counts))


def usage(counts: Float[Array, " code"]) -> Float[Array, ""]:
  """Share of the codebook that occurs at all."""
  return jnp.mean(counts > 0)
