"""What the benchmark of quantizers prints at a small size, and that it trains as the configurations do."""

import dataclasses
import importlib.util
import re
import subprocess
import sys

import pytest

from behavejax import config as config_lib
from behavejax.config import QuantizerConfig
from behavejax.data.prepare import prepare
from behavejax.errors import InputError
from behavejax.training import benchmark_quantizers as benchmark
from tests.export.runs import ROOT, tiny_config


def settings_of(arg):
  """Of `configs/fsq.py`."""
  spec = importlib.util.spec_from_file_location("fsq", ROOT / "configs" / "fsq.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return config_lib.resolve(module.get_config(arg))


@pytest.mark.parametrize("held", [True, False])
def test_settings_are_those_of_the_configuration(held, monkeypatch):
  asked = []

  def prepared(data, seed):
    asked.append(data.name)
    if data.name == "hapt" and not held:
      raise InputError("no RawData in data")
    return dataclasses.make_dataclass("Splits", ["train", "test"])([0] * 7, [0] * 3)

  monkeypatch.setattr(benchmark, "prepare", prepared)
  config, _, line = benchmark.load(6.0)
  expected = settings_of("hapt" if held else "quadruped")
  assert asked == (["hapt"] if held else ["hapt", "quadruped"])
  train = dataclasses.replace(expected.train, epochs=6.0, evaluations=3)
  assert config == dataclasses.replace(expected, train=train)
  assert line.startswith(f"{config.data.name}, 6 epochs of 7 windows, test split of 3")
  assert ("no RawData in data" in line) != held


def test_every_quantizer_of_the_table_is_possible():
  for quantizer in benchmark.QUANTIZERS.values():
    config_lib.resolve({"quantizer": dataclasses.asdict(quantizer)})
  assert {q.name for q in benchmark.QUANTIZERS.values()} == {"fsq", "lfq", "vq", "vq_ema"}


@pytest.mark.slow
def test_each_quantizer_gives_a_row_of_times():
  lines = list(benchmark.speed(size=256, dim=8, num_codes=16, repeats=5))
  rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| VQ") or line.startswith("| FSQ")]
  assert [row[0] for row in rows] == [
    "VQ-EMA", "VQ-EMA, rotation trick", "FSQ 8-6-5", "FSQ 8-5-5-5", "VQ-EMA, plain prototype in chunks of 2048",
  ]  # fmt: skip
  for row in rows:
    assert len(row) == 5
    assert all(re.fullmatch(r"[\d.]+ \([\d.]+\)", cell) for cell in row[1:3])
  assert "times as fast as the prototype" in lines[-1]
  if importlib.util.find_spec(benchmark.PEER) is None:
    assert any("not installed" in line for line in lines)


@pytest.mark.slow
def test_each_quantizer_gives_a_row_of_scores():
  small = {"gains": (), "widths": (8,), "dilations": (), "token_stride": 2}
  config = tiny_config(model=small, train={"steps": 2, "evaluations": 1})
  quantizers = {
    "signs": QuantizerConfig(name="lfq", num_codes=16),
    "stages": benchmark.QUANTIZERS["VQ-EMA, two stages of 16"],
  }
  rows = list(benchmark.table(config, prepare(config.data, config.seed), quantizers))[2:]
  cells = [row.strip("| ").split(" | ") for row in rows]
  assert [row[:2] for row in cells] == [["signs", "16"], ["stages", "256"]]
  for _, codes, accuracy, f1, perplexity, usage, error, rate in cells:
    assert 0 <= float(f1) <= 1
    assert 0 <= float(accuracy) <= 1
    assert 1 <= float(perplexity) <= int(codes)
    assert 0 < float(usage.rstrip("%")) <= 100
    assert float(error) > 0
    assert float(rate) > 0


def test_parts_are_of_this_benchmark_only():
  answer = subprocess.run(
    [sys.executable, "launch/benchmark.py", "train", "--only=speed"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=100,
  )
  assert answer.returncode == 2
  assert answer.stderr.strip() == "behavejax: --only=speed is no part of train"
