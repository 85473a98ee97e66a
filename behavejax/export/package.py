"""The package of a trained model for a device: models in every form, and all that a device needs beside them."""

import math
import os
import pathlib
import shutil
import zipfile

import jax
import jax.numpy as jnp
import numpy as np

from behavejax.config import Config
from behavejax.data import repair, sources
from behavejax.data.windows import window_length
from behavejax.errors import InputError
from behavejax.evaluation.steps import latest_syllables, load_steps, read_syllables
from behavejax.export import convert, device, forms, hailo, manifest, run_jax
from behavejax.export import graph as graph_lib
from behavejax.export.codes import CODEBOOK
from behavejax.export.compare import Comparison, compare_all, interface, write_report
from behavejax.export.counts import Counts, count
from behavejax.export.graph import Graph
from behavejax.export.trained import Trained, load_trained
from behavejax.models.quantizer import codebook_of, learns_codes, make_quantizer
from behavejax.segmentation import learning
from behavejax.workdir import Workdir, write_json

PURPOSE = {
  "model.onnx": "the whole network in float32 for an accelerator, with the quantizer as convolutions",
  "model.tflite": "the same for TFLite",
  "model_int8.tflite": "the same in int8, input and outputs float32; calibrated after training",
  "model_int8_io.tflite": "the same with int8 input and outputs",
  "model_int8_qat.tflite": "int8 after quantization-aware fine-tuning, input and outputs float32",
  "host/model.onnx": "the network with the exact quantizer, for a CPU",
  "host/model.tflite": "the same for TFLite",
  "split/head.onnx": "the network up to the latent vectors",
  "split/head.tflite": "the same for TFLite",
  "split/tail.onnx": "from the latent vectors to codes and logits",
  "split/tail.tflite": "the same for TFLite",
  "split/tail.npz": "the same for behavejax.export.graph.run, which needs NumPy only",
  "model.jax_export": "serialized jax.export artifact of the network in its accelerator form",
  "calib.npy": "training windows as the network takes them, for calibration",
  "model.alls": "model script for hailo optimize",
  CODEBOOK: "the codes, row by row",
  "labels.txt": "names of the behaviours, one a line, in the order of the logits",
  "hsmm.npz": "semi-Markov model of the codes, run online by the runtime",
  "saved_model/saved_model.pb": "TensorFlow SavedModel of the network in its accelerator form, with its folder",
  "report.json": "the numbers of report.md",
  "report.md": "how close every form comes to the trained model",
}
_INT8_SHARPNESS = 256.0
"""Steps need no more in 8 bits, and LiteRT refuses a convolution whose output is 256 times finer than its sums."""


def export(folder: str | os.PathLike, *, arch: str = "hailo8") -> dict[str, Comparison]:
  """Writes `export/` of a run and `export.zip`; an earlier one is replaced when all is done.

  Args:
    folder: of the run.
    arch: accelerator that the package's README gives the commands for.

  Raises:
    InputError: the encoder is not complete, its data are gone or have changed, it has a part that cannot be
      exported, or a converter is not installed.
  """
  workdir = Workdir(folder)
  config = workdir.read_config()
  trained = load_trained(workdir, config)
  target, place = workdir.path / "export", workdir.path / ".export.tmp"
  if target.exists() and not target.is_dir():
    raise InputError(f"{target} is a file, where the folder of the package should be")
  shutil.rmtree(place, ignore_errors=True)  # of an export that was killed
  try:
    new, old, packed = place / "export", place / "old", place / "export.zip"
    new.mkdir(parents=True)
    rows = write_package(new, trained, workdir, arch=arch)
    write_zip(packed, new)
    if target.exists():
      os.replace(target, old)
    os.replace(new, target)
    os.replace(packed, workdir.path / "export.zip")
  finally:
    shutil.rmtree(place, ignore_errors=True)
  return rows


