"""Videos that were written here, decoded again; and all the ways in which files are broken."""

import av
import numpy as np
import pytest

from behavejax.config_frames import FramesConfig
from behavejax.data.videos import read_video, read_video_folder
from behavejax.errors import InputError

RNG = np.random.default_rng(0)


def clip(frames=20, size=(32, 48)):
  """A bright square over a dark gradient, moving right by a pixel per frame."""
  rows, columns = np.indices(size)
  video = np.repeat((rows + columns)[None, ..., None] // 2, frames, 0).repeat(3, -1).astype(np.uint8)
  for i in range(frames):
    video[i, 8:20, i : i + 12] = (220, 120, 40)
  return video


def write(path, video, *, codec="libx264", pixel_format="yuv420p", rate=10, options=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), "w", options=options or {}) as container:
    stream = container.add_stream(codec, rate=rate)
    stream.height, stream.width = video.shape[1:3]
    stream.pix_fmt = pixel_format
    stream.gop_size = 5
    for image in video:
      grey = image.shape[-1] == 1
      frame = av.VideoFrame.from_ndarray(image[..., 0] if grey else image, format="gray" if grey else "rgb24")
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
  return path


def read(folder, **settings):
  return read_video_folder(folder, FramesConfig(name="video_folder", **{"workers": 0, **settings}))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_decoded_is_what_was_written(tmp_path, suffix):
  video = clip()
  write(tmp_path / f"a{suffix}", video, codec="libx264" if suffix != ".avi" else "mpeg4")
  found = read(tmp_path)
  assert found.steps.shape == video.shape
  assert found.steps.dtype == np.uint8
  assert found.rate_hz == 10
  assert np.abs(found.steps.astype(int) - video).mean() < 8  # lossy, and colour at half the resolution
  grey = read(tmp_path, channels=1).steps
  assert grey.shape == (20, 32, 48, 1)
  assert np.abs(grey[..., 0] - video @ [0.299, 0.587, 0.114]).mean() < 8


def test_lossless_is_exact(tmp_path):
  video = clip()[..., :1]
  write(tmp_path / "a.mkv", video, codec="ffv1", pixel_format="gray")
  found = read(tmp_path)
  np.testing.assert_array_equal(found.steps, video)  # grey by itself: one channel
  assert read(tmp_path, channels=3).steps.shape == (20, 32, 48, 3)


def test_workers_give_the_same_in_order(tmp_path):
  for i in range(3):
    write(tmp_path / f"class{i % 2}" / f"{i}.mp4", clip(10 + i))
  np.save(tmp_path / "class1" / "stack.npy", clip(4))
  alone, together = read(tmp_path, size=(16, 16)), read(tmp_path, size=(16, 16), workers=2)
  np.testing.assert_array_equal(alone.steps, together.steps)
  assert alone.names == together.names == ("class0/0.mp4", "class0/2.mp4", "class1/1.mp4", "class1/stack.npy")
  assert together.labels.tolist() == [0, 0, 1, 1]
  assert np.diff(together.bounds).tolist() == [10, 12, 11, 4]
  assert together.steps.shape == (37, 16, 16, 3)


def test_stacks_keep_type_and_channels(tmp_path):
  stack = RNG.normal(size=(7, 5, 6, 6)).astype(np.float64)
  np.save(tmp_path / "a.npy", stack)
  found = read(tmp_path)
  assert found.steps.dtype == np.float32
  np.testing.assert_allclose(found.steps, stack, rtol=1e-6)
  np.save(tmp_path / "a.npy", RNG.integers(0, 65536, (7, 5, 6), np.uint16))
  assert read(tmp_path).steps.shape == (7, 5, 6, 1)
  assert read(tmp_path).steps.dtype == np.uint16
  np.save(tmp_path / "b.npy", RNG.integers(0, 256, (3, 5, 6), np.uint8))
  assert read(tmp_path).steps.dtype == np.uint16
  np.save(tmp_path / "c.npy", RNG.integers(0, 256, (3, 5, 6, 6), np.uint8))
  with pytest.raises(InputError, match=r"different numbers of channels: 1 in .*a.npy, 6 in .*c.npy"):
    read(tmp_path)
  with pytest.raises(InputError, match=r"c.npy cannot be read: 6 channels, of which config.frames.channels=3 cannot"):
    read(tmp_path, channels=3)


