"""Behaviour enters here: a convolutional GRU over time whose state scales and shifts the features."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from behavejax.nets.vivit import Features

State = Float[Array, "batch row column unit"]


class Modulator(nn.Module):
  """`features (1 + gain) + shift`, both linear in the state of a gated recurrent unit at each place.

  The unit (Cho et al. 2014, convolutional as in Ballas et al. 2016, arXiv:1511.06432) takes the features of its place
  and the behaviour, and sees its neighbours' states. It starts as the identity, and only looks back.

  Attributes:
    width: units at each place.
    unroll: steps of the recurrence that are compiled in a row; all of them leave no loop.
  """

  width: int
  unroll: int = 1

  @nn.compact
  def __call__(
    self, features: Features, behaviour: Float[Array, "batch time input"], state: State | None = None
  ) -> tuple[Features, State]:
    """The modulated features, and the state after the last step; `state` is that before the first, None at a start."""
    batch, _, rows, columns, width = features.shape
    from_features = nn.Dense(3 * self.width, name="from_features")(features)
    from_behaviour = nn.Dense(3 * self.width, use_bias=False, name="from_behaviour")(behaviour)
    inputs = jnp.moveaxis(from_features + from_behaviour[:, :, None, None], 1, 0)
    recurrent = self.param("recurrent", nn.initializers.orthogonal(), (9 * self.width, 3 * self.width))
    if state is None:
      state = jnp.zeros((batch, rows, columns, self.width), features.dtype)

    def advance(state: State, given: Float[Array, "batch row column 3*unit"]) -> tuple[State, State]:
      update, reset, new = jnp.split(given, 3, axis=-1)
      update_of, reset_of, new_of = jnp.split(_neighbours(state) @ recurrent, 3, axis=-1)
      update, reset = nn.sigmoid(update + update_of), nn.sigmoid(reset + reset_of)
      state = update * state + (1 - update) * jnp.tanh(new + reset * new_of)
      return state, state

    last, states = jax.lax.scan(advance, state, inputs, unroll=self.unroll)
    change = nn.Dense(2 * width, kernel_init=nn.initializers.zeros, name="change")(jnp.moveaxis(states, 0, 1))
    gain, shift = jnp.split(change, 2, axis=-1)
    return features * (1 + gain) + shift, last


class Entry(nn.Module):
  """`tanh(behaviour kernel + bias)`; where nothing is recorded there is no kernel, and what is learned is constant."""

  width: int

  @nn.compact
  def __call__(self, behaviour: Float[Array, "batch time signal"]) -> Float[Array, "batch time width"]:
    entered = jnp.broadcast_to(
      self.param("bias", nn.initializers.zeros, (self.width,)), (*behaviour.shape[:-1], self.width)
    )
    if signals := behaviour.shape[-1]:  # checkpoints hold no arrays of size 0
      entered = entered + behaviour @ self.param("kernel", nn.initializers.lecun_normal(), (signals, self.width))
    return nn.tanh(entered)


def _neighbours(state: State) -> Float[Array, "batch row column 9*unit"]:
  """Each place with the eight around it, row by row: a 3 x 3 convolution is then one product, quick inside a loop."""
  rows, columns = state.shape[1:3]
  padded = jnp.pad(state, ((0, 0), (1, 1), (1, 1), (0, 0)))
  return jnp.concatenate([padded[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3)], axis=-1)
