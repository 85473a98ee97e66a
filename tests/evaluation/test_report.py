"""The report says what its predictions say, warns where it must, and replaces the old one whole."""

import csv
import dataclasses
import json
import pathlib
import re

import numpy as np
import pytest
from sklearn import metrics as sk

from behavejax.config import Config, DataConfig, EvaluationConfig, QuantizerConfig, SimulateConfig
from behavejax.data import prepare, simulate
from behavejax.evaluation import page, report
from behavejax.evaluation.predictions import Predictions, load_predictions

CODES = 24


def predictions(windows, seed=0):
  """Right four times out of five; tokens that tell something about the label."""
  rng = np.random.default_rng(seed)
  n, k = len(windows), max(len(windows.classes), 1)
  guess = np.where(rng.random(n) < 0.8, np.maximum(windows.labels, 0), rng.integers(0, k, n))
  logits = rng.normal(size=(n, k)).astype(np.float32) + 4 * np.eye(k, dtype=np.float32)[guess]
  tokens = (2 * np.maximum(windows.labels, 0)[:, None, None] + rng.integers(0, 3, (n, 2, 4))) % CODES
  return Predictions(
    logits, windows.labels, tokens.astype(np.int32), rng.normal(size=(n, 6)), rng.random(n),
    windows.subject, windows.recording, windows.time_s,
  )  # fmt: skip


def make_run(*, subjects=4, labelled=True, **data):
  simulated = SimulateConfig(subjects=subjects, minutes=0.5)
  config = Config(
    data=DataConfig(simulate=simulated, window_s=1.0, stride_s=0.5, **data),
    quantizer=QuantizerConfig(levels=(4, 6)),
    evaluation=EvaluationConfig(embedding="pca"),
  )
  recordings = simulate.quadruped(simulated, 0)
  if not labelled:
    recordings = [dataclasses.replace(r, labels=np.full_like(r.labels, -1), classes=()) for r in recordings]
  prepared = prepare.prepare_recordings(recordings, config.data, 0)
  splits = {name: predictions(getattr(prepared, name)) for name in ("val", "test")}
  baselines = {"majority": np.zeros(len(prepared.test), np.int32)} if labelled else {}
  history = [{"step": 1, "train/loss": 2.0}, {"step": 2, "train/loss": 1.0, "val/loss": 1.5}]
  return report.Run("A title", config, prepared, splits, baselines, history, CODES, 1234)


