"""Configuration: one frozen dataclass per section, and the door through which every value passes.

A file in `configs/` starts from `default_config()`, a plain `ml_collections.ConfigDict`, and changes
what it needs; the command line overrides single keys. `resolve` then turns the result into the
dataclasses below and refuses, by name, every unknown key, wrong type and impossible combination.
"""

import dataclasses
import difflib
import typing
from typing import Any

import ml_collections

from behavejax import config_checks, config_neural, config_vivit
from behavejax.config_codebook import CodebookConfig
from behavejax.config_frames import FramesConfig
from behavejax.config_geodesic import GenerateConfig, PriorConfig, VaeConfig
from behavejax.config_neural import NeuralDataConfig
from behavejax.config_vivit import ReadoutConfig, VivitConfig
from behavejax.config_vqvae import VqvaeConfig
from behavejax.errors import InputError


@dataclasses.dataclass(frozen=True)
class SimulateConfig:
  """The embedded quadruped (`data.name = "quadruped"`)."""

  subjects: int = 8  # animals, named "1", "2", ...
  minutes: float = 6.0  # length of each animal's recording
  rate_hz: float = 50.0
  noise: float = 1.0  # 1 is a good collar, 3 a loose one
  gaps: float = 0.01  # share of samples lost in gaps


@dataclasses.dataclass(frozen=True)
class PairConfig:
  """Two animals of which the second follows the first (`data.name = "pair"`); the rest is as in `simulate`."""

  lag_s: float = 1.0  # of the second behind the first
  coupling: float = 0.7  # probability that the second joins in a bout of the first, else it goes its own way


@dataclasses.dataclass(frozen=True)
class SyllablesConfig:
  """Features drawn from a hidden semi-Markov model (`data.name = "syllables"`)."""

  states: int = 6
  recordings: int = 20
  steps: int = 2000  # per recording
  channels: int = 4
  subjects: int = 1  # that differ in how they use the states
  separation: float = 2.0  # of the states' means, in sd of the noise
  shortest: float = 10.0  # mean durations, in steps, are drawn from here
  longest: float = 60.0


@dataclasses.dataclass(frozen=True)
class TableConfig:
  """Columns of a CSV or Parquet file (`data.name = "table"`)."""

  signal: tuple[str, ...] = ()  # () takes every numeric column not named below
  time: str = ""  # time-stamp column; "" trusts rate_hz
  time_unit: str = "s"  # s or ms
  rate_hz: float = 0.0  # 0 infers it from the time column
  label: str = ""
  subject: str = ""
  session: str = ""


