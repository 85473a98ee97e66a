"""Each finding fires where it should, and names a setting that exists."""

import dataclasses

import pytest

from behavejax.config import Config, LossConfig, QuantizerConfig
from behavejax.evaluation import vqvae_findings
from behavejax.evaluation.findings import judge

CONFIG = Config(
  quantizer=QuantizerConfig(name="vq_ema", num_codes=64, dim=10, commitment_weight=0.5),
  loss=LossConfig(quantization=0.1),
)
HEALTHY = {
  "val/reconstruction_mse": 0.08,
  "val/loss": 0.1,
  "val/quantization_loss": 0.2,
  "val/perplexity_share": 0.7,
  "train/reconstruction_mse": 0.07,
}


def fired(earlier=0.082, config=CONFIG, **changes):
  values = {**HEALTHY, **{f"val/{name}": value for name, value in changes.items()}}
  numbers = vqvae_findings.numbers(values, config, earlier=earlier)
  return {finding.name: finding for finding in judge(vqvae_findings.checks(config), numbers)}


def test_a_healthy_run_has_no_finding_and_every_check_is_judged():
  assert not fired()
  numbers = vqvae_findings.numbers(HEALTHY, CONFIG, earlier=0.082)
  assert {check.key for check in vqvae_findings.checks(CONFIG)} == set(numbers)


@pytest.mark.parametrize(
  ("changes", "earlier", "name"),
  [
    ({"reconstruction_mse": 0.4}, 0.6, "high reconstruction loss"),
    ({"reconstruction_mse": 0.4}, 0.401, "high and flat reconstruction loss"),
    ({}, 0.2, "not trained to the end"),
    ({"reconstruction_mse": 0.15}, 0.15, "overfitting"),
    ({"quantization_loss": 0.9}, 0.082, "commitment too high"),
    ({"quantization_loss": 6.0}, 0.082, "commitment too low"),
    ({"perplexity_share": 0.2}, 0.082, "low perplexity"),
    ({"perplexity_share": 0.97, "reconstruction_mse": 0.4}, 0.6, "saturated perplexity"),
  ],
)
def test_what_goes_wrong_is_found(changes, earlier, name):
  assert name in fired(earlier, **changes)


def test_a_saturated_codebook_is_no_fault_where_the_reconstruction_is_good():
  assert not fired(perplexity_share=0.99)


@pytest.mark.parametrize("name", ["fsq", "lfq", "vq", "vq_ema"])
def test_advice_names_settings_that_exist(name):
  config = dataclasses.replace(CONFIG, quantizer=QuantizerConfig(name=name, num_codes=64))
  found = fired(0.6, config, reconstruction_mse=0.6, perplexity_share=0.01, quantization_loss=9.0)
  assert found
  for finding in found.values():
    assert finding.keys
    for key in finding.keys:
      value = config
      for part in key.split("."):
        value = getattr(value, part)


def test_the_end_of_training_is_not_judged_at_its_start():
  values = {**HEALTHY, "val/reconstruction_mse": 0.9, "train/reconstruction_mse": 0.9, "val/loss": 1.0}
  assert not vqvae_findings.of_evaluation(values, CONFIG, done=0.2)
  assert vqvae_findings.of_evaluation(values, CONFIG, done=0.9)
