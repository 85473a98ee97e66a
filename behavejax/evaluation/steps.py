"""What is segmented: codes where a run has an encoder, else features of its recordings."""

from collections.abc import Sequence

import numpy as np

from behavejax.config import Config, SegmentationConfig
from behavejax.data import splits
from behavejax.data.streams import Streams, make_streams
from behavejax.data.windows import window_length
from behavejax.evaluation.tokens import has_codes, token_streams
from behavejax.models import syllables
from behavejax.models.syllables import Span, Steps
from behavejax.segmentation import learning
from behavejax.types import Variables
from behavejax.workdir import Workdir


def load_steps(workdir: Workdir, config: Config, *, encoder: str | Variables = "") -> tuple[Streams, Steps]:
  """The steps of all recordings; with an encoder or a codebook they are split as its windows are.

  Args:
    workdir: of the run.
    config: of the run.
    encoder: the stage that codes come from, "encoder" or "finetune"; by default the latter where it is complete. Or
      variables of an encoder.

  Raises:
    InputError: the data are gone, or the encoder does not fit the config.
  """
  if has_codes(workdir):
    streams, levels = token_streams(workdir, config, encoder=encoder)
    spans = _split(config, streams)
  else:
    streams, levels = make_streams(config.data, config.segmentation.features, config.seed), ()
    spans = None
  subjects = [recording.subject for recording in streams.recordings]
  names = list(dict.fromkeys(subjects))
  groups = np.array([names.index(subject) for subject in subjects], np.int32)
  return streams, Steps(streams.values, groups, levels, streams.rate_hz, streams.overlap, spans)


def mixture_clusters(workdir: Workdir, config: Config, steps: Steps) -> list[np.ndarray]:
  """Clusters of single steps of every recording, by the stage `hdp` of a run."""
  segmenter = syllables.as_mixture(syllables.make_segmenter(syllables.mixture_of(config.segmentation, steps), steps))
  batch = syllables.make_batch(segmenter, steps)
  learned = workdir.read_result("hdp", syllables.learned_like(segmenter, syllables.single_steps(batch)))
  return syllables.clusters(segmenter, learned.parameters, batch)


def latest_syllables(workdir: Workdir) -> str:
  """The stage whose syllables go with the latest encoder."""
  return "finetune" if workdir.is_complete("finetune") else "hsmm"


def read_syllables(
  workdir: Workdir, settings: SegmentationConfig, steps: Steps, *, stage: str
) -> tuple[learning.Segmenter, learning.Parameters]:
  """What a run learned of syllables in the stage `hsmm`, `hmm` or `finetune`; see `latest_syllables`."""
  if stage != "finetune":
    segmenter, learned = read_learned(workdir, settings, steps, stage=stage)
    return segmenter, learned.parameters
  segmenter = syllables.make_segmenter(settings, steps)
  like = syllables.learned_like(segmenter, syllables.make_batch(segmenter, steps))
  return segmenter, workdir.read_result(stage, like.parameters, part="syllables")


def read_learned(
  workdir: Workdir, settings: SegmentationConfig, steps: Steps, *, stage: str
) -> tuple[learning.Segmenter, learning.Learned]:
  """The same of the stage `hsmm` or `hmm`, with the weights of the hierarchy: learning can go on from it."""
  segmenter = syllables.make_segmenter(settings, steps)
  like = syllables.learned_like(segmenter, syllables.make_batch(segmenter, steps))
  return segmenter, workdir.read_result(stage, like)


def held_out_labels(streams: Streams, steps: Steps) -> list[np.ndarray]:
  """Labels of the recordings; where steps are split, those outside the test part are unknown (-1)."""
  labels = [recording.labels.astype(np.int64) for recording in streams.recordings]
  if steps.spans is None:
    return labels
  kept = [np.full_like(values, -1) for values in labels]
  for span in steps.spans["test"]:
    starts, end = streams.starts[span.recording], len(labels[span.recording])
    part = slice(starts[span.start], starts[span.stop] if span.stop < len(starts) else end)
    kept[span.recording][part] = labels[span.recording][part]
  return kept


def _split(config: Config, streams: Streams) -> dict[str, Sequence[Span]]:
  """The parts that the encoder was trained, chosen and tested on, in whole steps; without those shorter than one."""
  recordings = streams.recordings
  length = window_length(config.data.window_s, recordings[0].rate_hz, fold=config.data.fold)
  parts = splits.split(
    config.data, [r.subject for r in recordings], [len(r.signal) for r in recordings], window=length, seed=config.seed
  )
  whole = {
    name: [Span(s.recording, *np.searchsorted(streams.starts[s.recording], (s.start, s.stop))) for s in spans]
    for name, spans in parts.items()
  }
  return {name: tuple(span for span in spans if span.stop > span.start) for name, spans in whole.items()}
