"""Codes of whole recordings are those of the encoder, in the order of time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax import config as config_lib
from behavejax.errors import InputError
from behavejax.evaluation import tokens
from behavejax.evaluation.evaluate import restore
from behavejax.evaluation.segment import segment
from behavejax.evaluation.steps import load_steps
from behavejax.quantizers import fsq
from behavejax.training import stages
from behavejax.workdir import Workdir
from tests.test_config import load


def test_digits_are_those_of_the_quantizer():
  levels = (8, 6, 5)
  codes = np.arange(240)
  digits = tokens.digits_of(codes, levels)
  assert digits.min() == 0
  np.testing.assert_array_equal(digits.max(axis=0), np.array(levels) - 1)
  np.testing.assert_array_equal(digits @ np.array([1, 8, 48]), codes)
  values = fsq.indices_to_codes(jnp.asarray(codes), levels=levels)
  np.testing.assert_array_equal(digits, fsq.codes_to_digits(values, levels=levels))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  config = load("fsq").get_config("tiny")
  config.segmentation.update(states=4, max_duration_s=3.0, restarts=2, iterations=3, moves=False)
  config = config_lib.resolve(config)
  return stages.run(config, tmp_path_factory.mktemp("tokens") / "run")


@pytest.mark.slow
def test_codes_follow_the_recording(run):
  config = run.read_config()
  streams, levels = tokens.token_streams(run, config)
  assert levels == config.quantizer.levels
  model, variables, data = restore(run, config)
  recording, bags = streams.recordings[0], streams.values[0]
  rows, per_row = data.train.shape[:2]
  length = rows * per_row
  window = data.normalization.apply(recording.signal)[length : 2 * length].reshape(1, rows, per_row, -1)
  codes = np.asarray(jax.jit(lambda x: model.apply(variables, x).tokens)(window))[0]
  second = (streams.starts[0] >= length) & (streams.starts[0] < 2 * length)
  assert second.sum() == round(config.data.window_s / config.segmentation.features.step_s)
  edges = tokens.step_edges(codes.size, second.sum())
  digits = tokens.digits_of(codes.ravel(), levels)
  for counts, first, last in zip(bags[second], edges[:-1], edges[1:], strict=True):
    for i in range(len(levels)):
      np.testing.assert_array_equal(counts[i], np.bincount(digits[first:last, i], minlength=max(levels)))
  begins = tokens.token_starts((1, *codes.shape), length, stride=config.model.token_stride)
  np.testing.assert_array_equal(streams.starts[0][second] - length, begins[edges[:-1]])
  at_samples = streams.to_samples(0, np.arange(len(bags)))
  assert len(at_samples) == len(recording.signal)
  assert at_samples[-1] == len(bags) - 1
  np.testing.assert_allclose(streams.rate_hz, len(bags) / len(at_samples) * recording.rate_hz, rtol=0.01)
  np.testing.assert_allclose(streams.overlap, codes.size / second.sum())


def test_codes_behind_the_end_count_nowhere():
  codes = np.array([[0, 1, 1, 2, 0, 3]])
  bags = tokens.bags_of(codes, np.arange(6) < 5, (4,), steps=2)
  np.testing.assert_array_equal(bags, [[[1, 2, 0, 0]], [[1, 0, 1, 0]]])


def test_batches_are_filled_up_and_cut_off_again():
  windows = np.arange(5, dtype=np.float32)[:, None, None, None]
  found = tokens.in_batches(lambda x: jnp.asarray(x) * 2, windows, 2)
  np.testing.assert_array_equal(found, windows * 2)


@pytest.mark.slow
def test_codes_are_segmented_by_one_more_stage(run):
  _, steps = load_steps(run, run.read_config())
  assert steps.levels == run.read_config().quantizer.levels
  stages.add(run.path, "hsmm")
  metrics = segment(run.path)
  assert 0 <= metrics["segments/v_measure"] <= 1
  assert metrics["segments/states"] >= 1
  assert (run.path / "segments" / "segments.csv").exists()
  before = (run.path / "stages" / "hsmm" / "complete").stat().st_mtime_ns
  stages.add(run.path, "hsmm")
  assert (run.path / "stages" / "hsmm" / "complete").stat().st_mtime_ns == before


def test_a_run_without_an_encoder_is_named(tmp_path):
  config = config_lib.resolve(load("fsq").get_config("tiny"))
  workdir = Workdir(tmp_path / "run")
  workdir.start(config)
  with pytest.raises(InputError, match="encoder"):
    tokens.token_streams(workdir, config)
