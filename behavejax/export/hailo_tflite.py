"""TFLite files as graphs of the operator check.

They are read with the FlatBuffers classes of `ai_edge_litert`: pure Python, loaded in a tenth of a second. Those of
`tf2onnx` are made from the same schema, but importing them loads TensorFlow where it is installed.
"""

import collections
import dataclasses
import pathlib
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from behavejax.errors import InputError
from behavejax.export.hailo_network import WEIGHTED, WINDOWED, Network, Operation, Shape, Values, changed_axes
from behavejax.export.hailo_rules import TWINS


def read(path: pathlib.Path) -> Network:
  """A TFLite file; operations that only compute constants are left out.

  Raises:
    InputError: damaged, or ai-edge-litert is not installed.
  """
  try:
    from ai_edge_litert import schema_py_generated as schema
  except ImportError as error:
    raise InputError("reading TFLite needs ai-edge-litert: pip install 'behavejax[export]'") from error
  content = path.read_bytes()
  if content[4:8] != b"TFL3":
    raise InputError(f"{path.name} is no TFLite model: its identifier is not TFL3")
  try:
    model = schema.ModelT.InitFromPackedBuf(content, 0)
  except (IndexError, TypeError, ValueError, struct.error) as error:
    raise InputError(f"{path.name} is a damaged TFLite model: {error}") from error
  return _network(schema, model)


def _network(schema: Any, model: Any) -> Network:
  graph = model.subgraphs[0]
  codes = _names(schema.BuiltinOperator)
  elements = _names(schema.TensorType)
  named = collections.Counter(tensor.name for tensor in graph.tensors)
  names = [f"{t.name.decode()} {i}" if named[t.name] > 1 else t.name.decode() for i, t in enumerate(graph.tensors)]
  shapes: dict[str, Shape] = {}
  types, constants = {}, {}
  for name, tensor in zip(names, graph.tensors, strict=True):
    sizes = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
    shapes[name] = tuple(None if size < 0 else int(size) for size in (() if sizes is None else sizes))
    types[name] = elements[tensor.type].lower()
    content = model.buffers[tensor.buffer].data
    if content is not None and len(content):
      known = types[name] in ("int32", "int64", "float32")
      constants[name] = np.asarray(content, np.uint8).view(types[name]).reshape(shapes[name]) if known else None
  operations = []
  for operator in graph.operators:
    code = model.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    op = codes[number] if codes[number] != "CUSTOM" else f"CUSTOM {(code.customCode or b'?').decode()}"
    inputs = tuple(names[i] if i >= 0 else "" for i in operator.inputs)
    if op == "TRANSPOSE_CONV":  # size of the output, weights, data, bias
      inputs = (inputs[2], inputs[1], *inputs[3:])
    outputs = tuple(names[i] for i in operator.outputs)
    if inputs and all(name in constants for name in inputs if name):
      constants.update(dict.fromkeys(outputs))
      continue
    bare = Operation(outputs[0], op, TWINS.get(op, op), inputs, outputs, {})
    attributes = _attributes(schema, bare, operator, shapes, constants)
    operations.append(dataclasses.replace(bare, attributes=attributes))
  return Network(
    format="tflite",
    opset=0,
    operations=tuple(operations),
    shapes=shapes,
    types=types,
    constants=constants,
    inputs=tuple(names[i] for i in graph.inputs),
    outputs=tuple(names[i] for i in graph.outputs),
  )


def _names(enumeration: type) -> dict[int, str]:
  return {value: name for name, value in vars(enumeration).items() if name.isupper()}


def _attributes(
  schema: Any, operation: Operation, operator: Any, shapes: Mapping[str, Shape], constants: Values
) -> dict[str, Any]:
  own = vars(operator.builtinOptions) if operator.builtinOptions else {}
  inputs = (*operation.inputs, *[""] * 5)

  def value(position: int) -> Any:
    constant = constants.get(inputs[position])
    return None if constant is None else constant.tolist()

  found: dict[str, Any] = {}
  if "fusedActivationFunction" in own:
    found["activation"] = _names(schema.ActivationFunctionType)[own["fusedActivationFunction"]]
  if operation.kind in WINDOWED:
    weights = shapes.get(inputs[1], ()) if operation.kind in WEIGHTED else ()
    found |= {
      "kernel": tuple(weights[1:3]) or (own["filterHeight"], own["filterWidth"]),
      "strides": (own["strideH"], own["strideW"]),
      "dilations": (own.get("dilationHFactor", 1), own.get("dilationWFactor", 1)),
      "auto_pad": _names(schema.Padding)[own["padding"]],
      "group": 1,
    }
    channels = shapes.get(inputs[0], (1,))[-1]
    if operation.op == "DEPTHWISE_CONV_2D":
      found["group"] = channels
    elif operation.op == "CONV_2D" and channels:
      found["group"] = channels // weights[-1]
  if operation.kind == "Slice":
    found["axes"] = changed_axes(shapes[inputs[0]], shapes[operation.outputs[0]])
  return found | _MORE.get(operation.op, lambda own, value: {})(own, value)


_Reader = Callable[[dict[str, Any], Callable[[int], Any]], dict[str, Any]]
_MORE: dict[str, _Reader] = {
  "RELU6": lambda own, value: {"min": 0.0, "max": 6.0},
  "SOFTMAX": lambda own, value: {"axis": -1},
  "CONCATENATION": lambda own, value: {"axis": own["axis"]},
  "SPLIT": lambda own, value: {"axis": _first(value(0))},
  "ARG_MAX": lambda own, value: {"axis": _first(value(1))},
  "MEAN": lambda own, value: {"axes": _list(value(1)), "keepdims": int(own["keepDims"])},
  "SUM": lambda own, value: {"axes": _list(value(1)), "keepdims": int(own["keepDims"])},
  "TRANSPOSE": lambda own, value: {"perm": tuple(value(1) or ())},
  "PAD": lambda own, value: {"axes": _nonzero(value(1)), "mode": "constant"},
  "PADV2": lambda own, value: {"axes": _nonzero(value(1)), "mode": "constant"},
  "RESIZE_BILINEAR": lambda own, value: {"axes": (1, 2), "mode": "linear"},
  "RESIZE_NEAREST_NEIGHBOR": lambda own, value: {"axes": (1, 2), "mode": "nearest"},
  "STRIDED_SLICE": lambda own, value: {"steps": value(3) or ()},
}


def _nonzero(widths: list[list[int]] | None) -> tuple[int, ...]:
  return tuple(i for i, pair in enumerate(widths or ()) if any(pair))


def _list(value: Any) -> tuple[int, ...]:
  return () if value is None else tuple(np.ravel(value).tolist())


def _first(value: Any) -> int | None:
  return next(iter(_list(value)), None)
