"""Which values of a config are in range, and which exclude each other."""

import math
from typing import TYPE_CHECKING, Any

from behavejax import config_codebook, config_geodesic, config_vivit
from behavejax.config_frames import check_frames
from behavejax.config_vqvae import check_vqvae
from behavejax.errors import InputError

if TYPE_CHECKING:
  from behavejax.config import Config, QuantizerConfig

SEGMENTING = ("hdp", "hmm", "hsmm")
"""Stages that segment codes, or features of recordings."""
_CHOICES = {
  "data.split": ("subject", "temporal"),
  "data.nan_strategy": ("zero", "mean", "median", "interpolate", "drop", "raise"),
  "data.table.time_unit": ("s", "ms"),
  "model.pool": ("token", "window"),
  "model.dtype": ("float32", "bfloat16"),
  "quantizer.gradient": ("straight_through", "rotation"),
  "segmentation.features.statistics": ("log", "linear", "none"),
  "segmentation.emission": ("gaussian", "diagonal", "autoregressive"),
  "segmentation.durations": ("geometric", "poisson", "negative_binomial", "log_normal", "gaussian", "categorical"),
  "segmentation.start": ("fresh", "stationary"),
  "segmentation.method": ("variational", "map", "stochastic", "gibbs", "gradient"),
  "train.schedule": ("warmup_cosine", "plateau"),
  "train.parallel": ("pmap", "sharding"),
  "train.keep_by": ("labels", "loss"),
  "evaluation.embedding": ("tsne", "pca", "none"),
  **config_vivit.CHOICES,
  **config_geodesic.CHOICES,
}
_POSITIVE = (
  "data.window_s", "data.stride_s", "model.kernel", "model.classifier_hidden", "model.classifier_segments",
  "train.batch_size",
  "train.learning_rate", "train.accumulate", "train.evaluations",
  "train.keep_best", "train.clip_norm", "evaluation.batch_size", "evaluation.ethogram_recordings",
  "data.simulate.subjects",
  "data.simulate.minutes", "data.simulate.rate_hz",
  "data.syllables.recordings", "data.syllables.steps", "data.syllables.channels", "data.syllables.subjects",
  "data.syllables.separation", "segmentation.features.window_s", "segmentation.features.step_s",
  "segmentation.states", "segmentation.lags",
  "segmentation.emission_strength", "segmentation.noise", "segmentation.max_duration_s",
  "segmentation.mean_duration_s", "segmentation.duration_strength", "segmentation.alpha", "segmentation.kappa",
  "segmentation.gamma", "segmentation.restarts", "segmentation.iterations", "segmentation.batch_size",
  "segmentation.learning_rate", "export.sharpness", "export.calibration", "export.opset",
  "qat.learning_rate", "qat.evaluations", "quantizer.num_codes", "quantizer.dim", "quantizer.restart_after",
  "quantizer.entropy_temperature", "quantizer.stages", "quantizer.groups", "data.devices",
  "finetune.learning_rate", "finetune.evaluations", "finetune.batch_size", "finetune.windows",
  "evaluation.synchrony_lag_s", "evaluation.synchrony_shuffles", *config_vivit.POSITIVE, *config_geodesic.POSITIVE,
)  # fmt: skip
_NOT_NEGATIVE = (
  "data.rate_hz", "data.clip", "data.table.rate_hz", "augment.rotation_deg", "augment.jitter",
  "augment.scale", "loss.reconstruction", "loss.classification", "loss.class_weight_power",
  "train.steps", "train.steps_per_call", "train.epochs", "train.weight_decay", "train.patience",
  "train.plateau_patience", "segmentation.features.components", "segmentation.temperature",
  "loss.quantization", "quantizer.commitment_weight", "quantizer.restart_seed",
  "segmentation.min_duration_s", "segmentation.tolerance", "segmentation.boundary_tolerance_s",
  "qat.epochs", "qat.steps",
  "quantizer.entropy_weight", "quantizer.orthogonality_weight",
  "finetune.epochs", "finetune.steps", "finetune.weight", "finetune.softness", "finetune.softness_end",
  "finetune.rounds",
  "data.pair.lag_s", *config_vivit.NOT_NEGATIVE, *config_geodesic.NOT_NEGATIVE,
)  # fmt: skip
_SHARES = (
  "data.val_fraction", "data.test_fraction", "data.simulate.gaps", "augment.time_warp", "augment.channel_dropout",
  "quantizer.decay", "model.dropout", "loss.label_smoothing", "train.warmup_fraction", "train.ema_decay",
  "segmentation.holdout", "evaluation.coverage", *config_vivit.SHARES, *config_geodesic.SHARES,
)  # fmt: skip

