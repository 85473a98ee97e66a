"""From a learned HDP-HSMM to its report: states of whole recordings beside what simpler methods make of them."""

import json
import os
from collections.abc import Sequence

import numpy as np

from behavejax.config import Config, SegmentationConfig
from behavejax.config_checks import SEGMENTING
from behavejax.data.streams import Streams, whiten
from behavejax.errors import InputError
from behavejax.evaluation import findings, finetuned, frames, segments
from behavejax.evaluation import metrics as metrics_lib
from behavejax.evaluation import segment_baselines as baselines
from behavejax.evaluation.page import Block
from behavejax.evaluation.segment_report import Fitted, write_segment_report
from behavejax.evaluation.segments import Segmentation
from behavejax.evaluation.steps import (
  held_out_labels,
  latest_syllables,
  load_steps,
  mixture_clusters,
  read_syllables,
)
from behavejax.evaluation.synchrony_report import synchrony_blocks
from behavejax.models import hidden_markov, syllables
from behavejax.models.syllables import Steps
from behavejax.workdir import Workdir, read_metrics, write_json

_SMOOTH_S = 1.0
_COMPONENTS = 10  # of the shares of codes, for a mixture of Gaussians
_MIXTURES = (2, 4, 6, 8, 12, 16, 20, 30)


def segment(folder: str | os.PathLike) -> dict[str, float]:
  """Writes `segments/` of a run and returns its metrics.

  Raises:
    InputError: the folder holds no finished segmentation, or the data it was learned from are gone.
  """
  workdir = Workdir(folder)
  config = workdir.read_config()
  if not workdir.is_complete("hsmm"):
    raise InputError(f"stage 'hsmm' of {workdir.path} is not complete; repeat the command to finish it")
  streams, steps = load_steps(workdir, config)
  latest = latest_syllables(workdir)
  segmentation, fitted, numbers = _decode(workdir, config.segmentation, streams, steps, stage=latest)
  tolerance, known = config.segmentation.boundary_tolerance_s, held_out_labels(streams, steps)

  def scores(found: Segmentation) -> dict[str, float]:
    return segments.scores(found._replace(labels=known), tolerance_s=tolerance)

  rows = {"HDP-HSMM": scores(segmentation) | _silhouettes(streams, steps, segmentation)}
  if workdir.is_complete("hmm"):
    simpler = _decode(workdir, syllables.plain_hmm(config.segmentation), streams, steps, stage="hmm")[0]
    rows["HDP-HMM (geometric durations)"] = scores(simpler)
  if workdir.is_complete("hdp"):
    rows["HDP mixture (single steps)"] = scores(_segmentation(streams, mixture_clusters(workdir, config, steps)))
  for name, states in _baselines(config, streams, steps, used=max(int(rows["HDP-HSMM"]["segments/states"]), 1)).items():
    rows[name] = scores(_segmentation(streams, states))
  sections = [
    frames.classify(workdir, config, streams, steps, segmentation.states),
    finetuned.compare(workdir, config),
    _synchrony(workdir, config, segmentation),
  ]
  metrics = rows["HDP-HSMM"] | numbers
  for values, _ in sections:
    metrics |= values
  for name, values in list(rows.items())[1:]:
    key = name.split(" (")[0].lower().replace(" ", "_").replace("-", "_").replace("+_", "")
    metrics |= {f"baseline/{key}/{what.removeprefix('segments/')}": value for what, value in values.items()}
  write_segment_report(
    workdir.path / "segments", segmentation, fitted, rows,
    title=f"Segments without labels: {config.data.name}", tolerance_s=tolerance,
    history=[row for row in read_metrics(workdir.metrics_file) if row["stage"] in SEGMENTING],
    held_out=steps.spans is not None, findings=_findings(config, workdir, segmentation, fitted),
    further=[block for _, blocks in sections for block in blocks],
  )  # fmt: skip
  write_json(workdir.path / "segments" / "metrics.json", metrics)
  return metrics


