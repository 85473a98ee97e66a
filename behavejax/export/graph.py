"""A static network of one window as a list of plain operations, and NumPy to run it.

Batch normalisation is folded, weights are constants, nothing that only training needs is left. The same list is run by
JAX (`run_jax`: to convert and to fine-tune it), by NumPy (here: where a device has nothing else) and counted. A node
`quantize` stands where codes are made; `forms` puts operations of an accelerator in its place.

The input is a window with its amplified copies (`behavejax.nets.conv2d.amplify`): they belong to the preparation of a
window, as an input of 8 bits would round away the small movements that they enlarge.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from behavejax.errors import InputError

if TYPE_CHECKING:
  from jaxtyping import Float

INPUT = "window"
_ARRAYS = ("weights", "bias", "codebook")


class Node(NamedTuple):
  """One operation.

  Attributes:
    name: also of its output.
    op: a key of `OPERATIONS` in `run_jax`.
    inputs: names of the nodes whose outputs it takes; `INPUT` is the window.
    weights: of a convolution `[1, k, in, out]`, or of a dense layer `[row, step, in, out]` over all its input.
    bias: one number per output channel.
    stride: along time; both sides of the window of a pooling.
    dilation: along time.
    window: rows and steps that a pooling averages; padding counts for nothing.
    activation: "", "relu" or "relu6".
    levels: of finite scalar quantization.
    symmetric: its variant with levels evenly over [-1, 1].
    codebook: of vector quantization.
    cosine: whether vector quantization compares directions.
  """

  name: str
  op: str
  inputs: tuple[str, ...]
  weights: Float[np.ndarray, ...] | None = None
  bias: Float[np.ndarray, " out"] | None = None
  stride: int = 1
  dilation: int = 1
  window: tuple[int, int] = (1, 1)
  activation: str = ""
  levels: tuple[int, ...] = ()
  symmetric: bool = False
  codebook: Float[np.ndarray, "code digit"] | None = None
  cosine: bool = False


class Graph(NamedTuple):
  """A network of one window, in order of execution.

  Attributes:
    shape: of the input, (height, time, channel); the batch is 1.
    nodes: every input of a node stands before it.
    outputs: name seen by the user -> name of the node.
  """

  shape: tuple[int, int, int]
  nodes: tuple[Node, ...]
  outputs: dict[str, str]


def scale_input(graph: Graph, scale: Float[np.ndarray, " channel"]) -> Graph:
  """The graph whose input is divided by `scale`, channel by channel; the first convolutions take it up."""
  return graph._replace(
    nodes=tuple(
      node._replace(weights=node.weights * scale[:, None].astype(np.float32)) if INPUT in node.inputs else node
      for node in graph.nodes
    )
  )


def quantizer_of(graph: Graph) -> Node:
  """The node that makes the codes, before a form is put in its place."""
  return next(node for node in graph.nodes if node.op == "quantize")


def with_outputs(graph: Graph, names: Sequence[str]) -> Graph:
  """The part of a graph that some of its outputs need."""
  outputs = {name: graph.outputs[name] for name in names}
  needed, kept = set(outputs.values()), []
  for node in reversed(graph.nodes):
    if node.name in needed:
      needed.update(node.inputs)
      kept.append(node)
  return graph._replace(nodes=tuple(reversed(kept)), outputs=outputs)


def shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
  """Shape of every node's output, without the batch; `INPUT` is the window."""
  found: dict[str, tuple[int, ...]] = {INPUT: graph.shape}
  for node in graph.nodes:
    first = found[node.inputs[0]]
    if node.op == "conv":
      found[node.name] = (first[0], -(-first[1] // node.stride), node.weights.shape[-1])
    elif node.op == "dense":
      found[node.name] = (1, 1, node.weights.shape[-1])
    elif node.op == "average_pool":
      found[node.name] = (-(-first[0] // node.window[0]), -(-first[1] // node.window[1]), first[2])
    elif node.codebook is not None:
      found[node.name] = (*first[:2], node.codebook.shape[1])
    elif node.op == "flatten":
      found[node.name] = (math.prod(first),)
    else:
      found[node.name] = first
  return found


def save(path: pathlib.Path, graph: Graph) -> None:
  """Writes a graph as an `.npz` that `load` reads without pickle, under a temporary name first."""
  arrays, records = {}, []
  for i, node in enumerate(graph.nodes):
    record = node._asdict()
    for name in _ARRAYS:
      if (value := record.pop(name)) is not None:
        arrays[f"{i}/{name}"] = value
    records.append(record)
  text = json.dumps({"shape": graph.shape, "outputs": graph.outputs, "nodes": records})
  temporary = path.with_name(f".{path.name}.tmp")
  with temporary.open("wb") as file:
    np.savez(file, graph=np.array(text), **arrays)
  os.replace(temporary, path)


def load(path: pathlib.Path) -> Graph:
  """Reads what `save` wrote.

  Raises:
    InputError: the file is missing or holds something else.
  """
  try:
    with np.load(path, allow_pickle=False) as arrays:
      content = json.loads(str(arrays["graph"]))
      nodes = tuple(
        Node(**{key: tuple(value) if isinstance(value, list) else value for key, value in record.items()},
             **{name: arrays[f"{i}/{name}"] for name in _ARRAYS if f"{i}/{name}" in arrays})
        for i, record in enumerate(content["nodes"])
      )  # fmt: skip
      return Graph(tuple(content["shape"]), nodes, content["outputs"])
  except (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
    raise InputError(f"{path} holds no graph: {error}") from error


def run(graph: Graph, x: Float[np.ndarray, "batch height time channel"]) -> dict[str, np.ndarray]:
  """Evaluates a graph in NumPy, float32."""
  values = {INPUT: np.asarray(x, np.float32)}
  for node in graph.nodes:
    y = _OPERATIONS[node.op](node, *(values[name] for name in node.inputs))
    if node.activation:
      y = np.clip(y, 0, 6 if node.activation == "relu6" else None)
    values[node.name] = y.astype(np.float32)
  return {name: values[node] for name, node in graph.outputs.items()}


def _padded(x: np.ndarray, *, window: int, stride: int, axis: int) -> np.ndarray:
  """Zeros at both ends, the larger half behind, so that `ceil(size / stride)` windows fit."""
  size = x.shape[axis]
  missing = max((-(-size // stride) - 1) * stride + window - size, 0)
  pads = [(0, 0)] * x.ndim
  pads[axis] = (missing // 2, missing - missing // 2)
  return np.pad(x, pads)


def _conv(node: Node, x: np.ndarray) -> np.ndarray:
  taps, out = node.weights.shape[1], -(-x.shape[2] // node.stride)
  x = _padded(x, window=(taps - 1) * node.dilation + 1, stride=node.stride, axis=2)
  places = np.arange(out)[:, None] * node.stride + np.arange(taps) * node.dilation
  columns = x[:, :, places].reshape(*x.shape[:2], out, -1)
  return columns @ node.weights.reshape(-1, node.weights.shape[-1]) + node.bias


def _dense(node: Node, x: np.ndarray) -> np.ndarray:
  out = node.weights.shape[-1]
  return (x.reshape(len(x), -1) @ node.weights.reshape(-1, out) + node.bias).reshape(-1, 1, 1, out)


def _average_pool(node: Node, x: np.ndarray) -> np.ndarray:
  ones = np.ones((1, *x.shape[1:3], 1), np.float32)
  total, count = x, ones
  for axis, window in zip((1, 2), node.window, strict=True):
    total, count = (_sums(_padded(a, window=window, stride=window, axis=axis), window, axis) for a in (total, count))
  return total / count


def _sums(x: np.ndarray, window: int, axis: int) -> np.ndarray:
  return x.reshape(*x.shape[:axis], -1, window, *x.shape[axis + 1 :]).sum(axis=axis + 1)


def _quantize(node: Node, z: np.ndarray) -> np.ndarray:
  """See `behavejax.quantizers.fsq` and `behavejax.quantizers.vq`."""
  if node.codebook is not None:
    scores = z @ node.codebook.T
    return node.codebook[np.argmax(scores if node.cosine else 2 * scores - np.square(node.codebook).sum(1), axis=-1)]
  levels = np.asarray(node.levels)
  if node.symmetric:
    return 2 / (levels - 1) * np.floor((levels - 1) * (np.tanh(z) + 1) / 2 + 0.5) - 1
  half, offset = (levels - 1) * (1 + 1e-3) / 2, np.where(levels % 2 == 0, 0.5, 0.0)
  return np.round(np.tanh(z + np.arctanh(offset / half)) * half - offset) / (levels // 2)


def _softmax(node: Node, x: np.ndarray) -> np.ndarray:
  e = np.exp(x - x.max(axis=-1, keepdims=True))
  return e / e.sum(axis=-1, keepdims=True)


def _largest(node: Node, x: np.ndarray) -> np.ndarray:
  """1 at the largest entry of every vector, shared where several are equal; 0 elsewhere."""
  largest = x >= x.max(axis=-1, keepdims=True)
  return largest / largest.sum(axis=-1, keepdims=True)


_OPERATIONS: dict[str, Callable[..., np.ndarray]] = {
  "conv": _conv,
  "dense": _dense,
  "add": lambda node, a, b: a + b,
  "average_pool": _average_pool,
  "flatten": lambda node, x: x.reshape(len(x), -1),
  "quantize": _quantize,
  "softmax": _softmax,
  "largest": _largest,
}
