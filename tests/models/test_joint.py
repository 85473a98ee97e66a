"""Encoder and syllables together: the likelihood is that of the codes, and its gradient reaches the encoder."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.config import Config, DataConfig, FinetuneConfig, ModelConfig, QuantizerConfig, SegmentationConfig
from behavejax.data.batches import Batch
from behavejax.errors import InputError
from behavejax.evaluation import tokens as tokens_lib
from behavejax.models import joint, syllables
from behavejax.models.autoencoder import Outputs, make_model
from behavejax.models.quantizer import make_quantizer
from behavejax.segmentation import learning
from tests.nets.weights import weights_key

SHAPE, WINDOWS, STEPS = (2, 16, 3), 3, 2


def config_of(**quantizer):
  return Config(
    data=DataConfig(window_s=1.0),
    model=ModelConfig(
      gains=(), widths=(8, 8), dilations=(), decoder_widths=(8,), classifier_hidden=8, classifier_dilations=(),
      dropout=0.0,
    ),
    quantizer=QuantizerConfig(**quantizer),
    segmentation=SegmentationConfig(states=4, durations="geometric"),
    finetune=FinetuneConfig(weight=0.5, softness=2.0, softness_end=0.5),
  )  # fmt: skip


VECTOR = {"name": "vq_ema", "num_codes": 6, "dim": 3}
GRID = {"name": "fsq", "levels": (4, 3)}


def syllables_of(rng, levels):
  """Four states as variational learning leaves them: logs of less than probabilities."""
  transitions = rng.dirichlet(np.ones(4), 4) * (1 - np.eye(4))
  emission = np.zeros((4, len(levels), max(levels)))
  for i, n in enumerate(levels):
    emission[:, i, :n] = rng.dirichlet(np.ones(n), 4)
  with np.errstate(divide="ignore"):
    logs = [np.log(0.9 * a, dtype=np.float32) for a in (rng.dirichlet(np.ones(4))[None], transitions[None], emission)]
  return learning.Parameters(*map(jnp.asarray, logs[:2]), jnp.zeros((4, 1)), jnp.asarray(logs[2]))


@functools.cache
def build(config, *, longest=5):
  model = make_model(config, shape=SHAPE, classes=2)
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 1, 2 * 16 * WINDOWS, 3)).astype(np.float32)
  batch = Batch(x, rng.integers(-1, 2, (2, WINDOWS)).astype(np.int32), np.ones(2, bool))
  encoder = jax.jit(model.init)(weights_key(), x.reshape(-1, *SHAPE))
  levels = make_quantizer(config.quantizer).levels
  counts = [rng.multinomial(4, np.ones(n) / n, size=40) for n in levels]
  counts = np.stack([np.pad(c, ((0, 0), (0, max(levels) - c.shape[1]))) for c in counts], axis=1).astype(np.float32)
  steps = syllables.Steps([counts], np.zeros(1, np.int32), levels, 2.0, 4.0)
  segmenter = syllables.make_segmenter(config.segmentation, steps)
  segmenter = segmenter._replace(duration_prior=segmenter.duration_prior[:longest])
  learned = syllables_of(rng, levels)
  made = joint.make_joint(config, model, segmenter, encoder, learned, shape=SHAPE, steps_per_window=STEPS, updates=10)
  variables = jax.jit(made.init)(weights_key(1), x)
  return model, made, variables, batch, (segmenter, levels, learned)


@pytest.mark.parametrize("quantizer", [VECTOR, GRID], ids=["vq", "fsq"])
def test_the_likelihood_is_that_of_the_codes(quantizer):
  model, made, variables, batch, (segmenter, levels, start) = build(config_of(**quantizer))
  found = jax.jit(made.score)(variables, batch)
  tokens = np.asarray(jax.jit(model.tokens)(joint.encoder_of(variables), batch.x.reshape(-1, *SHAPE)))
  flat = tokens.reshape(2 * WINDOWS, -1)
  bags = tokens_lib.bags_of(flat, np.ones(flat.size, bool), levels, steps=STEPS)
  bags = bags.reshape(2, WINDOWS * STEPS, len(levels), -1)
  whole = learning.Batch(jnp.asarray(bags), jnp.ones(bags.shape[:2], bool), jnp.zeros(2, jnp.int32))

  @jax.jit
  def evidence_of(free, whole):
    return learning.evidence(segmenter._replace(stationary=True), joint.constrain(segmenter, start, free), whole)

  evidence, steps = evidence_of(variables["params"]["syllables"], whole)
  np.testing.assert_allclose(found["log_likelihood"] / found["count"], evidence / steps, rtol=1e-4)
  assert found["count"] == 2 * WINDOWS
  alone = jax.jit(model.score)(
    joint.encoder_of(variables),
    Batch(batch.x.reshape(-1, *SHAPE), batch.y.reshape(-1), np.ones(2 * WINDOWS, bool)),
  )
  for name in ("correct", "reconstruction_mse", "cross_entropy"):
    np.testing.assert_allclose(found[name], alone[name], rtol=1e-4)
  np.testing.assert_allclose(found["loss"], alone["loss"] - 0.5 * found["log_likelihood"], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", [VECTOR, GRID], ids=["vq", "fsq"])
def test_its_gradient_reaches_encoder_and_syllables(quantizer):
  config = config_of(**quantizer)
  likelihood_alone = dataclasses.replace(
    config, loss=dataclasses.replace(config.loss, reconstruction=0.0, classification=0.0, quantization=0.0)
  )
  _, made, variables, batch, _ = build(likelihood_alone)
  keys = jax.random.split(jax.random.key(2), 2)

  @jax.jit
  @jax.grad
  def gradient(params):
    return jnp.mean(made.loss({**variables, "params": params}, batch, keys)[0])

  found = gradient(variables["params"])
  norms = {name: sum(float(jnp.sum(jnp.square(a))) for a in jax.tree.leaves(part))
           for name, part in (("encoder", found["model"]["encoder"]), ("syllables", found["syllables"]))}  # fmt: skip
  assert norms["encoder"] > 0
  assert norms["syllables"] > 0
  assert all(np.isfinite(a).all() for a in jax.tree.leaves(found))


def test_a_step_leaves_normalisation_and_running_codes_as_they_were():
  _, made, variables, batch, _ = build(config_of(**VECTOR))
  _, (stats, metrics) = jax.jit(made.loss)(variables, batch, jax.random.split(jax.random.key(2), 2))
  chex.assert_trees_all_equal(stats["model"], variables["batch_stats"]["model"])
  assert stats["updates"] == 1
  np.testing.assert_allclose(metrics["loss"], jax.jit(made.score)(variables, batch)["loss"], rtol=1e-5)


def test_soft_codes_are_hard_with_the_gradient_of_a_softmax():
  config = config_of(**VECTOR)
  rng = np.random.default_rng(1)
  codes, z = jnp.asarray(rng.normal(size=(6, 3)), jnp.float32), jnp.asarray(rng.normal(size=(2, 1, 4, 3)), jnp.float32)
  tokens = jnp.argmin(jnp.sum((z[..., None, :] - codes[None, None, None]) ** 2, axis=-1), axis=-1)
  weights = jnp.asarray(rng.normal(size=(2, 1, 4, 6)), jnp.float32)

  def outputs(z):
    return Outputs(tokens, z, z, None, None, None, None)

  np.testing.assert_allclose(joint.soft_codes(config, outputs(z), codes, 0.7), jax.nn.one_hot(tokens, 6), atol=1e-6)
  found = jax.jit(jax.grad(lambda z: jnp.sum(weights * joint.soft_codes(config, outputs(z), codes, 0.7))))(z)

  e, x, w = (np.asarray(a, np.float64) for a in (codes, z, weights))
  scores = -np.sum((x[..., None, :] - e) ** 2, axis=-1) / 0.7
  probs = np.exp(scores - scores.max(axis=-1, keepdims=True))
  probs /= probs.sum(axis=-1, keepdims=True)
  expected = (probs * (w - np.sum(probs * w, axis=-1, keepdims=True))) @ e * 2 / 0.7
  np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_softness_falls_with_the_updates():
  _, made, variables, batch, _ = build(config_of(**VECTOR))
  keys = jax.random.split(jax.random.key(2), 2)
  _, (stats, _) = jax.jit(made.loss)(variables, batch, keys)
  assert stats["updates"] == 1

  @jax.jit
  @jax.grad
  def gradient(params, updates):
    held = {"params": params, "batch_stats": {**variables["batch_stats"], "updates": updates}}
    return jnp.mean(made.loss(held, batch, keys)[0])

  first, last, later = (gradient(variables["params"], jnp.asarray(n, jnp.int32)) for n in (0, 10, 20))
  kernel = [g["model"]["encoder"]["projection"]["kernel"] for g in (first, last, later)]
  assert float(jnp.abs(kernel[0] - kernel[1]).max()) > 1e-6
  np.testing.assert_array_equal(kernel[1], kernel[2])


@pytest.mark.parametrize("quantizer", [VECTOR, GRID], ids=["vq", "fsq"])
def test_syllables_start_as_they_were_learned(quantizer):
  _, _, variables, _, (segmenter, _, start) = build(config_of(**quantizer))
  constrain = jax.jit(lambda free: joint.constrain(segmenter, start, free))
  found = constrain(variables["params"]["syllables"])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, start)
  assert float(jnp.exp(start.emission).sum(axis=-1).min()) < 0.99  # expected logs: not probabilities
  pushed = jax.tree.map(lambda a: a + jnp.sin(jnp.arange(a.size)).reshape(a.shape), variables["params"]["syllables"])
  moved = constrain(pushed)
  np.testing.assert_allclose(jnp.exp(moved.emission).sum(-1), jnp.exp(start.emission).sum(-1), rtol=1e-5)


def test_windows_are_cut_as_they_were_laid():
  stretch = jnp.arange(2 * 16 * WINDOWS * 3.0).reshape(1, -1, 3)
  windows = joint.cut(stretch, WINDOWS, SHAPE)
  np.testing.assert_array_equal(windows.reshape(-1, 3), stretch[0])
  two = jnp.stack([stretch[0], -stretch[0]])
  devices = joint.cut(two, WINDOWS, (2, 32, 3))
  assert devices.shape == (WINDOWS, 2, 32, 3)
  np.testing.assert_array_equal(devices[:, 0].reshape(-1, 3), stretch[0])
  np.testing.assert_array_equal(devices[:, 1], -devices[:, 0])


def test_digits_are_those_of_the_tokens():
  table = joint.digits_table((3, 2))
  assert table.shape == (6, 6)
  digits = tokens_lib.digits_of(np.arange(6), (3, 2))
  np.testing.assert_array_equal(table.reshape(6, 2, 3).argmax(axis=2), digits)
  edges = tokens_lib.step_edges(7, 3)
  np.testing.assert_array_equal(joint.gathering(7, 3).sum(axis=1), np.diff(edges))


def test_what_it_cannot_do_is_said():
  with pytest.raises(InputError, match="up to 4096 codes"):
    build(config_of(name="fsq", levels=(9, 9, 9, 9)))
