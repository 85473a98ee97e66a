"""Sweeps: the same trials whatever happens to the process, pruning, failures, what sweep_folder and others refuse."""

import json
import math
import pathlib
import shlex
import sys

import ml_collections
import pytest
from absl import flags
from ml_collections import config_flags

from behavejax import config as config_lib
from behavejax.errors import Diverged, InputError
from behavejax.training import sweep, sweep_space
from tests.test_config import load

optuna = pytest.importorskip("optuna")

ROOT = pathlib.Path(__file__).parent.parent.parent
CONFIG = config_lib.resolve(load("fsq").get_config("tiny"))
PLAIN = {
  "train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
  "model.dropout": {"low": 0.0, "high": 0.5},
  "quantizer.levels": {"choices": [[8, 6, 5], [4, 4, 4]]},
}
SPACE = sweep_space.parse(PLAIN, CONFIG)


def quality(config):
  """Best at a learning rate of 0.01 and little dropout, worse with two levels more."""
  place = math.log10(config.train.learning_rate) + 2
  return 0.9 - 0.2 * place**2 - 0.3 * config.model.dropout - 0.01 * (len(set(config.quantizer.levels)) > 1)


def stub(config, folder, on_evaluation):
  """Evaluations that rise to the trial's quality."""
  for number in (1, 2, 3):
    on_evaluation(8 * number, {"val/score": quality(config) - 0.1 / number})
  return {"val/score": quality(config)}


def run(folder, *, trials, train=stub, config=CONFIG, space=SPACE, **options):
  return sweep.run(config, space, folder, trials=trials, train=train, **options)


def outcome(found):
  return [(trial.number, trial.state, trial.value, trial.changes) for trial in found.trials]


def cut(at, *, evaluation):
  """Trains like `stub` until trial `at` is killed after one of its evaluations; the number of the trial is counted."""
  started = []

  def train(config, folder, on_evaluation):
    started.append(folder.name)

    def watched(step, values):
      on_evaluation(step, values)
      if int(folder.name) == at and step == 8 * evaluation:
        raise KeyboardInterrupt

    return stub(config, folder, watched)

  return train


