"""From a learned HDP-HSMM to its report: states of whole recordings beside what simpler methods make of them."""

import os
from collections.abc import Sequence

import numpy as np

from behavejax.config import Config, SegmentationConfig
from behavejax.data.streams import Streams, make_streams
from behavejax.errors import InputError
from behavejax.evaluation import segment_baselines as baselines
from behavejax.evaluation import segments
from behavejax.evaluation.segment_report import Fitted, write_segment_report
from behavejax.evaluation.segments import Segmentation
from behavejax.evaluation.tokens import token_streams
from behavejax.models import hidden_markov, syllables
from behavejax.models.syllables import Steps
from behavejax.workdir import Workdir, read_metrics, write_json

_SMOOTH_S = 1.0
_MIXTURES = (2, 4, 6, 8, 12, 16, 20, 30)


def load_steps(workdir: Workdir, config: Config) -> tuple[Streams, Steps]:
  """What is segmented: codes where the run has an encoder, else features of the recordings."""
  if workdir.is_complete("encoder"):
    streams, levels = token_streams(workdir, config)
  else:
    streams, levels = make_streams(config.data, config.segmentation.features, config.seed), ()
  subjects = [recording.subject for recording in streams.recordings]
  names = list(dict.fromkeys(subjects))
  groups = np.array([names.index(subject) for subject in subjects], np.int32)
  return streams, Steps(streams.values, groups, levels, streams.rate_hz, streams.overlap)


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
  segmentation, fitted, numbers = _decode(workdir, config.segmentation, streams, steps, stage="hsmm")
  tolerance = config.segmentation.boundary_tolerance_s
  rows = {"HDP-HSMM": segments.scores(segmentation, tolerance_s=tolerance)}
  if workdir.is_complete("hmm"):
    simpler = _decode(workdir, syllables.plain_hmm(config.segmentation), streams, steps, stage="hmm")[0]
    rows["HDP-HMM (geometric durations)"] = segments.scores(simpler, tolerance_s=tolerance)
  for name, states in _baselines(config, streams, steps, used=max(int(rows["HDP-HSMM"]["segments/states"]), 1)).items():
    rows[name] = segments.scores(_segmentation(streams, states), tolerance_s=tolerance)
  metrics = rows["HDP-HSMM"] | numbers
  for name, values in list(rows.items())[1:]:
    key = name.split(" (")[0].lower().replace(" ", "_").replace("-", "_").replace("+_", "")
    metrics |= {f"baseline/{key}/{what.removeprefix('segments/')}": value for what, value in values.items()}
  write_segment_report(
    workdir.path / "segments", segmentation, fitted, rows,
    title=f"Segments without labels: {config.data.name}", tolerance_s=tolerance,
    history=[row for row in read_metrics(workdir.metrics_file) if row["stage"] == "hsmm"],
  )  # fmt: skip
  write_json(workdir.path / "segments" / "metrics.json", metrics)
  return metrics


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
  return "\n".join(lines)


def _decode(
  workdir: Workdir, settings: SegmentationConfig, streams: Streams, steps: Steps, *, stage: str
) -> tuple[Segmentation, Fitted, dict[str, float]]:
  segmenter = syllables.make_segmenter(settings, steps)
  batch = syllables.make_batch(segmenter, steps)
  learned = workdir.read_result(stage, syllables.learned_like(segmenter, batch))
  decoded = syllables.decode_all(segmenter, learned.parameters, batch)
  found = _segmentation(streams, [d.states for d in decoded], [d.probabilities for d in decoded])
  fitted = Fitted(*syllables.fitted_tables(segmenter, learned.parameters), 1 / steps.rate_hz)
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
  """A hidden Markov model, and clusters of single steps smoothed over a second: what the field does otherwise."""
  features = streams.values if not steps.levels else syllables.start_features(steps)
  samples = sum(map(len, features))
  width = 2 * max(round(_SMOOTH_S * steps.rate_hz / 2), 1) + 1
  dwell = max(round(_SMOOTH_S * steps.rate_hz), 1)
  clusters = baselines.kmeans(features, min(used, samples), seed=config.seed)
  counts = [count for count in _MIXTURES if count <= min(config.segmentation.states, samples // 2)]
  mixture = baselines.gaussian_mixture(features, counts or [1], seed=config.seed)
  return {
    f"HMM ({used} states)": _plain_hmm(config, steps, used, seed=config.seed),
    f"k-means + median filter ({used} clusters)": [baselines.mode_filter(states, width) for states in clusters],
    "k-means + minimum dwell": [baselines.minimum_dwell(states, dwell) for states in clusters],
    "GMM (BIC) + median filter": [baselines.mode_filter(states, width) for states in mixture.states],
  }


def _plain_hmm(config: Config, steps: Steps, states: int, *, seed: int) -> list[np.ndarray]:
  """Baum-Welch from k-means clusters, on the features and with the emission of the HDP-HSMM."""
  segmenter = syllables.make_segmenter(config.segmentation, steps)
  emission, batch = segmenter.emission, syllables.make_batch(segmenter, steps)
  clusters = syllables.stacked(baselines.kmeans(syllables.start_features(steps), states, seed=seed))
  start = np.eye(states, dtype=np.float32)[clusters]
  model, _ = hidden_markov.fit(emission, batch.observed, batch.mask, start)
  found = np.asarray(hidden_markov.best_states(emission, model, batch.observed, batch.mask))
  return [path[on] for path, on in zip(found, batch.mask, strict=True)]
