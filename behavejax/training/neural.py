"""Stages of the neural encoder: core and readouts together, or new readouts on a core that stays as it is."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np

from behavejax import config as config_lib
from behavejax.config import Config
from behavejax.data import neural_batches
from behavejax.data.neural_prepare import NeuralData
from behavejax.data.neural_windows import NeuralBatch
from behavejax.errors import InputError
from behavejax.evaluation import neural_run
from behavejax.evaluation.neural_run import model_of
from behavejax.models.neural_encoder import DataSet, Model, bits_per_spike, make_model
from behavejax.training import loop, parallel, validation
from behavejax.training import step as step_lib
from behavejax.training.state import TrainState, init_state, make_optimizer
from behavejax.training.task import Task, make_plan
from behavejax.types import Metrics, Variables
from behavejax.workdir import Workdir, differences

_DECAYS = ("kernel", "weights", "recurrent")
"""Parameters that weight decay acts on: not positions and spreads of readouts, norms, biases, registers."""
_OF_THE_CORE = ("core", "modulator")
_FREE = ("readout", "remat", "dtype", "dropout", "patch_dropout", "stochastic_depth")
"""Settings in which a run may differ from the one whose core it takes."""


def prepare(config: Config, workdir: Workdir, again: Sequence[str]) -> tuple[NeuralData, ...]:
  """The recordings of a config; see `stages.DATA`.

  Raises:
    InputError: whatever is wrong with the recordings, or with the run that has the core for new readouts.
  """
  if "readout" in config.stages and config.readout.workdir:
    core_source(config, workdir)
  return neural_run.prepare(config, workdir, again=again)


def fit(
  config: Config,
  workdir: Workdir,
  *,
  data: Sequence[NeuralData],
  stage: str = "vivit",
  on_evaluation: loop.OnEvaluation | None = None,
) -> Variables:
  """Core, modulator and readouts together, from the last checkpoint or from the start.

  Args:
    config: of the run.
    workdir: of the run.
    data: the data sets.
    stage: where it is kept.
    on_evaluation: told of each evaluation; what it raises ends the run.

  Raises:
    InputError: the loss diverged.
    loop.Stopped: SIGTERM arrived; everything is saved.
  """
  _keep_scalings(workdir, data)
  task = make_task(config, model_of(config, data), data)
  found = loop.run(
    config, task, workdir.stage(stage), workdir.metrics_file, stage=stage, on_evaluation=on_evaluation
  )  # fmt: skip
  workdir.write_part(stage, "core", core_of(found))  # for other readouts: its shapes know of no data set
  return {"params": found["params"]}


def fit_convolutions(config: Config, workdir: Workdir, *, data: Sequence[NeuralData]) -> Variables:
  """The same with a core of 3D convolutions, to be compared with."""
  return fit(neural_run.with_conv3d(config), workdir, data=data, stage="conv3d")


def fit_readouts(config: Config, workdir: Workdir, *, data: Sequence[NeuralData]) -> Variables:
  """New readouts, and new entries for behaviour, on the core of a finished run, which is not changed.

  Returns the variables of the whole encoder.

  Raises:
    InputError: there is no finished core, or one of other settings; and as in `fit`.
    loop.Stopped: SIGTERM arrived; everything is saved.
  """
  _keep_scalings(workdir, data)
  settings = config.readout
  frozen = _core(config, workdir)
  still = dataclasses.replace(config.vivit, patch_dropout=0.0, stochastic_depth=0.0)
  train = dataclasses.replace(
    config.train, epochs=settings.epochs, steps=settings.steps, learning_rate=settings.learning_rate,
    evaluations=settings.evaluations,
  )  # fmt: skip
  config = dataclasses.replace(config, train=train)
  task = make_task(config, _on_core(model_of(dataclasses.replace(config, vivit=still), data), frozen), data)
  found = loop.run(config, task, workdir.stage("readout"), workdir.metrics_file, stage="readout")
  return {"params": {**frozen, **found["params"]}}


def _keep_scalings(workdir: Workdir, data: Sequence[NeuralData]) -> None:
  if jax.process_index() == 0:
    neural_run.keep_scalings(workdir, data)


def core_of(variables: Variables) -> Variables:
  """The parameters that do not belong to a data set."""
  return {name: part for name, part in variables["params"].items() if name in _OF_THE_CORE}


def make_task(config: Config, model: Model, data: Sequence[NeuralData]) -> Task:
  """What the loop needs to train an encoder: a compiled call for each data set, over one state."""
  train, kind = config.train, config.train.parallel
  parallel.check_batch_size(train.batch_size)
  plan = make_plan(config, windows=sum(len(d.train) for d in data))
  optimizer = make_optimizer(train, steps=plan.steps, decays=decays)

  def call_of(index: int):
    step = functools.partial(
      step_lib.train_step, loss=functools.partial(model.loss, data_set=index), optimizer=optimizer, augment=None,
      ema_decay=train.ema_decay, axis_name=parallel.axis_name(kind),
    )  # fmt: skip
    return parallel.train_call(step, kind=kind)

  def init():
    init_key, train_key = jax.random.split(jax.random.key(config.seed))
    return init_state(jax.jit(model.init)(init_key), optimizer=optimizer, key=train_key)

  calls = [call_of(i) for i in range(len(data))]
  batches = neural_batches.neural_calls(
    [d.train for d in data], batch_size=train.batch_size, seed=config.seed, weights=config.neural.weights,
    steps_per_call=plan.steps_per_call, process_index=jax.process_index(), process_count=jax.process_count(),
  )  # fmt: skip

  def call(state: TrainState, given: tuple[int, NeuralBatch]) -> tuple[TrainState, Metrics]:
    number, batch = given
    state, metrics = calls[number](state, batch)
    return state, {name: value for name, value in metrics.items() if not _of_another(name, number)}

  return Task(
    plan, call, init, batches, make_evaluation(config, model, data),
    summarize, lambda values: values["val/bits_per_spike"], _progress, _line,
  )  # fmt: skip


def _of_another(metric: str, number: int) -> bool:
  """Whether a metric is of the parameters of a data set that a call had nothing to do with."""
  name, _, place = metric.rpartition("_")
  return name in ("gradient_norm/readout", "gradient_norm/behaviour") and int(place) != number


def decays(params: Variables) -> Variables:
  """Which parameters weight decay acts on, by name."""
  return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in _DECAYS, params)


def summarize(totals: Metrics) -> dict[str, float]:
  """Summed metrics of training -> the loss per count, and bits per spike beyond the mean rates of the training."""
  counted, spikes = max(float(totals["counted"]), 1.0), max(float(totals["spikes"]), 1.0)
  gained = (float(totals["null"]) - float(totals["loss"])) / (spikes * np.log(2))
  return {"train/loss": float(totals["loss"]) / counted, "train/bits_per_spike": gained}


def make_evaluation(config: Config, model: Model, data: Sequence[NeuralData]):
  """A function of variables: bits per spike of the validation trials, their mean over all neurons and by data set."""
  shared = {
    "kind": config.train.parallel,
    "batch_size": config.evaluation.batch_size,
    "batches": neural_batches.neural_eval_batches,
  }
  sums = [
    validation.make_sums(functools.partial(model.score, data_set=i), own.val, **shared) for i, own in enumerate(data)
  ]

  def evaluate(variables: Variables, remembered: None) -> tuple[dict[str, float], None]:
    values, bits, loss, counted = {}, [], 0.0, 0.0
    for own, summed in zip(data, sums, strict=True):
      totals = summed(variables)
      bits.append(bits_per_spike(totals))
      loss, counted = loss + totals["loss"].sum(), counted + totals["counted"].sum()
      values[f"val/bits_per_spike/{own.name}"] = _mean(bits[-1])
    return {"val/loss": float(loss / counted), "val/bits_per_spike": _mean(np.concatenate(bits)), **values}, remembered

  return evaluate


def _mean(values: np.ndarray) -> float:
  """Over what is defined; the worst there is where nothing is."""
  return float(np.nanmean(values)) if np.isfinite(values).any() else -np.inf


def _progress(values: dict[str, float]) -> str:
  return f"loss {values['train/loss']:.3f}, {values['train/bits_per_spike']:.3f} bits per spike"


def _line(values: dict[str, float]) -> str:
  by_set = [f"{key.rpartition('/')[2]} {value:.3f}" for key, value in values.items() if key.count("/") == 2]
  return f"val loss {values['val/loss']:.4f}  bits per spike {values['val/bits_per_spike']:.4f} ({', '.join(by_set)})"


def _on_core(model: Model, frozen: Variables) -> Model:
  """The same model with the parameters of the core given, so that only the others are trained."""

  def whole(variables: Variables) -> Variables:
    return {"params": {**frozen, **variables["params"]}}

  def init(key: jax.Array) -> Variables:
    return {"params": {name: part for name, part in model.init(key)["params"].items() if name not in frozen}}

  return model._replace(
    init=init,
    loss=lambda variables, batch, keys, data_set: model.loss(whole(variables), batch, keys, data_set),
    score=lambda variables, batch, data_set: model.score(whole(variables), batch, data_set),
  )


def core_source(config: Config, workdir: Workdir) -> tuple[Workdir, Config]:
  """The run that has the core for new readouts, and its config.

  Raises:
    InputError: there is no such run, or its core has other settings.
  """
  source = Workdir(config.readout.workdir) if config.readout.workdir else workdir
  theirs = source.read_config()
  differing = [
    f"config.vivit.{key} is {new!r} here and {old!r} there"
    for key, old, new in differences(*(config_lib.to_dict(c)["vivit"] for c in (theirs, config)))
    if key not in _FREE
  ]
  if differing:
    raise InputError(f"the core in {source.path} has other settings: {'; '.join(differing[:3])}")
  return source, theirs


def _core(config: Config, workdir: Workdir) -> Variables:
  """The parameters of the run that has the core."""
  source, theirs = core_source(config, workdir)
  return source.read_result("vivit", core_of(jax.eval_shape(_smallest(theirs).init, jax.random.key(0))), part="core")


def _smallest(config: Config) -> Model:
  """A model with the core of a run, which is the same for all data sets."""
  return make_model(config.vivit, [DataSet(config.vivit.kernel[1:], 0, (1.0,))])
