"""Behaviour moment by moment: the classifier of windows, the same smoothed over time, and what syllables say alone."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from behavejax.config import Config
from behavejax.data.devices import devices_first
from behavejax.data.streams import Streams
from behavejax.data.windows import window_starts
from behavejax.evaluation import metrics
from behavejax.evaluation.evaluate import predict, restore
from behavejax.evaluation.page import Block, Heading, Paragraph, Table
from behavejax.evaluation.tokens import in_batches
from behavejax.models import behaviours, syllables
from behavejax.models.syllables import Span, Steps
from behavejax.workdir import Workdir

_WEIGHTS = (0.05, 0.1, 0.2, 0.35, 0.5, 1.0)
_ROWS = {
  "window": "classifier of windows",
  "smoothed": "the same, smoothed by a semi-Markov model of behaviours",
  "syllables": "syllables alone, each with its most frequent behaviour",
}


class Frames(NamedTuple):
  """Class probabilities and labels at every step of each recording; labels are -1 where unknown."""

  log_probs: list[Float[np.ndarray, "step class"]]
  labels: list[Int[np.ndarray, " step"]]


def classify(
  workdir: Workdir, config: Config, streams: Streams, steps: Steps, states: Sequence[Int[np.ndarray, " time"]]
) -> tuple[dict[str, float], list[Block]]:
  """Scores `frames/NAME/...` on the test part, and the section of the report; nothing without labels or an encoder.

  The model of behaviours and the behaviour of each syllable come from the training part, the weight of the
  classifier's evidence from the validation part.
  """
  classes = streams.recordings[0].classes
  if steps.spans is None or not classes or not workdir.is_complete("encoder"):
    return {}, []
  frames = frame_probabilities(workdir, config, streams)
  found = {"window": [np.argmax(values, axis=1) for values in frames.log_probs]}
  found["smoothed"], weight = _smoothed(config, steps, frames, len(classes))
  found["syllables"] = _by_syllable(streams, steps, frames, states, len(classes))
  values, rows = {}, []
  for name, predicted in found.items():
    table = _confusion(streams, steps.spans["test"], predicted, len(classes))
    scores = {"accuracy": metrics.accuracy(table), "balanced_accuracy": metrics.balanced_accuracy(table),
              "macro_f1": metrics.macro_f1(table)}  # fmt: skip
    values |= {f"frames/{name}/{key}": value for key, value in scores.items()}
    rows.append([_ROWS[name], *(f"{value:.3f}" for value in scores.values())])
  return values | {"frames/weight": weight}, [
    Heading("Behaviour, sample by sample"),
    Table(("from", "accuracy", "balanced accuracy", "macro-F1"), rows),
    Paragraph(
      "Every labelled sample of the test part counts once. The probabilities of all windows that see a sample are "
      "averaged. Smoothing knows from the training part how long behaviours last and what follows what; the weight of "
      f"a moment's evidence, {weight:g}, is the one that did best on the validation part."
    ),
  ]


def frame_probabilities(workdir: Workdir, config: Config, streams: Streams) -> Frames:
  """Calibrated class probabilities at every step, averaged over the windows that see its middle."""
  model, variables, data = restore(workdir, config)
  val = predict(model, variables, data.val, config)
  temperature = metrics.fit_temperature(val.logits, val.labels)
  logits_of = jax.jit(lambda x: model.apply(variables, x).logits)
  length, devices = data.train.length, config.data.devices
  stride = max(round(config.data.stride_s * data.train.rate_hz), 1)
  parts = len(data.normalization.mean) // streams.recordings[0].signal.shape[1]  # streams of one recording, in a row
  log_probs, labels = [], []
  for first in range(0, len(streams.recordings), parts):
    together = streams.recordings[first : first + parts]
    signal = data.normalization.apply(np.concatenate([recording.signal for recording in together], axis=1))
    samples = len(signal)
    if len(signal) < length:
      signal = np.concatenate([signal, np.repeat(signal[-1:], length - len(signal), axis=0)])
    begins = window_starts(len(signal), length=length, stride=stride)
    windows = signal[begins[:, None] + np.arange(length)]
    windows = devices_first(windows, devices) if devices > 1 else windows.reshape(-1, *data.train.shape)
    probs = metrics.probabilities(in_batches(logits_of, windows, config.evaluation.batch_size), temperature=temperature)
    for starts, recording in zip(streams.starts[first : first + parts], together, strict=True):
      middle = (starts + np.append(starts[1:], samples)) // 2
      log_probs.append(np.log(np.maximum(covering_mean(probs, middle, length=length, stride=stride), 1e-12)))
      labels.append(recording.labels[middle].astype(np.int64))
  return Frames(log_probs, labels)


def covering_mean(
  values: Float[np.ndarray, "window class"], samples: Int[np.ndarray, " step"], *, length: int, stride: int
) -> Float[np.ndarray, "step class"]:
  """Mean over the windows that see a sample; behind the last window, that window's.

  >>> covering_mean(np.array([[0.0], [1.0], [4.0]]), np.array([0, 5, 9, 30]), length=8, stride=4).ravel().tolist()
  [0.0, 0.5, 2.5, 4.0]
  """
  last = np.minimum(samples // stride, len(values) - 1)
  first = np.minimum(np.maximum(-(-(samples - length + 1) // stride), 0), last)
  sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
  return (sums[last + 1] - sums[first]) / (last - first + 1)[:, None]


def _smoothed(
  config: Config, steps: Steps, frames: Frames, classes: int
) -> tuple[list[Int[np.ndarray, " step"]], float]:  # fmt: skip
  """The most probable behaviour of every step given the whole recording, and the weight of a step's evidence."""
  train = [frames.labels[span.recording][span.start : span.stop] for span in steps.spans["train"]]
  longest = min(max(round(config.segmentation.max_duration_s * steps.rate_hz), 2), max(map(len, train)))
  model = behaviours.fit(train, classes=classes, longest=longest)
  prior = behaviours.log_prior(np.concatenate(train), classes=classes, power=config.loss.class_weight_power)
  padded, lengths = syllables.stacked(frames.log_probs), np.array([len(values) for values in frames.log_probs])
  best = (-1.0, _WEIGHTS[0], [])
  for weight in _WEIGHTS:
    probs = behaviours.smooth(model, padded, lengths, log_prior=prior, weight=weight)
    predicted = [np.argmax(values, axis=1) for values in probs]
    table = np.zeros((classes, classes))
    for span in steps.spans["val"]:
      part = slice(span.start, span.stop)
      table += metrics.confusion(frames.labels[span.recording][part], predicted[span.recording][part], classes=classes)
    score = metrics.accuracy(table) + metrics.macro_f1(table)
    if score > best[0]:
      best = (score, weight, predicted)
  return best[2], best[1]


