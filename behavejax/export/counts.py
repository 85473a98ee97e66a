"""What a graph costs on a device: multiply-accumulates, parameters and memory for activations."""

import math
from typing import NamedTuple

from behavejax.export.graph import INPUT, Graph, Node, shapes


class Counts(NamedTuple):
  """Of one window.

  Attributes:
    macs: multiply-accumulates of convolutions and dense layers.
    parameters: weights and biases.
    activations: numbers that are alive at once at the worst moment, input included; times 1 byte in int8, 4 in float32.
  """

  macs: int
  parameters: int
  activations: int


def count(graph: Graph) -> Counts:
  """Adds up the nodes of a graph in their order of execution."""
  sizes = {name: math.prod(shape) for name, shape in shapes(graph).items()}
  last = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
  last |= dict.fromkeys(graph.outputs.values(), len(graph.nodes))
  alive, worst = {INPUT}, sizes[INPUT]
  for i, node in enumerate(graph.nodes):
    alive.add(node.name)
    worst = max(worst, sum(sizes[name] for name in alive))
    alive = {name for name in alive if last.get(name, -1) > i}
  return Counts(
    macs=sum(macs_of(node, sizes[node.name]) for node in graph.nodes),
    parameters=sum(node.weights.size + node.bias.size for node in graph.nodes if node.weights is not None),
    activations=worst,
  )


def macs_of(node: Node, outputs: int) -> int:
  """Multiply-accumulates of one node that makes so many numbers: one per weight that reaches each of them."""
  if node.weights is None:
    return 0
  return outputs * math.prod(node.weights.shape[:-1])
