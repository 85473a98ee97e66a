"""How close an exported model comes to the trained one, window by window."""

import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from behavejax.config import Config
from behavejax.data.batches import eval_batches
from behavejax.data.windows import Windows
from behavejax.evaluation import metrics
from behavejax.export import forms, manifest
from behavejax.export import graph as graph_lib
from behavejax.export.backends import OnnxBackend, TfliteBackend
from behavejax.export.counts import Counts
from behavejax.export.graph import Graph
from behavejax.export.trained import Trained, amplified
from behavejax.models.quantizer import learns_codes

Outputs = Mapping[str, np.ndarray]
_INT8 = {
  "int8, post-training": "model_int8.tflite",
  "int8, post-training, int8 input": "model_int8_io.tflite",
  "int8, quantization-aware": "model_int8_qat.tflite",
}


class Comparison(NamedTuple):
  """An exported model beside the trained one, on the same windows.

  Attributes:
    windows: how many.
    excused: of these, with a value near a threshold of the quantizer.
    logit_error: largest absolute difference of a logit.
    logit_error_far: the same over windows without a value near a threshold of the quantizer.
    code_agreement: share of code values that are equal.
    code_agreement_far: the same away from thresholds.
    class_agreement: share of windows with the same most probable class.
    accuracy: against the labels; NaN without labels.
    accuracy_change: accuracy minus that of the trained model.
    macro_f1: against the labels; NaN without labels.
  """

  windows: int
  excused: int
  logit_error: float
  logit_error_far: float
  code_agreement: float
  code_agreement_far: float
  class_agreement: float
  accuracy: float
  accuracy_change: float
  macro_f1: float


def run_all(
  run: Callable[[Float[np.ndarray, "1 height time channel"]], Outputs],
  windows: Float[np.ndarray, "window height time channel"],
) -> dict[str, np.ndarray]:
  """Outputs of a model that takes one window at a time, stacked."""
  answers = [run(window[None]) for window in windows]
  return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def compare(
  outputs: Outputs,
  trained: Outputs,
  labels: Int[np.ndarray, " window"],
  *,
  near: Bool[np.ndarray, "window row token digit"],
  same: Callable[[np.ndarray, np.ndarray], Bool[np.ndarray, "window row token digit"]],
) -> Comparison:
  """Compares `logits` and `codes` of an exported model with those of the trained one.

  Args:
    outputs: of the exported model.
    trained: of the model in JAX.
    labels: -1 where unlabelled.
    near: values, or vectors, within reach of a threshold, where the accelerator form is not exact.
    same: which values, or vectors, of two arrays of codes are the same code.
  """
  error = np.abs(outputs["logits"] - trained["logits"]).max(axis=1)
  equal = same(outputs["codes"], trained["codes"])
  far = ~near.any(axis=(1, 2, 3))
  mine, theirs = (found["logits"].argmax(-1) for found in (outputs, trained))
  accuracy, macro_f1 = _scores(mine, labels, outputs["logits"].shape[1])
  return Comparison(
    windows=len(error),
    excused=int(np.count_nonzero(~far)),
    logit_error=float(error.max()),
    logit_error_far=float(error[far].max()) if far.any() else 0.0,
    code_agreement=float(equal.mean()),
    code_agreement_far=float(equal[~near].mean()),
    class_agreement=float((mine == theirs).mean()),
    accuracy=accuracy,
    accuracy_change=accuracy - _scores(theirs, labels, outputs["logits"].shape[1])[0],
    macro_f1=macro_f1,
  )


def _scores(predicted: np.ndarray, labels: np.ndarray, classes: int) -> tuple[float, float]:
  if not (labels >= 0).any():
    return float("nan"), float("nan")
  counts = metrics.confusion(labels, predicted, classes=classes)
  return metrics.accuracy(counts), metrics.macro_f1(counts)


def table(rows: Mapping[str, Comparison]) -> str:
  """The comparisons of a package as a text table; errors of logits are those away from thresholds."""
  columns = ("windows", "logit error", "but near", "codes equal", "class equal", "accuracy", "macro-F1")
  lines = [f"{'':<33}" + "".join(f"{name:>12}" for name in columns)]
  for name, row in rows.items():
    lines.append(
      f"{name:<33}{row.windows:>12,}{row.logit_error:>12.1e}{row.logit_error_far:>12.1e}{row.code_agreement:>12.3%}"
      f"{row.class_agreement:>12.2%}{row.accuracy:>12.3f}{row.macro_f1:>12.3f}"
    )
  lines.append("logit error: the largest; but near: without windows that have a value near a threshold")
  return "\n".join(lines)


def compare_all(folder: pathlib.Path, trained: Trained) -> tuple[dict[str, Comparison], float]:
  """Every model of a package on the test windows, and the share of values near a threshold of the quantizer."""
  windows = trained.data.test
  reference = trained_outputs(trained, windows)
  x = amplified(windows.gather(np.arange(len(windows))), gains=trained.config.model.gains) / trained.input_scale
  near, same = nearness(trained, reference["latents"]), agreement(trained)
  exact = np.zeros_like(near)
  whole, (head, tail) = interface(trained.graph), forms.cut(trained.graph)
  numpy_tail = graph_lib.load(folder / "split" / "tail.npz")
  onnx_head = OnnxBackend(folder / "split" / "head.onnx", interface(head)).run
  onnx_tail = OnnxBackend(folder / "split" / "tail.onnx", interface(tail)).run
  runs = {
    "ONNX, accelerator form": (OnnxBackend(folder / "model.onnx", whole).run, near),
    "TFLite, accelerator form": (TfliteBackend(folder / "model.tflite", whole).run, near),
    "ONNX, exact form": (OnnxBackend(folder / "host" / "model.onnx", whole).run, exact),
    "TFLite, exact form": (TfliteBackend(folder / "host" / "model.tflite", whole).run, exact),
    "ONNX head and tail": (lambda window: onnx_tail(onnx_head(window)["latents"]), exact),
    "ONNX head, NumPy tail": (lambda window: graph_lib.run(numpy_tail, onnx_head(window)["latents"]), exact),
    **{
      label: (TfliteBackend(folder / name, whole).run, near)
      for label, name in _INT8.items() if (folder / name).exists()
    },
  }  # fmt: skip
  rows = {
    name: compare(
      run_all(run, x), reference, windows.labels, near=excused, same=same
    )
    for name, (run, excused) in runs.items()
  }  # fmt: skip
  return rows, float(near.mean())


