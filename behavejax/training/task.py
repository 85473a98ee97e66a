"""What the training loop needs to know of what it trains: how many steps, of what, and how they are judged."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import numpy as np

from behavejax.config import Config
from behavejax.data import batches as batches_lib
from behavejax.evaluation.findings import Finding
from behavejax.training import parallel
from behavejax.training.state import TrainState
from behavejax.types import Metrics, Variables


@flax.struct.dataclass
class Plan:
  """How many steps, in calls of several, with evaluations evenly between."""

  calls: int
  steps_per_call: int
  calls_per_evaluation: int

  @property
  def steps(self) -> int:
    return self.calls * self.steps_per_call


def make_plan(config: Config, *, windows: int) -> Plan:
  """Steps are rounded up to whole calls, calls to whole evaluations."""
  train = config.train
  per_epoch = batches_lib.steps_per_epoch(windows, train.batch_size)
  steps = train.steps or max(1, round(train.epochs * per_epoch))
  per_call = min(train.steps_per_call or parallel.default_steps_per_call(), steps)
  per_evaluation = max(1, -(-steps // (per_call * train.evaluations)))
  evaluations = -(-steps // (per_call * per_evaluation))
  return Plan(evaluations * per_evaluation, per_call, per_evaluation)


class Task(NamedTuple):
  """What the loop trains, whatever the data are.

  Attributes:
    plan: how many steps.
    call: compiled, `(state, batches of one call) -> (state, metrics of each step)`; see `step.train_step`.
    init: the state before the first step.
    batches: endless, an element for each call; its position can be saved.
    evaluate: `(averaged variables, remembered) -> (values, remembered)`, what it remembers being JSON.
    summarize: `(summed metrics of a call) -> values` by name.
    score: how good the values of an evaluation are.
    progress: the values of a call in a few words.
    line: the values of an evaluation in a few words.
    check: `(values, config, done=share of the training) -> findings` of an evaluation, or None.
  """

  plan: Plan
  call: Callable[[TrainState, Any], tuple[TrainState, Metrics]]
  init: Callable[[], TrainState]
  batches: Any
  evaluate: Callable[[Variables, Any], tuple[dict[str, float], Any]]
  summarize: Callable[[dict[str, np.ndarray]], dict[str, float]]
  score: Callable[[dict[str, float]], float]
  progress: Callable[[dict[str, float]], str]
  line: Callable[[dict[str, float]], str]
  check: Callable[..., list[Finding]] | None = None
