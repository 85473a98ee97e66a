"""Files of segments hold what they should when read back, and appear whole or not at all."""

import csv

import numpy as np
import pytest

from behavejax.evaluation import segment_files
from behavejax.evaluation.segments import Segmentation, segment_rows


def segmentation():
  states = [np.array([0, 0, -1, 2, 2, 2, 0]), np.array([1, 1, 1])]
  probabilities = [np.linspace(0.4, 1, 7), np.ones(3)]
  labels = [np.full(7, -1), np.zeros(3, int)]
  return Segmentation(states, probabilities, labels, ("a/1", "a:1"), ("Rex, the\tdog", "Bo"), ("walk",), 8.0)


def read(path, delimiter=","):
  with path.open(encoding="utf-8", newline="") as file:
    return list(csv.reader(file, delimiter=delimiter))


def test_segments_are_read_back(tmp_path):
  segment_files.write_segments(tmp_path / "segments.csv", segmentation())
  header, *rows = read(tmp_path / "segments.csv")
  assert header == ["recording", "subject", "start_s", "end_s", "duration_s", "state", "posterior"]
  expected = segment_rows(segmentation())
  assert len(rows) == len(expected) == 4
  for row, segment in zip(rows, expected, strict=True):
    assert row[:2] == [segment.recording, segment.subject]
    np.testing.assert_allclose([float(cell) for cell in row[2:5]], segment[2:5], atol=1e-6)
    assert row[5] == f"S{segment.state}"
    assert float(row[6]) == pytest.approx(segment.posterior, abs=1e-4)


def test_time_of_each_subject(tmp_path):
  segment_files.write_subjects(tmp_path / "subjects.csv", segmentation())
  header, *rows = read(tmp_path / "subjects.csv")
  assert header == ["subject", "S0", "S1", "S2"]
  assert [row[0] for row in rows] == ["Rex, the\tdog", "Bo"]
  shares = np.array([[float(cell) for cell in row[1:]] for row in rows])
  np.testing.assert_allclose(shares, [[0.5, 0, 0.5], [0, 1, 0]], atol=1e-5)


def test_samples_are_read_back_without_pickle(tmp_path):
  given = segmentation()
  segment_files.write_states(tmp_path / "states.npz", given)
  with np.load(tmp_path / "states.npz", allow_pickle=False) as arrays:
    assert arrays["recordings"].tolist() == list(given.names)
    assert arrays["subjects"].tolist() == list(given.subjects)
    assert arrays["classes"].tolist() == list(given.classes)
    assert arrays["rate_hz"] == 8
    for i, (start, end) in enumerate(zip(arrays["offsets"][:-1], arrays["offsets"][1:], strict=True)):
      np.testing.assert_array_equal(arrays["states"][start:end], given.states[i])
      np.testing.assert_array_equal(arrays["labels"][start:end], given.labels[i])
      np.testing.assert_allclose(arrays["probabilities"][start:end], given.probabilities[i], rtol=1e-6)


def test_entropies_are_kept_where_they_are_known(tmp_path):
  given = segmentation()
  entropies = [np.linspace(0, 1, 7), np.zeros(3)]
  segment_files.write_states(tmp_path / "with.npz", given._replace(entropies=entropies))
  segment_files.write_states(tmp_path / "without.npz", given)
  with np.load(tmp_path / "with.npz", allow_pickle=False) as arrays:
    np.testing.assert_allclose(arrays["entropies"], np.concatenate(entropies), rtol=1e-6)
  with np.load(tmp_path / "without.npz", allow_pickle=False) as arrays:
    assert "entropies" not in arrays.files


def test_boris_table(tmp_path):
  segment_files.write_boris(tmp_path / "boris.csv", segmentation())
  header, *rows = read(tmp_path / "boris.csv")
  cells = [dict(zip(header, row, strict=True)) for row in rows]
  assert {row["Behavior type"] for row in cells} == {"STATE"}
  assert [row["Behavior"] for row in cells] == ["S0", "S2", "S0", "S1"]
  assert [row["Observation id"] for row in cells] == ["a/1", "a/1", "a/1", "a:1"]
  assert [float(row["Total length"]) for row in cells] == [0.875, 0.875, 0.875, 0.375]
  for row in cells:
    assert float(row["Stop (s)"]) - float(row["Start (s)"]) == pytest.approx(float(row["Duration (s)"]))


def test_boris_events_can_be_pasted(tmp_path):
  """BORIS splits the clipboard at line breaks, then at tabs, and wants six columns in every line."""
  segment_files.write_boris_events(tmp_path, segmentation())
  assert sorted(path.name for path in tmp_path.iterdir()) == ["1_a_1.tsv", "2_a_1.tsv"]
  lines = [line.split("\t") for line in (tmp_path / "1_a_1.tsv").read_text().split("\n")]
  assert {len(line) for line in lines} == {6}
  assert {(line[1], *line[3:]) for line in lines} == {("Rex, the dog", "", "", "NA")}
  assert [(float(line[0]), line[2]) for line in lines] == [
    (0.0, "S0"), (0.25, "S0"), (0.375, "S2"), (0.75, "S2"), (0.75, "S0"), (0.875, "S0"),
  ]  # fmt: skip


def test_elan_annotations_do_not_overlap(tmp_path):
  segment_files.write_elan(tmp_path, segmentation())
  header, *rows = read(tmp_path / "1_a_1.tsv", "\t")
  assert header == ["tier", "begin (ms)", "end (ms)", "annotation"]
  assert rows == [["state", "0", "250", "S0"], ["state", "375", "750", "S2"], ["state", "750", "875", "S0"]]
  assert read(tmp_path / "2_a_1.tsv", "\t")[1:] == [["state", "0", "375", "S1"]]


def test_all_files_are_written_into_a_new_folder(tmp_path):
  segment_files.write_segment_files(tmp_path / "new", segmentation())
  names = {path.relative_to(tmp_path / "new").as_posix() for path in (tmp_path / "new").rglob("*.*")}
  assert names == {
    "boris/1_a_1.tsv", "boris/2_a_1.tsv", "boris.csv", "elan/1_a_1.tsv", "elan/2_a_1.tsv", "segments.csv", "states.npz",
    "subjects.csv",
  }  # fmt: skip


def test_interrupted_writing_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / "states.npz"
  path.write_text("old")

  def fail(*_, **__):
    raise OSError("disk full")

  monkeypatch.setattr(np, "savez_compressed", fail)
  with pytest.raises(OSError, match="disk full"):
    segment_files.write_states(path, segmentation())
  assert path.read_text() == "old"
  assert [p.name for p in tmp_path.iterdir()] == ["states.npz"]


def test_nothing_segmented_is_a_table_without_rows(tmp_path):
  given = segmentation()._replace(states=[np.full(7, -1), np.full(3, -1)])
  segment_files.write_segment_files(tmp_path, given)
  assert len(read(tmp_path / "segments.csv")) == 1
  assert (tmp_path / "boris" / "1_a_1.tsv").read_text() == ""
