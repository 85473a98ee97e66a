"""What a neural encoder has to beat: a constant rate, and a Poisson regression on past frames and behaviour.

Both give expected counts of every frame, which `behavejax.evaluation.neural_metrics` scores like those of a network.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int
from scipy.linalg import toeplitz

from behavejax.config_neural import GlmConfig
from behavejax.data.neural_prepare import NeuralData
from behavejax.data.neural_windows import Clips
from behavejax.evaluation import neural_metrics

_MOST_FEATURES = 8192
_FEWEST_LAGS = 4  # that are reckoned with, so that no more than 2048 pixels have to be decorrelated
_CHUNK = 4096  # frames that are made floats at once
_LINEAR = 4.0  # above this drive the exponential goes on as a straight line, so that no step overflows


class Rows(NamedTuple):
  """Some trials one after the other, grey screen before each, so that past frames are the rows above.

  Attributes:
    video: normalised and averaged over squares of pixels; 0 before a trial.
    side: normalised behaviour with its lags, and a column of ones.
    spikes: counts.
    mask: which are fitted.
    frame: of the recording, -1 before a trial.
  """

  video: Float[np.ndarray, "row pixel"]
  side: Float[np.ndarray, "row signal_and_1"]
  spikes: Float[np.ndarray, "row neuron"]
  mask: Bool[np.ndarray, "row neuron"]
  frame: Int[np.ndarray, " row"]


class Weights(NamedTuple):
  """Of a regression: the logarithm of the expected count is their sum with `Rows.video` and `Rows.side`."""

  video: Float[Array, "lag pixel neuron"]
  side: Float[Array, "signal_and_1 neuron"]


class Glm(NamedTuple):
  """A fitted regression.

  Attributes:
    rates: expected counts of every frame of the recording.
    penalties: the chosen one of each neuron.
    weights: of each neuron at its penalty.
    bits: per spike on validation, for every penalty.
  """

  rates: Float[np.ndarray, "time neuron"]
  penalties: Float[np.ndarray, " neuron"]
  weights: Weights
  bits: Float[np.ndarray, "penalty neuron"]


def constant_rates(data: NeuralData) -> Float[np.ndarray, "time neuron"]:
  """Every neuron's mean count in training, for every frame."""
  return np.broadcast_to(data.scaling.mean_counts, data.recording.spikes.shape)


