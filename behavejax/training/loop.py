"""The training loop of a gradient stage: batches in, evaluations, checkpoints, the best parameters out."""

import contextlib
import functools
import pathlib
import signal
import time
from collections.abc import Callable
from typing import Any, Protocol

import flax.struct
import jax
import numpy as np
from jax.experimental import multihost_utils

from behavejax.config import Config
from behavejax.data import batches as batches_lib
from behavejax.data.prepare import Prepared
from behavejax.data.prepare_samples import PreparedSamples
from behavejax.data.samples import Samples
from behavejax.data.windows import Windows
from behavejax.errors import Diverged
from behavejax.evaluation import findings
from behavejax.evaluation import metrics as metrics_lib
from behavejax.models.autoencoder import Model, class_weights, make_model
from behavejax.training import parallel, validation
from behavejax.training import step as step_lib
from behavejax.training.augment import augment
from behavejax.training.checkpoint import Checkpoints
from behavejax.training.log import MetricWriter, SilentWriter
from behavejax.training.state import TrainState, init_state, make_optimizer, schedule
from behavejax.training.task import Task, make_plan
from behavejax.types import Key, Metrics, Variables

OnEvaluation = Callable[[int, dict[str, float]], None]
"""Told the step and the values of each evaluation; what it raises ends the run, which can be resumed."""

Rank = Callable[[dict[str, float], dict[str, float]], float]
"""How good an evaluation is, from its values and those from before the first step."""


class Stopped(Exception):  # noqa: N818  (not an error: the run was asked to stop and can be resumed)
  """SIGTERM arrived; everything is saved."""


@flax.struct.dataclass
class Progress:
  """What the loop remembers besides the state, saved as JSON beside it."""

  iterator: Any
  best_score: float = -np.inf
  best_step: int = -1
  stale: int = 0  # evaluations since the best
  plateau: int = 0  # evaluations since the best or since the last cut of the learning rate
  tokens: Any = None  # what the last evaluation remembered, such as the tokens of the watched windows
  start: Any = None  # values from before the first step, where evaluations are ranked beside them

  def to_json(self) -> dict[str, Any]:
    record = dict(self.__dict__)
    record["best_score"] = self.best_score if np.isfinite(self.best_score) else None
    return record

  @classmethod
  def from_json(cls, record: dict[str, Any]) -> "Progress":
    best = -np.inf if record["best_score"] is None else record["best_score"]
    return cls(**{**record, "best_score": best})


def build(config: Config, data: Windows, *, axis_name: str | None = None) -> Model:
  """The model for windows like these, with class weights from their labels."""
  classes = len(data.classes)
  weights = class_weights(data.labels, classes=classes, power=config.loss.class_weight_power) if classes else None
  return make_model(config, shape=data.shape, classes=classes, class_weights=weights, axis_name=axis_name)


class Trainable(Protocol):
  """What the loop needs of a model; see `behavejax.models.autoencoder.Model`.

  Where there is a function `tokens` too, the loop watches how many of them change between evaluations.
  """

  init: Callable[[Key, jax.Array], Variables]
  loss: step_lib.Loss
  score: Callable[[Variables, Any], Metrics]


class Build(Protocol):
  """Makes the model of a stage for data like these."""

  def __call__(self, config: Config, data: Any, *, axis_name: str | None = None) -> Trainable: ...


def make_train_call(
  config: Config, data: Prepared | PreparedSamples, *, steps: int, build: Build, distort: Callable | None = None
) -> tuple[Callable, Callable[[], TrainState]]:
  """The compiled call of several steps, and the function that makes the state it starts from.

  Args:
    config: the sections `train` and `quantizer` are used, besides those of the model.
    data: of which `train` is learned from.
    steps: of the whole training.
    build: makes the model.
    distort: random changes of an example, given its key.
  """
  parallel.check_batch_size(config.train.batch_size)
  axis_name = parallel.axis_name(config.train.parallel)
  optimizer = make_optimizer(config.train, steps=steps)
  step = functools.partial(
    step_lib.train_step,
    loss=build(config, data.train, axis_name=axis_name).loss,
    optimizer=optimizer,
    augment=distort,
    ema_decay=config.train.ema_decay,
    axis_name=axis_name,
  )

  def init() -> TrainState:
    init_key, train_key = jax.random.split(jax.random.key(config.seed))
    count = min(max(config.train.batch_size, config.quantizer.num_codes), len(data.train))
    chosen = np.linspace(0, len(data.train) - 1, count).astype(int)  # learned codes start from their vectors
    variables = jax.jit(build(config, data.train).init)(init_key, data.train.gather(chosen))
    return init_state(variables, optimizer=optimizer, key=train_key)

  return parallel.train_call(step, kind=config.train.parallel), init


