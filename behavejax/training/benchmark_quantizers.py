"""How fast quantizers are beside PyTorch's, and what each of them makes of one data set."""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from behavejax.config import AugmentConfig, Config, DataConfig, ModelConfig, QuantizerConfig, TrainConfig
from behavejax.data.prepare import Prepared, prepare
from behavejax.errors import InputError
from behavejax.evaluation import metrics
from behavejax.evaluation.evaluate import predict
from behavejax.models.autoencoder import make_model
from behavejax.quantizers import fsq, vq, vq_state
from behavejax.training import loop
from behavejax.training.benchmark import alternate
from behavejax.workdir import read_metrics

PEER = "vector_quantize_pytorch"
EPOCHS = 4.0
QUANTIZERS = {
  "FSQ 8-6-5": QuantizerConfig(),
  "FSQ 8-6-5, symmetric": QuantizerConfig(symmetric=True),
  "VQ": QuantizerConfig(name="vq"),
  "VQ-EMA": QuantizerConfig(name="vq_ema"),
  "VQ-EMA, rotation trick": QuantizerConfig(name="vq_ema", gradient="rotation"),
  "VQ-EMA, entropy penalty": QuantizerConfig(name="vq_ema", entropy_weight=1.0),
  "VQ-EMA, two stages of 16": QuantizerConfig(name="vq_ema", num_codes=16, stages=2),
  "LFQ": QuantizerConfig(name="lfq", entropy_weight=0.1),
}
_ROWS = 2048  # that the prototype compares at a time

Step = Callable[[], None]


class Contender(NamedTuple):
  """One quantizer on given vectors: codes and indices alone, and with gradient and codebook update."""

  forward: Step
  step: Step


def run(*, repeats: int, only: str | None = None) -> Iterator[str]:
  """Times of 65 536 vectors, then scores of every quantizer after `EPOCHS` epochs; or one of the two."""
  if only in (None, "speed"):
    yield from speed(size=65_536, dim=64, num_codes=512, repeats=repeats)
  if only is None:
    yield ""
  if only in (None, "table"):
    config, data, line = load(EPOCHS)
    yield line
    yield ""
    yield from table(config, data, QUANTIZERS)


def speed(*, size: int, dim: int, num_codes: int, repeats: int) -> Iterator[str]:
  """Wall and CPU milliseconds here, in a plain chunked prototype and in vector-quantize-pytorch, in turns."""
  rng = np.random.default_rng(0)
  z, codebook = (rng.normal(size=(n, dim)).astype(np.float32) for n in (size, num_codes))
  levels = ((8, 6, 5), (8, 5, 5, 5))
  ours = {
    "VQ-EMA": _vector(z, codebook, "straight_through"),
    "VQ-EMA, rotation trick": _vector(z, codebook, "rotation"),
    **{f"FSQ {'-'.join(map(str, own))}": _scalar(z[:, : len(own)], own) for own in levels},
  }
  found = importlib.util.find_spec("torch") is not None and importlib.util.find_spec(PEER) is not None
  theirs = _torch(z, num_codes, levels, list(ours)) if found else {}
  yield f"{jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}, median of {repeats}"
  yield f"{size} vectors; VQ with {num_codes} codes of {dim} dimensions; ms, CPU time of all threads in brackets"
  if found:
    yield ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("vector-quantize-pytorch", "torch"))
  else:
    yield "vector-quantize-pytorch is not installed, left out: pip install torch vector-quantize-pytorch"
  yield ""
  yield "| quantizer | forward | with gradient and update | the same in vector-quantize-pytorch | times as fast |"
  yield "|---|---:|---:|---:|---:|"
  contenders = [*ours.values(), _prototype(z, codebook), *theirs.values()]
  times = iter(_medians(contenders, repeats))
  mine = {name: next(times) for name in ours}
  plain = next(times)
  peers = {name: next(times) for name in theirs}
  for name, (forward, step) in mine.items():
    peer = peers.get(name)
    compared = "- | -" if peer is None else (
      f"{_shown(peer[0])}, {_shown(peer[1])} | {peer[0][0] / forward[0]:.1f}, {peer[1][0] / step[0]:.1f}"
    )  # fmt: skip
    yield f"| {name} | {_shown(forward)} | {_shown(step)} | {compared} |"
  yield f"| VQ-EMA, plain prototype in chunks of {_ROWS} | {_shown(plain[0])} | {_shown(plain[1])} | - | - |"
  ratio = plain[1] / mine["VQ-EMA"][1]
  yield ""
  yield f"VQ-EMA is {ratio[0]:.2f} times as fast as the prototype, {ratio[1]:.2f} times by CPU time"


