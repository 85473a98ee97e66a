"""The autoencoder of samples beside the package `nd_vq_vae`, and what codebooks of different sizes reach."""

import dataclasses
import functools
import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from behavejax.config import Config, EvaluationConfig, LossConfig, QuantizerConfig, TrainConfig
from behavejax.config_frames import FramesConfig, MovingDigitsConfig
from behavejax.config_vqvae import VqvaeConfig
from behavejax.data.batches import Batch, batch_indices
from behavejax.data.prepare_samples import PreparedSamples, prepare_samples
from behavejax.errors import InputError
from behavejax.evaluation import rates, vqvae
from behavejax.models.vqvae import make_vqvae
from behavejax.training import loop
from behavejax.training import step as step_lib
from behavejax.training import vqvae as stage
from behavejax.training.state import init_state

PEER = "nd_vq_vae"
WIDTH = CODES = 64
BLOCKS, FACTORS, RATE = 2, (2, 2, 2), 1e-3
CODEBOOKS = {
  "VQ-EMA, 16 codes": QuantizerConfig(name="vq_ema", num_codes=16, entropy_weight=0.5),
  "VQ-EMA, 64 codes": QuantizerConfig(name="vq_ema", num_codes=64, entropy_weight=0.5),
  "VQ-EMA, 256 codes": QuantizerConfig(name="vq_ema", num_codes=256, entropy_weight=0.5),
  "VQ-EMA, two stages of 64": QuantizerConfig(name="vq_ema", num_codes=64, stages=2, entropy_weight=0.5),
  "VQ-EMA, two groups of 64": QuantizerConfig(name="vq_ema", num_codes=64, groups=2, entropy_weight=0.5),
  "VQ, 256 codes": QuantizerConfig(name="vq", num_codes=256, entropy_weight=0.5),
  "FSQ 4-4-4": QuantizerConfig(levels=(4, 4, 4)),
  "FSQ 8-6-5": QuantizerConfig(levels=(8, 6, 5)),
  "LFQ, 8 bits": QuantizerConfig(name="lfq", num_codes=256, entropy_weight=0.5),
}
EPOCHS = 15.0

Step = Callable[[Float[np.ndarray, "batch *space channel"]], float]


class Contender(NamedTuple):
  """A model in training.

  Attributes:
    step: one step on a batch; returns the mean squared error of its reconstruction.
    error: mean squared error of held-out samples.
  """

  step: Step
  error: Step


def rate_distortion(*, repeats: int) -> Iterator[str]:
  """A row for every codebook: bits per sample of the digits against error and PSNR, held-out."""
  del repeats
  config = _digits()
  data = prepare_samples(config, config.seed)
  yield f"digits of 8 x 8 pixels, test split of {len(data.test)}, a token per 2 x 2, {EPOCHS:g} epochs, one seed"
  yield ""
  yield (
    f"{'codebook':<28}{'bits/sample':>12}{'bits/pixel':>12}{'squared error':>15}{'PSNR (dB)':>11}{'perplexity':>12}"
    f"{'seconds':>9}"
  )
  for name, quantizer in CODEBOOKS.items():
    yield distortion_row(name, dataclasses.replace(config, quantizer=_weighted(quantizer)), data)


def _digits() -> Config:
  return Config(
    stages=("vqvae",),
    frames=FramesConfig(name="digits"),
    vqvae=VqvaeConfig(factors=(2, 2), hidden=48, blocks=1),
    loss=LossConfig(quantization=0.1),
    train=TrainConfig(epochs=EPOCHS, weight_decay=0.0, ema_decay=0.99, evaluations=3),
    evaluation=EvaluationConfig(batch_size=180),
  )


def _weighted(quantizer: QuantizerConfig) -> QuantizerConfig:
  return dataclasses.replace(quantizer, commitment_weight=0.1)


def distortion_row(name: str, config: Config, data: PreparedSamples) -> str:
  """Trains with one codebook and measures the test split."""
  start = time.perf_counter()
  with TemporaryDirectory() as folder:
    path = Path(folder)
    variables = loop.run(config, stage.make_task(config, data), path / "stage", path / "metrics.jsonl", stage="vqvae")
  seconds = time.perf_counter() - start
  model = make_vqvae(config, shape=data.train.shape)
  coded = vqvae.code(model, variables, data.test, config)
  bits = math.prod(model.grid) * math.log2(model.num_codes)
  error = float(coded.error.mean())
  counts = np.bincount(coded.tokens.ravel(), minlength=model.num_codes)
  shares = counts[counts > 0] / counts.sum()
  perplexity = math.exp(-np.sum(shares * np.log(shares)))
  return (
    f"{name:<28}{bits:>12.0f}{bits / math.prod(data.train.shape):>12.2f}{error:>15.3f}"
    f"{rates.psnr(error, data.train.peak / float(data.normalization.std.mean())):>11.1f}{perplexity:>12.0f}"
    f"{seconds:>9.0f}"
  )