def _by_syllable(
  streams: Streams, steps: Steps, frames: Frames, states: Sequence[Int[np.ndarray, " time"]], classes: int
) -> list[Int[np.ndarray, " step"]]:  # fmt: skip
  """Each syllable's most frequent behaviour in the training part; where it does not occur, that of all."""
  per_step = [values[starts] for values, starts in zip(states, streams.starts, strict=True)]
  joint = np.zeros((max(int(values.max()) for values in per_step) + 1, classes))
  for span in steps.spans["train"]:
    part = slice(span.start, span.stop)
    labels, own = frames.labels[span.recording][part], per_step[span.recording][part]
    np.add.at(joint, (own[labels >= 0], labels[labels >= 0]), 1)
  behaviour = np.where(joint.sum(axis=1) > 0, joint.argmax(axis=1), joint.sum(axis=0).argmax())
  return [behaviour[values] for values in per_step]


def _confusion(
  streams: Streams, spans: Sequence[Span], predicted: Sequence[Int[np.ndarray, " step"]], classes: int
) -> metrics.Confusion:
  """Over the samples of some parts."""
  table = np.zeros((classes, classes))
  for span in spans:
    starts, labels = streams.starts[span.recording], streams.recordings[span.recording].labels.astype(np.int64)
    part = slice(starts[span.start], starts[span.stop] if span.stop < len(starts) else len(labels))
    found = streams.to_samples(span.recording, predicted[span.recording])
    table += metrics.confusion(labels[part], found[part], classes=classes)
  return table
