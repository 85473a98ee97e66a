"""Whatever is wrong with the input ends in one line on standard error, code 2, and nothing half-written."""

import json
import os
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
pytestmark = pytest.mark.slow


def launch(program, *flags, **env):
  return subprocess.run(
    [sys.executable, f"launch/{program}.py", *flags],
    cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=300,
  )  # fmt: skip


def assert_one_line(answer, *words):
  lines = [line for line in answer.stderr.splitlines() if line.strip()]
  assert answer.returncode == 2, answer.stderr
  assert len(lines) == 1, answer.stderr
  assert lines[0].startswith("behavejax: ")
  for word in words:
    assert word in lines[0], f"{word!r} is not in {lines[0]!r}"


def write_csv(path, *, samples=400, subjects=("a", "b", "c"), rate=50.0, change=None):
  """A small table of three subjects; `change` edits the rows (lists of cells) before they are written."""
  rng = np.random.default_rng(0)
  rows = [["time", "subject", "acc_x", "acc_y", "label"]]
  for subject in subjects:
    for i in range(samples):
      values = rng.normal(size=2).round(4)
      rows.append([f"{i / rate:.4f}", subject, *map(str, values), "rest" if i < samples // 2 else "move"])
  if change:
    rows = change(rows)
  path.write_text("\n".join(",".join(row) for row in rows) + "\n")


TABLE = (
  "--config=configs/fsq.py:tiny", "--config.data.name=table", "--config.data.val_subjects=()",
  "--config.data.test_subjects=()", "--config.data.table.time=time", "--config.data.table.subject=subject",
  "--config.data.table.label=label",
)  # fmt: skip


def prepare_table(tmp_path, *flags, change=None, **csv):
  write_csv(tmp_path / "odd.csv", change=change, **csv)
  out = tmp_path / "out"
  return launch(
    "prepare_data", *TABLE, f"--config.data.root={tmp_path}", "--config.data.path=odd.csv", f"--out={out}", *flags
  )


def set_cell(row, column, value):
  def change(rows):
    rows[row][column] = value
    return rows

  return change


def set_column(column, value):
  return lambda rows: [rows[0], *([*row[:column], value, *row[column + 1 :]] for row in rows[1:])]


@pytest.mark.parametrize(
  ("flags", "change", "words"),
  [
    (("--config.data.path=gone.csv",), None, ("no such file", "gone.csv")),
    (("--config.data.table.label=lable",), None, ("no column 'lable'", "did you mean 'label'")),
    ((), set_column(2, ""), ("acc_x", "no finite value")),
    ((), set_column(3, "1.5"), ("acc_y", "constant at 1.5")),
    ((), set_cell(7, 2, "oops"), ("'acc_x'", "row 8", "'oops' is not a number")),
    ((), set_cell(9, 0, "0.001"), ("non-monotonic", "row 10")),
    ((), lambda rows: [*rows, ["0.0", "d", "1.0", "2.0", "rest"]], ("recording d", "1 sample")),
    (("--config.data.window_s=20.0",), None, ("window_s=20", "longer than every recording", "400 samples")),
    (("--config.data.test_subjects=('a','zoe')",), None, ("test_subjects", "zoe", "a, b, c")),
    (("--config.data.val_subjects=('a',)", "--config.data.test_subjects=('b','c')"), None, ("train split is empty",)),
    (("--config.data.channels=('acc_q',)",), None, ("'acc_q'", "did you mean 'acc_")),
    (("--config.data.nan_strategy=raise",), set_cell(5, 2, ""), ("missing", "config.data.nan_strategy")),
    (("--config.data.quality.strict=True", "--config.data.quality.min_std=3.0"), None, ("acc_x std", "acc_y std")),
  ],
)  # fmt: skip
def test_tables(tmp_path, flags, change, words):
  assert_one_line(prepare_table(tmp_path, *flags, change=change), *words)
  assert not (tmp_path / "out").exists()


def test_mixed_rates(tmp_path):
  folder = tmp_path / "mixed"
  folder.mkdir()
  write_csv(folder / "one.csv")
  write_csv(folder / "two.csv", rate=25.0)
  answer = launch(
    "prepare_data", *TABLE, f"--config.data.root={tmp_path}", "--config.data.path=mixed", f"--out={tmp_path / 'out'}"
  )
  assert_one_line(answer, "mixed rate_hz", "50.0", "25.0", "config.data.rate_hz")


def test_label_without_name(tmp_path):
  x = np.random.default_rng(0).normal(size=(6, 3, 200))
  np.savez(
    tmp_path / "named.npz", x=x, y=np.array([0, 1, 2, 0, 1, 2]), classes=np.array(["rest", "move"]), rate_hz=50.0
  )
  answer = launch(
    "prepare_data", "--config=configs/fsq.py:tiny", "--config.data.name=arrays", "--config.data.path=named.npz",
    f"--config.data.root={tmp_path}", f"--out={tmp_path / 'out'}",
  )  # fmt: skip
  assert_one_line(answer, "labels from 2 to 2", "only 2 classes have a name")


def test_truncated_zip(tmp_path):
  with zipfile.ZipFile(tmp_path / "hapt.zip", "w") as file:
    file.writestr("RawData/labels.txt", "1 1 1 1 10\n" * 1000)
  whole = (tmp_path / "hapt.zip").read_bytes()
  (tmp_path / "hapt.zip").write_bytes(whole[: len(whole) // 2])
  answer = launch(
    "prepare_data", "--config=configs/fsq.py:hapt", f"--out={tmp_path / 'out'}", BEHAVEJAX_DATA=str(tmp_path)
  )
  assert_one_line(answer, "hapt.zip is damaged or cut short")


def test_missing_root(tmp_path):
  answer = launch(
    "train", "--config=configs/fsq.py:hapt", f"--workdir={tmp_path / 'run'}", BEHAVEJAX_DATA=str(tmp_path / "gone")
  )
  assert_one_line(answer, "no data folder", "gone", "BEHAVEJAX_DATA")
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("flag", "words"),
  [
    ("--config=configs/fsq.py:hatp", ("no argument 'hatp'", "did you mean 'hapt'")),
    ("--config=configs/gone.py", ("gone.py",)),
    ("--config.train.batchsize=3", ("batchsize", "batch_size")),
    ("--config.train.batch_size=many", ("train.batch_size", "many")),
    ("--config.data.name=quadrupde", ("quadrupde", "did you mean 'quadruped'")),
    ("--config.quantizer.levels=(1,3)", ("config.quantizer.levels",)),
    ("--config.stages=('encodre',)", ("encodre", "did you mean 'encoder'")),
    ("--config.codebook.cods=3", ("config.codebook.cods is not a setting", "did you mean 'codes'")),
    ("--config.train.epochs.x=3", ("config.train.epochs is a single setting",)),
    ("--bogus=1", ("bogus",)),
    ("--processes=2", ("--coordinator=HOST:PORT",)),
  ],
)
def test_flags(tmp_path, flag, words):
  first = () if flag.startswith("--config=") else ("--config=configs/fsq.py:tiny",)
  assert_one_line(launch("train", *first, flag, f"--workdir={tmp_path / 'run'}"), *words)
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("space", "flags", "words"),
  [
    ('{"train.stepz": {"low": 1, "high": 2}}', (), ("space.json", "train.stepz", "did you mean 'train.steps'")),
    ('{"model.dropout": {"low": 0.5, "high": 1.0}}', (), ("config.model.dropout must be in [0, 1), got 1.0",)),
    ('{"seed": {"low": 0, "high": 3}}', ("--objective=test/accuracy",), ("validation split",)),
    ('{"seed": {"low": 0, "high": 3}}', ("--trials=0",), ("trials",)),
    ('{"seed": {"low": 0, "high": 3}}', ("--config.data.name=hapt", "--config.data.root=/gone"), ("no data folder",)),
  ],
)
def test_sweeps(tmp_path, space, flags, words):
  (tmp_path / "space.json").write_text(space)
  answer = launch(
    "sweep", "--config=configs/fsq.py:tiny", f"--space={tmp_path / 'space.json'}", f"--workdir={tmp_path / 'run'}",
    *flags,
  )  # fmt: skip
  assert_one_line(answer, *words)
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("program", "flags", "words"),
  [
    ("train", ("--config=configs/geodesic.py:mnist",), ("no such file or folder", "mnist", "BEHAVEJAX_DATA")),
    ("train", ("--config=configs/geodesic.py:tiny", "--skip=prio"), ("--skip=prio", "did you mean 'prior'")),
    ("train", ("--config=configs/geodesic.py:tiny", "--skip=vae"), ("'codebook' needs 'vae'", "--skip")),
    ("train", ("--config=configs/geodesic.py:tiny", "--config.codebook.codes=0"), ("codebook.codes must be 1",)),
    ("train", ("--config=configs/geodesic.py:tiny", "--config.prior.heads=3"), ("prior.width=16", "prior.heads=3")),
    ("generate", ("--out=/nowhere/x",), ("holds no run",)),
  ],
)
def test_codes_of_latent_vectors(tmp_path, program, flags, words):
  (tmp_path / "data").mkdir()
  answer = launch(program, *flags, f"--workdir={tmp_path / 'run'}", BEHAVEJAX_DATA=str(tmp_path / "data"))
  assert_one_line(answer, *words)
  assert not (tmp_path / "run" / "stages").exists()


def test_data_of_other_kinds(tmp_path):
  out = f"--out={tmp_path / 'out'}"
  assert_one_line(launch("prepare_data", "--config=configs/vivit.py:tiny", out), "neural recordings")
  answer = launch("prepare_data", "--config=configs/geodesic.py:mnist", out, BEHAVEJAX_DATA=str(tmp_path))
  assert_one_line(answer, "no such file or folder", "mnist")
  assert not (tmp_path / "out").exists()


def test_workdirs(tmp_path):
  run = tmp_path / "run"
  run.mkdir()
  (run / "thesis.txt").write_text("precious")
  assert_one_line(launch("train", "--config=configs/fsq.py:tiny", f"--workdir={run}"), "not empty")
  assert_one_line(launch("evaluate", f"--workdir={run}"), "holds no run")
  assert [path.name for path in run.iterdir()] == ["thesis.txt"]


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
  """A workdir with its config written and nothing trained."""
  from behavejax import config as config_lib
  from behavejax.workdir import Workdir
  from tests.test_config import load

  folder = tmp_path_factory.mktemp("run") / "run"
  Workdir(folder).start(config_lib.resolve(load("fsq").get_config("tiny")))
  return folder


def test_checkpoint_of_another_config(unfinished):
  before = (unfinished / "config.json").read_bytes()
  answer = launch("train", "--config=configs/fsq.py:tiny", "--config.model.kernel=7", f"--workdir={unfinished}")
  assert_one_line(answer, "run of another config", "config.model.kernel is 7 here and 5 there")
  assert (unfinished / "config.json").read_bytes() == before
  assert_one_line(launch("evaluate", f"--workdir={unfinished}"), "stage 'encoder'", "not complete")
  (unfinished.parent / "damaged").mkdir()
  (unfinished.parent / "damaged" / "config.json").write_text(json.dumps({"config": {"sed": 1}}))
  assert_one_line(launch("evaluate", f"--workdir={unfinished.parent / 'damaged'}"), "config.sed is not a setting")


@pytest.mark.skipif(
  not pathlib.Path("/dev/full").exists(), reason="this system has no /dev/full to stand for a full disk"
)
def test_full_disk(tmp_path, unfinished):
  out = tmp_path / "out"
  out.mkdir()
  (out / ".train.npz.tmp").symlink_to("/dev/full")
  answer = launch("prepare_data", "--config=configs/fsq.py:tiny", f"--out={out}")
  assert_one_line(answer, "disk full")
  assert not list(out.iterdir())
  (unfinished / ".normalization.npz.tmp").symlink_to("/dev/full")
  answer = launch("train", "--config=configs/fsq.py:tiny", f"--workdir={unfinished}")
  assert_one_line(answer, "disk full")
  assert [path.name for path in unfinished.iterdir()] == ["config.json"]
