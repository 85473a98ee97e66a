"""Channels, sizes and types of images against plain formulas."""

import numpy as np
import pytest
from PIL import Image

from behavejax.data import pixels
from behavejax.errors import InputError

RNG = np.random.default_rng(0)


def image(channels, dtype=np.uint8, size=(6, 8)):
  return RNG.integers(0, np.iinfo(dtype).max + 1, (*size, channels)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_channels(dtype):
  white = np.iinfo(dtype).max
  grey, soft, colour, full = (image(c, dtype) for c in (1, 2, 3, 4))
  np.testing.assert_array_equal(pixels.to_channels(grey, 3), np.repeat(grey, 3, -1))
  np.testing.assert_array_equal(pixels.to_channels(grey, 4)[..., 3], white)
  luma = np.rint(colour.astype(float) @ [0.299, 0.587, 0.114])
  np.testing.assert_array_equal(pixels.to_channels(colour, 1)[..., 0], luma)
  over_black = np.rint(full[..., :3] * (full[..., 3:] / white))
  np.testing.assert_array_equal(pixels.to_channels(full, 3), over_black)
  np.testing.assert_array_equal(pixels.to_channels(full, 4), full)
  np.testing.assert_array_equal(pixels.to_channels(soft, 1), np.rint(soft[..., :1] * (soft[..., 1:] / white)))
  np.testing.assert_array_equal(pixels.to_channels(soft, 4)[..., 3], soft[..., 1])
  for given in (grey, soft, colour, full):
    for wanted in (1, 3, 4):
      found = pixels.to_channels(given, wanted)
      assert found.shape == (6, 8, wanted)
      assert found.dtype == dtype
  with pytest.raises(InputError, match=r"6 channels, of which config.frames.channels=3 cannot be made"):
    pixels.to_channels(image(6), 3)


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint8), (3, np.uint16), (6, np.uint8)])
def test_covered_and_cropped_in_the_middle(channels, dtype):
  """Twice as wide as wanted: what is left over falls away, as if the whole had been scaled and then cropped."""
  given = image(channels, dtype, (8, 16))
  found = pixels.fit(given, (2, 2))
  assert found.dtype == dtype
  planes = [Image.fromarray(given[..., i].astype(np.float32)) for i in range(channels)]
  whole = np.stack([np.asarray(plane.resize((4, 2), Image.Resampling.BILINEAR)) for plane in planes], axis=-1)
  np.testing.assert_allclose(found, whole[:, 1:3], atol=1.01)
  flat = np.full((9, 5, channels), np.iinfo(dtype).max, dtype)
  np.testing.assert_array_equal(pixels.fit(flat, (7, 3)), flat[:7, :3])


def test_a_gradient_is_kept_by_enlarging():
  ramp = np.linspace(0, 1, 8, dtype=np.float32)[None, :, None] * np.ones((8, 1, 1), np.float32)
  found = pixels.fit(ramp, (16, 16))
  assert found.dtype == np.float32
  np.testing.assert_allclose(np.diff(found[3, 2:-2, 0]), 1 / 14, atol=1e-6)


def test_nothing_is_done_unasked():
  given = image(3)
  assert pixels.fit(given, ()) is given
  assert pixels.fit(given, (6, 8)) is given


def test_mixed_depths_become_sixteen_bits():
  small, large = pixels.alike([np.full((2, 2, 1), 255, np.uint8), np.full((2, 2, 1), 7, np.uint16)], ["a", "b"])
  assert small.dtype == large.dtype == np.uint16
  assert small[0, 0, 0] == 65535
  assert large[0, 0, 0] == 7


@pytest.mark.parametrize(
  ("other", "message"),
  [
    (np.zeros((2, 3, 1), np.uint8), "different sizes: 2 x 2 in a, 2 x 3 in b; set config.frames.size"),
    (np.zeros((2, 2, 3), np.uint8), "different numbers of channels: 1 in a, 3 in b; set config.frames.channels"),
    (np.zeros((2, 2, 1), np.float32), "values of different types: float32, uint8"),
  ],
)
def test_what_differs_is_named(other, message):
  with pytest.raises(InputError, match=message):
    pixels.alike([np.zeros((2, 2, 1), np.uint8), other], ["a", "b"])
