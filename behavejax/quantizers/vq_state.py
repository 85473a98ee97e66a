"""A codebook as the running average of the vectors that choose its codes (van den Oord et al. 2017, appendix A.1).

With `n_k` vectors choosing code k in a batch, decay `g` and smoothing `e`:

  N_k <- g N_k + (1 - g) n_k          m_k <- g m_k + (1 - g) sum of those vectors
  e_k  = m_k / ((N_k + e) / (sum_j N_j + K e) sum_j N_j)

One training step is

  quantized = vq.quantize(z, state.codebook, mask, codebook_weight=0)
  state = update(state, statistics(z, quantized.indices, mask, num_codes=K), axis_name=axis_name)
  state = restart(state, z, key, mask, axis_name=axis_name)

and leaves the same state on every device. Statistics of several batches add up. A batch in which no vector
counts changes nothing.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from behavejax.quantizers import vq
from behavejax.types import Key

_OUT_OF_USE = 1.0  # running count of vectors a step
_SHARE_OUT_OF_USE = 0.2  # of the mean count


class State(NamedTuple):
  """A codebook and what it is made of.

  Attributes:
    codebook: the codes.
    count: running number of vectors of each code in a batch (of all devices).
    total: running sum of those vectors.
    idle: consecutive steps in which `count` was below what `restart` asks for.
    initialised: whether the codes come from data; `kmeans.initialise` then leaves them alone.
  """

  codebook: Float[Array, "code dim"]
  count: Float[Array, "code"]
  total: Float[Array, "code dim"]
  idle: Int[Array, "code"]
  initialised: Bool[Array, ""]


class Statistics(NamedTuple):
  """Number and sum of the vectors that chose each code."""

  count: Float[Array, "code"]
  total: Float[Array, "code dim"]


def init(key: Key, *, num_codes: int, dim: int, cosine: bool = False) -> State:
  """Random codes, normal with unit variance, each counting as one vector."""
  codebook = jax.random.normal(key, (num_codes, dim))
  return from_codebook(vq.unit(codebook) if cosine else codebook)._replace(initialised=jnp.array(False))


def from_codebook(codebook: Float[Array, "code dim"], count: Float[Array, "code"] | None = None) -> State:
  """A state that holds these codes; each counts as one vector, or as `count` where that is more."""
  count = jnp.ones(len(codebook)) if count is None else jnp.maximum(count, 1.0)
  idle = jnp.zeros(len(codebook), jnp.int32)
  return State(codebook, count, codebook * count[:, None], idle, jnp.array(True))


def statistics(
  z: Float[Array, "*batch dim"],
  indices: Int[Array, "*batch"],
  mask: Bool[Array, "*batch"] | None = None,
  *,
  num_codes: int,
  cosine: bool = False,
) -> Statistics:
  """What a batch adds to each code; merge batches by adding, devices by `psum`.

  >>> statistics(jnp.array([[1.0], [3.0], [5.0]]), jnp.array([0, 0, 1]), num_codes=2)
  Statistics(count=Array([2., 1.], dtype=float32), total=Array([[4.], [5.]], dtype=float32))
  """
  chex.assert_shape(indices, z.shape[:-1])
  vectors, valid = vq.to_rows(jax.lax.stop_gradient(z), mask, cosine=cosine)
  indices = indices.reshape(-1)
  count = jnp.zeros(num_codes).at[indices].add(valid.astype(jnp.float32))
  total = jnp.zeros((num_codes, z.shape[-1])).at[indices].add(jnp.where(valid[:, None], vectors, 0.0))
  return Statistics(count, total)


def update(
  state: State,
  batch: Statistics,
  *,
  decay: float = 0.99,
  epsilon: float = 1e-5,
  cosine: bool = False,
  axis_name: str | None = None,
) -> State:
  """Moves the codes towards the vectors that chose them.

  Args:
    state: the same on every device.
    batch: this device's statistics.
    decay: share of the running averages that stays, called g.
    epsilon: of Laplace smoothing, in vectors.
    cosine: keep the codes at length 1.
    axis_name: mapped axis over which the batch is spread, or None.
  """
  chex.assert_equal_shape([state.codebook, state.total, batch.total])
  if axis_name is not None:
    batch = jax.lax.psum(batch, axis_name)
  count = decay * state.count + (1 - decay) * batch.count
  total = decay * state.total + (1 - decay) * batch.total
  everything = jnp.maximum(count.sum(), epsilon)
  smoothed = (count + epsilon) / (everything + len(count) * epsilon) * everything
  means = total / smoothed[:, None]
  moved = State(vq.unit(means) if cosine else means, count, total, state.idle, jnp.array(True))
  return jax.tree.map(lambda new, old: jnp.where(batch.count.sum() > 0, new, old), moved, state)


def restart(
  state: State,
  z: Float[Array, "*batch dim"],
  key: Key,
  mask: Bool[Array, "*batch"] | None = None,
  *,
  patience: int = 100,
  cosine: bool = False,
  axis_name: str | None = None,
) -> State:
  """Moves codes that are out of use to vectors of the batch, after `update` (Dhariwal et al. 2020, arXiv:2005.00341).

  The batch of all devices is cut into as many stretches as there are codes to move, and each takes a random vector
  of another stretch: no vector is taken twice. Where there are more dead codes than vectors, the rest waits.

  Out of use is a code whose running count is below 1, or below a fifth of the mean where vectors are so few for the
  codes that 1 would be too much to ask: 64 vectors a step for 256 codes leave each a quarter. A code that moved starts
  there.

  Args:
    state: after `update`, the same on every device.
    z: this device's vectors.
    key: the same on every device; with it the choice depends on the global batch, not on its spread.
    mask: False for padding, which is never chosen.
    patience: steps out of use after which a code is dead.
    cosine: the codes have length 1.
    axis_name: mapped axis over which the batch is spread, or None.
  """
  chex.assert_axis_dimension(z, -1, state.codebook.shape[1])
  vectors, valid = vq.to_rows(jax.lax.stop_gradient(z), mask, cosine=cosine)
  here = jnp.sum(valid, dtype=jnp.int32)
  available = here if axis_name is None else jax.lax.psum(here, axis_name)
  least = jnp.minimum(_OUT_OF_USE, _SHARE_OUT_OF_USE * available / len(state.count))
  idle = jnp.where(available > 0, jnp.where(state.count < least, state.idle + 1, 0), state.idle)
  moves, ranks = _draw_ranks(idle >= patience, available, key)
  ranks -= 0 if axis_name is None else _before_this_device(here, axis_name)
  rows = jnp.searchsorted(jnp.cumsum(valid, dtype=jnp.int32), ranks + 1)  # of the vectors that count, number `rank`
  mine = moves & (ranks >= 0) & (ranks < here)
  chosen = jnp.where(mine[:, None], jnp.take(vectors, rows, axis=0, mode="clip"), 0.0)
  if axis_name is not None:
    chosen = jax.lax.psum(chosen, axis_name)
  return State(
    codebook=jnp.where(moves[:, None], chosen, state.codebook),
    count=jnp.where(moves, least, state.count),
    total=jnp.where(moves[:, None], least * chosen, state.total),
    idle=jnp.where(moves, 0, idle),
    initialised=state.initialised,
  )


def _draw_ranks(
  dead: Bool[Array, "code"], available: Int[Array, ""], key: Key
) -> tuple[Bool[Array, "code"], Int[Array, "code"]]:
  """Which dead codes move, and for each a different number in [0, available)."""
  order_key, place_key = jax.random.split(key)
  order = jnp.where(dead, jax.random.uniform(order_key, dead.shape), 2.0)
  stretch = jnp.argsort(jnp.argsort(order)).astype(jnp.int32)  # the dead ones are 0, 1, ... in a random order
  moves = dead & (stretch < available)
  stretch = jnp.where(moves, stretch, 0)
  stretches = jnp.maximum(jnp.sum(moves, dtype=jnp.int32), 1)
  width, wider = available // stretches, available % stretches

  def edge(i: Int[Array, "code"]) -> Int[Array, "code"]:
    return i * width + i * wider // stretches

  size = edge(stretch + 1) - edge(stretch)
  place = jnp.floor(jax.random.uniform(place_key, dead.shape) * size).astype(jnp.int32)
  return moves, edge(stretch) + jnp.minimum(place, size - 1)


def _before_this_device(here: Int[Array, ""], axis_name: str) -> Int[Array, ""]:
  """How many vectors the devices before this one hold."""
  everywhere = jax.lax.all_gather(here, axis_name)
  return jnp.sum(jnp.where(jnp.arange(len(everywhere)) < jax.lax.axis_index(axis_name), everywhere, 0))
