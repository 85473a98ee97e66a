"""Checkpoints of a gradient stage: the best few by validation score, and the last."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from behavejax.errors import InputError
from behavejax.training.state import TrainState
from behavejax.workdir import first_line


class Checkpoints:
  """Asynchronous, atomic saves of the training state beside a JSON record of the loop.

  A save is complete or absent: Orbax writes to a temporary folder and renames it. Of equal scores the earliest is the
  best. With `keep_best` 0 there are no scores, and the last is all that is kept.
  """

  def __init__(self, folder: pathlib.Path, *, keep_best: int):
    policies: list[preservation_policy.PreservationPolicy] = [preservation_policy.LatestN(1)]
    if keep_best:
      policies.append(
        preservation_policy.BestN(get_metric_fn=_rank, n=keep_best, keep_checkpoints_without_metrics=False)
      )
    options = ocp.CheckpointManagerOptions(
      preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
      create=True,
      best_fn=_rank if keep_best else None,  # without it scores are not written, and forgotten at a restart
    )
    self._manager = ocp.CheckpointManager(folder, options=options)

  def save(self, state: TrainState, loop: dict[str, Any], *, score: float | None = None) -> None:
    """Starts a save; the state may be donated to the next step at once. Without a score only the last is kept."""
    copy = jax.tree.map(jnp.copy, state)
    self._manager.save(
      int(state.step),
      args=ocp.args.Composite(state=ocp.args.StandardSave(copy), loop=ocp.args.JsonSave(loop)),
      metrics=None if score is None else {"score": score, "step": int(state.step)},
    )

  def restore_last(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
    """The last complete checkpoint, or None."""
    step = self._manager.latest_step()
    return None if step is None else self.restore(step, like)

  def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """State and loop record saved at `step`, or `InputError` if they do not fit `like`."""
    try:
      saved = self._manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like), loop=ocp.args.JsonRestore())
      )
    except (ValueError, KeyError, FileNotFoundError) as error:
      raise InputError(
        f"checkpoint {step} in {self._manager.directory} does not fit this config or is damaged: {first_line(error)}"
      ) from error
    return saved.state, saved.loop

  def wait(self) -> None:
    """Blocks until pending saves are on disk."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    self._manager.close()


def _rank(metrics: dict[str, float]) -> tuple[float, float]:
  """Of equal scores the first is the best, as it is for the training loop."""
  return metrics["score"], -metrics["step"]
