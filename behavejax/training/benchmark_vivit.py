"""The video transformer: its size without training, and the time of a training step beside PyTorch's."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from behavejax.config_vivit import VivitConfig
from behavejax.models.neural_encoder import DataSet, Model, make_model
from behavejax.nets.vivit import cells
from behavejax.training import vivit_torch
from behavejax.training.benchmark import alternate

BASELINE = VivitConfig(
  kernel=(4, 4, 4), stride=(2, 4, 4), width=384, heads=6, head_width=64, hidden=1536, spatial_blocks=6,
  temporal_blocks=6, remat=True, dtype="bfloat16",
)  # fmt: skip
"""As `configs/vivit.py:baseline`; a test keeps them alike."""
SMALL = VivitConfig(
  width=64, heads=4, head_width=16, hidden=128, spatial_blocks=2, temporal_blocks=2, patch_dropout=0.0,
  stochastic_depth=0.0, modulator=False, context=32,
)  # fmt: skip
"""What is timed: small enough for a CPU, without what PyTorch's copy leaves out."""
_SCREEN, _NEURONS, _FRAMES = (36, 64), 1000, 32
_BATCHES = (1, 4, 16)
_PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L4": 121e12, "T4": 65e12}
"""Dense bfloat16 (T4: float16) operations per second, from the makers' data sheets."""


class Clips(NamedTuple):
  video: Any
  behaviour: Any
  spikes: Any
  mask: Any


def run(*, repeats: int, only: str | None = None) -> Iterator[str]:
  """What `:baseline` takes, then how long training steps take; `only` is "size" or "speed"."""
  if only != "speed":
    yield from _size()
  if only is None:
    yield ""
  if only != "size":
    yield from _speed(repeats=repeats)


def operations(settings: VivitConfig, data: DataSet, *, frames: int) -> float:
  """Floating-point operations of the forward pass of one clip, per frame; a multiply and an add are two.

  Products of matrices only: tubelets, projections, attention, the features of each frame, and the readout.
  """
  s = settings
  axes = zip(data.size, s.kernel[1:], s.stride[1:], strict=True)
  places = int(np.prod([len(cells(size, kernel=kernel, stride=stride)[0]) for size, kernel, stride in axes]))
  steps, own = -(-frames // s.stride[0]), s.heads * s.head_width
  tokens = steps * (places + s.registers)
  block = s.width * (3 * own + s.hidden) + (own + s.hidden) * s.width
  spatial = block + 2 * own * (places + s.registers)
  temporal = block + 2 * own * steps  # the causal half is computed and masked
  total = steps * places * s.width * (np.prod(s.kernel) + s.stride[0] * s.width)
  total += tokens * (s.spatial_blocks * spatial + s.temporal_blocks * temporal)
  total += frames * places * len(data.mean_counts) * (s.width + 1)
  if s.modulator:
    m = s.modulator_width
    total += frames * places * (3 * m * s.width + 27 * m * m + 2 * m * s.width)
  return 2 * float(total) / frames


def _size() -> Iterator[str]:
  data = DataSet(_SCREEN, 4, (0.5,) * _NEURONS)
  model = make_model(BASELINE, [data])
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  core = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]["core"]))
  yield f":baseline on {_SCREEN[0]} x {_SCREEN[1]} pixels, clips of {_FRAMES} frames, {_NEURONS} neurons"
  yield f"  parameters          {count:>14,} ({core:,} of the core)"
  yield f"  forward, per frame  {operations(BASELINE, data, frames=_FRAMES) / 1e9:>14.2f} GFLOP"
  yield f"  {'batch':>6}{'weights and optimizer':>24}{'activations, remat':>22}{'without remat':>18}"
  state = 4 * 4 * count  # parameters, gradients, two moments
  for batch in _BATCHES:
    found = [_activations(dataclasses.replace(BASELINE, remat=remat), data, batch) for remat in (True, False)]
    yield f"  {batch:>6}{state / 2**30:>20.2f} GiB{found[0] / 2**30:>18.2f} GiB{found[1] / 2**30:>14.2f} GiB"


