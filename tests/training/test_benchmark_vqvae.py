"""What the benchmarks of the autoencoder of samples print, not what they measure."""

import dataclasses
import importlib.util

import numpy as np
import pytest

from behavejax.config import QuantizerConfig
from behavejax.data.prepare_samples import prepare_samples
from behavejax.errors import InputError
from behavejax.models.quantizer import make_quantizer
from behavejax.training import benchmark_vqvae


def test_every_codebook_of_the_table_is_possible():
  for quantizer in benchmark_vqvae.CODEBOOKS.values():
    assert make_quantizer(benchmark_vqvae._weighted(quantizer)).num_codes >= 16


@pytest.mark.slow
def test_a_codebook_gives_a_row_with_its_bits():
  config = benchmark_vqvae._digits()
  config = dataclasses.replace(
    config,
    vqvae=dataclasses.replace(config.vqvae, hidden=8, attention="none"),
    quantizer=QuantizerConfig(levels=(4, 4)),
    train=dataclasses.replace(config.train, steps=8, evaluations=1),
  )
  row = benchmark_vqvae.distortion_row("FSQ", config, prepare_samples(config, 0)).split()
  assert row[0] == "FSQ"
  assert float(row[1]) == 16 * 4
  assert float(row[2]) == 1.0
  assert 0 < float(row[3]) < 2
  assert 1 <= float(row[5]) <= 16


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(InputError, match="the package nd_vq_vae is not installed: pip install --no-deps nd_vq_vae"):
    next(benchmark_vqvae.beside_peer(repeats=5))


def test_clips_are_those_that_the_package_takes():
  train, test = benchmark_vqvae._clips(videos=10)
  assert train.shape[1:] == test.shape[1:] == (8, 16, 16, 3)
  assert -0.5 <= train.min() < train.max() <= 0.5
  np.testing.assert_array_equal(train[..., 0], train[..., 2])
