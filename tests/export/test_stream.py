"""A CSV file through an exported package, as a function and as the program that users call."""

import csv
import dataclasses
import itertools
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavejax.errors import InputError
from behavejax.export import stream
from behavejax.export.runtime import Runtime
from behavejax.export.stream import Bout, Ethogram, describe, read_chunks, stream_file
from tests.export import packages

ROOT = pathlib.Path(__file__).parent.parent.parent
CHANNELS = ("acc_x", "acc_y", "acc_z")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
  folder = tmp_path_factory.mktemp("package")
  packages.make(folder, hsmm=True)
  return folder


def write(path, signal, *, header=CHANNELS, extra=None):
  rows = [[*map(repr, map(float, row))] for row in signal]
  if extra is not None:
    rows = [[cell, *row] for cell, row in zip(extra, rows, strict=True)]
  path.write_text("\n".join(",".join(row) for row in [header, *rows]) + "\n")
  return path


def table(path):
  with path.open(newline="") as file:
    return list(csv.reader(file))


def test_tables_are_the_answers(package, tmp_path):
  signal = packages.recording(500, seed=1, lost=0.05)
  path = write(tmp_path / "recording.csv", signal)
  runtime = Runtime(package)
  summary = stream_file(runtime, path, tmp_path / "out", chunk=37)
  own = Runtime(package)
  answers = own.feed(signal) + own.flush()
  windows, bouts, syllables = (table(tmp_path / "out" / name) for name in stream._COLUMNS)
  expected = [
    [f"{a.time_s:.6f}", a.name, f"{a.probabilities.max():.5f}", " ".join(map(str, a.tokens.ravel()))]
    for a in answers if a.name
  ]  # fmt: skip
  assert windows == [["start_s", "label", "probability", "codes"], *expected]
  assert len(syllables) - 1 == sum(len(a.syllables) for a in answers) == 12 * 3 + 2
  assert float(syllables[-1][0]) == pytest.approx(9.84)  # the half window at the end has 5 codes: 2 steps, from 0 and 3
  assert (bouts[1][0], bouts[-1][1]) == ("0.000000", f"{answers[-2].time_s + 0.8:.6f}")
  assert all(one[1] == other[0] and one[2] != other[2] for one, other in itertools.pairwise(bouts[1:]))
  assert summary.shares == {
    name: pytest.approx(np.mean([a.name == name for a in answers if a.name])) for name in ("rest", "walk", "run")
  }
  assert summary.statistics.windows == len(windows) - 1
  text = describe(summary, 50.0)
  assert "500 samples (10.0 s)" in text
  assert "latency per window" in text
  assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(stream._COLUMNS)


def test_findings_about_lost_samples(package, tmp_path):
  signal = packages.recording(500)
  signal[100:140, 1], signal[200:210, 2] = np.nan, np.inf
  summary = stream_file(Runtime(package), write(tmp_path / "a.csv", signal), tmp_path / "out")
  assert summary.findings == (
    "acc_y: 8.0 % NaN, above the limit of 5 % of the data the model was made for",
    "acc_z: 2.0 % infinite, above the limit of 1 % of the data the model was made for",
  )
  short = stream_file(Runtime(package), write(tmp_path / "b.csv", signal[:30]), tmp_path / "out")
  assert short.findings == ("no window was answered; one needs 40 samples (0.8 s)",)
  assert table(tmp_path / "out" / "windows.csv") == [["start_s", "label", "probability", "codes"]]
  assert len(table(tmp_path / "out" / "syllables.csv")) > 1


@pytest.mark.parametrize(("unit", "factor"), [("s", 1.0), ("ms", 1e3), ("us", 1e6)])
def test_time_stamps(package, tmp_path, unit, factor):
  signal = packages.recording(200)
  time_s = 50.0 + np.arange(200) / 50
  keep = np.arange(200) % 40 != 7
  path = write(
    tmp_path / "a.csv", signal[keep], header=("time", *CHANNELS), extra=[f"{t * factor:.6f}" for t in time_s[keep]]
  )
  summary = stream_file(Runtime(package), path, tmp_path / "out", time_column="time", time_unit=unit)
  assert summary.statistics.lost == 5
  assert table(tmp_path / "out" / "windows.csv")[1][0] == "50.000000"


