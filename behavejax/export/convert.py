"""From a graph to files: TFLite in float32 and int8, ONNX, a SavedModel and a serialized `jax.export` artifact.

The path is jax2tf -> TFLite -> tf2onnx: what jax2tf makes is one opaque call that tf2onnx cannot read, while the TFLite
converter turns it into plain `CONV_2D`, `ADD` and `FULLY_CONNECTED`. TensorFlow is imported here and nowhere else.
"""

import importlib
import logging
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from behavejax.errors import InputError
from behavejax.export import run_jax
from behavejax.export.backends import quiet
from behavejax.export.graph import INPUT, Graph

Window = Float[np.ndarray, "height time channel"]


def to_tflite(
  graph: Graph, *, calibration: Iterable[Window] | None = None, int8_interface: bool = False
) -> bytes:  # fmt: skip
  """A TFLite model with batch 1; its signature names the input `window` and the outputs as the graph does.

  Args:
    graph: lowered.
    calibration: windows to measure the ranges of activations; with them every weight and activation becomes int8,
      weights with a scale per output channel. Without, the model is float32.
    int8_interface: whether inputs and outputs are int8 too; otherwise they are float32.
  """
  tf = _tensorflow()
  with quiet():
    module, function = _function(tf, graph)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    if calibration is not None:
      windows = [np.asarray(window, np.float32)[None] for window in calibration]
      converter.optimizations = [tf.lite.Optimize.DEFAULT]
      converter.representative_dataset = lambda: ({INPUT: window} for window in windows)
      converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
      if int8_interface:
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def to_onnx(tflite: bytes, outputs: Iterable[str], *, opset: int) -> bytes:
  """A float TFLite model from `to_tflite` as ONNX, checked, with named input and outputs.

  Args:
    tflite: the model.
    outputs: the graph's output names.
    opset: of the ONNX operators.
  """
  onnx = _needs("onnx")
  convert = _needs("tf2onnx.convert")
  _tensorflow()
  with tempfile.TemporaryDirectory() as folder, quiet():
    file = pathlib.Path(folder) / "model.tflite"
    file.write_bytes(tflite)
    model, _ = convert.from_tflite(str(file), opset=opset)
  names = [value.name for value in model.graph.output]
  _rename(model, {model.graph.input[0].name: INPUT} | dict(zip(names, sorted(outputs), strict=True)))
  _drop_transposes(model)
  _drop_reshapes(onnx.shape_inference.infer_shapes(model).graph, model.graph)
  _name_by_place(model)
  model.producer_name, model.producer_version, model.doc_string = "behavejax", "", ""
  model.graph.name, model.graph.doc_string = "behavejax", ""
  model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
  onnx.checker.check_model(model, full_check=True)
  return model.SerializeToString()


def function_to_onnx(
  apply: Callable[..., jax.Array], inputs: Mapping[str, tuple[int, ...]], output: str, *, opset: int
) -> bytes:  # fmt: skip
  """A function of named float32 arrays of fixed shapes, of one result, as ONNX, checked, on the same path.

  Args:
    apply: takes the inputs by name; no loops and no operators that TFLite gives names of their own.
    inputs: shapes by name.
    output: name of the result.
    opset: of the ONNX operators.
  """
  onnx, convert, tf = _needs("onnx"), _needs("tf2onnx.convert"), _tensorflow()
  from jax.experimental import jax2tf

  module, logger = tf.Module(), logging.getLogger("tf2onnx")
  module.run = tf.function(
    jax2tf.convert(lambda *arrays: {output: apply(**dict(zip(inputs, arrays, strict=True)))}, with_gradient=False),
    autograph=False,
    input_signature=[tf.TensorSpec(shape, tf.float32, name=name) for name, shape in inputs.items()],
  )
  with tempfile.TemporaryDirectory() as folder, quiet():
    logger.setLevel(logging.ERROR)
    function = module.run.get_concrete_function()
    file = pathlib.Path(folder) / "model.tflite"
    file.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([function], module).convert())
    model, _ = convert.from_tflite(str(file), opset=opset)
  names = {f"serving_default_{name}:0": name for name in inputs}
  _rename(model, names | {model.graph.output[0].name: output})
  _name_by_place(model)
  model.producer_name, model.producer_version, model.doc_string = "behavejax", "", ""
  onnx.checker.check_model(model, full_check=True)
  return model.SerializeToString()


