"""A model file as a graph, as far as the operator check needs it; the same for ONNX and TFLite."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

Shape = tuple[int | None, ...]
Values = dict[str, np.ndarray | None]

NCHW = ("batch", "channel", "height", "width")
NHWC = ("batch", "height", "width", "channel")
WEIGHTED = ("Conv", "ConvTranspose")
WINDOWED = (*WEIGHTED, "AveragePool", "MaxPool")
_ROLES = {0: (), 1: ("channel",), 2: ("batch", "channel"), 3: ("batch", "width", "channel")}
_RESHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
_TO_NCHW = (0, 3, 1, 2)


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
  """One node; two are equal only if they are the same.

  Attributes:
    name: the node's, else operator and first output; of TFLite, whose nodes have none, the first output.
    op: operator as the file calls it.
    kind: ONNX operator of the same meaning.
    inputs: names of tensors, "" for one left out.
    outputs: likewise.
    attributes: of ONNX by their names; in both formats `kernel`, `strides`, `dilations`, `pads` (begins, then ends),
      `auto_pad`, `group`, `axis`, `axes`, `keepdims`, `steps`, `perm`, `mode`, `min`, `max`, `activation` where known.
  """

  name: str
  op: str
  kind: str
  inputs: tuple[str, ...]
  outputs: tuple[str, ...]
  attributes: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Network:
  """A graph.

  Attributes:
    format: of the file.
    opset: of ONNX's own operators; 0 in TFLite.
    operations: in the file's order, without those that only compute constants.
    shapes: of all tensors that have one; None is a size that is not known.
    types: element types, NumPy's names.
    constants: name -> value, None where it is computed from other constants.
    inputs: names, without constants.
    outputs: names.
  """

  format: Literal["onnx", "tflite"]
  opset: int
  operations: tuple[Operation, ...]
  shapes: Mapping[str, Shape]
  types: Mapping[str, str]
  constants: Values
  inputs: tuple[str, ...]
  outputs: tuple[str, ...]

  @functools.cached_property
  def producer(self) -> dict[str, Operation]:
    return {output: operation for operation in self.operations for output in operation.outputs}

  @functools.cached_property
  def consumers(self) -> dict[str, tuple[Operation, ...]]:
    found: dict[str, tuple[Operation, ...]] = {}
    for operation in self.operations:
      for name in dict.fromkeys(operation.inputs):
        found[name] = (*found.get(name, ()), operation)
    return found

  @functools.cached_property
  def roles(self) -> dict[str, tuple[str, ...]]:
    """What the axes of a tensor are: batch, channel, height, width; a transposition moves them."""
    roles = {name: self._guess(name) for name in self.inputs}
    for operation in self.operations:
      source = next(iter(self.data(operation)), "")
      for output in operation.outputs:
        rank = len(self.shapes.get(output, ()))
        perm = operation.attributes.get("perm")
        if operation.kind == "Transpose" and perm and len(perm) == len(roles.get(source, ())):
          roles[output] = tuple(roles[source][axis] for axis in perm)
        elif operation.kind not in _RESHAPING and len(roles.get(source, ())) == rank:
          roles[output] = roles[source]
        else:
          roles[output] = self._guess(output)
    return roles

  def data(self, operation: Operation) -> tuple[str, ...]:
    """The inputs of an operation that are no constants."""
    return tuple(name for name in operation.inputs if name and name not in self.constants)

  def after(self, operation: Operation) -> tuple[Operation, ...]:
    """The operations that read its outputs."""
    return tuple(dict.fromkeys(_by_name(self.consumers, operation.outputs)))

  def before(self, operation: Operation) -> tuple[Operation, ...]:
    """The operations whose outputs it reads."""
    return tuple(self.producer[name] for name in self.data(operation) if name in self.producer)

  def _guess(self, name: str) -> tuple[str, ...]:
    rank = len(self.shapes.get(name, ()))
    if rank != 4:
      return _ROLES.get(rank, ("other",) * rank)
    perms = [tuple(c.attributes.get("perm", ())) for c in self.consumers.get(name, ()) if c.kind == "Transpose"]
    return NHWC if self.format == "tflite" or _TO_NCHW in perms else NCHW


def _by_name(table: Mapping[str, tuple[Operation, ...]], names: tuple[str, ...]) -> Iterator[Operation]:
  for name in names:
    yield from table.get(name, ())


def changed_axes(before: Shape, after: Shape) -> tuple[int, ...]:
  """The axes along which two shapes differ; all of them if the numbers of axes do.

  >>> changed_axes((1, 4, 8), (1, 4, 6)), changed_axes((1, 4, 8), (4, 8))
  ((2,), (0, 1, 2))
  """
  if len(before) != len(after):
    return tuple(range(len(before)))
  return tuple(i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new)
