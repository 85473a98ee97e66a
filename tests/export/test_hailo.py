"""The operator check: graphs made by hand that it must refuse, for the right reason at the right place, and others."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from behavejax.errors import InputError
from behavejax.export import hailo, hailo_checks, hailo_network, hailo_onnx, hailo_rules, hailo_tflite
from behavejax.export.hailo_rules import ARCHITECTURES, CONFIDENCES, OPERATORS, SOURCES, TWINS

onnx = pytest.importorskip("onnx")
from tests.export.hailo_graphs import BAD, INT64, conv, f32, i64, node, save  # noqa: E402


@pytest.mark.parametrize("case", BAD)
def test_bad_graphs_are_refused_for_the_right_reason(case, tmp_path):
  nodes, keywords, expected, end_nodes = BAD[case]
  verdict = hailo.check(save(tmp_path, nodes, **keywords))
  errors = [finding for finding in verdict.findings if finding.severity == "error"]
  assert not verdict.ok
  assert {finding.node for finding in errors} == set(expected)
  for name, part in expected.items():
    assert any(finding.node == name and part in finding.reason for finding in errors), errors
  assert verdict.end_nodes == end_nodes
  for finding in errors:
    assert finding.source in SOURCES.values()
    assert finding.confidence in CONFIDENCES


@pytest.mark.parametrize(
  ("opset", "arch", "ok"),
  [(11, "hailo8", True), (17, "hailo8l", True), (18, "hailo8", False), (10, "hailo8l", False), (11, "hailo10h", False),
   (13, "hailo15h", True), (21, "hailo10h", True), (22, "hailo15h", False)],
)  # fmt: skip
def test_opsets_differ_between_accelerators(opset, arch, ok, tmp_path):
  path = save(tmp_path, [conv(output="y")], opset=opset)
  verdict = hailo.check(path, arch=arch)
  assert verdict.ok is ok
  seen = [(finding.node, finding.op, finding.reason.split(":")[0]) for finding in verdict.findings]
  assert seen == ([] if ok else [("model.onnx", "(model)", f"opset {opset}")])


HEAD = [node("GlobalAveragePool", "c", "d"), node("Flatten", "d", "e"), node("Gemm", "e g", "y", transB=1)]
GOOD = {
  # name: (nodes, keywords of `save`, parts of the warnings)
  "encoder and head": (
    [conv("x v", "a", pads=[0, 2, 0, 2]), node("Relu", "a", "b"), conv("b v", "b2", "two", pads=[0, 2, 0, 2]),
     node("Add", "b2 b", "c"), *HEAD],
    {"weights": {"v": f32(4, 4, 1, 5), "g": f32(3, 4)}, "outputs": [("y", (1, 3))]}, [],
  ),
  "depthwise, pointwise, relu6": (
    [conv("x k", "a", group=4, auto_pad="SAME_UPPER"), node("Clip", "a lo hi", "b"), conv("b w", "c", "point"), *HEAD],
    {"weights": {"k": f32(4, 1, 1, 7), "lo": np.float32(0), "hi": np.float32(6), "g": f32(3, 4)},
     "outputs": [("y", (1, 3))]}, [],
  ),
  "temporal, dilated": (
    [conv("x v", "a", "d1", dilations=[1, 8], pads=[0, 8, 0, 8]), node("Relu", "a", "b"),
     conv("b v", "y", "d2", dilations=[1, 16], pads=[0, 16, 0, 16])], {"weights": {"v": f32(4, 4, 1, 3)}}, [],
  ),
  "causal padding": (
    [conv("x v", "y", pads=[0, 2, 0, 0])], {"weights": {"v": f32(4, 4, 1, 3)}}, ["conv: padding 0 x 2 x 0 x 0"],
  ),
  "samples last, as from TFLite": (
    [node("Transpose", "x", "a", perm=[0, 3, 1, 2]), conv("a w", "b"), node("Relu", "b", "c"),
     node("Transpose", "c", "y", "back", perm=[0, 2, 3, 1])],
    {"inputs": [("x", (1, 2, 50, 4))], "outputs": [("y", (1, 2, 50, 4))]}, [],
  ),
  "logits per token": (
    [conv(), node("Transpose", "a", "b", perm=[0, 2, 3, 1]), node("Reshape", "b s", "c"),
     node("Softmax", "c", "y", axis=-1)], {"weights": {"s": i64(1, 100, 4)}, "outputs": [("y", (1, 100, 4))]}, [],
  ),
  "batch normalisation after a convolution": (
    [conv(), node("BatchNormalization", "a s s s s", "b"), node("Relu", "b", "y")], {"weights": {"s": f32(4)}}, [],
  ),
  "batch normalisation alone": (
    [conv(), node("Relu", "a", "b"), node("BatchNormalization", "b s s s s", "y")], {"weights": {"s": f32(4)}},
    ["batchnormalization: after Relu"],
  ),
  "argmax at the end": (
    [conv(), node("ArgMax", "a", "y", axis=1)], {"outputs": [("y", (1, 1, 2, 50), INT64)]}, [],
  ),
  "layer norm of tokens": (
    [node("MatMul", "x m", "a"), node("LayerNormalization", "a s", "y", axis=-1)],
    {"opset": 17, "inputs": [("x", (1, 50, 4))], "weights": {"m": f32(4, 4), "s": f32(4)},
     "outputs": [("y", (1, 50, 4))]}, [],
  ),
  "gates": (
    [conv(), node("Sigmoid", "a", "b"), node("Mul", "a b", "c"), node("Tanh", "c", "d"),
     node("GlobalAveragePool", "d", "e"), node("Mul", "d e", "f", "scale"), node("Concat", "d f", "y", axis=1)],
    {"outputs": [("y", (1, 8, 2, 50))]}, [],
  ),
  "flattened image": (
    [conv(), node("Flatten", "a", "b"), node("Gemm", "b g", "y")],
    {"weights": {"g": f32(400, 3)}, "outputs": [("y", (1, 3))]}, ["flatten: 2 x 50 flattened"],
  ),
  "ends in a reshape": (
    [conv(), node("Reshape", "a s", "y")], {"weights": {"s": i64(1, 4, 100)}, "outputs": [("y", (1, 4, 100))]},
    ["reshape: an output"],
  ),
  "weights through nodes": (
    [node("Constant", "", "k", "k", value=onnx.numpy_helper.from_array(f32(1, 1, 4, 4))),
     node("Transpose", "k", "v", "turn", perm=[3, 2, 0, 1]), conv("x v", "y")], {}, [],
  ),
  "activation first": (
    [node("Relu", "x", "a"), conv("a w", "y")], {}, ["relu: reads the graph's input"],
  ),
  "previews": (
    [conv(), node("HardSwish", "a", "b"), node("Gelu", "b", "y")], {"opset": 20, "arch": "hailo10h"},
    ["hardswish: HardSwish: listed as a preview", "gelu: Gelu: listed as a preview"],
  ),
  "reshape to the same shape": (
    [conv(), node("Reshape", "a s", "b"), conv("b w", "y", "last")], {"weights": {"s": i64(1, 4, 2, 50)}},
    ["reshape: [1, 4, 2, 50] again"],
  ),
  "mean without its axes": (
    [conv(), node("ReduceMean", "a", "b", axes=[2, 3], keepdims=0), node("Gemm", "b g", "y")],
    {"weights": {"g": f32(4, 3)}, "outputs": [("y", (1, 3))]}, ["reducemean: keepdims 0"],
  ),
  "wide pooling": (
    [conv(), node("AveragePool", "a", "y", kernel_shape=[1, 50])], {"outputs": [("y", (1, 4, 2, 1))]}, [],
  ),
  "other clip": (
    [conv(), node("Clip", "a lo", "y")], {"weights": {"lo": np.float32(-1)}}, ["clip: bounds -1 and inf"],
  ),
}  # fmt: skip


@pytest.mark.parametrize("case", GOOD)
def test_good_graphs_are_accepted(case, tmp_path):
  nodes, keywords, warnings = GOOD[case]
  arch = keywords.get("arch", "hailo8")
  verdict = hailo.check(save(tmp_path, nodes, **{k: v for k, v in keywords.items() if k != "arch"}), arch=arch)
  seen = [f"{finding.node}: {finding.reason}" for finding in verdict.findings]
  assert verdict.ok, seen
  assert len(seen) == len(warnings)
  for text, part in zip(seen, warnings, strict=True):
    assert text.startswith(part)
  folded = {"Constant"} | ({"Transpose"} if case == "weights through nodes" else set())
  assert set(verdict.operators) == {each.op_type for each in nodes} - folded


def test_sizes_that_get_lost_are_reported_once(tmp_path):
  nodes, keywords, *_ = BAD["length from data"]
  path = save(
    tmp_path, [*nodes[:-1], node("Resize", "b  s", "c", mode="nearest"), node("Relu", "c", "y", "r")], **keywords
  )
  findings = [f for f in hailo.check(path).findings if "every size is known" in f.reason]
  assert [(f.node, f.reason.split(":")[0]) for f in findings] == [("resize", "output c of shape [?, ?, ?, ?]")]


def test_end_nodes_of_an_accepted_graph_are_its_last_layers(tmp_path):
  nodes, keywords, _ = GOOD["samples last, as from TFLite"]
  assert hailo.check(save(tmp_path, nodes, **keywords)).end_nodes == ("relu",)


def test_attention_is_a_warning_on_the_first_accelerators_only(tmp_path):
  nodes = [node("MatMul", "x m", "a"), node("MatMul", "x n", "b", "other"), node("MatMul", "a b", "y", "product")]
  weights = {"m": f32(4, 4), "n": f32(4, 4)}
  path = save(tmp_path, nodes, inputs=[("x", (1, 4, 4))], weights=weights, outputs=[("y", (1, 4, 4))])
  first, second = (hailo.check(path, arch=arch) for arch in ("hailo8", "hailo15h"))
  assert [(f.node, f.severity, f.confidence) for f in first.findings] == [("product", "warning", "documented")]
  assert (first.ok, second.ok, second.findings) == (True, True, ())


# TFLite.


@pytest.fixture(scope="module")
def tflite(tmp_path_factory):
  """Files made by TensorFlow's converter: good in float and int8, with Round, with Gather, with a dynamic batch."""
  tf = pytest.importorskip("tensorflow")
  folder = tmp_path_factory.mktemp("tflite")
  rng = np.random.default_rng(0)
  kernel, dense = (tf.constant(rng.normal(size=size), tf.float32) for size in ((1, 5, 4, 8), (8, 3)))

  def trunk(x):
    return tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME"))

  def good(x):
    return tf.nn.softmax(tf.reduce_mean(tf.nn.avg_pool2d(trunk(x), (2, 50), 1, "VALID"), (1, 2)) @ dense)

  def many(x):
    y = tf.pad(
      tf.nn.relu6(tf.nn.depthwise_conv2d(x, kernel[..., :1], (1, 1, 1, 1), "SAME")), ((0, 0), (0, 0), (1, 1), (0, 0))
    )
    y = tf.nn.max_pool2d(tf.nn.conv2d(y, kernel, (1, 1), "VALID"), (1, 2), (1, 2), "VALID")
    a, b = tf.split(y, 2, axis=-1)
    y = tf.image.resize(tf.concat([tf.tanh(a), b], -1)[:, :, 2:22], (2, 40), "nearest")
    return tf.argmax(tf.nn.conv2d_transpose(y, kernel, (1, 2, 80, 4), (1, 2), "SAME"), -1, tf.int32)

  def write(name, function, batch=1, int8=False):
    signature = tf.TensorSpec((batch, 2, 50, 4), tf.float32)
    module = tf.Module()
    concrete = tf.function(function, autograph=False).get_concrete_function(signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    if int8:
      converter.optimizations = [tf.lite.Optimize.DEFAULT]
      converter.representative_dataset = lambda: ([rng.normal(size=(1, 2, 50, 4)).astype(np.float32)] for _ in range(2))
      converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    (folder / f"{name}.tflite").write_bytes(converter.convert())

  write("good", lambda x: tf.nn.softmax(tf.reshape(tf.nn.avg_pool2d(trunk(x), (2, 50), 1, "VALID"), (1, 8)) @ dense))
  write("int8", lambda x: tf.reshape(tf.nn.avg_pool2d(trunk(x), (2, 50), 1, "VALID"), (1, 8)) @ dense, int8=True)
  write("round", lambda x: tf.round(trunk(x)) + 1.0)
  write("batch", trunk, batch=None)
  write("mean", good)
  write("many", many)
  return folder


def test_good_tflite(tflite):
  verdict = hailo.check(tflite / "good.tflite")
  assert verdict.findings == ()
  assert set(verdict.operators) >= {"CONV_2D", "AVERAGE_POOL_2D", "FULLY_CONNECTED", "SOFTMAX"}
  assert hailo.outside_npu_set(tflite / "good.tflite") == ()


def test_quantized_tflite_is_a_warning(tflite):
  verdict = hailo.check(tflite / "int8.tflite")
  assert verdict.ok
  assert "int8 tensors: the compiler quantizes a float model by itself" in verdict.findings[0].reason
  assert {"QUANTIZE", "DEQUANTIZE"} <= set(verdict.operators)
  assert hailo.outside_npu_set(tflite / "int8.tflite") == ()


def test_bad_tflite(tflite):
  verdict = hailo.check(tflite / "round.tflite")
  (error,) = (finding for finding in verdict.findings if finding.severity == "error")
  assert error.op == "ROUND"
  assert "rounding" in error.reason
  network = hailo_tflite.read(tflite / "round.tflite")
  assert [o.op for o in network.operations if o.name in verdict.end_nodes] == ["CONV_2D"]
  assert hailo.outside_npu_set(tflite / "round.tflite") == (f"ROUND {error.node}",)
  (error,) = hailo.check(tflite / "batch.tflite").findings
  assert (error.op, error.reason.split(":")[0]) == ("(input)", "batch not fixed")


def test_attributes_of_tflite(tflite):
  operations = {o.op: o for o in hailo_tflite.read(tflite / "good.tflite").operations}
  conv = operations["CONV_2D"]
  assert (conv.kind, conv.attributes["kernel"], conv.attributes["auto_pad"]) == ("Conv", (1, 5), "SAME")
  assert (conv.attributes["group"], conv.attributes["activation"]) == (1, "RELU")
  assert operations["AVERAGE_POOL_2D"].attributes["kernel"] == (2, 50)
  mean = {o.op: o for o in hailo_tflite.read(tflite / "mean.tflite").operations}["MEAN"]
  assert (mean.attributes["axes"], mean.attributes["keepdims"]) == ((1, 2), 0)


def test_many_operators_of_tflite(tflite):
  verdict = hailo.check(tflite / "many.tflite")
  assert [f"{f.op} {f.reason}" for f in verdict.findings] == []
  operations = {o.kind: o for o in hailo_tflite.read(tflite / "many.tflite").operations}
  expected = {
    "Pad": {"axes": (2,)}, "MaxPool": {"kernel": (1, 2), "strides": (1, 2)}, "Split": {"axis": -1},
    "Slice": {"axes": (2,), "steps": [1, 1, 1, 1]}, "Resize": {"mode": "nearest"}, "ArgMax": {"axis": -1},
    "Concat": {"axis": -1}, "ConvTranspose": {"kernel": (1, 5), "strides": (1, 2), "auto_pad": "SAME"},
  }  # fmt: skip
  for kind, attributes in expected.items():
    assert {key: operations[kind].attributes[key] for key in attributes} == attributes, kind


def test_fused_activation_of_tflite(tflite, tmp_path):
  flatbuffers = pytest.importorskip("flatbuffers")
  from ai_edge_litert import schema_py_generated as schema

  model = schema.ModelT.InitFromPackedBuf((tflite / "good.tflite").read_bytes(), 0)
  model.subgraphs[0].operators[0].builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.SIGN_BIT
  builder = flatbuffers.Builder(0)
  builder.Finish(model.Pack(builder), b"TFL3")
  (tmp_path / "sign.tflite").write_bytes(builder.Output())
  (error,) = hailo.check(tmp_path / "sign.tflite").findings
  assert (error.op, error.severity, error.reason.split(":")[0]) == ("CONV_2D", "error", "ends in SIGN_BIT")


def test_neither_jax_nor_tensorflow_is_imported(tflite, tmp_path):
  model = save(tmp_path, [conv(output="y")])
  code = (
    "import sys; from behavejax.export import hailo;"
    f"assert hailo.check({str(tflite / 'good.tflite')!r}).ok and hailo.check({str(model)!r}).ok;"
    "assert not {'jax', 'tensorflow', 'tf2onnx'} & set(sys.modules)"
  )
  assert subprocess.run([sys.executable, "-c", code], cwd=pathlib.Path(__file__).parents[2]).returncode == 0


# The set of operators of an npu export.


def test_npu_set(tmp_path):
  for case in ("encoder and head", "depthwise, pointwise, relu6", "samples last, as from TFLite", "logits per token"):
    nodes, keywords, _ = GOOD[case]
    assert hailo.outside_npu_set(save(tmp_path, nodes, **keywords)) == ()


@pytest.mark.parametrize(
  ("nodes", "weights", "shape", "outside"),
  [
    ([conv(), node("Tanh", "a", "y")], {}, (1, 4, 2, 50), "Tanh tanh"),
    ([conv(), node("Clip", "a lo hi", "y")], {"lo": np.float32(0), "hi": np.float32(5)}, (1, 4, 2, 50), "Clip clip"),
    ([conv(), node("Clip", "a lo", "y")], {"lo": np.float32(0)}, (1, 4, 2, 50), "Clip clip"),
    (BAD["reshape in the middle"][0], BAD["reshape in the middle"][1]["weights"], (1, 4, 1, 50), "Reshape reshape"),
    (BAD["transpose in the middle"][0], {}, (1, 4, 50, 2), "Transpose transpose"),
    ([conv(), node("Squeeze", "a s", "y")], {"s": i64(0)}, (4, 2, 50), "Squeeze squeeze"),
  ],
)
def test_outside_the_npu_set(nodes, weights, shape, outside, tmp_path):
  assert hailo.outside_npu_set(save(tmp_path, nodes, weights=weights, outputs=[("y", shape)])) == (outside,)


# Wrong input and the command line.


def wrong_files(folder):
  good = save(folder, [conv(output="y")]).read_bytes()
  files = {"text.onnx": b"no model at all", "cut.onnx": good[: len(good) // 2], "empty.tflite": b""}
  files |= {"junk.tflite": b"x" * 64, "cut.tflite": b"\x1c\x00\x00\x00TFL3", "notes.txt": b"", "w.onnx": b""}
  for name, content in files.items():
    (folder / name).write_bytes(content)
  return [*files, "missing.onnx", "missing.tflite"]


def test_wrong_files_are_named(tmp_path, capsys):
  for name in wrong_files(tmp_path):
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
      hailo.check(tmp_path / name)
    assert hailo.main([str(tmp_path / name)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), err.startswith("behavejax: ")) == ("", 1, True)


def test_wrong_arguments(tmp_path, capsys):
  path = str(save(tmp_path, [conv(output="y")]))
  with pytest.raises(InputError, match="'hailo8m' is unknown; did you mean 'hailo8"):
    hailo.check(path, arch="hailo8m")
  for argv, part in (([path, "--arch", "hailo15"], "did you mean 'hailo15h'"), ([], "model"), ([path, "--x"], "--x")):
    assert hailo.main(argv) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("behavejax: ")
    assert part in err


@pytest.mark.parametrize(("module", "reader", "name"), [
  ("onnx", hailo_onnx, "model.onnx"), ("ai_edge_litert", hailo_tflite, "model.tflite")
])  # fmt: skip
def test_a_missing_package_is_named(module, reader, name, tmp_path, monkeypatch):
  (tmp_path / name).write_bytes(b"")
  monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(InputError, match=r"pip install 'behavejax\[export\]'"):
    reader.read(tmp_path / name)


def test_command_line(tmp_path, capsys):
  nodes, keywords, *_ = BAD["two paths"]
  path = str(save(tmp_path, nodes, **keywords))
  assert hailo.main([path, "--arch", "hailo8l"]) == 1
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == "hailo8l: refused; errors: 2, warnings: 0"
  assert lines[1] == "operators: Conv 1, Relu 1, Round 2, Sigmoid 1, Add 1, Tanh 1"
  assert lines[4].split("  ")[0] == "error"
  assert lines[4].endswith("[1]")
  assert f"[1] reported: {SOURCES['fsq']}" in lines
  assert lines[-1] == "nearest valid end nodes: relu sigmoid tanh"
  assert hailo.main([path, "--json"]) == 1
  shown = json.loads(capsys.readouterr().out)
  verdict = hailo.check(path)
  assert shown["end_nodes"] == ["relu", "sigmoid", "tanh"]
  assert shown["ok"] is False
  assert [hailo.Finding(**finding) for finding in shown["findings"]] == list(verdict.findings)
  assert hailo.main([str(save(tmp_path, [conv(output="y")]))]) == 0
  assert capsys.readouterr().out == "hailo8: accepted; errors: 0, warnings: 0\noperators: Conv 1\n"
  assert hailo.main([str(save(tmp_path, [node("Round", "x", "y")]))]) == 1
  assert capsys.readouterr().out.endswith("nearest valid end nodes: none, the first layer is refused\n")


# The table.


def test_rows_are_complete():
  checks = {"(model)": hailo_checks.MODEL_CHECKS, "(input)": hailo_checks.INPUT_CHECKS}
  for row in OPERATORS:
    assert row.source in SOURCES
    assert row.confidence in CONFIDENCES
    assert row.source != "none" or row.confidence == "inferred"
    assert row.severity in ("error", "warning")
    assert set(row.archs) <= set(ARCHITECTURES)
    assert "{" not in row.sentence()
    for operator in row.operators:
      assert row.aspect in checks.get(operator, hailo_checks.CHECKS)
  assert set(SOURCES) == {row.source for row in OPERATORS} | {"none"}
  assert {row.aspect for row in OPERATORS} >= set(hailo_checks.CHECKS)


def test_every_operator_is_either_accepted_or_refused():
  for arch in ARCHITECTURES:
    for operator in {o for row in OPERATORS for o in row.operators if "(" not in o} | set(TWINS.values()):
      decisions = [row.aspect for row in hailo_rules.rows_of(operator, arch) if row.aspect in ("accepted", "refused")]
      assert len(decisions) == 1, operator
  standard = {schema.name for schema in onnx.defs.get_all_schemas()}
  assert {o for row in OPERATORS for o in row.operators if "(" not in o} - standard <= {"Mish"}


def test_markdown_file_is_the_table():
  path = pathlib.Path(__file__).parents[2] / "docs" / "hailo_operators.md"
  text = hailo_rules.rules_markdown()
  assert path.read_text() == text, "write rules_markdown() to docs/hailo_operators.md"
  assert "was not run" in text
  for row in OPERATORS:
    assert f"| {row.aspect} | {row.sentence()} |" in text


def test_roles_follow_transpositions(tmp_path):
  nodes, keywords, _ = GOOD["samples last, as from TFLite"]
  roles = hailo_onnx.read(save(tmp_path, nodes, **keywords)).roles
  assert (roles["x"], roles["a"], roles["y"]) == (hailo_network.NHWC, hailo_network.NCHW, hailo_network.NHWC)
