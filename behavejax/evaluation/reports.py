"""The reports of a run: one for each kind of stage that it has finished."""

import os
from collections.abc import Callable, Iterator

from behavejax.evaluation import evaluate, geodesic, neural_report, segment, vqvae_report
from behavejax.workdir import Workdir


def of_encoder(workdir: Workdir) -> str:
  """Behaviour from codes, in `report/`."""
  table = evaluate.summary_table(evaluate.evaluate(workdir.path))
  return f"{table}\nreport: {workdir.report / 'report.html'}"


def of_segments(workdir: Workdir) -> str:
  """Syllables beside simpler ways to find them, in `segments/`."""
  table = segment.comparison_table(segment.segment(workdir.path))
  return f"{table}\nsegments: {workdir.path / 'segments' / 'segments.html'}"


def of_codebook(workdir: Workdir) -> str:
  """Codes of latent vectors, the prior and its samples, in `report/`."""
  table = geodesic.summary_table(geodesic.evaluate(workdir.path))
  return f"{table}\nreport: {workdir.report / 'report.html'}"


def of_samples(workdir: Workdir) -> str:
  """Signals, images or video from codes, in `vqvae/`."""
  return f"{vqvae_report.summary(vqvae_report.report(workdir))}\nreport: {workdir.path / 'vqvae' / 'vqvae.html'}"


def of_neural(workdir: Workdir) -> str:
  """Spikes from video and behaviour, in `neural/`."""
  values = neural_report.report(workdir.path)
  return f"{neural_report.table(values)}\nneural: {workdir.path / 'neural' / 'neural.html'}"


REPORTS: dict[str, Callable[[Workdir], str]] = {
  "encoder": of_encoder,
  "codebook": of_codebook,
  "hsmm": of_segments,
  "vqvae": of_samples,
  "vivit": of_neural,
  "readout": of_neural,
}
"""By the stage that must be complete; each writes its page and returns what is printed."""


def write_all(folder: str | os.PathLike) -> Iterator[str]:
  """Writes every report that the finished stages of a run allow, in order.

  Raises:
    InputError: the folder holds no run, or the data it was trained on are gone.
  """
  workdir = Workdir(folder)
  workdir.read_config()
  finished = (write for stage, write in REPORTS.items() if workdir.is_complete(stage))
  for write in dict.fromkeys(finished):  # each once
    yield write(workdir)
