"""A factorised video transformer: tubelets, attention within each time step, then along time at each place.

After Arnab et al. 2021 (arXiv:2103.15691, model 2), with attention and feed-forward side by side (Dehghani et al. 2023,
arXiv:2302.05442), rotary positions, and registers (Darcet et al. 2024, arXiv:2309.16588).

Time: the tubelet of step `j` ends with frame `j stride`, and its features are those of the frames `j stride` to
`(j + 1) stride - 1`. So no output at a frame depends on a later one, and there is an output at every frame.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from behavejax.config_vivit import VivitConfig
from behavejax.nets import projection, rotary
from behavejax.nets.attention import dot_product_attention
from behavejax.nets.heads import dropout
from behavejax.types import Key

_PATCHES, _DEPTH, _FEATURES = 0, 1, 1_000  # children of an example's key; blocks take the numbers between the last two

Video = Float[Array, "batch time height width channel"]
Features = Float[Array, "batch time row column feature"]


class Memory(NamedTuple):
  """What a temporal block remembers: keys, not yet turned, and values of the last steps, the newest at the end."""

  keys: Float[Array, "batch place step head depth"]
  values: Float[Array, "batch place step head depth"]


def cells(size: int, *, kernel: int, stride: int) -> tuple[np.ndarray, tuple[int, int]]:
  """Middles of the tubelets along an axis, in pixels from the middle of the first, and the padding on both sides.

  >>> cells(24, kernel=8, stride=4)
  (array([ 1.5,  5.5,  9.5, 13.5, 17.5, 21.5]), (2, 2))
  """
  count = -(-size // stride)
  padding = max((count - 1) * stride + kernel - size, 0)
  low = padding // 2
  return np.arange(count) * stride + (kernel - 1) / 2 - low, (low, padding - low)


def past_frames(
  x: Float[Array, "batch time height width channel"], *, kernel: int, stride: int = 1, pad: bool = True
) -> Float[Array, "batch step height width kernel*channel"]:
  """Every `stride`-th frame with the `kernel - 1` before it as further channels, oldest first; zeros before the start.

  A 2D convolution of them is a causal 3D convolution of the video, at a third of its time on a CPU.
  """
  if pad:
    x = jnp.pad(x, ((0, 0), (kernel - 1, 0), (0, 0), (0, 0), (0, 0)))
  steps = -(-(x.shape[1] - kernel + 1) // stride)
  return jnp.concatenate([x[:, i : i + (steps - 1) * stride + 1 : stride] for i in range(kernel)], axis=-1)


class Tubelets(nn.Module):
  """Linear map of overlapping blocks of frames, rows and columns."""

  kernel: tuple[int, int, int]
  stride: tuple[int, int, int]
  width: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, video: Video, *, pad: bool = True) -> Features:
    """`pad=False` takes the first `kernel - 1` frames as the past instead of zeros."""
    x = past_frames(video, kernel=self.kernel[0], stride=self.stride[0], pad=pad)
    axes = zip(x.shape[2:4], self.kernel[1:], self.stride[1:], strict=True)
    padding = [cells(size, kernel=kernel, stride=stride)[1] for size, kernel, stride in axes]
    frames = x.reshape(-1, *x.shape[2:])
    y = nn.Conv(self.width, self.kernel[1:], self.stride[1:], padding, dtype=self.dtype, name="embed")(frames)
    return y.reshape(*x.shape[:2], *y.shape[1:])


class ParallelBlock(nn.Module):
  """`x + out([attention, gelu(hidden)])`: one normalisation, one projection to queries, keys, values and hidden."""

  heads: int
  head_width: int
  hidden: int
  causal: bool = False
  context: int = 0  # steps that are looked back, itself counted; 0 sees all
  rotary: bool = True
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "*batch position width"],
    positions: Int[Array, "*#batch key axis"],
    keep: Float[Array, "*#batch 1 1"] | None = None,
    memory: Memory | None = None,
    remembered: Bool[Array, " key"] | None = None,
  ):
    """One block.

    Args:
      x: tokens; attention is along `position`.
      positions: of the keys; those of the queries are the last of them.
      keep: factor of what the block adds, for stochastic depth.
      memory: of the steps before, or None where `x` holds all steps.
      remembered: which steps of the memory hold something, the present one included.

    Returns:
      The tokens and the memory with the present step.
    """
    own = self.heads * self.head_width
    y = nn.LayerNorm(dtype=self.dtype, name="norm")(x)
    y = nn.Dense(
      3 * own + self.hidden, use_bias=False, dtype=self.dtype, dot_general=projection.dot_general, name="into"
    )(y)
    *projected, hidden = jnp.split(y, (own, 2 * own, 3 * own), axis=-1)
    query, key, value = (a.reshape(*a.shape[:-1], self.heads, -1) for a in projected)
    mask = None
    if memory is not None:
      key = jnp.concatenate([memory.keys[..., 1:, :, :], key], axis=-3)
      value = jnp.concatenate([memory.values[..., 1:, :, :], value], axis=-3)
      memory, mask = Memory(key, value), remembered.reshape(1, -1)
    if self.rotary:
      query = rotary.rotate(query, positions[..., -query.shape[-3] :, :])
      key = rotary.rotate(key, positions)
    self.sow("intermediates", "query_and_key", (query, key))
    attended = attend(query, key, value, causal=self.causal, context=self.context, mask=mask)
    joined = jnp.concatenate([attended.reshape(*x.shape[:-1], own), gelu(hidden)], axis=-1)
    added = nn.Dense(x.shape[-1], dtype=self.dtype, name="out")(joined)
    return x + (added if keep is None else added * keep.astype(added.dtype)), memory


def gelu(x: Float[Array, "*any"]) -> Float[Array, "*any"]:
  """The tanh form of GELU (Hendrycks and Gimpel 2016) as `x sigmoid(2 u)`: what ONNX takes without an own operator."""
  return x * nn.sigmoid(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))


def attend(
  query: Float[Array, "*batch query head depth"],
  key: Float[Array, "*batch key head depth"],
  value: Float[Array, "*batch key head depth"],
  *,
  causal: bool = False,
  context: int = 0,
  mask: Bool[Array, "#query key"] | None = None,
) -> Float[Array, "*batch query head depth"]:
  """Scaled dot-product attention; on a GPU with bfloat16 by its fused kernel, where that takes the sizes.

  Args:
    query: queries.
    key: keys.
    value: values.
    causal: no query sees a later key.
    context: how many positions back, and if not causal ahead, a query sees, itself included; 0 for all.
    mask: which keys a query sees, instead of what `causal` and `context` say.
  """
  flat = [a.reshape(-1, *a.shape[-3:]) for a in (query, key, value)]
  lengths = (query.shape[-3], key.shape[-3])
  fused = jax.default_backend() == "gpu" and query.dtype == jnp.bfloat16 and mask is None
  fused = fused and query.shape[-1] % 8 == 0 and query.shape[-1] <= 128 and not any(n % 2 for n in lengths)
  limited = 0 < context < max(lengths)
  if fused:
    window = (context - 1, 0 if causal else context - 1) if limited else None
    found = jax.nn.dot_product_attention(*flat, is_causal=causal, local_window_size=window, implementation="cudnn")
  else:
    if mask is None and (causal or limited):
      mask = visible(*lengths, causal=causal, context=context)
    found = dot_product_attention(*flat, mask=mask)
  return found.reshape(query.shape)


def attention_weights(
  query: Float[Array, "*batch query head depth"], key: Float[Array, "*batch key head depth"], *, causal: bool,
  context: int = 0,
) -> Float[Array, "*batch head query key"]:  # fmt: skip
  """The weights that `attend` averages the values with, to be looked at."""
  scores = jnp.einsum("...qhd,...khd->...hqk", query, key) / np.sqrt(query.shape[-1])
  seen = visible(query.shape[-3], key.shape[-3], causal=causal, context=context)
  return jax.nn.softmax(jnp.where(seen.reshape(*[1] * (scores.ndim - 2), *seen.shape), scores, -jnp.inf), axis=-1)


def visible(queries: int, keys: int, *, causal: bool, context: int = 0) -> Bool[np.ndarray, "query key"]:
  """Which tokens each may attend to."""
  back = np.arange(queries)[:, None] - np.arange(keys)
  return (back >= (0 if causal else -keys)) & ((abs(back) < context) | (context == 0))


class ViViT(nn.Module):
  """Video -> features at every frame and place."""

  settings: VivitConfig

  def setup(self):
    s, dtype = self.settings, jnp.dtype(self.settings.dtype)
    block = nn.remat(ParallelBlock) if s.remat else ParallelBlock
    sizes, rotates = (s.heads, s.head_width, s.hidden), s.position == "rotary"
    self.tubelets = Tubelets(s.kernel, s.stride, s.width, dtype)
    self.spatial = [block(*sizes, rotary=rotates, dtype=dtype) for _ in range(s.spatial_blocks)]
    self.temporal = [
      block(*sizes, causal=s.causal, context=s.context, rotary=rotates, dtype=dtype) for _ in range(s.temporal_blocks)
    ]
    shape = (1, 1, s.registers, s.width)  # checkpoints hold no arrays of size 0
    self.registers = self.param("registers", nn.initializers.normal(0.02), shape) if s.registers else jnp.zeros(shape)
    self.norm = nn.LayerNorm()
    self.frames = nn.Dense(s.stride[0] * s.width)

  def __call__(self, video: Video, *, keys: Key | None = None) -> Features:
    """Features `[batch, time, row, column, width]`; with `keys`, one per example, as in training."""
    tokens = self.tubelets(video)
    x, _ = self._transform(tokens, jnp.arange(tokens.shape[1]), keys=keys)
    return jnp.moveaxis(x, 4, 2).reshape(x.shape[0], -1, *x.shape[2:4], x.shape[5])[:, : video.shape[1]]

  def step(
    self, frames: Video, memory: tuple[Memory, ...], before: Int[Array, ""]
  ) -> tuple[Float[Array, "batch 1 row column frame feature"], tuple[Memory, ...]]:
    """One time step: the features of its `stride` frames, and what the temporal blocks then remember.

    Args:
      frames: the last `kernel` frames, zeros before the start.
      memory: of each temporal block, see `empty_memory`.
      before: time steps before this one.
    """
    return self._transform(self.tubelets(frames, pad=False), before[None], memory=memory)

  def _transform(
    self,
    tokens: Features,
    time: Int[Array, " step"],
    *,
    keys: Key | None = None,
    memory: tuple[Memory, ...] | None = None,
  ) -> tuple[Float[Array, "batch step row column frame feature"], tuple[Memory, ...]]:
    s, (batch, steps, rows, columns, width) = self.settings, tokens.shape
    places = jnp.stack(jnp.meshgrid(jnp.arange(rows), jnp.arange(columns), indexing="ij"), axis=-1).reshape(-1, 2)
    x = tokens.reshape(batch, steps, -1, width)
    if s.position == "sinusoidal":
      x = x + _waves(time, places, width)[None].astype(x.dtype)
    chosen = None
    if keys is not None and s.patch_dropout:
      chosen = _choose(keys, len(places), share=1 - s.patch_dropout)
      x = jnp.take_along_axis(x, chosen[:, None, :, None], axis=2)
      places = places[chosen][:, None]
    registers = jnp.broadcast_to(self.registers, (batch, steps, s.registers, width)).astype(x.dtype)
    x = jnp.concatenate([registers, x], axis=2)
    places = jnp.concatenate([jnp.zeros((*places.shape[:-2], s.registers, 2), int), places], axis=-2)
    keeps = _keeps(keys, s.spatial_blocks + s.temporal_blocks, rate=s.stochastic_depth)
    for block, keep in zip(self.spatial, keeps[: s.spatial_blocks], strict=True):
      x, _ = block(x, places, keep)
    x = jnp.swapaxes(x, 1, 2)
    reach = jnp.arange(steps if memory is None else s.context)
    remembered = None if memory is None else reach >= s.context - 1 - time[0]
    after = []
    for i, (block, keep) in enumerate(zip(self.temporal, keeps[s.spatial_blocks :], strict=True)):
      x, own = block(x, reach[:, None], keep, None if memory is None else memory[i], remembered)
      after.append(own)
    x = jnp.swapaxes(x, 1, 2)[:, :, s.registers :]
    x = self.frames(self.norm(x.astype(jnp.float32)))
    x = dropout(x, keys, rate=s.dropout, site=_FEATURES)
    if chosen is not None:
      whole = jnp.zeros((batch, rows * columns, steps, x.shape[-1]), x.dtype)
      scaled = jnp.swapaxes(x, 1, 2) * (rows * columns / chosen.shape[1])
      x = jnp.swapaxes(whole.at[jnp.arange(batch)[:, None], chosen].set(scaled), 1, 2)
    return x.reshape(batch, steps, rows, columns, s.stride[0], width), tuple(after)


def empty_memory(settings: VivitConfig, *, batch: int, places: int) -> tuple[Memory, ...]:
  """The memory of every temporal block before the first frame."""
  shape = (batch, places + settings.registers, settings.context, settings.heads, settings.head_width)
  zeros = jnp.zeros(shape, jnp.dtype(settings.dtype))
  return (Memory(zeros, zeros),) * settings.temporal_blocks


def _choose(keys: Key, places: int, *, share: float) -> Int[Array, "batch kept"]:
  """Places that an example keeps in training, in order; all time steps keep the same."""
  kept = max(round(share * places), 1)

  def choose(key: Key) -> Int[Array, " kept"]:
    return jnp.sort(jax.random.permutation(jax.random.fold_in(key, _PATCHES), places)[:kept])

  return jax.vmap(choose)(keys)


def _keeps(keys: Key | None, blocks: int, *, rate: float) -> list[Float[Array, "batch 1 1 1"] | None]:
  """Factors of what each block adds: 0 with a probability that grows from 0 to `rate`, else what keeps the mean."""
  if keys is None or not rate:
    return [None] * blocks
  rates = rate * np.arange(1, blocks + 1) / blocks
  sites = range(_DEPTH, _DEPTH + blocks)
  ones = jnp.ones((keys.shape[0], 1, 1, 1))
  return [dropout(ones, keys, rate=float(own), site=site) for own, site in zip(rates, sites, strict=True)]


def _waves(time: Int[Array, " step"], places: Int[Array, "place 2"], width: int) -> Float[Array, "step place width"]:
  """Sines and cosines of time, row and column, a third of the features each (Vaswani et al. 2017)."""
  half = width // 6
  frequencies = 10_000.0 ** (-jnp.arange(half) / half)

  def waves(positions: Int[Array, " position"]) -> Float[Array, "position 2*half"]:
    angles = positions[:, None] * frequencies[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)

  shape = (len(time), len(places), 2 * half)
  parts = (waves(time)[:, None], *(waves(places[:, axis])[None] for axis in (0, 1)))
  return jnp.concatenate([jnp.broadcast_to(part, shape) for part in parts], axis=-1)
