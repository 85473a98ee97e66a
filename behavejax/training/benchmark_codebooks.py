"""Codes for the digits in five ways, at equal numbers of codes and equal networks, over several seeds."""

import dataclasses
import functools
import tempfile
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Array, Int

from behavejax.config import CodebookConfig, Config, FramesConfig, QuantizerConfig, TrainConfig, VaeConfig
from behavejax.data.prepare_samples import prepare_samples
from behavejax.data.samples import Samples
from behavejax.evaluation import metrics as metrics_lib
from behavejax.evaluation import sample_metrics
from behavejax.evaluation.latents import assign, decoder_of, read_latents, restore_vae, surroundings
from behavejax.models.code_prior import unigram_bits
from behavejax.models.end_to_end import make_end_to_end
from behavejax.training import codebook, geodesic
from behavejax.training.sample_task import fit_samples
from behavejax.workdir import Workdir

SEEDS = (0, 1, 2)
CODES = 128
_LEVELS = (8, 4, 4)  # as many codes
AFTERWARDS = {"kmeans": "Euclidean k-means", "euclidean": "Euclidean k-medoids", "geodesic": "geodesic k-medoids"}
TOGETHER = {
  "VQ-VAE, end to end": QuantizerConfig(name="vq_ema", num_codes=CODES),
  "FSQ 8-4-4, end to end": QuantizerConfig(name="fsq", levels=_LEVELS),
}
CONFIG = Config(
  stages=("vae", "codebook"),
  frames=FramesConfig(name="digits"),
  vae=VaeConfig(widths=(32, 64, 128), halvings=1, beta=0.06),
  train=TrainConfig(epochs=20.0, evaluations=4, weight_decay=0.0, warmup_fraction=0.02),
  codebook=CodebookConfig(codes=CODES, vectors=5_000, neighbours=10, join="node"),
)
_COLUMNS = {
  "mse": ("squared error / variance", 4),
  "psnr": ("PSNR (dB)", 2),
  "ssim": ("SSIM", 3),
  "perplexity": ("perplexity", 1),
  "bits": ("bits per code, by frequency", 2),
  "straight": ("squared distance, straight", 3),
  "graph": ("along the graph", 3),
}


def run(*, repeats: int) -> Iterator[str]:
  """Mean and standard deviation over the seeds; every seed draws its own split, weights and codebooks."""
  del repeats
  yield f"{jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}, {len(SEEDS)} seeds"
  yield f"digits of 8 x 8 pixels, grid of 4 x 4 codes out of {CODES}, {CONFIG.train.epochs:g} epochs each"
  yield from table([measure(CONFIG, seed) for seed in SEEDS])


def table(runs: list[dict[str, dict[str, float]]]) -> Iterator[str]:
  """Rows of Markdown: mean ± standard deviation over runs."""
  yield ""
  yield f"| codes | {' | '.join(label for label, _ in _COLUMNS.values())} |"
  yield f"|---|{'---:|' * len(_COLUMNS)}"
  for name in runs[0]:
    cells = []
    for key, (_, digits) in _COLUMNS.items():
      values = [own[name][key] for own in runs if key in own[name]]
      spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
      cells.append(f"{np.mean(values):.{digits}f}{spread}" if values else "-")
    yield f"| {name} | {' | '.join(cells)} |"


def measure(config: Config, seed: int) -> dict[str, dict[str, float]]:
  """Scores on the test split of every way, and of no quantization at all."""
  config = dataclasses.replace(config, seed=seed)
  with tempfile.TemporaryDirectory() as folder:
    workdir = Workdir(folder)
    workdir.start(config)
    data = prepare_samples(config, config.seed)
    workdir.write_result("vae", geodesic.fit_vae(config, workdir, data=data), {"stage": "vae"})
    return _afterwards(config, workdir) | _together(config, workdir)


def _afterwards(config: Config, workdir: Workdir) -> dict[str, dict[str, float]]:
  """The three codebooks on the latent vectors of one autoencoder, which the first row decodes as they are."""
  model, variables, data = restore_vae(workdir, config)
  latents, decode = read_latents(workdir), decoder_of(model, variables)
  decoded = jax.jit(lambda z: model.decode(variables, z))
  scores = {"none: continuous": _image_scores(data.test, decoded(latents["test"].mean))}
  flat, around = latents["train"].mean.reshape(-1, config.vae.dim), surroundings(model, latents["train"].mean)
  for method, label in AFTERWARDS.items():
    settings = dataclasses.replace(config.codebook, method=method)
    pace = codebook.Pace(workdir.stage("codebook") / method)
    built, health = codebook.build(
      settings, flat, pace, seed=config.seed, decode=decode, surroundings=around
    )  # fmt: skip
    own = dataclasses.replace(config, codebook=settings)
    codes = {
      name: assign(built.book, own, model, decode, part.mean).codes.reshape(part.mean.shape[:-1])
      for name, part in latents.items()
    }
    scores[label] = {
      **_image_scores(data.test, decoded(built.book.vectors[codes["test"]])),
      **_code_scores(codes["train"], codes["test"]),
      "straight": health.squared_error,
      "graph": health.squared_distance,
    }
  return scores


def _together(config: Config, workdir: Workdir) -> dict[str, dict[str, float]]:
  """Quantizers learned with the network."""
  data, scores = prepare_samples(config, config.seed), {}
  for number, (label, quantizer) in enumerate(TOGETHER.items()):
    build = functools.partial(
      make_end_to_end, config.vae, quantizer, shape=data.train.shape, weight=config.loss.quantization
    )
    variables = fit_samples(
      config, data, workdir, stage=f"end_to_end_{number}",
      build=lambda config, samples, *, axis_name=None, build=build: build(axis_name=axis_name),
      line=lambda values: f"loss {values['val/loss']:.4f}  codes {values['val/code_usage']:.0%}", checks=(),
    )  # fmt: skip
    apply = jax.jit(functools.partial(build().apply, variables))
    train, test = (apply(part.gather(np.arange(len(part)))) for part in (data.train, data.test))
    scores[label] = _image_scores(data.test, test.reconstruction) | _code_scores(
      np.asarray(train.tokens), np.asarray(test.tokens)
    )
  return scores


def _image_scores(test: Samples, reconstruction: Array) -> dict[str, float]:
  x, y = test.gather(np.arange(len(test))), np.asarray(reconstruction)
  true, other = (test.normalization.undo(a) for a in (x, y))
  return {
    "mse": float(np.mean(np.square(y - x))),
    "psnr": float(sample_metrics.psnr(np.mean(np.square(other - true)), test.peak)),
    "ssim": float(sample_metrics.ssim(true, other, peak=test.peak).mean()),
  }


def _code_scores(train: Int[np.ndarray, "sample *grid"], test: Int[np.ndarray, "sample *grid"]) -> dict[str, float]:
  used = metrics_lib.code_statistics(test, num_codes=CODES)
  return {"perplexity": used.perplexity, "bits": unigram_bits(train, test, num_codes=CODES)}
