"""The stage `vqvae`: the autoencoder of signals, images and video."""

from collections.abc import Callable, Sequence

import numpy as np

from behavejax.config import Config, QuantizerConfig
from behavejax.data.prepare_samples import PreparedSamples, prepare_samples
from behavejax.data.samples import Samples
from behavejax.evaluation import metrics, vqvae_findings
from behavejax.evaluation.vqvae import STAGE, codebook_counts
from behavejax.models.vqvae import Vqvae, make_vqvae
from behavejax.training import loop, validation
from behavejax.training.task import Task, make_plan
from behavejax.types import Variables
from behavejax.workdir import Workdir


def prepare(config: Config, workdir: Workdir, again: Sequence[str]) -> PreparedSamples:
  """The samples of a config; see `stages.DATA`.

  Raises:
    InputError: unusable data, or samples that the model cannot be made for.
  """
  del workdir, again
  data = prepare_samples(config, config.seed)
  _model(config, data.train)
  return data


def fit(
  config: Config, workdir: Workdir, *, data: PreparedSamples, on_evaluation: loop.OnEvaluation | None = None
) -> Variables:
  """Trains from the last checkpoint, or from the start; the parameters with the least error on the validation split.

  Raises:
    loop.Stopped: SIGTERM arrived; everything is saved.
    Diverged: a loss or gradient became NaN or Inf.
  """
  return loop.run(
    config, make_task(config, data), workdir.stage(STAGE), workdir.metrics_file, stage=STAGE,
    on_evaluation=on_evaluation,
  )  # fmt: skip


def make_task(config: Config, data: PreparedSamples) -> Task:
  """What the loop needs to train on these samples."""
  plan = make_plan(config, windows=len(data.train))
  call, init = loop.make_train_call(config, data, steps=plan.steps, build=_model)
  return Task(
    plan=plan,
    call=call,
    init=init,
    batches=loop.call_batches(config, data.train, steps_per_call=plan.steps_per_call),
    evaluate=_make_evaluation(config, data.val),
    summarize=lambda totals: summarize(totals, config.quantizer, prefix="train"),
    score=lambda values: -values["val/reconstruction_mse"],
    progress=lambda values: f"loss {values['train/loss']:.3f}, perplexity {values['train/perplexity']:.0f}",
    line=_line,
    check=vqvae_findings.of_evaluation,
  )


def _model(config: Config, samples: Samples, *, axis_name: str | None = None) -> Vqvae:
  return make_vqvae(config, shape=samples.shape, classes=len(samples.classes), axis_name=axis_name)


def _make_evaluation(config: Config, samples: Samples) -> Callable:
  kind = config.train.parallel
  model = _model(config, samples)
  sums = validation.make_sums(model.score, samples, kind=kind, batch_size=config.evaluation.batch_size)
  watch = validation.make_watch(model, samples, kind=kind)

  def evaluate(variables: Variables, tokens: list[int] | None) -> tuple[dict[str, float], list[int] | None]:
    totals = sums(variables)
    watched = watch(variables)
    further = {f"val/{name}": value for name, value in validation.tokens_changed(tokens, watched).items()}
    return summarize(totals, config.quantizer, prefix="val") | further, watched

  return evaluate


def summarize(totals: dict[str, np.ndarray], config: QuantizerConfig, *, prefix: str) -> dict[str, float]:
  """Sums -> means, and the histogram of tokens -> its perplexity, usage and largest share.

  The perplexity share is that of the codebook, the mean of several; the spread of the latents is the root of their
  mean square over all digits.
  """
  counts = codebook_counts(totals["codes"], config)
  share = np.mean([metrics.perplexity(count) / len(count) for count in counts])
  values = (
    {"perplexity_share": share}
    | validation.code_values(totals["codes"])
    | {name: totals[name] / totals["count"] for name in ("loss", "reconstruction_mse", "quantization_loss")}
  )
  values["latent_std/all"] = np.sqrt(totals["latent_square"] / totals["count"])
  if "labelled" in totals:
    values["accuracy"] = totals["correct"] / max(float(totals["labelled"]), 1.0)
  return {f"{prefix}/{name}": float(value) for name, value in values.items()}


def _line(values: dict[str, float]) -> str:
  return (
    f"val loss {values['val/loss']:.3f}  reconstruction {values['val/reconstruction_mse']:.3f}  "
    f"perplexity {values['val/perplexity_share']:.0%} of the codebook  tokens in use {values['val/code_usage']:.0%}"
  )
