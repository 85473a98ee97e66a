"""How long the stages of a window take, in a table of fixed size."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_KEPT = 4096  # windows


class Percentiles(NamedTuple):
  """Milliseconds; NaN before the first window."""

  p50_ms: float
  p99_ms: float


class Latency(NamedTuple):
  """Over the latest windows, at most 4096.

  Attributes:
    assemble: amplify and scale a window.
    model: run the graph.
    post: probabilities, codes and syllables.
    step: all three.
  """

  assemble: Percentiles
  model: Percentiles
  post: Percentiles
  step: Percentiles


class Timings:
  """Seconds of the three stages of each window."""

  def __init__(self):
    self._seconds = np.empty((_KEPT, 3))
    self._count = 0

  def add(self, assemble: float, model: float, post: float) -> None:
    self._seconds[self._count % _KEPT] = assemble, model, post
    self._count += 1

  def latency(self) -> Latency:
    seconds = self._seconds[: min(self._count, _KEPT)]
    if not len(seconds):
      return Latency(*[Percentiles(float("nan"), float("nan"))] * 4)
    stages = np.concatenate([seconds, seconds.sum(axis=1, keepdims=True)], axis=1) * 1e3
    return Latency(*(Percentiles(*map(float, row)) for row in np.percentile(stages, (50, 99), axis=0).T))
