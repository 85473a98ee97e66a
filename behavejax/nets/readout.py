"""Readouts: from features at places to the expected counts of neurons, each of which looks at one place.

A readout is a weight for each place (the mask, which sums to 1) times a weight for each feature, and a softplus.
Positions are learned in units of half a frame from its middle, so that one learning rate serves positions and weights.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from behavejax.nets.vivit import Features
from behavejax.types import Key

_SITE = 2_000  # child of an example's key
_FIRST_SPREAD = 0.25  # in half frames


class Readout(nn.Module):
  """What both readouts share; see `GaussianReadout` and `SamplingReadout`.

  Attributes:
    width: number of features.
    rows: middles of the features' rows, in pixels from the middle of the first pixel.
    columns: likewise.
    size: height and width of a frame in pixels.
    mean_counts: of each neuron, above 0; the first predictions.
    starts: first row and column of each neuron, in pixels; () is the middle of the frame for all.
  """

  width: int
  rows: Sequence[float]
  columns: Sequence[float]
  size: tuple[int, int]
  mean_counts: Sequence[float]
  starts: Sequence[tuple[float, float]] = ()

  @property
  def neurons(self) -> int:
    return len(self.mean_counts)

  def setup(self):
    self.mean = self.param("mean", lambda key: self._half_frames(self.starts or [self._middle] * self.neurons))
    self.log_sigma = self.param("log_sigma", nn.initializers.constant(np.log(_FIRST_SPREAD)), (self.neurons, 2))
    self.weights = self.param("weights", nn.initializers.normal(0.3 / np.sqrt(self.width)), (self.neurons, self.width))
    self.bias = self.param("bias", lambda key: jnp.log(jnp.expm1(jnp.asarray(self.mean_counts, jnp.float32))))

  @property
  def _middle(self) -> tuple[float, float]:
    return tuple((size - 1) / 2 for size in self.size)

  def _half_frames(self, pixels: Sequence[tuple[float, float]] | np.ndarray) -> Float[Array, "*position 2"]:
    """Positions in pixels, in half frames from the middle of the frame."""
    return jnp.asarray((np.asarray(pixels) - np.array(self._middle)) / (np.array(self.size) / 2), jnp.float32)

  def grid(self) -> Float[Array, "row column 2"]:
    """Where the features are, in half frames from the middle of the frame."""
    return self._half_frames(np.stack(np.meshgrid(self.rows, self.columns, indexing="ij"), axis=-1))


class GaussianReadout(Readout):
  """The mask is a Gaussian of learned mean, spread along two axes, and angle.

  `exp(-0.5 |R_angle (g - mean) / sigma|^2)` at the places g, divided by its sum over all places.
  """

  def setup(self):
    super().setup()
    self.angle = self.param("angle", nn.initializers.zeros, (self.neurons,))

  def __call__(self, features: Features, *, keys: Key | None = None) -> Float[Array, "batch time neuron"]:
    """Expected counts; `keys` are not used."""
    del keys
    looked = features @ self.weights.T  # one large product; the masks then cost little
    return nn.softplus(jnp.einsum("btrcn,nrc->btn", looked, self.masks()) + self.bias.reshape(1, 1, -1))

  def masks(self) -> Float[Array, "neuron row column"]:
    """The weight of every place; each neuron's sum to 1."""
    row, column = jnp.moveaxis(self.grid()[None] - self.mean[:, None, None], -1, 0)
    cos, sin = (turn(self.angle).reshape(-1, 1, 1) for turn in (jnp.cos, jnp.sin))
    turned = jnp.stack([cos * row - sin * column, sin * row + cos * column], axis=-1)
    distance = jnp.sum(jnp.square(turned * jnp.exp(-self.log_sigma)[:, None, None]), axis=-1)
    return jax.nn.softmax(-0.5 * distance.reshape(self.neurons, -1), axis=-1).reshape(distance.shape)


class SamplingReadout(Readout):
  """The features at one learned position, by bilinear interpolation.

  In training each example looks at a position drawn around the learned one (Lurz et al. 2021), so that positions far
  away are tried and the spread shrinks as they are found.
  """

  def __call__(self, features: Features, *, keys: Key | None = None) -> Float[Array, "batch time neuron"]:
    """Expected counts; with `keys`, one per example, at drawn positions."""
    looked = features @ self.weights.T
    if keys is None:
      found = jnp.einsum("btrcn,nrc->btn", looked, self.masks())
    else:
      drawn = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, _SITE), self.mean.shape))(keys)
      masks = jax.vmap(self._bilinear)(self.mean[None] + jnp.exp(self.log_sigma)[None] * drawn)
      found = jnp.einsum("btrcn,bnrc->btn", looked, masks)
    return nn.softplus(found + self.bias.reshape(1, 1, -1))

  def masks(self) -> Float[Array, "neuron row column"]:
    """The weight of every place, above 0 at the four around the position (two on an edge); they sum to 1."""
    return self._bilinear(self.mean)

  def _bilinear(self, position: Float[Array, "neuron 2"]) -> Float[Array, "neuron row column"]:
    grid, along = self.grid(), []
    for axis, places in enumerate((grid[:, 0, 0], grid[0, :, 1])):
      step = places[1] - places[0] if len(places) > 1 else jnp.ones(())
      inside = jnp.clip(position[:, axis], places[0], places[-1])
      along.append(jnp.maximum(1 - jnp.abs(places[None] - inside[:, None]) / step, 0.0))
    return along[0][:, :, None] * along[1][:, None, :]


READOUTS: dict[str, type[Readout]] = {"gaussian": GaussianReadout, "sampling": SamplingReadout}
