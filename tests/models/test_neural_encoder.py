"""The encoder's loss and scores beside NumPy, and what data sets share."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.evaluation import neural_metrics
from behavejax.models.neural_encoder import bits_per_spike, make_model, poisson_loss, poisson_sums
from tests.models.neural_models import SETS, SETTINGS, random_variables
from tests.nets.weights import weights_key


class Clips(NamedTuple):
  video: np.ndarray
  behaviour: np.ndarray
  spikes: np.ndarray
  mask: np.ndarray


def batch_of(number, *, batch=3, frames=7, seed=0):
  rng, data = np.random.default_rng(seed), SETS[number]
  neurons = len(data.mean_counts)
  return Clips(
    rng.normal(size=(batch, frames, *data.size, 1)).astype(np.float32),
    rng.normal(size=(batch, frames, data.signals)).astype(np.float32),
    rng.poisson(0.7, (batch, frames, neurons)).astype(np.float32),
    rng.random((batch, frames, neurons)) < 0.8,
  )


@pytest.fixture(scope="module")
def model():
  return make_model(SETTINGS, SETS)


@pytest.fixture(scope="module")
def variables(model):
  return random_variables(model)


def test_loss_equals_its_formula():
  rng = np.random.default_rng(0)
  rates, spikes, mask = rng.gamma(1.0, 1.0, (2, 5, 3)), rng.poisson(1.0, (2, 5, 3)), rng.random((2, 5, 3)) < 0.7
  expected = np.where(mask, rates - spikes * np.log(rates + 1e-8), 0)
  np.testing.assert_allclose(
    poisson_loss(jnp.asarray(rates), jnp.asarray(spikes), jnp.asarray(mask)), expected, atol=1e-5
  )


def test_bits_per_spike_from_sums_are_those_of_the_report():
  rng = np.random.default_rng(1)
  spikes, mask = rng.poisson(0.8, (4, 30, 5)).astype(np.float32), rng.random((4, 30, 5)) < 0.9
  spikes[..., 4] = 0
  rates = rng.gamma(4.0, 0.2, spikes.shape).astype(np.float32)
  halves = [poisson_sums(*(jnp.asarray(a[part]) for a in (rates, spikes, mask))) for part in (slice(2), slice(2, 4))]
  sums = {name: np.asarray(halves[0][name]) + np.asarray(halves[1][name]) for name in halves[0]}
  expected = neural_metrics.bits_per_spike(neural_metrics.score(rates, spikes, mask))
  np.testing.assert_allclose(bits_per_spike(sums), expected, rtol=1e-4, atol=1e-5)
  assert np.isnan(bits_per_spike(sums)[4])


@pytest.mark.parametrize("number", [0, 1])
def test_every_parameter_of_a_data_set_is_learned_and_no_other(model, variables, number):
  batch, keys = batch_of(number), jax.random.split(jax.random.key(0), 3)
  params = dict(variables["params"])
  gradient = jax.jit(jax.grad(lambda p: jnp.mean(model.loss({"params": p}, batch, keys, number)[0])))(params)
  norms = {name: float(sum(jnp.sum(jnp.abs(g)) for g in jax.tree.leaves(part))) for name, part in gradient.items()}
  for name in ("core", "modulator", f"readout_{number}", f"behaviour_{number}"):
    assert norms[name] > 0, name
  for name in (f"readout_{1 - number}", f"behaviour_{1 - number}"):
    assert norms[name] == 0, name


def test_every_parameter_can_be_saved(model):
  shapes = jax.eval_shape(model.init, jax.random.key(0))["params"]
  assert all(leaf.size for leaf in jax.tree.leaves(shapes))  # Orbax refuses arrays of size 0
  assert set(shapes["behaviour_0"]) == {"kernel", "bias"}
  assert set(shapes["behaviour_1"]) == {"bias"}


def test_masked_counts_and_their_values_do_not_matter(model, variables):
  batch, keys = batch_of(0), jax.random.split(jax.random.key(0), 3)
  loss = jax.jit(lambda spikes: model.loss(variables, batch._replace(spikes=spikes), keys, 0))
  losses, (_, metrics) = loss(batch.spikes)
  changed, (_, other) = loss(np.where(batch.mask, batch.spikes, 99.0).astype(np.float32))
  np.testing.assert_array_equal(losses, changed)
  assert float(metrics["counted"]) == batch.mask.sum()
  assert float(metrics["spikes"]) == float(other["spikes"]) == (batch.spikes * batch.mask).sum()
  assert float(metrics["loss"]) == pytest.approx(float(losses.sum()) * 7 * 3, rel=1e-5)


def test_no_prediction_knows_a_later_frame_or_behaviour_to_the_bit(model, variables):
  batch = batch_of(0)
  rates = jax.jit(lambda video, behaviour: model.rates(variables, video, behaviour, 0))
  base = rates(batch.video, batch.behaviour)
  later = (np.arange(7) > 3).astype(np.float32)
  found = rates(batch.video + later.reshape(1, 7, 1, 1, 1), batch.behaviour + later.reshape(1, 7, 1))
  np.testing.assert_array_equal(found[:, :4], base[:, :4])
  assert np.abs(found[:, 5:] - base[:, 5:]).max() > 1e-4


def test_randomness_belongs_to_the_example(model, variables):
  batch, keys = batch_of(0), jax.random.split(jax.random.key(5), 3)
  loss = jax.jit(lambda batch, keys: model.loss(variables, batch, keys, 0)[0])
  turned = loss(Clips(*(a[::-1] for a in batch)), keys[::-1])
  np.testing.assert_allclose(turned[::-1], loss(batch, keys), rtol=1e-5)


def test_convolutional_core_has_the_same_interface():
  model = make_model(dataclasses.replace(SETTINGS, core="conv3d", modulator=False, readout="sampling"), SETS)
  variables = random_variables(model)
  batch = batch_of(1)
  rates = jax.jit(lambda video: model.rates(variables, video, batch.behaviour, 1))(batch.video)
  assert rates.shape == (3, 7, 1)
  assert np.isfinite(rates).all()


def test_readouts_begin_where_they_are_told(model):
  params = jax.jit(model.init)(weights_key())["params"]
  np.testing.assert_allclose(params["readout_0"]["mean"], 0)
  np.testing.assert_allclose(params["readout_1"]["mean"], [[(2 - 2.5) / 3, (3 - 4.5) / 5]], rtol=1e-6)
