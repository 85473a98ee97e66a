"""Stretches are the windows they are made of, and have their labels."""

import dataclasses

import numpy as np
import pytest

from behavejax import config as config_lib
from behavejax.data.prepare import prepare
from behavejax.data.stretches import stretches
from behavejax.errors import InputError


@pytest.fixture(scope="module")
def windows():
  config = config_lib.default_config()
  config.data.simulate.update(subjects=4, minutes=0.7)
  config.data.update(val_subjects=("3",), test_subjects=("4",), window_s=2.0, stride_s=1.0)
  return prepare(config_lib.resolve(config).data, 0).train


def test_a_stretch_is_its_windows_end_to_end(windows):
  long = stretches(windows, 4)
  assert long.shape == (1, 400, 9)
  assert long.labels.shape == (len(long), 4)
  for i in range(0, len(long), 3):
    x = long.gather(np.array([i]))[0].reshape(4, *windows.shape)
    for j, begin in enumerate(long.starts[i] + 100 * np.arange(4)):
      same = np.flatnonzero(windows.starts == begin)
      if len(same):
        np.testing.assert_array_equal(x[j], windows.gather(same)[0])
        assert long.labels[i, j] == windows.labels[same[0]]


def test_stretches_stay_in_their_recording(windows):
  long = stretches(windows, 4)
  for i in range(len(long)):
    own = windows.starts[windows.recording == long.recording[i]]
    assert own.min() <= long.starts[i]
    assert long.starts[i] + long.length <= own.max() + windows.length
    assert long.subject[i] == windows.subject[windows.recording == long.recording[i]][0]


def test_where_no_window_begins_there_is_no_label(windows):
  keep = windows.subset(np.abs(windows.starts - 600) > 400)
  long = stretches(keep, 4)
  inside = (long.starts[:, None] + 100 * np.arange(4) > 300) & (long.starts[:, None] + 100 * np.arange(4) < 900)
  assert inside.any()
  assert (long.labels[inside] == -1).all()
  assert (long.labels[~inside] >= 0).any()


def test_recordings_that_are_too_short_are_named(windows):
  with pytest.raises(InputError, match=r"config.finetune.windows=1000"):
    stretches(windows, 1000)
  assert dataclasses.is_dataclass(windows)
