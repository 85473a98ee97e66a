"""Encoder and syllables as one model: the likelihood of whole stretches of recording teaches the encoder.

The loss of a stretch of windows, laid end to end, is that of its windows (see `autoencoder`) and, weighted, the
negative log likelihood per step of its codes under the hidden semi-Markov model. Codes are integers; towards the
encoder a code has the gradient of the softmax over the distances to all codes,

  bag = hard + soft - sg(soft),    soft_k ~ exp(-|z - e_k|^2 / softness)

so that the value is that of the codes and the gradient becomes sharper as the softness falls.

A batch is a few stretches, of few behaviours: its statistics are not those of the data. Normalisation, and codes that
are running averages, therefore stay as they were learned.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from behavejax.config import Config
from behavejax.errors import InputError
from behavejax.models.autoencoder import Model, Outputs
from behavejax.models.quantizer import all_codes, learns_codes, make_quantizer
from behavejax.models.syllables import digits_of, step_edges
from behavejax.quantizers import vq
from behavejax.segmentation import learning, messages
from behavejax.types import Key, Metrics, Variables

_MOST_CODES = 4096


class Joint(NamedTuple):
  """What training takes of a model; see `autoencoder.Model`.

  Variables have `params` and `batch_stats` of the encoder under "model", the parameters of the syllables under
  "syllables" and the number of updates under "updates".
  """

  init: Callable[[Key, Array], Variables]
  loss: Callable[[Variables, Any, Key], tuple[Array, tuple[Variables, Metrics]]]
  score: Callable[[Variables, Any], Metrics]


def make_joint(
  config: Config,
  model: Model,
  segmenter: learning.Segmenter,
  encoder: Variables,
  syllables: learning.Parameters,
  *,
  shape: tuple[int, int, int],
  steps_per_window: int,
  updates: int,
) -> Joint:
  """Puts a trained encoder and learned syllables together.

  Args:
    config: the sections `model`, `quantizer`, `data` and `finetune` are used.
    model: of windows.
    segmenter: of steps of codes.
    encoder: variables to start from.
    syllables: parameters to start from.
    shape: of one window.
    steps_per_window: into which the codes of a window, or of each device's row, are gathered.
    updates: over which the softness falls.

  Raises:
    InputError: more codes than a gradient can be given for, or subjects with transitions of their own.
  """
  settings, quantizer = config.finetune, make_quantizer(config.quantizer)
  if quantizer.num_codes > _MOST_CODES:
    raise InputError(f"stage 'finetune' takes up to {_MOST_CODES} codes, config.quantizer has {quantizer.num_codes}")
  if segmenter.groups > 1:
    raise InputError("stage 'finetune' has the same transitions for all subjects: set config.segmentation.groups=False")
  stretch_of = segmenter._replace(stationary=True)  # it begins somewhere in a segment
  table = jnp.asarray(digits_table(quantizer.levels))
  sides = len(quantizer.levels), max(quantizer.levels)

  def bags(variables: Variables, outputs: Outputs, softness: Array) -> Float[Array, "sequence step digit level"]:
    """Of one stretch; several devices, where each has codes of its own, are sequences of their own."""
    weights = soft_codes(config, outputs, all_codes(config.quantizer, variables), softness) @ table
    windows, rows = outputs.tokens.shape[:2]
    sequences = config.data.devices if rows == config.data.devices else 1
    by_window = weights.reshape(windows, sequences, -1, *sides)
    gather = jnp.asarray(gathering(by_window.shape[2], steps_per_window), jnp.float32)
    steps = jnp.einsum("sc,wqcdl->qwsdl", gather, by_window)
    return steps.reshape(sequences, windows * steps_per_window, *sides)

  def log_likelihood(parameters: learning.Parameters, counts: Float[Array, "step digit level"]) -> Float[Array, ""]:
    values = learning.log_likelihoods(stretch_of, parameters, counts)
    chain = learning.hsmm_of(stretch_of, parameters, jnp.zeros((), jnp.int32))
    return messages.log_likelihood(chain, values, right_censored=stretch_of.right_censored)

  def fit(variables: Variables, outputs: Outputs, own: Variables, softness: Array, stretches: int) -> Array:
    """Log likelihood per step of each stretch, mean over devices."""
    parameters = constrain(stretch_of, syllables, variables["params"]["syllables"])
    each = jax.tree.map(lambda a: a.reshape(stretches, -1, *a.shape[1:]), outputs)
    counts = jax.vmap(lambda o: bags(own, o, softness))(each)
    values = jax.vmap(jax.vmap(lambda c: log_likelihood(parameters, c)))(counts)
    return jnp.mean(values, axis=1) / counts.shape[2]

  def softness_at(update: Array) -> Array:
    share = jnp.minimum(update / max(updates, 1), 1.0)
    ends = [jnp.log(jnp.maximum(s, 1e-6)) for s in (settings.softness, settings.softness_end)]
    return jnp.exp(ends[0] + share * (ends[1] - ends[0]))

  def single(batch: Any) -> tuple[Any, int]:
    """The windows of stretches, and how many a stretch has."""
    windows = batch.y.shape[1]
    x = jax.vmap(lambda stretch: cut(stretch, windows, shape))(batch.x)
    flat = batch._replace(
      x=x.reshape(-1, *shape), y=batch.y.reshape(-1), mask=jnp.repeat(batch.mask, windows)
    )  # fmt: skip
    return flat, windows

  def total(per_window: Array, likelihood: Array, batch: Any, windows: int) -> tuple[Array, Metrics]:
    """The loss of each stretch, and what is to be known of its likelihood."""
    mask = batch.mask.astype(jnp.float32)
    loss = jnp.mean(per_window.reshape(-1, windows), axis=1) - settings.weight * likelihood * mask
    return loss, {"loss": jnp.sum(loss) * windows, "log_likelihood": jnp.sum(likelihood * mask) * windows}

  def init(key: Key, x: Array) -> Variables:
    del key, x
    return {
      "params": {"model": encoder["params"], "syllables": _free(syllables)},
      "batch_stats": {"model": encoder["batch_stats"], "updates": jnp.zeros((), jnp.int32)},
    }

  def loss(variables: Variables, batch: Any, keys: Key) -> tuple[Array, tuple[Variables, Metrics]]:
    del keys  # nothing is dropped
    flat, windows = single(batch)
    outputs, per_window, metrics = model.judge(encoder_of(variables), flat)
    update = variables["batch_stats"]["updates"]
    likelihood = fit(variables, outputs, encoder_of(variables), softness_at(update), len(batch.x))
    value, further = total(per_window, likelihood, batch, windows)
    return value, ({**variables["batch_stats"], "updates": update + 1}, {**metrics, **further})

  def score(variables: Variables, batch: Any) -> Metrics:
    flat, windows = single(batch)
    outputs, per_window, metrics = model.judge(encoder_of(variables), flat)
    likelihood = fit(variables, outputs, encoder_of(variables), jnp.ones(()), len(batch.x))
    _, further = total(per_window, likelihood, batch, windows)
    return {**metrics, **further}

  return Joint(init, loss, score)


def encoder_of(variables: Variables) -> Variables:
  """Variables of the encoder alone."""
  return {kind: variables[kind]["model"] for kind in ("params", "batch_stats")}


def constrain(
  segmenter: learning.Segmenter, start: learning.Parameters, free: learning.Parameters
) -> learning.Parameters:  # fmt: skip
  """Valid parameters from free ones, with the masses of those that learning started from.

  Probabilities have mass 1; logarithms of them that are expected ones, as inside the bound of variational learning,
  have less. Free parameters that are the start give the start.
  """
  found = learning.constrain(segmenter, free)

  def mass(log_probs: Float[Array, "... outcome"]) -> Float[Array, "... 1"]:
    return jax.nn.logsumexp(log_probs, axis=-1, keepdims=True)

  return found._replace(
    log_initial=found.log_initial + mass(start.log_initial),
    log_transitions=found.log_transitions + mass(start.log_transitions),
    emission=found.emission + mass(start.emission),
  )


def cut(
  stretch: Float[Array, "height time channel"], windows: int, shape: tuple[int, int, int]
) -> Float[Array, "window height time channel"]:
  """Windows of `shape` that lie end to end; a stretch has a row per device."""
  devices, time, channels = stretch.shape
  each = stretch.reshape(devices, windows, time // windows, channels)
  if devices > 1:
    return jnp.swapaxes(each, 0, 1)
  return each.reshape(windows, *shape)


def soft_codes(
  config: Config, outputs: Outputs, codes: Float[Array, "code dim"], softness: Float[Array, ""]
) -> Float[Array, "window row token code"]:
  """One-hot codes with the gradient of a softmax over the distances to all codes; see the top of this file.

  Distances are those of the latent vector from learned codes, and of its own code, straight-through, from fixed ones.
  """
  places = outputs.latents if learns_codes(config.quantizer) else outputs.codes
  if learns_codes(config.quantizer) and config.quantizer.cosine:
    places = vq.unit(places.reshape(-1, places.shape[-1])).reshape(places.shape)
  scores = (2 * places @ codes.T - jnp.sum(jnp.square(codes), axis=-1)[None, None, None]) / softness
  soft = jax.nn.softmax(scores)
  return jax.nn.one_hot(outputs.tokens, len(codes)) + soft - jax.lax.stop_gradient(soft)


def digits_table(levels: tuple[int, ...]) -> Float[np.ndarray, "code digit_level"]:
  """The value of each digit of every code, one-hot, side by side."""
  digits = digits_of(np.arange(np.prod(levels)), levels)
  return np.eye(max(levels), dtype=np.float32)[digits].reshape(len(digits), -1)


def gathering(codes: int, steps: int) -> Float[np.ndarray, "step code"]:
  """Which of the codes of a window are in which of its steps, as 0 and 1.

  >>> gathering(3, 2).tolist()
  [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]
  """
  edges = step_edges(codes, steps)
  places = np.arange(codes)[None]
  return ((places >= edges[:-1, None]) & (places < edges[1:, None])).astype(np.float64)


def _free(parameters: learning.Parameters) -> learning.Parameters:
  """The same as finite numbers: what is impossible by construction stays so whatever stands there."""
  return jax.tree.map(lambda a: jnp.where(jnp.isfinite(a), a, 0.0), parameters)