def test_cells_that_mean_nothing(tmp_path):
  (tmp_path / "a.csv").write_text(
    '\ufeff acc_z ,note,acc_x,acc_y\n1,"a, b",,NA\n\n 2 ,x, null ,nan\n3,x,inf,-1e-3\n', encoding="utf-8"
  )
  (whole,) = read_chunks(tmp_path / "a.csv", CHANNELS, chunk=10)
  expected = [[np.nan, np.nan, 1], [np.nan, np.nan, 2], [np.inf, -1e-3, 3]]
  np.testing.assert_array_equal(whole.samples, np.array(expected, np.float32))
  assert whole.time_s is None
  parts = list(read_chunks(tmp_path / "a.csv", CHANNELS, chunk=1))
  np.testing.assert_array_equal(np.concatenate([part.samples for part in parts]), whole.samples)


@pytest.mark.parametrize(
  ("text", "options", "words"),
  [
    ("acc_x,acc_y,acc_zz\n1,2,3\n", {}, "no column 'acc_z'; did you mean 'acc_zz'"),
    ("a,b\n1,2\n", {}, "no column 'acc_x'; it has a, b"),
    ("", {}, "no column 'acc_x'; it has none"),
    ("acc_x,acc_x,acc_y,acc_z\n1,2,3,4\n", {}, "2 columns 'acc_x'"),
    ("acc_x,acc_y,acc_z\n", {}, "holds no rows"),
    ("acc_x,acc_y,acc_z\n1,2,3\n1,two,3\n", {}, "column 'acc_y', row 3: 'two' is not a number"),
    ("acc_x,acc_y,acc_z\n1,2,3\n1,2\n", {}, "row 3 has 2 cells, expected 3"),
    ("acc_x,acc_y,acc_z\n1,2,3\n", {"time_column": "tiem"}, "no column 'tiem'"),
    ("t,acc_x,acc_y,acc_z\n0,1,2,3\n,1,2,3\n", {"time_column": "t"}, "row 3 has no time stamp"),
    ("acc_x,acc_y,acc_z\n1,2,3\n", {"time_unit": "h"}, "--time_unit=h, expected one of s, ms, us"),
    ("acc_x,acc_y,acc_z\n1,2,3\n", {"chunk": 0}, "--chunk=0"),
    ("acc_x,acc_y,acc_z\n1,\x00,3\n", {}, "no"),
  ],
)
def test_files_that_cannot_be(package, tmp_path, text, options, words):
  (tmp_path / "a.csv").write_text(text)
  with pytest.raises(InputError, match=words) as error:
    stream_file(Runtime(package), tmp_path / "a.csv", tmp_path / "out", **options)
  assert "\n" not in str(error.value)
  assert not (tmp_path / "out").exists()


def test_places_that_cannot_be(package, tmp_path):
  (tmp_path / "binary.csv").write_bytes(b"acc_x,acc_y,acc_z\n\xff\xfe,1,2\n")
  for path, words in ((tmp_path / "gone.csv", "cannot be read"), (tmp_path, "cannot be read"),
                      (tmp_path / "binary.csv", "no CSV file")):  # fmt: skip
    with pytest.raises(InputError, match=words):
      stream_file(Runtime(package), path, tmp_path / "out")
  path = write(tmp_path / "a.csv", packages.recording(100))
  with pytest.raises(InputError, match="is a file, expected a folder"):
    stream_file(Runtime(package), path, tmp_path / "a.csv")


def test_earlier_answers_stay_when_a_later_file_is_bad(package, tmp_path):
  path = write(tmp_path / "a.csv", packages.recording(100))
  stream_file(Runtime(package), path, tmp_path / "out")
  before = (tmp_path / "out" / "windows.csv").read_bytes()
  path.write_text(path.read_text() + "1,2,x\n")
  with pytest.raises(InputError, match="row 102"):
    stream_file(Runtime(package), path, tmp_path / "out")
  assert (tmp_path / "out" / "windows.csv").read_bytes() == before
  assert len(list((tmp_path / "out").iterdir())) == 3


