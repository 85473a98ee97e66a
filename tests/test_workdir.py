"""What a run's folder answers to another config: what differs, and which stage to run again."""

import pytest

from behavejax import config as config_lib
from behavejax.errors import InputError
from behavejax.workdir import Workdir

STAGES = ("encoder", "hdp", "hsmm", "finetune")


def config(**changes):
  settings = config_lib.default_config()
  settings.stages = STAGES
  for key, value in changes.items():
    section, _, name = key.partition("__")
    settings[section][name] = value
  return config_lib.resolve(settings)


@pytest.fixture
def workdir(tmp_path):
  run = Workdir(tmp_path / "run")
  run.start(config())
  for name in STAGES[:3]:
    run.stage(name).mkdir(parents=True)
  return run


@pytest.mark.parametrize(
  ("changes", "again", "end"),
  [
    ({"segmentation__states": 7}, (), "choose another --workdir or launch/train.py --restart_from=hdp"),
    ({"segmentation__states": 7}, STAGES[2:], "choose another --workdir or launch/train.py --restart_from=hdp"),
    ({"model__kernel": 7}, (), "choose another --workdir"),
    ({"model__kernel": 7, "segmentation__states": 7}, (), "choose another --workdir"),
  ],
)
def test_settings_of_stages_that_have_begun_are_named(workdir, changes, again, end):
  before = workdir.config_file.read_bytes()
  with pytest.raises(InputError) as caught:
    workdir.start(config(**changes), again=again)
  for key, value in changes.items():
    assert f"config.{key.replace('__', '.')} is {value} here and " in str(caught.value)
  assert str(caught.value).endswith(end)
  assert "\n" not in str(caught.value)
  assert workdir.config_file.read_bytes() == before
  assert all(workdir.stage(name).exists() for name in STAGES[:3])


def test_settings_of_stages_to_come_or_run_again_are_free(workdir):
  workdir.start(config(finetune__learning_rate=0.5))
  assert workdir.read_config().finetune.learning_rate == 0.5
  workdir.start(config(segmentation__states=7), again=STAGES[1:])
  assert workdir.read_config().segmentation.states == 7
  assert [workdir.stage(name).exists() for name in STAGES] == [True, False, False, False]
