"""What a sweep judges its trials by, and which settings may vary beside it."""

import math
from collections.abc import Mapping

from behavejax.config import Config, did_you_mean
from behavejax.errors import Diverged, InputError
from behavejax.training import stages
from behavejax.training.sweep_space import Space

OBJECTIVES = {
  "val/score": "maximize",
  "val/accuracy": "maximize",
  "val/macro_f1": "maximize",
  "val/perplexity": "maximize",
  "val/code_usage": "maximize",
  "val/loss": "minimize",
  "val/cross_entropy": "minimize",
  "val/reconstruction_mse": "minimize",
  "val/quantization_loss": "minimize",
  "val/bits_per_spike": "maximize",
}
"""Validation metrics of what is judged, and which way is better; see `stages.JUDGED`."""
_OF_ALL = ("val/score", "val/loss")
_WEIGHED = {
  "val/score": ("train.keep_by",),
  "val/loss": (
    "loss",
    "quantizer.commitment_weight",
    "quantizer.entropy_weight",
    "quantizer.orthogonality_weight",
    "vqvae.reconstruction",
    "vqvae.huber_delta",
    "vqvae.perceptual",
    "vqvae.spectral",
  ),
  "val/cross_entropy": ("loss.label_smoothing",),
  "val/quantization_loss": ("quantizer",),
}
"""Settings that change what a metric means, so that trials could not be compared by it."""


def check(objective: str, direction: str | None, config: Config, space: Space) -> str:
  """The direction, or `InputError` for what is no validation metric of the encoder or means another thing by trial."""
  if objective.startswith(("test", "baseline")):
    raise InputError(
      f"--objective={objective}: settings are chosen on the validation split, the test split is for judging them once; "
      "choose val/score"
    )
  if objective not in OBJECTIVES:
    raise InputError(f"--objective={objective} is no validation metric{did_you_mean(objective, OBJECTIVES)}")
  if not set(stages.JUDGED) & set(config.stages):
    raise InputError(
      f"config.stages is {config.stages}: a sweep judges the encoder ({', '.join(stages.JUDGED)}), which is not among "
      "them"
    )
  if objective not in _OF_ALL and (objective == "val/bits_per_spike") != ("vivit" in config.stages):
    raise InputError(f"--objective={objective} is not measured by config.stages={config.stages}: choose val/score")
  by_loss = "encoder" in config.stages and config.train.keep_by == "loss"
  weighed, scored = _WEIGHED.get(objective, ()), ""
  if by_loss and objective == "val/score":
    weighed, scored = weighed + _WEIGHED["val/loss"], ", which is the loss here (config.train.keep_by),"
  other = "val/accuracy" if by_loss or objective == "val/score" else "val/score"
  for key in space:
    if key.startswith(weighed):
      raise InputError(f"--objective={objective}{scored} means another thing with another {key}: choose {other}")
  weights = space["loss.classification"].tried() if "loss.classification" in space else ()
  if 0 in weights:
    raise InputError("space: loss.classification reaches 0, where val/score is no longer that of the labels: raise low")
  if direction not in (None, "maximize", "minimize"):
    raise InputError(f"--direction must be maximize or minimize, got {direction!r}")
  return direction or OBJECTIVES[objective]


def value_of(objective: str, values: Mapping[str, float]) -> float:
  """The objective among the values of an evaluation; `InputError` or `Diverged` if it is none."""
  unlabelled = objective in ("val/accuracy", "val/cross_entropy") and "val/macro_f1" not in values
  if objective not in values or unlabelled:
    raise InputError(f"--objective={objective} needs labels and config.loss.classification above 0: choose val/score")
  if not math.isfinite(values[objective]):
    raise Diverged(f"{objective} is {values[objective]}")
  return values[objective]
