"""Which source a name means, where its files are looked for, and which channels are kept."""

import pathlib

import numpy as np
import pytest

from behavejax.config import DataConfig, SimulateConfig
from behavejax.data import native, sources
from behavejax.errors import InputError
from tests.data.layouts import write_hapt


def test_root_is_the_setting_then_the_variable_then_data(monkeypatch):
  monkeypatch.setenv("BEHAVEJAX_DATA", "there")
  assert sources.data_root(DataConfig(root="here")) == pathlib.Path("here")
  assert sources.data_root(DataConfig()) == pathlib.Path("there")
  monkeypatch.delenv("BEHAVEJAX_DATA")
  assert sources.data_root(DataConfig()) == pathlib.Path("data")


def test_path_lies_below_the_root_unless_absolute(tmp_path):
  file = tmp_path / "some.npy"
  np.save(file, np.zeros(3))
  assert sources.data_path(DataConfig(root=str(tmp_path), path="some.npy")) == file
  assert sources.data_path(DataConfig(root="elsewhere", path=str(file))) == file
  with pytest.raises(InputError, match=r"no such file or folder: .*gone.npy .*config.data.root or .*BEHAVEJAX_DATA"):
    sources.data_path(DataConfig(root=str(tmp_path), path="gone.npy"))


@pytest.mark.parametrize("name", ["wisdm", "recordings", "arrays", "table"])
def test_sources_without_a_place_of_their_own_ask_for_it(name):
  with pytest.raises(InputError, match=rf"config.data.name={name} needs config.data.path"):
    sources.load(DataConfig(name=name), 0)


def test_unknown_source():
  with pytest.raises(InputError, match=r"config.data.name 'quadrupde' is unknown; did you mean 'quadruped'"):
    sources.load(DataConfig(name="quadrupde"), 0)


def test_channels_are_kept_in_the_order_asked_for(tmp_path):
  write_hapt(tmp_path / "hapt.zip", subjects=(1,))
  whole = sources.load(DataConfig(name="hapt", root=str(tmp_path)), 0)[0]
  chosen = sources.load(DataConfig(name="hapt", root=str(tmp_path), channels=("gyro_y", "acc_x")), 0)[0]
  np.testing.assert_array_equal(chosen.signal, whole.signal[:, [4, 0]])
  assert (chosen.channels, chosen.units) == (("gyro_y", "acc_x"), ("rad/s", "g"))
  with pytest.raises(InputError, match=r"config.data.channels: 'acc_q' .* did you mean 'acc_"):
    sources.load(DataConfig(name="hapt", root=str(tmp_path), channels=("acc_q",)), 0)


def test_the_seed_reaches_the_simulator_and_files_come_back(tmp_path):
  config = DataConfig(name="quadruped", simulate=SimulateConfig(subjects=2, minutes=0.1))
  first, again, other = (sources.load(config, seed) for seed in (1, 1, 2))
  np.testing.assert_array_equal(first[0].signal, again[0].signal)
  assert not np.array_equal(first[0].signal, other[0].signal, equal_nan=True)
  native.write_recordings(tmp_path / "set.npz", first)
  (back, _) = sources.load(DataConfig(name="recordings", root=str(tmp_path), path="set.npz"), 0)
  np.testing.assert_array_equal(back.signal, first[0].signal)
