"""From a finished run to its report: predictions of the held-out splits, baselines, figures, page."""

import os

import jax
import numpy as np

from behavejax.config import Config
from behavejax.data.batches import eval_batches
from behavejax.data.prepare import Prepared, prepare
from behavejax.data.windows import Windows
from behavejax.evaluation import baselines, report
from behavejax.evaluation.predictions import Predictions
from behavejax.models.autoencoder import Model, make_model
from behavejax.types import Variables
from behavejax.workdir import Workdir, read_metrics


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
      parameters=sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
    ),
  )


def restore(workdir: Workdir, config: Config) -> tuple[Model, Variables, Prepared]:
  """The trained encoder of a run, with the data it was made for."""
  data = prepare(config.data, config.seed)
  model = make_model(config, shape=data.train.shape, classes=len(data.train.classes))
  like = jax.eval_shape(model.init, jax.random.key(0), data.train.gather(np.arange(1)))
  return model, workdir.read_result("encoder", like), data


def predict(model: Model, variables: Variables, windows: Windows, config: Config) -> Predictions:
  """Runs the model over all windows, in order, in batches of one compiled shape."""

  @jax.jit
  def apply(x: jax.Array):
    outputs = model.apply(variables, x)
    error = jax.numpy.mean(jax.numpy.square(outputs.reconstruction - x), axis=(1, 2, 3))
    return outputs.logits, outputs.tokens, outputs.embedding, error

  size = min(config.evaluation.batch_size, len(windows))
  parts = [jax.tree.map(np.asarray, apply(batch.x)) for batch in eval_batches(windows, batch_size=size)]
  logits, tokens, embedding, error = (np.concatenate(part)[: len(windows)] for part in zip(*parts, strict=True))
  return Predictions(
    logits, windows.labels, tokens, embedding, error, windows.subject, windows.recording, windows.time_s
  )


def _baselines(config: Config, data: Prepared) -> dict[str, np.ndarray]:
  train, test = data.train, data.test
  found = {
    "majority": baselines.majority(train.labels, len(test)),
    "random": baselines.random_draw(train.labels, len(test), seed=config.seed),
  }
  if config.evaluation.random_forest:
    x, held_out = (windows.gather(np.arange(len(windows))) for windows in (train, test))
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
