"""Runs an exported package on a stream of samples: NumPy and one library that runs the graph.

  runtime = Runtime("runs/fsq/export")
  for chunk in sensor:                    # [samples, channels], NaN where lost
    for answer in runtime.feed(chunk):
      print(answer.time_s, answer.name)

Answers do not depend on how the samples are cut into chunks, and are those of the whole recording prepared by
`behavejax.data.prepare`, with two exceptions: a window of which nothing was measured is not answered, and a gap of a
channel that lasts longer than an hour is not interpolated, as everything would have to wait for its end.
"""

from __future__ import annotations

import itertools
import os
import time
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from behavejax.errors import InputError
from behavejax.export import online
from behavejax.export.backends import open_backend
from behavejax.export.bundle import open_bundle
from behavejax.export.codes import Indexer
from behavejax.export.gaps import Repaired, StreamRepair
from behavejax.export.timeline import FAR_S, Timeline
from behavejax.export.timing import Latency, Timings
from behavejax.export.windowing import Assembler, Samples

if TYPE_CHECKING:
  from jaxtyping import Float, Int

_NEVER = 1 << 62
_RATE_TOLERANCE = 1e-3


class Syllable(NamedTuple):
  """Answer of the semi-Markov model at one code.

  Attributes:
    start: its first sample, counted like `Answer.start`.
    time_s: of that sample.
    step: state, probabilities and durations.
  """

  start: int
  time_s: float
  step: online.Step


class Answer(NamedTuple):
  """What the model says about one window.

  Attributes:
    start: first sample of the window, counted from the first one of the recording, lost ones included.
    time_s: of that sample: its time stamp on the grid, or `start / rate` without time stamps.
    logits: class scores; None, like all up to `embedding`, where only `syllables` are answered.
    probabilities: of the labels.
    label: index of the most probable one, -1 for none.
    name: of that label, "" for none.
    tokens: indices of the codes.
    codes: as the graph gives them.
    embedding: likewise, None where the graph gives none.
    syllables: one per step of codes where the window begins at a multiple of its length and the package holds an HSMM.
  """

  start: int
  time_s: float
  logits: Float[np.ndarray, " label"] | None
  probabilities: Float[np.ndarray, " label"] | None
  label: int
  name: str
  tokens: Int[np.ndarray, "row token"] | None
  codes: Float[np.ndarray, "row token digit"] | None
  embedding: Float[np.ndarray, " feature"] | None
  syllables: tuple[Syllable, ...]


class Statistics(NamedTuple):
  """Counts since the runtime was made.

  Attributes:
    samples: fed.
    rows: samples that should have come: those fed in time, and the lost ones between them.
    lost: rows of which a channel is missing.
    nan: missing rows per channel.
    inf: infinite rows per channel.
    late: samples that came after their place was closed; dropped.
    duplicates: further samples of a place; the first one counts.
    windows: answered.
    skipped: windows that were not: nothing of them was measured, or a gap in them was too long or must not be filled.
    segments: stretches of time without an interruption.
    interrupted: rows that would have filled the interruptions between them; not among `rows`.
  """

  samples: int
  rows: int
  lost: int
  nan: Int[np.ndarray, " channel"]
  inf: Int[np.ndarray, " channel"]
  late: int
  duplicates: int
  windows: int
  skipped: int
  segments: int
  interrupted: int


