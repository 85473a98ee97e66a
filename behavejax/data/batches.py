"""Batches of windows: random ones for training, whose position can be saved, ordered ones for evaluation."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import Bool, Float, Int

from behavejax.data.samples import Samples
from behavejax.data.windows import Windows

_ENDLESS = 2**40


class Batch(NamedTuple):
  """Windows with their labels.

  Attributes:
    x: normalised samples.
    y: labels, -1 where unlabelled.
    mask: False for rows that only fill up the batch.
  """

  x: Float[np.ndarray, "*batch channel"]
  y: Int[np.ndarray, "*call batch"]
  mask: Bool[np.ndarray, "*call batch"]


def steps_per_epoch(windows: int, batch_size: int) -> int:
  """Whole batches in one pass, at least 1."""
  return max(windows // batch_size, 1)


def batch_indices(step: int, *, windows: int, batch_size: int, seed: int) -> Int[np.ndarray, " batch"]:
  """Windows of the `step`-th training batch, a pure function of its arguments.

  Each epoch is a fresh permutation; the ragged end is left out. Fewer windows than a batch are repeated.
  """
  epoch, position = divmod(step, steps_per_epoch(windows, batch_size))
  order = _epoch_order(seed, epoch, windows)
  return np.resize(order[position * batch_size :], batch_size) if windows < batch_size else (
    order[position * batch_size : (position + 1) * batch_size]
  )  # fmt: skip


@functools.lru_cache(maxsize=2)  # steps follow one another: a permutation of a million takes 20 ms
def _epoch_order(seed: int, epoch: int, windows: int) -> Int[np.ndarray, " window"]:
  order = np.random.default_rng((seed, epoch)).permutation(windows)
  order.flags.writeable = False
  return order


def train_batches(
  windows: Windows | Samples,
  *,
  batch_size: int,
  seed: int,
  steps_per_call: int = 1,
  process_index: int = 0,
  process_count: int = 1,
) -> grain.DatasetIterator:
  """Endless iterator over calls of several batches, fields of shape `[step, batch, ...]`.

  Element `k` depends on the seed and `k` alone, so that `get_state` and `set_state` continue exactly.
  The rows of a call are gathered by one take, ahead of time, in a thread.

  Args:
    windows: what to draw from.
    batch_size: over all processes.
    seed: of the order.
    steps_per_call: batches in one element.
    process_index: which contiguous share of every batch this process gets.
    process_count: number of shares.
  """
  share = slice(process_index * batch_size // process_count, (process_index + 1) * batch_size // process_count)

  def call(number: int) -> Batch:
    steps = range(number * steps_per_call, (number + 1) * steps_per_call)
    indices = np.stack(
      [batch_indices(step, windows=len(windows), batch_size=batch_size, seed=seed)[share] for step in steps]
    )
    x = windows.gather(indices.ravel()).reshape(*indices.shape, *windows.shape)
    return Batch(x, windows.labels[indices], np.ones(indices.shape, bool))

  dataset = grain.MapDataset.range(_ENDLESS).map(call)
  return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))


def eval_batches(windows: Windows | Samples, *, batch_size: int) -> Iterator[Batch]:
  """All windows in order; the last batch repeats its last row and masks the repetitions."""
  for start in range(0, len(windows), batch_size):
    places = np.arange(start, start + batch_size)
    indices = np.minimum(places, len(windows) - 1)
    yield Batch(windows.gather(indices), windows.labels[indices], places < len(windows))
