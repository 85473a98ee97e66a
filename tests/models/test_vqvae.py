"""The autoencoder of samples: every quantizer over every number of axes, losses against NumPy, masks, errors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.config import Config, LossConfig, QuantizerConfig
from behavejax.config_vqvae import VqvaeConfig
from behavejax.data.batches import Batch
from behavejax.errors import InputError
from behavejax.models.vqvae import grid_of, make_vqvae
from tests.nets.weights import weights_key

CONFIG = Config(
  vqvae=VqvaeConfig(factors=(2, 2), hidden=8, blocks=1, attention="none"),
  quantizer=QuantizerConfig(name="vq_ema", num_codes=8, dim=4, commitment_weight=0.5),
  loss=LossConfig(reconstruction=0.7, quantization=0.3),
)


def random(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def batch_of(x, *, masked=()):
  mask = np.ones(len(x), bool)
  mask[list(masked)] = False
  return Batch(x, (np.arange(len(x)) % 3).astype(np.int32), mask)


def changed(**settings):
  return dataclasses.replace(CONFIG, vqvae=dataclasses.replace(CONFIG.vqvae, **settings))


@pytest.fixture(scope="module")
def setup():
  x = random(5, 6, 4, 2)
  model = make_vqvae(CONFIG, shape=x.shape[1:])
  return model, jax.jit(model.init)(weights_key(), x), x


def test_losses_and_metrics_equal_numpy(setup):
  model, variables, x = setup
  batch = batch_of(x, masked=[3])
  outputs = jax.tree.map(np.asarray, model.apply(variables, x))
  metrics = jax.tree.map(np.asarray, jax.jit(model.score)(variables, batch))
  error = ((outputs.reconstruction - x) ** 2).mean((1, 2, 3))
  tied = 0.5 * ((outputs.latents - outputs.codes) ** 2).sum(-1).mean((1, 2))
  np.testing.assert_allclose(metrics["reconstruction_mse"], error[batch.mask].sum(), rtol=1e-5)
  np.testing.assert_allclose(metrics["quantization_loss"], tied[batch.mask].sum(), rtol=1e-4)
  np.testing.assert_allclose(metrics["loss"], (0.7 * error + 0.3 * tied)[batch.mask].sum(), rtol=1e-4)
  np.testing.assert_allclose(
    metrics["latent_square"], (outputs.latents[batch.mask] ** 2).mean((1, 2, 3)).sum(), rtol=1e-5
  )
  np.testing.assert_array_equal(metrics["codes"], np.bincount(outputs.tokens[batch.mask].ravel(), minlength=8))
  assert metrics["count"] == 4


def test_parts_are_the_whole(setup):
  model, variables, x = setup
  outputs = model.apply(variables, x)
  latents = model.encode(variables, x)
  tokens, codes = model.quantize(variables, latents)
  np.testing.assert_allclose(latents, outputs.latents, atol=1e-6)
  np.testing.assert_array_equal(tokens, outputs.tokens)
  np.testing.assert_array_equal(model.tokens(variables, x), outputs.tokens)
  np.testing.assert_allclose(model.decode(variables, codes), outputs.reconstruction, atol=1e-5)
  np.testing.assert_allclose(model.decode_tokens(variables, tokens), outputs.reconstruction, atol=1e-5)
  wider = random(1, 8, 10, 2)
  assert model.apply(variables, wider).reconstruction.shape == wider.shape


@pytest.mark.parametrize(
  ("quantizer", "shape"),
  [
    (QuantizerConfig(name="fsq", levels=(4, 3)), (8, 1)),
    (QuantizerConfig(name="lfq", num_codes=8, entropy_weight=0.1), (4, 6, 3)),
    (QuantizerConfig(name="vq", num_codes=8, dim=4), (4, 2, 4, 1)),
    (QuantizerConfig(name="vq_ema", num_codes=4, dim=4, stages=2, entropy_weight=0.1), (8, 2)),
    (QuantizerConfig(name="vq_ema", num_codes=4, dim=4, groups=2), (4, 4, 1)),
  ],
)
def test_every_quantizer_learns_over_any_number_of_axes(quantizer, shape):
  config = dataclasses.replace(
    CONFIG, quantizer=quantizer, vqvae=dataclasses.replace(CONFIG.vqvae, factors=(2,) * (len(shape) - 1))
  )
  x = random(6, *shape)
  model = make_vqvae(config, shape=shape)
  variables = jax.jit(model.init)(weights_key(), x)
  keys = jax.random.split(jax.random.key(1), len(x))

  @jax.jit
  def loss(params):
    per_sample, (stats, _) = model.loss({**variables, "params": params}, batch_of(x), keys)
    return jnp.mean(per_sample), stats

  gradients, stats = jax.grad(loss, has_aux=True)(variables["params"])
  for path, leaf in jax.tree_util.tree_flatten_with_path(gradients)[0]:
    assert np.isfinite(leaf).all(), path
    assert np.abs(leaf).max() > 0, path
  assert jax.tree.structure(stats) == jax.tree.structure(variables["batch_stats"])
  tokens = model.tokens(variables, x)
  assert tokens.shape == (6, *model.grid)
  assert 0 <= tokens.min() <= tokens.max() < model.num_codes
  np.testing.assert_allclose(
    model.decode_tokens(variables, tokens), model.apply(variables, x).reconstruction, atol=1e-4
  )


def test_the_decoder_learns_from_features_and_the_judge_from_samples_alone():
  config = changed(perceptual=0.5)
  x = random(6, 6, 4, 2)
  model = make_vqvae(config, shape=x.shape[1:], classes=3)
  variables = jax.jit(model.init)(weights_key(), x)
  keys = jax.random.split(jax.random.key(1), len(x))

  def gradients(config):
    def loss(params):
      model = make_vqvae(config, shape=x.shape[1:], classes=3)
      return jnp.mean(model.loss({**variables, "params": params}, batch_of(x), keys)[0])

    return jax.jit(jax.grad(loss))(variables["params"])

  weak, strong = gradients(config), gradients(changed(perceptual=2.0))
  for a, b in zip(jax.tree.leaves(weak["judge"]), jax.tree.leaves(strong["judge"]), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)  # a heavier perceptual loss changes nothing in the judge
  kernel = [np.asarray(g["decoder"]["sample"]["kernel"]) for g in (weak, strong)]
  assert np.abs(kernel[0] - kernel[1]).max() > 1e-5
  assert model.score(variables, batch_of(x))["labelled"] == 6


def test_shifts_move_images_by_whole_pixels_and_leave_time_alone():
  from behavejax.models.vqvae import _shifted

  x = random(3, 16, 16, 1)
  moved = np.asarray(jax.vmap(lambda key: _shifted(jnp.asarray(x), key))(jax.random.split(jax.random.key(0), 30)))
  padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
  places = set()
  for candidate in moved:
    found = [(i, j) for i in range(5) for j in range(5) if np.array_equal(padded[:, i : i + 16, j : j + 16], candidate)]
    assert found
    places.add(found[0])
  assert len(places) > 10
  signal = jnp.asarray(random(12, 2))
  np.testing.assert_array_equal(_shifted(signal, jax.random.key(0)), signal)


def test_spectral_loss_is_added():
  config = dataclasses.replace(changed(factors=(2,), spectral=0.4), loss=LossConfig(quantization=0.0))
  x = random(3, 32, 2)
  model, plain = (make_vqvae(c, shape=(32, 2)) for c in (config, dataclasses.replace(config, vqvae=dataclasses.replace(config.vqvae, spectral=0.0))))  # fmt: skip  # noqa: E501
  variables = jax.jit(model.init)(weights_key(), x)
  assert model.score(variables, batch_of(x))["loss"] > plain.score(variables, batch_of(x))["loss"] + 0.05


@pytest.mark.parametrize(
  ("shape", "message"),
  [
    ((5, 4, 1), "do not divide samples of 5 x 4: 5 by 2 leaves a rest"),
    ((8, 1), "factors=(2, 2) are for 2 axes, samples have 1: 8"),
  ],
)
def test_what_does_not_fit_is_named(shape, message):
  with pytest.raises(InputError) as caught:
    make_vqvae(CONFIG, shape=shape)
  assert message in str(caught.value)
  assert grid_of((6, 4, 1), (2, 2)) == (3, 2)


def test_a_perceptual_loss_needs_labels():
  with pytest.raises(InputError, match=r"config.vqvae.perceptual=1 needs samples of two classes or more"):
    make_vqvae(changed(perceptual=1.0), shape=(4, 4, 1))
