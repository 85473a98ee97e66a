"""Convolutions against XLA's own and NumPy; the matrix of shapes; gradients everywhere."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.nets import ndconv
from behavejax.nets.ndconv import Conv, ConvTranspose, Decoder, Encoder, Stack, stage_strides
from tests.nets.weights import weights_key

CASES = [
  ((12,), (2,)),
  ((9,), (1,)),
  ((6, 10), (2, 1)),
  ((4, 6, 8), (1, 2, 2)),
]


def names(space):
  axes = "DHW"[-space:]
  return f"N{axes}C", f"{axes}IO", f"N{axes}C"


def started(module, x):
  return jax.jit(functools.partial(module.init, train=False))(weights_key(), x)


def random(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(("space", "strides"), CASES)
def test_convolutions_equal_those_of_xla(space, strides):
  x, count = random(2, *space, 3), len(space)
  for layer, theirs in (
    (Conv(5, strides), functools.partial(jax.lax.conv_general_dilated, dimension_numbers=names(count))),
    (ConvTranspose(5, strides), functools.partial(jax.lax.conv_transpose, dimension_numbers=names(count))),
  ):
    params = jax.jit(layer.init)(jax.random.key(0), x)["params"] | {"bias": random(5, seed=1)}
    bias = params["bias"].reshape((1,) * (count + 1) + (5,))

    def own(x, params, layer=layer):
      return layer.apply({"params": params}, x)

    def other(x, params, theirs=theirs, bias=bias):
      return theirs(x, params["kernel"], strides, "SAME") + bias

    np.testing.assert_allclose(jax.jit(own)(x, params), other(x, params), atol=2e-5)
    weights = random(*own(x, params).shape, seed=2)
    gradients = [
      jax.jit(jax.grad(lambda x, p, f=f, w=weights: jnp.sum(jnp.sin(f(x, p)) * w), (0, 1)))(x, params)
      for f in (own, other)
    ]
    np.testing.assert_allclose(gradients[0][0], gradients[1][0], atol=1e-4)
    np.testing.assert_allclose(gradients[0][1]["kernel"], gradients[1][1]["kernel"], atol=1e-4)


@pytest.mark.parametrize(("channels", "features"), [(2, 9), (3, 2), (8, 2)])
@pytest.mark.parametrize("pads", [((1, 0), (0, 2)), ((0, 0), (1, 1))])
def test_whatever_is_shifted_the_products_are_those_of_xla(channels, features, pads):
  x, kernel = random(2, 5, 6, channels), random(2, 3, channels, features, seed=1)

  def other(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=names(2))

  expected, back = jax.vjp(other, x, kernel)
  weights = random(*expected.shape, seed=2)

  @jax.jit
  def own(x, kernel):
    y, back = jax.vjp(lambda x, kernel: ndconv.convolve(x, kernel, pads), x, kernel)
    return y, *back(weights)

  for a, b in zip(own(x, kernel), (expected, *back(weights)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_products_and_the_convolution_of_other_backends_are_one(monkeypatch):
  x, kernel, pads = random(2, 5, 7, 3), random(3, 2, 3, 4, seed=1), ((1, 1), (0, 1))
  here = ndconv.convolve(x, kernel, pads)
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  np.testing.assert_allclose(here, ndconv.convolve(x, kernel, pads), atol=1e-5)


SHAPES = [
  ((12,), (4,), 1, "full"),
  ((10,), (1,), 6, "axial"),
  ((16,), (8,), 3, "none"),
  ((8, 12), (2, 4), 3, "full"),
  ((16, 6), (8, 1), 1, "axial"),
  ((6, 4), (1, 2), 6, "none"),
  ((4, 8, 4), (2, 4, 1), 3, "axial"),
  ((2, 4, 8), (1, 2, 8), 1, "full"),
  ((8, 2, 4), (8, 2, 2), 6, "none"),
]


@pytest.mark.parametrize(("space", "factors", "channels", "attention"), SHAPES)
def test_shapes_come_back_and_every_weight_learns(space, factors, channels, attention):
  norm = "group" if attention == "none" else "batch"
  stack = functools.partial(Stack, 1, attention, 2, norm)
  encoder = Encoder(factors, 8, 4, stack(attention == "axial"))
  decoder = Decoder(factors, 8, channels, stack())
  x = random(3, *space, channels)
  grid = tuple(n // f for n, f in zip(space, factors, strict=True))
  variables = {"encoder": started(encoder, x), "decoder": started(decoder, jnp.zeros((3, *grid, 4)))}
  weights = random(*x.shape, seed=3)

  def outputs(params, x):
    stats = {name: {"batch_stats": v["batch_stats"]} if "batch_stats" in v else {} for name, v in variables.items()}
    z, _ = encoder.apply({"params": params["encoder"], **stats["encoder"]}, x, train=True, mutable=["batch_stats"])
    y, _ = decoder.apply({"params": params["decoder"], **stats["decoder"]}, z, train=True, mutable=["batch_stats"])
    return z, y

  params = {name: v["params"] for name, v in variables.items()}
  z, y = jax.eval_shape(outputs, params, x)
  assert z.shape == (3, *grid, 4)
  assert y.shape == x.shape
  gradients = jax.jit(jax.grad(lambda p, x: jnp.sum(jnp.sin(outputs(p, x)[1]) * weights), (0, 1)))(params, x)
  for path, leaf in jax.tree_util.tree_flatten_with_path(gradients)[0]:
    assert np.isfinite(leaf).all(), path
    assert np.abs(leaf).max() > 0, path


def test_factors_are_reached_in_halvings():
  assert stage_strides((1, 8)) == [(1, 2), (1, 2), (1, 2)]
  assert stage_strides((1,)) == []


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_remat_changes_nothing_but_memory(norm):
  x = random(2, 6, 8)
  plain, again = (Stack(2, "full", 2, norm, remat) for remat in (False, True))
  variables = started(plain, x)

  def gradient(stack):
    def loss(params):
      y, _ = stack.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
      return jnp.sum(jnp.sin(y))

    return jax.jit(jax.grad(loss))(variables["params"])

  for a, b in zip(*(jax.tree.leaves(gradient(stack)) for stack in (plain, again)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_bfloat16_computes_nearly_the_same():
  x = random(2, 4, 8, 2)
  both = [Encoder((2, 2), 8, 4, Stack(1, "full", 2, "group", False, d), d) for d in (jnp.float32, jnp.bfloat16)]
  variables = started(both[0], x)
  exact, short = (jax.jit(functools.partial(e.apply, train=False))(variables, x) for e in both)
  assert short.dtype == jnp.float32
  assert 0 < np.abs(exact - short).max() < 0.1 * np.abs(exact).max() + 0.05


def test_groups_normalise_each_sample_alone():
  x = random(2, 6, 16)
  layer = ndconv.Norm("group")
  variables = layer.init(jax.random.key(0), x, train=True)
  grouped = np.asarray(x).reshape(2, 6, 8, 2)
  expected = (grouped - grouped.mean((1, 3), keepdims=True)) / np.sqrt(grouped.var((1, 3), keepdims=True) + 1e-6)
  np.testing.assert_allclose(layer.apply(variables, x, train=True), np.maximum(expected.reshape(x.shape), 0), atol=1e-5)
