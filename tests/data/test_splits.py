"""No sample is in two splits; lists and fractions do what they say."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavejax.config import DataConfig
from behavejax.config_frames import FramesConfig
from behavejax.data import splits
from behavejax.errors import InputError

SUBJECTS = ["a", "a", "b", "c", "d", "e"]
LENGTHS = [50, 60, 70, 80, 90, 100]


def split(**settings):
  return splits.split(DataConfig(**settings), SUBJECTS, LENGTHS, window=10, seed=0)


def subjects_of(spans):
  return {SUBJECTS[span.recording] for span in spans}


@settings(max_examples=60, deadline=None)
@given(
  lengths=st.lists(st.integers(0, 300), min_size=1, max_size=4), gap=st.integers(1, 40),
  val=st.floats(0, 0.45), test=st.floats(0, 0.45),
)  # fmt: skip
def test_temporal_splits_leave_a_gap(lengths, gap, val, test):
  parts = splits.temporal(lengths, val=val, test=test, gap=gap)
  for recording, length in enumerate(lengths):
    spans = sorted((s.start, s.stop, name) for name in splits.NAMES for s in parts[name] if s.recording == recording)
    assert all(0 <= start < stop <= length for start, stop, _ in spans)
    for (_, stop, _), (start, _, _) in itertools.pairwise(spans):
      assert start - stop >= gap


@pytest.mark.parametrize("seed", range(5))
def test_subjects_are_in_one_split_each(seed):
  parts = splits.split(DataConfig(), SUBJECTS, LENGTHS, window=10, seed=seed)
  sets = [subjects_of(parts[name]) for name in splits.NAMES]
  assert all(sets)
  assert set.union(*sets) == set(SUBJECTS)
  assert sum(map(len, sets)) == 5


def test_listed_subjects():
  parts = split(val_subjects=("b",), test_subjects=("c", "d"))
  assert [subjects_of(parts[name]) for name in splits.NAMES] == [{"a", "e"}, {"b"}, {"c", "d"}]
  parts = split(test_subjects=("a",))
  assert subjects_of(parts["test"]) == {"a"}
  assert len(subjects_of(parts["val"])) == 1


def test_numbers_and_names_are_alike():
  parts = splits.split(DataConfig(val_subjects=(2,), test_subjects=("3",)), ["1", "2", "3"], [9] * 3, window=2, seed=0)
  assert [s.recording for s in parts["val"]] == [1]


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"test_subjects": ("zoe", "a", 7)}, r"test_subjects: zoe, 7 not in the data, which hold a, b, c, d, e"),
    ({"val_subjects": ("a", "b"), "test_subjects": ("c", "d", "e")}, r"train split is empty"),
    ({"split": "temporal", "val_subjects": ("a",)}, r"split=temporal"),
  ],
)
def test_mistakes_are_named(settings, message):
  with pytest.raises(InputError, match=message):
    split(**settings)


def test_too_few_subjects():
  with pytest.raises(InputError, match=r"too few.*split=temporal"):
    splits.split(DataConfig(), ["a", "b"], [100, 100], window=10, seed=0)


@settings(max_examples=60, deadline=None)
@given(
  given=st.lists(st.sampled_from([-1, -1, 0, 1, 2]), min_size=1, max_size=30), usable=st.integers(0, 2**30 - 1),
  val=st.sampled_from([0.1, 0.4, 1.0, 3.0]), test=st.sampled_from([0.1, 0.4, 1.0, 3.0]),
)  # fmt: skip
def test_sources_are_in_one_split_each(given, usable, val, test):
  given, usable = np.array(given), np.array([bool(usable >> i & 1) for i in range(len(given))])
  frames = FramesConfig(val=val, test=test)
  try:
    found = splits.split_sources(given, usable, frames, 0, what="images")
  except InputError:
    counts = [value if value >= 1 else max(1, round(value * usable.sum())) for value in (val, test)]
    held = sum(count for i, count in enumerate(counts, 1) if not (usable & (given == i)).any())
    assert (usable & (given < 1)).sum() <= held
    return
  assert ((found < 0) == ~usable).all()
  assert all((found == i).any() for i in range(3))
  for i, value in ((1, val), (2, test)):
    known = usable & (given == i)
    if known.any():
      assert (found[known] == i).all()
      assert (found == i).sum() == known.sum()
    else:
      assert (found == i).sum() == (value if value >= 1 else max(1, round(value * usable.sum())))
