"""Convolutions against XLA's own and NumPy; the matrix of shapes; gradients everywhere."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.nets import ndconv
from behavejax.nets.ndconv import Conv, ConvTranspose

CASES = [
  ((12,), (2,)),
  ((9,), (1,)),
  ((6, 10), (2, 1)),
  ((4, 6, 8), (1, 2, 2)),
]


def names(space):
  axes = "DHW"[-space:]
  return f"N{axes}C", f"{axes}IO", f"N{axes}C"


def random(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(("space", "strides"), CASES)
def test_convolutions_equal_those_of_xla(space, strides):
  x, count = random(2, *space, 3), len(space)
  for layer, theirs in (
    (Conv(5, strides), functools.partial(jax.lax.conv_general_dilated, dimension_numbers=names(count))),
    (ConvTranspose(5, strides), functools.partial(jax.lax.conv_transpose, dimension_numbers=names(count))),
  ):
    params = layer.init(jax.random.key(0), x)["params"] | {"bias": random(5, seed=1)}
    bias = params["bias"].reshape((1,) * (count + 1) + (5,))

    def own(x, params, layer=layer):
      return layer.apply({"params": params}, x)

    def other(x, params, theirs=theirs, bias=bias):
      return theirs(x, params["kernel"], strides, "SAME") + bias

    np.testing.assert_allclose(own(x, params), other(x, params), atol=2e-5)
    weights = random(*own(x, params).shape, seed=2)
    gradients = [
      jax.jit(jax.grad(lambda x, p, f=f, w=weights: jnp.sum(jnp.sin(f(x, p)) * w), (0, 1)))(x, params)
      for f in (own, other)
    ]
    np.testing.assert_allclose(gradients[0][0], gradients[1][0], atol=1e-4)
    np.testing.assert_allclose(gradients[0][1]["kernel"], gradients[1][1]["kernel"], atol=1e-4)


def test_products_and_the_convolution_of_other_backends_are_one(monkeypatch):
  x, kernel, pads = random(2, 5, 7, 3), random(3, 2, 3, 4, seed=1), ((1, 1), (0, 1))
  here = ndconv.convolve(x, kernel, pads)
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  np.testing.assert_allclose(here, ndconv.convolve(x, kernel, pads), atol=1e-5)
