"""Quantization-aware fine-tuning: the static graph under 8-bit arithmetic, taught by the model it came from.

The student has the folded weights of the trained model, rounded as a converter rounds them; its ranges are those of
the calibration windows. The loss of a window is the divergence of its class probabilities from the teacher's, and the
squared distance of its latent vectors, so that unlabelled recordings serve as well:

  KL(softmax teacher || softmax student) + mean |z_student - z_teacher|^2
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from behavejax.config import Config
from behavejax.data.windows import Windows
from behavejax.export import fake_quant, run_jax
from behavejax.export.graph import Graph, quantizer_of
from behavejax.export.trained import Trained, load_trained
from behavejax.models.quantizer import make_quantizer, tokens_of
from behavejax.nets.conv2d import amplify
from behavejax.quantizers import usage
from behavejax.training import loop
from behavejax.types import Key, Metrics, Variables
from behavejax.workdir import Workdir


class Student(NamedTuple):
  """What training takes of a model; see `behavejax.models.autoencoder.Model`."""

  init: Callable[[Key, Array], Variables]
  loss: Callable[[Variables, Any, Key], tuple[Array, tuple[Variables, Metrics]]]
  score: Callable[[Variables, Any], Metrics]


def fit(config: Config, workdir: Workdir) -> run_jax.Parameters:
  """Fine-tunes the encoder of a run; returns weights and biases of the graph's nodes.

  Raises:
    InputError: the encoder is not complete, or cannot be exported.
    loop.Stopped: SIGTERM arrived; everything is saved.
  """
  trained = load_trained(workdir, config)
  settings = config.qat
  train = dataclasses.replace(
    config.train, epochs=settings.epochs, steps=settings.steps, learning_rate=settings.learning_rate,
    evaluations=settings.evaluations, schedule="warmup_cosine", weight_decay=0.0, patience=0,
  )  # fmt: skip
  limits = fake_quant.ranges(trained.graph, trained.calibration)

  def build(config: Config, data: Windows, *, axis_name: str | None = None) -> Student:
    del config, data, axis_name  # nothing in a graph depends on other examples
    return make_student(trained, limits)

  return loop.fit(
    dataclasses.replace(config, train=train), trained.data, workdir.stage("qat"), workdir.metrics_file,
    stage="qat", build=build, rank=lambda values, _: -values["val/loss"],
  )["params"]  # fmt: skip


def make_student(trained: Trained, limits: fake_quant.Ranges) -> Student:
  """The graph under 8-bit arithmetic as a model, whose loss is its distance from the teacher."""
  gains, scale = trained.config.model.gains, trained.input_scale
  config, num_codes = trained.config.quantizer, make_quantizer(trained.config.quantizer).num_codes
  codebook = quantizer_of(trained.graph).codebook
  graph = _with_latents(trained.graph)

  def outputs(params: Variables, x: Array) -> dict[str, Array]:
    return fake_quant.run(graph, params, _inputs(x), limits)

  def _inputs(x: Array) -> Array:
    return amplify(x, gains=gains) / scale.reshape(1, 1, 1, -1)

  def losses(variables: Variables, batch: Any) -> tuple[Array, Metrics, Array]:
    student = outputs(variables["params"], batch.x)
    teacher = jax.lax.stop_gradient(run_jax.run(graph, _inputs(batch.x)))
    wanted = jax.nn.log_softmax(teacher["logits"])
    divergence = jnp.sum(jnp.exp(wanted) * (wanted - jax.nn.log_softmax(student["logits"])), axis=-1)
    distance = jnp.mean(jnp.square(student["latents"] - teacher["latents"]), axis=(1, 2, 3))
    mask = batch.mask.astype(jnp.float32)
    total = (divergence + distance) * mask
    labelled = batch.mask & (batch.y >= 0)
    predicted = student["logits"].argmax(-1)
    truth = jnp.where(labelled, batch.y, 0)
    log_probs = jnp.take_along_axis(jax.nn.log_softmax(student["logits"]), truth[:, None], axis=1)[:, 0]
    square = jnp.sum(jnp.square(student["latents"]) * mask[:, None, None, None], axis=(0, 1, 2))
    metrics = {
      "count": mask.sum(),
      "loss": total.sum(),
      "agreement": jnp.sum((predicted == teacher["logits"].argmax(-1)) * mask),
      "labelled": labelled.sum().astype(jnp.float32),
      "cross_entropy": -jnp.sum(jnp.where(labelled, log_probs, 0.0)),
      "correct": jnp.sum(labelled & (predicted == batch.y)).astype(jnp.float32),
      "codes": usage.histogram(tokens_of(config, student["codes"], codebook), num_codes=num_codes, mask=batch.mask),
      "latent_square": square / np.prod(student["latents"].shape[1:3]),
    }
    return total, metrics, predicted

  def loss(variables: Variables, batch: Any, keys: Key) -> tuple[Array, tuple[Variables, Metrics]]:
    del keys
    total, metrics, _ = losses(variables, batch)
    return total, ({}, metrics)

  def score(variables: Variables, batch: Any) -> Metrics:
    _, metrics, predicted = losses(variables, batch)
    labelled = batch.mask & (batch.y >= 0)
    classes = trained.variables["params"]["classifier"]["logits"]["bias"].size
    confusion = jnp.zeros((classes, classes), jnp.float32).at[jnp.where(labelled, batch.y, 0), predicted].add(labelled)
    return {**metrics, "confusion": confusion}

  def init(key: Key, x: Array) -> Variables:
    del key, x
    return {"params": jax.tree.map(jnp.asarray, run_jax.parameters(graph)), "batch_stats": {}}

  return Student(init, loss, score)


def _with_latents(graph: Graph) -> Graph:
  return graph._replace(outputs={**graph.outputs, "latents": "latents"})