def test_realtime_and_progress(package, tmp_path, monkeypatch):
  """The clock and the sleep are the test's own."""
  now, slept = [0.0], []

  def sleep(seconds):
    slept.append(seconds)
    now[0] += seconds

  monkeypatch.setattr(stream, "time", type("Clock", (), {"monotonic": staticmethod(lambda: now[0]), "sleep": sleep}))
  path = write(tmp_path / "a.csv", packages.recording(600))
  lines = []
  summary = stream_file(Runtime(package), path, tmp_path / "out", chunk=25, realtime=True, progress=lines.append)
  assert sum(slept) == pytest.approx(12.0)
  assert summary.wall_s == pytest.approx(12.0)
  assert lines == ["275 samples, 12 windows", "550 samples, 26 windows"]
  assert time.monotonic is not stream.time.monotonic


def test_bouts_of_overlapping_windows():
  """A label begins halfway between the middles of two windows; what no window covers belongs to no bout."""
  ethogram, bouts = Ethogram(4.0), []
  for start_s, label in [(0, "a"), (2, "a"), (4, "b"), (6, "a"), (12, "a"), (14, "a")]:
    bouts += ethogram.add(start_s, label)
  assert bouts + ethogram.end() == [Bout(0, 5, "a"), Bout(5, 7, "b"), Bout(7, 10, "a"), Bout(12, 18, "a")]
  assert ethogram.end() == []


def test_bouts_of_windows_that_touch():
  """End to end, also where the sum of two numbers is off in its last digit; a lost sample between them is a gap."""
  ethogram = Ethogram(2.0)
  assert [bout for start_s in (0, 2, 4, 6, 8) for bout in ethogram.add(start_s, "a")] == []
  assert ethogram.add(10, "b") == [Bout(0, 10, "a")]
  assert ethogram.end() == [Bout(10, 12, "b")]
  ethogram = Ethogram(0.8, sample_s=0.02)
  assert [bout for i in range(1000) for bout in ethogram.add(1e9 + 40 * i / 50, "a")] == []
  assert len(ethogram.add(1e9 + 800.02, "a")) == 1


def test_stride_as_long_as_the_window(tmp_path):
  packages.make(tmp_path / "package", stride=40, labels=("rest",))
  path = write(tmp_path / "a.csv", packages.recording(400))
  stream_file(Runtime(tmp_path / "package"), path, tmp_path / "out")
  assert table(tmp_path / "out" / "ethogram.csv")[1:] == [["0.000000", "8.000000", "rest"]]
  assert len(table(tmp_path / "out" / "windows.csv")) == 11


def test_codes_of_a_model_without_labels(package, tmp_path):
  """There is no ethogram; files of an earlier run with one do not stay."""
  path, out = write(tmp_path / "a.csv", packages.recording(200)), tmp_path / "out"
  stream_file(Runtime(package), path, out)
  assert len(list(out.iterdir())) == 3
  (out / "notes.txt").write_text("the user's own")
  p = packages.make(tmp_path / "package")
  p = dataclasses.replace(
    p, labels=(), model=dataclasses.replace(p.model, outputs={**p.model.outputs, "logits": (1, 1)})
  )
  (tmp_path / "package" / "model.onnx").write_bytes(
    packages.graph(dataclasses.replace(p, labels=("none",))).SerializeToString()
  )
  p.save(tmp_path / "package", ["model.onnx"])
  summary = stream_file(Runtime(tmp_path / "package"), path, out)
  answers = Runtime(tmp_path / "package").feed(packages.recording(200))
  assert summary.statistics.windows == len(answers) == 9
  assert table(out / "windows.csv")[1:] == [
    [f"{a.time_s:.6f}", "", "", " ".join(map(str, a.tokens.ravel()))] for a in answers
  ]
  assert {file.name for file in out.iterdir()} == {"windows.csv", "notes.txt"}