def nearness(trained: Trained, latents: Float[np.ndarray, "window row token digit"]) -> Bool[np.ndarray, "..."]:
  """Where the accelerator form is not exact: values near a threshold, or (one digit) vectors between two codes."""
  node = graph_lib.quantizer_of(trained.graph)
  sharpness = trained.config.export.sharpness
  if node.codebook is None:
    return forms.near_threshold(latents, node.levels, symmetric=node.symmetric, sharpness=sharpness)
  return forms.near_tie(latents, node.codebook, cosine=node.cosine, sharpness=sharpness)[..., None]


def agreement(trained: Trained) -> Callable[[np.ndarray, np.ndarray], Bool[np.ndarray, "..."]]:
  """Compares codes, which an export may give with small errors, digit by digit or (vectors) as a whole."""
  node = graph_lib.quantizer_of(trained.graph)
  if node.codebook is None:
    tolerance = 0.4 * float(forms.step_sizes(node.levels, symmetric=node.symmetric).min())
    return lambda a, b: np.abs(a - b) < tolerance

  def nearest(codes: np.ndarray) -> np.ndarray:
    distance = np.square(node.codebook).sum(axis=1) - 2 * codes @ node.codebook.T
    return distance.argmin(axis=-1)[..., None]

  return lambda a, b: nearest(a) == nearest(b)


def interface(graph: Graph) -> manifest.Graph:
  """Name and shapes of a graph's input and outputs, with the batch."""
  sizes = graph_lib.shapes(graph)
  outputs = {name: (1, *sizes[node]) for name, node in graph.outputs.items()}
  return manifest.Graph(graph_lib.INPUT, (1, *graph.shape), outputs)


def trained_outputs(trained: Trained, windows: Windows) -> dict[str, np.ndarray]:
  """Logits, codes and latents of the model as it was trained, in the order of the windows."""
  apply = jax.jit(lambda x: trained.model.apply(trained.variables, x))
  size = min(trained.config.evaluation.batch_size, len(windows))
  parts = [apply(batch.x) for batch in eval_batches(windows, batch_size=size)]
  return {
    name: np.concatenate([np.asarray(getattr(part, name)) for part in parts])[: len(windows)]
    for name in ("logits", "codes", "latents")
  }


def write_report(
  path: pathlib.Path, rows: Mapping[str, Comparison], counts: Counts, share: float, config: Config
) -> None:
  """report.md: how close each form comes, and what was not tried."""
  near = rows["ONNX, accelerator form"].excused
  windows = next(iter(rows.values())).windows
  lines = [
    "# Exported models beside the trained one",
    "",
    f"On the {windows:,} windows of the test split, one at a time. Logit error: the largest difference from the model "
    f"in JAX, over all windows, and without the {near:,} of them that have a "
    f"{'vector' if learns_codes(config.quantizer) else 'value'} so near a threshold, or between two codes, that the "
    f"accelerator form is not exact there: {share:.4%} of all (config.export.sharpness = {config.export.sharpness:g}).",
    "",
    "| model | logit error | away from thresholds | codes equal | away from thresholds | same class | accuracy "
    "| change | macro-F1 |",
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    *(
      f"| {name} | {row.logit_error:.1e} | {row.logit_error_far:.1e} | {row.code_agreement:.3%} | "
      f"{row.code_agreement_far:.4%} | {row.class_agreement:.2%} | {_or_dash(row.accuracy, '.4f')} | "
      f"{_or_dash(row.accuracy_change, '+.4f')} | {_or_dash(row.macro_f1, '.4f')} |"
      for name, row in rows.items()
    ),
    "",
    f"One window: {counts.macs / 1e6:.2f} million multiply-accumulates, {counts.parameters:,} parameters, "
    f"{counts.activations:,} numbers of activations at once.",
    "",
    "Not known: what the Hailo compiler makes of it. It was not run; its quantization is not TFLite's.",
  ]
  if "int8, quantization-aware" in rows:
    lines.append(
      "Quantization-aware fine-tuning keeps the weights as they were where no step comes nearer to the trained model "
      "on the validation windows; its row is then that of int8 after training."
    )
  else:
    lines.append(
      "No quantization-aware fine-tuning was done; `launch/export.py --workdir=... --qat` does it before exporting."
    )
  if learns_codes(config.quantizer):
    lines.append(
      "The int8 models round the scores of learned codes to 256 steps over their whole range: near codes become ties, "
      "so that the codes are less reliable than the class."
    )
  path.write_text("\n".join(lines) + "\n")


def _or_dash(value: float, form: str) -> str:
  return "-" if np.isnan(value) else format(value, form)
