"""All stages and the report (`geodesic_report`): killed in each it ends the same; skipped, run again, samples drawn."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from behavejax.errors import InputError
from behavejax.evaluation import generation, geodesic
from behavejax.evaluation.generation_page import Wishes, generate
from behavejax.evaluation.latents import read_arrays, read_latents
from behavejax.workdir import Workdir, read_metrics

ROOT = pathlib.Path(__file__).parent.parent.parent
STAGES = ("vae", "codebook", "prior", "generate")
pytestmark = pytest.mark.slow


def learned(workdir):
  """Every array that a stage left behind, by stage and name."""
  found = {}
  with ocp.PyTreeCheckpointer() as checkpointer:
    for stage in STAGES:
      folder = workdir.stage(stage)
      for path, leaf in jax.tree_util.tree_flatten_with_path(checkpointer.restore(folder / "result"))[0]:
        found[f"{stage}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
      for file in sorted(folder.glob("*.npz")):
        found |= {f"{stage}/{file.stem}/{name}": array for name, array in read_arrays(file).items()}
  return found


def start(workdir, *further):
  """The run in a process of its own, with one device: sums are then always taken in the same order."""
  command = [
    sys.executable, "launch/train.py", "--config=configs/geodesic.py:tiny", "--noreport", f"--workdir={workdir}",
    *further,
  ]  # fmt: skip
  return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(workdir, *further, code=0):
  process = start(workdir, *further)
  output, _ = process.communicate(timeout=600)
  assert process.returncode == code, output
  return output


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  folder = tmp_path_factory.mktemp("geodesic") / "whole"
  finish(folder)
  return Workdir(folder)


def test_killed_in_every_stage_it_ends_the_same(whole, tmp_path):
  broken = tmp_path / "broken"
  for stage in STAGES:
    process = start(broken)
    deadline = time.monotonic() + 400
    while process.poll() is None and time.monotonic() < deadline:
      if any(row["stage"] == stage and row["step"] >= 1 for row in read_metrics(broken / "metrics.jsonl")):
        process.send_signal(signal.SIGKILL)
        break
      time.sleep(0.005)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == -signal.SIGKILL, output
    assert not Workdir(broken).is_complete("generate")
  finish(broken)
  expected, found = learned(whole), learned(Workdir(broken))
  assert expected.keys() == found.keys()
  for name, values in expected.items():
    np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_stages_are_skipped_and_run_again(whole, tmp_path):
  again, before = tmp_path / "again", learned(whole)
  shutil.copytree(whole.path, again)
  assert "did you mean 'prior'" in finish(again, "--skip=prio", code=2)
  assert "say the opposite" in finish(again, "--restart_from=prior", "--skip=prior", code=2)
  finish(again, "--restart_from=prior", "--skip=generate", "--config.prior.learning_rate=0.002")
  assert Workdir(again).is_complete("prior")
  assert not Workdir(again).is_complete("generate")
  text = finish(tmp_path / "new", "--skip=codebook", code=2)
  assert "needs 'codebook', which is not complete" in text
  rows, earlier = (read_metrics(path / "metrics.jsonl") for path in (again, whole.path))
  assert [row for row in rows if row["stage"] == "vae"] == [row for row in earlier if row["stage"] == "vae"]
  vae = {name for name in before if name.startswith("vae")}
  with ocp.PyTreeCheckpointer() as checkpointer:
    tree = checkpointer.restore(Workdir(again).stage("vae") / "result")
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    name = f"vae{jax.tree_util.keystr(path)}"
    assert name in vae
    np.testing.assert_array_equal(leaf, before[name])


def test_report(whole):
  values = geodesic.evaluate(whole.path)
  saved = json.loads((whole.report / "metrics.json").read_text())
  assert saved == pytest.approx(values)
  run = generation.load(whole)
  test = run.data.test
  x = test.gather(np.arange(len(test)))
  own = generation.decode_codes(run, run.codes["test"])
  np.testing.assert_allclose(values["test/quantized_mse"], np.mean((own - x) ** 2), rtol=1e-5)
  pixels = test.normalization.undo(own) - test.steps[test.starts]
  np.testing.assert_allclose(
    values["test/quantized_psnr"], 20 * np.log10(test.peak) - 10 * np.log10(np.mean(pixels**2)), rtol=1e-4
  )
  counts = np.bincount(run.codes["train"].ravel(), minlength=12) + 1
  bits = -np.log2(counts / counts.sum())[run.codes["test"]].mean()
  np.testing.assert_allclose(values["prior/unigram_bits"], bits, rtol=1e-6)
  assert 0 < values["prior/bits_per_code"] < 8
  assert {"samples/frechet", "samples/precision", "samples/recall", "samples/copies"} <= values.keys()
  page = (whole.report / "report.md").read_text()
  for heading in ("Findings", "Reconstruction", "Latent vectors", "Codes", "Prior", "Samples", "Training"):
    assert f"## {heading}" in page
  for picture in ("reconstruction", "ways", "codes", "samples", "nearest", "temperatures", "divergence"):
    assert (whole.report / "figures" / f"{picture}.png").stat().st_size > 1000


def test_report_of_a_codebook_alone(whole, tmp_path):
  shutil.copytree(whole.path, tmp_path / "part", ignore=shutil.ignore_patterns("prior", "generate", "report"))
  assert geodesic.evaluate(tmp_path / "part").keys() < geodesic.evaluate(whole.path).keys()
  page = (tmp_path / "part" / "report" / "report.md").read_text()
  assert "## Codes" in page
  assert "## Prior" not in page
  with pytest.raises(InputError, match="has no prior to draw from"):
    generate(tmp_path / "part", tmp_path / "samples", Wishes())


def test_exported_latents_are_those_of_the_model(whole):
  run, latents = generation.load(whole), read_latents(whole)
  test = run.data.test
  posterior = run.vae.encode(run.variables, test.gather(np.arange(20)))
  np.testing.assert_allclose(latents["test"].mean[:20], posterior.mean, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(latents["test"].std[:20], np.exp(posterior.log_std), rtol=1e-4)
  scaled = (latents["train"].drawn - latents["train"].mean) / latents["train"].std
  assert abs(scaled.mean()) < 0.05
  assert abs(scaled.std() - 1) < 0.05


def test_ways_begin_and_end_at_the_samples(whole):
  run = generation.load(whole)
  a, b = run.latents["test"].mean[:2]
  found = generation.ways(run, a, b, steps=7)
  for way in found:
    assert way.shape == (7, *a.shape)
    np.testing.assert_allclose(way[0], a, atol=1e-5)
    np.testing.assert_allclose(way[-1], b, atol=1e-5)
  np.testing.assert_allclose(found.straight[3], (a + b) / 2, atol=1e-5)


def test_generated_samples_are_those_of_the_seed(whole, tmp_path):
  wishes = Wishes(samples=6, classes=("3", "7"), temperatures=(0.5, 1.0), pairs=1, steps=3)
  generate(whole.path, tmp_path / "one", wishes)
  generate(whole.path, tmp_path / "one", wishes)  # over itself
  first = read_arrays(tmp_path / "one" / "samples.npz")
  run = generation.load(whole)
  np.testing.assert_array_equal(first["labels"], [3, 7, 3, 7, 3, 7])
  drawn = generation.sample(run, first["labels"], seed=0)
  np.testing.assert_allclose(run.data.test.normalization.undo(drawn), first["samples"], rtol=1e-4, atol=1e-3)
  assert "From one sample to another" in (tmp_path / "one" / "samples.md").read_text()
  with pytest.raises(InputError, match="'33' is no class of this run"):
    generate(whole.path, tmp_path / "two", wishes._replace(classes=("33",)))
  with pytest.raises(InputError, match="is not empty and holds no samples"):
    generate(whole.path, whole.path, wishes)
  with pytest.raises(InputError, match="--temperatures must be 0 or more, got -1"):
    generate(whole.path, tmp_path / "two", wishes._replace(temperatures=(-1.0,)))
  assert not (tmp_path / "two").exists()
