"""What is wrong with the stages of a run is said before anything is done."""

import dataclasses

import pytest

from behavejax import config as config_lib
from behavejax.errors import InputError
from behavejax.training import stages
from behavejax.training.log import MetricWriter
from behavejax.workdir import Workdir, read_metrics
from tests.test_config import load

CONFIG = config_lib.resolve(load("fsq").get_config("tiny"))
ALL = ("encoder", "hdp", "hsmm", "finetune")


def with_stages(*names):
  return dataclasses.replace(CONFIG, stages=names)


def finished(folder, config):
  """A run whose stages are all complete, without what they would have learned."""
  workdir = Workdir(folder)
  workdir.start(config)
  for name in config.stages:
    workdir.stage(name).mkdir(parents=True)
    (workdir.stage(name) / "complete").write_text("{}")
  return workdir


@pytest.mark.parametrize(
  ("names", "skipped", "message"),
  [
    (ALL, ["encoder"], "'hdp' needs 'encoder'"),
    (("encoder", "hmm"), ["encoder"], "'hmm' needs 'encoder'"),
    (("vae", "codebook", "hsmm"), ["codebook"], "'hsmm' needs 'codebook'"),
    (ALL, ["hsmm"], "'finetune' needs 'hsmm'"),
  ],
)
def test_a_stage_without_what_it_needs_is_refused(tmp_path, names, skipped, message):
  with pytest.raises(InputError, match=message):
    stages.run(with_stages(*names), tmp_path / "run", skip=skipped)
  assert not (tmp_path / "run").exists()


def test_nothing_is_forgotten_for_a_run_that_cannot_be(tmp_path):
  workdir = finished(tmp_path / "run", with_stages(*ALL))
  with pytest.raises(InputError, match="'finetune' needs 'hsmm'"):
    stages.run(with_stages(*ALL), workdir.path, restart_from="encoder", skip=["hsmm"])
  assert all(workdir.is_complete(name) for name in ALL)


@pytest.mark.parametrize(
  ("values", "message"),
  [({"quantizer": {"name": "vqe"}}, "vqe"), ({"train": {"batch_size": 30}}, "config.train.batch_size=30")],
)
def test_settings_that_no_model_can_have_leave_no_folder(tmp_path, values, message):
  changed = {name: dataclasses.replace(getattr(CONFIG, name), **own) for name, own in values.items()}
  with pytest.raises(InputError, match=message):
    stages.run(dataclasses.replace(CONFIG, **changed), tmp_path / "run")
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["hdp", "hsmm"])
def test_a_run_without_codes_is_not_segmented_by_other_data(tmp_path, name):
  config = config_lib.resolve(load("vqvae_2d").get_config("tiny"))
  workdir = finished(tmp_path / "run", config)
  with pytest.raises(InputError, match=r"holds no codes of recordings.* its stages are vqvae"):
    stages.add(workdir.path, name)
  assert not workdir.stage(name).exists()


def test_repeated_rows_of_a_stage_that_begins_anew_are_dropped(tmp_path):
  for first in (0, 0, 1):
    with MetricWriter(tmp_path / "metrics.jsonl", stage="finetune", first_step=first, steps=2) as writer:
      for step in range(first and first + 1, 3):
        writer.write(step, {})
  assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [0, 1, 2]
