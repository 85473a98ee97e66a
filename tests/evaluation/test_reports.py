"""Every finished stage brings its report, and an unfinished run says so."""

import json

import pytest

from behavejax.config import Config
from behavejax.errors import InputError
from behavejax.evaluation import reports
from behavejax.workdir import Workdir


def finished(folder, *stages):
  workdir = Workdir(folder)
  workdir.start(Config())
  for stage in stages:
    workdir.stage(stage).mkdir(parents=True)
    (workdir.stage(stage) / "complete").write_text(json.dumps({}))
  return workdir


@pytest.mark.parametrize(("stages", "shown"), [((), []), (("hsmm",), ["hsmm"]), (("encoder", "hdp", "hsmm"), None)])
def test_finished_stages_are_reported_in_order(tmp_path, monkeypatch, stages, shown):
  for stage in reports.REPORTS:
    monkeypatch.setitem(reports.REPORTS, stage, lambda workdir, stage=stage: f"{stage} {workdir.path.name}")
  workdir = finished(tmp_path / "run", *stages)
  wanted = ["encoder", "hsmm"] if shown is None else shown
  assert list(reports.write_all(workdir.path)) == [f"{stage} run" for stage in wanted]


def test_a_folder_without_a_run_is_refused(tmp_path):
  with pytest.raises(InputError, match="holds no run"):
    list(reports.write_all(tmp_path / "nothing"))
