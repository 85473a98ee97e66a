"""Which library runs the graph, and models that do not fit. TFLite models are in `test_tflite`."""

import dataclasses
import gc
import importlib.machinery
import math
import subprocess
import sys
import types

import numpy as np
import onnx
import onnxruntime
import pytest

from behavejax.errors import InputError
from behavejax.export import backends
from behavejax.export.backends import HailoBackend, OnnxBackend, open_backend
from behavejax.export.runtime import Runtime
from tests.export import packages


@pytest.fixture
def package(tmp_path):
  return tmp_path, packages.make(tmp_path)


def window(p, seed=0):
  return np.random.default_rng(seed).normal(size=p.model.shape).astype(np.float32)


def refused(call, *words):
  with pytest.raises(InputError) as error:
    call()
  assert "\n" not in str(error.value)
  for word in words:
    assert word in str(error.value)


def test_onnx_runs(package):
  folder, p = package
  backend = open_backend("onnx", folder, p)
  found, again = backend.run(window(p)), backend.run(window(p, seed=1))
  expected = onnxruntime.InferenceSession(folder / "model.onnx").run(None, {"window": window(p)})
  assert list(found) == ["logits", "codes", "embedding"]
  for name, value in zip(found, expected, strict=True):
    np.testing.assert_allclose(found[name], value, atol=1e-6)
    assert found[name].shape == p.model.outputs[name]
    assert not np.shares_memory(found[name], again[name])


def test_auto_takes_the_first_that_can_run(package, monkeypatch):
  folder, p = package
  assert isinstance(open_backend("auto", folder, p), OnnxBackend)
  monkeypatch.setitem(sys.modules, "onnxruntime", None)
  refused(lambda: open_backend("auto", folder, p), "no backend can run", "onnxruntime (model.onnx)")
  refused(lambda: open_backend("onnx", folder, p), "onnxruntime is not installed")
  (folder / "model.onnx").unlink()
  refused(lambda: open_backend("auto", folder, p), "a model")


def test_backends_that_are_not_there(package):
  folder, p = package
  refused(lambda: open_backend("onyx", folder, p), "no backend 'onyx'", "tflite_int8")
  refused(lambda: open_backend("tflite", folder, p), "needs model.tflite")
  (folder / "model.tflite").write_bytes(b"not among the files")
  refused(lambda: open_backend("tflite", folder, p), "needs model.tflite", "list of files")


def test_quiet_without_standard_error():
  """A service may have none."""
  program = """
import os
from behavejax.export.backends import quiet
with quiet():
  os.write(2, b"unheard")
os.write(2, b"heard")
os.close(2)
with quiet():
  pass
"""
  answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
  assert (answer.returncode, answer.stderr) == (0, "heard")


@pytest.mark.parametrize("data", [b"", b"hello", b"\x08\x08" * 50])
def test_damaged_models(package, data):
  folder, p = package
  (folder / "model.onnx").write_bytes(data)
  refused(lambda: OnnxBackend(folder / "model.onnx", p.model), "model.onnx cannot be run by ONNX Runtime")
  (folder / "model.tflite").write_bytes(data)
  refused(lambda: backends.TfliteBackend(folder / "model.tflite", p.model), "model.tflite cannot be run by LiteRT")


def test_models_that_do_not_fit(package):
  folder, p = package
  path = folder / "model.onnx"
  outputs = dict(p.model.outputs)

  def changed(**change):
    return lambda: OnnxBackend(path, dataclasses.replace(p.model, **change))

  refused(changed(shape=(1, 2, 20, 3)), "input window has shape [1, 2, 20, 9]", "[1, 2, 20, 3]")
  refused(changed(outputs={**outputs, "logits": (1, 4)}), "output logits has shape [1, 3]", "[1, 4]")
  refused(changed(outputs={**outputs, "latents": (1, 4)}), "has no output 'latents'", "logits, codes, embedding")
  model = packages.graph(p)
  model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
  model.graph.node[0].input[0] = "narrow"
  model.graph.node.insert(0, onnx.helper.make_node("Cast", ["window"], ["narrow"], to=onnx.TensorProto.FLOAT))
  path.write_bytes(model.SerializeToString())
  refused(lambda: OnnxBackend(path, p.model), "model.onnx", "tensor(double), expected tensor(float)")


def test_a_free_batch_fits(package):
  folder, p = package
  model = packages.graph(p)
  for value in (*model.graph.input, *model.graph.output):
    value.type.tensor_type.shape.dim[0].dim_param = "batch"
  (folder / "model.onnx").write_bytes(model.SerializeToString())
  assert OnnxBackend(folder / "model.onnx", p.model).run(window(p))["logits"].shape == (1, 3)


