"""How states follow each other, from the expected statistics of a segmentation: no pass over the data is needed."""

import numpy as np

from behavejax.evaluation import findings
from behavejax.segmentation.learning import Statistics


def dynamics(statistics: Statistics, *, rate_hz: float) -> dict[str, float]:
  """Numbers of a round; empty for single steps, which have no order.

  `transitions_per_minute`: expected changes of state. `mean_duration_s`: seconds per segment, those that a recording
  cuts off with the length that was seen. `persistence`: probability that a step is followed by one of the same state.

  Args:
    statistics: of sequences, without a lane.
    rate_hz: steps per second.
  """
  steps, changes, sequences = (float(np.sum(a)) for a in (statistics.steps, statistics.transitions, statistics.initial))
  if steps - sequences < 0.5:
    return {}
  return {
    "transitions_per_minute": 60 * rate_hz * changes / steps,
    "mean_duration_s": steps / (changes + sequences) / rate_hz,
    "persistence": 1 - changes / (steps - sequences),
  }


def state_numbers(statistics: Statistics, *, rate_hz: float, in_use: float) -> dict[str, float]:
  """The same as numbers for `findings.state_checks`."""
  time = np.asarray(statistics.time, np.float64)
  segments = np.sum(np.asarray(statistics.transitions, np.float64), axis=(0, 1)) + np.sum(statistics.initial, axis=0)
  return findings.state_values(
    time / max(time.sum(), 1e-9),
    np.where(segments > 1e-6, time / np.maximum(segments, 1e-6), np.nan),
    transitions_per_minute=dynamics(statistics, rate_hz=rate_hz).get("transitions_per_minute", np.nan),
    longest=statistics.durations.shape[-1],
    in_use=in_use,
  )
