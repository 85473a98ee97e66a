"""The product of a dense layer: what jax.lax gives, gradients too, whichever side is the wider."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from behavejax.nets.projection import dot_general


def of_last(x, kernel, product):
  return product(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


@pytest.mark.parametrize(("shape", "outputs"), [((7, 3), 5), ((2, 7, 5), 3), ((2, 3, 4, 4), 4), ((1, 1), 1)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_it_is_that_of_jax_with_its_gradients(shape, outputs, dtype):
  rng = np.random.default_rng(0)
  x, kernel, given = (
    jnp.asarray(rng.normal(size=size), dtype) for size in (shape, (shape[-1], outputs), (*shape[:-1], outputs))
  )
  found, expected = (
    jax.jit(lambda x, kernel, given, product=product: (
      of_last(x, kernel, product), *jax.vjp(lambda *a: of_last(*a, product), x, kernel)[1](given)
    ))(x, kernel, given)
    for product in (dot_general, jax.lax.dot_general)
  )  # fmt: skip
  for own, theirs in zip(found, expected, strict=True):
    assert own.dtype == theirs.dtype == dtype
    tolerance = 1e-5 if dtype == jnp.float32 else 2e-2
    np.testing.assert_allclose(own.astype(np.float32), theirs.astype(np.float32), rtol=tolerance, atol=tolerance)


class ProjectionTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_gradients_are_finite_differences(self):
    rng = np.random.default_rng(1)
    x, kernel = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((2, 3, 4), (4, 6)))
    product = self.variant(lambda x, kernel: jnp.tanh(of_last(x, kernel, dot_general)))
    check_grads(product, (x, kernel), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_a_dense_layer_takes_it():
  x = jnp.asarray(np.random.default_rng(2).normal(size=(4, 3)), jnp.float32)
  plain, own = nn.Dense(8), nn.Dense(8, dot_general=dot_general)
  variables = plain.init(jax.random.key(0), x)
  np.testing.assert_array_equal(own.apply(variables, x), plain.apply(variables, x))
  exact = nn.Dense(8, dot_general=dot_general, precision="highest")
  np.testing.assert_allclose(exact.apply(variables, x), plain.apply(variables, x), rtol=1e-5)
