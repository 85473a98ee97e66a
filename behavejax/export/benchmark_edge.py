"""How long one window takes on one processor: exported models, the runtime around them, JAX and PyTorch."""

import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from behavejax.config import Config, DataConfig, ModelConfig, SimulateConfig
from behavejax.data.prepare import prepare
from behavejax.export import package, run_jax
from behavejax.export.backends import OnnxBackend, TfliteBackend
from behavejax.export.compare import interface
from behavejax.export.graph import INPUT, Graph
from behavejax.export.runtime import Runtime
from behavejax.export.trained import Trained, load_trained
from behavejax.models.autoencoder import make_model
from behavejax.quantizers import fsq
from behavejax.workdir import Workdir

_WINDOWS = 400


def run(*, repeats: int) -> Iterator[str]:
  """p50 and p99 of one window for every way to run the network of configs/fsq.py, in turns on one processor.

  Args:
    repeats: rounds; each runs every way on the same windows, and the median of the rounds is shown.
  """
  processors = os.sched_getaffinity(0)
  os.sched_setaffinity(0, {min(processors)})  # threads of every library inherit it
  try:
    with tempfile.TemporaryDirectory() as folder:
      yield from _lines(pathlib.Path(folder) / "run", repeats)
  finally:
    os.sched_setaffinity(0, processors)


def _lines(folder: pathlib.Path, repeats: int) -> Iterator[str]:
  trained = _untrained(folder)
  package.export(folder)
  whole, exported = interface(trained.graph), folder / "export"
  x = np.ascontiguousarray(trained.calibration[:_WINDOWS])
  ways: dict[str, Callable[[np.ndarray], object]] = {
    "ONNX Runtime, float32": OnnxBackend(exported / "model.onnx", whole).run,
    "TFLite, float32": TfliteBackend(exported / "model.tflite", whole).run,
    "TFLite, int8": TfliteBackend(exported / "model_int8.tflite", whole).run,
    "ONNX Runtime, exact form": OnnxBackend(exported / "host" / "model.onnx", whole).run,
    "JAX, jitted": _jax(trained.graph),
  }
  try:
    ways["PyTorch"] = _torch(trained.graph)
  except ImportError:
    yield "PyTorch is not installed: left out"
  times = _alternate(ways, x, repeats)
  yield f"one window {list(whole.shape)} on one processor, median of {repeats} rounds of {len(x)} windows"
  yield ""
  yield f"{'':<28}{'p50 ms':>10}{'p99 ms':>10}"
  for name, found in times.items():
    yield f"{name:<28}{_percentile(found, 50):>10.3f}{_percentile(found, 99):>10.3f}"
  if "PyTorch" in times:
    ratios = [_percentile(times["PyTorch"], 50) / _percentile(times[name], 50) for name in list(times)[:2]]
    yield f"the ONNX model is {ratios[0]:.2f} times, the TFLite model {ratios[1]:.2f} times as fast as PyTorch"
  yield ""
  columns = (("step p50", 10), ("step p99", 10), ("model p50", 11), ("overhead", 10), ("with feeding", 14))
  yield f"{'runtime, chunks of':<28}" + "".join(f"{name:>{width}}" for name, width in columns)
  samples = trained.data.train.signal * trained.data.normalization.std + trained.data.normalization.mean
  for backend in ("onnx", "tflite", "tflite_int8"):
    for chunk in (1, 50):
      steps = [_stream(exported, backend, samples, chunk) for _ in range(repeats)]
      step, slow, model, fed = (statistics.median(column) for column in zip(*steps, strict=True))
      yield (
        f"{f'{chunk} samples, {backend}':<28}{step:>10.3f}{slow:>10.3f}{model:>11.3f}{step / model - 1:>10.1%}"
        f"{fed / model - 1:>14.1%}"
      )
  yield "overhead: of a step, from a full window to its answer, beyond the model's own time; with feeding: of all calls"


