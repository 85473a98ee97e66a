"""ONNX files as graphs of the operator check."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from behavejax.errors import InputError
from behavejax.export.hailo_network import WEIGHTED, WINDOWED, Network, Operation, Shape, Values, changed_axes

_AXIS = {"Softmax": -1, "Concat": 0, "Split": 0, "ArgMax": 0, "LayerNormalization": -1}  # defaults of the standard


def read(path: pathlib.Path) -> Network:
  """An ONNX file: checked, its shapes inferred, nodes that only compute constants left out.

  Raises:
    InputError: damaged, against the standard, or onnx is not installed.
  """
  try:
    import onnx
    from google.protobuf.message import DecodeError
  except ImportError as error:
    raise InputError("reading ONNX needs onnx: pip install 'behavejax[export]'") from error
  try:
    model = onnx.load(path)
    onnx.checker.check_model(model)
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
  except (DecodeError, OSError, ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
    raise InputError(f"{path.name} is no valid ONNX model: {str(error).strip().splitlines()[0]}") from error
  graph = model.graph
  constants: Values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
  operations = []
  opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
  for node in graph.node:
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    inputs = (*node.input, *_captured(onnx, node))
    if all(name in constants for name in inputs if name) and (inputs or node.op_type == "Constant"):
      constants.update(dict.fromkeys(node.output, _constant(onnx, attributes) if not inputs else None))
      continue
    op = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    name = node.name or f"{op} {node.output[0]}"
    operations.append(Operation(name, op, op, inputs, tuple(node.output), attributes))
  described = [*graph.value_info, *graph.input, *graph.output]
  shapes = {v.name: _shape(v.type.tensor_type) for v in described if v.type.tensor_type.HasField("shape")}
  shapes |= {name: value.shape for name, value in constants.items() if value is not None}
  types = {v.name: _type(onnx, v.type.tensor_type.elem_type) for v in described}
  return Network(
    format="onnx",
    opset=opset,
    operations=tuple(
      dataclasses.replace(op, attributes=_attributes(op, constants, shapes, opset)) for op in operations
    ),
    shapes=shapes,
    types=types,
    constants=constants,
    inputs=tuple(v.name for v in graph.input if v.name not in constants),
    outputs=tuple(v.name for v in graph.output),
  )


def _captured(onnx: Any, node: Any) -> tuple[str, ...]:
  """What the graphs inside a node of control flow read from outside."""
  found: dict[str, None] = {}
  for graph in (a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH):
    made = {value.name for value in (*graph.input, *graph.initializer)}
    made |= {output for inner in graph.node for output in inner.output}
    read = [name for inner in graph.node for name in (*inner.input, *_captured(onnx, inner))]
    found |= dict.fromkeys(name for name in (*read, *(o.name for o in graph.output)) if name and name not in made)
  return tuple(found)


def _constant(onnx: Any, attributes: dict[str, Any]) -> np.ndarray | None:
  value = attributes.get("value")
  if value is not None:
    return onnx.numpy_helper.to_array(value)
  plain = [attributes[key] for key in ("value_float", "value_floats", "value_int", "value_ints") if key in attributes]
  return np.asarray(plain[0]) if plain else None


def _shape(kind: Any) -> Shape:
  return tuple(size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim)


def _type(onnx: Any, element: int) -> str:
  return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element)).name if element else ""


def _attributes(operation: Operation, constants: Values, shapes: Mapping[str, Shape], opset: int) -> dict:
  """The file's attributes and what the checks read: defaults filled in, constant inputs turned into values."""
  own = dict(operation.attributes)
  inputs = (*operation.inputs, *[""] * 5)

  def value(position: int, name: str) -> Any:
    constant = constants.get(inputs[position])
    return own.get(name) if constant is None else constant.tolist()

  own |= {key: own[key].decode() for key in ("auto_pad", "mode") if key in own}
  if operation.kind in WINDOWED:
    weights = shapes.get(inputs[1], ()) if operation.kind in WEIGHTED else ()
    own["kernel"] = tuple(own.get("kernel_shape", weights[2:]))
    rank = len(own["kernel"])
    own |= {key: tuple(own.get(key, (1,) * rank)) for key in ("strides", "dilations")}
    own |= {"pads": tuple(own.get("pads", (0,) * 2 * rank)), "group": own.get("group", 1)}
  elif operation.kind in _AXIS:
    own["axis"] = own.get("axis", 1 if operation.kind == "Softmax" and opset < 13 else _AXIS[operation.kind])
  elif operation.kind.startswith("Reduce"):
    own |= {"axes": value(1, "axes"), "keepdims": own.get("keepdims", 1)}
  elif operation.kind == "Slice":
    starts = value(1, "starts") or ()
    own |= {"axes": value(3, "axes") or tuple(range(len(starts))), "steps": value(4, "steps") or ()}
  elif operation.kind == "Pad":
    widths = value(1, "pads") or ()
    half = len(widths) // 2
    own |= {"axes": tuple(i for i in range(half) if widths[i] or widths[i + half]), "mode": own.get("mode", "constant")}
  elif operation.kind == "Resize":
    changed = changed_axes(shapes.get(inputs[0], ()), shapes.get(operation.outputs[0], ()))
    own |= {"axes": changed, "mode": own.get("mode", "nearest")}
  elif operation.kind == "Clip":
    own |= {"min": value(1, "min"), "max": value(2, "max")}
  elif operation.kind == "Transpose":
    own["perm"] = tuple(own.get("perm", reversed(range(len(shapes.get(inputs[0], ()))))))
  return own