def _activations(settings: VivitConfig, data: DataSet, batch: int) -> int:
  """Bytes that the forward pass keeps for the gradient, besides parameters and inputs; nothing is compiled or run."""
  model = make_model(settings, [data])
  variables, clips = jax.eval_shape(model.init, jax.random.key(0)), _clips(data, batch, jax.ShapeDtypeStruct)
  keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))

  def backward(variables: Any, clips: Clips, keys: jax.Array) -> Any:
    return jax.vjp(lambda v: model.loss(v, clips, keys, 0)[0].mean(), variables)[1]  # a tree of what it needs

  kept = jax.tree.leaves(jax.eval_shape(backward, variables, clips, keys))
  known = {leaf.shape for leaf in jax.tree.leaves((variables, clips))}
  return sum(leaf.size * leaf.dtype.itemsize for leaf in kept if leaf.shape not in known and leaf.ndim)


def _clips(data: DataSet, batch: int, make: Callable) -> Clips:
  neurons = (batch, _FRAMES, len(data.mean_counts))
  return Clips(
    make((batch, _FRAMES, *data.size, 1), np.float32), make((batch, _FRAMES, data.signals), np.float32),
    make(neurons, np.float32), make(neurons, bool),
  )  # fmt: skip


def _speed(*, repeats: int) -> Iterator[str]:
  on_gpu = jax.default_backend() == "gpu"
  settings, batch = (dataclasses.replace(BASELINE, modulator=False), 16) if on_gpu else (SMALL, 4)
  data = DataSet(_SCREEN if on_gpu else (32, 32), 0, (0.5,) * (_NEURONS if on_gpu else 48))
  rng = np.random.default_rng(0)
  clips = _clips(data, batch, lambda shape, kind: rng.poisson(0.5, shape).astype(kind))
  clips = clips._replace(video=rng.normal(size=clips.video.shape).astype(np.float32), mask=np.ones_like(clips.mask))
  device = jax.devices()[0].device_kind
  yield (
    f"training step (forward, backward, AdamW) of {settings.spatial_blocks} + {settings.temporal_blocks} blocks of "
    f"width {settings.width}, {batch} clips of {_FRAMES} frames, {device}, median of {repeats}:"
  )
  steps: dict[str, Callable[[], Any]] = {}
  for dtype in ("float32", "bfloat16"):
    for remat in (False, True):
      own = dataclasses.replace(settings, dtype=dtype, remat=remat)
      steps[f"behavejax {dtype}{', remat' if remat else ''}"] = _step(make_model(own, [data]), clips)
  missing = None
  try:
    steps["PyTorch float32"] = vivit_torch.make_step(settings, data, clips.video, clips.spikes)
  except ImportError:
    missing = "PyTorch is not installed: nothing to compare with"
  times = [statistics.median(own) for own in alternate(list(steps.values()), repeats, clock=time.perf_counter)]
  work = 3 * batch * _FRAMES * operations(settings, data, frames=_FRAMES)
  peak = next((value for name, value in _PEAK.items() if name in device), None) if on_gpu else None
  for name, seconds in zip(steps, times, strict=True):
    used = f"{work / seconds / peak:>9.1%} of the peak" if peak else ""
    rates = f"{batch * _FRAMES / seconds:>12,.0f} frames/s{work / seconds / 1e9:>10.1f} GFLOP/s"
    yield f"  {name:<28}{1e3 * seconds:>9.1f} ms{rates}{used}"
  if missing is None:
    yield f"  float32: {times[-1] / times[0]:.2f} times PyTorch's speed"
  yield missing or ("" if peak else "utilisation of a GPU is printed where there is one")


def _step(model: Model, clips: Clips) -> Callable[[], None]:
  optimizer = optax.adamw(1e-3)

  @jax.jit
  def step(variables: Any, state: Any) -> tuple[Any, Any]:
    keys = jax.random.split(jax.random.key(0), len(clips.video))
    gradient = jax.grad(lambda v: jnp.mean(model.loss(v, clips, keys, 0)[0]))(variables)
    updates, state = optimizer.update(gradient, state, variables)
    return optax.apply_updates(variables, updates), state

  variables = jax.jit(model.init)(jax.random.key(0))
  held = [variables, optimizer.init(variables)]

  def run() -> None:
    held[:] = jax.block_until_ready(step(*held))

  return run