def test_numbers_are_those_of_the_predictions(tmp_path):
  run = make_run(subjects=6, test_subjects=("5", "6"), val_subjects=("4",))
  values = report.write_report(tmp_path / "report", run)
  assert json.loads((tmp_path / "report" / "metrics.json").read_text()) == values
  assert all(np.isfinite(value) for value in values.values())
  test = run.splits["test"]
  assert values["test/accuracy"] == pytest.approx(sk.accuracy_score(test.labels, test.predicted))
  assert values["test/balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(test.labels, test.predicted))
  assert values["test/macro_f1"] == pytest.approx(sk.f1_score(test.labels, test.predicted, average="macro"))
  assert values["baseline/majority/accuracy"] == pytest.approx(np.mean(test.labels == 0))
  assert values["codes/usage"] == len(np.unique(test.tokens)) / CODES
  assert values["test/reconstruction_mse"] == pytest.approx(test.reconstruction_error.mean())
  text = (tmp_path / "report" / "report.md").read_text()
  assert "bootstrap over the 2 held-out subjects" in text
  assert "| test | " in text
  assert "5, 6 |" in text
  assert "One seed" in text


def test_page_and_dictionary_are_complete(tmp_path):
  run = make_run(subjects=4)
  report.write_report(tmp_path / "report", run)
  html = (tmp_path / "report" / "report.html").read_text()
  shown = set(re.findall(r'src="(figures/[a-z0-9_]+\.png)"', html))
  assert shown == {f"figures/{p.name}" for p in (tmp_path / "report" / "figures").iterdir()}
  assert len(shown) == 11
  with (tmp_path / "report" / "codes.csv").open() as file:
    rows = list(csv.DictReader(file))
  test = run.splits["test"]
  assert sum(int(row["tokens"]) for row in rows) == test.tokens.size
  assert {int(row["code"]) for row in rows} == set(np.unique(test.tokens))
  first = test.tokens == int(rows[0]["code"])
  behaviours = np.bincount(np.broadcast_to(test.labels[:, None, None], test.tokens.shape)[first])
  assert rows[0]["main behaviour"] == run.data.test.classes[behaviours.argmax()]
  assert float(rows[0]["share in it"]) == pytest.approx(behaviours.max() / behaviours.sum(), abs=1e-4)


def test_one_held_out_recording_has_no_interval(tmp_path):
  run = make_run(subjects=1, split="temporal")
  report.write_report(tmp_path / "report", run)
  text = (tmp_path / "report" / "report.md").read_text()
  assert "No interval" in text
  assert " to 0." not in text
  assert "lie on both sides of the split" in text
  assert "Only 1 held-out subject" in text


def test_without_labels(tmp_path):
  values = report.write_report(tmp_path / "report", make_run(labelled=False))
  assert not [key for key in values if key.startswith("baseline/") or "accuracy" in key]
  assert "codes/perplexity" in values
  text = (tmp_path / "report" / "report.md").read_text()
  assert "Behaviour on the test split" not in text
  assert "temperature" not in text
  assert not (tmp_path / "report" / "codes.csv").exists()


def test_collapsed_codebook_is_named(tmp_path):
  run = make_run()
  splits = {name: dataclasses.replace(p, tokens=np.zeros_like(p.tokens)) for name, p in run.splits.items()}
  values = report.write_report(tmp_path / "report", dataclasses.replace(run, splits=splits))
  assert values["codes/perplexity"] == pytest.approx(1.0)
  text = (tmp_path / "report" / "report.md").read_text()
  rows = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| ")}
  assert "| perplexity 1.0 of 24 codes | at least 4.0 |" in rows["codebook collapse"]
  assert "| 4.2% of 24 codes occur | at least 20.0% |" in rows["unused codes"]
  assert "| 100.0% of the tokens are one code | at most 90.0% |" in rows["all in one cluster"]
  assert text.index("## Findings") < text.index("## Behaviour on the test split")


def test_a_healthy_run_has_no_finding(tmp_path):
  report.write_report(tmp_path / "report", with_small_errors(make_run()))
  text = (tmp_path / "report" / "report.md").read_text()
  assert "None of 5 checks fired. Silent: codebook collapse, all in one cluster, no gradient" in text
  assert "Not judged, for want of a number: assignments unstable." in text


def with_small_errors(run):
  splits = {name: dataclasses.replace(p, reconstruction_error=0.1 * p.labels**0) for name, p in run.splits.items()}
  return dataclasses.replace(run, splits=splits, latents={"codes/encoder_gradient": 0.4})


def test_findings_take_the_numbers_of_the_report(tmp_path):
  run = with_small_errors(make_run())
  history = [*run.history, {"step": 3, "val/tokens_changed": 0.02}, {"step": 4, "val/tokens_changed": 0.51}]
  latents = {"codes/encoder_gradient": 0.004, "codes/silhouette": 0.21}
  values = report.write_report(tmp_path / "report", dataclasses.replace(run, history=history, latents=latents))
  assert values["codes/encoder_gradient"] == 0.004
  text = (tmp_path / "report" / "report.md").read_text()
  assert "| assignments unstable | 51.0% of the tokens changed since the last evaluation | at most 30.0% |" in text
  assert "| no gradient through the quantizer | the encoder has 0.40% of the gradient's norm |" in text
  assert "0.21 by code" in text


def test_label_sets_are_kept_and_measured(tmp_path):
  run = make_run(subjects=6, test_subjects=("5", "6"), val_subjects=("4",))
  values = report.write_report(tmp_path / "report", run)
  test = load_predictions(tmp_path / "report" / "predictions.npz")["test"]
  np.testing.assert_allclose(test.probabilities.sum(axis=1), 1, atol=1e-5)
  np.testing.assert_array_equal(test.probabilities.argmax(axis=1), test.predicted)
  known = test.labels >= 0
  covered = test.label_sets[known, test.labels[known]].mean()
  assert values["test/coverage"] == pytest.approx(covered)
  assert values["test/set_size"] == pytest.approx(test.label_sets[known].sum(axis=1).mean())
  text = (tmp_path / "report" / "report.md").read_text()
  for subject in ("5", "6"):
    own = known & (test.subject == run.data.test.subjects.index(subject))
    share = test.label_sets[own, test.labels[own]].mean()
    assert f"| {subject} | {own.sum()} | {share:.3f} |" in text
  assert "no guarantee for a new subject" in text


def test_errors_of_channels(tmp_path):
  run = make_run()
  test = run.splits["test"]
  error = np.random.default_rng(0).random((len(test.labels), len(run.data.test.channels)))
  splits = run.splits | {"test": dataclasses.replace(test, channel_error=error)}
  values = report.write_report(tmp_path / "report", dataclasses.replace(run, splits=splits))
  name, signal = run.data.test.channels[1], run.data.test.signal[:, 1]
  span = np.quantile(signal, 0.999) - np.quantile(signal, 0.001)
  assert values[f"test/mse/{name}"] == pytest.approx(error[:, 1].mean())
  assert values[f"test/psnr/{name}"] == pytest.approx(20 * np.log10(span) - 10 * np.log10(error[:, 1].mean()), rel=1e-5)


def test_every_stage_has_its_figure(tmp_path):
  rows = [{"stage": stage, "step": i, "train/loss": 1.0} for stage in ("encoder", "qat") for i in range(3)]
  rows.append({"stage": "hsmm", "step": 1, "hsmm/bound": -1.0})
  report.write_report(tmp_path / "report", dataclasses.replace(make_run(), history=rows))
  names = {path.stem for path in (tmp_path / "report" / "figures").iterdir()}
  assert {name for name in names if name.startswith("training")} == {"training", "training_qat"}


def test_a_failed_report_leaves_the_old_one(tmp_path, monkeypatch):
  run = make_run()
  report.write_report(tmp_path / "report", run)
  before = (tmp_path / "report" / "report.md").read_bytes()

  def full(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(report, "save_predictions", full)
  with pytest.raises(OSError, match="No space left"):
    report.write_report(tmp_path / "report", dataclasses.replace(run, title="Another"))
  assert (tmp_path / "report" / "report.md").read_bytes() == before
  assert [p.name for p in tmp_path.iterdir()] == ["report"]


def test_a_failed_rename_brings_the_old_folder_back(tmp_path, monkeypatch):
  folder = tmp_path / "report"
  folder.mkdir()
  (folder / "a").write_text("old")
  rename = page.os.rename

  def refuse(source, target):
    if pathlib.Path(target) == folder and not str(source).endswith(".old"):
      raise OSError(13, "Permission denied")
    rename(source, target)

  monkeypatch.setattr(page.os, "rename", refuse)
  with pytest.raises(OSError, match="Permission denied"), page.replaced_folder(folder) as temporary:
    (temporary / "a").write_text("new")
  assert (folder / "a").read_text() == "old"
  assert [p.name for p in tmp_path.iterdir()] == ["report"]
