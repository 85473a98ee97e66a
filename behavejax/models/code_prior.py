"""The prior over grids of codes: learned by teacher forcing, drawn from code by code."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from behavejax.config import PriorConfig
from behavejax.models.sampling import draw
from behavejax.nets.prior import Prior
from behavejax.types import Key, Metrics, Variables

_LABEL_DROPOUT = 1 << 19  # child of an example's key; the network takes small numbers


class CodePrior(NamedTuple):
  """Pure functions of variables and arrays.

  Attributes:
    init: `(key, codes) -> variables`.
    loss: `(variables, batch, keys) -> (loss per example, (batch statistics, metrics))`; `batch.x` holds grids of
      codes, `batch.y` their classes, -1 where unknown. Metrics are sums over examples with an entry "count".
    score: `(variables, batch) -> metrics`, deterministic: "nats" per code without the class, "nats_given_class".
    log_probs: `(variables, codes, labels) -> log probability of every code of a grid given those before it`, in nats.
    sample: `(variables, keys, labels, temperature) -> codes`, one grid per key; the same key draws the same grid in
      whatever company.
    sample_plainly: the same grids without a memory: every code runs the network over the whole sequence.
    summarize: sums of metrics -> what is logged.
  """

  init: Callable[[Key, Array], Variables]
  loss: Callable[[Variables, Any, Key], tuple[Array, tuple[Variables, Metrics]]]
  score: Callable[[Variables, Any], Metrics]
  log_probs: Callable[[Variables, Array, Array], Array]
  sample: Callable[..., Array]
  sample_plainly: Callable[..., Array]
  summarize: Callable[[dict[str, np.ndarray]], dict[str, float]]


def raster(grid: tuple[int, ...]) -> Int[np.ndarray, " position"]:
  """Row by row."""
  return np.arange(np.prod(grid, dtype=int))


def columns(grid: tuple[int, ...]) -> Int[np.ndarray, " position"]:
  """Column by column: the first axis fastest.

  >>> columns((2, 3)).tolist()
  [0, 3, 1, 4, 2, 5]
  """
  return raster(grid).reshape(grid).T.ravel()


def snake(grid: tuple[int, ...]) -> Int[np.ndarray, " position"]:
  """Row by row, every second one backwards, so that neighbours in the sequence touch.

  >>> snake((2, 3)).tolist()
  [0, 1, 2, 5, 4, 3]
  """
  places = raster(grid).reshape(grid)
  for axis in range(1, len(grid)):
    turned = np.indices(grid[:axis]).sum(0) % 2 == 1
    places[turned] = np.flip(places[turned], axis=1)
  return places.ravel()


def coarse(grid: tuple[int, ...]) -> Int[np.ndarray, " position"]:
  """Coarse to fine: every place whose coordinates are all multiples of a power of two before those that are not.

  >>> coarse((4, 4)).tolist()[:4]
  [0, 2, 8, 10]
  """
  at = np.indices(grid).reshape(len(grid), -1)
  together = functools.reduce(np.bitwise_or, at)
  power = np.where(together == 0, 1 << 30, together & -together)
  return np.lexsort((raster(grid), -power))


ORDERS: dict[str, Callable[[tuple[int, ...]], Int[np.ndarray, " position"]]] = {
  "raster": raster,
  "columns": columns,
  "snake": snake,
  "coarse": coarse,
}
"""In which order a grid is filled: flat places by position. By `config.prior.order`."""


def make_prior(
  config: PriorConfig,
  *,
  grid: tuple[int, ...],
  num_codes: int,
  classes: int,
  order: Int[np.ndarray, " position"] | None = None,
) -> CodePrior:
  """Builds the prior's functions.

  Args:
    config: of the network and of drawing.
    grid: shape of the grid of codes of one sample.
    num_codes: size of the codebook.
    classes: of the samples; 0 for none. They are given to the prior if `config.conditional`.
    order: flat places of the grid as they are filled, instead of `config.order`.
  """
  order = ORDERS[config.order](grid) if order is None else np.asarray(order)
  known = classes if config.conditional else 0
  places = np.stack(np.unravel_index(order, grid), axis=1)
  network = Prior(
    num_codes, known, tuple(map(tuple, places.tolist())), config.width, config.layers, config.heads, config.dropout
  )
  length, back = len(order), np.argsort(order)

  def sequence(codes: Int[Array, "batch *axis"]) -> Int[Array, "batch position"]:
    return codes.reshape(len(codes), -1)[:, order]

  def shifted(codes: Int[Array, "batch position"]) -> Int[Array, "batch position"]:
    return jnp.pad(codes[:, :-1], ((0, 0), (1, 0)))

  def labelled(labels: Int[Array, " batch"]) -> Int[Array, " batch"]:
    return labels if known else jnp.full_like(labels, -1)

  def scores(variables: Variables, codes: Array, labels: Array, keys: Key | None = None) -> Array:
    """Of the codes of sequences."""
    return network.apply({"params": variables["params"]}, shifted(codes), labelled(labels), keys=keys)[0]

  def init(key: Key, codes: Array) -> Variables:
    return network.init(key, sequence(codes)[:1], jnp.full(1, -1))

  def loss(variables: Variables, batch: Any, keys: Key) -> tuple[Array, tuple[Variables, Metrics]]:
    codes = sequence(batch.x)
    hidden = jax.vmap(lambda k: jax.random.bernoulli(jax.random.fold_in(k, _LABEL_DROPOUT), config.label_dropout))(keys)
    logits = scores(variables, codes, jnp.where(hidden, -1, batch.y), keys)
    smooth = optax.smooth_labels(jax.nn.one_hot(codes, num_codes), config.label_smoothing)
    mask = batch.mask.astype(jnp.float32)
    value = jnp.mean(optax.softmax_cross_entropy(logits, smooth), axis=1) * mask
    nats = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, codes), axis=1)
    right = jnp.mean(logits.argmax(-1) == codes, axis=1)
    sums = {"count": mask.sum(), "loss": value.sum(), "nats": jnp.sum(nats * mask), "right": jnp.sum(right * mask)}
    return value, ({}, sums)

  def score(variables: Variables, batch: Any) -> Metrics:
    codes, mask = sequence(batch.x), batch.mask.astype(jnp.float32)
    totals = {"count": mask.sum()}
    for name, labels in (("nats", jnp.full_like(batch.y, -1)), ("nats_given_class", batch.y))[: 2 if known else 1]:
      logits = scores(variables, codes, labels)
      nats = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, codes), axis=1)
      totals[name] = jnp.sum(nats * mask)
    right = jnp.mean(logits.argmax(-1) == codes, axis=1)
    return totals | {"right": jnp.sum(right * mask), "loss": totals[name]}

  def log_probs(variables: Variables, codes: Array, labels: Array) -> Float[Array, "batch *axis"]:
    own = sequence(codes)
    nats = -optax.softmax_cross_entropy_with_integer_labels(scores(variables, own, labels), own)
    return nats[:, back].reshape(codes.shape)

  def fill(choose: Callable[[Any, Array, Array], tuple[Any, Array]], state: Any, batch: int) -> Array:
    """Draws position after position; `choose` takes what it remembers, the last code and the position."""

    def step(carry: tuple[Any, Array], position: Array) -> tuple[tuple[Any, Array], Array]:
      state, code = choose(*carry, position)
      return (state, code), code

    _, codes = jax.lax.scan(step, (state, jnp.zeros(batch, jnp.int32)), jnp.arange(length))
    return codes.T[:, back].reshape(batch, *grid)

  def drawn(logits: Array, keys: Key, position: Array, temperature: Array | float) -> Array:
    own = jax.vmap(lambda key: jax.random.fold_in(key, position))(keys)
    return draw(logits, own, temperature=temperature, top_k=config.top_k, top_p=config.top_p)

  def sample(
    variables: Variables, keys: Key, labels: Int[Array, " batch"], temperature: Float[Array, ""] | float = 1.0
  ) -> Int[Array, "batch *axis"]:
    params, who = {"params": variables["params"]}, labelled(labels)

    def choose(memory: Any, last: Array, position: Array) -> tuple[Any, Array]:
      logits, memory = network.apply(params, last[:, None], who, start=position, memory=memory)
      return memory, drawn(logits[:, 0], keys, position, temperature)

    return fill(choose, network.empty_memory(len(labels)), len(labels))

  def sample_plainly(
    variables: Variables, keys: Key, labels: Int[Array, " batch"], temperature: Float[Array, ""] | float = 1.0
  ) -> Int[Array, "batch *axis"]:
    def choose(so_far: Array, last: Array, position: Array) -> tuple[Array, Array]:
      del last
      logits = jax.lax.dynamic_index_in_dim(scores(variables, so_far, labels), position, axis=1, keepdims=False)
      code = drawn(logits, keys, position, temperature)
      return so_far.at[:, position].set(code), code

    return fill(choose, jnp.zeros((len(labels), length), jnp.int32), len(labels))

  def summarize(totals: dict[str, np.ndarray]) -> dict[str, float]:
    values = {name: float(total / totals["count"]) for name, total in totals.items() if name != "count"}
    found = {"loss": values["loss"], "right": values["right"], "bits_per_code": values["nats"] / np.log(2)}
    if "nats_given_class" in values:
      found["bits_per_code_given_class"] = values["nats_given_class"] / np.log(2)
    return found

  return CodePrior(init, loss, score, log_probs, sample, sample_plainly, summarize)


def unigram_bits(
  train: Int[np.ndarray, "sample *axis"], held_out: Int[np.ndarray, "sample *axis"], *, num_codes: int
) -> float:
  """Bits per held-out code under the frequencies of the training codes, one added to every count.

  >>> round(unigram_bits(np.array([[0, 0, 0, 1, 1]]), np.array([[0, 1]]), num_codes=2), 3)
  1.015
  """
  counts = np.bincount(train.ravel(), minlength=num_codes) + 1.0
  return float(-np.mean(np.log2(counts / counts.sum())[held_out.ravel()]))


def keys_of(seed: int, count: int) -> Key:
  """A key for each of `count` samples; more samples continue the same keys."""
  return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(jnp.arange(count))
