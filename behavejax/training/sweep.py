"""A sweep: trials of one config with some settings changed, chosen by Optuna, each of them an ordinary run.

A trial is drawn from a seed of its own number and from the trials before it, and is recorded before it starts. So a
sweep that was killed goes on as if nothing had happened: the cut trial keeps its number, its settings and its folder,
and its run resumes from its own checkpoint.
"""

import dataclasses
import json
import math
import os
import pathlib
import shlex
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from behavejax import config as config_lib
from behavejax.config import Config
from behavejax.data.neural_prepare import prepare_neural
from behavejax.data.prepare import prepare
from behavejax.data.prepare_samples import prepare_samples
from behavejax.data.sources import data_root
from behavejax.errors import Diverged, InputError
from behavejax.evaluation import sweep_report
from behavejax.evaluation.sweep_trials import Axis, Sweep, Trial, show
from behavejax.training import loop, stages, sweep_folder, sweep_objective, sweep_space
from behavejax.training.sweep_space import Choices, Range, Space
from behavejax.workdir import first_line, read_metrics, write_json

if TYPE_CHECKING:
  import optuna

_OF_DATA = ("data", "frames", "neural")
_REDRAWS = 50  # of a trial that repeats an earlier one
_FEWEST_FOR_IMPORTANCE = 4

Train = Callable[[Config, pathlib.Path, loop.OnEvaluation], Mapping[str, float]]
"""Trains in a folder, tells of each evaluation, returns the values of the evaluation that is kept."""


def train(config: Config, folder: pathlib.Path, on_evaluation: loop.OnEvaluation) -> Mapping[str, float]:
  """One run; the values are those of the best evaluation of the encoder, whose parameters the run keeps."""
  workdir = stages.run(config, folder, on_evaluation=on_evaluation)
  rows = [row for row in read_metrics(workdir.metrics_file) if row["stage"] in stages.JUDGED and "val/score" in row]
  return max(rows, key=lambda row: row["val/score"])


def run(
  config: Config,
  space: Space,
  folder: str | os.PathLike,
  *,
  trials: int,
  objective: str = "val/score",
  direction: str | None = None,
  config_file: str = "configs/NAME.py",
  changes: Mapping[str, Any] | None = None,
  train: Train = train,
) -> Sweep:
  """Runs trials until there are `trials`, those of earlier calls included, then writes the report.

  Args:
    config: what all trials share; its seed is that of the sampler too.
    space: settings to choose, and from where; see `behavejax.training.sweep_space`.
    folder: of the sweep; new, empty, or left by the same sweep. A trial's run lies in `trials/NUMBER`.
    trials: finished, pruned and failed ones together.
    objective: a key of `sweep_objective.OBJECTIVES`, of the evaluation whose parameters a run keeps.
    direction: maximize or minimize; None is what is better.
    config_file: that `config` came from, for the command line in `best.json`.
    changes: by the command line, to what that file says.
    train: runs a trial.

  Raises:
    InputError: optuna is missing, the objective is none, the folder holds something else or is in use, data or
      a trial that cannot run for another reason than its training, or no trial finished.
    loop.Stopped: SIGTERM arrived; everything is saved.
  """
  _import_optuna()
  direction = sweep_objective.check(objective, direction, config, space)
  record = {
    "config": config_lib.to_dict(config), "space": sweep_space.to_json(space), "objective": objective,
    "direction": direction,
  }  # fmt: skip
  folder = pathlib.Path(folder).absolute()
  if not (folder / "sweep.json").exists():
    _try_data(config)  # what is wrong with the data is said before anything is written
  with sweep_folder.alone(folder):
    sweep_folder.start(folder, record)
    study = _open(folder, direction, config)
    while (trial := _next_trial(study, space, trials, seed=config.seed)) is not None:
      settings = _settle(trial, space)
      described = ", ".join(f"{key}={show(value)}" for key, value in settings.items())
      print(f"trial {trial.number} of {trials}: {described}", flush=True)
      _run_trial(study, trial, settings, config, folder, objective=objective, train=train)
      jax.clear_caches()  # each trial compiles its own functions
    sweep = _gather(study, space, objective, seed=config.seed)
    sweep = _with_command(sweep, folder, config_file, changes or {})
    sweep_report.write_report(folder / "report", sweep)
  if not sweep.ranked():
    last = sweep.trials[-1].message or "pruned"
    raise InputError(f"none of {len(sweep.trials)} trials finished; the last one: {last}")
  return sweep


