"""Where recordings come from: one function per source, chosen by `config.data.name`."""

import dataclasses
import os
import pathlib
from collections.abc import Callable

from behavejax.config import DataConfig, did_you_mean
from behavejax.data import arrays, hapt, native, published, simulate, simulate_pair, simulate_syllables, table
from behavejax.data.recording import Recording
from behavejax.errors import InputError


def data_root(config: DataConfig) -> pathlib.Path:
  """`config.data.root`, else `$BEHAVEJAX_DATA`, else `./data`."""
  return pathlib.Path(config.root or os.environ.get("BEHAVEJAX_DATA") or "data")


def data_path(config: DataConfig) -> pathlib.Path:
  """`config.data.path` below the root, or as it stands if absolute.

  Raises:
    InputError: no path set, or it does not exist.
  """
  if not config.path:
    raise InputError(f"config.data.name={config.name} needs config.data.path, a file or folder below the data root")
  path = data_root(config) / config.path
  if not path.exists():
    raise InputError(
      f"no such file or folder: {path} (config.data.path below config.data.root or the environment variable "
      "BEHAVEJAX_DATA)"
    )
  return path


SOURCES: dict[str, Callable[[DataConfig, int], list[Recording]]] = {
  "quadruped": lambda config, seed: simulate.quadruped(config.simulate, seed),
  "pair": lambda config, seed: simulate_pair.pair(config.simulate, config.pair, seed),
  "syllables": lambda config, seed: simulate_syllables.syllables(config.syllables, seed),
  "basic_motions": lambda config, seed: published.read_basic_motions(),
  "hapt": lambda config, seed: hapt.read_hapt(data_root(config) / config.path),
  "uci_har": lambda config, seed: published.read_uci_har(data_root(config) / config.path),
  "pamap2": lambda config, seed: published.read_pamap2(data_root(config) / config.path),
  "wisdm": lambda config, seed: published.read_wisdm(data_path(config)),
  "recordings": lambda config, seed: native.read_recordings(data_path(config)),
  "arrays": lambda config, seed: arrays.read_arrays(data_path(config), config.table),
  "table": lambda config, seed: table.read_table(data_path(config), config.table),
}


def load(config: DataConfig, seed: int) -> list[Recording]:
  """Recordings of the configured source, with the configured channels.

  Raises:
    InputError: an unknown source or channel, or whatever is wrong with the files.
  """
  if config.name not in SOURCES:
    raise InputError(f"config.data.name {config.name!r} is unknown{did_you_mean(config.name, SOURCES)}")
  recordings = SOURCES[config.name](config, seed)
  if not recordings:
    raise InputError(f"config.data.name={config.name}: no recordings found in {data_root(config) / config.path}")
  return [choose_channels(recording, config.channels) for recording in recordings] if config.channels else recordings


def choose_channels(recording: Recording, channels: tuple[str, ...]) -> Recording:
  """The named channels, in the order given."""
  for name in channels:
    if name not in recording.channels:
      raise InputError(
        f"config.data.channels: {name!r} is not in {recording.source or recording.name}"
        f"{did_you_mean(name, recording.channels)}"
      )
  places = [recording.channels.index(name) for name in channels]
  return dataclasses.replace(
    recording,
    signal=recording.signal[:, places],
    channels=channels,
    units=tuple(recording.units[i] for i in places),
  )
