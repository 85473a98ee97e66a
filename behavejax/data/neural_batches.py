"""Batches of clips of several data sets: every call is of one data set, which one is drawn with weights."""

import functools
from collections.abc import Iterator, Sequence

import grain
import numpy as np
from jaxtyping import Float, Int

from behavejax.data.batches import batch_indices
from behavejax.data.neural_windows import Clips, NeuralBatch

_ENDLESS = 2**40
_ROUND = 64
"""Calls after which every data set has had its share, as nearly as whole numbers allow."""


def shares(clips: Sequence[int], weights: Sequence[float]) -> Int[np.ndarray, " data_set"]:
  """Calls of each data set in one round; each has at least one.

  Args:
    clips: training clips of each data set.
    weights: how often each is drawn; () in proportion to its clips.
  """
  wanted = np.array(weights or clips, np.float64)
  wanted = np.maximum(wanted / wanted.sum() * max(_ROUND, len(clips)), 1)
  counts = np.floor(wanted).astype(int)
  rest = max(_ROUND, len(clips)) - counts.sum()
  for i in np.argsort(counts - wanted, kind="stable")[: max(rest, 0)]:  # largest remainder
    counts[i] += 1
  return counts


def data_set_of(call: int, counts: Int[np.ndarray, " data_set"], *, seed: int) -> tuple[int, int]:
  """Which data set a training call is of, and how many calls before were of the same: a function of the arguments."""
  number, position = divmod(call, int(counts.sum()))
  order = _round_order(tuple(counts.tolist()), seed, number)
  index = int(order[position])
  return index, number * int(counts[index]) + int((order[:position] == index).sum())


@functools.lru_cache(maxsize=2)
def _round_order(counts: tuple[int, ...], seed: int, number: int) -> Int[np.ndarray, " call"]:
  return np.random.default_rng((seed, number, 1)).permutation(np.repeat(np.arange(len(counts)), counts))


def neural_calls(
  sets: Sequence[Clips],
  *,
  batch_size: int,
  seed: int,
  weights: Sequence[float] = (),
  steps_per_call: int = 1,
  process_index: int = 0,
  process_count: int = 1,
) -> grain.DatasetIterator:
  """Endless iterator over `(data set, NeuralBatch)`, fields of shape `[step, batch, ...]`, all steps of one data set.

  Element `k` depends on the seed and `k` alone, so that `get_state` and `set_state` continue exactly. Each data set
  goes through its clips epoch by epoch, as `behavejax.data.batches` does with windows.

  Args:
    sets: the training clips of each data set.
    batch_size: over all processes.
    seed: of both orders.
    weights: how often calls are of each data set; () in proportion to its clips.
    steps_per_call: batches in one element.
    process_index: which contiguous share of every batch this process gets.
    process_count: number of shares.
  """
  counts = shares([len(clips) for clips in sets], weights)
  share = slice(process_index * batch_size // process_count, (process_index + 1) * batch_size // process_count)

  def call(number: int) -> tuple[int, NeuralBatch]:
    index, before = data_set_of(number, counts, seed=seed)
    clips = sets[index]
    steps = range(before * steps_per_call, (before + 1) * steps_per_call)
    rows = [batch_indices(step, windows=len(clips), batch_size=batch_size, seed=seed + index)[share] for step in steps]
    indices = np.stack(rows)
    batch = clips.gather(indices.ravel())
    return index, NeuralBatch(*(array.reshape(*indices.shape, *array.shape[1:]) for array in batch))

  dataset = grain.MapDataset.range(_ENDLESS).map(call)
  return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))


def neural_eval_batches(clips: Clips, *, batch_size: int) -> Iterator[NeuralBatch]:
  """All clips in order; the last batch repeats its last row and masks the repetitions."""
  for start in range(0, len(clips), batch_size):
    places = np.arange(start, start + batch_size)
    batch = clips.gather(np.minimum(places, len(clips) - 1))
    mask = batch.mask & (places < len(clips))[:, None, None]
    yield batch._replace(mask=mask, spikes=batch.spikes * mask)


def predictions(clips: Clips, batches: Sequence[Float[np.ndarray, "batch time neuron"]]) -> Float[np.ndarray, "f n"]:
  """What a model gave for `neural_eval_batches`, in order -> expected counts per frame, NaN where it gave none."""
  return clips.place(np.concatenate(batches)[: len(clips)])
