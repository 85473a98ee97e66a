"""The loop around learning: it finds the states, says what happens, and ends with the same bits after a kill."""

import dataclasses
import functools
import json
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from behavejax import config as config_lib
from behavejax.config import SyllablesConfig
from behavejax.errors import InputError
from behavejax.evaluation.segments import hungarian_accuracy
from behavejax.evaluation.steps import load_steps
from behavejax.models import syllables
from behavejax.training import segmentation
from behavejax.workdir import Workdir, read_metrics
from tests.test_config import load

ROOT = pathlib.Path(__file__).parent.parent.parent
pytestmark = pytest.mark.slow


def tiny(**settings):
  config = config_lib.resolve(load("hsmm").get_config("tiny"))
  return dataclasses.replace(config, segmentation=dataclasses.replace(config.segmentation, **settings))


def fit(config, folder, *, mixture=False):
  streams, steps = load_steps(Workdir(folder / "none"), config)
  metrics = folder / "metrics.jsonl"
  learned = segmentation.fit(
    config, config.segmentation, steps, folder / "stage", metrics, stage="hsmm", mixture=mixture
  )
  return streams, steps, learned, read_metrics(metrics)


def states_of(config, steps, learned):
  segmenter = syllables.make_segmenter(config.segmentation, steps)
  return [d.states for d in syllables.decode_all(segmenter, learned.parameters, syllables.make_batch(segmenter, steps))]


METHODS = {
  "variational": {},
  "map": {"moves": False, "iterations": 15, "states": 3},
  "stochastic": {"moves": False, "iterations": 4, "batch_size": 2},
  "gibbs": {"moves": False, "iterations": 25},
  "gradient": {"moves": False, "iterations": 20, "learning_rate": 0.1, "states": 3},
}


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_segments(method, tmp_path):
  config = tiny(method=method, holdout=0.25, **METHODS[method])
  streams, steps, learned, rows = fit(config, tmp_path)
  truth = np.concatenate([r.labels for r in streams.recordings])
  found = np.concatenate(states_of(config, steps, learned))
  assert adjusted_rand_score(truth, found) > 0.85
  names = {
    f"hsmm/{name}" for name in ("bound", "log_likelihood_per_step", "states", "held_out_log_likelihood_per_step")
  }
  assert all(names <= row.keys() for row in rows)
  assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
  gap = abs(rows[-1]["hsmm/held_out_log_likelihood_per_step"] - rows[-1]["hsmm/log_likelihood_per_step"])
  assert 1e-6 < gap < 1  # other sequences, but drawn alike
  if method in ("variational", "map"):
    bounds = [row["hsmm/bound"] for row in rows]
    assert np.diff(bounds).min() > -1e-4 * abs(bounds[-1]) - 1
  if config.segmentation.moves:
    assert rows[-1]["hsmm/states"] == 3


def test_the_mixture_finds_clusters_without_order(tmp_path):
  config = tiny(states=4, mean_duration_s=1.0)
  channels = dataclasses.replace(config.data.syllables, channels=6)
  config = dataclasses.replace(config, data=dataclasses.replace(config.data, syllables=channels))
  _, _, learned, rows = fit(config, tmp_path, mixture=True)
  assert learned.parameters.theta.shape[0] == 4
  assert rows[-1]["hsmm/states"] == 3
  weights = np.sort(np.asarray(learned.weights.shared))[::-1]
  assert weights[:3].sum() > 0.8


@pytest.mark.parametrize("draws", [1, 2])
def test_the_mixture_of_codes_needs_two_draws_a_step(draws, tmp_path):
  """Three kinds of steps that share some of their codes; counted as one draw, any mixture is one categorical."""
  rng = np.random.default_rng(0)
  kinds = [rng.integers(0, 3, 300) for _ in range(4)]
  share = 0.86 * np.kron(np.eye(3), np.ones((1, 3)) / 3) + 0.14 / 9
  counts = [np.stack([rng.multinomial(6, share[kind]) for kind in own])[:, None].astype(np.float32) for own in kinds]
  steps = syllables.Steps(counts, np.array([0, 0, 1, 1], np.int32), (9,), 2.0, 6.0)
  config = tiny(states=6, restarts=2, iterations=20)
  settings = syllables.mixture_of(config.segmentation, steps)
  if draws == 1:
    settings = dataclasses.replace(settings, temperature=steps.overlap)
  learned = segmentation.fit(
    config, settings, steps, tmp_path / "hdp", tmp_path / "metrics.jsonl", stage="hdp", mixture=True
  )
  states = read_metrics(tmp_path / "metrics.jsonl")[-1]["hdp/states"]
  assert states == (1 if draws == 1 else 3)
  if draws == 2:
    segmenter = syllables.as_mixture(syllables.make_segmenter(settings, steps))
    found = syllables.clusters(segmenter, learned.parameters, syllables.make_batch(segmenter, steps))
    assert adjusted_rand_score(np.concatenate(kinds), np.concatenate(found)) > 0.95