def distortion(config: Config, data: Prepared) -> Callable | None:
  """What `config.augment` asks for, in the units of the data; None for nothing."""
  if not any(vars(config.augment).values()):
    return None
  return functools.partial(
    augment, config=config.augment, mean=data.normalization.mean, std=data.normalization.std,
    devices=config.data.devices,
  )  # fmt: skip


def fit(
  config: Config,
  data: Prepared,
  folder: pathlib.Path,
  metrics_file: pathlib.Path,
  *,
  stage: str,
  build: Build = build,
  rank: Rank | None = None,
  on_evaluation: OnEvaluation | None = None,
) -> Variables:
  """Trains a model of windows; see `run`.

  Args:
    config: the sections `train` and `augment` are used, besides those of the model.
    data: windows to learn from, and to judge by.
    folder: of the checkpoints.
    metrics_file: to append to.
    stage: named in metrics and messages.
    build: makes the model.
    rank: as in `run`; else `config.train.keep_by` decides.
    on_evaluation: as in `run`.
  """
  plan = make_plan(config, windows=len(data.train))
  call, init = make_train_call(config, data, steps=plan.steps, build=build, distort=distortion(config, data))
  task = Task(
    plan, call, init, call_batches(config, data.train, steps_per_call=plan.steps_per_call),
    _make_evaluation(config, data.val, build), functools.partial(validation.summarize, prefix="train"),
    {"labels": _by_labels, "loss": _by_loss}[config.train.keep_by],
    _progress, _evaluation_line, findings.of_evaluation,
  )  # fmt: skip
  return run(config, task, folder, metrics_file, stage=stage, rank=rank, on_evaluation=on_evaluation)


