"""Small packages for the tests: a graph made by hand, and what belongs to it."""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from behavejax.export.manifest import Graph, Preprocess, Quality, Quantizer, Repair

STRIDE = 4  # samples per code


def preprocess(
  *,
  channels: int = 3,
  window: int = 40,
  stride: int = 20,
  rows: int = 2,
  strategy: str = "interpolate",
  clip: float = 0.0,
  gains: tuple[float, ...] = (4.0, 32.0),
  levels: tuple[int, ...] = (8, 6, 5),
  labels: tuple[str, ...] = ("rest", "walk", "run"),
  rate_hz: float = 50.0,
  seed: int = 0,
) -> Preprocess:
  """Random numbers where a model has learned ones."""
  rng = np.random.default_rng(seed)
  inputs, tokens = channels * (1 + len(gains)), -(-window // rows // STRIDE)

  def numbers(low: float, high: float, count: int) -> tuple[float, ...]:
    return tuple(map(float, rng.uniform(low, high, count).astype(np.float32)))

  return Preprocess(
    rate_hz=rate_hz,
    channels=tuple(f"acc_{'xyzuvwabc'[i]}" for i in range(channels)),
    units=("m/s^2",) * channels,
    window=window,
    stride=stride,
    rows=rows,
    repair=Repair(strategy, clip, numbers(-1, 1, channels)),
    mean=numbers(-1, 1, channels),
    std=numbers(0.5, 2, channels),
    gains=gains,
    input_scale=numbers(0.5, 2, inputs),
    labels=labels,
    quantizer=Quantizer("fsq", levels, False, int(np.prod(levels)), STRIDE),
    quality=Quality(5.0, 1.0),
    model=Graph(
      "window",
      (1, rows, window // rows, inputs),
      {"logits": (1, len(labels)), "codes": (1, rows, tokens, len(levels)), "embedding": (1, 5)},
    ),
  )


def graph(p: Preprocess, seed: int = 0) -> onnx.ModelProto:
  """Transpose, convolution, ReLU; from there codes on the grid, and logits of the mean over time."""
  rng = np.random.default_rng(seed)
  inputs, tokens, digits = p.model.shape[3], p.model.outputs["codes"][2], len(p.quantizer.levels)
  half = np.array(p.quantizer.levels, np.float32) // 2
  weights = {
    "kernel": rng.normal(size=(5, inputs, 1, 5)) / inputs,
    "project": rng.normal(size=(digits, 5, 1, 1)),
    "half": half.reshape(1, -1, 1, 1),
    "even": (1 - np.array(p.quantizer.levels) % 2).reshape(1, -1, 1, 1),
    "dense": rng.normal(size=(5, len(p.labels))),
    "bias": rng.normal(size=len(p.labels)),
  }
  pad = max((tokens - 1) * STRIDE + 5 - p.model.shape[2], 0)
  nodes = [
    helper.make_node("Transpose", ["window"], ["first"], perm=[0, 3, 1, 2]),
    helper.make_node(
      "Conv", ["first", "kernel"], ["stage"], strides=[1, STRIDE], pads=[0, pad // 2, 0, pad - pad // 2]
    ),
    helper.make_node("Relu", ["stage"], ["features"]),
    helper.make_node("Conv", ["features", "project"], ["latents"]),
    helper.make_node("Tanh", ["latents"], ["squashed"]),
    helper.make_node("Mul", ["squashed", "half"], ["wide"]),
    helper.make_node("Round", ["wide"], ["grid"]),
    helper.make_node("Sub", ["half", "even"], ["top"]),  # even levels lack the uppermost place
    helper.make_node("Min", ["grid", "top"], ["inside"]),
    helper.make_node("Div", ["inside", "half"], ["quantized"]),
    helper.make_node("Transpose", ["quantized"], ["codes"], perm=[0, 2, 3, 1]),
    helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
    helper.make_node("Flatten", ["pooled"], ["embedding"]),
    helper.make_node("Gemm", ["embedding", "dense", "bias"], ["logits"]),
  ]
  outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in p.model.outputs.items()]
  model = helper.make_model(
    helper.make_graph(
      nodes, "test", [helper.make_tensor_value_info("window", TensorProto.FLOAT, p.model.shape)], outputs,
      [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()],
    ),
    opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
  )  # fmt: skip
  onnx.checker.check_model(model, full_check=True)
  return model


def syllables(p: Preprocess, *, states: int = 4, longest: int = 12, seed: int = 0, first: bool = True) -> dict:
  """Arrays of an `hsmm.npz` for the codes of a package."""
  rng = np.random.default_rng(seed)
  transitions = rng.dirichlet(np.ones(states), states) * (1 - np.eye(states))
  steps = max(int(np.prod(p.model.outputs["codes"][1:3])) // 3, 1)
  with np.errstate(divide="ignore"):
    arrays = {
      "log_initial": np.log(rng.dirichlet(np.ones(states))),
      "log_transitions": np.log(transitions / transitions.sum(axis=1, keepdims=True)),
      "log_durations": np.log(rng.dirichlet(np.ones(longest), states)),
      "temperature": np.float64(1.5),
      "rate_hz": np.float64(steps / p.window * p.rate_hz),
      "steps_per_window": np.int64(steps),
    }
    if first:
      arrays["log_first_durations"] = np.log(rng.dirichlet(np.ones(longest), states))
    for i, count in enumerate(p.quantizer.levels):
      arrays[f"log_emission_{i}"] = np.log(rng.dirichlet(np.ones(count), states))
  return arrays


def make(folder: pathlib.Path, *, hsmm: bool = False, seed: int = 0, **settings) -> Preprocess:
  """Writes a package with `model.onnx`; returns its `preprocess.json` as saved."""
  folder.mkdir(parents=True, exist_ok=True)
  p, files = preprocess(seed=seed, **settings), ["model.onnx"]
  (folder / "model.onnx").write_bytes(graph(p, seed).SerializeToString())
  if hsmm:
    np.savez(folder / "hsmm.npz", **syllables(p, seed=seed))
    files.append("hsmm.npz")
  return p.save(folder, files)


def recording(samples: int, *, channels: int = 3, seed: int = 0, lost: float = 0.0) -> np.ndarray:
  """Waves and noise; `lost` is the share of samples in gaps, some of single channels, some infinite."""
  rng = np.random.default_rng(seed)
  time = np.arange(samples)[:, None] / 10
  signal = (np.sin(time * rng.uniform(0.5, 2, channels)) + 0.3 * rng.normal(size=(samples, channels))).astype(
    np.float32
  )
  for _ in range(round(lost * samples / 5)):
    start, length = rng.integers(samples), rng.integers(1, 10)
    channel = slice(None) if rng.random() < 0.5 else rng.integers(channels)
    signal[start : start + length, channel] = rng.choice([np.nan, np.inf, -np.inf], p=[0.8, 0.1, 0.1])
  return signal
