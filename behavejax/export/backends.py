"""The programs that run a graph: ONNX Runtime, LiteRT (TFLite) and HailoRT, each imported only when it is chosen."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import os
import pathlib
import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from behavejax.errors import InputError
from behavejax.export.manifest import HEF, Graph, Preprocess

if TYPE_CHECKING:
  from jaxtyping import Float, Int8

Outputs = dict[str, np.ndarray]


class Backend(Protocol):
  """Runs the graph on one window."""

  def run(self, window: Float[np.ndarray, "1 height time channel"]) -> Outputs:
    """Outputs by the names of `preprocess.json`, float32, in arrays that belong to the caller."""
    ...


class OnnxBackend:
  """ONNX Runtime on the processor.

  Args:
    path: of the `.onnx` file.
    graph: what input and outputs must look like.
    threads: of one operator.

  Raises:
    InputError: no such library, no such model, or one that does not fit.
  """

  def __init__(self, path: pathlib.Path, graph: Graph, threads: int = 1):
    ort = _library("onnxruntime", "onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    with _refusing(path, "ONNX Runtime"):
      self._session = ort.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
    _check(
      path, graph, {i.name: tuple(i.shape) for i in inputs}, {o.name: tuple(o.shape) for o in outputs},
      [value.type for value in (*inputs, *outputs)], "tensor(float)",
    )  # fmt: skip
    self._input, self._outputs = inputs[0].name, list(graph.outputs)

  def run(self, window: Float[np.ndarray, "1 height time channel"]) -> Outputs:
    return dict(zip(self._outputs, self._session.run(self._outputs, {self._input: window}), strict=True))


class TfliteBackend:
  """LiteRT on the processor, for models in float32 and in int8, with inputs and outputs of either type.

  An int8 input is `round(x / scale) + zero`, limited to -128..127; an int8 output is `scale (q - zero)`.

  Args:
    path: of the `.tflite` file, whose one signature names its outputs.
    graph: what input and outputs must look like.
    threads: of one operator.

  Raises:
    InputError: no such library, no such model, or one that does not fit.
  """

  def __init__(self, path: pathlib.Path, graph: Graph, threads: int = 1):
    litert = _library("ai_edge_litert.interpreter", "ai-edge-litert")
    with _refusing(path, "LiteRT"), quiet():
      self._interpreter = litert.Interpreter(model_path=os.fspath(path), num_threads=threads)
      signatures = list(self._interpreter.get_signature_list())
      if len(signatures) != 1:
        raise ValueError(f"{len(signatures)} signatures, expected one that names the outputs")
      self._interpreter.allocate_tensors()
      runner = self._interpreter.get_signature_runner(signatures[0])
      inputs, outputs = runner.get_input_details(), runner.get_output_details()
    shapes = [{name: tuple(map(int, d["shape"])) for name, d in details.items()} for details in (inputs, outputs)]
    types = [np.dtype(d["dtype"]).name for d in (*inputs.values(), *outputs.values())]
    _check(path, graph, *shapes, [t for t in types if t != "int8"], "float32")
    self._input = _Tensor.of(next(iter(inputs.values())))
    self._outputs = {name: _Tensor.of(outputs[name]) for name in graph.outputs}
    self._scaled = np.empty(graph.shape, np.float32)
    self._quantized = np.empty(graph.shape, np.int8)

  def run(self, window: Float[np.ndarray, "1 height time channel"]) -> Outputs:
    tensor = self._input
    self._interpreter.set_tensor(tensor.index, self._quantize(window) if tensor.scale else window)
    self._interpreter.invoke()
    found = {}
    for name, tensor in self._outputs.items():
      value = self._interpreter.get_tensor(tensor.index)
      found[name] = (value.astype(np.float32) - tensor.zero) * tensor.scale if tensor.scale else value
    return found

  def _quantize(self, window: Float[np.ndarray, "1 height time channel"]) -> Int8[np.ndarray, "1 height time channel"]:
    np.divide(window, self._input.scale, out=self._scaled)
    np.rint(self._scaled, out=self._scaled)
    np.add(self._scaled, self._input.zero, out=self._scaled)
    np.maximum(self._scaled, np.float32(-128), out=self._scaled)
    np.minimum(self._scaled, np.float32(127), out=self._scaled)
    np.copyto(self._quantized, self._scaled, casting="unsafe")
    return self._quantized


class _Tensor(NamedTuple):
  """Where a tensor lies, and the step and the zero of an int8 one; `scale` 0 is float32."""

  index: int
  scale: np.float32
  zero: np.float32

  @classmethod
  def of(cls, details: Mapping[str, Any]) -> _Tensor:
    scale, zero = details["quantization"] if np.dtype(details["dtype"]) == np.int8 else (0.0, 0)
    return cls(details["index"], np.float32(scale), np.float32(zero))


class HailoBackend:
  """A Hailo-8 or 8L on PCIe through HailoRT 4 and its `hailo_platform`.

  The device is taken when the backend is made and given back when it is collected. HailoRT quantizes the input and
  gives outputs in float32. Names in a HEF are those of layers of the network: an output is found by the name that it
  had before it was compiled, or else by its number of values.

  Args:
    path: of the `.hef` file.
    graph: what input and outputs must look like.
    threads: plays no part; the accelerator does the work.

  Raises:
    InputError: no such library, no device, no such model, or one that does not fit.
  """

  def __init__(self, path: pathlib.Path, graph: Graph, threads: int = 1):
    del threads
    hailo = _library("hailo_platform", "HailoRT with its Python package, from the Hailo developer zone,")
    with _refusing(path, "HailoRT"), contextlib.ExitStack() as stack:
      hef = hailo.HEF(os.fspath(path))
      params = hailo.VDevice.create_params()
      params.scheduling_algorithm = hailo.HailoSchedulingAlgorithm.NONE  # one model, active throughout
      device = stack.enter_context(hailo.VDevice(params))
      configure = hailo.ConfigureParams.create_from_hef(hef, interface=hailo.HailoStreamInterface.PCIe)
      network = device.configure(hef, configure)[0]
      streams = (
        kind.make(network, quantized=False, format_type=hailo.FormatType.FLOAT32)
        for kind in (hailo.InputVStreamParams, hailo.OutputVStreamParams)
      )
      self._pipeline = stack.enter_context(hailo.InferVStreams(network, *streams))
      stack.enter_context(network.activate(network.create_params()))
      inputs = {info.name: (1, *info.shape) for info in hef.get_input_vstream_infos()}
      self._names = _hailo_outputs(hef, graph.outputs)
      _check(path, graph, inputs, graph.outputs, [], "")
      self._close = weakref.finalize(self, stack.pop_all().close)
    self._input, self._shapes = next(iter(inputs)), graph.outputs

  def run(self, window: Float[np.ndarray, "1 height time channel"]) -> Outputs:
    found = self._pipeline.infer({self._input: window})
    return {name: found[self._names[name]].reshape(shape) for name, shape in self._shapes.items()}


def _hailo_outputs(hef: Any, outputs: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
  """The stream of every output."""
  infos = hef.get_output_vstream_infos()
  known = {
    info.name: {info.name.split("/")[-1], *hef.get_original_names_from_vstream_name(info.name)} for info in infos
  }
  found = {}
  for name, shape in outputs.items():
    size = math.prod(shape)
    fitting = [info.name for info in infos if math.prod(info.shape) == size]
    named = [stream for stream in fitting if name in known[stream]]
    if len(named or fitting) != 1:
      listed = ", ".join(f"{info.name} {tuple(info.shape)}" for info in infos)
      raise ValueError(f"output {name} {tuple(shape)} cannot be told from the others; it holds {listed}")
    found[name] = (named or fitting)[0]
  return found


class Kind(NamedTuple):
  """A backend, the file of the package that it runs, and the module that it needs."""

  make: Callable[[pathlib.Path, Graph, int], Backend]
  file: str
  module: str


BACKENDS: dict[str, Kind] = {
  "onnx": Kind(OnnxBackend, "model.onnx", "onnxruntime"),
  "tflite": Kind(TfliteBackend, "model.tflite", "ai_edge_litert"),
  "tflite_int8": Kind(TfliteBackend, "model_int8.tflite", "ai_edge_litert"),
  "hailo": Kind(HailoBackend, HEF, "hailo_platform"),
  "tflite_int8_qat": Kind(TfliteBackend, "model_int8_qat.tflite", "ai_edge_litert"),
}


def open_backend(name: str, folder: str | os.PathLike, preprocess: Preprocess, *, threads: int = 1) -> Backend:
  """The backend of that name for a package.

  Args:
    name: a key of `BACKENDS`, or "auto": the first whose library is installed and whose file is there.
    folder: of the package, already checked.
    preprocess: its `preprocess.json`.
    threads: of one operator, where the processor runs the model.

  Raises:
    InputError: none to be had, or a model that does not fit `preprocess`.
  """
  folder = pathlib.Path(folder)
  if name != "auto" and name not in BACKENDS:
    raise InputError(f"no backend {name!r}; known: auto, {', '.join(BACKENDS)}")
  checked = {*preprocess.files, HEF}
  present = [key for key, kind in BACKENDS.items() if kind.file in checked and (folder / kind.file).is_file()]
  if name == "auto":
    name = next((key for key in present if importlib.util.find_spec(BACKENDS[key].module)), "")
    if not name:
      wanted = ", ".join(f"{BACKENDS[key].module} ({BACKENDS[key].file})" for key in present) or "a model"
      raise InputError(f"{folder}: no backend can run; install or add one of: {wanted}")
  kind = BACKENDS[name]
  if name not in present:
    raise InputError(f"backend {name!r} needs {kind.file}, which {folder} or its list of files does not hold")
  return kind.make(folder / kind.file, preprocess.model, threads)


@contextlib.contextmanager
def quiet():
  """Keeps what libraries write to the process's own standard error, not Python's, out of the way."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
      saved = os.dup(2)
    except OSError:  # closed: nothing to keep quiet
      yield
      return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
      os.dup2(null, 2)
      yield
    finally:
      os.dup2(saved, 2)
      os.close(saved)
      os.close(null)


