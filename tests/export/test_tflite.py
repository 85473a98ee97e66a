"""LiteRT through `behavejax.export.backends`: models in float32, in int8 within, and in int8 throughout."""

import dataclasses

import numpy as np
import pytest

from behavejax.errors import InputError
from behavejax.export.backends import TfliteBackend, open_backend
from behavejax.export.runtime import Runtime
from tests.export import packages

tf = pytest.importorskip("tensorflow")
pytest.importorskip("ai_edge_litert")

INSIDE, THROUGHOUT = "float32 outside", "int8 outside"


def converted(p, *, int8="", signature=True):
  """A small network with the outputs of a package, in alphabetical disorder."""
  rng = np.random.default_rng(0)
  inputs, digits = p.model.shape[3], len(p.quantizer.levels)
  kernel = tf.constant(rng.normal(size=(1, 4, inputs, 5)) / inputs, tf.float32)
  project = tf.constant(rng.normal(size=(1, 1, 5, digits)) / 5, tf.float32)
  dense = tf.constant(rng.normal(size=(5, len(p.labels))), tf.float32)

  @tf.function(input_signature=[tf.TensorSpec(p.model.shape, tf.float32, name="window")])
  def network(window):
    features = tf.nn.relu(tf.nn.conv2d(window, kernel, [1, 1, 4, 1], "SAME"))
    embedding = tf.reduce_mean(features, axis=[1, 2])
    codes = tf.nn.relu6(tf.nn.conv2d(features, project, 1, "SAME") + 3) / 3 - 1
    return {"logits": embedding @ dense, "codes": codes, "embedding": embedding}

  concrete = network.get_concrete_function()
  if signature:
    module = tf.Module()
    module.network = network
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
  else:
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
  if int8:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([window] for window in windows(p, 50))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if int8 == THROUGHOUT:
      converter.inference_input_type = converter.inference_output_type = tf.int8
  return converter.convert(), lambda window: {k: v.numpy() for k, v in concrete(tf.constant(window)).items()}


def windows(p, count):
  """As wide as those of the runtime: copies reach 3 / 0.5."""
  return np.random.default_rng(1).uniform(-6, 6, (count, *p.model.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
  folder, p = tmp_path_factory.mktemp("tflite"), packages.preprocess()
  data, network = converted(p)
  (folder / "model.tflite").write_bytes(data)
  (folder / "model_int8.tflite").write_bytes(converted(p, int8=THROUGHOUT)[0])
  (folder / "model_int8_qat.tflite").write_bytes(converted(p, int8=INSIDE)[0])
  return folder, p.save(folder, ["model.tflite", "model_int8.tflite", "model_int8_qat.tflite"]), network


def test_float_model(package):
  folder, p, network = package
  backend = open_backend("tflite", folder, p)
  answers = [backend.run(window) for window in windows(p, 5)]
  for window, found in zip(windows(p, 5), answers, strict=True):
    for name, expected in network(window).items():
      np.testing.assert_allclose(found[name], expected, atol=1e-5)
      assert found[name].dtype == np.float32
  assert isinstance(open_backend("auto", folder, p), TfliteBackend)


@pytest.mark.parametrize("file", ["model_int8.tflite", "model_int8_qat.tflite"])
def test_int8_model(package, file):
  """Within two steps of the outputs' own scale; what exceeds the range of an input is cut off."""
  folder, p, network = package
  backend = TfliteBackend(folder / file, p.model)
  assert (backend._input.scale > 0) == (file == "model_int8.tflite")
  for window in windows(p, 20):
    found = backend.run(window)
    for name, expected in network(window).items():
      assert found[name].dtype == np.float32
      spread = np.abs(expected).max()
      np.testing.assert_allclose(found[name], expected, atol=0.05 * spread)
  huge = np.full(p.model.shape, 1e6, np.float32)
  most = np.full(p.model.shape, 127, np.float32)
  if file == "model_int8.tflite":
    most = (most - backend._input.zero) * backend._input.scale
    np.testing.assert_array_equal(backend.run(huge)["logits"], backend.run(most)["logits"])


def test_int8_model_in_the_runtime(package):
  folder, _, _ = package
  signal = packages.recording(400, seed=2)
  exact, *others = (Runtime(folder, name).feed(signal) for name in ("tflite", "tflite_int8", "tflite_int8_qat"))
  for coarse in others:
    difference = np.abs([a.probabilities - b.probabilities for a, b in zip(exact, coarse, strict=True)])
    assert 0 < difference.max() < 0.1
  with pytest.raises(InputError, match=r"needs model\.onnx"):
    Runtime(folder, "onnx")


def test_models_that_do_not_fit(package, tmp_path):
  folder, p, _ = package
  path = folder / "model.tflite"
  with pytest.raises(InputError, match=r"input window has shape \[1, 2, 20, 9\]"):
    TfliteBackend(path, dataclasses.replace(p.model, shape=(1, 2, 20, 3)))
  with pytest.raises(InputError, match="has no output 'latents'"):
    TfliteBackend(path, dataclasses.replace(p.model, outputs={"latents": (1, 3)}))
  (tmp_path / "bare.tflite").write_bytes(converted(p, signature=False)[0])
  with pytest.raises(InputError, match="0 signatures, expected one"):
    TfliteBackend(tmp_path / "bare.tflite", p.model)