@dataclasses.dataclass(frozen=True)
class QualityConfig:
  """Thresholds of the quality assurance; `strict` turns its warnings into an error."""

  max_nan_percent: float = 5.0
  max_inf_percent: float = 1.0
  min_std: float = 0.01
  max_std: float = 50.0
  channels: int = 0  # expected number of channels; 0 accepts any
  min_usage: float = 0.2
  min_perplexity: float = 4.0
  strict: bool = False


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """From a source of recordings to windows."""

  name: str = "quadruped"  # a key of `behavejax.data.sources.SOURCES`
  root: str = ""  # "" is $BEHAVEJAX_DATA, else ./data
  path: str = ""  # file or folder below root, where the source does not know its own
  channels: tuple[str, ...] = ()  # subset and order; () keeps all
  rate_hz: float = 0.0  # resample to this rate; 0 keeps the recording's own
  window_s: float = 4.0
  stride_s: float = 2.0
  fold: bool = True  # [T, C] -> [2, T/2, C]; otherwise [1, T, C]
  devices: int = 1  # worn at once: [T, D C] -> [D, T, C], channels of the first device first; takes fold=False
  split: str = "subject"  # subject | temporal
  val_subjects: tuple[Any, ...] = ()
  test_subjects: tuple[Any, ...] = ()
  val_fraction: float = 0.15  # of subjects or of time, where no list is given
  test_fraction: float = 0.2
  nan_strategy: str = "interpolate"  # zero | mean | median | interpolate | drop | raise
  clip: float = 0.0  # clip to +-clip before repair; 0 leaves values alone
  simulate: SimulateConfig = SimulateConfig()
  pair: PairConfig = PairConfig()
  syllables: SyllablesConfig = SyllablesConfig()
  table: TableConfig = TableConfig()
  quality: QualityConfig = QualityConfig()


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
  """Random distortions of a training window; 0 turns one off."""

  rotation_deg: float = 0.0  # largest angle of a random rotation of each sensor triad
  jitter: float = 0.0  # sd of added white noise, in units of the channel's sd
  scale: float = 0.0  # sd of a gain around 1, per channel
  time_warp: float = 0.0  # largest relative change of speed
  channel_dropout: float = 0.0  # probability that a channel is set to its mean


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Conv2d encoder, decoder and classifier."""

  gains: tuple[float, ...] = (4.0, 32.0)  # amplified copies of the input; () for none
  widths: tuple[int, ...] = (64, 128, 128)  # filters of the encoder's stages
  kernel: int = 5
  dilations: tuple[int, ...] = (1, 2, 4)  # residual blocks after each stage; () for none
  token_stride: int = 4  # samples per token, a power of two up to 2 ** len(widths)
  pool: str = "token"  # token: a code per time step; window: one code per window
  device_attention: bool = False  # let the two rows of a window see each other
  decoder_widths: tuple[int, ...] = (64, 64)
  classifier_hidden: int = 256
  classifier_dilations: tuple[int, ...] = (1, 2, 4)  # temporal context over tokens; () for none
  classifier_segments: int = 3  # stretches of each row that are pooled apart
  dropout: float = 0.3
  dtype: str = "float32"  # compute type; parameters stay float32


@dataclasses.dataclass(frozen=True)
class QuantizerConfig:
  """Finite scalar (`fsq`), lookup-free (`lfq`) or vector quantization, its codes parameters (`vq`) or means (`vq_ema`).

  Every stage of every group is a quantizer as `levels` or `num_codes` say; a token counts all their codes, of which
  there may be 65 536. Weights are relative to `loss.quantization`.
  """

  name: str = "fsq"  # a key of `behavejax.models.quantizer.QUANTIZERS`
  levels: tuple[int, ...] = (8, 6, 5)  # fsq only
  symmetric: bool = False  # fsq only
  spherical: bool = False  # lfq only: vectors and codes of length 1
  num_codes: int = 256  # not fsq; a power of two for lfq, which has a dimension per bit
  dim: int = 16  # of a vector, all groups together; from here on vq and vq_ema only
  cosine: bool = False  # compare directions instead of positions
  gradient: str = "straight_through"  # straight_through | rotation
  commitment_weight: float = 0.25  # lfq too
  decay: float = 0.99  # of the running average
  restart_after: int = 100  # steps out of use until a code is moved, vq_ema only
  restart_seed: int = 0
  entropy_weight: float = 0.0  # of a penalty that wants each vector sure of its code and all codes used; lfq too
  entropy_temperature: float = 1.0
  orthogonality_weight: float = 0.0  # of a penalty on codes of like direction, vq only
  stages: int = 1  # residual quantization: each stage quantizes what the ones before it left
  groups: int = 1  # parts of a vector that are quantized apart


@dataclasses.dataclass(frozen=True)
class LossConfig:
  reconstruction: float = 1.0
  classification: float = 1.0
  quantization: float = 0.25  # of the distance between latent vectors and their codes; fsq has none
  label_smoothing: float = 0.1
  class_weight_power: float = 0.5  # weight of a class = (1 / frequency) ** power, mean 1; 0 is none


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  batch_size: int = 64  # over all devices and processes
  epochs: float = 30.0
  steps: int = 0  # overrides epochs
  steps_per_call: int = 0  # steps in one compiled call; 0 is 1 on a CPU and 8 elsewhere
  learning_rate: float = 2e-3
  schedule: str = "warmup_cosine"  # warmup_cosine | plateau
  warmup_fraction: float = 0.05
  plateau_factor: float = 0.5
  plateau_patience: int = 3  # evaluations
  weight_decay: float = 0.01
  clip_norm: float = 1.0
  accumulate: int = 1  # micro-batches per update
  ema_decay: float = 0.998  # 0 evaluates the raw parameters
  evaluations: int = 15  # over the whole run, evenly spaced
  patience: int = 0  # evaluations without a better score before stopping; 0 never stops early
  keep_best: int = 3
  keep_by: str = "labels"  # windows: labels (the reconstruction where there are none) | loss: of the validation part
  parallel: str = "pmap"  # pmap | sharding


@dataclasses.dataclass(frozen=True)
class FeaturesConfig:
  """From recordings to the steps that are segmented."""

  statistics: str = "log"  # mean and spread of windows, spread as log | linear; none: the samples themselves
  window_s: float = 1.0
  step_s: float = 0.5
  components: float = 0.95  # principal components: a number, or below 1 a share of the variance; 0 keeps all


@dataclasses.dataclass(frozen=True)
class SegmentationConfig:
  """HDP-HSMM (stage `hsmm`)."""

  features: FeaturesConfig = FeaturesConfig()
  groups: bool = False  # own weights and transitions for every subject
  states: int = 20  # the most there may be
  emission: str = "gaussian"  # gaussian | diagonal | autoregressive
  lags: int = 1  # past steps, autoregressive only
  emission_strength: float = 1.0  # of the prior, in steps
  noise: float = 1.0  # variance that the prior expects within a state, features having unit variance
  durations: str = "negative_binomial"  # a name in `behavejax.segmentation.durations.NAMES`
  max_duration_s: float = 20.0  # of a segment; cost grows with it
  min_duration_s: float = 0.0  # of a segment; a shorter one takes the evidence of 10 to 20 nats
  mean_duration_s: float = 5.0  # that the prior expects
  duration_strength: float = 1.0  # of the prior, in segments
  alpha: float = 4.0  # transitions follow the shared weights as if seen this often
  kappa: float = 20.0  # subjects' weights follow the shared ones
  gamma: float = 4.0  # larger expects more states
  temperature: float = 0.0  # divides log likelihoods (not of `hdp`); 0 is the overlap of windows or codes, 1 is none
  start: str = "fresh"  # fresh | stationary: recordings begin inside a segment
  right_censored: bool = True  # the last segment may go on after the recording
  method: str = "variational"  # variational | map | stochastic | gibbs | gradient
  restarts: int = 4
  iterations: int = 20  # of each start
  batch_size: int = 4  # recordings per step, stochastic and gradient only
  learning_rate: float = 0.02  # gradient only
  tolerance: float = 1e-5  # relative gain of the bound below which a start has converged
  moves: bool = True  # propose to do with fewer states; not with methods map and gradient, which have no bound
  holdout: float = 0.0  # share of the recordings left out of learning; their scaling and components are everyone's
  boundary_tolerance_s: float = 0.5


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
  batch_size: int = 256
  random_forest: bool = True
  embedding: str = "tsne"  # tsne | pca | none
  ethogram_recordings: int = 4
  coverage: float = 0.9  # that label sets are made to have
  synchrony_lag_s: float = 5.0  # furthest lead or lag of two devices that is looked at
  synchrony_shuffles: int = 200


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
  """Encoder and syllables together (stage `finetune`); the rest is as in `train`."""

  epochs: float = 3.0
  steps: int = 0  # overrides epochs
  learning_rate: float = 2e-4
  evaluations: int = 6
  batch_size: int = 4  # stretches of recording per step
  windows: int = 16  # per stretch, end to end
  weight: float = 0.1  # of the negative log likelihood per step
  softness: float = 1.0  # of the codes that the likelihood sees, at the start; 0 from the start is hard codes
  softness_end: float = 0.1
  rounds: int = 4  # of EM for the syllables afterwards, on the new codes; kept if better on the validation part


@dataclasses.dataclass(frozen=True)
class QatConfig:
  """Quantization-aware fine-tuning (stage `qat`); the rest is as in `train`."""

  epochs: float = 3.0
  steps: int = 0  # overrides epochs
  learning_rate: float = 2e-5
  evaluations: int = 3


@dataclasses.dataclass(frozen=True)
class ExportConfig:
  """Package for a device; none of it changes what was learned."""

  outputs: tuple[str, ...] = ("logits", "codes")  # also: embedding
  sharpness: float = 4096.0  # of a step of the staircase quantizer, in 1 / unit of z
  opset: int = 13  # of ONNX
  calibration: int = 1024  # training windows that measure the ranges of activations


@dataclasses.dataclass(frozen=True)
class Config:
  seed: int = 0
  stages: tuple[str, ...] = ("encoder",)
  data: DataConfig = DataConfig()
  frames: FramesConfig = FramesConfig()
  vqvae: VqvaeConfig = VqvaeConfig()
  augment: AugmentConfig = AugmentConfig()
  model: ModelConfig = ModelConfig()
  quantizer: QuantizerConfig = QuantizerConfig()
  loss: LossConfig = LossConfig()
  train: TrainConfig = TrainConfig()
  segmentation: SegmentationConfig = SegmentationConfig()
  evaluation: EvaluationConfig = EvaluationConfig()
  finetune: FinetuneConfig = FinetuneConfig()
  qat: QatConfig = QatConfig()
  codebook: CodebookConfig = CodebookConfig()
  export: ExportConfig = ExportConfig()
  neural: NeuralDataConfig = NeuralDataConfig()  # noqa: RUF009  (it is frozen)
  vivit: VivitConfig = VivitConfig()  # noqa: RUF009
  readout: ReadoutConfig = ReadoutConfig()  # noqa: RUF009
  vae: VaeConfig = VaeConfig()
  prior: PriorConfig = PriorConfig()
  generate: GenerateConfig = GenerateConfig()


def default_config() -> ml_collections.ConfigDict:
  """The defaults as a ConfigDict, for a file in `configs/` to start from."""
  return ml_collections.ConfigDict(dataclasses.asdict(Config()))


def resolve(config: ml_collections.ConfigDict | dict[str, Any]) -> Config:
  """ConfigDict or plain dictionary -> `Config`.

  Raises:
    InputError: an unknown key (with the nearest known one), a value of the wrong type, or a
      combination that cannot work; the message names the key.
  """
  plain = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else dict(config)
  resolved = _section(Config, plain, "config")
  config_checks.check(resolved)
  config_neural.check(resolved)
  config_vivit.check(resolved)
  return resolved


def to_dict(config: Config) -> dict[str, Any]:
  """`Config` -> nested dictionary of JSON values (tuples become lists)."""
  return dataclasses.asdict(config)


def _section(section: type, values: dict[str, Any], path: str) -> Any:
  fields = {field.name: field for field in dataclasses.fields(section)}
  for key in values:
    if key not in fields:
      raise InputError(f"{path}.{key} is not a setting{did_you_mean(key, fields)}")
  types = typing.get_type_hints(section)
  return section(**{key: _value(types[key], value, f"{path}.{key}") for key, value in values.items()})


def _value(kind: Any, value: Any, path: str) -> Any:
  if dataclasses.is_dataclass(kind):
    if not isinstance(value, dict):
      raise InputError(f"{path} must be a section of settings, got {value!r}")
    return _section(kind, value, path)
  if typing.get_origin(kind) is tuple:
    if not isinstance(value, list | tuple):
      raise InputError(f"{path} must be a tuple such as (a, b), got {value!r}")
    element = typing.get_args(kind)[0]
    return tuple(_value(element, item, f"{path}[{i}]") for i, item in enumerate(value))
  if kind is Any:
    return value
  if kind is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
    raise InputError(f"{path} must be of type {kind.__name__}, got {value!r}")
  return value


def did_you_mean(word: str, known: Any) -> str:
  """`"; did you mean 'x'?"` for the nearest known word, else the list of all."""
  known = [str(k) for k in known]
  near = difflib.get_close_matches(str(word), known, n=1)
  return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