_MOST_CODES = 65_536  # of a composed quantizer
_MOST_LEVELS = 1000  # of a digit: with more, tanh at its end would round to a level too many


def check(config: "Config") -> None:
  """Raises `InputError` for values out of range and for settings that exclude each other."""
  for key, choices in _CHOICES.items():
    if _get(config, key) not in choices:
      raise InputError(f"config.{key} must be one of {', '.join(choices)}, got {_get(config, key)!r}")
  for keys, holds, demand in (
    (_POSITIVE, lambda v: v > 0, "above 0"),
    (_NOT_NEGATIVE, lambda v: v >= 0, "0 or more"),
    (_SHARES, lambda v: 0 <= v < 1, "in [0, 1)"),
  ):
    for key in keys:
      if not holds(_get(config, key)):
        raise InputError(f"config.{key} must be {demand}, got {_get(config, key)!r}")
  stride = config.model.token_stride
  if stride < 1 or stride & (stride - 1) or stride > 2 ** len(config.model.widths):
    raise InputError(
      f"config.model.token_stride must be a power of two up to {2 ** len(config.model.widths)} "
      f"(2 to the number of config.model.widths), got {stride}"
    )
  _check_quantizer(config.quantizer)
  for section in ("train", "finetune", "qat"):
    if _get(config, section).steps == 0 and _get(config, section).epochs == 0:
      raise InputError(f"config.{section}.steps and config.{section}.epochs are both 0: nothing to train")
  if config.loss.reconstruction == 0 and config.loss.classification == 0:
    raise InputError("config.loss.reconstruction and config.loss.classification are both 0: nothing to learn")
  if config.data.val_fraction + config.data.test_fraction >= 1:
    raise InputError("config.data.val_fraction and config.data.test_fraction leave nothing to train on")
  both = {str(s) for s in config.data.val_subjects} & {str(s) for s in config.data.test_subjects}
  if both:
    raise InputError(f"config.data.val_subjects and config.data.test_subjects share {', '.join(sorted(both))}")
  if not 0 <= config.data.pair.coupling <= 1:
    raise InputError(f"config.data.pair.coupling must be in [0, 1], got {config.data.pair.coupling!r}")
  if config.data.devices > 1 and config.data.fold:
    raise InputError(f"config.data.devices={config.data.devices} gives every device a row: set config.data.fold=False")
  if config.model.device_attention and not config.data.fold and config.data.devices == 1:
    raise InputError(
      "config.model.device_attention needs two rows per window: set config.data.fold=True or config.data.devices=2"
    )
  _check_segmentation(config)
  check_frames(config.frames)
  config_codebook.check(config.codebook)
  config_geodesic.check(config)
  check_vqvae(config)
  if not config.model.widths or min(config.model.widths) < 1:
    raise InputError(f"config.model.widths needs at least one number of filters, got {config.model.widths}")
  if not 11 <= config.export.opset <= 18:
    raise InputError(f"config.export.opset must be from 11 to 18, which tf2onnx writes, got {config.export.opset}")
  wanted = config.export.outputs
  if not {"logits", "codes"} <= set(wanted) <= {"logits", "codes", "embedding"} or len(set(wanted)) < len(wanted):
    raise InputError(f"config.export.outputs needs 'logits' and 'codes' and may have 'embedding', got {wanted}")
  if not config.stages:
    raise InputError("config.stages is empty: nothing to do")


