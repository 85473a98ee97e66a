"""A neural encoder for inference: ONNX and `jax.export` files of every data set, and what their inputs must be."""

import dataclasses
import hashlib
import os
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from behavejax.data.neural_prepare import NeuralData
from behavejax.errors import InputError
from behavejax.evaluation.neural_run import STAGES, Trained, restore
from behavejax.evaluation.page import replaced_folder
from behavejax.export import convert
from behavejax.export.backends import quiet
from behavejax.models.neural_encoder import NeuralEncoder
from behavejax.workdir import Workdir, write_json

_CLIPS = 4


class Exported(NamedTuple):
  """How close the files of a data set come to the trained network: largest difference of an expected count.

  Attributes:
    name: of the data set.
    jax_export: of the serialized function, run by JAX.
    onnx: of the ONNX file, run by ONNX Runtime.
    operators: of the ONNX file.
  """

  name: str
  jax_export: float
  onnx: float
  operators: int


def is_neural(workdir: Workdir) -> bool:
  """Whether a run has learned a neural encoder."""
  return any(workdir.is_complete(stage) for stage in STAGES)


def export(folder: str | os.PathLike) -> list[Exported]:
  """Writes `export/` of a run: `NAME.onnx` and `NAME.jax_export` of every data set, and `encoder.json`.

  A file takes one clip of `config.neural.clip` frames as `video` `[1, T, H, W, 1]` and, where it was recorded,
  `behaviour` `[1, T, F]`, both normalised as `encoder.json` says, and gives `rates` `[1, T, N]`: expected counts.

  Raises:
    InputError: no finished neural encoder, its data are gone, or a converter is not installed.
  """
  workdir = Workdir(folder)
  trained = restore(workdir, workdir.read_config())
  with replaced_folder(workdir.path / "export") as place:
    rows = [_export(place, trained, i, data) for i, data in enumerate(trained.data)]
    write_json(place / "encoder.json", {
      "clip": trained.config.neural.clip,
      "context": trained.config.neural.context,
      "behaviour_lags": trained.config.neural.behaviour_lags,
      "data_sets": {data.name: _interface(place, data) for data in trained.data},
    })  # fmt: skip
  return rows


def table(rows: list[Exported]) -> str:
  """What an export found, as text."""
  lines = [f"{'largest difference':<24}{'jax.export':>12}{'ONNX':>12}{'operators':>11}"]
  return "\n".join(lines + [f"{r.name:<24}{r.jax_export:>12.1e}{r.onnx:>12.1e}{r.operators:>11}" for r in rows])


def _export(place: pathlib.Path, trained: Trained, number: int, data: NeuralData) -> Exported:
  network = trained.model.network
  settings = dataclasses.replace(network.settings, dtype="float32", remat=False)
  static = NeuralEncoder(settings, network.sets, unroll=data.test.length)  # a graph without loops
  shapes = {"video": (1, *data.test.shape)}
  if data.test.signals:
    shapes["behaviour"] = (1, data.test.length, data.test.signals)

  def apply(video: jax.Array, behaviour: jax.Array | None = None) -> jax.Array:
    behaviour = jnp.zeros((1, data.test.length, 0)) if behaviour is None else behaviour
    return static.apply(trained.variables, video, behaviour, number)

  clips = data.test.gather(np.linspace(0, len(data.test) - 1, min(_CLIPS, len(data.test))).astype(int))
  examples = [{name: getattr(clips, name)[i : i + 1] for name in shapes} for i in range(len(clips.video))]
  expected = [np.asarray(jax.jit(apply)(**example)) for example in examples]
  function = jax.export.export(jax.jit(apply), platforms=("cpu", "cuda", "tpu"))
  serialized = function(**{name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}).serialize()
  (place / f"{data.name}.jax_export").write_bytes(serialized)
  again = jax.export.deserialize(serialized)
  model = convert.function_to_onnx(apply, shapes, "rates", opset=max(trained.config.export.opset, 17))
  (place / f"{data.name}.onnx").write_bytes(model)
  session = _session(model)
  found = [session.run(["rates"], example)[0] for example in examples]
  return Exported(
    data.name,
    _largest([np.asarray(again.call(**example)) for example in examples], expected),
    _largest(found, expected),
    _operators(model),
  )


def _largest(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
  return max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))


def _interface(place: pathlib.Path, data: NeuralData) -> dict[str, Any]:
  files = [f"{data.name}.onnx", f"{data.name}.jax_export"]
  scaling = {name: np.asarray(value) for name, value in data.scaling._asdict().items() if name != "mean_counts"}
  return {
    "rate_hz": data.recording.rate_hz,
    "video": data.test.shape,
    "signals": data.test.signals,
    **scaling,
    "sha256": {name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in files},
  }


def _session(model: bytes) -> Any:
  try:
    import onnxruntime
  except ImportError as error:
    raise InputError("exporting needs onnxruntime: pip install 'behavejax[export]'") from error
  options = onnxruntime.SessionOptions()
  options.log_severity_level = 3
  with quiet():
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _operators(model: bytes) -> int:
  import onnx

  return len(onnx.load_model_from_string(model).graph.node)