def _try_data(config: Config) -> None:
  if "encoder" in config.stages:
    prepare(config.data, config.seed)
  if "vqvae" in config.stages:
    prepare_samples(config, config.seed)
  if "vivit" in config.stages:
    prepare_neural(config.neural, data_root(config.data), config.seed)


def _import_optuna() -> Any:
  try:
    import optuna
  except ImportError as error:
    raise InputError("a sweep needs optuna: pip install -c constraints.txt 'behavejax[sweep]'") from error
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  return optuna


def _open(folder: pathlib.Path, direction: str, config: Config) -> "optuna.Study":
  optuna = _import_optuna()
  from sqlalchemy.exc import SQLAlchemyError

  database = folder / "sweep.db"
  try:
    return optuna.create_study(
      storage=optuna.storages.RDBStorage(f"sqlite:///{database}"),
      study_name="sweep",
      direction=direction,
      load_if_exists=True,
      pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1 + config.train.evaluations // 4),
    )
  except (SQLAlchemyError, RuntimeError) as error:
    raise InputError(f"{database} cannot be read or written: {error}") from error


def _next_trial(study: "optuna.Study", space: Space, trials: int, *, seed: int) -> "optuna.Trial | None":
  """The trial that was cut, else a new one, else None when there are enough or nothing is left to try."""
  from optuna.trial import Trial, TrialState

  known = study.get_trials(deepcopy=False)[:trials]
  for frozen in known:
    if frozen.state == TrialState.RUNNING:
      return Trial(study, frozen._trial_id)  # as `ask` does, which only makes new ones
  if not any(frozen.state == TrialState.WAITING for frozen in known):  # one that is was recorded but not begun
    if len(known) >= trials:
      return None
    chosen = _draw(study, space, seed=seed)
    if chosen is None:
      print(f"all {len(known)} combinations of the space were tried", flush=True)
      return None
    study.enqueue_trial(chosen)
  return study.ask()


def _draw(study: "optuna.Study", space: Space, *, seed: int) -> dict[str, Any] | None:
  """Settings that no trial had, from a seed of the next trial's number; None if there are no more.

  They are drawn in memory: the study on disk knows a trial with all its settings or not at all.
  """
  optuna = _import_optuna()
  from optuna.trial import TrialState

  known = study.get_trials(deepcopy=False)
  tried = [frozen.params for frozen in known]
  if len(tried) >= math.prod(entry.size for entry in space.values()):
    return None
  judged = [frozen for frozen in known if frozen.state in (TrialState.COMPLETE, TrialState.PRUNED)]
  for attempt in range(_REDRAWS):
    own = int(np.random.SeedSequence([seed % 2**32, len(known), attempt]).generate_state(1)[0])
    sampler = optuna.samplers.TPESampler(seed=own, constant_liar=False)
    memory = optuna.create_study(direction=study.direction, sampler=sampler)
    memory.add_trials(judged)
    trial = memory.ask()
    _settle(trial, space)
    if trial.params not in tried:
      break
  return trial.params


def _settle(trial: "optuna.Trial", space: Space) -> dict[str, Any]:
  """The settings of a trial, those drawn that it has not yet; choices are kept as JSON, as Optuna takes no lists."""
  found = {}
  for key, entry in space.items():
    if isinstance(entry, Choices):
      found[key] = json.loads(trial.suggest_categorical(key, [json.dumps(choice) for choice in entry.choices]))
    elif entry.whole:
      found[key] = trial.suggest_int(key, entry.low, entry.high, log=entry.log, step=entry.spacing)
    else:
      found[key] = trial.suggest_float(key, entry.low, entry.high, log=entry.log, step=entry.step)
  return found


def _recorded(frozen: "optuna.trial.FrozenTrial", space: Space) -> dict[str, Any]:
  """The settings of a trial that is over."""
  values = frozen.params
  return {key: json.loads(values[key]) if isinstance(entry, Choices) else values[key] for key, entry in space.items()}


