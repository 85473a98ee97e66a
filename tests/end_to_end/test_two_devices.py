"""Two animals at once: an encoder that both share, a stream of codes for each, and how their states go together."""

import dataclasses

import jax
import numpy as np
import pytest

from behavejax import config as config_lib
from behavejax.data import simulate_pair
from behavejax.data.prepare import prepare
from behavejax.evaluation import evaluate as evaluate_lib
from behavejax.evaluation.frames import frame_probabilities
from behavejax.evaluation.synchrony_report import synchrony_blocks
from behavejax.evaluation.tokens import token_streams
from behavejax.models.autoencoder import make_model
from behavejax.training import stages
from tests.test_config import load

SHAPE = (2, 100, 9)


def tiny(*, attention):
  config = load("fsq").get_config("tiny")
  config.data.name = "pair"
  config.data.devices = 2
  config.data.fold = False
  config.model.device_attention = attention
  config.train.steps = 6
  config.train.evaluations = 1
  return config_lib.resolve(config)


@pytest.mark.parametrize("attention", [False, True])
def test_devices_share_the_encoder_and_see_each_other_only_by_attention(attention):
  config = tiny(attention=attention)
  model = make_model(config, shape=SHAPE, classes=10)
  x = jax.random.normal(jax.random.key(0), (3, *SHAPE))
  variables = jax.jit(model.init)(jax.random.key(1), x)
  latents = jax.jit(lambda x: model.apply(variables, x).latents)
  found, other = np.asarray(latents(x)), np.asarray(latents(x.at[:, 1].add(1.0 + x[:, 1])))
  assert found.shape[:2] == (3, 2)
  assert np.allclose(found[:, 0], other[:, 0], atol=1e-5) != attention
  assert np.abs(found[:, 1] - other[:, 1]).max() > 0.01
  exchanged = np.asarray(latents(x[:, ::-1]))[:, ::-1]
  assert np.allclose(found, exchanged, atol=1e-5) != attention  # attention tells the first device from the second


@pytest.mark.slow
def test_two_devices_train_and_give_a_stream_each(tmp_path):
  config = tiny(attention=True)
  data = prepare(config.data, config.seed)
  assert data.train.shape == SHAPE
  workdir = stages.run(config, tmp_path / "run")
  metrics = evaluate_lib.evaluate(workdir.path)
  assert np.isfinite(metrics["test/reconstruction_mse"])
  streams, _ = token_streams(workdir, config)
  names = [recording.name for recording in streams.recordings]
  assert names == [f"{i}/device{device}" for i in (1, 2, 3, 4) for device in (1, 2)]
  for i in range(0, len(streams.values), 2):
    np.testing.assert_array_equal(streams.starts[i], streams.starts[i + 1])
  assert not np.array_equal(streams.values[0], streams.values[1])
  frames = frame_probabilities(workdir, config, streams)  # of the whole window, which has both devices
  np.testing.assert_array_equal(frames.log_probs[0], frames.log_probs[1])
  assert frames.log_probs[0].shape == (len(streams.values[0]), 10)
  assert frames.labels[0].max() >= 0 > frames.labels[1].max()  # the second is not labelled


def test_a_report_of_the_truth_names_the_leader():
  config = config_lib.Config()
  simulate = dataclasses.replace(config.data.simulate, subjects=4, minutes=4.0)
  truth = simulate_pair.behaviours(simulate, config.data.pair, 0)
  values, _ = synchrony_blocks(
    [pair.first for pair in truth], [pair.second for pair in truth], [str(i) for i in range(4)],
    rate_hz=simulate.rate_hz, lag_s=config.evaluation.synchrony_lag_s, shuffles=40, seed=0,
  )  # fmt: skip
  assert values["synchrony/peak_lag_s"] == pytest.approx(config.data.pair.lag_s, abs=0.13)
  assert values["synchrony/net_transfer_entropy"] > 0.02