def _check_quantizer(quantizer: "QuantizerConfig") -> None:
  name, levels, count = quantizer.name, quantizer.levels, quantizer.num_codes
  if not levels or not 2 <= min(levels) <= max(levels) <= _MOST_LEVELS:
    raise InputError(f"config.quantizer.levels needs at least one level, each from 2 to {_MOST_LEVELS}, got {levels}")
  if 2 in levels and not quantizer.symmetric:
    raise InputError(f"config.quantizer.levels {levels} holds 2, which needs config.quantizer.symmetric=True")
  if name != "fsq" and count < 2:
    raise InputError(f"config.quantizer.num_codes must be 2 or more, got {count}")
  if name == "lfq" and count & (count - 1):
    raise InputError(f"config.quantizer.num_codes must be a power of two for name=lfq, got {count}")
  if name in ("vq", "vq_ema") and quantizer.dim % quantizer.groups:
    raise InputError(
      f"config.quantizer.dim={quantizer.dim} cannot be cut into config.quantizer.groups={quantizer.groups} equal parts"
    )
  parts, size = quantizer.stages * quantizer.groups, math.prod(levels) if name == "fsq" else count
  if size**parts > _MOST_CODES and (parts > 1 or name == "lfq"):
    raise InputError(
      f"config.quantizer: {quantizer.stages} stages of {quantizer.groups} groups with {size} codes each are "
      f"{size**parts:,} codes, the most is {_MOST_CODES:,}: lower stages, groups, "
      f"{'levels' if name == 'fsq' else 'num_codes'}"
    )
  unit = {"lfq": "spherical", "vq": "cosine", "vq_ema": "cosine"}.get(name)
  if quantizer.stages > 1 and unit and getattr(quantizer, unit):
    raise InputError(
      f"config.quantizer.{unit}=True gives every code the length 1, so that further stages come no nearer: "
      "set config.quantizer.stages=1"
    )
  if quantizer.spherical and name != "lfq":
    raise InputError(f"config.quantizer.spherical=True is of name=lfq only, got name={name}")
  if quantizer.entropy_weight and name == "fsq":
    raise InputError("config.quantizer.entropy_weight has nothing to act on with name=fsq: set it to 0")
  if quantizer.orthogonality_weight and name != "vq":
    raise InputError(
      f"config.quantizer.orthogonality_weight moves codes that are parameters, of name=vq only, got name={name}"
    )


def _check_segmentation(config: "Config") -> None:
  settings, simulated = config.segmentation, config.data.syllables
  learned = [stage for stage in config.stages if stage in SEGMENTING]
  if learned and settings.states < 2:
    raise InputError(f"config.segmentation.states must be 2 or more, got {settings.states}")
  if settings.min_duration_s > settings.max_duration_s:
    raise InputError(
      f"config.segmentation.min_duration_s={settings.min_duration_s:g} is above "
      f"max_duration_s={settings.max_duration_s:g}"
    )
  if learned and settings.holdout and {"encoder", "codebook"} & {*config.stages}:
    raise InputError("config.segmentation.holdout is of features; codes are split as config.data is: set it to 0")
  for maker in ("encoder", "codebook") if learned else ():
    if maker in config.stages[config.stages.index(learned[0]) :]:
      raise InputError(f"config.stages has {maker!r} after {learned[0]!r}, which segments its codes: put it before")
  needed = ("encoder", "hsmm")
  if "finetune" in config.stages and not set(needed) <= set(config.stages[: config.stages.index("finetune")]):
    raise InputError(f"config.stages has 'finetune', which needs {' and '.join(map(repr, needed))} before it")
  if "finetune" in config.stages and settings.groups:
    raise InputError("config.segmentation.groups=True gives subjects transitions of their own, 'finetune' has but one")
  if learned and config.data.nan_strategy == "drop":
    raise InputError(
      "config.data.nan_strategy=drop leaves holes, and segments run through: choose another way to fill lost samples"
    )
  if settings.moves and settings.restarts < 2:
    raise InputError("config.segmentation.restarts must be 2 or more where config.segmentation.moves is on, got 1")
  if settings.moves and settings.method in ("gradient", "map"):
    raise InputError(
      f"config.segmentation.moves compares bounds, which method={settings.method} has not: set moves=False"
    )
  if simulated.states < 2 or not 1 < simulated.shortest <= simulated.longest:
    raise InputError(
      "config.data.syllables needs 2 states or more and 1 < shortest <= longest, got "
      f"{simulated.states} states, {simulated.shortest:g} and {simulated.longest:g}"
    )


def _get(config: Any, key: str) -> Any:
  for part in key.split("."):
    config = getattr(config, part)
  return config
