"""Gaps of a stream, filled as those of the whole recording."""

import numpy as np
import pytest

from behavejax.data.repair import repair
from behavejax.export.gaps import StreamRepair
from behavejax.export.manifest import Repair
from tests.export import packages

FILL = (0.5, -0.25, 2.0)


def streamed(signal, *, strategy="interpolate", longest=None, chunk=3):
  stream = StreamRepair(Repair(strategy, 0.0, FILL), 3, longest)
  parts = [
    stream.feed(part, ~np.isfinite(part)) for part in (signal[i : i + chunk] for i in range(0, len(signal), chunk))
  ]
  parts.append(stream.flush())
  return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


@pytest.mark.parametrize("chunk", [1, 4, 500])
@pytest.mark.parametrize("strategy", ["interpolate", "mean", "zero"])
@pytest.mark.parametrize("longest", [0, 1, 4])
def test_a_long_gap_of_a_channel_is_an_end_and_a_beginning(strategy, longest, chunk):
  """Piece by piece and channel by channel, the values are those of the pieces repaired alone."""
  signal = packages.recording(300, seed=4, lost=0.4)
  values, usable, seen = streamed(signal, strategy=strategy, longest=longest, chunk=chunk)
  allowed = np.ones(300, bool)
  for channel in range(3):
    missing = ~np.isfinite(signal[:, channel])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], missing, [0]]).astype(int)))
    long = np.zeros(300, bool)
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
      long[start:stop] = stop - start > longest
    allowed &= ~long
    bounds = np.flatnonzero(np.diff(np.concatenate([[1], long, [1]]).astype(int)))
    for start, stop in zip(bounds[::2], bounds[1::2], strict=True):
      piece, fill = signal[start:stop, channel : channel + 1], np.array(FILL[channel : channel + 1])
      expected, _ = repair(piece, strategy=strategy, fill=fill)
      np.testing.assert_array_equal(values[start:stop, channel], expected[:, 0])
  np.testing.assert_array_equal(usable, allowed)
  np.testing.assert_array_equal(seen, np.isfinite(signal).any(axis=1))
  assert np.isfinite(values).all()


def test_holds_no_more_than_it_must():
  stream = StreamRepair(Repair("interpolate", 0.0, FILL), 3, None)
  signal = packages.recording(100)
  assert len(stream.feed(signal[:40], ~np.isfinite(signal[:40])).values) == 40
  signal[40:50, 1] = np.nan
  assert len(stream.feed(signal[40:50], ~np.isfinite(signal[40:50])).values) == 0
  assert len(stream.feed(signal[50:51], ~np.isfinite(signal[50:51])).values) == 11
  assert len(stream.feed(signal[:0], ~np.isfinite(signal[:0])).values) == 0
  assert len(stream.flush().values) == 0


def test_many_rows_held_at_once():
  signal = packages.recording(5000)
  signal[10:4000, 2] = np.nan
  values, _, _ = streamed(signal, chunk=170)
  expected, _ = repair(signal, strategy="interpolate", fill=np.array(FILL))
  np.testing.assert_array_equal(values, expected)