def to_saved_model(graph: Graph, folder: pathlib.Path) -> None:
  """A TensorFlow SavedModel with one signature, `serving_default`."""
  tf = _tensorflow()
  with quiet():
    module, function = _function(tf, graph)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": function})


def to_jax_export(graph: Graph) -> bytes:
  """A serialized `jax.export` artifact of a function of one window, for CPU, CUDA and TPU."""
  window = jax.ShapeDtypeStruct((1, *graph.shape), np.float32)
  exported = jax.export.export(jax.jit(lambda x: run_jax.run(graph, x)), platforms=("cpu", "cuda", "tpu"))(window)
  return bytes(exported.serialize())


def _function(tf: Any, graph: Graph) -> tuple[Any, Any]:
  from jax.experimental import jax2tf

  def apply(window: jax.Array) -> dict[str, jax.Array]:
    return run_jax.run(graph, window)

  module = tf.Module()
  module.run = tf.function(
    jax2tf.convert(apply, with_gradient=False),
    autograph=False,
    input_signature=[tf.TensorSpec((1, *graph.shape), tf.float32, name=INPUT)],
  )
  return module, module.run.get_concrete_function()


def _rename(model: Any, names: dict[str, str]) -> None:
  for node in model.graph.node:
    for field in (node.input, node.output):
      field[:] = [names.get(name, name) for name in field]
  for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
    value.name = names.get(value.name, value.name)


def _name_by_place(model: Any) -> None:
  """Names every node by its operator and place, every tensor by its node, so that the same graph is the same file."""
  graph, names = model.graph, {}
  kept = {value.name for value in (*graph.input, *graph.output)}
  for i, node in enumerate(graph.node):
    node.name = f"{node.op_type}_{i}"
    for k, name in enumerate((*node.output, *node.input)):
      if name not in kept:
        names.setdefault(name, f"{node.name}:{k}")
  _rename(model, names)
  used = {name for node in graph.node for name in node.input}
  ordered = sorted((t for t in graph.initializer if t.name in used), key=lambda tensor: tensor.name)
  del graph.initializer[:]
  graph.initializer.extend(ordered)
  del graph.value_info[:]


def _drop_transposes(model: Any) -> None:
  """Takes out pairs of `Transpose` that undo each other, with or without a `Round` between them."""
  graph = model.graph
  made = {name: node for node in graph.node for name in node.output}
  for node in graph.node:
    before = made.get(node.input[0]) if node.op_type == "Transpose" else None
    if before is not None and before.op_type == "Round" and _undo(made.get(before.input[0]), node):
      first = made[before.input[0]]
      before.input[0] = first.input[0]
      _replace(graph, node.output[0], before.output[0])
    elif before is not None and _undo(before, node):
      _replace(graph, node.output[0], before.input[0])
  outputs = {value.name for value in graph.output}
  used = {name for node in graph.node for name in node.input} | outputs
  for node in [node for node in graph.node if node.op_type == "Transpose" and node.output[0] not in used]:
    graph.node.remove(node)


def _drop_reshapes(inferred: Any, graph: Any) -> None:
  """Takes out every `Reshape` that, alone or after another one, gives the shape that was there before."""
  values = (*inferred.input, *inferred.output, *inferred.value_info)
  shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in values}
  outputs = {value.name for value in graph.output}
  made = {name: node for node in graph.node for name in node.output}
  for node in [node for node in graph.node if node.op_type == "Reshape" and node.output[0] not in outputs]:
    before = made.get(node.input[0])
    sources = [node.input[0], *(before.input[:1] if before is not None and before.op_type == "Reshape" else ())]
    same = [name for name in sources if name in shapes and shapes[name] == shapes.get(node.output[0])]
    if same:
      _replace(graph, node.output[0], same[-1])
      graph.node.remove(node)


def _undo(first: Any, second: Any) -> bool:
  if first is None or first.op_type != "Transpose":
    return False
  a, b = (list(node.attribute[0].ints) for node in (first, second))
  return [a[i] for i in b] == list(range(len(a)))


def _replace(graph: Any, old: str, new: str) -> None:
  for node in graph.node:
    node.input[:] = [new if name == old else name for name in node.input]


def _tensorflow() -> Any:
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  with quiet():
    tf = _needs("tensorflow")
  tf.get_logger().setLevel(logging.ERROR)
  return tf


def _needs(module: str) -> Any:
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise InputError(f"exporting needs {module.split('.')[0]}: pip install 'behavejax[export]'") from error