def _library(module: str, package: str) -> Any:
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise InputError(f"{module.split('.')[0]} is not installed: {package} is needed here ({error})") from error


@contextlib.contextmanager
def _refusing(path: pathlib.Path, library: str):
  """A model that a library does not take is the user's to replace, whatever the library raises."""
  try:
    yield
  except InputError:
    raise
  except Exception as error:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    raise InputError(f"{path} cannot be run by {library}: {lines[0]}") from error


def _check(
  path: pathlib.Path,
  graph: Graph,
  inputs: Mapping[str, tuple],
  outputs: Mapping[str, tuple],
  types: list[str],
  wanted: str,
) -> None:
  """Refuses a model whose input or outputs are not those of `preprocess.json`; a free dimension fits any."""
  if len(inputs) != 1:
    raise InputError(f"{path} takes {len(inputs)} inputs, expected one")
  if any(found != wanted for found in types):
    raise InputError(f"{path} takes or gives {', '.join(sorted({*types} - {wanted}))}, expected {wanted}")
  name, shape = next(iter(inputs.items()))
  if not _fits(shape, graph.shape):
    raise InputError(f"{path}: input {name} has shape {list(shape)}, preprocess.json says {list(graph.shape)}")
  for name, shape in graph.outputs.items():
    if name not in outputs:
      raise InputError(f"{path} has no output {name!r}, which preprocess.json lists; it has {', '.join(outputs)}")
    if not _fits(outputs[name], shape):
      raise InputError(f"{path}: output {name} has shape {list(outputs[name])}, preprocess.json says {list(shape)}")


def _fits(found: tuple, wanted: tuple[int, ...]) -> bool:
  return len(found) == len(wanted) and all(
    f == w or not isinstance(f, int) or f < 1 for f, w in zip(found, wanted, strict=True)
  )
