"""What the benchmark prints, not how fast it is."""

import pathlib
import subprocess
import sys

import pytest

from behavejax.training import benchmark

ROOT = pathlib.Path(__file__).parent.parent.parent


def test_peers_take_turns():
  order = []
  times = benchmark.alternate([lambda: order.append("a"), lambda: order.append("b")], 5)
  assert order == ["a", "b"] * 7  # two warm-up rounds are not timed
  assert [len(own) for own in times] == [5, 5]


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
