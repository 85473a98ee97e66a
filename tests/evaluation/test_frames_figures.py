"""Figures of samples: what is drawn is what was given."""

import numpy as np
import pytest

from behavejax.data.normalization import Normalization
from behavejax.data.samples import Samples, channel_names
from behavejax.evaluation import frames_figures

RNG = np.random.default_rng(0)


def samples(channels, dtype=np.uint8):
  steps = (RNG.random((9, 6, 7, channels)) * 200).astype(dtype)
  names = channel_names(channels)
  normalization = Normalization(np.full(channels, 90, np.float32), np.full(channels, 40, np.float32), names)
  return Samples(
    steps=steps, starts=np.arange(9), length=0, labels=np.full(9, -1), source=np.arange(9), bounds=np.arange(10),
    sources=tuple("abcdefghi"), classes=(), channels=names, normalization=normalization,
    peak=float(np.iinfo(dtype).max) if dtype != np.float32 else float(np.ptp(steps)), rate_hz=0.0,
  )  # fmt: skip


@pytest.mark.parametrize(("channels", "shades"), [(1, 1), (3, 3), (4, 3), (6, 1)])
def test_pictures_are_the_stored_ones(channels, shades):
  given = samples(channels)
  found = frames_figures.as_pictures(given.gather(np.array([2, 5])), given)
  np.testing.assert_array_equal(found, given.steps[[2, 5], ..., :shades])


def test_what_is_out_of_range_is_clipped_and_other_types_scaled():
  given = samples(1)
  x = given.gather(np.array([0]))
  assert frames_figures.as_pictures(x + 100, given).min() == 255
  assert frames_figures.as_pictures(x - 100, given).max() == 0
  floats = samples(1, np.float32)
  found = frames_figures.as_pictures(floats.gather(np.arange(9)), floats)
  assert (found.min(), found.max()) == (0, 255)
  deep = samples(1, np.uint16)
  np.testing.assert_array_equal(
    frames_figures.as_pictures(deep.gather(np.arange(9)), deep), np.rint(deep.steps / 257)
  )  # fmt: skip


def test_rows_wrap_and_keep_their_order():
  true, made = (RNG.integers(0, 256, (5, 4, 4, 1), np.uint8) for _ in range(2))
  figure = frames_figures.picture_rows({"true": true, "made": made}, columns=3, title="Digits")
  axes = np.array(figure.axes).reshape(4, 3)
  assert [row[0].get_ylabel() for row in axes] == ["true", "made", "true", "made"]
  for line, (pictures, first) in enumerate(((true, 0), (made, 0), (true, 3), (made, 3))):
    for column in range(3):
      shown = axes[line, column].get_images()
      if first + column < 5:
        np.testing.assert_array_equal(shown[0].get_array(), pictures[first + column, ..., 0])
      else:
        assert not shown


def test_strips_show_frames_from_first_to_last():
  clips = RNG.integers(0, 256, (2, 9, 4, 4, 3), np.uint8)
  figure = frames_figures.video_strips({"true": clips, "made": clips}, frames=4)
  axes = np.array(figure.axes).reshape(4, 4)
  for column, frame in enumerate((0, 3, 5, 8)):
    np.testing.assert_array_equal(axes[2, column].get_images()[0].get_array(), clips[1, frame])
  assert len(frames_figures.video_strips({"true": clips[:, :3]}).axes) == 6


def test_signals_lie_over_each_other():
  true, made = (RNG.normal(size=(2, 30, 11)) for _ in range(2))
  names = [f"c{i}" for i in range(11)]
  figure = frames_figures.signal_pairs(true, made, channels=names, rate_hz=10.0)
  axes = np.array(figure.axes).reshape(9, 2)
  first, second = axes[4, 1].lines
  np.testing.assert_allclose(first.get_ydata(), true[1, :, 4])
  np.testing.assert_allclose(second.get_ydata(), made[1, :, 4])
  assert second.get_xdata()[-1] == pytest.approx(2.9)
  assert axes[4, 0].get_ylabel() == "c4"


@pytest.mark.parametrize("counts", [np.array([0, 6, 0, 2, 0]), np.full(64, 3), np.array([7]), np.zeros(4, int)])
def test_a_codebook_says_how_many_codes_are_used(counts):
  figure = frames_figures.codebook_map(counts)
  left, right = figure.axes[:2]
  assert left.get_title(loc="left") == f"{(counts > 0).sum()} of {len(counts)} codes in use"
  shares = counts[counts > 0] / max(counts.sum(), 1)
  np.testing.assert_allclose(right.lines[0].get_ydata(), np.sort(shares)[::-1])
  assert right.get_title(loc="left") == f"Perplexity {np.exp(-(shares * np.log(shares)).sum()):.0f}"
  unused = left.get_images()[1].get_array()
  assert np.ma.count(unused) == (counts == 0).sum()
  figure.canvas.draw()
