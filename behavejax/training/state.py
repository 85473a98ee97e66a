"""What a training run carries from step to step, and the optimizer that moves it."""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import optax

from behavejax.config import TrainConfig
from behavejax.types import Key, Variables


@flax.struct.dataclass
class TrainState:
  """All of it is saved, so that a resumed run continues bit for bit.

  Attributes:
    step: micro-batches seen.
    key: root of all randomness; step `t` uses `fold_in(key, t)`.
    params: trained parameters, float32.
    batch_stats: running statistics of batch normalisation.
    opt_state: optimizer state.
    ema: running average of params and batch_stats, what is evaluated and exported.
    learning_rate_scale: factor on the schedule, lowered by the plateau rule.
  """

  step: jax.Array
  key: Key
  params: Variables
  batch_stats: Variables
  opt_state: optax.OptState
  ema: Variables
  learning_rate_scale: jax.Array


def init_state(variables: Variables, *, optimizer: optax.GradientTransformation, key: Key) -> TrainState:
  """The state before the first step; the average starts at the initial values."""
  params, batch_stats = variables["params"], variables.get("batch_stats", {})
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    key=key,
    params=params,
    batch_stats=batch_stats,
    opt_state=optimizer.init(params),
    ema=jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats}),
    learning_rate_scale=jnp.ones((), jnp.float32),
  )


def schedule(config: TrainConfig, *, steps: int) -> optax.Schedule:
  """Learning rate of each update: linear warm-up, then a cosine to 0, or constant for the plateau rule."""
  updates = max(steps // config.accumulate, 1)
  warmup = int(config.warmup_fraction * updates)
  if config.schedule == "warmup_cosine":
    return optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, max(updates, warmup + 1))
  return optax.schedules.join_schedules(
    [optax.linear_schedule(0.0, config.learning_rate, max(warmup, 1)), optax.constant_schedule(config.learning_rate)],
    [warmup],
  )


def decays_kernels(params: Variables) -> Variables:
  """Weight decay for arrays of two axes or more."""
  return jax.tree.map(lambda p: p.ndim > 1, params)


def make_optimizer(
  config: TrainConfig, *, steps: int, decays: Callable[[Variables], Variables] = decays_kernels
) -> optax.GradientTransformation:
  """AdamW on clipped gradients; weight decay acts where `decays` gives True."""
  optimizer = optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    optax.adamw(
      schedule(config, steps=steps),
      weight_decay=config.weight_decay,
      mask=decays,
    ),
  )
  if config.accumulate > 1:
    return optax.MultiSteps(optimizer, config.accumulate).gradient_transformation()
  return optimizer
