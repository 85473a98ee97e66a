"""A small convolutional classifier of samples `[*space, channel]`, whose features measure how alike samples are."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from behavejax.nets.vae import Stage


class SampleClassifier(nn.Module):
  """Four stages, two of which halve every axis, a mean over space, a hidden layer: class scores and that layer."""

  classes: int
  width: int
  features: int = 64
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch *space channel"], *, train: bool
  ) -> tuple[Float[Array, "batch class"], Float[Array, "batch feature"]]:
    for i, (width, stride) in enumerate(((1, 1), (2, 2), (2, 1), (4, 2))):
      x = Stage(width * self.width, 3, stride, self.axis_name, name=f"stage_{i}")(x, train=train)
    space = x.shape[1:-1]
    # The gradient of `jnp.max` divides by how many values equal it: none, where they are computed anew and rounded.
    largest = nn.max_pool(x, space).reshape(x.shape[0], -1)
    pooled = jnp.concatenate([jnp.mean(x, axis=tuple(range(1, x.ndim - 1))), largest], axis=-1)
    features = nn.relu(nn.Dense(self.features, name="features")(pooled))
    return nn.Dense(self.classes, name="logits")(features), features
