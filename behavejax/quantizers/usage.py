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


def dead_codes(counts: Float[Array, " code"]) -> Int[Array, ""]:
  """Number of codes that never occur.

  >>> int(dead_codes(jnp.array([3.0, 0.0, 1.0, 0.0])))
  2
  """
  return jnp.sum(counts <= 0, dtype=jnp.int32)


def joint_histogram(
  tokens: Int[Array, "batch *token"],
  labels: Int[Array, " batch"],
  *,
  num_codes: int,
  classes: int,
  mask: Bool[Array, " batch"] | None = None,
) -> Float[Array, "code class"]:
  """Counts of (code, label); examples where `mask` is False or the label is negative count nowhere.

  Those of several batches or devices are merged by adding them.
  """
  known = labels >= 0 if mask is None else mask & (labels >= 0)
  flat = tokens.reshape(tokens.shape[0], -1)
  weight, label = (jnp.broadcast_to(a[:, None], flat.shape) for a in (known, jnp.where(known, labels, 0)))
  return jnp.zeros((num_codes, classes), jnp.float32).at[flat, label].add(weight.astype(jnp.float32))


def information(joint: Float[Array, "code class"]) -> Float[Array, ""]:
  """Mutual information of codes and labels in nats, 0 for an empty histogram.

  >>> round(float(information(jnp.eye(2))), 4)  # one bit
  0.6931
  """
  codes, labels, both = _entropies(joint)
  return jnp.maximum(codes + labels - both, 0.0)


def normalized_information(joint: Float[Array, "code class"]) -> Float[Array, ""]:
  """Mutual information over the mean of the entropies of codes and of labels, 0 to 1; 1 where both are 0."""
  codes, labels, both = _entropies(joint)
  mean = (codes + labels) / 2
  return jnp.where(mean > 0, jnp.maximum(codes + labels - both, 0.0) / jnp.where(mean > 0, mean, 1.0), 1.0)


def _entropies(joint: Float[Array, "code class"]) -> tuple[Array, Array, Array]:
  """Of codes, of labels, and of both together."""
  return entropy(joint.sum(axis=1)), entropy(joint.sum(axis=0)), entropy(joint.ravel())
