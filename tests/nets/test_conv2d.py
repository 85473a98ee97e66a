"""Shapes, gradients and the independence of a window's rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from behavejax.nets.attention import RowAttention
from behavejax.nets.conv2d import ConvNorm, Decoder, Encoder
from behavejax.nets.heads import Classifier, dropout
from tests.nets.weights import weights_key


def encoder(**changes):
  settings = {"widths": (8, 8, 8), "kernel": 3, "dilations": (1, 2), "token_stride": 4, "digits": 3}
  return Encoder(**{**settings, **changes})


@pytest.mark.parametrize("shape", [(2, 50, 9), (1, 33, 3), (2, 7, 1)])
@pytest.mark.parametrize("stride", [1, 2, 8])
def test_encoder_and_decoder_round_trip_shapes(shape, stride):
  x = jax.random.normal(jax.random.key(0), (2, *shape))
  net = encoder(token_stride=stride)
  z, variables = jax.jit(lambda key, x: net.init_with_output(key, x, train=False))(weights_key(1), x)
  assert z.shape == (2, shape[0], -(-shape[1] // stride), 3)
  decoder = Decoder((8,), 3, stride, shape)
  back, _ = jax.jit(lambda key, z: decoder.init_with_output(key, z, train=False))(weights_key(2), z)
  assert back.shape == x.shape

  def spread(params):
    z, _ = net.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
    return jnp.sum(z**3)

  gradients = jax.tree.leaves(jax.jit(jax.grad(spread))(variables["params"]))
  assert all(np.isfinite(g).all() for g in gradients)
  assert all(np.any(g != 0) for g in gradients)


def test_pooling_gives_one_code_per_window():
  x = jnp.ones((3, 2, 20, 4))
  z, _ = encoder(pool="window").init_with_output(jax.random.key(0), x, train=False)
  assert z.shape == (3, 1, 1, 3)
  back, _ = Decoder((8,), 3, 4, (2, 20, 4)).init_with_output(jax.random.key(0), z, train=False)
  assert back.shape == x.shape


def test_latents_have_unit_spread_in_training():
  x = 7 * jax.random.normal(jax.random.key(0), (32, 2, 40, 6)) + 3
  net = encoder()
  variables = net.init(jax.random.key(1), x, train=False)
  z, _ = net.apply(variables, x, train=True, mutable=["batch_stats"])
  np.testing.assert_allclose(np.asarray(z).std((0, 1, 2)), 1, atol=0.01)
  np.testing.assert_allclose(np.asarray(z).mean((0, 1, 2)), 0, atol=1e-4)


def test_convolution_equals_scipy():
  x = jax.random.normal(jax.random.key(0), (1, 1, 30, 1))
  net = ConvNorm(1, kernel=5, relu=False)
  y, variables = net.init_with_output(jax.random.key(1), x, train=False)
  kernel = np.asarray(variables["params"]["conv"]["kernel"])[0, :, 0, 0]
  expected = signal.correlate(np.asarray(x)[0, 0, :, 0], kernel, mode="same") / np.sqrt(1 + 1e-5)
  np.testing.assert_allclose(y[0, 0, :, 0], expected, atol=1e-5)


def test_rows_mix_only_through_attention():
  x = jax.random.normal(jax.random.key(0), (1, 2, 20, 4))
  other = x.at[:, 1].add(1.0)
  for attention in (False, True):
    net = encoder(device_attention=attention)
    variables = net.init(jax.random.key(1), x, train=False)
    first, second = (net.apply(variables, a, train=False)[:, 0] for a in (x, other))
    assert np.array_equal(first, second) is not attention


def test_row_attention_equals_numpy():
  x = jax.random.normal(jax.random.key(0), (2, 3, 5, 8))
  y, variables = RowAttention(heads=2).init_with_output(jax.random.key(1), x)
  p = jax.tree.map(np.asarray, variables["params"])
  h = np.asarray(x) + p["row"]
  q, k, v = np.einsum("bhtc,cknd->kbhtnd", h, p["qkv"]["kernel"]) + p["qkv"]["bias"][:, None, None, None]
  scores = np.einsum("bhtnd,bgtnd->btnhg", q, k) / np.sqrt(4)
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  mixed = np.einsum("btnhg,bgtnd->bhtnd", weights / weights.sum(-1, keepdims=True), v)
  expected = np.asarray(x) + np.einsum("bhtnd,ndc->bhtc", mixed, p["out"]["kernel"]) + p["out"]["bias"]
  np.testing.assert_allclose(y, expected, atol=1e-5)


def test_classifier_sees_the_order_of_rows():
  codes = jax.random.normal(jax.random.key(0), (2, 2, 6, 3))
  net = Classifier(classes=4, width=8, hidden=8, dilations=(1,), dropout=0.0)
  (logits, embedding), variables = net.init_with_output(jax.random.key(1), codes, train=False)
  assert logits.shape == (2, 4)
  assert embedding.shape == (2, 16)
  swapped, _ = net.apply(variables, codes[:, ::-1], train=False)
  assert not np.allclose(logits, swapped, atol=1e-4)


def test_dropout_belongs_to_the_example():
  x = jnp.ones((6, 50))
  keys = jax.random.split(jax.random.key(0), 6)
  whole = dropout(x, keys, rate=0.5)
  parts = jnp.concatenate([dropout(x[:2], keys[:2], rate=0.5), dropout(x[2:], keys[2:], rate=0.5)])
  np.testing.assert_array_equal(whole, parts)
  assert set(np.unique(whole)) == {0.0, 2.0}
  np.testing.assert_array_equal(dropout(x, None, rate=0.5), x)