def study_of(folder):
  return optuna.load_study(study_name="sweep", storage=f"sqlite:///{folder / 'sweep.db'}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """An undisturbed sweep, in which trials are drawn at random and by the sampler, and some pruned."""
  folder = tmp_path_factory.mktemp("sweep") / "whole"
  return folder, run(folder, trials=14)


def test_the_sampler_learns_from_ten_trials_on(tmp_path, whole):
  found = run(tmp_path / "run", trials=11, train=lambda config, *_: {"val/score": -quality(config)})
  changes = [[trial.changes for trial in sweep.trials] for sweep in (found, whole[1])]
  assert changes[0][:10] == changes[1][:10]
  assert changes[0][10] != changes[1][10]


def test_the_sweep_is_whole(whole):
  _, found = whole
  assert [trial.number for trial in found.trials] == list(range(14))
  assert len({str(trial.changes) for trial in found.trials}) == 14
  best = found.ranked()[0]
  assert best.value == max(trial.value for trial in found.of("complete"))
  assert best.value == quality(sweep_space.override(CONFIG, best.changes))


def test_pruning_cuts_what_falls_behind(whole):
  folder, found = whole
  pruned = found.of("pruned")
  assert pruned
  assert min(trial.number for trial in pruned) >= 5, "five finished trials are what pruning starts from"
  frozen = study_of(folder).trials
  for trial in pruned:
    seen = frozen[trial.number].intermediate_values
    assert len(seen) < 3, "a run that has come to its last evaluation is not pruned"
    assert trial.value == seen[len(seen)]
    finished = [f for f in frozen[: trial.number] if f.state.name == "COMPLETE"]
    at_this_step = sorted(f.intermediate_values[len(seen)] for f in finished)
    assert trial.value < at_this_step[len(at_this_step) // 2]


def test_the_seed_decides(tmp_path, whole):
  assert outcome(run(tmp_path / "again", trials=4)) == outcome(whole[1])[:4]
  other = sweep_space.override(CONFIG, {"seed": 1})
  assert outcome(run(tmp_path / "other", trials=2, config=other)) != outcome(whole[1])[:2]


def test_more_trials_go_on_where_fewer_ended(tmp_path, whole):
  assert len(run(tmp_path / "run", trials=4).trials) == 4
  assert outcome(run(tmp_path / "run", trials=8)) == outcome(whole[1])[:8]
  assert len(run(tmp_path / "run", trials=3, train=None).trials) == 8  # nothing is trained, the report is written


@pytest.mark.parametrize(("at", "evaluation"), [(0, 1), (2, 3), (11, 1)])
def test_a_cut_trial_is_repeated_as_if_nothing_had_happened(tmp_path, whole, at, evaluation):
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path / "run", trials=at + 2, train=cut(at, evaluation=evaluation))
  assert study_of(tmp_path / "run").trials[at].state.name == "RUNNING"
  assert not (tmp_path / "run" / "report").exists()
  assert outcome(run(tmp_path / "run", trials=at + 2)) == outcome(whole[1])[: at + 2]
  old, new = (study_of(folder).trials for folder in (whole[0], tmp_path / "run"))
  assert [trial.intermediate_values for trial in new] == [trial.intermediate_values for trial in old[: at + 2]]


@pytest.mark.parametrize("suggested", [None, 0, 1])
def test_a_cut_while_a_trial_is_recorded(tmp_path, whole, suggested):
  """Killed when it was waiting, and when it ran with none or one of its settings told."""
  folder = tmp_path / "run"
  run(folder, trials=2)
  study = study_of(folder)
  study.enqueue_trial(sweep._draw(study, SPACE, seed=CONFIG.seed))
  if suggested is not None:
    trial = study.ask()
    if suggested:
      trial.suggest_float("train.learning_rate", 1e-4, 1e-1, log=True)
  assert outcome(run(folder, trials=4)) == outcome(whole[1])[:4]


def test_diverged_trials_fail_and_the_sweep_goes_on(tmp_path):
  def train(config, folder, on_evaluation):
    if config.train.learning_rate > 0.01:
      raise Diverged("step 4: the loss is NaN or Inf; likely cause: the training diverged")
    if config.model.dropout < 0.1:
      on_evaluation(8, {"val/score": float("nan")})
    return stub(config, folder, on_evaluation)

  found = run(tmp_path / "run", trials=10, train=train)
  messages = {trial.message for trial in found.of("failed")}
  assert messages == {"step 4: the loss is NaN or Inf; likely cause: the training diverged", "val/score is nan"}
  assert len(found.trials) == 10
  assert {trial.state for trial in found.trials} >= {"complete", "failed"}
  assert study_of(tmp_path / "run").trials[found.of("failed")[0].number].user_attrs["message"] in messages


def test_settings_that_do_not_go_together_fail_alone(tmp_path):
  space = sweep_space.parse(
    {"model.widths": {"choices": [[8, 16], [8, 16, 16]]}, "model.token_stride": {"choices": [2, 4]}}, CONFIG
  )
  wide = sweep_space.override(CONFIG, {"model.widths": [8, 16, 16]})
  space |= sweep_space.parse({"model.token_stride": {"choices": [4, 8]}}, wide)
  found = run(
    tmp_path / "run", trials=9, space=space, train=lambda config, *_: {"val/score": config.model.token_stride}
  )
  assert len(found.trials) == 4, "nothing is left to try"
  (failed,) = found.of("failed")
  assert failed.changes == {"model.widths": [8, 16], "model.token_stride": 8}
  assert "config.model.token_stride must be a power of two up to 4" in failed.message


def test_memory_that_runs_out_fails_one_trial(tmp_path):
  import jax

  def train(config, folder, on_evaluation):
    if folder.name == "0000":
      raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore")
    return stub(config, folder, on_evaluation)

  found = run(tmp_path / "run", trials=2, train=train)
  assert found.trials[0].message == "out of memory: RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."


def test_other_mistakes_stop_the_sweep_and_the_trial_is_repeated(tmp_path, whole):
  def train(config, folder, on_evaluation):
    if folder.name == "0001":
      raise InputError("no data folder /gone")
    return stub(config, folder, on_evaluation)

  with pytest.raises(InputError, match="trial 1: no data folder /gone"):
    run(tmp_path / "run", trials=4, train=train)
  assert outcome(run(tmp_path / "run", trials=4)) == outcome(whole[1])[:4]


def test_data_spoiled_by_a_trial_fail_it_alone(tmp_path):
  def train(config, folder, on_evaluation):
    if config.data.window_s > 5:
      raise InputError("no window fits")
    return stub(config, folder, on_evaluation)

  space = sweep_space.parse({"data.window_s": {"choices": [1.0, 9.0]}, **PLAIN}, CONFIG)
  found = run(tmp_path / "run", trials=6, train=train, space=space)
  failed = [trial for trial in found.trials if trial.message]
  assert 0 < len(failed) < 6
  assert {(trial.message, trial.changes["data.window_s"]) for trial in failed} == {("no window fits", 9.0)}


def test_no_trial_finished(tmp_path):
  def train(*_):
    raise Diverged("step 1: the loss is NaN or Inf")

  with pytest.raises(InputError, match="none of 2 trials finished; the last one: step 1"):
    run(tmp_path / "run", trials=2, train=train)
  assert "no trial finished" in (tmp_path / "run" / "report" / "report.md").read_text()
  assert not (tmp_path / "run" / "best.json").exists()


def test_minimized_objectives(tmp_path):
  def train(config, folder, on_evaluation):
    on_evaluation(8, {"val/reconstruction_mse": 1 - quality(config)})
    return {"val/reconstruction_mse": 1 - quality(config)}

  found = run(tmp_path / "run", trials=5, train=train, objective="val/reconstruction_mse")
  assert found.direction == "minimize"
  assert found.ranked()[0].value == min(trial.value for trial in found.trials)
  assert json.loads((tmp_path / "run" / "best.json").read_text())["trial"] == found.ranked()[0].number


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"objective": "test/accuracy"}, "settings are chosen on the validation split"),
    ({"objective": "train/loss"}, "--objective=train/loss is no validation metric"),
    ({"objective": "val/acuracy"}, "did you mean 'val/accuracy'?"),
    ({"direction": "up"}, "--direction must be maximize or minimize, got 'up'"),
    ({"config": sweep_space.override(CONFIG, {"stages": ["hsmm"]})}, "a sweep judges the encoder"),
    (
      {"objective": "val/loss", "space": sweep_space.parse({"loss.reconstruction": {"low": 0.1, "high": 1.0}}, CONFIG)},
      "--objective=val/loss means another thing with another loss.reconstruction",
    ),
    (
      {
        "config": sweep_space.override(CONFIG, {"train.keep_by": "loss"}),
        "space": sweep_space.parse({"quantizer.commitment_weight": {"low": 0.1, "high": 1.0}}, CONFIG),
      },
      "--objective=val/score, which is the loss here (config.train.keep_by), means another thing with another "
      "quantizer.commitment_weight: choose val/accuracy",
    ),
    (
      {"space": sweep_space.parse({"train.keep_by": {"choices": ["labels", "loss"]}}, CONFIG)},
      "--objective=val/score means another thing with another train.keep_by: choose val/accuracy",
    ),
    (
      {"space": sweep_space.parse({"loss.classification": {"low": 0.0, "high": 1.0}}, CONFIG)},
      "loss.classification reaches 0",
    ),
    ({"config": sweep_space.override(CONFIG, {"data.name": "hapt", "data.root": "/gone"})}, "no data folder"),
  ],
)
def test_what_is_refused_writes_nothing(tmp_path, options, message):
  with pytest.raises(InputError) as caught:
    run(tmp_path / "run", trials=1, **options)
  assert message in str(caught.value)
  assert "\n" not in str(caught.value)
  assert not (tmp_path / "run").exists()


def test_objectives_that_need_labels(tmp_path):
  values = {"val/score": 0.5, "val/accuracy": 0.0}
  for name in ("val/accuracy", "val/macro_f1"):
    with pytest.raises(InputError, match=f"--objective={name} needs labels"):
      run(tmp_path / name, trials=1, objective=name, train=lambda config, folder, tell: tell(8, values))


def test_another_sweep_in_the_folder_is_named(tmp_path):
  folder = tmp_path / "a sweep"
  run(folder, trials=1)
  before = (folder / "sweep.json").read_bytes()
  for options, message in (
    ({"config": sweep_space.override(CONFIG, {"model.kernel": 7})}, "config.model.kernel is 7 here and 5 there"),
    ({"space": {key: SPACE[key] for key in list(SPACE)[1:]}}, "space.train.learning_rate is absent here and {"),
    ({"objective": "val/accuracy"}, 'objective is "val/accuracy" here and "val/score" there'),
    ({"direction": "minimize"}, 'direction is "minimize" here and "maximize" there'),
  ):
    with pytest.raises(InputError) as caught:
      run(folder, trials=2, **options)
    assert message in str(caught.value)
    assert str(caught.value).endswith("choose another --workdir")
  assert (folder / "sweep.json").read_bytes() == before
  assert len(run(folder, trials=2).trials) == 2


def test_folders_that_are_no_sweep(tmp_path):
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "thesis.txt").write_text("precious")
  with pytest.raises(InputError, match="is not empty and holds no sweep"):
    run(tmp_path / "run", trials=1)
  with pytest.raises(InputError, match="is a file"):
    run(tmp_path / "run" / "thesis.txt", trials=1)
  assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_damaged_records(tmp_path):
  run(tmp_path / "run", trials=1)
  database = (tmp_path / "run" / "sweep.db").read_bytes()
  (tmp_path / "run" / "sweep.db").write_bytes(b"no database" * 100)
  with pytest.raises(InputError, match=r"sweep.db cannot be read or written"):
    run(tmp_path / "run", trials=1)
  (tmp_path / "run" / "sweep.db").write_bytes(database)
  for text in ('{"config"', "[]", '{"config": {"sed": 1}}', '{"config": {}, "space": 3}'):
    (tmp_path / "run" / "sweep.json").write_text(text)
    with pytest.raises(InputError):
      run(tmp_path / "run", trials=1)


def test_two_processes_do_not_run_one_sweep(tmp_path):
  def train(config, folder, on_evaluation):
    with pytest.raises(InputError, match="another process runs the sweep"):
      run(tmp_path / "run", trials=1)
    return stub(config, folder, on_evaluation)

  run(tmp_path / "run", trials=1, train=train)


def test_optuna_is_missing(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "optuna", None)
  with pytest.raises(InputError, match=r"pip install .*behavejax\[sweep\]"):
    run(tmp_path / "run", trials=1)


def test_the_line_in_best_json_gives_the_same_config(tmp_path, monkeypatch):
  changes = {"train.steps": 6, "data.val_subjects": ("3",), "train.learning_rate": 0.5}
  base = sweep_space.override(CONFIG, changes)
  file = str(ROOT / "configs/fsq.py:tiny")
  found = run(tmp_path / "a run", trials=2, config=base, config_file=file, changes=changes)
  best = json.loads((tmp_path / "a run" / "best.json").read_text())
  assert best["command"] == found.command
  program, *given = shlex.split(best["command"])[1:]
  assert program == "launch/train.py"
  assert given[-1] == f"--workdir={tmp_path / 'a run' / 'best'}"
  values = flags.FlagValues()
  config_flags.DEFINE_config_file("config", flag_values=values)
  monkeypatch.setattr(sys, "argv", ["program", *given[:-1]])  # where such a flag looks for its overrides
  values(sys.argv)
  assert isinstance(values.config, ml_collections.ConfigDict)
  assert config_lib.resolve(values.config) == sweep_space.override(base, found.ranked()[0].changes)
  assert best["overrides"] == found.ranked()[0].changes
  assert (best["trial"], best["value"]) == (found.ranked()[0].number, found.ranked()[0].value)


def test_importances_find_what_matters(tmp_path):
  def rate(config):
    return math.log10(config.train.learning_rate) + 0.2 * config.model.dropout

  found = run(tmp_path / "run", trials=12, train=lambda config, *_: {"val/score": rate(config)}).importances
  assert max(found, key=found.get) == "train.learning_rate"
  assert sum(found.values()) == pytest.approx(1)
  assert all(type(value) is float for value in found.values())


def test_few_or_equal_trials_have_no_importances(tmp_path):
  assert run(tmp_path / "few", trials=2).importances == {}
  assert run(tmp_path / "equal", trials=5, train=lambda *_: {"val/score": 0.5}).importances == {}
