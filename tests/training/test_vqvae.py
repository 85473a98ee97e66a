"""The stage `vqvae`: signals, images and video through the loop, interrupted and not, and what follows from a run."""

import dataclasses
import importlib.util
import json
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

from behavejax import config as config_lib
from behavejax.data.prepare_samples import prepare_samples
from behavejax.errors import InputError
from behavejax.evaluation import generate, reports, vqvae, vqvae_report
from behavejax.training import loop, stages
from behavejax.training import vqvae as stage
from behavejax.workdir import Workdir, read_metrics

ROOT = pathlib.Path(__file__).parent.parent.parent
pytestmark = pytest.mark.slow


def tiny(dimensions, **changes):
  spec = importlib.util.spec_from_file_location("tiny", ROOT / "configs" / f"vqvae_{dimensions}d.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config("tiny")
  config.update_from_flattened_dict(changes)
  return config_lib.resolve(config)


@pytest.fixture(scope="module", params=[1, 2, 3])
def finished(request, tmp_path_factory):
  """A run over each number of axes, with its report."""
  config = tiny(request.param)
  folder = tmp_path_factory.mktemp(f"run_{request.param}") / "run"
  workdir = stages.run(config, folder)
  return config, workdir, list(reports.write_all(workdir.path))


def test_a_run_learns_reports_and_generates(finished, tmp_path):
  config, workdir, shown = finished
  dimensions = len(config.vqvae.factors)
  rows = [row["val/reconstruction_mse"] for row in read_metrics(workdir.metrics_file) if "val/score" in row]
  assert rows[-1] < rows[0]
  assert len(shown) == 1
  values = json.loads((workdir.path / "vqvae" / "metrics.json").read_text())
  _check_values(config, workdir, values)
  page = (workdir.path / "vqvae" / "vqvae.md").read_text()
  assert "principal components, as many bits" in page
  assert ("SSIM" in page) == (dimensions > 1)
  assert (workdir.path / "vqvae" / "figures" / "clips.mp4").exists() == (dimensions == 3)
  lines = generate.reconstruct(workdir.path, [], tmp_path / "decoded")
  assert len(lines) == 4
  assert (tmp_path / "decoded" / "generated.html").exists()
  way = generate.interpolate(workdir.path, [], tmp_path / "way", steps=3)
  assert len(way) == 3
  with np.load(tmp_path / "way" / "generated.npz") as arrays:
    assert len(arrays["tokens"]) == 3
  {1: _signals, 2: _images, 3: _videos}[dimensions](config, workdir, tmp_path)


def _check_values(config, workdir, values):
  """Numbers of the report, computed anew."""
  model, variables, data = vqvae.restore(workdir, config)
  x = data.test.gather(np.arange(len(data.test)))
  y = np.asarray(jax.jit(model.apply)(variables, x).reconstruction)
  mean = data.train.gather(np.arange(len(data.train))).mean(axis=0)
  assert values["test/reconstruction_mse"] == pytest.approx(np.mean((x - y) ** 2), rel=1e-4)
  assert values["test/share_of_variance"] == pytest.approx(np.mean((x - y) ** 2) / np.mean((x - mean) ** 2), rel=1e-3)
  counts = np.bincount(np.asarray(model.tokens(variables, x)).ravel(), minlength=model.num_codes)
  p = counts[counts > 0] / counts.sum()
  assert values["codes/perplexity"] == pytest.approx(np.exp(-np.sum(p * np.log(p))), rel=1e-3)
  if data.test.peak:
    error = np.mean((data.normalization.undo(x) - data.normalization.undo(y)) ** 2)
    assert values["test/psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)


def _signals(config, workdir, tmp_path):
  """A recording three times as long as a window, of odd length; what is no recording is named."""
  rng = np.random.default_rng(0)
  np.save(tmp_path / "long.npy", rng.normal(size=(307, 6)).astype(np.float32))
  (line,) = generate.reconstruct(workdir.path, [str(tmp_path / "long.npy")], tmp_path / "long")
  assert "size 307" in line
  with np.load(tmp_path / "long" / "generated.npz") as arrays:
    assert arrays["long/decoded"].shape == (307, 6)
    assert arrays["long/tokens"].shape == (-(-307 // config.vqvae.factors[0]),)
  np.save(tmp_path / "few.npy", np.zeros((50, 3)))
  np.save(tmp_path / "holes.npy", np.full((50, 6), np.nan))
  (tmp_path / "cut.npy").write_bytes((tmp_path / "long.npy").read_bytes()[:90])
  (tmp_path / "text.csv").write_text("1,2")
  for name, message in (
    ("few.npy", "few has 3 channels, the model was trained on 6"),
    ("holes.npy", "holes holds NaN or Inf"),
    ("cut.npy", "cut.npy cannot be read"),
    ("text.csv", "signals are read from .npy"),
    ("absent.npy", "no such file"),
  ):
    with pytest.raises(InputError, match=message):
      generate.reconstruct(workdir.path, [str(tmp_path / name)], tmp_path / "bad")
  assert not (tmp_path / "bad").exists()


def _images(config, workdir, tmp_path):
  """An image of another size, one of 16 bits, and one that the factors do not divide."""
  del config
  rng = np.random.default_rng(0)
  small = rng.integers(0, 255, (8, 12)).astype(np.uint8)
  Image.fromarray(small).save(tmp_path / "eight.png")
  Image.fromarray(small.astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
  files = [str(tmp_path / name) for name in ("eight.png", "sixteen.png")]
  generate.reconstruct(workdir.path, files, tmp_path / "images")
  with np.load(tmp_path / "images" / "generated.npz") as arrays:
    np.testing.assert_array_equal(arrays["eight/tokens"], arrays["sixteen/tokens"])
    assert arrays["eight/decoded"].shape == (8, 12, 1)
  with Image.open(tmp_path / "images" / "eight.png") as image:
    assert image.size == (12, 8)
  Image.fromarray(small[:7]).save(tmp_path / "odd.png")
  (tmp_path / "cut.png").write_bytes((tmp_path / "eight.png").read_bytes()[:40])
  for files, message in (
    (["odd.png"], "7 by 2 leaves a rest; see config.frames.size"),
    (["cut.png"], "cut.png cannot be read"),
  ):
    with pytest.raises(InputError, match=message):
      generate.reconstruct(workdir.path, [str(tmp_path / file) for file in files], tmp_path / "bad")
  with pytest.raises(InputError, match="goes from one sample to a second"):
    generate.interpolate(workdir.path, [str(tmp_path / "eight.png")], tmp_path / "bad", steps=3)
  with pytest.raises(InputError, match="holds other files"):
    generate.reconstruct(workdir.path, [], tmp_path)


def _videos(config, workdir, tmp_path):
  """A stack longer than a clip, and one that is empty."""
  rng = np.random.default_rng(0)
  np.save(tmp_path / "stack.npy", rng.integers(0, 255, (11, 16, 16)).astype(np.uint8))
  generate.reconstruct(workdir.path, [str(tmp_path / "stack.npy")], tmp_path / "videos")
  with np.load(tmp_path / "videos" / "generated.npz") as arrays:
    assert arrays["stack/decoded"].shape == (11, 16, 16, 1)
    assert len(arrays["stack/tokens"]) == -(-11 // config.vqvae.factors[0])
  (tmp_path / "empty.mp4").write_bytes(b"")
  with pytest.raises(InputError, match="it is empty"):
    generate.reconstruct(workdir.path, [str(tmp_path / "empty.mp4")], tmp_path / "bad")


def test_interrupted_and_repeated_equals_uninterrupted(finished, tmp_path):
  config, workdir, _ = finished
  if len(config.vqvae.factors) != 2:
    pytest.skip("once is enough")
  data = prepare_samples(config, config.seed)

  def interrupt(step, values):
    if step > 8:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    loop.run(
      config, stage.make_task(config, data), tmp_path / "stage", tmp_path / "metrics.jsonl", stage="vqvae",
      on_evaluation=interrupt,
    )  # fmt: skip
  again = loop.run(config, stage.make_task(config, data), tmp_path / "stage", tmp_path / "metrics.jsonl", stage="vqvae")
  whole = vqvae.restore(workdir, config)[1]
  for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(whole), strict=True):
    np.testing.assert_array_equal(a, b)


def test_factors_that_do_not_fit_leave_no_file(tmp_path):
  config = tiny(2)
  config = dataclasses.replace(config, vqvae=dataclasses.replace(config.vqvae, factors=(16, 16)))
  with pytest.raises(InputError, match="do not divide samples of 8 x 8"):
    stages.run(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_an_unfinished_run_has_no_report(tmp_path):
  Workdir(tmp_path / "run").start(tiny(2))
  with pytest.raises(InputError, match=r"stage 'vqvae' of .* is not complete"):
    vqvae_report.report(Workdir(tmp_path / "run"))