def test_a_rate_that_is_nearly_right(package, tmp_path):
  for rate_hz, words in ((49.0, "delivers 49 Hz, the model was made for 50 Hz: a sample is missing every 1 s"),
                         (50.5, "delivers 50.5 Hz, the model was made for 50 Hz: a sample is dropped every 2 s"),
                         (50.1, "")):  # fmt: skip
    extra = [f"{i / rate_hz:.6f}" for i in range(1000)]
    path = write(tmp_path / "a.csv", packages.recording(1000), header=("t", *CHANNELS), extra=extra)
    findings = stream_file(Runtime(package), path, tmp_path / "out", time_column="t").findings
    assert len(findings) == bool(words)
    assert all(words in line for line in findings)


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from("ab")), min_size=1, max_size=30))
def test_bouts_are_in_order_and_cover_every_window(steps):
  ethogram, bouts, start_s, middles = Ethogram(3.0), [], 0.0, []
  for step, label in steps:
    start_s += step
    middles.append((start_s + 1.5, label))
    bouts += ethogram.add(start_s, label)
  bouts += ethogram.end()
  assert all(one.end_s <= other.start_s for one, other in itertools.pairwise(bouts))
  for middle, label in middles:
    assert [b.label for b in bouts if b.start_s <= middle <= b.end_s] == [label]


def launch(*flags, folder=ROOT):
  return subprocess.run(
    [sys.executable, str(ROOT / "launch" / "run_edge.py"), *flags],
    cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
  )  # fmt: skip


def test_the_program(package, tmp_path):
  path = write(tmp_path / "recording.csv", packages.recording(400))
  answer = launch(f"--package={package}", f"--input={path}", f"--out={tmp_path / 'edge'}", "--backend=onnx")
  assert answer.returncode == 0, answer.stderr
  assert "400 samples (8.0 s)" in answer.stdout
  assert "model" in answer.stdout
  assert len(table(tmp_path / "edge" / "windows.csv")) == 20
  real = launch(f"--package={package}", f"--input={path}", f"--out={tmp_path / 'edge'}", "--chunk=400", "--max_gap_s=1")
  assert real.returncode == 0, real.stderr
  bare = launch(f"--package={package}", f"--input={path}", "--realtime=false", "--rate_hz=50", folder=tmp_path / "edge")
  assert bare.returncode == 0, bare.stderr
  assert len(table(tmp_path / "edge" / "edge" / "windows.csv")) == 20


def test_the_program_says_in_one_line_what_is_wrong(package, tmp_path):
  path = write(tmp_path / "a.csv", packages.recording(100), header=("acc_x", "acc_y", "acc_zet"))
  good = write(tmp_path / "b.csv", packages.recording(100))
  for flags, words in (
    ((f"--package={package}", f"--input={path}"), ("no column 'acc_z'", "did you mean 'acc_zet'?")),
    ((f"--package={tmp_path}", f"--input={good}"), ("preprocess.json", "No such file")),
    ((f"--package={package}", f"--input={good}", "--backend=tpu"), ("no backend 'tpu'",)),
    ((f"--package={package}", f"--input={good}", "--chunk=0"), ("chunk",)),
    ((f"--package={package}", f"--input={good}", "--rate_hz=100"), ("delivers 100 Hz", "made for 50 Hz")),
    ((f"--package={package}",), ("input",)),
  ):
    answer = launch(*flags, f"--out={tmp_path / 'edge'}")
    lines = [line for line in answer.stderr.splitlines() if line.strip()]
    assert answer.returncode == 2, answer.stderr
    assert len(lines) == 1
    assert lines[0].startswith("behavejax: ")
    for word in words:
      assert word in lines[0]
    assert not (tmp_path / "edge").exists()


def test_the_program_needs_no_jax(package, tmp_path):
  path = write(tmp_path / "a.csv", packages.recording(100))
  program = f"""
import runpy, sys
for name in ("jax", "flax", "tensorflow", "scipy", "sklearn", "pandas", "jaxtyping"):
  sys.modules[name] = None
sys.argv = ["run_edge.py", "--package={package}", "--input={path}", "--out={tmp_path / "edge"}"]
runpy.run_path("launch/run_edge.py", run_name="__main__")
"""
  answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
  assert answer.returncode == 0, answer.stderr
  assert (tmp_path / "edge" / "ethogram.csv").exists()
