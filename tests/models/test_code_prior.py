"""The prior against NumPy and itself: what a position sees, losses, orders, and drawing with and without a memory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.config import PriorConfig
from behavejax.data.batches import Batch
from behavejax.models.code_prior import ORDERS, keys_of, make_prior, unigram_bits
from tests.nets.weights import weights_key

CONFIG = PriorConfig(width=16, layers=2, heads=2, dropout=0.0, label_smoothing=0.1, label_dropout=0.0)
GRID, CODES, CLASSES = (3, 4), 7, 3


def shaken(variables):
  """Away from the start, where all codes are alike."""
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda a: a + 0.4 * jnp.asarray(rng.normal(size=a.shape), a.dtype), variables)


@pytest.fixture(scope="module")
def setup():
  model = make_prior(CONFIG, grid=GRID, num_codes=CODES, classes=CLASSES)
  rng = np.random.default_rng(0)
  codes = rng.integers(0, CODES, (5, *GRID)).astype(np.int32)
  variables = jax.jit(model.init)(weights_key(), codes)
  variables = shaken(variables)
  batch = Batch(codes, np.array([0, 1, 2, -1, 1], np.int32), np.array([1, 1, 1, 1, 0], bool))
  return model, variables, batch, jax.jit(model.log_probs)


@pytest.mark.parametrize("name", sorted(ORDERS))
@pytest.mark.parametrize("grid", [(5,), (3, 4), (4, 4), (2, 3, 4)])
def test_orders_visit_every_place_once(name, grid):
  order = ORDERS[name](grid)
  assert sorted(order.tolist()) == list(range(np.prod(grid)))
  if name == "snake":
    at = np.stack(np.unravel_index(order, grid), axis=1)
    assert (np.abs(np.diff(at, axis=0)).sum(1) == 1).all()


@pytest.mark.parametrize("name", ["raster", "coarse"])
def test_a_code_is_scored_from_those_before_it_alone(setup, name):
  _, variables, batch, _ = setup
  order = ORDERS[name](GRID)
  model = make_prior(dataclasses.replace(CONFIG, order=name), grid=GRID, num_codes=CODES, classes=CLASSES)
  log_probs = jax.jit(model.log_probs)
  base = np.asarray(log_probs(variables, batch.x, batch.y)).reshape(5, -1)[:, order]
  for position in (0, 5, 11):
    changed = batch.x.reshape(5, -1).copy()
    changed[:, order[position]] = (changed[:, order[position]] + 1) % CODES
    now = np.asarray(log_probs(variables, changed.reshape(batch.x.shape), batch.y)).reshape(5, -1)[:, order]
    np.testing.assert_allclose(now[:, :position], base[:, :position], atol=1e-5)
    assert (np.abs(now[:, position:] - base[:, position:]) > 1e-5).mean() > 0.9


def test_probabilities_of_all_grids_sum_to_one():
  """Every one of the 2 ** 6 grids, and of the classes."""
  model = make_prior(CONFIG, grid=(2, 3), num_codes=2, classes=2, order=np.array([4, 0, 2, 5, 1, 3]))
  codes = np.stack(np.unravel_index(np.arange(64), (2,) * 6), axis=1).reshape(64, 2, 3).astype(np.int32)
  variables = jax.jit(model.init)(weights_key(3), codes)
  variables = shaken(variables)
  log_probs = jax.jit(model.log_probs)
  for label in (-1, 0, 1):
    values = np.asarray(log_probs(variables, codes, np.full(64, label)), np.float64)
    np.testing.assert_allclose(np.exp(values.sum((1, 2))).sum(), 1.0, rtol=1e-4)


def test_loss_and_metrics_equal_numpy(setup):
  model, variables, batch, log_probs = setup
  keys = jax.random.split(jax.random.key(0), 5)
  value, (_, sums) = jax.jit(model.loss)(variables, batch, keys)
  nats = -np.asarray(log_probs(variables, batch.x, batch.y)).reshape(5, -1).mean(1)
  np.testing.assert_allclose(sums["nats"], nats[batch.mask].sum(), rtol=1e-5)
  # the smoothed loss needs the scores of all codes: those of the other codes at each position, one after the other
  mean_of_all = np.zeros(5)
  for position in range(12):
    for code in range(CODES):
      other = batch.x.reshape(5, -1).copy()
      other[:, position] = code
      found = np.asarray(log_probs(variables, other.reshape(batch.x.shape), batch.y)).reshape(5, -1)[:, position]
      mean_of_all += found / (12 * CODES)
  np.testing.assert_allclose(value, (0.9 * nats - 0.1 * mean_of_all) * batch.mask, rtol=1e-4)
  scored = jax.jit(model.score)(variables, batch)
  np.testing.assert_allclose(scored["nats_given_class"], nats[batch.mask].sum(), rtol=1e-5)
  hidden = -np.asarray(log_probs(variables, batch.x, np.full(5, -1, np.int32))).reshape(5, -1).mean(1)
  np.testing.assert_allclose(scored["nats"], hidden[batch.mask].sum(), rtol=1e-5)
  assert abs(scored["nats"] - scored["nats_given_class"]) > 1e-3
  values = model.summarize(jax.tree.map(np.asarray, scored))
  np.testing.assert_allclose(values["bits_per_code"], hidden[batch.mask].mean() / np.log(2), rtol=1e-5)


def test_hidden_classes_are_those_of_the_keys(setup):
  _, variables, batch, log_probs = setup
  model = make_prior(
    dataclasses.replace(CONFIG, label_dropout=0.5, label_smoothing=0.0), grid=GRID, num_codes=CODES, classes=CLASSES
  )
  loss = jax.jit(model.loss)
  values = np.stack([loss(variables, batch, jax.random.split(jax.random.key(i), 5))[0] for i in range(12)])
  known, unknown = (
    -np.asarray(log_probs(variables, batch.x, labels)).reshape(5, -1).mean(1)
    for labels in (batch.y, np.full(5, -1, np.int32))
  )
  is_known, is_unknown = (np.isclose(values, np.where(batch.mask, v, 0.0), rtol=1e-4) for v in (known, unknown))
  assert (is_known | is_unknown).all()
  for row in (0, 1, 2):
    assert 0 < is_known[:, row].sum() < 12


def test_dropout_is_of_training_alone(setup):
  _, variables, batch, _ = setup
  model = make_prior(dataclasses.replace(CONFIG, dropout=0.5), grid=GRID, num_codes=CODES, classes=CLASSES)
  keys = jax.random.split(jax.random.key(0), 5)
  loss = jax.jit(model.loss)
  assert (loss(variables, batch, keys)[0] == loss(variables, batch, keys)[0]).all()
  other = jax.random.split(jax.random.key(1), 5)
  assert not np.allclose(loss(variables, batch, keys)[0], loss(variables, batch, other)[0], rtol=1e-3)
  scored = (jax.jit(m.score)(variables, batch)["nats"] for m in (model, setup[0]))
  np.testing.assert_allclose(*scored, rtol=1e-5)


@pytest.mark.parametrize(
  ("changes", "temperature"), [({}, 1.0), ({}, 0.0), ({"top_k": 3}, 0.7), ({"top_p": 0.8, "order": "coarse"}, 1.3)]
)
def test_memory_changes_no_token(setup, changes, temperature):
  _, variables, _, _ = setup
  model = make_prior(dataclasses.replace(CONFIG, **changes), grid=GRID, num_codes=CODES, classes=CLASSES)
  keys, labels = keys_of(1, 16), np.arange(16) % 4 - 1
  quick, plain = (
    np.asarray(jax.jit(f)(variables, keys, labels, temperature)) for f in (model.sample, model.sample_plainly)
  )
  np.testing.assert_array_equal(quick, plain)
  if temperature:
    assert len(np.unique(quick.reshape(16, -1), axis=0)) > 8


def test_a_sample_depends_on_its_key_alone(setup):
  model, variables, _, _ = setup
  sample = jax.jit(model.sample)
  labels = np.arange(8) % 3
  many = sample(variables, keys_of(5, 8), labels)
  np.testing.assert_array_equal(sample(variables, keys_of(5, 3), labels[:3]), many[:3])
  np.testing.assert_array_equal(sample(variables, keys_of(5, 8), labels), many)
  assert not np.array_equal(sample(variables, keys_of(6, 8), labels), many)


def test_draws_follow_the_probabilities():
  """Frequencies of 20 000 grids of two codes beside their probabilities."""
  model = make_prior(CONFIG, grid=(2,), num_codes=3, classes=0)
  codes = np.stack(np.unravel_index(np.arange(9), (3, 3)), axis=1).astype(np.int32)
  variables = jax.jit(model.init)(weights_key(3), codes)
  variables = shaken(variables)
  expected = np.exp(np.asarray(jax.jit(model.log_probs)(variables, codes, np.full(9, -1))).sum(1))
  drawn = np.asarray(jax.jit(model.sample)(variables, keys_of(0, 20_000), np.full(20_000, -1)))
  found = np.bincount(drawn @ [3, 1], minlength=9) / 20_000
  assert expected.max() - expected.min() > 0.05
  assert (np.abs(found - expected) < 5 * np.sqrt(expected / 20_000)).all()


def test_unigram_bits_equal_numpy():
  rng = np.random.default_rng(0)
  train, held_out = rng.integers(0, 5, (40, 2, 3)), rng.integers(0, 6, (20, 2, 3))
  counts = np.array([(train == k).sum() for k in range(6)]) + 1
  expected = -np.mean([np.log2(counts[c] / counts.sum()) for c in held_out.ravel()])
  np.testing.assert_allclose(unigram_bits(train, held_out, num_codes=6), expected)
