"""Films beside each other: what is written is read again."""

import builtins

import av
import numpy as np
import pytest

from behavejax.data.videos import read_video
from behavejax.errors import InputError
from behavejax.evaluation import films

RNG = np.random.default_rng(0)
GREY = np.repeat(RNG.integers(0, 256, (12, 4, 5, 1), np.uint8), 1, -1)
COLOUR = RNG.integers(0, 256, (12, 4, 5, 3), np.uint8)


def test_each_lies_under_its_name():
  found = films.side_by_side({"true": GREY, "reconstructed": COLOUR})
  height, width = 4 * 48, 5 * 48
  assert found.shape == (12, 18 + height, 2 * width + 6, 3)
  below = found[:, 18:]
  np.testing.assert_array_equal(below[:, 24::48, 24:width:48], GREY.repeat(3, -1))
  np.testing.assert_array_equal(below[:, 24::48, width + 6 + 24 :: 48], COLOUR)
  assert found[0, :18, :width].max() > 200  # a name
  assert (found[3, :18] == found[0, :18]).all()


@pytest.mark.parametrize("shape", [(2, 193, 301, 1), (3, 200, 64, 3), (1, 8, 8, 1)])
def test_sides_are_even(shape):
  found = films.side_by_side({"a": np.zeros(shape, np.uint8)})
  assert found.shape[1] % 2 == found.shape[2] % 2 == 0
  with pytest.raises(ValueError, match="film b of shape"):
    films.side_by_side({"a": np.zeros(shape, np.uint8), "b": np.zeros((9, 9, 9, 1), np.uint8)})


def test_written_and_read(tmp_path):
  film = films.side_by_side({"true": GREY, "reconstructed": COLOUR})
  path = tmp_path / "a.mp4"
  films.write_mp4(path, film, rate_hz=12.5)
  found = read_video(path, channels=3, size=())
  assert found.why == ""
  assert found.frames.shape == film.shape
  assert found.rate_hz == 12.5
  luma = [0.299, 0.587, 0.114]
  assert np.abs(found.frames @ luma - film @ luma).mean() < 6
  with av.open(str(path)) as container:
    assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
  assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
  with pytest.raises(ValueError, match=r"shape|array"):
    films.write_mp4(tmp_path / "a.mp4", np.zeros((2, 8, 8, 2), np.uint8), rate_hz=10)
  assert list(tmp_path.iterdir()) == []
  original = builtins.__import__

  def without_av(name, *rest):
    if name == "av":
      raise ImportError(name)
    return original(name, *rest)

  monkeypatch.setattr(builtins, "__import__", without_av)
  with pytest.raises(InputError, match="writing videos needs the package av"):
    films.write_mp4(tmp_path / "a.mp4", np.zeros((2, 8, 8, 3), np.uint8), rate_hz=10)


def test_it_is_known_beforehand():
  assert films.can_write()