def _run_trial(
  study: "optuna.Study",
  trial: "optuna.Trial",
  settings: Mapping[str, Any],
  config: Config,
  folder: pathlib.Path,
  *,
  objective: str,
  train: Train,
) -> None:
  """Runs a trial and records how it ended; one that was stopped stays open and is run again."""
  import optuna
  from optuna.trial import TrialState

  name = f"trial {trial.number}"
  try:
    chosen = sweep_space.override(config, settings)
  except InputError as error:  # each value is fine by itself, together they are not
    return _fail(study, trial, str(error))
  watch = _watch(study, trial, objective, evaluations=chosen.train.evaluations)
  try:
    values = train(chosen, _run_folder(folder, trial.number), watch)
  except optuna.TrialPruned:
    study.tell(trial, state=TrialState.PRUNED)
    print(f"{name}: pruned", flush=True)
  except Diverged as error:
    _fail(study, trial, str(error))
  except InputError as error:
    if not _spoils_data(config, settings):
      raise InputError(f"{name}: {error}") from error
    _fail(study, trial, str(error))
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    _fail(study, trial, f"out of memory: {first_line(error)}")
  else:
    study.tell(trial, values[objective])
    print(f"{name}: {objective} {values[objective]:.4f}, best {study.best_value:.4f}", flush=True)
  return None


def _spoils_data(config: Config, settings: Mapping[str, Any]) -> bool:
  """Whether data that can be used are changed by a trial's settings, so that it is for them that it cannot be run."""
  if not any(key.split(".")[0] in _OF_DATA for key in settings):
    return False
  try:
    _try_data(config)
  except InputError:
    return False
  return True


def _fail(study: "optuna.Study", trial: "optuna.Trial", message: str) -> None:
  from optuna.trial import TrialState

  trial.set_user_attr("message", message)
  study.tell(trial, state=TrialState.FAIL)
  print(f"trial {trial.number}: failed, {message}", flush=True)


def _watch(study: "optuna.Study", trial: "optuna.Trial", objective: str, *, evaluations: int) -> loop.OnEvaluation:
  """Reports each evaluation by its ordinal number, which trials share whatever their batch size, and prunes."""
  import optuna

  steps = list(trial.user_attrs.get("steps", []))

  def on_evaluation(step: int, values: Mapping[str, float]) -> None:
    value = sweep_objective.value_of(objective, values)
    if step not in steps:
      steps.append(step)
      trial.set_user_attr("steps", steps)
    number = 1 + steps.index(step)
    if number not in study.get_trials(deepcopy=False)[trial.number].intermediate_values:  # else it was cut after this
      trial.report(value, number)
    if number < evaluations and trial.should_prune():
      raise optuna.TrialPruned

  return on_evaluation


def _gather(study: "optuna.Study", space: Space, objective: str, *, seed: int) -> Sweep:
  from optuna.trial import TrialState

  names = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
  return Sweep(
    title=f"Sweep of {len(space)} setting{'s' * (len(space) > 1)}",
    objective=objective,
    direction=study.direction.name.lower(),
    axes=[_axis(key, entry) for key, entry in space.items()],
    trials=[
      Trial(
        frozen.number,
        names[frozen.state],
        frozen.value,
        _recorded(frozen, space),
        frozen.user_attrs.get("message", ""),
      )
      for frozen in study.get_trials(deepcopy=False)
      if frozen.state in names
    ],
    importances=_importances(study, space, seed=seed),
  )


def _axis(key: str, entry: Range | Choices) -> Axis:
  if isinstance(entry, Choices):
    return Axis(key, choices=entry.choices)
  return Axis(key, entry.low, entry.high, entry.log, 0 if entry.log else entry.spacing)


def _importances(study: "optuna.Study", space: Space, *, seed: int) -> dict[str, float]:
  """Main effects by functional ANOVA of finished trials, summing to 1 (Hutter et al. 2014)."""
  import optuna

  done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
  if len(done) < _FEWEST_FOR_IMPORTANCE or len({frozen.value for frozen in done}) == 1:
    return {}
  evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed % 2**32)
  found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=list(space))
  return {name: float(value) for name, value in found.items()}


def _with_command(sweep: Sweep, folder: pathlib.Path, config_file: str, changes: Mapping[str, Any]) -> Sweep:
  """Writes `best.json`, with the line that trains with the best settings."""
  if not sweep.ranked():
    return sweep
  best = sweep.ranked()[0]
  flags = [shlex.quote(f"--config={config_file}"), *sweep_space.arguments({**changes, **best.changes})]
  command = " ".join(["python launch/train.py", *flags, shlex.quote(f"--workdir={folder / 'best'}")])
  record = {
    "objective": sweep.objective,
    "value": best.value,
    "trial": best.number,
    "workdir": str(_run_folder(folder, best.number)),
    "overrides": best.changes,
    "command": command,
  }
  write_json(folder / "best.json", record)
  return dataclasses.replace(sweep, command=command)


def _run_folder(folder: pathlib.Path, number: int) -> pathlib.Path:
  return folder / "trials" / f"{number:04d}"
