"""Files of neural recordings: what is read, what is refused in one line."""

import dataclasses

import h5py
import numpy as np
import pytest

from behavejax.data.neural import NeuralRecording, NeuralTruth, read_neural, write_neural
from behavejax.errors import InputError


def arrays(**changes):
  rng = np.random.default_rng(0)
  found = {
    "video": rng.integers(0, 256, (12, 4, 5), dtype=np.uint8),
    "spikes": rng.poisson(1.0, (12, 3)),
    "rate_hz": np.float64(30.0),
    "behaviour": rng.normal(size=(12, 2)),
    "mask": rng.random(12) < 0.8,
    "trial": np.repeat([7, 3, 5], 4),
    "condition": np.array([-1, 2, 2]),
  }
  found |= changes
  return {name: value for name, value in found.items() if value is not None}


def save(path, values):
  if path.suffix == ".npz":
    np.savez(path, **values)
  else:
    with h5py.File(path, "w") as file:
      for name, value in values.items():
        file[name] = (
          value.astype(object) if getattr(value, "dtype", None) is not None and value.dtype.kind == "U" else value
        )
  return path


@pytest.fixture(params=[".npz", ".h5"])
def suffix(request):
  return request.param


def read(tmp_path, suffix, **changes):
  return read_neural(save(tmp_path / f"mouse{suffix}", arrays(**changes)))


def test_reads_both_kinds_of_file(tmp_path, suffix):
  found, given = read(tmp_path, suffix, split=np.array(["train", "val", "test"])), arrays()
  assert found.video.shape == (12, 4, 5, 1)
  assert found.video.dtype == np.uint8
  np.testing.assert_array_equal(found.spikes, given["spikes"])
  np.testing.assert_array_equal(found.mask, np.repeat(given["mask"][:, None], 3, 1))
  np.testing.assert_allclose(found.behaviour, given["behaviour"], rtol=1e-6)
  assert found.trial.tolist() == [0] * 4 + [1] * 4 + [2] * 4
  assert found.trial_edges.tolist() == [0, 4, 8, 12]
  assert found.condition.tolist() == [-1, 2, 2]
  assert found.split == ("train", "val", "test")
  assert (found.rate_hz, found.name, found.truth) == (30.0, "mouse", None)


def test_what_is_optional_may_be_missing(tmp_path, suffix):
  found = read(tmp_path, suffix, behaviour=None, mask=None, trial=None, condition=None)
  assert found.behaviour is None
  assert found.signals == 0
  assert found.mask.all()
  assert found.condition.tolist() == [-1]


def test_one_neuron_one_signal_float_video(tmp_path, suffix):
  found = read(
    tmp_path, suffix, spikes=np.arange(12) % 3, behaviour=np.ones(12), video=np.zeros((12, 4, 5, 1), np.float64)
  )
  assert found.spikes.shape == (12, 1)
  assert found.behaviour.shape == (12, 1)
  assert found.video.dtype == np.float32


def test_counts_that_are_not_known_may_be_nan(tmp_path):
  spikes, mask = arrays()["spikes"].astype(float), np.ones((12, 3), bool)
  spikes[5, 1], mask[5, 1] = np.nan, False
  found = read(tmp_path, ".npz", spikes=spikes, mask=mask)
  assert found.spikes[5, 1] == 0
  assert found.mask.sum() == 35


def test_attributes_of_hdf5_serve_for_numbers(tmp_path):
  path = save(tmp_path / "a.h5", arrays(rate_hz=None))
  with h5py.File(path, "a") as file:
    file.attrs["rate_hz"] = 25
  assert read_neural(path).rate_hz == 25.0


def test_write_and_read_again(tmp_path):
  rng = np.random.default_rng(1)
  recording = NeuralRecording(
    video=rng.random((10, 3, 4, 1), np.float32),
    spikes=rng.poisson(1.0, (10, 2)).astype(np.float32),
    behaviour=None,
    mask=rng.random((10, 2)) < 0.5,
    trial=np.repeat([0, 1], 5),
    condition=np.array([-1, -1]),
    rate_hz=12.5,
    name="saved",
    split=("train", "test"),
    truth=NeuralTruth(rng.random((10, 2), np.float32), rng.random((2, 2), np.float32)),
  )
  write_neural(tmp_path / "saved.npz", recording)
  again = read_neural(tmp_path / "saved.npz")
  for field in dataclasses.fields(NeuralRecording):
    a, b = getattr(again, field.name), getattr(recording, field.name)
    if field.name == "truth":
      np.testing.assert_array_equal(a.rates, b.rates)
      np.testing.assert_array_equal(a.centres, b.centres)
    else:
      np.testing.assert_array_equal(a, b)
  fewer = again.neurons_only(np.array([1]))
  assert fewer.neurons == 1
  np.testing.assert_array_equal(fewer.truth.rates, recording.truth.rates[:, 1:])


