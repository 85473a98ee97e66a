"""Integer arithmetic of 8 bits imitated in float, with a gradient: what a converter will do to a graph.

Weights are symmetric with a scale per output channel, `w -> s round(w / s)`, `s = max |w| / 127`; activations share
one scale per tensor, `x -> s (clip(round(x / s) + z, -128, 127) - z)` (Jacob et al. 2018, arXiv:1712.05877). Rounding
passes the gradient through; values that are clipped get none.

One thing is not imitated: the scores of learned codes, which a converter rounds to 256 steps over their whole range,
so that near codes become ties. A vector quantizer loses one code in ten to that, and fine-tuning does not win them
back.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from behavejax.export import run_jax
from behavejax.export.graph import INPUT, Graph, Node
from behavejax.export.run_jax import Parameters

Ranges = Mapping[str, tuple[float, float]]
_EXACT = ("flatten", "average_pool")  # take the scale of what they get
_INSIDE = ("latents",)  # part of the staircase's first convolution, never a tensor of its own


def ranges(graph: Graph, windows: Float[np.ndarray, "window height time channel"], *, batch: int = 64) -> Ranges:
  """Smallest and largest value of the input and of every node over some windows; 0 is always inside."""

  @jax.jit
  def extremes(x: Array) -> dict[str, tuple[Array, Array]]:
    found = {INPUT: (x.min(), x.max())}

    def note(node: Node, value: Array) -> Array:
      found[node.name] = (value.min(), value.max())
      return value

    run_jax.run(graph, x, observe=note)
    return found

  parts = [extremes(windows[i : i + batch]) for i in range(0, len(windows), batch)]
  return {
    name: (min(0.0, *(float(p[name][0]) for p in parts)), max(0.0, *(float(p[name][1]) for p in parts)))
    for name in parts[0]
  }


def run(graph: Graph, params: Parameters, x: Float[Array, "batch height time channel"], limits: Ranges):
  """Evaluates a graph as 8-bit integers would.

  Args:
    graph: with its semantic quantizer.
    params: its weights, traced.
    x: windows as the graph takes them.
    limits: of every activation, from `ranges`.

  Returns:
    The outputs by name.
  """
  rounded = {name: (weights_8bit(weights), bias) for name, (weights, bias) in params.items()}

  def observe(node: Node, value: Array) -> Array:
    return value if node.op in _EXACT or node.name in _INSIDE else activations_8bit(value, *limits[node.name])

  return run_jax.run(
    run_jax.with_parameters(graph, rounded), activations_8bit(x, *limits[INPUT]), observe=observe
  )  # fmt: skip


def weights_8bit(weights: Float[Array, "*shape out"]) -> Float[Array, "*shape out"]:
  """Rounded to 255 levels, symmetric around 0, per output channel."""
  scale = jnp.max(jnp.abs(weights), axis=tuple(range(weights.ndim - 1)), keepdims=True) / 127
  scale = jax.lax.stop_gradient(jnp.maximum(scale, 1e-12))
  return _through(weights, jnp.round(weights / scale) * scale)


def activations_8bit(x: Float[Array, "*shape"], low: float, high: float) -> Float[Array, "*shape"]:
  """Clipped to `[low, high]` and rounded to 256 levels, one of which is 0."""
  scale = max(high - low, 1e-12) / 255
  zero = round(-128 - low / scale)
  inside = jnp.clip(x, (-128 - zero) * scale, (127 - zero) * scale)
  return _through(inside, jnp.round(inside / scale) * scale)


def _through(smooth: Array, rounded: Array) -> Array:
  return smooth + jax.lax.stop_gradient(rounded - smooth)
