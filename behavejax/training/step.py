"""One training step as a pure function; it runs alike on one device and as one of many."""

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from behavejax.config import Config
from behavejax.training.state import TrainState
from behavejax.types import Key, Metrics, Variables

_AUGMENT = 1 << 20  # child of an example's key for its augmentation; the network takes small numbers


class Loss(Protocol):
  """`(variables, batch, keys) -> (loss per example, (new batch statistics, metrics))`."""

  def __call__(self, variables: Variables, batch: Any, keys: Key) -> tuple[Array, tuple[Variables, Metrics]]: ...


def train_step(
  state: TrainState,
  batch: Any,
  *,
  loss: Loss,
  optimizer: optax.GradientTransformation,
  augment: Any,
  ema_decay: float,
  axis_name: str | None = None,
) -> tuple[TrainState, Metrics]:
  """Gradient of the mean loss, one optimizer update, one step of the running average.

  Randomness belongs to the example's place in the global batch, not to the device, so any number of
  devices computes the same step.

  Args:
    state: before the step.
    batch: this device's part of the batch, a NamedTuple of arrays `[batch, ...]`, with `x` where there is `augment`.
    loss: of the model.
    optimizer: from `make_optimizer`.
    augment: `(window, key) -> window`, or None.
    ema_decay: of the running average; 0 copies the current values.
    axis_name: mapped axis over which the batch is spread, or None.

  Returns:
    The state after the step, and metrics that add up over steps, summed over devices, with the entries
    "gradient_norm", "gradient_norm/NAME" of every module of the network, and "nonfinite" (1 + the place of
    the first non-finite value among the inputs, the loss and the gradients, in the order of `tensor_names`;
    0 where all are finite).
  """
  size = jax.tree.leaves(batch)[0].shape[0]
  first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * size
  step_key = jax.random.fold_in(state.key, state.step)
  keys = jax.vmap(lambda i: jax.random.fold_in(step_key, i))(first + jnp.arange(size))
  inputs = batch
  if augment is not None:
    batch = batch._replace(x=jax.vmap(lambda x, key: augment(x, jax.random.fold_in(key, _AUGMENT)))(batch.x, keys))

  def mean_loss(params: Variables) -> tuple[Array, tuple[Variables, Metrics]]:
    per_example, aux = loss({"params": params, "batch_stats": state.batch_stats}, batch, keys)
    return jnp.mean(per_example), aux

  (value, (batch_stats, metrics)), gradients = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
  if axis_name is not None:
    gradients, value = jax.lax.pmean((gradients, value), axis_name)
    metrics = jax.lax.psum(metrics, axis_name)
  updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
  updates = jax.tree.map(lambda u: u * state.learning_rate_scale, updates)
  params = optax.apply_updates(state.params, updates)
  decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))  # a young average forgets its start faster
  ema = _average({"params": params, "batch_stats": batch_stats}, state.ema, decay)
  floats = [a for a in jax.tree.leaves(inputs) if jnp.issubdtype(a.dtype, jnp.floating)]
  inputs_finite = jnp.asarray([jnp.isfinite(a).all() for a in floats], bool).all()  # whole numbers always are
  if axis_name is not None:
    inputs_finite = jax.lax.pmin(inputs_finite.astype(jnp.int32), axis_name) > 0
  metrics = {
    **metrics,
    "gradient_norm": optax.tree.norm(gradients),
    **{f"gradient_norm/{name}": optax.tree.norm(part) for name, part in gradients.items() if isinstance(part, Mapping)},
    "nonfinite": _first_nonfinite(inputs_finite, value, gradients),
  }
  new = state.replace(step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state, ema=ema)
  return new, metrics


def _average(new: Variables, old: Variables, decay: Array) -> Variables:
  """`decay old + (1 - decay) new`; counters and flags are taken as they are."""

  def average(new: Array, old: Array) -> Array:
    return decay * old + (1 - decay) * new if jnp.issubdtype(new.dtype, jnp.floating) else new

  return jax.tree.map(average, new, old)


def tensor_names(params: Variables) -> list[str]:
  """Names of the tensors that `train_step` watches, in its order."""
  paths = jax.tree_util.tree_flatten_with_path(params)[0]
  return ["the input windows", "the loss", *(f"the gradient of {jax.tree_util.keystr(p, simple=True, separator='/')}"
                                            for p, _ in paths)]  # fmt: skip


def describe_nonfinite(index: int, *, step: int, params: Variables, config: Config) -> str:
  """One line for a "nonfinite" metric above 0: the step, the tensor and the likely cause."""
  name = tensor_names(params)[index - 1]
  if index == 1:
    cause = "the data still hold NaN or Inf: check config.data.nan_strategy and config.data.clip"
  else:
    cause = (
      f"the training diverged: lower config.train.learning_rate (now {config.train.learning_rate:g}) or "
      f"config.train.clip_norm{''.join(f', or set config.{name}.dtype=float32' for name in _half_precision(config))}"
    )
  return f"step {step}: {name} is NaN or Inf; likely cause: {cause}"


def _half_precision(config: Config) -> list[str]:
  """Sections of the config that ask for less than float32."""
  return [name for name in ("model", "vqvae", "vivit") if getattr(config, name).dtype != "float32"]


def _first_nonfinite(inputs_finite: Array, loss: Array, gradients: Variables) -> Array:
  finite = jnp.stack([inputs_finite, jnp.isfinite(loss), *(jnp.isfinite(g).all() for g in jax.tree.leaves(gradients))])
  return jnp.where(finite.all(), 0, 1 + jnp.argmin(finite)).astype(jnp.int32)


def merge(totals: dict[str, np.ndarray] | None, metrics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Adds the sums of one more batch, on the host, in float64."""
  metrics = {name: np.asarray(value, np.float64) for name, value in metrics.items()}
  return metrics if totals is None else {name: totals[name] + metrics[name] for name in totals}