def _untrained(folder: pathlib.Path) -> Trained:
  """A run of the default network on the simulated animal whose weights are as they began: speed is the same."""
  data = DataConfig(name="quadruped", window_s=2.0, stride_s=1.0, simulate=SimulateConfig(subjects=4, minutes=3.0))
  config = Config(data=data, model=ModelConfig())
  workdir = Workdir(folder)
  workdir.start(config)
  prepared = prepare(config.data, config.seed)
  prepared.normalization.save(workdir.normalization_file)
  model = make_model(config, shape=prepared.train.shape, classes=len(prepared.train.classes))
  variables = jax.jit(model.init)(jax.random.key(0), jnp.asarray(prepared.train.gather(np.arange(1))))
  workdir.write_result("encoder", variables, {"stage": "encoder"})
  return load_trained(workdir, config)


def _alternate(
  ways: dict[str, Callable[[np.ndarray], object]], x: np.ndarray, repeats: int
) -> dict[str, list[list[float]]]:
  """Milliseconds of each window, per round, taken in turns so that a busy machine slows all alike."""
  times: dict[str, list[list[float]]] = {name: [] for name in ways}
  for repeat in range(repeats + 1):
    for name, way in ways.items():
      found = []
      for window in x:
        start = time.perf_counter()
        way(window[None])
        found.append(1e3 * (time.perf_counter() - start))
      if repeat:
        times[name].append(found)
  return times


def _percentile(rounds: list[list[float]], percent: float) -> float:
  return statistics.median(float(np.percentile(found, percent)) for found in rounds)


def _stream(folder: pathlib.Path, backend: str, samples: np.ndarray, chunk: int) -> tuple[float, float, float, float]:
  """Of a recording as it comes: p50 and p99 of a step, p50 of the model, and all time per window, in ms."""
  runtime = Runtime(folder, backend=backend)
  parts = [samples[i : i + chunk] for i in range(0, min(len(samples), 20_000), chunk)]
  start = time.perf_counter()
  for part in parts:
    runtime.feed(part)
  total = 1e3 * (time.perf_counter() - start) / max(runtime.statistics.windows, 1)
  latency = runtime.latency()
  return latency.step.p50_ms, latency.step.p99_ms, latency.model.p50_ms, total


def _jax(graph: Graph) -> Callable[[np.ndarray], object]:
  compiled = jax.jit(lambda x: run_jax.run(graph, x))
  return lambda x: jax.block_until_ready(compiled(x))


def _torch(graph: Graph) -> Callable[[np.ndarray], object]:
  """The same network in PyTorch, channels first, without a gradient."""
  import torch

  torch.set_num_threads(1)
  functional = torch.nn.functional
  held = {
    node.name: (
      torch.from_numpy(np.ascontiguousarray(np.moveaxis(node.weights, (3, 2), (0, 1)))),
      torch.from_numpy(np.array(node.bias)),
    )
    for node in graph.nodes
    if node.weights is not None
  }

  def quantize(node, z):
    columns = (*fsq.bounds(node.levels), np.asarray(node.levels) // 2)
    half, offset, shift, width = (torch.tensor(a, dtype=torch.float32).reshape(1, -1, 1, 1) for a in columns)
    return torch.round(torch.tanh(z + shift) * half - offset) / width

  def apply(node, x, y=None):
    if node.op in ("conv", "dense"):
      weights, bias = held[node.name]
      if node.op == "conv":
        size = (weights.shape[3] - 1) * node.dilation + 1
        missing = max((-(-x.shape[3] // node.stride) - 1) * node.stride + size - x.shape[3], 0)
        x = functional.pad(x, (missing // 2, missing - missing // 2))
      return functional.conv2d(x, weights, bias, (1, node.stride), dilation=(1, node.dilation))
    if node.op == "average_pool":
      missing = -x.shape[3] % node.window[1]
      ones = functional.pad(torch.ones(1, 1, 1, x.shape[3]), (missing // 2, missing - missing // 2))
      x = functional.avg_pool2d(functional.pad(x, (missing // 2, missing - missing // 2)), node.window)
      return x / functional.avg_pool2d(ones, node.window)
    return {"add": lambda: x + y, "flatten": lambda: x.flatten(1), "quantize": lambda: quantize(node, x)}[node.op]()

  def run(x: np.ndarray) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
      values = {INPUT: torch.from_numpy(x).permute(0, 3, 1, 2)}
      for node in graph.nodes:
        value = apply(node, *(values[name] for name in node.inputs))
        values[node.name] = torch.relu(value) if node.activation == "relu" else value
      return {name: values[node] for name, node in graph.outputs.items()}

  return run
