"""What a sweep found, as plain records: trials, the axes of its space, and the best of them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Trial:
  """One run of a sweep.

  Attributes:
    number: from 0; its run lies in `trials/NUMBER`, written with four digits.
    state: complete, pruned or failed.
    value: of the objective; of a pruned trial the last one seen, of a failed one None.
    changes: settings by dotted key.
    message: why it failed.
  """

  number: int
  state: str
  value: float | None
  changes: Mapping[str, Any]
  message: str = ""


@dataclasses.dataclass(frozen=True)
class Axis:
  """One setting of the space: numbers from `low` to `high`, with a `step` between them or 0 for any, or `choices`."""

  name: str
  low: float = 0.0
  high: float = 1.0
  log: bool = False
  step: float = 0.0
  choices: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A sweep as it stands.

  Attributes:
    title: of the report.
    objective: name of a validation metric.
    direction: maximize or minimize.
    axes: the space.
    trials: by number.
    importances: main effect of each setting, summing to 1; empty where too few trials finished.
    command: line that trains with the best settings; empty where no trial finished.
  """

  title: str
  objective: str
  direction: str
  axes: Sequence[Axis]
  trials: Sequence[Trial]
  importances: Mapping[str, float]
  command: str = ""

  def of(self, state: str) -> list[Trial]:
    """Trials in a state."""
    return [trial for trial in self.trials if trial.state == state]

  def ranked(self) -> list[Trial]:
    """Finished trials, the best first; of equal ones the earlier."""
    sign = -1 if self.direction == "maximize" else 1
    return sorted(self.of("complete"), key=lambda trial: sign * trial.value)


def show(value: Any) -> str:
  """A setting for a table: `0.00213`, `8-6-5`, `vq`."""
  if isinstance(value, list | tuple):
    return "-".join(map(show, value)) or "none"
  return f"{value:.4g}" if isinstance(value, float) else str(value)


def best_table(sweep: Sweep, *, most: int = 5) -> str:
  """The best trials as a small text table."""
  header = ["trial", sweep.objective, *(axis.name for axis in sweep.axes)]
  rows = [header, *(trial_row(sweep, trial) for trial in sweep.ranked()[:most])]
  widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
  return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def trial_row(sweep: Sweep, trial: Trial) -> list[str]:
  """Number, value and settings as text."""
  value = "" if trial.value is None else f"{trial.value:.4f}"
  return [str(trial.number), value, *(show(trial.changes[axis.name]) for axis in sweep.axes)]