def _medians(contenders: list[Contender], repeats: int) -> list[tuple[np.ndarray, np.ndarray]]:
  """Wall and CPU seconds of the two steps of each contender."""
  steps = [step for contender in contenders for step in contender]
  times = [np.median(own, axis=0) for own in alternate(steps, repeats, clock=_both_clocks)]
  return list(zip(times[::2], times[1::2], strict=True))


def _both_clocks() -> np.ndarray:
  return np.array([time.perf_counter(), time.process_time()])


def _shown(seconds: np.ndarray) -> str:
  wall, cpu = 1e3 * seconds
  digits = 0 if wall >= 100 else 1 if wall >= 1 else 2
  return f"{wall:.{digits}f} ({cpu:.{digits}f})"


def _contender(forward: Callable, step: Callable, *arrays: Array) -> Contender:
  forward, step = (jax.jit(function) for function in (forward, step))
  return Contender(*(functools.partial(_wait, function, arrays) for function in (forward, step)))


def _wait(function: Callable, arrays: tuple[Array, ...]) -> None:
  jax.block_until_ready(function(*arrays))


def _vector(z: Float[np.ndarray, "row dim"], codebook: Float[np.ndarray, "code dim"], gradient: str) -> Contender:
  state = vq_state.from_codebook(jnp.asarray(codebook))

  def forward(state: vq_state.State, z: Array):
    return vq.quantize(z, state.codebook, codebook_weight=0.0, gradient=gradient)

  def step(state: vq_state.State, z: Array):
    def loss(z: Array):
      found = forward(state, z)
      return jnp.sum(jnp.square(found.codes)) + found.loss.mean(), found

    back, found = jax.grad(loss, has_aux=True)(z)
    return back, found, vq_state.update(state, vq_state.statistics(z, found.indices, num_codes=len(codebook)))

  return _contender(forward, step, state, jnp.asarray(z))


def _prototype(z: Float[np.ndarray, "row dim"], codebook: Float[np.ndarray, "code dim"]) -> Contender:
  """What one would write first: no mask, no guard, no exact product, straight-through only."""

  def forward(codebook: Array, z: Array):
    norms = jnp.sum(jnp.square(codebook), axis=1)
    blocks = z.reshape(-1, min(_ROWS, len(z)), z.shape[1])
    indices = jax.lax.map(lambda block: jnp.argmin(norms[None] - 2 * block @ codebook.T, axis=1), blocks).ravel()
    codes = codebook[indices]
    return z + jax.lax.stop_gradient(codes - z), indices, 0.25 * jnp.mean(jnp.square(z - jax.lax.stop_gradient(codes)))

  def step(codebook: Array, z: Array):
    def loss(z: Array):
      codes, indices, commitment = forward(codebook, z)
      return jnp.sum(jnp.square(codes)) + commitment, (codes, indices)

    back, (codes, indices) = jax.grad(loss, has_aux=True)(z)
    count = 0.99 + 0.01 * jnp.zeros(len(codebook)).at[indices].add(1.0)
    total = 0.99 * codebook + 0.01 * jnp.zeros_like(codebook).at[indices].add(z)
    return back, codes, indices, total / count[:, None]

  return _contender(forward, step, jnp.asarray(codebook), jnp.asarray(z))


def _scalar(z: Float[np.ndarray, "row digit"], levels: tuple[int, ...]) -> Contender:
  def forward(z: Array):
    codes = fsq.quantize(z, levels=levels)
    return codes, fsq.codes_to_indices(codes, levels=levels)

  def step(z: Array):
    def loss(z: Array):
      codes, indices = forward(z)
      return jnp.sum(jnp.square(codes)), (codes, indices)

    return jax.grad(loss, has_aux=True)(z)

  return _contender(forward, step, jnp.asarray(z))