def _findings(config: Config, workdir: Workdir, segmentation: Segmentation, fitted: Fitted) -> list[Block]:
  """The section of the report on what is wrong with the states, and with the time they took."""
  minutes = sum(map(len, segmentation.states)) / segmentation.rate_hz / 60
  num_states, longest = fitted.durations.shape
  numbers = findings.state_values(
    segments.usage(segmentation.states, num_states=num_states),
    fitted.durations @ np.arange(1, longest + 1) / np.maximum(fitted.durations.sum(1), 1e-12),
    transitions_per_minute=segments.transition_counts(segmentation.states, num_states=num_states).sum() / minutes,
    longest=longest,
    in_use=segments.IN_USE,
  )
  seconds = {}
  for marker in (workdir.path / "stages").glob("*/complete"):
    summary = json.loads(marker.read_text())
    if "seconds" in summary:
      seconds[marker.parent.name] = float(summary["seconds"])
  return findings.blocks(findings.state_checks(config), numbers | findings.time_share(seconds))


def _synchrony(
  workdir: Workdir, config: Config, segmentation: Segmentation
) -> tuple[dict[str, float], list[Block]]:  # fmt: skip
  """How two devices go together; nothing where a recording is a single stream."""
  first = [name for name in segmentation.names if name.endswith("/device1")]
  if config.data.devices != 2 or not first:
    return {}, []
  return synchrony_blocks(
    segmentation.states[::2], segmentation.states[1::2], [name.removesuffix("/device1") for name in first],
    rate_hz=segmentation.rate_hz, lag_s=config.evaluation.synchrony_lag_s,
    shuffles=config.evaluation.synchrony_shuffles, seed=config.seed,
    attention=config.model.device_attention and workdir.is_complete("encoder"),
  )  # fmt: skip


def _silhouettes(streams: Streams, steps: Steps, segmentation: Segmentation) -> dict[str, float]:
  """How far states, and behaviours, lie apart in the features that segmentations start from."""
  features = np.concatenate(syllables.start_features(steps))
  found = {}
  for name, groups in (("silhouette", segmentation.states), ("silhouette_behaviours", segmentation.labels)):
    per_step = np.concatenate([values[starts] for values, starts in zip(groups, streams.starts, strict=True)])
    found[f"segments/{name}"] = metrics_lib.silhouette(features, per_step)
  return {name: value for name, value in found.items() if np.isfinite(value)}


def comparison_table(metrics: dict[str, float]) -> str:
  """The scores of a segmentation and its baselines as a small text table."""
  columns = {
    "v_measure": "V-measure", "adjusted_rand": "adj. Rand", "boundary_f1": "boundary F1",
    "recording_adjusted_rand": "Rand/rec.", "recording_boundary_f1": "F1/rec.", "states": "states",
  }  # fmt: skip
  names = ["segments", *dict.fromkeys(key.rsplit("/", 1)[0] for key in metrics if key.startswith("baseline/"))]
  shown = [key for key in columns if f"segments/{key}" in metrics]
  lines = [f"{'':<34}" + "".join(f"{columns[key]:>13}" for key in shown)]
  for name in names:
    label = "HDP-HSMM" if name == "segments" else name.removeprefix("baseline/").replace("_", " ")
    cells = (
      f"{metrics[f'{name}/{key}']:>13.0f}" if key == "states" else f"{metrics[f'{name}/{key}']:>13.3f}" for key in shown
    )
    lines.append(f"{label:<34}" + "".join(cells))
  for name, label in {"window": "classifier", "smoothed": "smoothed", "syllables": "syllables alone"}.items():
    if f"frames/{name}/accuracy" in metrics:
      scores = (f"{key} {metrics[f'frames/{name}/{what}']:.3f}" for what, key in
                (("accuracy", "accuracy"), ("macro_f1", "macro-F1")))  # fmt: skip
      lines.append(f"{'behaviour by sample, ' + label:<38}{', '.join(scores)}")
  if "finetune/log_likelihood_per_step_before" in metrics:
    lines.append("fine-tuning, held out: " + ", ".join(
      f"{label} {metrics[f'finetune/{key}_before']:.3f} -> {metrics[f'finetune/{key}_after']:.3f}"
      for key, label in (("log_likelihood_per_step", "log likelihood per step"), ("accuracy", "accuracy"))
      if f"finetune/{key}_before" in metrics
    ))  # fmt: skip
  return "\n".join(lines)


