"""Image folders: every kind of file that Pillow reads, against what was written."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from behavejax.config_frames import FramesConfig
from behavejax.data.images import read_digits, read_image_folder
from behavejax.errors import InputError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 8), np.uint8)
COLOUR = RNG.integers(0, 256, (6, 8, 3), np.uint8)
OPACITY = RNG.integers(0, 256, (6, 8, 1), np.uint8)
DEEP = RNG.integers(0, 65536, (6, 8), np.uint16)


def save(path, array, mode=None, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  image = Image.fromarray(array)
  (image.convert(mode) if mode else image).save(path, **options)


def read(folder, **settings):
  return read_image_folder(folder, FramesConfig(name="image_folder", **settings))


def test_digits_are_sixteenths_as_bytes():
  found = read_digits()
  assert found.steps.shape == (1797, 8, 8, 1)
  np.testing.assert_allclose(found.steps[..., 0] / 255 * 16, load_digits().images, atol=0.04)
  assert found.labels.tolist() == load_digits().target.tolist()


def test_all_grey_is_one_channel(tmp_path):
  save(tmp_path / "a" / "1.png", GREY)
  save(tmp_path / "b" / "2.bmp", GREY)
  found = read(tmp_path)
  assert found.steps.shape == (2, 6, 8, 1)
  assert found.steps.dtype == np.uint8
  np.testing.assert_array_equal(found.steps[1, ..., 0], GREY)
  assert found.labels.tolist() == [0, 1]
  np.testing.assert_array_equal(read(tmp_path, channels=3).steps[0], np.repeat(GREY[..., None], 3, -1))


def test_kinds_are_mixed(tmp_path):
  """Grey, colour, colour with opacity, palette with and without, black and white: all become colour."""
  save(tmp_path / "1.png", GREY)
  save(tmp_path / "2.png", COLOUR)
  save(tmp_path / "3.png", np.concatenate([COLOUR, OPACITY], -1))
  few = np.array([[[255, 0, 0], [0, 0, 255]]] * 2, np.uint8).repeat(3, 0).repeat(4, 1)
  save(tmp_path / "4.png", few, "P")
  Image.fromarray(few).quantize(2).save(tmp_path / "5.gif", transparency=0)
  save(tmp_path / "6.png", GREY > 127)
  save(tmp_path / "7.png", np.concatenate([GREY[..., None], OPACITY], -1))
  found = read(tmp_path).steps
  assert found.shape == (7, 6, 8, 3)
  np.testing.assert_array_equal(found[0], np.repeat(GREY[..., None], 3, -1))
  np.testing.assert_array_equal(found[1], COLOUR)
  np.testing.assert_array_equal(found[2], np.rint(COLOUR * (OPACITY / 255)))
  np.testing.assert_array_equal(found[3], few)
  half = found[4].reshape(-1, 3)
  assert {tuple(row) for row in half.tolist()} in ({(0, 0, 0), (255, 0, 0)}, {(0, 0, 0), (0, 0, 255)})
  np.testing.assert_array_equal(found[5, ..., 0], 255 * (GREY > 127))
  np.testing.assert_array_equal(found[6, ..., 1], np.rint(GREY * (OPACITY[..., 0] / 255)))
  opaque = read(tmp_path, channels=4).steps
  np.testing.assert_array_equal(opaque[2, ..., 3], OPACITY[..., 0])
  assert (opaque[1, ..., 3] == 255).all()


def test_sixteen_bits_are_kept(tmp_path):
  save(tmp_path / "1.png", DEEP)
  save(tmp_path / "2.tif", DEEP)
  found = read(tmp_path)
  assert found.steps.dtype == np.uint16
  np.testing.assert_array_equal(found.steps[..., 0], np.stack([DEEP, DEEP]))
  save(tmp_path / "3.png", GREY)
  mixed = read(tmp_path).steps
  np.testing.assert_array_equal(mixed[2, ..., 0], GREY.astype(int) * 257)
  assert read(tmp_path, size=(3, 4)).steps.dtype == np.uint16


def test_different_sizes_need_one(tmp_path):
  save(tmp_path / "1.png", GREY)
  save(tmp_path / "2.png", GREY[:5])
  with pytest.raises(InputError, match=r"different sizes: 6 x 8 in .*1.png, 5 x 8 in .*2.png; set config.frames.size"):
    read(tmp_path)
  assert read(tmp_path, size=(4, 4)).steps.shape == (2, 4, 4, 1)


def test_turned_as_the_camera_says(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6  # to be turned by 90 degrees clockwise
  save(tmp_path / "1.png", GREY, exif=exif)
  np.testing.assert_array_equal(read(tmp_path).steps[0, ..., 0], np.rot90(GREY, -1))


def test_broken_files(tmp_path):
  save(tmp_path / "1.png", COLOUR)
  save(tmp_path / "2.jpg", COLOUR)
  whole = (tmp_path / "2.jpg").read_bytes()
  (tmp_path / "2.jpg").write_bytes(whole[: len(whole) * 3 // 4])
  (tmp_path / "3.png").touch()
  (tmp_path / "4.png").write_bytes(b"these are no pixels")
  Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "5.tif")
  (tmp_path / "0.png").symlink_to(tmp_path / "nowhere.png")
  save(tmp_path / "6.tif", DEEP.astype(np.int32) * 2)
  with pytest.raises(InputError, match=r"0.png cannot be read: .*\(and .* more\); config.frames.on_broken=skip"):
    read(tmp_path)
  found = read(tmp_path, on_broken="skip")
  assert found.names[0] == "1.png"
  (line,) = found.warnings
  assert "3.png: it is empty" in line
  assert "0.png: [Errno 2] No such file" in line
  assert "images cannot be read and were left out" in line
  assert "\n" not in line


def test_damage_anywhere_is_one_line(tmp_path):
  save(tmp_path / "1.png", COLOUR)
  content = (tmp_path / "1.png").read_bytes()
  for place in range(0, len(content), 7):
    (tmp_path / "1.png").write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
    try:
      read(tmp_path, workers=0)
    except InputError as error:
      assert "\n" not in str(error)  # noqa: PT017


def test_floats_have_no_white(tmp_path):
  Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "5.tif")
  with pytest.raises(InputError, match="floating-point values, whose white is not known"):
    read(tmp_path)