def write_package(folder: pathlib.Path, trained: Trained, workdir: Workdir, *, arch: str) -> dict[str, Comparison]:
  """Writes every file of a package into an empty folder and compares the models with the trained one."""
  config = trained.config
  npu = forms.lower(trained.graph, "npu", sharpness=config.export.sharpness)
  write_models(folder, trained.graph, npu, trained, tuned=tuned_graph(workdir, trained.graph))
  np.save(folder / "calib.npy", trained.calibration, allow_pickle=False)
  (folder / "model.alls").write_text(device.model_script(len(trained.calibration)))
  (folder / "labels.txt").write_text("".join(f"{name}\n" for name in trained.data.train.classes))
  if learns_codes(config.quantizer):
    codebook = np.asarray(codebook_of(config.quantizer, trained.variables), np.float32)
    np.save(folder / CODEBOOK, codebook, allow_pickle=False)
  if workdir.is_complete("hsmm"):
    write_hsmm(folder / "hsmm.npz", config, workdir)
  rows, share = compare_all(folder, trained)
  counts = count(npu)
  write_report(folder / "report.md", rows, counts, share, config)
  write_json(folder / "report.json", {"near_thresholds": share, **counts._asdict()} | {
    name: {key: None if value != value else value for key, value in row._asdict().items()} for name, row in rows.items()
  })  # fmt: skip
  files = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
  (folder / "README.md").write_text(_readme(folder, files, trained, counts, arch))
  _preprocess(trained).save(folder, [*files, "README.md"])
  return rows


def write_models(folder: pathlib.Path, graph: Graph, npu: Graph, trained: Trained, *, tuned: Graph | None) -> None:
  """Writes the network in every form and format."""
  config = trained.config
  head, tail = forms.cut(graph)
  tail = forms.lower(tail, "host", sharpness=config.export.sharpness)
  for path, part in (
    ("model", npu), ("host/model", forms.lower(graph, "host", sharpness=config.export.sharpness)),
    ("split/head", head), ("split/tail", tail),
  ):  # fmt: skip
    (folder / path).parent.mkdir(exist_ok=True)
    tflite = convert.to_tflite(part)
    (folder / f"{path}.tflite").write_bytes(tflite)
    (folder / f"{path}.onnx").write_bytes(convert.to_onnx(tflite, part.outputs, opset=config.export.opset))
  graph_lib.save(folder / "split" / "tail.npz", tail)
  calibration, gentle = trained.calibration, min(config.export.sharpness, _INT8_SHARPNESS)
  rounded = forms.lower(graph, "npu", sharpness=gentle)
  (folder / "model_int8.tflite").write_bytes(convert.to_tflite(rounded, calibration=calibration))
  int8 = convert.to_tflite(rounded, calibration=calibration, int8_interface=True)
  (folder / "model_int8_io.tflite").write_bytes(int8)
  if tuned is not None:
    lowered = forms.lower(tuned, "npu", sharpness=gentle)
    (folder / "model_int8_qat.tflite").write_bytes(convert.to_tflite(lowered, calibration=calibration))
  convert.to_saved_model(npu, folder / "saved_model")
  (folder / "saved_model" / "fingerprint.pb").unlink(missing_ok=True)  # of the moment; all else is of the model
  (folder / "model.jax_export").write_bytes(convert.to_jax_export(npu))


def tuned_graph(workdir: Workdir, graph: Graph) -> Graph | None:
  """The graph with the weights of stage `qat`, if that is complete."""
  if not workdir.is_complete("qat"):
    return None
  params = workdir.read_result("qat", jax.tree.map(jnp.asarray, run_jax.parameters(graph)))
  return run_jax.with_parameters(graph, jax.tree.map(np.asarray, params))


