"""From a finished run to its report: predictions of the held-out splits, baselines, figures, page."""

import dataclasses
import os

import jax
import numpy as np
import optax

from behavejax.config import Config
from behavejax.data.batches import Batch, eval_batches
from behavejax.data.prepare import Prepared, prepare
from behavejax.data.windows import Windows
from behavejax.evaluation import baselines, report
from behavejax.evaluation import metrics as metrics_lib
from behavejax.evaluation.predictions import Predictions
from behavejax.models.autoencoder import Model, make_model
from behavejax.types import Variables
from behavejax.workdir import Workdir, read_metrics

_SAMPLED = 128  # windows whose latent vectors are looked at


def evaluate(folder: str | os.PathLike) -> dict[str, float]:
  """Writes `report/` of a run and returns its `metrics.json`.

  Raises:
    InputError: the folder holds no finished run, or the data it was trained on are gone.
  """
  workdir = Workdir(folder)
  config = workdir.read_config()
  model, variables, data = restore(workdir, config)
  splits = {name: predict(model, variables, getattr(data, name), config) for name in ("val", "test")}
  compared = _baselines(config, data) if (data.train.labels >= 0).any() else {}
  return report.write_report(
    workdir.report,
    report.Run(
      title=f"Behaviour from codes: {config.data.name}",
      config=config,
      data=data,
      splits=splits,
      baselines=compared,
      history=read_metrics(workdir.metrics_file),
      num_codes=model.num_codes,
      latents=_latents(config, model, variables, data.val),
      parameters=sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
    ),
  )


def restore(workdir: Workdir, config: Config, *, stage: str | Variables = "") -> tuple[Model, Variables, Prepared]:
  """The trained encoder of a run, with the data it was made for.

  Args:
    workdir: of the run.
    config: of the run.
    stage: "encoder" or "finetune"; by default the latter where it is complete. Variables that are not written yet
      stand for themselves.
  """
  data = prepare(config.data, config.seed)
  model = make_model(config, shape=data.train.shape, classes=len(data.train.classes))
  if not isinstance(stage, str):
    return model, stage, data
  like = jax.eval_shape(model.init, jax.random.key(0), data.train.gather(np.arange(1)))
  latest = "finetune" if workdir.is_complete("finetune") else "encoder"
  return model, workdir.read_result(stage or latest, like), data


def predict(model: Model, variables: Variables, windows: Windows, config: Config) -> Predictions:
  """Runs the model over all windows, in order, in batches of one compiled shape."""

  @jax.jit
  def apply(x: jax.Array):
    outputs = model.apply(variables, x)
    error = jax.numpy.mean(jax.numpy.square(outputs.reconstruction - x), axis=2)
    return outputs.logits, outputs.tokens, outputs.embedding, error

  size = min(config.evaluation.batch_size, len(windows))
  parts = [jax.tree.map(np.asarray, apply(batch.x)) for batch in eval_batches(windows, batch_size=size)]
  logits, tokens, embedding, error = (np.concatenate(part)[: len(windows)] for part in zip(*parts, strict=True))
  return Predictions(
    logits, windows.labels, tokens, embedding, error.mean(axis=(1, 2)), windows.subject, windows.recording,
    windows.time_s, metrics_lib.by_channel(error, devices=windows.devices),
  )  # fmt: skip


def _latents(config: Config, model: Model, variables: Variables, windows: Windows) -> dict[str, float]:
  """What the latent vectors of an even sample of windows are like.

  `codes/silhouette` by code and `codes/silhouette_behaviours` by behaviour (see `metrics.silhouette`), NaN left out;
  `codes/encoder_gradient`: norm of the encoder's gradient over that of the whole, of the loss without the part that
  ties codes and vectors together: what comes through the quantizer.
  """
  chosen = np.linspace(0, len(windows) - 1, min(_SAMPLED, len(windows))).astype(int)
  x, labels = windows.gather(chosen), windows.labels[chosen]
  outputs = jax.jit(model.apply)(variables, x)
  vectors, tokens = (np.asarray(a).reshape(-1, *a.shape[3:]) for a in (outputs.latents, outputs.tokens))
  found = {
    "codes/silhouette": metrics_lib.silhouette(vectors, tokens),
    "codes/silhouette_behaviours": metrics_lib.silhouette(vectors, np.repeat(labels, outputs.tokens[0].size)),
  }
  through = dataclasses.replace(config, loss=dataclasses.replace(config.loss, quantization=0.0))
  untied = make_model(through, shape=windows.shape, classes=len(windows.classes))
  batch, keys = Batch(x, labels, np.ones(len(x), bool)), jax.random.split(jax.random.key(0), len(x))

  @jax.jit
  @jax.grad
  def gradient(params: Variables) -> jax.Array:
    return jax.numpy.mean(untied.loss({**variables, "params": params}, batch, keys)[0])

  whole = gradient(variables["params"])
  norm, own = (float(optax.tree.norm(part)) for part in (whole, whole["encoder"]))
  found["codes/encoder_gradient"] = own / max(norm, 1e-30)
  return {name: value for name, value in found.items() if np.isfinite(value)}


def _baselines(config: Config, data: Prepared) -> dict[str, np.ndarray]:
  train, test = data.train, data.test
  found = {
    "majority": baselines.majority(train.labels, len(test)),
    "random": baselines.random_draw(train.labels, len(test), seed=config.seed),
  }
  if config.evaluation.random_forest:
    beside = (dataclasses.replace(windows, devices=1) for windows in (train, test))  # devices are further channels
    x, held_out = (windows.gather(np.arange(len(windows))) for windows in beside)
    found["random_forest"] = baselines.random_forest(x, train.labels, held_out, seed=config.seed)
  return found


def summary_table(metrics: dict[str, float]) -> str:
  """The scores of a report as a small text table."""
  lines = []
  if "test/accuracy" in metrics:
    lines.append(f"{'test split':<28}{'accuracy':>10}{'macro-F1':>10}")
    compared = [name for name in metrics if name.startswith("baseline/") and name.endswith("/accuracy")]
    names = ["test", *sorted(name.rsplit("/", 1)[0] for name in compared)]
    for name in names:
      shown = "behavejax (from codes)" if name == "test" else name.removeprefix("baseline/").replace("_", " ")
      lines.append(f"{shown:<28}{metrics[f'{name}/accuracy']:>10.3f}{metrics[f'{name}/macro_f1']:>10.3f}")
  lines.append(
    f"codes in use {metrics['codes/usage']:.0%} of {metrics['codes/size']:.0f}, "
    f"perplexity {metrics['codes/perplexity']:.0f}, "
    f"reconstruction error {metrics['test/reconstruction_mse']:.3f} of the variance"
  )
  return "\n".join(lines)
