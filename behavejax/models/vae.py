"""Variational autoencoder (Kingma & Welling 2014): latent vectors that a codebook is built on afterwards.

The loss of a sample, per value of it, is the reconstruction error plus `beta` times the divergence of the posterior
from the standard normal,

  KL = sum over latent dimensions of (mean^2 + std^2 - 1) / 2 - log std    (nats),

of which a dimension whose mean over the batch is below `free_bits` costs nothing (Kingma et al. 2016). With the mean
squared error of values of unit variance, beta is twice the variance of the noise that the decoder is thought to have.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from behavejax.config import VaeConfig
from behavejax.nets.vae import Decoder, Encoder, grid_of
from behavejax.types import Key, Metrics, Variables

_NOISE = 1 << 18  # child of an example's key


class Posterior(NamedTuple):
  """What is believed of the latent vectors of a sample, independent in every dimension."""

  mean: Float[Array, "batch *grid dim"]
  log_std: Float[Array, "batch *grid dim"]


class Vae(NamedTuple):
  """Pure functions of variables and arrays.

  Attributes:
    grid: of latent vectors of a sample; 1 on every axis where there is one for all.
    init: `(key, samples) -> variables`.
    encode: `(variables, samples) -> Posterior`, deterministic.
    decode: `(variables, latents) -> samples`, deterministic.
    decode_vector: `(variables, latent, around) -> part of a sample` that one latent vector of a grid gives together
      with its neighbours `around` (see `neighbourhoods`), itself in their middle; without them, the whole sample of
      the one vector there is.
    loss: `(variables, batch, keys) -> (loss per example, (batch statistics, metrics))`.
    score: `(variables, batch) -> metrics`, at the posterior mean.
    summarize: sums of metrics -> what is logged.
  """

  grid: tuple[int, ...]
  init: Callable[[Key, Array], Variables]
  encode: Callable[[Variables, Array], Posterior]
  decode: Callable[[Variables, Array], Array]
  decode_vector: Callable[[Variables, Array, Array | None], Array]
  loss: Callable[[Variables, Any, Key], tuple[Array, tuple[Variables, Metrics]]]
  score: Callable[[Variables, Any], Metrics]
  summarize: Callable[[dict[str, np.ndarray]], dict[str, float]]


class Autoencoder(nn.Module):
  """Encoder and decoder under one roof."""

  config: VaeConfig
  shape: tuple[int, ...]
  axis_name: str | None = None

  def setup(self):
    config = self.config
    common = {"kernel": config.kernel, "spatial": config.latent == "spatial", "axis_name": self.axis_name}
    self.encoder = Encoder(config.widths, config.halvings, dim=config.dim, **common)
    self.decoder = Decoder(config.widths, config.halvings, shape=self.shape, **common)

  def __call__(self, x: Array, noise: Array | None, *, train: bool) -> tuple[Posterior, Array]:
    posterior = Posterior(*self.encoder(x, train=train))
    z = posterior.mean if noise is None else posterior.mean + jnp.exp(posterior.log_std) * noise
    return posterior, self.decoder(z, train=train)

  def encode(self, x: Array) -> Posterior:
    return Posterior(*self.encoder(x, train=False))

  def decode(self, z: Array) -> Array:
    return self.decoder(z, train=False)


def beta_at(config: VaeConfig, update: Array, *, updates: int) -> Float[Array, ""]:
  """The weight of the divergence at an update of a training of `updates`.

  >>> config = VaeConfig(beta=2.0, schedule="cyclical", cycles=2, warmup_fraction=0.5)
  >>> [float(beta_at(config, jnp.array(u), updates=80)) for u in (0, 10, 20, 39, 40, 50)]
  [0.0, 1.0, 2.0, 2.0, 0.0, 1.0]
  """
  if config.schedule == "constant" or config.warmup_fraction == 0:
    return jnp.full((), config.beta, jnp.float32)
  length = updates / (config.cycles if config.schedule == "cyclical" else 1)
  place = jnp.mod(update, length) if config.schedule == "cyclical" else update
  return config.beta * jnp.minimum(place / (config.warmup_fraction * length), 1.0)


def neighbourhoods(latents: Float[np.ndarray, "sample *grid dim"]) -> Float[np.ndarray, "vector *three dim"]:
  """Of every vector of some grids, those that lie at most one place away on any axis; the border is repeated.

  >>> neighbourhoods(np.array([[[1.0], [2.0], [3.0]]]))[:, :, 0].tolist()
  [[1.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 3.0]]
  """
  axes = tuple(range(1, latents.ndim - 1))
  padded = np.pad(latents, [(1, 1) if axis in axes else (0, 0) for axis in range(latents.ndim)], mode="edge")
  views = np.lib.stride_tricks.sliding_window_view(padded, (3,) * len(axes), axis=axes)
  return np.moveaxis(views, latents.ndim - 1, -1).reshape(-1, *(3,) * len(axes), latents.shape[-1])


def divergence(posterior: Posterior) -> Float[Array, "batch *grid dim"]:
  """From the standard normal, in nats, by dimension."""
  mean, log_std = posterior
  return 0.5 * (jnp.square(mean) + jnp.exp(2 * log_std) - 1) - log_std


def make_vae(
  config: VaeConfig,
  *,
  shape: tuple[int, ...],
  updates: int = 1,
  normalization: tuple[np.ndarray, np.ndarray] | None = None,
  peak: float = 1.0,
  axis_name: str | None = None,
) -> Vae:
  """Builds the model's functions for samples of `shape` (*space, channel).

  Args:
    config: of the network and its loss.
    shape: of one sample.
    updates: of the whole training, over which beta rises.
    normalization: mean and sd of the channels, and with `peak` the span of their values, by which Bernoulli
      probabilities are found again in normalised samples.
    peak: see above.
    axis_name: mapped axis over which a batch is spread.
  """
  network = Autoencoder(config, shape, axis_name)
  spatial, values = config.latent == "spatial", math.prod(shape)
  grid = grid_of(shape[:-1], config.halvings) if spatial else (1,) * (len(shape) - 1)
  mean, std = (jnp.asarray(a, jnp.float32) for a in (normalization or (np.zeros(shape[-1]), np.ones(shape[-1]))))
  space = tuple(range(1, len(shape) + 1))
  wide = (1,) * len(shape)
  shift, scale = mean.reshape(*wide, -1), std.reshape(*wide, -1)

  def shares(x: Array) -> Array:
    """Normalised values as shares of their span."""
    return (x * scale + shift) / peak

  def shown(y: Array) -> Array:
    """What the network says as a normalised sample."""
    return (jax.nn.sigmoid(y) * peak - shift) / scale if config.reconstruction == "bernoulli" else y

  def init(key: Key, x: Array) -> Variables:
    return network.init(key, x[:1], None, train=False)

  def encode(variables: Variables, x: Array) -> Posterior:
    return network.apply(variables, x, method="encode")

  def decode(variables: Variables, z: Array) -> Array:
    return shown(network.apply(variables, z, method="decode"))

  def decode_vector(variables: Variables, z: Float[Array, " dim"], around: Array | None) -> Array:
    if around is None:
      return decode(variables, z.reshape(1, *(1,) * (len(shape) - 1), -1))[0]
    return decode(variables, jnp.asarray(around).at[(1,) * (around.ndim - 1)].set(z)[None])[0]

  def error(y: Array, x: Array) -> Float[Array, " batch"]:
    if config.reconstruction == "bernoulli":
      target = jnp.clip(shares(x), 0.0, 1.0)
      return jnp.mean(optax.sigmoid_binary_cross_entropy(y, target), axis=space)
    return jnp.mean(jnp.square(y - x) if config.reconstruction == "mse" else jnp.abs(y - x), axis=space)

  def sums(posterior: Posterior, y: Array, batch: Any) -> tuple[Array, Array, Metrics]:
    """Error of each sample, divergence that costs, per value and sample, and what is to be known of both."""
    mask = batch.mask.astype(jnp.float32)
    by_dimension = divergence(posterior)
    own = error(y, batch.x)
    whole = jnp.maximum(mask.sum(), 1.0)
    if axis_name is not None:
      whole = jax.lax.psum(whole, axis_name)
    total = jnp.einsum("b,b...->...", mask, by_dimension)
    total = total if axis_name is None else jax.lax.psum(total, axis_name)
    costs = (total / whole > config.free_bits * math.log(2)).astype(jnp.float32)
    paid = jnp.sum(by_dimension * costs[None], axis=space) / values
    square = jnp.square(batch.x - shown(y))
    per_dimension = tuple(range(1, by_dimension.ndim - 1))
    return own, paid, {
      "count": mask.sum(),
      "reconstruction": jnp.sum(own * mask),
      "reconstruction_mse": jnp.sum(jnp.mean(square, axis=space) * mask),
      "divergence": jnp.sum(jnp.sum(by_dimension, axis=space) * mask),
      "divergence_of": jnp.sum(jnp.mean(by_dimension, axis=per_dimension) * mask[:, None], axis=0),
      "mean_of": jnp.sum(jnp.mean(posterior.mean, axis=per_dimension) * mask[:, None], axis=0),
      "mean_square_of": jnp.sum(jnp.mean(jnp.square(posterior.mean), axis=per_dimension) * mask[:, None], axis=0),
    }  # fmt: skip

  def loss(variables: Variables, batch: Any, keys: Key) -> tuple[Array, tuple[Variables, Metrics]]:
    noise = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, _NOISE), (*grid, config.dim)))(keys)
    stats = dict(variables["batch_stats"])
    update = stats.pop("updates")
    (posterior, y), changed = network.apply(
      {**variables, "batch_stats": stats}, batch.x, noise, train=True, mutable=["batch_stats"]
    )
    own, paid, metrics = sums(posterior, y, batch)
    total = (own + beta_at(config, update, updates=updates) * paid) * batch.mask
    return total, ({**changed["batch_stats"], "updates": update + 1}, {**metrics, "loss": total.sum()})

  def counted(key: Key, x: Array) -> Variables:
    variables = init(key, x)
    return {**variables, "batch_stats": {**variables["batch_stats"], "updates": jnp.zeros((), jnp.int32)}}

  def plain(variables: Variables) -> Variables:
    """Without the number of updates, which the network does not know."""
    return {**variables, "batch_stats": {k: v for k, v in variables["batch_stats"].items() if k != "updates"}}

  def score(variables: Variables, batch: Any) -> Metrics:
    posterior, y = network.apply(plain(variables), batch.x, None, train=False)
    own, paid, metrics = sums(posterior, y, batch)
    return {**metrics, "loss": jnp.sum((own + config.beta * paid) * batch.mask)}

  def summarize(totals: dict[str, np.ndarray]) -> dict[str, float]:
    count = totals["count"]
    named = {name: float(totals[name] / count) for name in ("loss", "reconstruction", "reconstruction_mse")}
    by_dimension = totals["divergence_of"] / count / math.log(2)
    spread = totals["mean_square_of"] / count - np.square(totals["mean_of"] / count)
    return named | {
      "divergence_bits": float(totals["divergence"] / count / math.log(2)),
      "active_units": float(np.sum(spread > ACTIVE)),
      "collapsed_units": float(np.sum(by_dimension < COLLAPSED_BITS)),
      **{f"divergence_bits/{i}": float(bits) for i, bits in enumerate(by_dimension)},
    }

  return Vae(
    grid, counted, lambda v, x: encode(plain(v), x), lambda v, z: decode(plain(v), z),
    lambda v, z, around: decode_vector(plain(v), z, around), loss, score, summarize,
  )  # fmt: skip


ACTIVE = 0.01
"""Variance of the posterior mean over samples above which a latent dimension is active (Burda et al. 2016)."""
COLLAPSED_BITS = 0.01
"""Mean divergence per place below which the posterior of a dimension is the prior."""
