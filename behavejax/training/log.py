"""Where a run's numbers go: `metrics.jsonl`, TensorBoard events, and the terminal."""

import json
import os
import pathlib
import sys
from types import TracebackType

import tensorboardX
from tqdm import tqdm

from behavejax.workdir import read_metrics


class MetricWriter:
  """Appends rows of one stage from `first_step` on; rows that an interrupted run wrote beyond it are dropped.

  `steps` is where the progress bar ends, None if that is not known."""

  def __init__(self, path: pathlib.Path, *, stage: str, first_step: int, steps: int | None):
    rows = [
      row for row in read_metrics(path) if row["stage"] != stage or (first_step > 0 and row["step"] <= first_step)
    ]
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.replace(temporary, path)
    self._stage, self._said = stage, set()
    self._file = path.open("a")
    self._events = tensorboardX.SummaryWriter(str(path.parent / "tensorboard" / stage), purge_step=first_step + 1)
    self._bar = tqdm(
      total=steps, initial=first_step, unit="step", desc=stage, disable=None, dynamic_ncols=True, smoothing=0.1
    )

  def __enter__(self) -> "MetricWriter":
    return self

  def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
    self._bar.close()
    self._file.close()
    self._events.close()

  def write(self, step: int, values: dict[str, float]) -> None:
    """One row to `metrics.jsonl` and to TensorBoard."""
    self._file.write(json.dumps({"stage": self._stage, "step": step, **values}) + "\n")
    self._file.flush()
    for name, value in values.items():
      self._events.add_scalar(name, value, step)

  def progress(self, step: int, text: str) -> None:
    """Moves the bar; the text beside it says how the last steps went."""
    self._bar.set_postfix_str(text, refresh=False)
    self._bar.update(step - self._bar.n)

  def say(self, line: str) -> None:
    """A line above the progress bar."""
    tqdm.write(line)
    sys.stdout.flush()

  def say_once(self, subject: str, line: str) -> None:
    """The same, unless a line on this subject was said before."""
    if subject not in self._said:
      self._said.add(subject)
      self.say(line)


class SilentWriter:
  """Takes the place of a `MetricWriter` in all but the first of several processes."""

  def __enter__(self) -> "SilentWriter":
    return self

  def __exit__(self, *_: object) -> None: ...

  def write(self, step: int, values: dict[str, float]) -> None: ...

  def progress(self, step: int, text: str) -> None: ...

  def say(self, line: str) -> None: ...

  def say_once(self, subject: str, line: str) -> None: ...
