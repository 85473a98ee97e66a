"""The static graph as a function of JAX arrays, and its weights as a tree that can be trained."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from behavejax.export.graph import INPUT, Graph, Node
from behavejax.quantizers import fsq, vq

Parameters = dict[str, tuple[Array, Array]]


def parameters(graph: Graph) -> Parameters:
  """Weights and bias of every node that has some, by name."""
  return {node.name: (node.weights, node.bias) for node in graph.nodes if node.weights is not None}


def with_parameters(graph: Graph, params: Parameters) -> Graph:
  """The same graph with other weights, which may be traced."""
  return graph._replace(
    nodes=tuple(
      node if node.weights is None else node._replace(weights=params[node.name][0], bias=params[node.name][1])
      for node in graph.nodes
    )
  )


def run(
  graph: Graph,
  x: Float[Array, "batch height time channel"],
  *,
  observe: Callable[[Node, Array], Array] = lambda node, value: value,
) -> dict[str, Array]:
  """Evaluates a graph with JAX.

  Args:
    graph: its weights may be traced.
    x: windows, amplified and scaled.
    observe: called with every node and its value, and replaces the value: where activations are rounded or recorded.

  Returns:
    The outputs by name.
  """
  values = {INPUT: x}
  for node in graph.nodes:
    arguments = [values[name] for name in node.inputs]
    values[node.name] = observe(node, ACTIVATIONS[node.activation](OPERATIONS[node.op](node, *arguments)))
  return {name: values[node] for name, node in graph.outputs.items()}


def _conv(node: Node, x: Array, padding: str = "SAME") -> Array:
  y = jax.lax.conv_general_dilated(
    x, jnp.asarray(node.weights), (1, node.stride), padding, rhs_dilation=(1, node.dilation),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )  # fmt: skip
  return y + jnp.reshape(jnp.asarray(node.bias), (1, 1, 1, -1))


def _dense(node: Node, x: Array) -> Array:
  """A convolution as large as its input, which accelerators take where they refuse to flatten."""
  return _conv(node, x, "VALID")


def _average_pool(node: Node, x: Array) -> Array:
  window = (1, *node.window, 1)
  total, count = (
    jax.lax.reduce_window(a, 0.0, jax.lax.add, window, window, "SAME") for a in (x, jnp.ones((1, *x.shape[1:3], 1)))
  )
  return total / count


def _largest(node: Node, x: Array) -> Array:
  """1 at the largest entry of every vector, shared where several are equal; 0 elsewhere."""
  largest = (x >= jnp.max(x, axis=-1, keepdims=True)).astype(x.dtype)
  return largest / jnp.sum(largest, axis=-1, keepdims=True)


def _quantize(node: Node, x: Array) -> Array:
  if node.codebook is not None:
    return vq.quantize(x, jnp.asarray(node.codebook), cosine=node.cosine).codes
  return fsq.quantize(x, levels=node.levels, symmetric=node.symmetric)


OPERATIONS: dict[str, Callable[..., Array]] = {
  "conv": _conv,
  "dense": _dense,
  "add": lambda node, a, b: a + b,
  "average_pool": _average_pool,
  "flatten": lambda node, x: x.reshape(x.shape[0], -1),
  "softmax": lambda node, x: jax.nn.softmax(x, axis=-1),
  "largest": _largest,
  "quantize": _quantize,
}
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
  "": lambda x: x,
  "relu": jax.nn.relu,
  "relu6": lambda x: jnp.clip(x, 0.0, 6.0),
}
