"""The only file that knows devices: how a step and an evaluation are spread over them.

Two forms, chosen by `config.train.parallel`: `pmap` maps the step over devices with a named axis;
`sharding` jits it with the batch split by a `NamedSharding` and lets the compiler insert the
collectives. Both compute the same step.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from behavejax.errors import InputError
from behavejax.training.state import TrainState
from behavejax.types import Metrics, Variables

AXIS = "device"

Step = Callable[..., tuple[TrainState, Metrics]]


def axis_name(kind: str) -> str | None:
  """Name of the mapped axis inside a step: `AXIS` under pmap, None under sharding."""
  return AXIS if kind == "pmap" else None


def check_batch_size(batch_size: int) -> None:
  """Raises `InputError` unless the global batch can be shared evenly by all devices."""
  if batch_size % jax.device_count():
    raise InputError(
      f"config.train.batch_size={batch_size} cannot be shared evenly by {jax.device_count()} devices; choose a multiple"
    )


def meet(place: str) -> None:
  """Waits until every process of the run is at this place, so that all see what one of them has written."""
  multihost_utils.sync_global_devices(place)


def default_steps_per_call() -> int:
  """Steps worth joining in one call: 8 where dispatch would bind, 1 on a CPU.

  XLA's CPU backend runs convolutions inside a loop on one thread and unvectorised: a step of the HAPT
  model takes 65 ms by itself and 1 090 ms inside `lax.scan` (two cores).
  """
  return 1 if jax.default_backend() == "cpu" else 8


def train_call(step: Step, *, kind: str) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
  """Compiles several consecutive steps into one call over all devices.

  Args:
    step: `(state, batch) -> (state, metrics)`, written for one device's part.
    kind: "pmap" or "sharding".

  Returns:
    A function of the state (donated, the same on every device) and of this process's part of the
    batches, NumPy arrays `[step, batch, ...]`; it returns the state and the metrics of each step.
  """

  def steps(state: TrainState, batches: Any) -> tuple[TrainState, Metrics]:
    if jax.tree.leaves(batches)[0].shape[0] == 1:
      state, metrics = step(state, jax.tree.map(lambda a: a[0], batches))
      return state, jax.tree.map(lambda m: m[None], metrics)
    return jax.lax.scan(step, state, batches)

  return _spread(steps, kind=kind, batch_axis=1, donate=True)


def eval_call(score: Callable[[Variables, Any], Metrics], *, kind: str) -> Callable[[Variables, Any], Metrics]:
  """Compiles a sum of metrics over this process's part of a batch, NumPy arrays `[batch, ...]`."""

  def total(variables: Variables, batch: Any) -> tuple[Variables, Metrics]:
    metrics = score(variables, batch)
    return (), jax.lax.psum(metrics, AXIS) if kind == "pmap" else metrics

  spread = _spread(total, kind=kind, batch_axis=0, donate=False)
  return lambda variables, batch: spread(variables, batch)[1]


def _spread(function: Callable, *, kind: str, batch_axis: int, donate: bool) -> Callable:
  donated = (0,) if donate else ()
  mesh = Mesh(np.array(jax.local_devices() if kind == "pmap" else jax.devices()), (AXIS,))
  everywhere = NamedSharding(mesh, PartitionSpec())  # pmap takes and returns what each process holds itself
  if kind == "pmap":
    mapped = jax.pmap(function, AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=donated)
    return lambda state, batch: mapped(
      replicate(state, everywhere), jax.tree.map(functools.partial(_split, axis=batch_axis), batch)
    )
  split = NamedSharding(mesh, PartitionSpec(*[None] * batch_axis, AXIS))
  jitted = jax.jit(function, in_shardings=(everywhere, split), out_shardings=everywhere, donate_argnums=donated)
  return lambda state, batch: jitted(
    replicate(state, everywhere), jax.tree.map(lambda a: jax.make_array_from_process_local_data(split, a), batch)
  )


def everywhere(tree: Any) -> Any:
  """The same arrays as global ones, on every device of every process: the form that is saved."""
  return replicate(tree, NamedSharding(Mesh(np.array(jax.devices()), (AXIS,)), PartitionSpec()))


def replicate(tree: Any, sharding: NamedSharding) -> Any:
  """Copies arrays that every process holds alike to all devices; those already there are passed through."""

  def put(leaf: jax.Array) -> jax.Array:
    if isinstance(leaf, jax.Array) and leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
      return leaf if leaf.sharding == sharding else jax.device_put(leaf, sharding)  # jit compiles anew for another
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      return jax.random.wrap_key_data(put(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
    values = np.asarray(leaf)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

  return jax.tree.map(put, tree)


def _split(array: np.ndarray, *, axis: int) -> np.ndarray:
  """`[..., batch, ...] -> [local device, ..., batch / local devices, ...]`."""
  devices = jax.local_device_count()
  shape = (*array.shape[:axis], devices, array.shape[axis] // devices, *array.shape[axis + 1 :])
  return np.moveaxis(array.reshape(shape), axis, 0)
