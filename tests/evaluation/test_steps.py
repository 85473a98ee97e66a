"""What is segmented is split as the encoder's windows were."""

import dataclasses

import numpy as np

from behavejax import config as config_lib
from behavejax.data.streams import Streams, make_streams
from behavejax.data.streams import streams_of as streams_of_recordings
from behavejax.evaluation import steps as steps_lib
from behavejax.models.syllables import Span, Steps


def streams_of(**data):
  config = config_lib.default_config()
  config.data.simulate.update(subjects=4, minutes=0.5)
  config.data.update(data)
  config = config_lib.resolve(config)
  return config, make_streams(config.data, config.segmentation.features, config.seed)


def test_subjects_are_in_one_part_each():
  config, streams = streams_of(val_subjects=("3",), test_subjects=("4",))
  spans = steps_lib._split(config, streams)
  assert [span.recording for span in spans["train"]] == [0, 1]
  assert spans["val"] == (Span(2, 0, len(streams.values[2])),)
  assert spans["test"] == (Span(3, 0, len(streams.values[3])),)


def test_time_is_cut_with_a_gap():
  config, streams = streams_of(split="temporal")
  spans = steps_lib._split(config, streams)
  for train, val, test in zip(spans["train"], spans["val"], spans["test"], strict=True):
    assert 0 == train.start < train.stop < val.start < val.stop < test.start < test.stop
    assert test.stop == len(streams.values[test.recording])
    gap = streams.starts[0][val.start] - streams.starts[0][train.stop - 1]
    assert gap >= config.data.window_s * streams.recordings[0].rate_hz


def test_scores_are_of_the_test_part():
  _, streams = streams_of(split="temporal")
  recordings = streams.recordings[:2]
  short = Streams(streams.values[:2], streams.starts[:2], recordings, streams.rate_hz, 1.0, 1.0)
  steps = Steps(short.values, np.zeros(2, np.int32), (), short.rate_hz, 1.0)
  everything = steps_lib.held_out_labels(short, steps)
  np.testing.assert_array_equal(everything[0], recordings[0].labels)
  count = len(short.values[0])
  split = steps._replace(spans={"train": (), "val": (), "test": (Span(0, 10, 20), Span(1, 30, count))})
  labels = steps_lib.held_out_labels(short, split)
  first, last = short.starts[0][10], short.starts[0][20]
  np.testing.assert_array_equal(labels[0][first:last], recordings[0].labels[first:last])
  assert (labels[0][:first] == -1).all()
  assert (labels[0][last:] == -1).all()
  np.testing.assert_array_equal(labels[1][short.starts[1][30] :], recordings[1].labels[short.starts[1][30] :])


def test_a_test_part_shorter_than_a_step_is_left_out():
  config, streams = streams_of(split="temporal")
  recordings = list(streams.recordings)
  recordings[0] = dataclasses.replace(
    recordings[0], signal=recordings[0].signal[:98], labels=recordings[0].labels[:98]
  )  # fmt: skip
  streams = streams_of_recordings(recordings, config.data, config.segmentation.features)
  spans = steps_lib._split(config, streams)
  assert all(span.recording for span in spans["test"])
  steps = Steps(streams.values, np.zeros(4, np.int32), (), streams.rate_hz, 1.0, spans)
  assert (steps_lib.held_out_labels(streams, steps)[0] == -1).all()
