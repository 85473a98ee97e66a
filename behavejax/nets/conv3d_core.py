"""A core of causal 3D convolutions, with the interface of `behavejax.nets.vivit.ViViT`: the baseline beside it."""

import flax.linen as nn
import jax.numpy as jnp

from behavejax.config_vivit import VivitConfig
from behavejax.nets.heads import dropout
from behavejax.nets.vivit import Features, Tubelets, Video
from behavejax.types import Key

_KERNEL = (3, 3, 3)


class Conv3dCore(nn.Module):
  """The first layer has the kernel and the spatial stride of the tubelets, those after it see 3 x 3 x 3 of its places.

  Every layer looks back only and runs at every frame.
  """

  settings: VivitConfig

  @nn.compact
  def __call__(self, video: Video, *, keys: Key | None = None) -> Features:
    """Features `[batch, time, row, column, filter]`; with `keys`, one per example, as in training."""
    s, dtype, x = self.settings, jnp.dtype(self.settings.dtype), video
    for i, width in enumerate(s.convolutions):
      kernel, stride = (s.kernel, (1, *s.stride[1:])) if i == 0 else (_KERNEL, (1, 1, 1))
      y = Tubelets(kernel, stride, width, dtype, name=f"layer_{i}")(x)
      y = nn.elu(nn.LayerNorm(dtype=dtype, name=f"norm_{i}")(y))
      x = x + y if x.shape == y.shape else y
    x = nn.LayerNorm(name="norm")(x)
    return dropout(x.astype(jnp.float32), keys, rate=s.dropout)