class Fake:
  """Stands for HailoRT: its calls, run by ONNX Runtime, with names and shapes as a compiler leaves them."""

  def __init__(self, model, *, names=None, shape=None, devices=1):
    self.session = onnxruntime.InferenceSession(model)
    self.shape = shape or tuple(self.session.get_inputs()[0].shape[1:])
    self.outputs = {f"net/conv{i}": o for i, o in enumerate(self.session.get_outputs())}
    self.names = {o.name: o.name for o in self.outputs.values()} if names is None else names
    self.devices, self.log = devices, []

  def module(self):
    fake, log = self, self.log

    class Held:
      def __init__(self, name):
        self.name = name

      def __enter__(self):
        log.append(f"+{self.name}")
        return self

      def __exit__(self, *args):
        log.append(f"-{self.name}")

    class HEF:
      def __init__(self, path):
        assert isinstance(path, str)

      def get_input_vstream_infos(self):
        return [types.SimpleNamespace(name="net/input_layer1", shape=fake.shape)]

      def get_output_vstream_infos(self):
        return [
          types.SimpleNamespace(name=name, shape=o.shape[1:] if len(o.shape) == 4 else (1, 1, o.shape[1]))
          for name, o in fake.outputs.items()
        ]

      def get_original_names_from_vstream_name(self, name):
        return [fake.names.get(fake.outputs[name].name, "Gemm_7")]

    class Network(Held):
      def create_params(self):
        return "activation"

      def activate(self, params):
        assert params == "activation"
        return Held("activation")

    class VDevice(Held):
      @staticmethod
      def create_params():
        return types.SimpleNamespace(scheduling_algorithm="round robin")

      def __init__(self, params):
        super().__init__("device")
        assert params.scheduling_algorithm == "none"
        if not fake.devices:
          raise RuntimeError("Failed to create vdevice. there are not enough free devices\nrequested: 1, found: 0")

      def configure(self, hef, params):
        assert params == ("params", "pcie")
        return [Network("network")]

    class InferVStreams(Held):
      def __init__(self, network, inputs, outputs):
        super().__init__("streams")
        assert (inputs, outputs) == (("input", False, "float32"), ("output", False, "float32"))

      def infer(self, data):
        assert log[-1] == "+activation"
        (array,) = data.values()
        values = fake.session.run(None, {"window": array})
        return {
          name: value if value.ndim == 4 else value[:, None, None]
          for name, value in zip(fake.outputs, values, strict=True)
        }

    def params(kind):
      return types.SimpleNamespace(make=lambda network, quantized, format_type: (kind, quantized, format_type))

    module = types.ModuleType("hailo_platform")
    module.__spec__ = importlib.machinery.ModuleSpec("hailo_platform", None)
    module.HEF, module.VDevice, module.InferVStreams = HEF, VDevice, InferVStreams
    module.InputVStreamParams, module.OutputVStreamParams = params("input"), params("output")
    module.ConfigureParams = types.SimpleNamespace(create_from_hef=lambda hef, interface: ("params", interface))
    module.FormatType = types.SimpleNamespace(FLOAT32="float32")
    module.HailoStreamInterface = types.SimpleNamespace(PCIe="pcie")
    module.HailoSchedulingAlgorithm = types.SimpleNamespace(NONE="none")
    return module


@pytest.fixture
def hailo(package, monkeypatch):
  """A package with a `model.hef` that came later, and a device that runs the ONNX model."""
  folder, p = package
  (folder / "model.hef").write_bytes(b"compiled")

  def plug(**settings):
    fake = Fake(folder / "model.onnx", **settings)
    monkeypatch.setitem(sys.modules, "hailo_platform", fake.module())
    return fake

  return folder, p, plug


@pytest.mark.parametrize("names", [None, {}])
def test_hailo_runs_and_lets_go(hailo, names):
  """Outputs are found by the names before compilation, or by their sizes."""
  folder, p, plug = hailo
  fake = plug(names=names)
  assert math.prod(p.model.outputs["codes"]) != math.prod(p.model.outputs["embedding"])
  backend = open_backend("hailo", folder, p)
  found, expected = backend.run(window(p)), OnnxBackend(folder / "model.onnx", p.model).run(window(p))
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value)
  assert fake.log == ["+device", "+streams", "+activation"]
  del backend
  gc.collect()
  assert fake.log[3:] == ["-activation", "-streams", "-device"]


def test_hailo_in_the_runtime(hailo):
  folder, _, plug = hailo
  plug()
  signal = packages.recording(120)
  own, other = Runtime(folder, "hailo").feed(signal), Runtime(folder, "onnx").feed(signal)
  assert [answer.name for answer in own] == [answer.name for answer in other]


def test_hailo_where_it_cannot_run(hailo, monkeypatch):
  folder, p, plug = hailo
  refused(lambda: open_backend("hailo", folder, p), "hailo_platform is not installed", "HailoRT")
  plug(devices=0)
  refused(lambda: open_backend("hailo", folder, p), "model.hef cannot be run by HailoRT", "not enough free devices")
  fake = plug(shape=(2, 20, 3))
  refused(lambda: open_backend("hailo", folder, p), "input net/input_layer1 has shape [1, 2, 20, 3]")
  assert fake.log[-1] == "-device"
  plug(names={})
  same = dataclasses.replace(p.model, outputs={"embedding": (1, 5), "pooled": (1, 4)})
  refused(
    lambda: HailoBackend(folder / "model.hef", same), "output pooled (1, 4) cannot be told", "net/conv1 (2, 5, 3)"
  )
  monkeypatch.setitem(sys.modules, "onnxruntime", None)
  plug_free = open_backend("auto", folder, p)
  assert isinstance(plug_free, HailoBackend)
