"""The loss against NumPy and SciPy, schedules, free bits, masks, and what tells of a collapse."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from behavejax.config import VaeConfig
from behavejax.data.batches import Batch
from behavejax.models.vae import Posterior, beta_at, divergence, make_vae, neighbourhoods
from tests.nets.weights import weights_key

CONFIG = VaeConfig(widths=(4, 6), halvings=1, dim=3, beta=0.3, schedule="constant")
SHAPE = (6, 6, 1)
MEAN, STD, PEAK = np.array([40.0], np.float32), np.array([30.0], np.float32), 255.0


@pytest.fixture(scope="module")
def setup():
  rng = np.random.default_rng(0)
  x = ((rng.integers(0, 256, (5, *SHAPE)) - MEAN) / STD).astype(np.float32)
  model = make_vae(CONFIG, shape=SHAPE, normalization=(MEAN, STD), peak=PEAK)
  variables = jax.jit(model.init)(weights_key(), x)
  return model, variables, Batch(x, np.zeros(5, np.int32), np.array([1, 1, 1, 1, 0], bool))


def test_divergence_equals_the_integral():
  mean, std = 0.7, 0.4
  q, p = stats.norm(mean, std), stats.norm(0, 1)
  expected, _ = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -5, 5)
  found = divergence(Posterior(jnp.full((1, 1), mean), jnp.full((1, 1), np.log(std))))
  np.testing.assert_allclose(found[0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["mse", "l1", "bernoulli"])
def test_score_equals_numpy(setup, kind):
  _, variables, batch = setup
  model = make_vae(dataclasses.replace(CONFIG, reconstruction=kind), shape=SHAPE, normalization=(MEAN, STD), peak=PEAK)
  mean, log_std = jax.tree.map(np.asarray, model.encode(variables, batch.x))
  y = np.asarray(model.decode(variables, mean))
  if kind == "bernoulli":
    target, share = ((a * STD + MEAN) / PEAK for a in (batch.x, y))
    assert ((share > 0) & (share < 1)).all()
    error = -(target * np.log(share) + (1 - target) * np.log1p(-share))
  else:
    error = (y - batch.x) ** 2 if kind == "mse" else np.abs(y - batch.x)
  kl = 0.5 * (mean**2 + np.exp(2 * log_std) - 1) - log_std
  total = error.mean((1, 2, 3)) + 0.3 * kl.sum((1, 2, 3)) / 36
  scored = jax.tree.map(np.asarray, model.score(variables, batch))
  np.testing.assert_allclose(scored["loss"], total[batch.mask].sum(), rtol=1e-4)
  np.testing.assert_allclose(scored["reconstruction_mse"], ((y - batch.x) ** 2).mean((1, 2, 3))[:4].sum(), rtol=1e-4)
  np.testing.assert_allclose(scored["divergence"], kl[:4].sum(), rtol=1e-4)
  values = model.summarize(scored)
  np.testing.assert_allclose(values["divergence_bits"], kl[:4].sum() / 4 / np.log(2), rtol=1e-4)
  by_dimension = kl[:4].mean((0, 1, 2)) / np.log(2)
  np.testing.assert_allclose([values[f"divergence_bits/{i}"] for i in range(3)], by_dimension, rtol=1e-4)
  assert values["active_units"] == np.sum(mean[:4].reshape(-1, 3).var(0) > 0.01)


def test_masked_rows_change_nothing(setup):
  model, variables, batch = setup
  rows = jax.tree.map(lambda a: a[:4], batch)
  for name, value in model.score(variables, batch).items():
    np.testing.assert_allclose(model.score(variables, rows)[name], value, rtol=1e-5, err_msg=name)


def test_free_bits_cost_nothing(setup):
  _, variables, batch = setup
  free = make_vae(dataclasses.replace(CONFIG, free_bits=1e3), shape=SHAPE).score(variables, batch)
  paid = make_vae(CONFIG, shape=SHAPE).score(variables, batch)
  np.testing.assert_allclose(free["loss"], free["reconstruction"], rtol=1e-6)
  np.testing.assert_allclose(paid["loss"] - paid["reconstruction"], 0.3 * paid["divergence"] / 36, rtol=1e-3)


def test_training_draws_by_the_keys_of_the_samples(setup):
  model, variables, batch = setup
  loss = jax.jit(model.loss)
  keys = jax.random.split(jax.random.key(1), 5)
  value, (stats, metrics) = loss(variables, batch, keys)
  again, _ = loss(variables, batch, keys)
  np.testing.assert_array_equal(value, again)
  assert value[4] == 0
  assert stats["updates"] == 1
  other, _ = loss(variables, batch, jax.random.split(jax.random.key(2), 5))
  assert not np.allclose(value[:4], other[:4], rtol=1e-4)
  np.testing.assert_allclose(metrics["loss"], value.sum(), rtol=1e-6)


def test_beta_rises_as_told():
  steps = np.arange(101)
  linear = dataclasses.replace(CONFIG, schedule="linear", warmup_fraction=0.5)
  found = np.array([beta_at(linear, jnp.asarray(step), updates=100) for step in steps])
  np.testing.assert_allclose(found, 0.3 * np.minimum(steps / 50, 1), rtol=1e-5)
  assert (beta_at(CONFIG, jnp.asarray(0), updates=100)) == np.float32(0.3)
  cyclical = dataclasses.replace(CONFIG, schedule="cyclical", cycles=4, warmup_fraction=0.5)
  found = np.array([beta_at(cyclical, jnp.asarray(step), updates=100) for step in steps[:-1]])
  np.testing.assert_allclose(found, 0.3 * np.minimum(steps[:-1] % 25 / 12.5, 1), rtol=1e-5)


def test_one_vector_for_all_and_by_itself(setup):
  vanilla = make_vae(dataclasses.replace(CONFIG, latent="vanilla"), shape=SHAPE)
  variables = jax.jit(vanilla.init)(weights_key(), setup[2].x)
  mean = vanilla.encode(variables, setup[2].x).mean
  assert vanilla.grid == (1, 1)
  assert mean.shape == (5, 1, 1, 3)
  whole = vanilla.decode(variables, mean)[2]
  np.testing.assert_allclose(vanilla.decode_vector(variables, mean[2, 0, 0], None), whole, rtol=1e-4, atol=1e-5)
  model, own, batch = setup
  assert model.grid == (3, 3)
  z = np.asarray(model.encode(own, batch.x).mean)
  around = neighbourhoods(z)
  assert around.shape == (45, 3, 3, 3)
  np.testing.assert_array_equal(around[4], z[0])  # the middle of a grid of 3 x 3 sees all of it
  np.testing.assert_array_equal(around[0, 1:, 1:], z[0, :2, :2])
  np.testing.assert_array_equal(around[0, 0], around[0, 1])
  np.testing.assert_allclose(
    model.decode_vector(own, z[1, 1, 1], around[4]),
    model.decode(own, np.where(np.arange(9).reshape(3, 3, 1) == 4, z[1], z[0])[None])[0], rtol=1e-4, atol=1e-5,
  )  # fmt: skip


def test_collapse_is_seen():
  """A posterior that is the prior: no bits, no active unit, and a finding."""
  from behavejax.config import Config
  from behavejax.evaluation import findings
  from behavejax.evaluation.geodesic_findings import vae_checks

  sums = {
    "count": 8.0, "loss": 8.0, "reconstruction": 8.0, "reconstruction_mse": 8.0, "divergence": 0.01,
    "divergence_of": np.array([0.001, 0.0, 0.0]), "mean_of": np.zeros(3), "mean_square_of": np.full(3, 1e-4),
  }  # fmt: skip
  values = make_vae(CONFIG, shape=SHAPE).summarize(sums)
  assert (values["active_units"], values["collapsed_units"]) == (0, 3)
  found = findings.judge(vae_checks(Config(vae=CONFIG)), values)
  assert {f.name for f in found} == {
    "posterior collapse", "collapsed dimensions", "few active units", "poor reconstruction"
  }  # fmt: skip
  assert all("vae.beta" in f.keys for f in found)
