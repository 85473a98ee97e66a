"""Files that other programs run give what the graph gives, from plain operators."""

import jax
import numpy as np
import pytest

from behavejax.export import build, convert, forms, graph, hailo
from tests.export.runs import small_model, tiny_config

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
litert = pytest.importorskip("ai_edge_litert.interpreter")
tf = pytest.importorskip("tensorflow")

SHAPE = (2, 20, 3)


@pytest.fixture(scope="module")
def static():
  config = tiny_config(model={"gains": ()})
  _, variables = small_model(config, shape=SHAPE)
  return build.build(config, variables, shape=SHAPE)


@pytest.fixture(scope="module")
def windows():
  return np.random.default_rng(3).normal(size=(20, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module", params=["npu", "host", "head", "tail"])
def converted(request, static):
  parts = {"head": forms.cut(static)[0], "tail": forms.cut(static)[1]}
  part = parts.get(request.param) or forms.lower(static, request.param, sharpness=4096.0)
  tflite = convert.to_tflite(part)
  return request.param, part, tflite, convert.to_onnx(tflite, part.outputs, opset=13)


def run_onnx(model, window):
  session = ort.InferenceSession(model)
  names = [value.name for value in session.get_outputs()]
  return dict(zip(names, session.run(names, {graph.INPUT: window}), strict=True))


def run_tflite(model, window):
  return litert.Interpreter(model_content=model).get_signature_runner()(**{graph.INPUT: window})


def test_float_models_equal_the_graph(converted, windows):
  name, part, tflite, model = converted
  windows = windows if name != "tail" else np.random.default_rng(4).normal(size=(20, *part.shape)).astype(np.float32)
  for window in windows:
    expected = graph.run(part, window[None])
    for found in (run_tflite(tflite, window[None]), run_onnx(model, window[None])):
      assert set(found) == set(expected)
      for key in expected:
        np.testing.assert_allclose(found[key], expected[key], atol=1e-4, err_msg=f"{name} {key}")


def test_onnx_is_checked_named_and_free_of_transpose_pairs(converted):
  name, part, _, data = converted
  model = onnx.load_from_string(data)
  onnx.checker.check_model(model, full_check=True)
  assert [opset.version for opset in model.opset_import if opset.domain == ""] == [13]
  assert [value.name for value in model.graph.input] == [graph.INPUT]
  assert {value.name for value in model.graph.output} == set(part.outputs)
  assert all(d.dim_value > 0 for v in (*model.graph.input, *model.graph.output) for d in v.type.tensor_type.shape.dim)
  made = {out: node for node in model.graph.node for out in node.output}
  for node in model.graph.node:
    if node.op_type == "Transpose" and node.input[0] in made:
      assert made[node.input[0]].op_type not in ("Transpose", "Round") or name == "host"
  compute = [node.op_type for node in model.graph.node]
  assert compute.count("Transpose") <= 1 + len(part.outputs)


@pytest.mark.parametrize("pool", ["token", "window"])
def test_the_accelerator_form_holds_plain_operators_only(pool, static, tmp_path):
  if pool == "window":
    config = tiny_config(model={"gains": (), "pool": "window"})
    static = build.build(config, small_model(config, shape=SHAPE)[1], shape=SHAPE)
  npu = forms.lower(static, "npu", sharpness=4096.0)
  tflite = convert.to_tflite(npu)
  for name, data in (("m.tflite", tflite), ("m.onnx", convert.to_onnx(tflite, npu.outputs, opset=13))):
    (tmp_path / name).write_bytes(data)
    assert hailo.outside_npu_set(tmp_path / name) == ()
    assert hailo.check(tmp_path / name).ok
  host = convert.to_tflite(forms.lower(static, "host", sharpness=1.0))
  (tmp_path / "host.onnx").write_bytes(convert.to_onnx(host, static.outputs, opset=13))
  assert any("Round" in found for found in hailo.outside_npu_set(tmp_path / "host.onnx"))


def test_int8_is_int8_and_near(static, windows):
  npu = forms.lower(static, "npu", sharpness=4096.0)
  for interface in (False, True):
    model = convert.to_tflite(npu, calibration=windows, int8_interface=interface)
    interpreter = litert.Interpreter(model_content=model)
    interpreter.allocate_tensors()
    details = interpreter.get_tensor_details()
    weights = [d for d in details if len(d["quantization_parameters"]["scales"]) > 1]
    assert {d["dtype"] for d in weights} <= {np.int8, np.int32}
    assert len([d for d in weights if d["dtype"] == np.int8]) == len([n for n in npu.nodes if n.weights is not None])
    assert interpreter.get_input_details()[0]["dtype"] == (np.int8 if interface else np.float32)
    if not interface:
      found = np.concatenate([run_tflite(model, window[None])["logits"] for window in windows])
      expected = graph.run(npu, windows)["logits"]
      assert np.abs(found - expected).mean() < 0.1 * expected.std()


def test_other_formats_run(static, windows, tmp_path):
  expected = graph.run(static, windows[:1])["logits"]
  exported = jax.export.deserialize(bytearray(convert.to_jax_export(static)))
  np.testing.assert_allclose(exported.call(windows[:1])["logits"], expected, atol=1e-5)
  assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
  convert.to_saved_model(static, tmp_path / "saved")
  served = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
  np.testing.assert_allclose(served(tf.constant(windows[:1]))["logits"], expected, atol=1e-5)


def test_the_same_graph_is_the_same_file(static):
  npu = forms.lower(static, "npu", sharpness=4096.0)
  first, second = (convert.to_tflite(npu) for _ in range(2))
  assert first == second
  assert convert.to_onnx(first, npu.outputs, opset=13) == convert.to_onnx(second, npu.outputs, opset=13)