def run(
  config: Config,
  task: Task,
  folder: pathlib.Path,
  metrics_file: pathlib.Path,
  *,
  stage: str,
  rank: Rank | None = None,
  on_evaluation: OnEvaluation | None = None,
) -> Variables:
  """Trains from the last checkpoint in `folder`, or from the start, and returns the best parameters.

  Args:
    config: the section `train` is used.
    task: what is trained.
    folder: of the checkpoints.
    metrics_file: to append to.
    stage: named in metrics and messages.
    rank: where a stage fine-tunes: what makes one evaluation better than another. The parameters from before the
      first step may then be the best. Else the task's score does.
    on_evaluation: told of each evaluation before it is saved; what it raises ends the run.

  Raises:
    Stopped: SIGTERM arrived; the state is saved and repeating the call continues from it.
    Diverged: a loss or gradient became NaN or Inf; the message names the step and the tensor.
  """
  plan, calls = task.plan, task.batches
  state = parallel.everywhere(task.init())
  progress = Progress(calls.get_state())
  checkpoints = Checkpoints(folder / "checkpoints", keep_best=config.train.keep_best)
  saved = checkpoints.restore_last(state)
  if saved is not None:
    state, progress = saved[0], Progress.from_json(saved[1])
    calls.set_state(progress.iterator)
  first = int(state.step)
  learning_rate = schedule(config.train, steps=plan.steps)

  speaks = jax.process_index() == 0
  log = MetricWriter(metrics_file, stage=stage, first_step=first, steps=plan.steps) if speaks else SilentWriter()

  with log as writer, Sigterm() as sigterm, contextlib.closing(checkpoints):
    if first:
      writer.say(f"{stage}: resumed at step {first} of {plan.steps}")
    if rank is not None and saved is None:
      values, tokens = task.evaluate(state.ema, None)
      progress = progress.replace(tokens=tokens, start=values)
      values["val/score"] = rank(values, values)
      writer.write(0, values)
      writer.say(f"{stage}: step {0:5d}/{plan.steps}  {task.line(values)}")
      state, progress = _judge(config, state, progress, score=values["val/score"], step=0)
      checkpoints.save(parallel.everywhere(state), progress.to_json(), score=values["val/score"])
    pending, clock, scale = None, time.perf_counter(), float(state.learning_rate_scale)
    found = None
    for number in range(first // plan.steps_per_call + 1, plan.calls + 1):
      if _patience_spent(config, progress):
        break
      state, metrics = task.call(state, next(calls))
      if pending is not None:
        clock, _ = _log(writer, task, *pending, config=config, params=state.params, clock=clock)
      step = number * plan.steps_per_call
      rate = float(learning_rate((step - 1) // config.train.accumulate))
      pending = (step, metrics, rate, scale)
      evaluated = number % plan.calls_per_evaluation == 0
      stopping = sigterm.arrived()
      if not (evaluated or stopping):
        continue
      _, logged = _log(writer, task, *pending, config=config, params=state.params, clock=clock)
      pending = None
      progress = progress.replace(iterator=calls.get_state())
      score = None
      if evaluated:
        values, tokens = task.evaluate(state.ema, progress.tokens)
        progress = progress.replace(tokens=tokens)
        values["val/score"] = rank(values, progress.start) if rank else task.score(values)
        writer.write(step, values)
        writer.say(f"{stage}: step {step:5d}/{plan.steps}  {task.line(values)}")
        found = task.check(logged | values, config, done=step / plan.steps) if task.check else None
        for finding in found or ():
          writer.say_once(finding.name, f"{stage}: step {step:5d}/{plan.steps}  {finding.line}")
        if on_evaluation is not None:
          on_evaluation(step, values)
        score = values["val/score"]
        state, progress = _judge(config, state, progress, score=score, step=step)
        scale = float(state.learning_rate_scale)
      checkpoints.save(parallel.everywhere(state), progress.to_json(), score=score)
      if stopping:
        checkpoints.wait()
        raise Stopped(f"{stage}: stopped at step {step} of {plan.steps}; repeat the command to resume")
      clock = time.perf_counter()
    checkpoints.wait()
    for line in findings.lines(found):
      writer.say(f"{stage}: {line}")
    best, _ = checkpoints.restore(progress.best_step, parallel.everywhere(state))
  return best.ema


def call_batches(config: Config, windows: Windows | Samples, *, steps_per_call: int) -> Any:
  """This process's batches of whole calls, arrays `[step, batch, ...]`; its position can be saved."""
  return batches_lib.train_batches(
    windows,
    batch_size=config.train.batch_size,
    seed=config.seed,
    steps_per_call=steps_per_call,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )


def _make_evaluation(config: Config, windows: Windows, build: Build):
  kind = config.train.parallel
  model = build(config, windows)
  sums = validation.make_sums(model.score, windows, kind=kind, batch_size=config.evaluation.batch_size)
  watch, ranges = validation.make_watch(model, windows, kind=kind), metrics_lib.channel_ranges(windows.signal)

  def evaluate(variables: Variables, tokens: list[int] | None) -> tuple[dict[str, float], list[int] | None]:
    """Metrics, and the tokens of the watched windows; takes those of the last evaluation."""
    totals = sums(variables)
    values = validation.summarize(totals, prefix="val")
    watched = watch(variables)
    further = validation.tokens_changed(tokens, watched)
    if "squared_error" in totals:
      further |= validation.channel_errors(totals["squared_error"] / totals["count"], windows, ranges)
    values |= {f"val/{name}": value for name, value in further.items()}
    if totals["labelled"] and config.loss.classification:
      values["val/macro_f1"] = float(metrics_lib.macro_f1(totals["confusion"]))
    return values, watched

  return evaluate


def _log(
  writer: MetricWriter, task: Task, step: int, metrics: Any, rate: float, scale: float, *, config, params, clock
) -> tuple[float, dict[str, float]]:
  """Waits for a call's metrics, writes them, and returns the time and what was written."""
  metrics = {name: np.asarray(value) for name, value in metrics.items()}
  nonfinite = metrics.pop("nonfinite")
  norms = {name: float(metrics.pop(name).mean()) for name in list(metrics) if name.startswith("gradient_norm")}
  if nonfinite.any():
    where = int(np.argmax(nonfinite > 0))
    raise Diverged(
      step_lib.describe_nonfinite(
        int(nonfinite[where]),
        step=step - len(nonfinite) + where + 1,
        params=params,
        config=config,
      )
    )
  totals = {name: value.sum(axis=0, dtype=np.float64) for name, value in metrics.items()}
  now = time.perf_counter()
  values = task.summarize(totals) | {
    "learning_rate": rate * scale,
    **norms,
    "examples_per_second": float(totals["count"]) / max(now - clock, 1e-9),
  }
  writer.write(step, values)
  writer.progress(step, f"{task.progress(values)}, {values['examples_per_second']:.0f}/s")
  return now, values


def _judge(config: Config, state: TrainState, progress: Progress, *, score: float, step: int):
  """Updates the record of the best and lowers the learning rate on a plateau."""
  if score > progress.best_score:
    return state, progress.replace(best_score=score, best_step=step, stale=0, plateau=0)
  progress = progress.replace(stale=progress.stale + 1, plateau=progress.plateau + 1)
  if config.train.schedule == "plateau" and progress.plateau > config.train.plateau_patience:
    scale = state.learning_rate_scale * config.train.plateau_factor
    return state.replace(learning_rate_scale=scale), progress.replace(plateau=0)
  return state, progress


def _by_labels(values: dict[str, float]) -> float:
  """How good an evaluation is: by accuracy and macro-F1, or by the reconstruction where nothing is labelled."""
  if "val/macro_f1" in values:
    return (values["val/accuracy"] + values["val/macro_f1"]) / 2
  return -values["val/reconstruction_mse"]


def _by_loss(values: dict[str, float]) -> float:
  """How good an evaluation is by all that is trained for: steadier than labels of a few subjects."""
  return -values["val/loss"]


def _patience_spent(config: Config, progress: Progress) -> bool:
  return 0 < config.train.patience <= progress.stale


def _progress(values: dict[str, float]) -> str:
  return (
    f"loss {values['train/loss']:.3f}, acc {values['train/accuracy']:.3f}, perplexity {values['train/perplexity']:.0f}"
  )


def _evaluation_line(values: dict[str, float]) -> str:
  line = f"val loss {values['val/loss']:.3f}"
  if "val/macro_f1" in values:
    line += f"  accuracy {values['val/accuracy']:.3f}  macro-F1 {values['val/macro_f1']:.3f}"
  if "val/reconstruction_mse" in values:
    line += f"  reconstruction {values['val/reconstruction_mse']:.3f}"
  if "val/log_likelihood_per_step" in values:
    line += f"  log likelihood {values['val/log_likelihood_per_step']:.3f} per step"
  if "val/agreement" in values:
    line += f"  like the float model {values['val/agreement']:.2%}"
  return f"{line}  perplexity {values['val/perplexity']:.0f}  codes {values['val/code_usage']:.0%}"


class Sigterm:
  """Remembers a SIGTERM while the loop runs, so that it can save and leave between two calls."""

  def __enter__(self) -> "Sigterm":
    self._seen = False
    self._previous = signal.signal(signal.SIGTERM, self._note)
    return self

  def __exit__(self, *_: object) -> None:
    signal.signal(signal.SIGTERM, self._previous)

  def _note(self, *_: object) -> None:
    self._seen = True

  def arrived(self) -> bool:
    """Whether any process was told to stop; every process gets the same answer."""
    if jax.process_count() == 1:
      return self._seen
    return bool(np.any(multihost_utils.process_allgather(np.asarray(self._seen))))
