"""What is measured of a restored model: errors by channel, and the gradient that comes through the codes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.config import Config, LossConfig, ModelConfig, QuantizerConfig
from behavejax.data.windows import Windows
from behavejax.evaluation import evaluate
from behavejax.models.autoencoder import make_model

MODEL = ModelConfig(widths=(8, 8), dilations=(), decoder_widths=(8,), classifier_hidden=8, classifier_dilations=())
QUANTIZERS = {
  "fsq": QuantizerConfig(levels=(5, 4)),
  "vq": QuantizerConfig(name="vq", num_codes=8, dim=4),
}


def windows(devices=1):
  rng = np.random.default_rng(0)
  count, labels = 30, np.arange(30) % 3
  phase = np.arange(20)[None, :, None] * (1 + labels)[:, None, None] / 3
  signal = np.sin(phase + np.arange(2 * devices)) + 0.1 * rng.normal(size=(count, 20, 2 * devices))
  channels = tuple(f"{d}/{c}" for d in range(devices) for c in "xy")
  return Windows(
    signal.reshape(-1, 2 * devices).astype(np.float32), np.arange(count) * 20, labels, np.zeros(count, int),
    np.zeros(count, int), np.zeros(count), 20, devices == 1, 50.0, ("s",), ("r",), ("a", "b", "c"), channels, devices,
  )  # fmt: skip


def setup(name, **loss):
  config = Config(model=MODEL, quantizer=QUANTIZERS[name], loss=LossConfig(**loss))
  data = windows()
  model = make_model(config, shape=data.shape, classes=3)
  return config, model, model.init(jax.random.key(0), data.gather(np.arange(30))), data


@pytest.mark.parametrize("devices", [1, 2])
def test_errors_of_channels_are_those_of_the_reconstruction(devices):
  data = windows(devices)
  config = Config(model=MODEL, quantizer=QUANTIZERS["fsq"])
  config = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, batch_size=8))
  model = make_model(config, shape=data.shape, classes=3)
  variables = model.init(jax.random.key(0), data.gather(np.arange(4)))
  found = evaluate.predict(model, variables, data, config)
  x = data.gather(np.arange(30))
  square = np.square(np.asarray(model.apply(variables, x).reconstruction) - x)
  np.testing.assert_allclose(found.reconstruction_error, square.mean(axis=(1, 2, 3)), rtol=1e-4)
  assert found.channel_error.shape == (30, len(data.channels))
  for column in range(2 * devices):
    own = square[:, column // 2, :, column % 2] if devices == 2 else square[..., column].mean(axis=1)
    np.testing.assert_allclose(found.channel_error[:, column], own.mean(axis=1), rtol=1e-4)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_gradient_through_the_codes_is_measured_without_what_ties_them(name):
  shares = []
  for weight in (0.0, 100.0):
    config, model, variables, data = setup(name, quantization=weight)
    found = evaluate._latents(config, model, variables, data)
    shares.append(found["codes/encoder_gradient"])
    assert -1 <= found["codes/silhouette_behaviours"] <= 1
  assert 0.05 < shares[0] < 1
  assert shares[1] == pytest.approx(shares[0], rel=1e-4)


def test_an_encoder_that_no_gradient_reaches_is_seen():
  config, model, variables, data = setup("fsq")
  params = dict(variables["params"])
  last = params["encoder"]["stage_1"]
  dead = {"scale": jnp.ones(8), "bias": jnp.full(8, -100.0)}  # below zero, where the activation is flat
  params["encoder"] = {**params["encoder"], "stage_1": {**last, "norm": {"stats": dead}}}
  found = evaluate._latents(config, model, {**variables, "params": params}, data)
  assert found["codes/encoder_gradient"] < 0.01
  assert "codes/silhouette" not in found  # one code
