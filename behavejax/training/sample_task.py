"""Training of models of samples (signals, images, video, grids of codes) in the loop of all gradient stages."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from behavejax.config import Config
from behavejax.data.prepare_samples import PreparedSamples
from behavejax.data.samples import Samples
from behavejax.evaluation import findings
from behavejax.training import loop, validation
from behavejax.training import step as step_lib
from behavejax.training.task import Task, make_plan
from behavejax.types import Key, Metrics, Variables
from behavejax.workdir import Workdir


class SampleModel(Protocol):
  """What is trained here; metrics are sums over examples with an entry "count", of which `summarize` makes "loss"."""

  init: Callable[[Key, jax.Array], Variables]
  loss: step_lib.Loss
  score: Callable[[Variables, Any], Metrics]
  summarize: Callable[[dict[str, np.ndarray]], dict[str, float]]


def fit_samples(
  config: Config,
  data: PreparedSamples,
  workdir: Workdir,
  *,
  stage: str,
  build: loop.Build,
  line: Callable[[dict[str, float]], str],
  checks: Sequence[findings.Check],
) -> Variables:
  """Trains from the last checkpoint of the stage, or from the start; the least loss on the validation part is best.

  Args:
    config: the sections `train`, `evaluation` and `seed` are used.
    data: what to learn from, and to judge by.
    workdir: of the run.
    stage: its name.
    build: makes the model, a `SampleModel`.
    line: the values of an evaluation in a few words.
    checks: of an evaluation.

  Raises:
    loop.Stopped: SIGTERM arrived; the state is saved and repeating the call continues from it.
    Diverged: a loss or gradient became NaN or Inf.
  """
  plan = make_plan(config, windows=len(data.train))
  call, init = loop.make_train_call(config, data, steps=plan.steps, build=build)
  model = build(config, data.train)

  def summarize(totals: dict[str, np.ndarray]) -> dict[str, float]:
    return {f"train/{name}": value for name, value in model.summarize(totals).items()}

  def check(values: dict[str, float], config: Config, *, done: float) -> list[findings.Finding]:
    del config
    return findings.judge(checks, {name.removeprefix("val/"): value for name, value in values.items()}, done=done)

  task = Task(
    plan, call, init, loop.call_batches(config, data.train, steps_per_call=plan.steps_per_call),
    _evaluation(config, data.val, model), summarize, lambda values: -values["val/loss"],
    lambda values: f"loss {values['train/loss']:.3f}", line, check,
  )  # fmt: skip
  return loop.run(config, task, workdir.stage(stage), workdir.metrics_file, stage=stage)


def _evaluation(config: Config, samples: Samples, model: SampleModel):
  kind, size = config.train.parallel, config.evaluation.batch_size
  sums = validation.make_sums(model.score, samples, kind=kind, batch_size=size)

  def evaluate(variables: Variables, remembered: Any) -> tuple[dict[str, float], Any]:
    return {f"val/{name}": value for name, value in model.summarize(sums(variables)).items()}, remembered

  return evaluate