class Runtime:
  """An exported model that answers as samples come.

  Args:
    package: folder that the export wrote, or the zip of it.
    backend: a name in `behavejax.export.backends.BACKENDS`, or "auto".
    lateness_s: how long a lost sample with a time stamp is waited for.
    max_gap_s: windows that touch a longer gap of a channel are not answered, and time stamps that go forward by more
      begin a new segment. None fills gaps as in training, up to an hour.
    rate_hz: what the source delivers, where it is known; must be the model's.
    threads: of one operator.

  Attributes:
    preprocess: the content of `preprocess.json`.

  Raises:
    InputError: a package that is damaged, or anything that does not fit it.
  """

  def __init__(
    self,
    package: str | os.PathLike,
    backend: str = "auto",
    lateness_s: float = 0.0,
    max_gap_s: float | None = None,
    rate_hz: float | None = None,
    threads: int = 1,
  ):
    bundle = open_bundle(package)
    if bundle.temporary:
      weakref.finalize(self, bundle.temporary.cleanup)
    self.preprocess = p = bundle.preprocess
    if rate_hz is not None and not abs(rate_hz / p.rate_hz - 1) <= _RATE_TOLERANCE:
      raise InputError(f"the source delivers {rate_hz:g} Hz, the model was made for {p.rate_hz:g} Hz: resample first")
    for name, value in (("lateness_s", lateness_s), ("max_gap_s", max_gap_s)):
      if value is not None and not 0 <= value < np.inf:
        raise InputError(f"{name} must be 0 s or more, got {value}")
    self._backend = open_backend(backend, bundle.folder, p, threads=threads)
    self._indexer = Indexer(p, bundle.folder)
    self._hsmm = None
    if online.NAME in p.files:
      self._hsmm = online.OnlineHSMM.load(bundle.folder / online.NAME)
      levels = tuple(self._indexer.levels)
      if self._hsmm.levels != levels:
        raise InputError(f"{online.NAME} is of codes with {self._hsmm.levels} values, the model's have {levels}")
    longest_s = FAR_S if max_gap_s is None else max_gap_s
    longest = int(longest_s * p.rate_hz + 1e-9)
    waits = p.repair.strategy == "interpolate" or max_gap_s is not None
    self._repair = StreamRepair(p.repair, len(p.channels), longest if waits else None)
    self._timeline = Timeline(p.rate_hz, lateness_s=lateness_s, longest_s=longest_s)
    self._samples, self._assemble, self._timings = Samples(p), Assembler(p), Timings()
    _, rows, tokens, _ = p.model.outputs["codes"]
    in_row = np.arange(tokens) * p.quantizer.token_stride
    self._begins = (np.arange(rows)[:, None] * (p.window // rows) + in_row).ravel().tolist()
    self._fed = self._rows = self._lost = self._windows = self._skipped = self._segments = self._interrupted = 0
    self._nan, self._inf = (np.zeros(len(p.channels), np.int64) for _ in range(2))
    self._begin(0, 0.0)
    self._timed: bool | None = None

  def feed(
    self, samples: Float[np.ndarray, "sample channel"], time_s: Float[np.ndarray, " sample"] | None = None
  ) -> list[Answer]:
    """Takes in any number of samples and gives the answers that they complete.

    Args:
      samples: in the channels' units and order, NaN or Inf where lost.
      time_s: time stamps in seconds from any origin; without them every sample follows the one before.

    Raises:
      InputError: another number of channels or another rate, or time stamps that make no sense.
    """
    samples, time_s = self._checked(samples, time_s)
    answers: list[Answer] = []
    if time_s is None:
      self._fed += len(samples)
      self._take(samples, answers)
      return answers
    parts = self._timeline.place(samples, time_s)  # all or, with a time stamp that makes no sense, none
    self._fed += len(samples)
    for part in parts:
      if part.begins:
        self._end(answers)
        if self._samples.count:
          self._interrupted += part.place - self._place - self._samples.count
        self._begin(part.place, part.time_s)
      self._take(part.rows, answers)
    return answers

  def flush(self) -> list[Answer]:
    """Ends the recording and gives the answers that waited for more of it; the next sample begins a new recording."""
    answers: list[Answer] = []
    rest = self._timeline.flush()
    if rest is not None:
      self._take(rest, answers)
    self._end(answers)
    self._begin(0, 0.0)
    self._timed = None
    return answers

  def latency(self) -> Latency:
    """Milliseconds of each stage, median and 99th percentile."""
    return self._timings.latency()

  @property
  def has_syllables(self) -> bool:
    """Whether the package holds an HSMM."""
    return self._hsmm is not None

  @property
  def statistics(self) -> Statistics:
    return Statistics(
      self._fed, self._rows, self._lost, self._nan.copy(), self._inf.copy(), self._timeline.late,
      self._timeline.duplicates, self._windows, self._skipped, self._segments,
      self._interrupted,
    )  # fmt: skip

  def _checked(self, samples: Any, time_s: Any) -> tuple[np.ndarray, np.ndarray | None]:
    names = self.preprocess.channels
    try:
      with np.errstate(over="ignore"):
        samples = np.asarray(samples, np.float32)
      time_s = None if time_s is None else np.asarray(time_s, np.float64)
    except (TypeError, ValueError) as error:
      raise InputError(f"samples and time stamps must be numbers: {error}") from error
    if samples.shape == (0,):
      samples = samples.reshape(0, len(names))
    if samples.ndim != 2 or samples.shape[1] != len(names):
      raise InputError(f"samples of shape {samples.shape}, expected [n, {len(names)}]: {', '.join(names)}")
    if time_s is not None and time_s.shape != samples.shape[:1]:
      raise InputError(f"{time_s.shape} time stamps for {len(samples)} samples")
    if len(samples):
      if self._timed not in (None, time_s is not None):
        raise InputError("some samples have time stamps and some have none; flush() in between, or be consistent")
      self._timed = time_s is not None
    return samples, time_s

  def _begin(self, place: int, time_s: float) -> None:
    """A new segment whose first row has this number and time."""
    self._place, self._time_s = place, time_s
    self._samples.clear()
    self._next = 0
    self._next_whole = _NEVER if self._hsmm is None else 0
    self._state = None if self._hsmm is None else self._hsmm.start()

  def _end(self, answers: list[Answer]) -> None:
    """Answers what is left of a segment; the last window of codes is filled with its last sample."""
    self._push(self._repair.flush(), answers)
    start, count = self._next_whole, self._samples.count
    self._segments += count > 0
    if start < count:
      answers.append(self._answer(start, False, self._has_evidence(start, count), self._samples.tail(start)))

  def _take(self, rows: np.ndarray, answers: list[Answer]) -> None:
    missing = ~np.isfinite(rows)
    self._rows += len(rows)
    if missing.any():
      self._lost += int(missing.any(axis=1).sum())
      nan = np.isnan(rows)
      self._nan += nan.sum(axis=0)
      self._inf += (missing & ~nan).sum(axis=0)
    self._push(self._repair.feed(rows, missing), answers)

  def _push(self, repaired: Repaired, answers: list[Answer]) -> None:
    samples, taken, length = self._samples, 0, self.preprocess.window
    while taken < len(repaired.values):
      taken += samples.append(repaired, taken, keep=min(self._next, self._next_whole))
      while (start := min(self._next, self._next_whole)) + length <= samples.count:
        own, whole = start == self._next, start == self._next_whole
        answered = own and samples.usable(start, start + length) and samples.seen(start, start + length)
        if own:
          self._next += self.preprocess.stride
          self._skipped += not answered
        if answered or whole:
          evidence = whole and self._has_evidence(start, start + length)
          answers.append(self._answer(start, answered, evidence, samples.window(start)))

  def _has_evidence(self, start: int, stop: int) -> bool:
    """Whether the codes of a window count: samples that were dropped are filled for them, as in training."""
    samples = self._samples
    return samples.seen(start, stop) and (self.preprocess.repair.strategy == "drop" or samples.usable(start, stop))

  def _answer(self, start: int, answered: bool, evidence: bool, window: np.ndarray) -> Answer:
    """Runs the graph where a window is `answered` or its codes are `evidence` for the syllables."""
    whole = start == self._next_whole
    where = self._place + start, self._time_s + start / self.preprocess.rate_hz
    if not (answered or evidence):
      return Answer(*where, None, None, -1, "", None, None, None, self._syllables(start, None))
    begin = time.perf_counter()
    array = self._assemble(window)
    assembled = time.perf_counter()
    outputs = self._backend.run(array)
    ran = time.perf_counter()
    tokens = self._indexer(outputs["codes"])
    syllables = self._syllables(start, tokens.digits if evidence else None) if whole else ()
    answer = Answer(*where, None, None, -1, "", None, None, None, syllables)
    if answered:
      self._windows += 1
      logits, embedding = outputs["logits"][0], outputs.get("embedding")
      label, probabilities = int(logits.argmax()), softmax(logits)
      labels = self.preprocess.labels
      known = (label, labels[label]) if labels else (-1, "")
      embedding = None if embedding is None else embedding[0]
      answer = Answer(
        *where, logits, probabilities, *known, tokens.indices, outputs["codes"][0], embedding, syllables
      )  # fmt: skip
    self._timings.add(assembled - begin, ran - assembled, time.perf_counter() - ran)
    return answer

  def _syllables(self, start: int, digits: np.ndarray | None) -> tuple[Syllable, ...]:
    """Steps of the filter through the codes of a window; without digits time passes and nothing is seen."""
    self._next_whole = start + self.preprocess.window
    found, end = [], self._samples.count
    seen = int(np.searchsorted(self._begins, end - start))  # a window that was cut off has fewer codes
    edges = self._hsmm.edges(len(self._begins))
    for first, last in itertools.pairwise([*edges[edges < seen].tolist(), seen]):
      begin = self._begins[first]
      self._state, step = self._hsmm.step(self._state, None if digits is None else digits[first:last])
      if step.state < 0:
        self._state = self._hsmm.start()
      row = start + begin
      found.append(Syllable(self._place + row, self._time_s + row / self.preprocess.rate_hz, step))
    return tuple(found)


def softmax(logits: Float[np.ndarray, " label"]) -> Float[np.ndarray, " label"]:
  """Probabilities of the logits.

  >>> softmax(np.array([0.0, 0.0]))
  array([0.5, 0.5])
  """
  weights = np.exp(logits - np.maximum.reduce(logits))
  return weights / np.add.reduce(weights)