def _torch(
  z: Float[np.ndarray, "row dim"], num_codes: int, levels: tuple[tuple[int, ...], ...], names: list[str]
) -> dict[str, Contender]:
  """vector-quantize-pytorch with the same sizes, in the order of `names`."""
  import torch
  from vector_quantize_pytorch import FSQ, VectorQuantize

  def contender(module: "torch.nn.Module", z: np.ndarray) -> Contender:
    x = torch.from_numpy(np.ascontiguousarray(z))[None].requires_grad_()

    def forward() -> None:
      module.eval()
      with torch.no_grad():
        module(x)

    def step() -> None:
      module.train()
      codes, _, *loss = module(x)
      (codes.square().sum() + sum(part.sum() for part in loss)).backward()
      x.grad = None

    return Contender(forward, step)

  common = {"dim": z.shape[1], "codebook_size": num_codes, "decay": 0.99, "commitment_weight": 0.25}
  vectors = [contender(VectorQuantize(**common, rotation_trick=trick), z) for trick in (False, True)]
  grids = [contender(FSQ(levels=list(own)), z[:, : len(own)]) for own in levels]
  return dict(zip(names, [*vectors, *grids], strict=True))


def load(epochs: float) -> tuple[Config, Prepared, str]:
  """HAPT as in `configs/fsq.py:hapt`, where it is found, else the simulated quadruped; and a line that says so."""
  train = TrainConfig(epochs=epochs, evaluations=max(round(epochs / 2), 1))
  augment = AugmentConfig(rotation_deg=20.0, scale=0.1, time_warp=0.1)
  cut = {"window_s": 2.0, "stride_s": 1.0}
  hapt = DataConfig(name="hapt", val_subjects=(22, 23, 25), test_subjects=(26, 27, 28, 29, 30), **cut)
  config = Config(data=hapt, augment=augment, model=ModelConfig(token_stride=2), train=train)
  try:
    data, missing = prepare(config.data, config.seed), ""
  except InputError as error:
    quadruped = DataConfig(name="quadruped", val_subjects=("6",), test_subjects=("7", "8"), **cut)
    config = Config(data=quadruped, augment=augment, train=train)
    data, missing = prepare(config.data, config.seed), f" (no HAPT: {error})"
  line = f"{config.data.name}, {epochs:g} epochs of {len(data.train)} windows, test split of {len(data.test)}{missing}"
  return config, data, line


def table(config: Config, data: Prepared, quantizers: Mapping[str, QuantizerConfig]) -> Iterator[str]:
  """Each quantizer trained with the same settings and scored on the test split."""
  yield "| quantizer | codes | accuracy | macro-F1 | perplexity | usage | reconstruction MSE | windows/s |"
  yield "|---|---:|---:|---:|---:|---:|---:|---:|"
  for name, quantizer in quantizers.items():
    yield f"| {name} | {' | '.join(_scores(dataclasses.replace(config, quantizer=quantizer), data))} |"


def _scores(config: Config, data: Prepared) -> list[str]:
  with tempfile.TemporaryDirectory() as folder:
    log = Path(folder) / "metrics.jsonl"
    variables = loop.fit(config, data, Path(folder) / "stage", log, stage=config.quantizer.name)
    rates = [row["examples_per_second"] for row in read_metrics(log) if "examples_per_second" in row]
  model = make_model(config, shape=data.test.shape, classes=len(data.test.classes))
  predictions = predict(model, variables, data.test, config)
  confusion = metrics.confusion(predictions.labels, predictions.predicted, classes=len(data.test.classes))
  codes = metrics.code_statistics(predictions.tokens, num_codes=model.num_codes)
  return [
    f"{model.num_codes}",
    f"{metrics.accuracy(confusion):.3f}",
    f"{metrics.macro_f1(confusion):.3f}",
    f"{codes.perplexity:.0f}",
    f"{codes.usage:.0%}",
    f"{predictions.reconstruction_error.mean():.3f}",
    f"{statistics.median(rates[1:] or rates):.0f}",
  ]
