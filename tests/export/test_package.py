"""A whole package: what lies in it, that it is what the model is, and what becomes of bad ones."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from behavejax.data.prepare import prepare
from behavejax.errors import InputError
from behavejax.evaluation.evaluate import restore
from behavejax.evaluation.steps import load_steps, read_syllables
from behavejax.export import compare, device, hailo, hailo_rules, manifest, package
from behavejax.export.runtime import Runtime
from behavejax.export.trained import load_trained
from behavejax.training import stages
from behavejax.workdir import Workdir
from tests.export.runs import ROOT, tiny_config, write_run

for library in ("tensorflow", "tf2onnx", "onnxruntime", "ai_edge_litert"):
  pytest.importorskip(library)

QUANTIZERS = {
  "fsq": {"levels": (8, 6, 5)},
  "symmetric": {"levels": (2, 5), "symmetric": True},
  "lfq": {"name": "lfq", "num_codes": 32},
  "vq": {"name": "vq", "num_codes": 32, "dim": 4},
  "vq_ema": {"name": "vq_ema", "num_codes": 32, "dim": 4, "cosine": True},
}


@pytest.fixture(scope="module", params=QUANTIZERS)
def exported(request, tmp_path_factory):
  config = tiny_config(
    quantizer=QUANTIZERS[request.param],
    export={"calibration": 64, "outputs": ("logits", "codes", *(("embedding",) if request.param == "fsq" else ()))},
  )  # fmt: skip
  workdir = write_run(tmp_path_factory.mktemp("runs") / "run", config)
  return request.param, workdir, package.export(workdir.path)


def test_every_form_is_the_trained_model(exported):
  name, workdir, rows = exported
  assert set(rows) >= {"ONNX, accelerator form", "TFLite, exact form", "ONNX head, NumPy tail", "int8, post-training"}
  for label, row in rows.items():
    assert row.logit_error >= row.logit_error_far
    if label.startswith("int8"):
      assert row.code_agreement > 0.75, label  # of random weights; many windows lie between two classes
    else:
      assert row.logit_error_far < 1e-4, (name, label)
      assert row.code_agreement_far == 1, (name, label)
      assert row.class_agreement > 0.99
  report = json.loads((workdir.path / "export" / "report.json").read_text())
  assert report["near_thresholds"] < 0.01
  assert report["ONNX, accelerator form"]["logit_error_far"] == rows["ONNX, accelerator form"].logit_error_far


def test_the_accelerator_takes_it(exported):
  _, workdir, _ = exported
  for name in ("model.onnx", "model.tflite"):
    assert hailo.outside_npu_set(workdir.path / "export" / name) == ()
  for arch in hailo_rules.ARCHITECTURES:
    verdict = package.check(workdir.path, arch=arch)
    assert verdict.ok, hailo.table(verdict)
  with pytest.raises(InputError, match="hailo8l"):
    package.check(workdir.path, arch="hailo-8l")


def test_nothing_is_missing_and_all_is_listed(exported):
  name, workdir, _ = exported
  folder = workdir.path / "export"
  files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
  listed = set(manifest.Preprocess.load(folder).files)
  assert files == listed | {manifest.NAME}
  assert (folder / "codebook.npy").exists() == name.startswith("vq")
  for stated in package.PURPOSE:
    if stated not in ("hsmm.npz", "model_int8_qat.tflite", "codebook.npy", "README.md"):
      assert stated in files, stated
      assert f"`{stated}`" in (folder / "README.md").read_text()
  windows = np.load(folder / "calib.npy", allow_pickle=False)
  assert windows.shape == (64, *manifest.Preprocess.load(folder).model.shape[1:])
  assert windows.dtype == np.float32
  assert np.abs(windows).max() <= 1.0001
  with zipfile.ZipFile(workdir.path / "export.zip") as archive:
    assert set(archive.namelist()) == files
  assert not [path for path in workdir.path.iterdir() if path.name.startswith(".")]


def test_the_runtime_answers_as_the_model(exported):
  _, workdir, _ = exported
  config = workdir.read_config()
  data = prepare(config.data, config.seed)
  trained = load_trained(workdir, config)
  expected = compare.trained_outputs(trained, data.test)
  first = data.test.recording == 0
  length = int(np.count_nonzero(first))
  samples = data.test.signal * data.normalization.std + data.normalization.mean
  end = data.test.starts[first][-1] + data.test.length
  runtime = Runtime(workdir.path / "export", backend="onnx")
  answers = runtime.feed(samples[:end].astype(np.float32)) + runtime.flush()
  found = {answer.start: answer for answer in answers}
  near = compare.nearness(trained, expected["latents"])[:length].any(axis=(1, 2, 3))
  compared = 0
  for i, start in enumerate(data.test.starts[first]):
    if not near[i]:
      np.testing.assert_allclose(found[int(start)].logits, expected["logits"][i], atol=2e-4)
      compared += 1
  assert compared > length / 2


def test_a_repeated_export_replaces_the_first(exported):
  name, workdir, _ = exported
  if name != "fsq":
    pytest.skip("one quantizer is enough")
  folder = workdir.path / "export"
  (folder / "stray").write_text("left by someone")
  package.export(workdir.path)
  assert not (folder / "stray").exists()
  manifest.Preprocess.load(folder)


@pytest.mark.slow
def test_syllables_go_along(tmp_path):
  config = tiny_config(
    segmentation={"states": 3, "restarts": 2, "iterations": 2, "max_duration_s": 3.0, "moves": False},
    export={"calibration": 16},
  )
  workdir = write_run(tmp_path / "run", config)
  stages.add(workdir.path, "hsmm")
  package.export(workdir.path)
  with np.load(workdir.path / "export" / "hsmm.npz", allow_pickle=False) as tables:
    assert {"log_initial", "log_transitions", "log_durations", "log_emission_0", "log_emission_2"} <= set(tables)
    np.testing.assert_allclose(np.exp(tables["log_durations"]).sum(axis=1), 1, rtol=1e-4)
    # expected logs: a little below the log of what is expected
    np.testing.assert_allclose(np.exp(tables["log_emission_1"]).sum(axis=1), 1, atol=0.05)
  runtime = Runtime(workdir.path / "export")
  samples = np.random.default_rng(0).normal(size=(500, 9)).astype(np.float32)
  syllables = [step for answer in runtime.feed(samples) + runtime.flush() for step in answer.syllables]
  assert len(syllables) == 5 * 4  # five windows of two seconds, steps of half a second
  assert all(abs(step.step.state_probs.sum() - 1) < 1e-4 for step in syllables)
  _, steps = load_steps(workdir, config)
  _, learned = read_syllables(workdir, config.segmentation, steps, stage="hsmm")
  tuned = learned._replace(log_initial=learned.log_initial[:, ::-1])
  workdir.write_part("finetune", "syllables", tuned)
  workdir.write_result("finetune", restore(workdir, config, stage="encoder")[1], {"stage": "finetune"})
  package.write_hsmm(tmp_path / "tuned.npz", config, workdir)
  with np.load(tmp_path / "tuned.npz") as after, np.load(workdir.path / "export" / "hsmm.npz") as before:
    np.testing.assert_array_equal(after["log_initial"], before["log_initial"][::-1])
    assert not np.array_equal(after["log_initial"], before["log_initial"])


def run(*arguments):
  environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": "/tmp", "JAX_PLATFORMS": "cpu"}
  return subprocess.run(
    [sys.executable, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
  )


@pytest.mark.slow
def test_the_launchers_end_to_end(tmp_path):
  config = tiny_config(qat={"steps": 4, "evaluations": 1}, export={"calibration": 32})
  workdir = write_run(tmp_path / "run", config)
  answer = run("launch/export.py", f"--workdir={workdir.path}", "--qat")
  assert answer.returncode == 0, answer.stderr
  assert "int8, quantization-aware" in answer.stdout
  assert "hailo8: accepted" in answer.stdout
  checked = run("launch/export.py", f"--workdir={workdir.path}", "--check", "--arch=hailo15h")
  assert checked.returncode == 0
  assert "hailo15h: accepted" in checked.stdout
  recording = tmp_path / "recording.csv"
  channels = manifest.Preprocess.load(workdir.path / "export").channels
  values = np.random.default_rng(0).normal(size=(600, len(channels)))
  recording.write_text("\n".join([",".join(channels), *(",".join(f"{v:.4f}" for v in row) for row in values)]) + "\n")
  for source in ("export", "export.zip"):
    place = [f"--package={workdir.path / source}", f"--out={tmp_path / source}.out"]
    streamed = run("launch/run_edge.py", f"--input={recording}", *place)
    assert streamed.returncode == 0, streamed.stderr
    assert (tmp_path / f"{source}.out" / "ethogram.csv").exists()
  same = [(tmp_path / f"{source}.out" / "windows.csv").read_text() for source in ("export", "export.zip")]
  assert same[0] == same[1]


@pytest.mark.parametrize(
  ("arguments", "words"),
  [
    (["--workdir=nowhere"], ("nowhere", "config.json is missing")),
    (["--workdir={run}", "--check"], ("model.onnx is missing", "launch/export.py")),
    (["--workdir={run}", "--arch=hailo9"], ("hailo9", "hailo8")),
    (["--workdir={run}"], ("'encoder'", "not complete")),
  ],
)
def test_bad_input_is_one_line(arguments, words, tmp_path):
  folder = Workdir(tmp_path / "run")
  folder.start(tiny_config())
  answer = run("launch/export.py", *(a.format(run=folder.path) for a in arguments))
  assert answer.returncode == 2, answer.stdout + answer.stderr
  assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
  assert all(word in answer.stderr for word in words), answer.stderr
  assert not (folder.path / "export").exists()


def test_the_cost_of_a_missing_library_is_a_line(monkeypatch):
  monkeypatch.setitem(sys.modules, "tf2onnx", None)
  monkeypatch.setitem(sys.modules, "tf2onnx.convert", None)
  from behavejax.export import convert

  with pytest.raises(InputError, match=r"needs tf2onnx: pip install"):
    convert.to_onnx(b"", ["logits"], opset=13)


def test_names_of_the_command_lines_are_real_files():
  commands = device.hailo_commands("hailo8l", end_nodes=["a", "b"])
  assert "--end-node-names a b" in commands
  assert "--hw-arch hailo8l" in commands
  assert {"model.onnx", "calib.npy", "model.alls"} <= set(commands.split())
  assert "calibset_size=12" in device.model_script(12)
