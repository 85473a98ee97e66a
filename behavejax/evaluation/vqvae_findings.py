"""What goes wrong with an autoencoder of samples, as checks with the settings that mend it."""

import dataclasses
from collections.abc import Mapping

from behavejax.config import Config
from behavejax.evaluation.findings import Check, Finding, judge
from behavejax.models.quantizer import make_quantizer


@dataclasses.dataclass(frozen=True)
class Limits:
  """Where healthy ends."""

  reconstruction_mse: float = 0.25  # of the variance
  improvement: float = 0.03  # least relative fall of the error over the last quarter of training that counts as one
  overfit: float = 2.0  # error of the validation split over that of the training split
  commitment_high: float = 0.5  # share of the codes' loss in the whole loss
  commitment_low: float = 1.0  # squared distance of vectors and codes, of the vectors' variance
  perplexity: float = 1 / 3  # of a codebook
  saturated: float = 0.95  # perplexity of a codebook, as a share of it, beside a poor reconstruction


def checks(config: Config, limits: Limits = Limits()) -> list[Check]:
  """Of a run; the numbers are those of `numbers`."""
  quantizer = config.quantizer
  size = "config.quantizer.levels" if quantizer.name == "fsq" else "config.quantizer.num_codes"
  finer = f"lower config.vqvae.factors, or raise {size} or config.quantizer.groups"
  revive = {
    "fsq": f"lower config.train.learning_rate or use fewer {size}",
    "vq_ema": "raise config.quantizer.entropy_weight, lower config.quantizer.restart_after or use fewer "
    "config.quantizer.num_codes",
  }.get(quantizer.name, f"raise config.quantizer.entropy_weight or use fewer {size}")
  found = [
    Check(
      "high reconstruction loss", "reconstruction_mse", limits.reconstruction_mse, False,
      "squared error {} of the variance", ".2f", f"{finer}; raise config.vqvae.hidden or config.vqvae.blocks", 0.8,
    ),
    Check(
      "high and flat reconstruction loss", "flat_mse", limits.reconstruction_mse, False,
      "squared error {} of the variance, no longer falling", ".2f",
      f"training longer will not help: {finer}; raise config.vqvae.hidden", 0.8,
    ),
    Check(
      "not trained to the end", "still_falling", 0.2, False,
      "the error fell by {} over the last quarter of training", ".0%",
      "raise config.train.epochs or config.train.learning_rate", 1.0,
    ),
    Check(
      "overfitting", "overfit", limits.overfit, False, "error of the validation split {} times that of training", ".2f",
      "lower config.vqvae.hidden or config.vqvae.blocks, raise config.train.weight_decay, set "
      "config.vqvae.augment=True for images and videos, or give more data", 0.5,
    ),
    Check(
      "low perplexity", "perplexity_share", limits.perplexity, True, "perplexity {} of a codebook", ".0%", revive, 0.3
    ),
    Check(
      "saturated perplexity", "saturated", limits.saturated, False,
      "perplexity {} of a codebook beside a poor reconstruction", ".0%", f"too few codes: {finer}", 0.8,
    ),
  ]  # fmt: skip
  if quantizer.name in ("vq", "vq_ema", "lfq"):
    weight = "config.quantizer.commitment_weight"
    found += [
      Check(
        "commitment too high", "commitment_share", limits.commitment_high, False,
        "the codes' loss is {} of the whole", ".0%", f"lower {weight} or config.loss.quantization", 0.5,
      ),
      Check(
        "commitment too low", "latent_distance", limits.commitment_low, False,
        "vectors lie {} of their variance from their codes", ".2f", f"raise {weight}", 0.5,
      ),
    ]  # fmt: skip
  return found


def numbers(values: Mapping[str, float], config: Config, *, earlier: float = float("nan")) -> dict[str, float]:
  """What `checks` looks at.

  Args:
    values: `val/` and `train/` values of an evaluation and of the steps before it, as in `metrics.jsonl`.
    config: of the run.
    earlier: error of the validation split at three quarters of the training; NaN where it is not known.
  """

  def get(name: str) -> float:
    return values.get(name, float("nan"))

  mse, loss = get("val/reconstruction_mse"), get("val/loss")  # without the penalties of training
  quantizer = config.quantizer
  share = get("val/perplexity_share")
  tied = max(config.loss.quantization, 1e-12)
  # the loss of a sample is a weight times the mean squared length of (vector - code), of `dim` unit variances
  weight = quantizer.commitment_weight + (1.0 if quantizer.name == "vq" else 0.0)
  fall = 1 - mse / earlier
  poor = mse > Limits().reconstruction_mse
  return {
    "reconstruction_mse": mse,
    "flat_mse": mse if fall < Limits().improvement else fall * 0,
    "still_falling": fall,
    "overfit": mse / max(get("train/reconstruction_mse"), 1e-12),
    "perplexity_share": share,
    "saturated": share if poor else 0.0,
    "commitment_share": tied * get("val/quantization_loss") / max(loss, 1e-12),
    "latent_distance": get("val/quantization_loss") / max(weight * make_quantizer(quantizer).digits, 1e-12),
  }


def of_evaluation(values: Mapping[str, float], config: Config, *, done: float = 1.0) -> list[Finding]:
  """Findings of an evaluation during training."""
  return judge(checks(config), numbers(values, config), done=done)
