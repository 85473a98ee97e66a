"""Stretches of recording: windows laid end to end, to be seen together."""

import dataclasses

import numpy as np
from jaxtyping import Int

from behavejax.data.windows import Windows
from behavejax.errors import InputError


def stretches(windows: Windows, count: int) -> Windows:
  """Every `count` windows end to end as one, half of them shared with the next; labels become `[stretch, count]`.

  A window of a stretch has the label of the given window that begins nearest to it, where one begins within half a
  window, else none. Rows of a stretch are devices: cutting it gives windows of the shape of the given ones.

  Raises:
    InputError: no recording has that many windows.
  """
  length = count * windows.length
  starts, owners = [], []
  for recording in np.unique(windows.recording):
    own = windows.starts[windows.recording == recording]
    last = own.max() + windows.length - length
    first = np.arange(own.min(), last + 1, max(length // 2, 1))
    starts.append(first)
    owners.append(np.full(len(first), int(np.flatnonzero(windows.recording == recording)[0])))
  begins, owner = np.concatenate(starts).astype(np.int64), np.concatenate(owners)
  if not len(begins):
    raise InputError(
      f"no recording has config.finetune.windows={count} windows of {windows.length / windows.rate_hz:g} s end to end"
    )
  return dataclasses.replace(
    windows,
    starts=begins,
    labels=_nearest_labels(windows, begins[:, None] + np.arange(count) * windows.length),
    subject=windows.subject[owner],
    recording=windows.recording[owner],
    time_s=windows.time_s[owner] + (begins - windows.starts[owner]) / windows.rate_hz,
    length=length,
    fold=False,
  )


def _nearest_labels(windows: Windows, begins: Int[np.ndarray, "stretch window"]) -> Int[np.ndarray, "stretch window"]:
  order = np.argsort(windows.starts, kind="stable")
  starts, labels = windows.starts[order], windows.labels[order]
  after = np.clip(np.searchsorted(starts, begins), 1, max(len(starts) - 1, 1))
  places = np.minimum(np.stack([after - 1, after]), len(starts) - 1)
  nearest = np.take_along_axis(places, np.argmin(np.abs(starts[places] - begins), axis=0)[None], axis=0)[0]
  near = np.abs(starts[nearest] - begins) <= windows.length // 2
  return np.where(near, labels[nearest], -1).astype(np.int32)
