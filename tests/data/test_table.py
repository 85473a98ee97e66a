"""CSV and Parquet: columns, units of time, groups, and every way a file can be odd."""

import sys

import numpy as np
import pandas as pd
import pytest

from behavejax.config import TableConfig
from behavejax.data.table import read_table
from behavejax.errors import InputError

CONFIG = TableConfig(time="t", label="label", subject="dog")


def frame(**changes):
  rng = np.random.default_rng(0)
  table = pd.DataFrame(
    {"t": np.tile(np.arange(10) / 20, 2), "dog": ["rex"] * 10 + ["bo"] * 10, "ax": rng.normal(size=20),
     "ay": np.arange(20),
     "label": (["walk"] * 5 + [None] * 2 + ["sit "] * 3) * 2}
  )  # fmt: skip
  return table.assign(**changes)


def test_groups_labels_and_rate(tmp_path):
  frame().to_csv(tmp_path / "a.csv", index=False)
  rex, bo = read_table(tmp_path / "a.csv", CONFIG)
  assert (rex.subject, bo.subject) == ("rex", "bo")
  assert rex.channels == ("ax", "ay")
  assert rex.rate_hz == 20
  assert rex.classes == ("sit", "walk")
  assert rex.labels.tolist() == [1] * 5 + [-1] * 2 + [0] * 3
  np.testing.assert_array_equal(bo.signal[:, 1], np.arange(10, 20))


def test_parquet_folder_and_milliseconds(tmp_path):
  for name in ("rex", "bo"):
    frame(t=np.arange(20) * 40.0).drop(columns="dog").to_parquet(tmp_path / f"{name}.parquet")
  found = read_table(tmp_path, TableConfig(time="t", time_unit="ms", signal=("ay",)))
  assert [r.subject for r in found] == ["bo", "rex"]
  assert found[0].rate_hz == 25
  assert found[0].classes == ()
  assert (found[0].labels == -1).all()


def test_blank_cells_are_missing(tmp_path):
  frame(ax=[np.nan] * 3 + [1.0, 2.0] * 8 + [np.inf]).to_csv(tmp_path / "a.csv", index=False)
  assert np.isnan(read_table(tmp_path / "a.csv", CONFIG)[0].signal[:3, 0]).all()


@pytest.mark.parametrize(
  ("changes", "config", "message"),
  [
    ({}, TableConfig(time="tt"), r"no column 'tt' \(config.data.table.time\)"),
    ({}, TableConfig(rate_hz=10, signal=("az",)), r"no column 'az' \(config.data.table.signal\); known: ax, ay"),
    ({}, TableConfig(rate_hz=10, label="lable"), r"did you mean 'label'"),
    ({}, TableConfig(), r"nothing tells the sampling rate"),
    ({"ax": ["1"] * 19 + ["x"]}, CONFIG, r"column 'ax', row 21: 'x' is not a number"),
    ({"t": np.arange(20)[::-1] / 20}, CONFIG, r"non-monotonic: row 3"),
    ({"t": [np.nan] * 20}, CONFIG, r"lacks a time stamp in row 2"),
    ({"dog": ["rex"] * 19 + [None]}, CONFIG, r"column 'dog', row 21 is blank"),
    ({"ax": "a", "ay": "b"}, CONFIG, r"no numeric column left"),
  ],
)
def test_mistakes_are_named(tmp_path, changes, config, message):
  frame(**changes).to_csv(tmp_path / "a.csv", index=False)
  with pytest.raises(InputError, match=message):
    read_table(tmp_path / "a.csv", config)


def test_dates_and_truth_values_are_no_channels(tmp_path):
  dates = pd.date_range("2024", periods=20, freq="20ms")
  frame(when=dates, ok=[True, False] * 10).to_parquet(tmp_path / "a.parquet")
  assert read_table(tmp_path / "a.parquet", CONFIG)[0].channels == ("ax", "ay")
  with pytest.raises(InputError, match=r"column 'when' holds dates, expected numbers \(config.data.table.time\)"):
    read_table(tmp_path / "a.parquet", TableConfig(time="when"))


def test_numbers_as_labels_agree_between_files_and_subjects(tmp_path):
  frame(label=[1, 2] * 10).to_csv(tmp_path / "a.csv", index=False)
  frame(label=[1, np.nan] * 5 + [2, 1] * 5).to_csv(tmp_path / "b.csv", index=False)
  found = read_table(tmp_path, CONFIG)
  assert {r.classes for r in found} == {("1", "2")}
  assert [r.labels[:4].tolist() for r in found] == [[0, 1] * 2, [0, 1] * 2, [0, -1] * 2, [1, 0] * 2]


def test_labels_read_alike_in_every_group(tmp_path):
  frame(label=[1] * 10 + [2.5] * 10).to_csv(tmp_path / "a.csv", index=False)
  rex, bo = read_table(tmp_path / "a.csv", CONFIG)
  assert (set(rex.labels), set(bo.labels)) == ({0}, {1})


def test_sessions_and_an_index_of_words(tmp_path):
  frame(run=[1] * 5 + [2] * 5 + [1] * 10).set_axis([f"r{i}" for i in range(20)]).to_parquet(tmp_path / "a.parquet")
  found = read_table(tmp_path / "a.parquet", TableConfig(time="t", subject="dog", session="run", signal=("ay",)))
  assert [r.name for r in found] == ["rex/1", "rex/2", "bo/1"]


def test_without_pandas(tmp_path, monkeypatch):
  (tmp_path / "a.csv").write_text("ax\n1\n2\n")
  monkeypatch.setitem(sys.modules, "pandas", None)
  with pytest.raises(InputError, match=r"needs pandas: pip install 'behavejax\[data\]'"):
    read_table(tmp_path / "a.csv", TableConfig(rate_hz=1.0))


def test_empty_files(tmp_path):
  with pytest.raises(InputError, match=r"holds no .csv or .parquet"):
    read_table(tmp_path, CONFIG)
  (tmp_path / "a.csv").write_text("")
  with pytest.raises(InputError, match=r"cannot be read"):
    read_table(tmp_path / "a.csv", CONFIG)
  (tmp_path / "a.csv").write_text("t,ax\n")
  with pytest.raises(InputError, match=r"holds no rows"):
    read_table(tmp_path / "a.csv", CONFIG)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_are_named(tmp_path, separator):
  (tmp_path / "a.csv").write_text(separator.join(["t", "ax"]) + "\n" + separator.join(["0", "1.5"]) + "\n")
  with pytest.raises(InputError, match=r"cells are separated by '.+', expected ','"):
    read_table(tmp_path / "a.csv", CONFIG)