def fit_glm(config: GlmConfig, data: NeuralData) -> Glm:
  """Linear-nonlinear model: weighted past frames and behaviour, an exponential, Poisson counts.

  Squared weights of pixels are penalised, those of the few behavioural signals are not. The penalties are tried from
  strong to weak, each from the solution before, and every neuron keeps the one with the best bits per spike on the
  validation trials. Where frames are large, more pixels than `config.pool` are averaged, so that there are at most
  8192 weights per neuron.
  """
  pool = config.pool
  height, width = data.recording.video.shape[1:3]
  while max(config.lags, _FEWEST_LAGS) * -(-height // pool) * -(-width // pool) > _MOST_FEATURES:
    pool += 1
  train, val = (_rows(clips, lags=config.lags, pool=pool) for clips in (data.train, data.val))
  means = np.maximum(data.scaling.mean_counts, 1e-6)
  weights = Weights(
    jnp.zeros((config.lags, train.video.shape[1], len(means))),
    jnp.zeros((train.side.shape[1], len(means))).at[-1].set(np.log(means)),
  )
  reference = neural_metrics.mean_counts(val.spikes, val.mask)
  device = jax.tree.map(jnp.asarray, train)
  found, bits = [], []
  for penalty in sorted(config.penalties, reverse=True):
    basis = make_basis(train, lags=config.lags, penalty=penalty)
    weights = solve(weights, device, jnp.asarray(means), basis, penalty, iterations=config.iterations)
    sums = neural_metrics.spike_sums(np.asarray(expected(weights, val)), val.spikes, val.mask, reference)
    found.append(weights)
    bits.append(neural_metrics.bits_per_spike(sums))
  best = np.argmax(np.nan_to_num(np.stack(bits), nan=-np.inf), axis=0)
  chosen = jax.tree.map(lambda *tried: _choose(np.stack(tried), best), *found)
  everything = _rows(data.train, lags=config.lags, pool=pool, trials=np.arange(len(data.recording.condition)))
  rates = np.zeros(data.recording.spikes.shape, np.float32)
  seen = everything.frame >= 0
  rates[everything.frame[seen]] = np.asarray(expected(chosen, everything))[seen]
  return Glm(rates, np.array(sorted(config.penalties, reverse=True))[best], chosen, np.stack(bits))


@jax.jit
def expected(weights: Weights, rows: Rows) -> Float[Array, "row neuron"]:
  """Expected counts."""
  return _exponential(_drive(weights, rows))


class Basis(NamedTuple):
  """Directions in which past frames and behaviour are nearly uncorrelated, and their lengths: there the curvature of
  the problem is about 1 everywhere, so that a solver needs few steps. Natural video is far from that in pixels.

  Attributes:
    lag: orthogonal, one direction per column.
    pixel: likewise.
    scale: square root of variance plus penalty along each pair of directions.
    side: triangular; behaviour times it is uncorrelated.
  """

  lag: Float[Array, "lag lag"]
  pixel: Float[Array, "pixel pixel"]
  scale: Float[Array, "lag pixel"]
  side: Float[Array, "signal_and_1 signal_and_1"]


def make_basis(rows: Rows, *, lags: int, penalty: float) -> Basis:
  """From the second moments of the rows, those of lags and pixels taken to be independent."""
  count = max(int((rows.frame >= 0).sum()), 1)
  powers, pixel = np.linalg.eigh(rows.video.T @ rows.video / count)
  energy = [
    float((rows.video[lag:] * rows.video[: len(rows.video) - lag]).sum(dtype=np.float64)) for lag in range(lags)
  ]
  shares, lag = np.linalg.eigh(toeplitz(np.array(energy) / max(energy[0], 1e-12)))
  scale = np.sqrt(np.maximum(np.outer(shares, powers), 0) + penalty)
  moments = rows.side.T @ rows.side / count + 1e-6 * np.eye(rows.side.shape[1])
  side = np.linalg.inv(np.linalg.cholesky(moments)).T
  return Basis(*(jnp.asarray(array, jnp.float32) for array in (lag, pixel, scale, side)))


@functools.partial(jax.jit, static_argnames="iterations")
def solve(
  weights: Weights, rows: Rows, means: Float[Array, " neuron"], basis: Basis, penalty: float, *, iterations: int
) -> Weights:
  """Minimises, by L-BFGS from the given weights, the sum over neurons of
  `mean (r - y log r) / mean count + penalty / 2 |w|^2`, w the weights of pixels.

  The basis changes the number of iterations that this takes, not the solution.
  """
  share = rows.mask / (rows.mask.sum(0) * means)[None]

  def to_pixels(inner: Weights) -> Weights:
    turned = jnp.einsum("kl,pq,lqn->kpn", basis.lag, basis.pixel, inner.video / basis.scale[..., None])
    return Weights(turned, basis.side @ inner.side)

  def from_pixels(outer: Weights) -> Weights:
    turned = jnp.einsum("kl,pq,kpn->lqn", basis.lag, basis.pixel, outer.video)
    return Weights(turned * basis.scale[..., None], jnp.linalg.solve(basis.side, outer.side))

  def loss(inner: Weights) -> Float[Array, ""]:
    weights = to_pixels(inner)
    drive = _drive(weights, rows)
    fit = jnp.sum(share * (_exponential(drive) - rows.spikes * drive))
    return fit + penalty / 2 * jnp.sum(weights.video**2)

  optimizer = optax.lbfgs()
  value_and_gradient = optax.value_and_grad_from_state(loss)

  def iterate(carry, _):
    inner, state = carry
    value, gradient = value_and_gradient(inner, state=state)
    updates, state = optimizer.update(gradient, state, inner, value=value, grad=gradient, value_fn=loss)
    return (optax.apply_updates(inner, updates), state), None

  start = from_pixels(weights)
  return to_pixels(jax.lax.scan(iterate, (start, optimizer.init(start)), length=iterations)[0][0])


def _drive(weights: Weights, rows: Rows) -> Float[Array, "row neuron"]:
  lags, pixels, neurons = weights.video.shape
  parts = (rows.video @ weights.video.transpose(1, 0, 2).reshape(pixels, -1)).reshape(-1, lags, neurons)
  return rows.side @ weights.side + sum(jnp.roll(parts[:, lag], lag, axis=0) for lag in range(lags))


def _exponential(drive: Float[Array, "row neuron"]) -> Float[Array, "row neuron"]:
  low = jnp.exp(jnp.minimum(drive, _LINEAR))
  return low * (1 + jnp.maximum(drive - _LINEAR, 0))


def _rows(clips: Clips, *, lags: int, pool: int, trials: Int[np.ndarray, " trial"] | None = None) -> Rows:
  """The trials of some clips, or the given ones; the mask is that of the clips."""
  recording = clips.recording
  edges = recording.trial_edges
  trials = np.unique(clips.trial) if trials is None else trials
  grey = np.full(lags - 1, -1)
  frame = np.concatenate([part for r in trials for part in (grey, np.arange(edges[r], edges[r + 1]))])
  real = frame >= 0
  mask = clips.counted_frames()[frame] & real[:, None]
  side = np.concatenate([clips.behaviour(frame), np.ones((len(frame), 1), np.float32)], axis=1)
  return Rows(
    _pooled(clips, frame, pool) * real[:, None], side * real[:, None], recording.spikes[frame] * mask, mask, frame
  )


def _pooled(clips: Clips, frames: Int[np.ndarray, " row"], pool: int) -> Float[np.ndarray, "row pixel"]:
  """Frames averaged over squares of pixels, some at a time; those at the edges are filled up with grey."""
  height, width = clips.recording.video.shape[1:3]
  fill = ((0, 0), (0, -height % pool), (0, -width % pool))
  parts = []
  for start in range(0, len(frames), _CHUNK):
    part = np.pad(clips.video(frames[start : start + _CHUNK])[..., 0], fill)
    squares = part.reshape(len(part), part.shape[1] // pool, pool, part.shape[2] // pool, pool)
    parts.append(squares.mean((2, 4)).reshape(len(part), -1))
  return np.concatenate(parts)


def _choose(tried: Float[np.ndarray, "penalty *weight neuron"], best: Int[np.ndarray, " neuron"]) -> np.ndarray:
  """Of each neuron what was found at its best penalty."""
  return np.moveaxis(np.moveaxis(tried, -1, 1)[best, np.arange(len(best))], 0, -1)
