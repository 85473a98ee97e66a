"""How fast training is: the whole loop against the bare step, and the network against PyTorch's."""

import dataclasses
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from behavejax.config import Config, DataConfig, EvaluationConfig, SimulateConfig, TrainConfig
from behavejax.data.batches import Batch
from behavejax.data.prepare import prepare
from behavejax.nets.conv2d import ConvNorm
from behavejax.training import loop
from behavejax.training.task import make_plan
from behavejax.workdir import read_metrics

_WIDTHS = (64, 128, 128)
_KERNEL = 5
_SAMPLE = 0.02  # seconds, the least that one time is taken over


def run(*, repeats: int) -> Iterator[str]:
  """Windows/s of loop and step at batch 64 and 512, and the step of a plain encoder beside PyTorch."""
  yield f"{jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}, median of {repeats}"
  yield ""
  yield f"{'batch':>6}{'bare step ms':>14}{'step windows/s':>16}{'loop windows/s':>16}{'loop/step':>11}"
  for size in (64, 512):
    bare, whole = _step_and_loop(size, repeats=repeats)
    yield f"{size:>6}{1e3 * size / bare:>14.1f}{bare:>16.0f}{whole:>16.0f}{whole / bare:>11.2f}"
  yield ""
  yield "encoder of widths 64-128-128, forward, backward and Adam, on [64, 2, 100, 9], ms per step:"
  yield from (f"  {name:<12}{value}" for name, value in _encoder_step(repeats=repeats).items())


def _step_and_loop(size: int, *, repeats: int) -> tuple[float, float]:
  """Windows/s of the compiled step on batches in memory, and of the loop with data, logs and progress.

  The two alternate in one process. The loop's speed is the median over its calls as it logs them, so
  evaluations and checkpoints are left out of it, as they are out of the step.
  """
  steps = max(repeats, 2 * repeats * 64 // size)
  config = Config(
    data=DataConfig(name="quadruped", window_s=4.0, stride_s=0.5, simulate=SimulateConfig(minutes=6.0)),
    train=TrainConfig(batch_size=size, steps=steps, evaluations=1),
    evaluation=EvaluationConfig(batch_size=64),
  )
  data = prepare(config.data, config.seed)
  data = dataclasses.replace(data, val=data.val.subset(np.arange(64)))
  plan = make_plan(config, windows=len(data.train))
  distort = loop.distortion(config, data)
  call, init = loop.make_train_call(config, data, steps=plan.steps, build=loop.build, distort=distort)
  batch = next(loop.call_batches(config, data.train, steps_per_call=plan.steps_per_call))
  windows = size * plan.steps_per_call
  bare = [windows / seconds for seconds in _timed(call, init(), batch, repeats=plan.calls)]
  with tempfile.TemporaryDirectory() as folder:
    metrics = Path(folder) / "metrics.jsonl"
    loop.fit(config, data, Path(folder) / "stage", metrics, stage="benchmark")
    rates = [row["examples_per_second"] for row in read_metrics(metrics) if "examples_per_second" in row]
  return statistics.median(bare), statistics.median(rates[1:] or rates)


def _timed(call: Callable, state: Any, batch: Batch, *, repeats: int) -> Iterator[float]:
  state, metrics = call(state, batch)
  jax.block_until_ready(metrics)
  for _ in range(repeats):
    start = time.perf_counter()
    state, metrics = call(state, batch)
    jax.block_until_ready((state, metrics))
    yield time.perf_counter() - start


def _encoder_step(*, repeats: int) -> dict[str, str]:
  """One training step of three convolution-norm-ReLU layers, here and in PyTorch where it is installed."""
  x = np.random.default_rng(0).normal(size=(64, 2, 100, 9)).astype(np.float32)
  ours = _jax_encoder(x)
  try:
    peer = _torch_encoder(x)
  except ImportError:
    return {"behavejax": f"{1e3 * statistics.median(alternate([ours], repeats)[0]):.1f}", "PyTorch": "not installed"}
  mine, theirs = alternate([ours, peer], repeats)
  a, b = statistics.median(mine), statistics.median(theirs)
  return {"behavejax": f"{1e3 * a:.1f}", "PyTorch": f"{1e3 * b:.1f}", "ratio": f"{b / a:.2f} times PyTorch's speed"}


def alternate(
  steps: list[Callable[[], None]], repeats: int, *, clock: Callable[[], Any] = time.perf_counter
) -> list[list[Any]]:
  """Times of each, taken in turns so that a busy machine slows all alike.

  A step shorter than `_SAMPLE` seconds is timed over as many calls as come to that: a single one would
  time how cold the others left the caches, and how long a thread takes to wake.
  """
  times: list[list[Any]] = [[] for _ in steps]
  calls = [_calls(step) for step in steps]
  for _ in range(repeats):
    for own, step, count in zip(times, steps, calls, strict=True):
      start = clock()
      for _ in range(count):
        step()
      own.append((clock() - start) / count)
  return times


def _calls(step: Callable[[], None]) -> int:
  """How many calls last `_SAMPLE` seconds, after one to compile."""
  step()
  start = time.perf_counter()
  step()
  return math.ceil(_SAMPLE / max(time.perf_counter() - start, 1e-6))


def _jax_encoder(x: np.ndarray) -> Callable[[], None]:
  layers = [ConvNorm(width, _KERNEL) for width in _WIDTHS]

  def forward(variables: list[Any], x: jax.Array) -> jax.Array:
    for layer, own in zip(layers, variables, strict=True):
      x, _ = layer.apply(own, x, train=True, mutable=["batch_stats"])
    return jnp.mean(jnp.square(x))

  variables, shape = [], x
  for layer in layers:
    shape, own = layer.init_with_output(jax.random.key(0), shape, train=False)
    variables.append(own)
  optimizer = optax.adam(1e-3)

  @jax.jit
  def step(variables: Any, state: optax.OptState, x: jax.Array):
    updates, state = optimizer.update(jax.grad(forward)(variables, x), state)
    return optax.apply_updates(variables, updates), state

  held = [variables, optimizer.init(variables)]

  def run() -> None:
    held[:] = jax.block_until_ready(step(*held, x))

  return run


def _torch_encoder(x: np.ndarray) -> Callable[[], None]:
  import torch

  layers, channels = [], x.shape[-1]
  for width in _WIDTHS:
    convolution = torch.nn.Conv2d(channels, width, (1, _KERNEL), padding=(0, _KERNEL // 2), bias=False)
    layers += [convolution, torch.nn.BatchNorm2d(width), torch.nn.ReLU()]
    channels = width
  network = torch.nn.Sequential(*layers)
  optimizer = torch.optim.Adam(network.parameters())
  batch = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))

  def run() -> None:
    optimizer.zero_grad()
    network(batch).square().mean().backward()
    optimizer.step()

  return run
