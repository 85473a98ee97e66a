"""The classifier of samples as a model to train; its features are the space in which generated samples are judged."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from behavejax.nets.classifier import SampleClassifier
from behavejax.types import Key, Metrics, Variables


class Features(NamedTuple):
  """Pure functions of variables and arrays, as of other models; `apply` gives class scores and features."""

  init: Callable[[Key, Array], Variables]
  apply: Callable[[Variables, Array], tuple[Array, Array]]
  loss: Callable[[Variables, Any, Key], tuple[Array, tuple[Variables, Metrics]]]
  score: Callable[[Variables, Any], Metrics]
  summarize: Callable[[dict[str, np.ndarray]], dict[str, float]]


def make_classifier(*, classes: int, width: int, axis_name: str | None = None) -> Features:
  """Cross entropy over `classes`; samples without a label count nowhere."""
  network = SampleClassifier(classes, width, axis_name=axis_name)

  def init(key: Key, x: Array) -> Variables:
    return network.init(key, x[:1], train=False)

  def apply(variables: Variables, x: Array) -> tuple[Array, Array]:
    return network.apply(variables, x, train=False)

  def sums(logits: Array, batch: Any) -> tuple[Array, Metrics]:
    known = batch.mask & (batch.y >= 0)
    y = jnp.where(known, batch.y, 0)
    value = jnp.where(known, optax.softmax_cross_entropy_with_integer_labels(logits, y), 0.0)
    right = known & (logits.argmax(-1) == y)
    return value, {
      "count": batch.mask.sum().astype(jnp.float32),
      "labelled": known.sum().astype(jnp.float32),
      "loss": value.sum(),
      "correct": right.sum().astype(jnp.float32),
    }

  def loss(variables: Variables, batch: Any, keys: Key) -> tuple[Array, tuple[Variables, Metrics]]:
    del keys
    (logits, _), changed = network.apply(variables, batch.x, train=True, mutable=["batch_stats"])
    value, metrics = sums(logits, batch)
    return value, (changed["batch_stats"], metrics)

  def score(variables: Variables, batch: Any) -> Metrics:
    return sums(apply(variables, batch.x)[0], batch)[1]

  def summarize(totals: dict[str, np.ndarray]) -> dict[str, float]:
    labelled = max(float(totals["labelled"]), 1.0)
    return {"loss": float(totals["loss"]) / labelled, "accuracy": float(totals["correct"]) / labelled}

  return Features(init, apply, loss, score, summarize)
