"""Behaviour moment by moment: averages over windows against brute force; smoothing and syllables on made-up data."""

import numpy as np
import pytest

from behavejax.config import Config
from behavejax.data.recording import Recording
from behavejax.data.streams import Streams
from behavejax.evaluation import frames
from behavejax.models.syllables import Span, Steps


@pytest.mark.parametrize(("length", "stride"), [(8, 4), (10, 3), (4, 6)])
def test_every_sample_is_the_mean_of_the_windows_that_see_it(length, stride):
  rng = np.random.default_rng(0)
  values = rng.random((7, 3))
  samples = np.arange(6 * stride + length)
  found = frames.covering_mean(values, samples, length=length, stride=stride)
  for sample, row in zip(samples, found, strict=True):
    seen = [i for i in range(7) if i * stride <= sample < i * stride + length]
    if seen:
      np.testing.assert_allclose(row, values[seen].mean(axis=0), err_msg=str(sample))
  behind = frames.covering_mean(values, np.array([10_000]), length=length, stride=stride)
  np.testing.assert_allclose(behind[0], values[6])


@pytest.fixture(scope="module")
def made():
  """Two behaviours in turn, 10 steps of 5 samples each; a classifier that is wrong one time in five."""
  truth = np.tile(np.repeat([0, 1], 10), 10)
  labels = np.repeat(truth, 5)
  recordings = tuple(
    Recording(
      signal=np.zeros((1000, 1), np.float32), rate_hz=10.0, channels=("x",), units=("",),
      labels=labels.astype(np.int32), classes=("a", "b"), subject=str(i), session="", source="",
    )
    for i in range(3)
  )  # fmt: skip
  starts = tuple(np.arange(200) * 5 for _ in range(3))
  streams = Streams(tuple(np.zeros((200, 1)) for _ in range(3)), starts, recordings, 2.0, 1.0, 1.0)
  spans = {"train": (Span(0, 0, 200),), "val": (Span(1, 0, 200),), "test": (Span(2, 0, 100), Span(2, 150, 200))}
  steps = Steps(streams.values, np.arange(3), (), 2.0, 1.0, spans)
  rng = np.random.default_rng(1)
  said = [np.where(rng.random(200) < 0.2, 1 - truth, truth) for _ in range(3)]
  return streams, steps, frames.Frames([np.log(0.1 + 0.8 * np.eye(2)[row]) for row in said], [truth] * 3), labels


def test_smoothing_mends_what_the_classifier_gets_wrong(made):
  streams, steps, given, _ = made
  before = frames._confusion(streams, steps.spans["test"], [np.argmax(p, axis=1) for p in given.log_probs], 2)
  predicted, weight = frames._smoothed(Config(), steps, given, 2)
  after = frames._confusion(streams, steps.spans["test"], predicted, 2)
  assert before.sum() == after.sum() == 750
  assert np.trace(before) / 750 < 0.85
  assert np.trace(after) / 750 > 0.95
  assert weight in frames._WEIGHTS


def test_syllables_get_their_behaviour_from_the_training_part(made):
  streams, steps, given, labels = made
  states = [np.where(labels == 1, 3, 5), np.where(labels == 1, 3, 5), np.where(labels == 1, 3, 7)]
  predicted = frames._by_syllable(streams, steps, given, states, 2)
  np.testing.assert_array_equal(predicted[2][given.labels[2] == 1], 1)
  assert len(np.unique(predicted[2][given.labels[2] == 0])) == 1  # a state that was never seen
  np.testing.assert_array_equal(predicted[0], given.labels[0])
