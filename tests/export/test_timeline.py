"""Samples on a grid: what the runtime's tests do not see from outside."""

import numpy as np
import pytest

from behavejax.errors import InputError
from behavejax.export.timeline import FAR_S, RateMeter, Timeline


def rows(parts):
  return np.concatenate([part.rows for part in parts])


def test_rows_are_handed_on_as_soon_as_nothing_can_change():
  timeline = Timeline(10.0, lateness_s=0.3, longest_s=FAR_S)
  values = np.arange(10, dtype=np.float32)[:, None]
  assert rows(timeline.place(values[:2], np.array([5.0, 5.1]))).ravel().tolist() == [0, 1]
  assert len(rows(timeline.place(values[3:5], np.array([5.3, 5.4])))) == 0  # 2 may still come
  assert rows(timeline.place(values[2:3], np.array([5.2]))).ravel().tolist() == [2, 3, 4]
  handed = rows(timeline.place(values[9:], np.array([5.9])))
  np.testing.assert_array_equal(handed.ravel(), [np.nan])  # 5 is closed, 6 to 8 are open
  np.testing.assert_array_equal(timeline.flush().ravel(), [np.nan, np.nan, np.nan, 9])
  assert timeline.flush() is None


def test_every_gap_may_end_a_segment():
  timeline = Timeline(10.0, lateness_s=0.0, longest_s=0.0)
  time_s = np.array([0.0, 0.1, 0.3, 0.4, 0.7])
  parts = timeline.place(np.arange(5, dtype=np.float32)[:, None], time_s)
  assert [(part.place, round(part.time_s, 9)) for part in parts if part.begins] == [(0, 0.0), (3, 0.3), (7, 0.7)]
  assert rows(parts).ravel().tolist() == [0, 1, 2, 3, 4]


def test_many_segments_in_one_chunk():
  """Ten thousand samples, each a day after the one before."""
  timeline = Timeline(10.0, lateness_s=0.0, longest_s=FAR_S)
  timeline._head = None
  parts = timeline.place(np.zeros((10_000, 1), np.float32), np.arange(10_000) * 86400.0)
  assert sum(part.begins for part in parts) == 10_000
  assert parts[-1].place == 9_999 * 864_000


def test_a_clock_that_was_set_back():
  timeline = Timeline(10.0, lateness_s=0.0, longest_s=FAR_S)
  timeline.place(np.zeros((1, 1), np.float32), np.array([1000.0]))
  timeline.place(np.zeros((1, 1), np.float32), np.array([941.0]))
  assert timeline.late == 1
  with pytest.raises(InputError, match="time goes back by 3600 s, more than the 60 s"):
    timeline.place(np.zeros((1, 1), np.float32), np.array([1000.0 - 3600]))
  timeline.flush()
  assert len(timeline.place(np.zeros((1, 1), np.float32), np.array([-2600.0]))) == 1


@pytest.mark.parametrize("before", [5, 5000])
def test_a_chunk_with_a_bad_stamp_is_taken_whole_or_not_at_all(before):
  """Also where it is long and begins segments: what comes again without the bad one is all there."""
  time_s = np.arange(before) / 10 + (np.arange(before) > before // 2) * 1e5
  for bad in (-1000.0, np.nan):
    timeline = Timeline(10.0, lateness_s=0.0, longest_s=FAR_S)
    values = np.arange(before, dtype=np.float32)[:, None]
    with pytest.raises(InputError):
      timeline.place(np.append(values, [[0]], axis=0), np.append(time_s, bad))
    parts = timeline.place(values, time_s)
    assert rows(parts).ravel().tolist() == values.ravel().tolist()
    assert sum(part.begins for part in parts) == 2
    assert (timeline.late, timeline.duplicates) == (0, 0)


def test_another_rate_is_refused_again():
  timeline = Timeline(10.0, lateness_s=0.0, longest_s=FAR_S)
  for _ in range(2):
    with pytest.raises(InputError, match="rate of 5 Hz"):
      timeline.place(np.zeros((99, 1), np.float32), np.arange(99) / 5)
  assert len(rows(timeline.place(np.zeros((99, 1), np.float32), np.arange(99) / 10))) == 99


@pytest.mark.parametrize("chunk", [1, 33, 2000])
@pytest.mark.parametrize(
  ("stamps", "expected"),
  [
    (lambda i, rng: i / 49, 49.0),
    (lambda i, rng: i / 51.5, 51.5),
    (lambda i, rng: i / 49.9, None),
    (lambda i, rng: (i / 49)[rng.random(len(i)) > 0.05], 49.0),
    (lambda i, rng: (i / 50)[rng.random(len(i)) > 0.05], None),  # losses
    (lambda i, rng: i / 50 + (i > 700) * 300, None),  # an interruption
    (lambda i, rng: i / 50 + rng.uniform(-0.009, 0.009, len(i)), None),
    (lambda i, rng: np.floor(i / 50 / 0.016) * 0.016, None),  # coarse
    (lambda i, rng: np.repeat(i[::5], 5) / 49, 49.0),  # five at once
    (lambda i, rng: i[:300] / 49, None),
  ],
)
def test_rate_of_a_whole_recording(stamps, expected, chunk):
  meter, time_s = RateMeter(50.0), stamps(np.arange(2000), np.random.default_rng(0))
  for start in range(0, len(time_s), chunk):
    meter.add(time_s[start : start + chunk])
  found = meter.other_hz()
  assert found is None if expected is None else found == pytest.approx(expected, rel=3e-3)
