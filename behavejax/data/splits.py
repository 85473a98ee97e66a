"""Who is learned from, who is validated on, who is held out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from behavejax.config import DataConfig
from behavejax.config_frames import FramesConfig
from behavejax.errors import InputError

NAMES = ("train", "val", "test")


class Span(NamedTuple):
  """Samples `start:stop` of recording `recording`."""

  recording: int
  start: int
  stop: int


Splits = dict[str, list[Span]]


def split(config: DataConfig, subjects: Sequence[str], lengths: Sequence[int], *, window: int, seed: int) -> Splits:
  """Assigns samples to train, val and test.

  Args:
    config: `split`, the lists of subjects, the fractions.
    subjects: of each recording.
    lengths: of each recording, in samples.
    window: samples per window; the gap between temporal splits.
    seed: of the draw of subjects.

  Raises:
    InputError: listed subjects that are absent, too few subjects, or an empty split.
  """
  if config.split == "temporal" and (config.val_subjects or config.test_subjects):
    raise InputError(
      "config.data.split=temporal cuts every recording in time, but config.data.val_subjects or test_subjects "
      "name subjects; set split=subject or empty the lists"
    )
  if config.split == "temporal":
    return temporal(lengths, val=config.val_fraction, test=config.test_fraction, gap=window)
  val, test = _held_out(config, list(dict.fromkeys(subjects)), seed)
  parts: Splits = {name: [] for name in NAMES}
  for i, (subject, length) in enumerate(zip(subjects, lengths, strict=True)):
    parts["val" if subject in val else "test" if subject in test else "train"].append(Span(i, 0, length))
  for name, spans in parts.items():
    if not spans:
      raise InputError(
        f"the {name} split is empty: all {len(set(subjects))} subjects are elsewhere; see config.data.val_subjects, "
        "config.data.test_subjects and the fractions"
      )
  return parts


def temporal(lengths: Sequence[int], *, val: float, test: float, gap: int) -> Splits:
  """Cuts each recording into train, gap, val, gap, test, so that no window sees two splits."""
  parts: Splits = {name: [] for name in NAMES}
  for i, length in enumerate(lengths):
    test_start = length - round(test * length)
    val_start = test_start - round(val * length)
    edges = {"train": (0, val_start - gap), "val": (val_start, test_start - gap), "test": (test_start, length)}
    for name, (start, stop) in edges.items():
      if stop > start:
        parts[name].append(Span(i, start, stop))
  return parts


def split_sources(
  given: Int[np.ndarray, " source"], usable: Bool[np.ndarray, " source"], frames: FramesConfig, seed: int, *, what: str
) -> Int[np.ndarray, " source"]:
  """The split of each source, an index into `NAMES`; -1 for those that are not usable.

  Validation and test that the data give are kept; else they are drawn from what is left. Nothing is in two.

  Raises:
    InputError: too few sources.
  """
  train = NAMES.index("train")
  split = np.where(usable, given, -1)
  free = np.random.default_rng(seed).permutation(np.flatnonzero(usable & ((given < 0) | (given == train))))
  drawn = []
  for name in ("test", "val"):
    index, wanted = NAMES.index(name), getattr(frames, name)
    if (split == index).any():
      continue
    count = int(wanted) if wanted >= 1 else max(1, round(wanted * usable.sum()))
    drawn.append(f"{count} for {name}")
    split[free[:count]] = index
    free = free[count:]
  split[free] = train
  empty = [name for i, name in enumerate(NAMES) if not (split == i).any()]
  if empty:
    raise InputError(
      f"{usable.sum()} {what} are too few for {' and '.join(drawn) or 'the splits they come with'}: nothing is left "
      f"for {empty[0]}; see config.frames.val and config.frames.test"
    )
  return split


def _held_out(config: DataConfig, present: list[str], seed: int) -> tuple[set[str], set[str]]:
  listed = {name: [str(s) for s in getattr(config, f"{name}_subjects")] for name in ("val", "test")}
  for name, wanted in listed.items():
    absent = [subject for subject in wanted if subject not in present]
    if absent:
      raise InputError(
        f"config.data.{name}_subjects: {', '.join(absent)} not in the data, which hold {_shown(present)}"
      )
  if len(present) < 3 and not all(listed.values()):
    raise InputError(
      f"only {len(present)} subject(s) ({', '.join(present)}), too few to hold some out; "
      "set config.data.split=temporal to split in time"
    )
  rest = [subject for subject in present if subject not in listed["val"] + listed["test"]]
  order = [rest[i] for i in np.random.default_rng(seed).permutation(len(rest))]
  for name, fraction in (("test", config.test_fraction), ("val", config.val_fraction)):
    if not listed[name]:
      count = min(max(1, round(fraction * len(present))), max(len(order) - 1, 0))
      listed[name], order = order[:count], order[count:]
  return set(listed["val"]), set(listed["test"])


def _shown(names: list[str]) -> str:
  return ", ".join(names) if len(names) <= 30 else f"{', '.join(names[:30])} and {len(names) - 30} more"
