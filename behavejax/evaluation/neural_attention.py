"""What the blocks of the transformer attend to: maps, how spread they are, and how much goes to registers."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from behavejax.evaluation.neural_run import Trained
from behavejax.nets.vivit import attention_weights, visible

_CLIPS = 4


class Attention(NamedTuple):
  """Means over an even sample of test clips of one data set.

  Attributes:
    spatial: of each spatial block, from every token of a time step to every other, the registers first.
    temporal: of each temporal block, from every time step to every other, at places.
    spatial_entropy: of each block and head, as a share of that of equal weights.
    temporal_entropy: likewise; of equal weights over the steps that may be seen.
    registers: share of the places' attention that goes to registers, of each spatial block and head.
    grid: rows and columns of places.
  """

  spatial: Float[np.ndarray, "block head token token"]
  temporal: Float[np.ndarray, "block head step step"]
  spatial_entropy: Float[np.ndarray, "block head"]
  temporal_entropy: Float[np.ndarray, "block head"]
  registers: Float[np.ndarray, "block head"]
  grid: tuple[int, int]


def attention(trained: Trained, number: int) -> Attention | None:
  """Attention of the clips of a data set; None for a core that has none."""
  settings, clips = trained.config.vivit, trained.data[number].test
  if settings.core != "vivit":
    return None
  video = clips.gather(np.linspace(0, len(clips) - 1, min(_CLIPS, len(clips))).astype(int)).video

  @jax.jit
  def look(variables, video: Array):
    features, found = trained.model.network.apply(
      variables, video, method=lambda network, video: network.core(video), mutable=["intermediates"]
    )
    found = found["intermediates"]["core"]
    spatial = [_summary(found[f"spatial_{i}"]) for i in range(settings.spatial_blocks)]
    temporal = [
      _summary(found[f"temporal_{i}"], causal=settings.causal, context=settings.context, skip=settings.registers)
      for i in range(settings.temporal_blocks)
    ]
    return spatial, temporal, features

  spatial, temporal, features = jax.tree.map(np.asarray, look(trained.variables, video))
  heads, registers = settings.heads, settings.registers
  empty = np.zeros((0, heads))

  def stacked(found: list, k: int) -> np.ndarray:
    return np.stack([block[k] for block in found]) if found else empty

  maps = stacked(spatial, 0)
  share = maps[..., registers:, :registers].sum(-1).mean(-1) if spatial else empty
  return Attention(
    maps, stacked(temporal, 0), stacked(spatial, 1), stacked(temporal, 1), share, features.shape[2:4]
  )  # fmt: skip


def _summary(
  sown: dict, *, causal: bool = False, context: int = 0, skip: int = 0
) -> tuple[Float[Array, "head query key"], Float[Array, " head"]]:
  """Mean weights of a block, and their entropy as a share of what it can be; `skip` sequences are left out."""
  query, key = (a[:, skip:] for a in sown["query_and_key"][0])
  weights = attention_weights(query, key, causal=causal, context=context)
  entropy = -jax.scipy.special.xlogy(weights, weights).sum(-1)
  seen = visible(query.shape[-3], key.shape[-3], causal=causal, context=context).sum(-1)
  several = np.flatnonzero(seen > 1)  # who sees one token has no choice
  share = entropy[..., several] / np.log(seen[several]).reshape(1, 1, 1, -1)
  return weights.mean((0, 1)), share.mean((0, 1, 3))


def attention_metrics(found: Attention) -> dict[str, float]:
  """Entropies and register use, the mean over heads, by block."""
  values = {}
  for name in ("spatial_entropy", "temporal_entropy", "registers"):
    for block, heads in enumerate(getattr(found, name)):
      values[f"attention/{name}/{block}"] = float(heads.mean())
  return values