def write_hsmm(path: pathlib.Path, config: Config, workdir: Workdir) -> None:
  """Tables of the syllables over codes; for a subject that they never saw, the mean of the subjects' transitions."""
  streams, steps = load_steps(workdir, config)
  segmenter, parameters = read_syllables(workdir, config.segmentation, steps, stage=latest_syllables(workdir))
  everyone = parameters._replace(
    log_initial=_mean_log(parameters.log_initial), log_transitions=_mean_log(parameters.log_transitions)
  )
  model = learning.hsmm_of(segmenter, everyone, jnp.zeros((), jnp.int32))
  tables = {"log_initial": model.log_initial, "log_transitions": model.log_transitions,
            "log_durations": model.log_durations}  # fmt: skip
  if model.log_first_durations is not None:
    tables["log_first_durations"] = model.log_first_durations
  for i, count_ in enumerate(steps.levels):
    tables[f"log_emission_{i}"] = parameters.emission[:, i, :count_]
  rate_hz = streams.recordings[0].rate_hz
  per_window = round(steps.rate_hz * window_length(config.data.window_s, rate_hz, fold=config.data.fold) / rate_hz)
  numbers = {"temperature": np.float64(segmenter.temperature), "rate_hz": np.float64(steps.rate_hz),
             "steps_per_window": np.int64(per_window)}  # fmt: skip
  np.savez(path, **{name: np.asarray(value) for name, value in tables.items()}, **numbers)


def _mean_log(log_probs: jax.Array) -> jax.Array:
  """Mean over groups of probabilities, given and returned as logs."""
  return jax.scipy.special.logsumexp(log_probs, axis=0, keepdims=True) - math.log(len(log_probs))


def _preprocess(trained: Trained) -> manifest.Preprocess:
  config, windows = trained.config, trained.data.train
  raw = sources.load(config.data, config.seed)
  strategy = config.data.nan_strategy
  fill = repair.fill_values([recording.signal for recording in raw], strategy=strategy, clip=config.data.clip)
  quantizer = config.quantizer
  return manifest.Preprocess(
    rate_hz=float(windows.rate_hz),
    channels=windows.channels,
    units=raw[0].units,
    window=windows.length,
    stride=max(round(config.data.stride_s * windows.rate_hz), 1),
    rows=windows.shape[0],
    repair=manifest.Repair(strategy, config.data.clip, tuple(map(float, fill))),
    mean=tuple(map(float, trained.data.normalization.mean)),
    std=tuple(map(float, trained.data.normalization.std)),
    gains=config.model.gains,
    input_scale=tuple(map(float, trained.input_scale)),
    labels=windows.classes,
    quantizer=manifest.Quantizer(
      "vq" if learns_codes(quantizer) else "fsq", make_quantizer(quantizer).levels,
      quantizer.symmetric or quantizer.name == "lfq", trained.model.num_codes, config.model.token_stride,
    ),
    quality=manifest.Quality(config.data.quality.max_nan_percent, config.data.quality.max_inf_percent),
    model=interface(trained.graph),
  )  # fmt: skip


def _readme(folder: pathlib.Path, files: list[str], trained: Trained, counts: Counts, arch: str) -> str:
  windows = trained.data.train
  listed = [(name, (folder / name).stat().st_size, PURPOSE[name]) for name in PURPOSE if name in files]
  verdict = hailo.check(folder / "model.onnx", arch=arch)
  return device.readme(
    title=trained.config.data.name,
    shape=(1, *trained.graph.shape),
    rate_hz=windows.rate_hz,
    channels=windows.channels,
    labels=windows.classes,
    counts=counts,
    files=listed,
    operators=tuple(verdict.operators),
    commands=device.hailo_commands(verdict.arch, end_nodes=verdict.end_nodes),
    syllables="hsmm.npz" in files,
  )


def write_zip(path: pathlib.Path, folder: pathlib.Path) -> None:
  """A package as one file."""
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    for file in sorted(folder.rglob("*")):
      if file.is_file():
        entry = zipfile.ZipInfo(str(file.relative_to(folder)))  # dated 1980, so that the same package is the same file
        archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)


def check(folder: str | os.PathLike, *, arch: str) -> hailo.Verdict:
  """What the documents of an accelerator say of the model in a run's package.

  Raises:
    InputError: nothing was exported yet, or the architecture is unknown.
  """
  file = Workdir(folder).path / "export" / "model.onnx"
  if not file.exists():
    raise InputError(f"{file} is missing: run launch/export.py --workdir={folder} first")
  return hailo.check(file, arch=arch)
