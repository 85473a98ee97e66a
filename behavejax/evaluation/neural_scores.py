"""Scores of a run's encoder on its test trials, beside baselines and, where it is known, the truth."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from behavejax.data.neural_prepare import NeuralData
from behavejax.evaluation import neural_metrics
from behavejax.evaluation.neural_baselines import constant_rates, fit_glm
from behavejax.evaluation.neural_run import CONV, Trained, predict, with_conv3d, with_data
from behavejax.workdir import Workdir

ENCODER, CONSTANT, GLM, TRUTH = "encoder", "constant", "glm", "achievable"


class Scores(NamedTuple):
  """Per neuron, NaN where not defined; see `neural_metrics`."""

  bits: Float[np.ndarray, " neuron"]
  correlation: Float[np.ndarray, " neuron"]
  feve: Float[np.ndarray, " neuron"]


class Judged(NamedTuple):
  """One data set.

  Attributes:
    name: of the recording.
    rates: expected counts of every frame, by model; NaN where the encoder predicts nothing.
    scores: by model.
    mask: what is scored: the test frames that the encoder predicts.
    without_behaviour: bits per spike of the encoder when the behaviour is always its mean, or None where there is none.
  """

  name: str
  rates: dict[str, Float[np.ndarray, "frame neuron"]]
  scores: dict[str, Scores]
  mask: Bool[np.ndarray, "frame neuron"]
  without_behaviour: Float[np.ndarray, " neuron"] | None


def judge(trained: Trained, workdir: Workdir) -> list[Judged]:
  """Scores every data set on its test trials; the convolutional core only where its stage is complete."""
  config, conv = trained.config, None
  if workdir.is_complete(CONV):
    conv = with_data(workdir, with_conv3d(config), trained.data, stage=CONV)
  return [_judge(trained, conv, i, data) for i, data in enumerate(trained.data)]


def _judge(trained: Trained, conv: Trained | None, number: int, data: NeuralData) -> Judged:
  rates = {
    ENCODER: predict(trained, number, data.test),
    CONSTANT: constant_rates(data),
    GLM: fit_glm(trained.config.neural.glm, data).rates,
  }
  if conv is not None:
    rates[CONV] = predict(conv, number, data.test)
  if data.recording.truth is not None and np.isfinite(data.recording.truth.rates).all():
    rates[TRUTH] = data.recording.truth.rates
  mask = data.recording.mask & np.isfinite(rates[ENCODER])
  without = None
  if data.recording.signals and trained.config.vivit.modulator:
    without = score(data, predict(trained, number, data.test, behaviour=False), mask).bits
  return Judged(data.name, rates, {name: score(data, own, mask) for name, own in rates.items()}, mask, without)


def score(data: NeuralData, rates: Float[np.ndarray, "frame neuron"], mask: Bool[np.ndarray, "frame neuron"]) -> Scores:
  """Bits per spike, correlation on single trials, and FEVE over repeats."""
  recording = data.recording
  sums = neural_metrics.score(rates, recording.spikes, mask)
  stimulus = neural_metrics.stimulus_numbers(recording.trial, recording.condition)
  explained = neural_metrics.explained_variance(rates, recording.spikes, mask, stimulus)
  return Scores(neural_metrics.bits_per_spike(sums), neural_metrics.correlation(sums), explained.feve)


def score_metrics(judged: list[Judged]) -> dict[str, float]:
  """Means over the neurons of all data sets and of each, by flat name; what is defined for none is left out."""
  values = {}
  for model in dict.fromkeys(name for own in judged for name in own.scores):
    prefix = {ENCODER: "test", TRUTH: TRUTH}.get(model, f"baseline/{model}")
    for measure in Scores._fields:
      having = [own for own in judged if model in own.scores]
      parts = [getattr(own.scores[model], measure) for own in having]
      name = f"{prefix}/{'bits_per_spike' if measure == 'bits' else measure}"
      values[name] = neural_metrics.mean_defined(np.concatenate(parts)).value
      if measure == "bits":
        values |= {f"{name}/{own.name}": neural_metrics.mean_defined(own.scores[model].bits).value for own in having}
  bits = np.concatenate([own.scores[ENCODER].bits for own in judged])
  values["test/undefined_neurons"] = float(np.isnan(bits).sum())
  if all(TRUTH in own.scores for own in judged):
    values["test/share_of_achievable"] = values["test/bits_per_spike"] / values[f"{TRUTH}/bits_per_spike"]
  gained = [own.scores[ENCODER].bits - own.without_behaviour for own in judged if own.without_behaviour is not None]
  if gained:
    values["behaviour/bits_gained"] = neural_metrics.mean_defined(np.concatenate(gained)).value
  return {name: float(value) for name, value in values.items() if np.isfinite(value)}