def beside_peer(*, repeats: int) -> Iterator[str]:
  """Step time and error after equal steps of a model like that of `nd_vq_vae`, on the same clips, beside it.

  Both have 64 features, 64 codes of 64 dimensions, 2 residual blocks with full attention, and Adam with the same rate;
  they take turns, step by step. The package knows three channels only, so grey clips are given three times.

  Raises:
    InputError: the package is not installed.
  """
  if importlib.util.find_spec(PEER) is None:
    raise InputError(
      f"the package {PEER} is not installed: pip install --no-deps {PEER} pytorch-lightning lightning-utilities "
      "torchmetrics, beside torch"
    )
  steps = max(5 * repeats, 20)
  train, test = _clips(videos=80)
  shape = " x ".join(map(str, train.shape[1:]))
  yield f"clips of {shape}, factors {FACTORS}, batches of 8, {steps} steps of Adam at {RATE:g}"
  yield ""
  yield f"{'':<14}{'step (ms)':>12}{'error, last steps':>20}{'error, held-out':>18}{'compile (s)':>13}"
  found = {}
  contenders = {"behavejax": _own(train), PEER: _peer(train)}
  times, errors, first = ({name: [] for name in contenders} for _ in range(3))
  for number in range(steps):
    batch = train[batch_indices(number, windows=len(train), batch_size=8, seed=0)]
    for name, contender in contenders.items():
      start = time.perf_counter()
      errors[name].append(contender.step(batch))
      (times if number else first)[name].append(time.perf_counter() - start)
  variance = float(np.var(test))
  for name, contender in contenders.items():
    found[name] = statistics.median(times[name]), contender.error(test) / variance
    last = statistics.mean(errors[name][-steps // 4 :]) / variance
    compiled = first[name][0] - found[name][0]
    yield f"{name:<14}{1e3 * found[name][0]:>12.1f}{last:>20.3f}{found[name][1]:>18.3f}{compiled:>13.1f}"
  yield ""
  speed = found[PEER][0] / found["behavejax"][0]
  yield f"behavejax takes a step {speed:.2f} times as fast; errors are shares of the held-out clips' variance"


def _clips(*, videos: int) -> tuple[np.ndarray, np.ndarray]:
  """Clips of moving digits from -0.5 to 0.5, three equal channels: to train on, and held out."""
  frames = FramesConfig(name="moving_digits", moving=MovingDigitsConfig(videos=videos), val=0.1, test=0.2)
  data = prepare_samples(Config(frames=frames), 0)
  clips = [part.gather(np.arange(len(part))) for part in (data.train, data.test)]
  train, test = (np.repeat(data.normalization.undo(x) / data.train.peak - 0.5, 3, axis=-1) for x in clips)
  return train, test[:32]


def _own(train: np.ndarray) -> Contender:
  config = Config(
    vqvae=VqvaeConfig(factors=FACTORS, hidden=WIDTH, blocks=BLOCKS, attention="full"),
    quantizer=QuantizerConfig(name="vq_ema", num_codes=CODES, dim=WIDTH, commitment_weight=0.1),
    loss=LossConfig(reconstruction=1 / float(np.var(train)), quantization=1 / WIDTH),  # a mean over dimensions there
  )
  model = make_vqvae(config, shape=train.shape[1:])
  optimizer = optax.adam(RATE)
  state = init_state(
    jax.jit(model.init)(jax.random.key(0), train[:16]), optimizer=optimizer, key=jax.random.key(1)
  )  # fmt: skip
  call = jax.jit(
    functools.partial(step_lib.train_step, loss=model.loss, optimizer=optimizer, augment=None, ema_decay=0.0),
    donate_argnums=0,
  )
  reconstruct = jax.jit(lambda variables, x: jnp.mean(jnp.square(model.apply(variables, x).reconstruction - x)))

  def step(x: np.ndarray) -> float:
    nonlocal state
    state, metrics = call(state, Batch(x, np.full(len(x), -1, np.int32), np.ones(len(x), bool)))
    return float(metrics["reconstruction_mse"]) / len(x)

  return Contender(step, lambda x: float(reconstruct(state.ema, x)))


def _peer(train: np.ndarray) -> Contender:
  import torch
  from nd_vq_vae import NDimVQVAE

  torch.manual_seed(0)
  channels_first = np.moveaxis(train[:1], -1, 1)
  model = NDimVQVAE(
    embedding_dim=WIDTH, n_codes=CODES, n_dims=3, downsample=list(FACTORS), n_hiddens=WIDTH, n_res_layers=BLOCKS,
    codebook_beta=0.1, input_shape=list(channels_first.shape[1:]),
  )  # fmt: skip
  optimizer = torch.optim.Adam(model.parameters(), lr=RATE)

  def tensor(x: np.ndarray) -> "torch.Tensor":
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))

  def step(x: np.ndarray) -> float:
    model.train()
    optimizer.zero_grad()
    x = tensor(x)
    loss, decoded, codes = model(x)
    (loss + codes["commitment_loss"]).backward()
    optimizer.step()
    return float(torch.mean((decoded.detach() - x) ** 2))

  def error(x: np.ndarray) -> float:
    model.eval()
    with torch.no_grad():
      x = tensor(x)
      return float(torch.mean((model(x)[1] - x) ** 2))

  return Contender(step, error)