def changed(name, place, value, dtype=float):
  values = np.array(arrays()[name], dtype)
  values[place] = value
  return {name: values, "mask": None}


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"video": None}, "video missing; a neural recording holds video, spikes, rate_hz"),
    ({"spikes": None, "rate_hz": None}, "spikes, rate_hz missing"),
    ({"video": np.zeros((12, 4))}, "video of shape (12, 4), expected [T, H, W] or [T, H, W, 1]"),
    ({"video": np.zeros((12, 4, 5, 3))}, "video of shape (12, 4, 5, 3)"),
    ({"video": np.zeros((0, 4, 5))}, "video of shape (0, 4, 5, 1)"),
    ({"video": np.zeros((11, 4, 5))}, "spikes of length 12 for a video of 11 frames"),
    (changed("video", (3, 1, 1), np.nan), "video holds NaN or Inf in frame 3"),
    (changed("spikes", (2, 1), -1), "spikes[2, 1] is -1, below 0"),
    (changed("spikes", (4, 0), 0.5), "spikes[4, 0] is 0.5, not a whole number"),
    (changed("spikes", (6, 2), np.nan), "spikes[6, 2] is nan, not finite"),
    ({"spikes": np.zeros((12, 3, 1))}, "spikes of shape (12, 3, 1), expected [T, N]"),
    ({"spikes": np.zeros((12, 0))}, "spikes of shape (12, 0), expected [T, N]"),
    ({"spikes": np.zeros((12, 3), complex)}, "spikes is complex128, expected numbers"),
    ({"behaviour": np.zeros((9, 2))}, "behaviour of length 9 for a video of 12 frames"),
    (changed("behaviour", (8, 1), np.inf), "behaviour[8, 1] is not finite"),
    ({"mask": np.ones(5)}, "mask of shape (5,), expected [12] or [12, 3]"),
    ({"mask": np.full(12, 2)}, "mask holds other values than 0 and 1"),
    ({"trial": np.array([0, 0, 1, 1, 0, 0, 2, 2, 2, 2, 2, 2])}, "trial 0 begins twice"),
    ({"trial": np.full(12, 0.5)}, "trial is float64 of shape (12,), expected whole numbers"),
    ({"trial": np.zeros(4)}, "trial of length 4 for a video of 12 frames"),
    ({"condition": np.array([1, 1])}, "2 conditions and 0 splits for 3 trials"),
    ({"split": np.array(["train", "test", "dev"])}, "split holds 'dev', expected train, val, test"),
    ({"rate_hz": np.array(0.0)}, "rate_hz must be above 0, got 0"),
    ({"rate_hz": np.ones(2)}, "rate_hz is float64 of shape (2,), expected one number"),
    ({"true_rates": np.zeros((12, 2))}, "true_rates of shape (12, 2)"),
  ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path, suffix, changes, message):
  with pytest.raises(InputError) as caught:
    read(tmp_path, suffix, **changes)
  assert message in str(caught.value)
  assert "\n" not in str(caught.value)
  assert "mouse" in str(caught.value)


@pytest.mark.parametrize("name", ["none.npz", "none.h5", "text.npz", "text.h5"])
def test_missing_and_damaged_files(tmp_path, name):
  if name.startswith("text"):
    (tmp_path / name).write_text("no array")
  with pytest.raises(InputError, match=r"no such file|no readable"):
    read_neural(tmp_path / name)


def test_links_into_other_files_are_not_followed(tmp_path):
  save(tmp_path / "other.h5", arrays())
  path = save(tmp_path / "mouse.h5", arrays(video=None))
  with h5py.File(path, "a") as file:
    file["video"] = h5py.ExternalLink("other.h5", "/video")
  with pytest.raises(InputError, match="video missing"):
    read_neural(path)


def test_cut_short_and_odd_hdf5(tmp_path):
  path = save(tmp_path / "mouse.h5", arrays())
  whole = path.read_bytes()
  for size in (0, 100, 600, 2000, len(whole) - 50):
    path.write_bytes(whole[:size])
    with pytest.raises(InputError):
      read_neural(path)
  for odd in (h5py.Empty("f4"), "words", np.float32(1), np.zeros(3, [("a", "f4")])):
    save(path, arrays(video=None))
    with h5py.File(path, "a") as file:
      file["video"] = odd
    with pytest.raises(InputError, match="video"):
      read_neural(path)


def test_a_group_is_no_array(tmp_path):
  path = save(tmp_path / "mouse.h5", arrays(video=None))
  with h5py.File(path, "a") as file:
    file.create_group("video")
  with pytest.raises(InputError, match="video is a group, expected an array"):
    read_neural(path)
