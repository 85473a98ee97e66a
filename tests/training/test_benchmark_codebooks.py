"""The benchmarks of codebooks and of the prior at a small size."""

import dataclasses

import numpy as np
import pytest

from behavejax.config import CodebookConfig, FramesConfig, QuantizerConfig, TrainConfig, VaeConfig
from behavejax.training import benchmark_codebooks as benchmark
from behavejax.training import benchmark_prior


def test_spread_is_that_of_the_runs():
  runs = [{"a": {"mse": value}, "b": {"mse": 0.5, "psnr": 10.0}} for value in (0.1, 0.2, 0.6)]
  _, header, _, first, second = benchmark.table(runs)
  assert header.startswith("| codes | squared error / variance | PSNR (dB)")
  assert first.startswith(f"| a | 0.3000 ± {np.std([0.1, 0.2, 0.6], ddof=1):.4f} | - |")
  assert second.startswith("| b | 0.5000 ± 0.0000 | 10.00 ± 0.00 | - |")


def test_as_many_codes_for_all():
  sizes = {q.name: q.num_codes if q.name != "fsq" else np.prod(q.levels) for q in benchmark.TOGETHER.values()}
  assert set(sizes) == {"vq_ema", "fsq"}
  assert set(sizes.values()) == {benchmark.CODES} == {benchmark.CONFIG.codebook.codes}


@pytest.mark.slow
def test_every_way_has_its_scores(monkeypatch):
  monkeypatch.setattr(benchmark, "CODES", 12)
  together = {"vq": QuantizerConfig(name="vq_ema", num_codes=12, dim=4), "fsq": QuantizerConfig(levels=(4, 3))}
  monkeypatch.setattr(benchmark, "TOGETHER", together)
  config = dataclasses.replace(
    benchmark.CONFIG,
    frames=FramesConfig(val=0.3, test=0.3),
    vae=VaeConfig(widths=(4, 6), halvings=1, dim=4),
    train=TrainConfig(steps=4, evaluations=1, batch_size=32),
    codebook=CodebookConfig(codes=12, vectors=200, neighbours=6, restarts=1),
  )
  found = benchmark.measure(config, 0)
  assert list(found) == ["none: continuous", *benchmark.AFTERWARDS.values(), "vq", "fsq"]
  for name, values in found.items():
    assert np.isfinite(list(values.values())).all()
    assert ("perplexity" in values) == (name != "none: continuous")
    assert ("graph" in values) == (name in benchmark.AFTERWARDS.values())
  assert found["Euclidean k-means"]["straight"] < found["geodesic k-medoids"]["straight"]
  assert found["geodesic k-medoids"]["graph"] < found["Euclidean k-medoids"]["graph"]


@pytest.mark.slow
def test_both_ways_of_drawing_give_the_same(monkeypatch):
  monkeypatch.setattr(benchmark_prior, "_GRID", (3, 3))
  monkeypatch.setattr(benchmark_prior, "_CODES", 16)
  monkeypatch.setattr(benchmark_prior, "_BATCHES", (2,))
  row = list(benchmark_prior.run(repeats=1))[-1].split()
  assert row[0] == "2"
  assert row[-1] == "100.0%"
