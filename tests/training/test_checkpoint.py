"""The best checkpoints outlive a restart, wherever in time they lie."""

import jax
import jax.numpy as jnp
import optax
import pytest

from behavejax.errors import InputError
from behavejax.training.checkpoint import Checkpoints
from behavejax.training.state import init_state


def state_at(step):
  state = init_state({"params": {"w": jnp.full(3, float(step))}}, optimizer=optax.sgd(0.1), key=jax.random.key(0))
  return state.replace(step=jnp.asarray(step, jnp.int32))


def saved(folder, scores, *, keep_best=1):
  checkpoints = Checkpoints(folder, keep_best=keep_best)
  for step, score in scores:
    checkpoints.save(state_at(step), {"step": step}, score=score)
    checkpoints.wait()
  checkpoints.close()


def test_the_best_before_a_restart_is_still_there_after_it(tmp_path):
  saved(tmp_path, [(10, 0.5), (20, 0.9), (30, 0.1)])
  saved(tmp_path, [(40, 0.2), (45, None), (50, 0.3)])  # another process
  checkpoints = Checkpoints(tmp_path, keep_best=1)
  best, record = checkpoints.restore(20, state_at(0))
  assert record == {"step": 20}
  assert best.params["w"][0] == 20
  last, _ = checkpoints.restore_last(state_at(0))
  assert last.step == 50
  with pytest.raises(InputError, match="checkpoint 10"):
    checkpoints.restore(10, state_at(0))
  checkpoints.close()


def test_of_equal_scores_the_first_is_kept(tmp_path):
  saved(tmp_path, [(1, 0.5), (2, 1.0), (3, 1.0), (4, 1.0)], keep_best=2)
  saved(tmp_path, [(5, 1.0), (6, 0.9)], keep_best=2)  # another process
  assert sorted(path.name for path in tmp_path.iterdir() if path.name.isdigit()) == ["2", "3", "6"]


def test_without_scores_only_the_last_is_kept(tmp_path):
  saved(tmp_path, [(1, None), (2, None)])
  saved(tmp_path, [(3, None)])
  assert sorted(path.name for path in tmp_path.iterdir() if path.name.isdigit()) == ["3"]
