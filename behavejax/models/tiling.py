"""Signals and videos longer than the training window: coded and decoded tile by tile along time, without a seam.

Without attention and with batch normalisation a cell of the grid sees its surroundings only. Tiles then overlap by what
it sees, each keeps its middle, and the result is that of the whole at once. Attention and group normalisation look at
all of a sample; tiles are then as long as in training and overlap by half: tokens are those of the tile in whose middle
they lie, and decoded tiles fade into each other over the overlap.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from behavejax.config import Config
from behavejax.models.vqvae import Vqvae, grid_of
from behavejax.nets.ndconv import stage_strides
from behavejax.types import Variables

_LONGEST = 64  # cells that a tile keeps, where it may be of any length


class Plan(NamedTuple):
  """How time is tiled, in cells of the grid.

  Attributes:
    size: cells of a tile.
    margin: cells at each end that belong to its neighbours.
    factor: samples per cell.
    exact: whether tiles give what the whole would.
  """

  size: int
  margin: int
  factor: int
  exact: bool


class Tile(NamedTuple):
  """Cells `start` to `start + size`, of which it keeps those from `first` to `last`."""

  start: int
  first: int
  last: int


def make_plan(config: Config, *, shape: tuple[int, ...]) -> Plan:
  """The plan for a model that was trained on samples of `shape` (time, *space, channel)."""
  settings = config.vqvae
  cells = grid_of(shape, settings.factors)[0]
  if settings.attention == "none" and settings.norm == "batch":
    reach = settings.blocks + len(stage_strides(settings.factors)) + 2  # a kernel of 3 per block and stage, and two
    return Plan(_LONGEST + 2 * reach, reach, settings.factors[0], True)
  return Plan(cells, cells // 4, settings.factors[0], False)


def tiles(cells: int, *, size: int, margin: int) -> list[Tile]:
  """Tiles that cover `cells`; the last is moved back to end with them.

  >>> tiles(10, size=6, margin=1)
  [Tile(start=0, first=0, last=5), Tile(start=4, first=5, last=10)]
  """
  if cells <= size:
    return [Tile(0, 0, cells)]
  starts = [*range(0, cells - size, size - 2 * margin), cells - size]
  edges = [0, *(start + size - margin for start in starts[:-1]), cells]
  return [Tile(*row) for row in zip(starts, edges[:-1], edges[1:], strict=True)]


def encode(
  model: Vqvae, variables: Variables, x: Float[np.ndarray, "time *space channel"], plan: Plan
) -> Int[np.ndarray, "cell *grid"]:
  """Tokens of a normalised signal or video; a rest that fills no cell is filled up with its last sample."""
  rest = -len(x) % plan.factor
  x = np.concatenate([x, np.repeat(x[-1:], rest, axis=0)]) if rest else x
  run = jax.jit(model.tokens)
  parts = []
  for tile in tiles(len(x) // plan.factor, size=plan.size, margin=plan.margin):
    found = np.asarray(run(variables, x[None, tile.start * plan.factor : (tile.start + plan.size) * plan.factor]))[0]
    parts.append(found[tile.first - tile.start : tile.last - tile.start])
  return np.concatenate(parts)


def decode(
  model: Vqvae, variables: Variables, tokens: Int[np.ndarray, "cell *grid"], plan: Plan, *, length: int
) -> Float[np.ndarray, "time *space channel"]:
  """The signal or video of some tokens, `length` samples of it."""
  run = jax.jit(model.decode_tokens)
  total = weights = None
  for tile, weight in _weighted(len(tokens), plan):
    part = np.asarray(run(variables, jnp.asarray(tokens[None, tile.start : tile.start + plan.size])))[0]
    if total is None:
      total = np.zeros((len(tokens) * plan.factor, *part.shape[1:]), np.float32)
      weights = np.zeros(len(total), np.float32)
    place = slice(tile.start * plan.factor, tile.start * plan.factor + len(part))
    total[place] += part * weight.reshape(-1, *(1,) * (part.ndim - 1))
    weights[place] += weight
  return (total / weights.reshape(-1, *(1,) * (total.ndim - 1)))[:length]


def _weighted(cells: int, plan: Plan) -> Iterator[tuple[Tile, Float[np.ndarray, " time"]]]:
  """Tiles with the weight of each of their samples: 1 where kept, and where tiles fade, a ramp over the overlap."""
  found = tiles(cells, size=plan.size, margin=plan.margin)
  for i, tile in enumerate(found):
    size = min(plan.size, cells)
    places = tile.start + (np.arange(size * plan.factor) + 0.5) / plan.factor
    if plan.exact:
      yield tile, ((places > tile.first) & (places < tile.last)).astype(np.float32)
      continue
    weight = np.ones(len(places))
    if i > 0:
      before = found[i - 1].start + plan.size
      weight = np.minimum(weight, (places - tile.start) / max(before - tile.start, 1))
    if i + 1 < len(found):
      weight = np.minimum(
        weight, (tile.start + plan.size - places) / max(tile.start + plan.size - found[i + 1].start, 1)
      )
    yield tile, weight.astype(np.float32)