def _decode(
  workdir: Workdir, settings: SegmentationConfig, streams: Streams, steps: Steps, *, stage: str
) -> tuple[Segmentation, Fitted, dict[str, float]]:
  segmenter, parameters = read_syllables(workdir, settings, steps, stage=stage)
  decoded = syllables.decode_all(segmenter, parameters, syllables.make_batch(segmenter, steps))
  found = _segmentation(streams, [d.states for d in decoded], [d.probabilities for d in decoded])
  found = found._replace(entropies=[streams.to_samples(i, d.entropy) for i, d in enumerate(decoded)])
  fitted = Fitted(*syllables.fitted_tables(segmenter, parameters), 1 / steps.rate_hz)
  history = [row for row in read_metrics(workdir.metrics_file) if row["stage"] == stage]
  last = {key: value for key, value in history[-1].items() if key.startswith(f"{stage}/")} if history else {}
  return found, fitted, last


def _segmentation(
  streams: Streams, states: Sequence[np.ndarray], probabilities: Sequence[np.ndarray] | None = None
) -> Segmentation:
  recordings = streams.recordings
  ones = [np.ones(len(part)) for part in states]
  return Segmentation(
    states=[streams.to_samples(i, part) for i, part in enumerate(states)],
    probabilities=[streams.to_samples(i, part) for i, part in enumerate(probabilities or ones)],
    labels=[recording.labels.astype(np.int64) for recording in recordings],
    names=tuple(recording.name for recording in recordings),
    subjects=tuple(recording.subject for recording in recordings),
    classes=recordings[0].classes,
    rate_hz=recordings[0].rate_hz,
  )


def _baselines(config: Config, streams: Streams, steps: Steps, *, used: int) -> dict[str, list[np.ndarray]]:
  """A hidden Markov model, and clusters of single steps smoothed over a second: what the field does otherwise.

  Like the syllables they are learned from the training part, where there is one.
  """
  features = streams.values if not steps.levels else syllables.start_features(steps)
  learn_from = _training_part(steps._replace(values=features)).values
  samples, components = sum(map(len, learn_from)), features
  in_use = np.count_nonzero(np.concatenate(learn_from).max(axis=0))
  if steps.levels and in_use > 1:  # shares of codes, which sum to 1
    components, _ = whiten(features, min(_COMPONENTS, in_use - 1, samples), learn_from)
  parts = _training_part(steps._replace(values=components)).values
  width = 2 * max(round(_SMOOTH_S * steps.rate_hz / 2), 1) + 1
  dwell = max(round(_SMOOTH_S * steps.rate_hz), 1)
  clusters = baselines.kmeans(features, min(used, samples), seed=config.seed, learn_from=learn_from)
  counts = [count for count in _MIXTURES if count <= min(config.segmentation.states, samples // 2)]
  mixture = baselines.gaussian_mixture(components, counts or [1], seed=config.seed, learn_from=parts)
  return {
    f"HMM ({used} states)": _plain_hmm(config, steps, used, seed=config.seed),
    f"k-means + median filter ({used} clusters)": [baselines.mode_filter(states, width) for states in clusters],
    "k-means + minimum dwell": [baselines.minimum_dwell(states, dwell) for states in clusters],
    "GMM (BIC) + median filter": [baselines.mode_filter(states, width) for states in mixture.states],
  }


def _training_part(steps: Steps) -> Steps:
  return steps if steps.spans is None else syllables.select(steps, steps.spans["train"])


def _plain_hmm(config: Config, steps: Steps, states: int, *, seed: int) -> list[np.ndarray]:
  """Baum-Welch from k-means clusters, on the features and with the emission of the HDP-HSMM."""
  segmenter = syllables.make_segmenter(config.segmentation, steps)
  emission, part = segmenter.emission, _training_part(steps)
  clusters = syllables.stacked(baselines.kmeans(syllables.start_features(part), states, seed=seed))
  known = syllables.make_batch(segmenter, part)
  model, _ = hidden_markov.fit(emission, known.observed, known.mask, np.eye(states, dtype=np.float32)[clusters])
  batch = syllables.make_batch(segmenter, steps)
  found = np.asarray(hidden_markov.best_states(emission, model, batch.observed, batch.mask))
  return [path[on] for path, on in zip(found, batch.mask, strict=True)]
