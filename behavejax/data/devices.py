"""Recordings of several devices worn at once: two animals, or animal and handler.

Such a recording has the channels of the first device, then those of the second, in the same order and units.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from behavejax.data.normalization import Normalization, fit_normalization
from behavejax.data.recording import Recording
from behavejax.errors import InputError


def check_devices(recording: Recording, devices: int) -> None:
  """Raises `InputError` unless the channels divide into devices whose channels have the same units, place by place."""
  where, count = recording.source or f"recording {recording.name}", len(recording.channels)
  if count % devices:
    raise InputError(
      f"{where} has {count} channels, which config.data.devices={devices} does not divide: every device needs the "
      "same channels, those of the first device first"
    )
  own = count // devices
  for i in range(own, count):
    unit, first = recording.units[i], recording.units[i % own]
    if unit and first and unit != first:
      raise InputError(
        f"{where}: channel {recording.channels[i]} in {unit} takes the place of {recording.channels[i % own]} in "
        f"{first}; with config.data.devices={devices} all devices need the same channels in the same order"
      )


def devices_first(
  samples: Float[np.ndarray, "*batch time channels"], devices: int
) -> Float[np.ndarray, "*batch device time channel"]:
  """Gives every device a row of its own.

  >>> devices_first(np.array([[1, 2, 10, 20], [3, 4, 30, 40]]), 2).tolist()
  [[[1, 2], [3, 4]], [[10, 20], [30, 40]]]
  """
  by_device = samples.reshape(*samples.shape[:-1], devices, samples.shape[-1] // devices)
  return np.ascontiguousarray(np.swapaxes(by_device, -3, -2))


def split_devices(recording: Recording, devices: int) -> list[Recording]:
  """One recording per device, called "NAME/device1", "NAME/device2", ...; a single device stays what it is.

  All have the channel names of the first device, so that they can be pooled. Labels are those of the first device:
  what the others do is not labelled.

  Raises:
    InputError: see `check_devices`.
  """
  if devices == 1:
    return [recording]
  check_devices(recording, devices)
  own = len(recording.channels) // devices
  return [
    dataclasses.replace(
      recording,
      signal=signal,
      channels=recording.channels[:own],
      units=recording.units[:own],
      labels=recording.labels if i == 0 else np.full_like(recording.labels, -1),
      session="/".join(filter(None, (recording.session, f"device{i + 1}"))),
    )
    for i, signal in enumerate(devices_first(recording.signal, devices))
  ]


def fit_shared_normalization(
  samples: Float[np.ndarray, "sample channels"], channels: tuple[str, ...], *, devices: int
) -> Normalization:
  """Mean and std of each channel pooled over all devices, and the same for each of them.

  An encoder that the devices share then sees all of them in the same units: what differs between devices remains.
  """
  pooled = samples.reshape(len(samples) * devices, -1)
  own = fit_normalization(pooled, channels[: pooled.shape[1]])
  return Normalization(np.tile(own.mean, devices), np.tile(own.std, devices), channels)
