"""Images and videos through the launcher: a report where they can be read, one line where they cannot."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parent.parent.parent
pytestmark = pytest.mark.slow


def prepare(tmp_path, name, *flags):
  return subprocess.run(
    [sys.executable, "launch/prepare_data.py", "--config=configs/hsmm.py:tiny", "--config.stages=('vqvae',)",
     f"--config.frames.name={name}", f"--config.data.root={tmp_path}", "--config.frames.path=files",
     f"--out={tmp_path / 'out'}", *flags],
    cwd=ROOT, capture_output=True, text=True, timeout=300,
  )  # fmt: skip


def test_a_folder_with_a_broken_image(tmp_path):
  rng = np.random.default_rng(0)
  for i in range(12):
    path = tmp_path / "files" / f"class{i % 2}" / f"{i}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (6, 7, 3), np.uint8)).save(path)
  (tmp_path / "files" / "class0" / "broken.png").touch()
  answer = prepare(tmp_path, "image_folder")
  assert answer.returncode == 2
  assert answer.stderr.count("\n") == 1
  assert "broken.png cannot be read: it is empty; config.frames.on_broken=skip leaves such images out" in answer.stderr
  assert not (tmp_path / "out").exists()
  answer = prepare(tmp_path, "image_folder", "--config.frames.on_broken=skip")
  assert answer.returncode == 0, answer.stderr
  assert "train          10        10" in answer.stdout
  assert "warning: 1 of 13 images cannot be read and were left out" in answer.stdout
  assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["normalization.npz", "qa"]


def test_a_folder_of_stacks_read_by_workers(tmp_path):
  (tmp_path / "files").mkdir()
  for i in range(5):
    np.save(tmp_path / "files" / f"{i}.npy", np.random.default_rng(i).integers(0, 256, (9, 6, 6), np.uint8))
  answer = prepare(tmp_path, "video_folder", "--config.frames.length=4")
  assert answer.returncode == 0, answer.stderr
  assert "train           6         3" in answer.stdout