def test_subjects_keep_their_own_weights(tmp_path):
  config = config_lib.resolve(load("hsmm").get_config("animals"))
  small = SyllablesConfig(states=3, recordings=6, steps=400, channels=2, separation=4.0, longest=15.0, subjects=3)
  config = dataclasses.replace(
    config,
    data=dataclasses.replace(config.data, syllables=small),
    segmentation=dataclasses.replace(
      config.segmentation, states=5, restarts=2, iterations=5, max_duration_s=4.0, mean_duration_s=1.0
    ),
  )
  streams, steps, learned, _ = fit(config, tmp_path)
  found = states_of(config, steps, learned)
  truth = [r.labels for r in streams.recordings]
  assert hungarian_accuracy(np.concatenate(truth), np.concatenate(found)) > 0.95
  chain = np.exp(np.asarray(learned.parameters.log_transitions))
  matched = [np.bincount(np.concatenate(found)[np.concatenate(truth) == k], minlength=5).argmax() for k in range(3)]
  for group in range(3):
    counts = np.zeros((3, 3))
    for labels in truth[group::3]:
      changes = np.flatnonzero(np.diff(labels))
      np.add.at(counts, (labels[changes], labels[changes + 1]), 1)
    empirical = counts / counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(chain[group][np.ix_(matched, matched)], empirical, atol=0.15)


def test_a_bound_that_is_no_number_is_named(tmp_path):
  config = tiny()
  _, steps = load_steps(Workdir(tmp_path / "none"), config)
  values = [v.copy() for v in steps.values]
  values[1][3, 0] = np.nan
  with pytest.raises(InputError, match=r"hsmm: the bound of start \d is nan in round 1"):
    segmentation.fit(
      config, config.segmentation, steps._replace(values=values), tmp_path / "stage", tmp_path / "m.jsonl", stage="hsmm"
    )


def test_fewer_steps_than_states_are_refused(tmp_path):
  config = tiny(states=50)
  _, steps = load_steps(Workdir(tmp_path / "none"), config)
  few = steps._replace(values=[v[:10] for v in steps.values])
  with pytest.raises(InputError, match="40 steps are too few"):
    segmentation.fit(config, config.segmentation, few, tmp_path / "stage", tmp_path / "m.jsonl", stage="hsmm")


COMMAND = [sys.executable, "launch/segment.py", "--config=configs/hsmm.py:tiny"]


def launch(workdir, *flags):
  return subprocess.Popen(
    [*COMMAND, f"--workdir={workdir}", *flags], cwd=ROOT,
    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
  )  # fmt: skip


def result(workdir):
  run = Workdir(workdir)
  config = run.read_config()
  _, steps = load_steps(run, config)
  segmenter = syllables.make_segmenter(config.segmentation, steps)
  like = syllables.learned_like(segmenter, syllables.make_batch(segmenter, steps))
  return jax.tree.leaves(run.read_result("hsmm", like))


@functools.cache
def uninterrupted(folder):
  process = launch(folder)
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output
  return result(folder)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["term", "kill"])
def test_interrupted_and_repeated_equals_uninterrupted(how, tmp_path_factory):
  whole = tmp_path_factory.getbasetemp() / "whole"
  expected = uninterrupted(whole)
  broken = tmp_path_factory.mktemp("broken") / "run"
  rounds = max(row["step"] for row in read_metrics(whole / "metrics.jsonl"))
  process, deadline = launch(broken), time.monotonic() + 200
  while process.poll() is None and time.monotonic() < deadline:
    if any(row["step"] >= rounds // 2 for row in read_metrics(broken / "metrics.jsonl")):
      process.send_signal(how)
      break
    time.sleep(0.002)
  output, _ = process.communicate(timeout=200)
  if how == signal.SIGTERM:
    assert process.returncode == 0, output
    assert "repeat the command to resume" in output
    assert not (broken / "stages" / "hsmm" / "complete").exists()
  again = launch(broken)
  output, _ = again.communicate(timeout=300)
  assert again.returncode == 0, output
  assert how == signal.SIGKILL or "resumed after round" in output
  for a, b in zip(result(broken), expected, strict=True):
    np.testing.assert_array_equal(a, b)
  rows = [read_metrics(folder / "metrics.jsonl") for folder in (whole, broken)]
  assert rows[0] == rows[1]
  assert json.loads((broken / "segments" / "metrics.json").read_text()) == json.loads(
    (whole / "segments" / "metrics.json").read_text()
  )
