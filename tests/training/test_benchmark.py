"""What the benchmark prints, not how fast it is."""

import pathlib
import subprocess
import sys

import pytest

from behavejax.training import benchmark

ROOT = pathlib.Path(__file__).parent.parent.parent


def test_peers_take_turns(monkeypatch):
  monkeypatch.setattr(benchmark, "_SAMPLE", 1e-9)
  order = []
  times = benchmark.alternate([lambda: order.append("a"), lambda: order.append("b")], 5)
  assert order == [*"aabb", *"ab" * 5]  # the first two of each are not timed
  assert [len(own) for own in times] == [5, 5]


def test_a_short_step_is_timed_over_many_calls_and_stands_as_one():
  calls = []
  times = benchmark.alternate([lambda: calls.append(1)], 3, clock=lambda: float(len(calls)))
  assert times == [[1.0] * 3]
  assert len(calls) > 2 + 3 * 10


@pytest.mark.slow
def test_encoder_step_is_timed_beside_its_peer():
  found = benchmark._encoder_step(repeats=5)
  assert float(found["behavejax"]) > 0
  assert "PyTorch" in found


def test_unknown_benchmark_is_named():
  answer = subprocess.run(
    [sys.executable, "launch/benchmark.py", "trian"], cwd=ROOT, capture_output=True, text=True, timeout=100
  )
  assert answer.returncode == 2
  assert answer.stderr.strip().startswith("behavejax: name one benchmark: train, segmentation, edge, quantizers, ")
