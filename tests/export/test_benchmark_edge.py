"""Every way to run a window is timed."""

import pytest

from behavejax.export import benchmark_edge


@pytest.mark.slow
def test_every_way_gives_a_line(monkeypatch):
  pytest.importorskip("tensorflow")
  monkeypatch.setattr(benchmark_edge, "_WINDOWS", 3)
  lines = list(benchmark_edge.run(repeats=1))
  for name in ("ONNX Runtime, float32", "TFLite, int8", "JAX, jitted", "50 samples, tflite_int8"):
    (line,) = (line for line in lines if line.startswith(name))
    assert float(line[len(name) :].split()[0]) > 0
