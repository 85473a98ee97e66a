"""Many rows times one matrix, with the matrix's gradient in the order that a CPU is quick at."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def dot_general(
  x: Float[Array, "*row input"], kernel: Float[Array, "input output"], dimension_numbers: Any, **settings: Any
) -> Float[Array, "*row output"]:
  """`jax.lax.dot_general` of `nn.Dense`; on a CPU with a gradient of its own.

  The kernel's gradient is a product over all rows, for which XLA's CPU lays out one factor anew, and takes what the
  layer gives, were it five times as wide as what the layer gets. Here it is always the narrower one.

  Args:
    x: what the layer gets.
    kernel: of the layer.
    dimension_numbers: the last axis of `x` with the first of the kernel, as `nn.Dense` asks.
    settings: of `jax.lax.dot_general`.
  """
  if jax.default_backend() != "cpu" or any(value is not None for value in settings.values()):
    return jax.lax.dot_general(x, kernel, dimension_numbers, **settings)
  return _project(x, kernel)


@jax.custom_vjp
def _project(x: Float[Array, "*row input"], kernel: Float[Array, "input output"]) -> Float[Array, "*row output"]:
  return jnp.matmul(x, kernel)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
  return jnp.matmul(x, kernel), (x, kernel)


def _backward(kept: tuple[Array, Array], given: Float[Array, "*row output"]) -> tuple[Array, Array]:
  x, kernel = kept
  rows, to_rows = x.reshape(-1, x.shape[-1]), given.reshape(-1, given.shape[-1])
  if rows.shape[1] <= to_rows.shape[1]:
    to_kernel = jnp.matmul(jax.lax.optimization_barrier(rows.T), to_rows)
  else:
    to_kernel = jnp.matmul(jax.lax.optimization_barrier(to_rows.T), rows).T
  return jnp.matmul(given, kernel.T), to_kernel


_project.defvjp(_forward, _backward)
