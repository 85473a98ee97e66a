"""The neural encoder: one core for all data sets, behaviour and a readout for each, and the Poisson loss of counts."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from behavejax.config_vivit import VivitConfig
from behavejax.nets.conv3d_core import Conv3dCore
from behavejax.nets.modulator import Entry, Modulator
from behavejax.nets.readout import READOUTS, Readout
from behavejax.nets.vivit import Features, Video, ViViT, cells
from behavejax.types import Key, Metrics, Variables

CORES: dict[str, type[nn.Module]] = {"vivit": ViViT, "conv3d": Conv3dCore}

Rates = Float[Array, "batch time neuron"]


class DataSet(NamedTuple):
  """What the network must know of a data set.

  Attributes:
    size: height and width of a frame in pixels.
    signals: columns of the behaviour, 0 where there is none.
    mean_counts: of each neuron in training, per frame.
    starts: row and column at which each neuron's readout begins to look, in pixels; () is the middle for all.
  """

  size: tuple[int, int]
  signals: int
  mean_counts: tuple[float, ...]
  starts: tuple[tuple[float, float], ...] = ()


class NeuralEncoder(nn.Module):
  """Core, modulator and readouts; data sets are known by their place in `sets`.

  Attributes:
    settings: section `vivit` of a config.
    sets: the data sets.
    unroll: steps of the modulator's recurrence that are compiled in a row.
  """

  settings: VivitConfig
  sets: Sequence[DataSet]
  unroll: int = 1

  def setup(self):
    s = self.settings
    self.core = CORES[s.core](s)
    if s.modulator:
      self.modulator = Modulator(s.modulator_width, self.unroll)
      self.behaviour = [Entry(s.modulator_width) for _ in self.sets]
    self.readout = [self._readout(data) for data in self.sets]

  def __call__(self, video: Video, behaviour: Float[Array, "batch time signal"], data_set: int, *, keys=None) -> Rates:
    """Expected counts of the neurons of one data set; with `keys`, one per example, as in training."""
    features = self.core(video, keys=keys)
    if self.settings.modulator:
      features, _ = self.modulator(features, self.enter(behaviour, data_set))
    return self.readout[data_set](features, keys=keys)

  def all(self, examples: Sequence[tuple[Array, Array]]) -> list[Rates]:
    """The same for a batch of every data set, so that all parameters come to be."""
    return [self(video, behaviour, i) for i, (video, behaviour) in enumerate(examples)]

  def enter(self, behaviour: Float[Array, "batch time signal"], data_set: int) -> Float[Array, "batch time input"]:
    """What the modulator gets of the behaviour."""
    return self.behaviour[data_set](behaviour)

  def step(self, frames: Video, memory: Any, before: Array) -> tuple[Features, Any]:
    """A time step of the core, see `behavejax.nets.vivit.ViViT.step`."""
    return self.core.step(frames, memory, before)

  def read(
    self, features: Features, behaviour: Float[Array, "batch time signal"], state: Any, data_set: int
  ) -> tuple[Rates, Any]:
    """From the core's features to expected counts, and the modulator's state after them."""
    if self.settings.modulator:
      features, state = self.modulator(features, self.enter(behaviour, data_set), state)
    return self.readout[data_set](features), state

  def masks(self, data_set: int) -> Float[Array, "neuron row column"]:
    """Where the readouts look."""
    return self.readout[data_set].masks()

  def _readout(self, data: DataSet) -> Readout:
    s = self.settings
    width = s.width if s.core == "vivit" else s.convolutions[-1]
    axes = zip(data.size, s.kernel[1:], s.stride[1:], strict=True)
    middles = [tuple(cells(size, kernel=kernel, stride=stride)[0].tolist()) for size, kernel, stride in axes]
    return READOUTS[s.readout](width, *middles, data.size, data.mean_counts, data.starts)


class Model(NamedTuple):
  """Pure functions of variables and arrays; `data_set` is a Python integer.

  Attributes:
    network: what `apply` is of.
    init: `key -> variables`.
    rates: `(variables, video, behaviour, data_set) -> expected counts`, deterministic.
    loss: `(variables, batch, keys, data_set) -> (loss per example, (no batch statistics, metrics))`; metrics add up.
    score: `(variables, batch, data_set) -> sums per neuron` of the log likelihood (see `poisson_sums`), deterministic.
  """

  network: NeuralEncoder
  init: Callable[[Key], Variables]
  rates: Callable[..., Rates]
  loss: Callable[..., tuple[Array, tuple[Variables, Metrics]]]
  score: Callable[..., Metrics]


def make_model(settings: VivitConfig, sets: Sequence[DataSet]) -> Model:
  """Builds the functions of the encoder of some data sets.

  Args:
    settings: section `vivit` of a config.
    sets: what there is to be known of each data set.
  """
  network = NeuralEncoder(settings, tuple(sets))
  means = [jnp.asarray(data.mean_counts) for data in sets]

  def init(key: Key) -> Variables:
    frames = max(settings.kernel[0], 2)
    examples = [(jnp.zeros((1, frames, *d.size, 1)), jnp.zeros((1, frames, d.signals))) for d in sets]
    return network.init(key, examples, method="all")

  def rates(variables: Variables, video: Array, behaviour: Array, data_set: int) -> Rates:
    return network.apply(variables, video, behaviour, data_set)

  def loss(variables: Variables, batch: Any, keys: Key, data_set: int) -> tuple[Array, tuple[Variables, Metrics]]:
    found = network.apply({"params": variables["params"]}, batch.video, batch.behaviour, data_set, keys=keys)
    losses = poisson_loss(found, batch.spikes, batch.mask)
    null = poisson_loss(jnp.broadcast_to(means[data_set], found.shape), batch.spikes, batch.mask)
    metrics = {
      "count": jnp.asarray(len(batch.spikes), jnp.float32),
      "loss": losses.sum(),
      "null": null.sum(),
      "counted": batch.mask.sum().astype(jnp.float32),
      "spikes": jnp.sum(batch.spikes * batch.mask),
    }
    return losses.mean(axis=(1, 2)), ({}, metrics)

  def score(variables: Variables, batch: Any, data_set: int) -> Metrics:
    return poisson_sums(rates(variables, batch.video, batch.behaviour, data_set), batch.spikes, batch.mask)

  return Model(network, init, rates, loss, score)


def poisson_loss(rates: Rates, spikes: Rates, mask: Bool[Array, "batch time neuron"]) -> Rates:
  """`rate - count log(rate + 1e-8)` where the mask holds, else 0: the negative log likelihood up to a constant."""
  return jnp.where(mask, rates - spikes * jnp.log(rates + 1e-8), 0.0)


def poisson_sums(rates: Rates, spikes: Rates, mask: Bool[Array, "batch time neuron"]) -> Metrics:
  """Per neuron: the summed `loss`, the number of `spikes` and of steps that were `counted`; they add up."""
  return {
    "loss": poisson_loss(rates, spikes, mask).sum(axis=(0, 1)),
    "spikes": jnp.sum(spikes * mask, axis=(0, 1)),
    "counted": mask.sum(axis=(0, 1)).astype(jnp.float32),
  }


def bits_per_spike(sums: dict[str, np.ndarray]) -> Float[np.ndarray, " neuron"]:
  """Bits per spike beyond a neuron's mean rate, from `poisson_sums`; NaN for a neuron without a spike.

  >>> bits_per_spike({"loss": np.array([0.5, 0.1]), "spikes": np.array([2.0, 0.0]), "counted": np.array([4.0, 4.0])})
  array([2.08202128, nan])
  """
  spikes, counted = (np.asarray(sums[name], np.float64) for name in ("spikes", "counted"))
  fired = np.where(spikes > 0, spikes, np.nan)
  null = fired - fired * np.log(fired / counted)
  return (null - np.asarray(sums["loss"], np.float64)) / (fired * np.log(2))