def test_turned_as_a_phone_held_upright_says(tmp_path):
  """The matrix of the track header, here that of a quarter turn clockwise."""
  path = write(tmp_path / "a.mp4", clip(6))
  upright = read_video(path, channels=3, size=()).frames
  one, minus = b"\x00\x01\x00\x00", b"\xff\xff\x00\x00"
  zero, last = bytes(4), b"\x40\x00\x00\x00"
  content = path.read_bytes()
  place = content.index(one + 3 * zero + one + 3 * zero + last, content.index(b"tkhd"))
  matrix = zero + one + zero + minus + 4 * zero + last
  path.write_bytes(content[:place] + matrix + content[place + 36 :])
  found = read_video(path, channels=3, size=()).frames
  np.testing.assert_array_equal(found, np.rot90(upright, -1, axes=(1, 2)))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_cut_short_is_broken(tmp_path, suffix, share):
  """An index at the front, as in streamed files, does not hide that the end is missing."""
  noisy = RNG.integers(0, 256, (40, 32, 48, 3), np.uint8)
  options = {"movflags": "faststart"} if suffix == ".mp4" else None
  path = write(tmp_path / f"a{suffix}", noisy, codec="libx264" if suffix != ".avi" else "mpeg4", options=options)
  content = path.read_bytes()
  assert read_video(path, channels=3, size=()).why == ""
  path.write_bytes(content[: int(len(content) * share)])
  found = read_video(path, channels=3, size=())
  assert found.frames is None
  assert found.why
  assert "\n" not in found.why


def test_cut_short_beside_sound(tmp_path):
  """The sound may be longer than the video: what Matroska says of the video itself counts."""
  path = tmp_path / "a.mkv"
  with av.open(str(path), "w") as container:
    video, sound = container.add_stream("libx264", rate=10), container.add_stream("aac", rate=8000)
    video.height, video.width, video.pix_fmt = 32, 48, "yuv420p"
    for image in RNG.integers(0, 256, (40, 32, 48, 3), np.uint8):
      container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
    for i in range(60):
      frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
      frame.rate, frame.pts = 8000, i * 1024
      container.mux(sound.encode(frame))
    container.mux(video.encode())
    container.mux(sound.encode())
  content = path.read_bytes()
  assert len(read_video(path, channels=1, size=()).frames) == 40
  path.write_bytes(content[: len(content) // 2])
  assert "it is cut short" in read_video(path, channels=1, size=()).why


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_damage_anywhere_is_one_line(tmp_path, suffix):
  path = write(tmp_path / f"a{suffix}", clip(8), codec="libx264" if suffix != ".avi" else "mpeg4")
  content = path.read_bytes()
  for place in range(0, len(content), len(content) // 40):
    path.write_bytes(content[:place] + RNG.bytes(4) + content[place + 4 :])
    found = read_video(path, channels=3, size=(8, 8))
    assert (found.frames is None) == bool(found.why)
    assert "\n" not in found.why


def test_broken_files_are_fatal_or_left_out(tmp_path):
  write(tmp_path / "1.mp4", clip())
  (tmp_path / "2.mp4").touch()
  (tmp_path / "3.mkv").write_bytes(RNG.bytes(500))
  (tmp_path / "4.npy").write_bytes(b"")
  (tmp_path / "5.npy").write_bytes(RNG.bytes(100))
  np.save(tmp_path / "6.npy", np.zeros((3, 4)))
  np.save(tmp_path / "7.npy", np.full((3, 4, 4), np.nan))
  np.save(tmp_path / "8.npy", np.zeros((3, 4, 4), np.int64))
  np.save(tmp_path / "9.npy", np.array([{}]), allow_pickle=True)
  with pytest.raises(InputError, match=r"2.mp4 cannot be read: it is empty \(and 7 more\)"):
    read(tmp_path)
  found = read(tmp_path, on_broken="skip")
  assert found.names == ("1.mp4",)
  assert found.warnings[0].startswith("8 of 9 videos cannot be read and were left out (2.mp4: it is empty; 3.mkv:")
  for name, why in (("6", "of shape"), ("7", "NaN or Inf"), ("8", "of type int64"), ("9", "allow_pickle=False")):
    assert why in read_video(tmp_path / f"{name}.npy", channels=0, size=()).why


def test_sound_alone_is_no_video(tmp_path):
  with av.open(str(tmp_path / "a.mkv"), "w") as container:
    stream = container.add_stream("aac", rate=8000)
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
    frame.rate = 8000
    container.mux(stream.encode(frame))
    container.mux(stream.encode())
  with pytest.raises(InputError, match="it holds no video"):
    read(tmp_path)


def test_sizes_and_rates_that_differ(tmp_path):
  write(tmp_path / "1.mp4", clip())
  write(tmp_path / "2.mp4", clip(size=(32, 32)), rate=25)
  with pytest.raises(InputError, match=r"different sizes: 32 x 48 in .*1.mp4, 32 x 32 in .*2.mp4"):
    read(tmp_path)
  found = read(tmp_path, size=(16, 16))
  assert "10 to 25 frames per second" in found.warnings[0]


def test_an_empty_folder(tmp_path):
  with pytest.raises(InputError, match=r"holds no video \(.avi, .mkv, .mp4, .npy\)"):
    read(tmp_path)
