"""The neural encoder frame by frame: what the past has left is kept, so that a frame costs a time step, not a clip."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from behavejax.errors import InputError
from behavejax.models.neural_encoder import Model
from behavejax.nets.vivit import Features, Memory, Video, cells, empty_memory
from behavejax.types import Variables


class Stream(NamedTuple):
  """What is kept between frames.

  Attributes:
    frames: the last `kernel` ones, zeros before the start.
    memory: of the temporal blocks.
    features: of the present time step, for each of its frames.
    state: of the modulator, or () without one.
    count: frames seen.
  """

  frames: Video
  memory: tuple[Memory, ...]
  features: Features
  state: Any
  count: Int[Array, ""]


class Streamer(NamedTuple):
  """Pure functions.

  Attributes:
    start: `batch -> Stream`, before the first frame.
    advance: `(variables, stream, frame [batch, height, width, 1], behaviour [batch, signal]) -> (expected counts
      [batch, neuron], stream)`; frames and behaviour are normalised as in training.
  """

  start: Callable[[int], Stream]
  advance: Callable[..., tuple[Float[Array, "batch neuron"], Stream]]


def make_streamer(model: Model, data_set: int) -> Streamer:
  """Prediction frame by frame for one data set; from the first frame on it equals `model.rates` of all frames.

  The temporal blocks look back `context` steps, in a stream as in a clip, so that a stream may go on for ever.

  Raises:
    InputError: the core is not the causal transformer.
  """
  settings, data = model.network.settings, model.network.sets[data_set]
  if settings.core != "vivit" or not settings.causal:
    raise InputError(
      f"config.vivit.core={settings.core} with causal={settings.causal} cannot predict frame by frame: that takes "
      "core=vivit and causal=True"
    )
  axes = zip(data.size, settings.kernel[1:], settings.stride[1:], strict=True)
  grid = tuple(len(cells(size, kernel=kernel, stride=stride)[0]) for size, kernel, stride in axes)
  stride = settings.stride[0]

  def start(batch: int) -> Stream:
    state = jnp.zeros((batch, *grid, settings.modulator_width)) if settings.modulator else ()
    return Stream(
      jnp.zeros((batch, settings.kernel[0], *data.size, 1)),
      empty_memory(settings, batch=batch, places=grid[0] * grid[1]),
      jnp.zeros((batch, stride, *grid, settings.width)),
      state,
      jnp.zeros((), jnp.int32),
    )

  def advance(variables: Variables, stream: Stream, frame: Array, behaviour: Array) -> tuple[Array, Stream]:
    frames = jnp.concatenate([stream.frames[:, 1:], frame[:, None]], axis=1)

    def step(memory: tuple[Memory, ...]) -> tuple[Features, tuple[Memory, ...]]:
      found, memory = model.network.apply(variables, frames, memory, stream.count // stride, method="step")
      return jnp.moveaxis(found[:, 0], 3, 1), memory

    begins = stream.count % stride == 0
    features, memory = jax.lax.cond(begins, step, lambda memory: (stream.features, memory), stream.memory)
    now = jax.lax.dynamic_index_in_dim(features, stream.count % stride, axis=1)
    rates, state = model.network.apply(variables, now, behaviour[:, None], stream.state, data_set, method="read")
    return rates[:, 0], Stream(frames, memory, features, state, stream.count + 1)

  return Streamer(start, advance)
