"""Every check fires and is silent where it should, and names settings that exist."""

import dataclasses
import functools
import math

import numpy as np
import pytest

from behavejax.config import Config, LossConfig, QualityConfig, QuantizerConfig, SegmentationConfig
from behavejax.evaluation import findings
from behavejax.evaluation.page import Paragraph, Table

LIMITS = findings.Limits()
HEALTHY = {
  "perplexity": 110.0, "code_usage": 0.9, "largest_code": 0.04, "encoder_gradient": 0.4, "reconstruction_mse": 0.2,
  "tokens_changed": 0.04,
}  # fmt: skip
SICK = {
  "perplexity": ("codebook collapse", 3.1),
  "code_usage": ("unused codes", 0.05),
  "largest_code": ("all in one cluster", 0.95),
  "encoder_gradient": ("no gradient through the quantizer", 0.0),
  "reconstruction_mse": ("poor reconstruction", 0.97),
  "tokens_changed": ("assignments unstable", 0.6),
}
HEALTHY_STATES = {
  "largest_state": 0.4, "states": 8.0, "transitions_per_minute": 6.0, "shortest_mean_steps": 5.0,
  "longest_mean_share": 0.3, "hsmm_time": 0.2,
}  # fmt: skip
SICK_STATES = {
  "largest_state": ("all in one cluster", 0.97),
  "states": ("too many clusters", 20.0),
  "transitions_per_minute": ("states never change", 0.01),
  "shortest_mean_steps": ("unrealistic durations", 1.2),
  "longest_mean_share": ("unrealistic durations", 0.95),
  "hsmm_time": ("time spent in the HSMM", 0.8),
}
QUANTIZERS = [QuantizerConfig(name=name) for name in ("fsq", "lfq", "vq", "vq_ema")]


def test_a_healthy_run_is_silent():
  assert findings.judge(findings.code_checks(Config()), HEALTHY) == []
  assert findings.judge(findings.state_checks(Config()), HEALTHY_STATES) == []


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: q.name)
@pytest.mark.parametrize("key", SICK)
def test_every_check_of_codes_fires_alone(key, quantizer):
  name, value = SICK[key]
  found = findings.judge(findings.code_checks(Config(quantizer=quantizer)), HEALTHY | {key: value})
  assert [f.name for f in found] == [name]
  assert found[0].measured == value
  _check_settings(found[0])


@pytest.mark.parametrize("key", SICK_STATES)
def test_every_check_of_states_fires_alone(key):
  name, value = SICK_STATES[key]
  found = findings.judge(findings.state_checks(Config()), HEALTHY_STATES | {key: value})
  assert [f.name for f in found] == [name]
  _check_settings(found[0])


def test_codes_are_merged_by_temperature_and_features_by_noise():
  crowded = HEALTHY_STATES | {"states": 20.0}
  for stages, key in ((("encoder", "hsmm"), "segmentation.temperature"), (("hsmm",), "segmentation.noise")):
    (found,) = findings.judge(findings.state_checks(Config(stages=stages)), crowded)
    assert found.name == "too many clusters"
    assert key in found.keys
  (found,) = findings.judge(findings.state_checks(Config(stages=("encoder", "hdp")), mixture=True), crowded)
  assert found.keys == ("segmentation.states", "segmentation.gamma", "segmentation.moves")


def _check_settings(finding):
  assert finding.keys
  for key in finding.keys:
    functools.reduce(getattr, key.split("."), Config())  # raises where there is no such setting
  assert finding.advice in finding.line
  assert finding.healthy in finding.line


@pytest.mark.parametrize(
  ("checks", "healthy"),
  [(findings.code_checks(Config()), HEALTHY), (findings.state_checks(Config()), HEALTHY_STATES)],
)
def test_the_limit_itself_is_healthy(checks, healthy):
  at_limit = healthy | {check.key: check.limit for check in checks}
  assert findings.judge(checks, at_limit) == []
  for check in checks:
    beyond = healthy | {check.key: check.limit * (0.99 if check.above else 1.01)}
    assert [f.limit for f in findings.judge(checks, beyond)] == [check.limit]


def test_the_line_is_the_one_promised():
  found = findings.judge(findings.code_checks(Config(quantizer=QuantizerConfig(name="vq", num_codes=240))), SICK_LINE)
  assert found[0].line.startswith("finding: codebook collapse: perplexity 3.1 of 240 codes (healthy: at least 24.0): ")
  assert "config.quantizer.entropy_weight" in found[0].line


SICK_LINE = {"perplexity": 3.1}


def test_what_is_not_known_is_not_judged():
  checks = findings.code_checks(Config())
  assert findings.judge(checks, {}) == []
  assert findings.judge(checks, {"perplexity": math.nan, "reconstruction_mse": math.inf}) == []


def test_some_checks_wait_until_the_training_settles():
  config = Config()
  values = {"val/tokens_changed": 0.9, "val/reconstruction_mse": 0.99, "val/perplexity": 2.0}
  early = findings.of_evaluation(values, config, done=0.2)
  assert {f.name for f in early} == {"codebook collapse"}
  late = findings.of_evaluation(values, config, done=1.0)
  assert {f.name for f in late} == {"codebook collapse", "assignments unstable", "poor reconstruction"}


def test_the_gradient_of_a_row_is_a_share():
  row = {"gradient_norm": 2.0, "gradient_norm/encoder": 0.004}
  (found,) = findings.of_evaluation(row, Config())
  assert found.name == "no gradient through the quantizer"
  assert found.measured == pytest.approx(0.002)
  assert findings.of_evaluation(row | {"gradient_norm/encoder": 0.5}, Config()) == []


def test_settings_of_the_run_are_respected():
  strict = Config(data=dataclasses.replace(Config().data, quality=QualityConfig(min_perplexity=120.0, min_usage=0.95)))
  assert {f.name for f in findings.judge(findings.code_checks(strict), HEALTHY)} == {
    "codebook collapse", "unused codes",
  }  # fmt: skip
  unrebuilt = Config(loss=LossConfig(reconstruction=0.0))
  assert findings.judge(findings.code_checks(unrebuilt), {"reconstruction_mse": 5.0}) == []
  few = Config(quantizer=QuantizerConfig(levels=(3,)))  # three codes cannot have a perplexity of 4
  assert findings.judge(findings.code_checks(few), {"perplexity": 2.9}) == []
  many = Config(quantizer=QuantizerConfig(levels=(8, 6, 5), stages=2))  # 57 600 combinations
  assert findings.judge(findings.code_checks(many), {"perplexity": 900.0, "code_usage": 0.02}) == []
  less = Config(segmentation=SegmentationConfig(states=8))
  assert [f.name for f in findings.judge(findings.state_checks(less), HEALTHY_STATES)] == ["too many clusters"]


def test_numbers_of_states():
  share, means = np.array([0.7, 0.295, 0.005]), np.array([8.0, 3.0, 1.0])
  values = findings.state_values(share, means, transitions_per_minute=5.0, longest=10, in_use=0.01)
  assert values == {
    "largest_state": 0.7, "states": 2.0, "transitions_per_minute": 5.0, "shortest_mean_steps": 3.0,
    "longest_mean_share": 0.8,
  }  # fmt: skip
  single = findings.state_values(share, means, transitions_per_minute=np.nan, longest=1, in_use=0.01)
  assert "shortest_mean_steps" not in single
  unknown = findings.state_values(share, means * np.nan, transitions_per_minute=5.0, longest=10, in_use=0.01)
  assert "longest_mean_share" not in unknown


def test_share_of_the_time():
  assert findings.time_share({"encoder": 30.0, "hsmm": 10.0}) == {"hsmm_time": 0.25}
  assert findings.time_share({"hsmm": 10.0}) == {}
  assert findings.time_share({"encoder": 10.0}) == {}


def test_section_and_lines():
  checks = findings.code_checks(Config())
  heading, text = findings.blocks(checks, HEALTHY)
  assert isinstance(text, Paragraph)
  assert text.text.startswith(f"None of {len(checks)} checks fired. Silent: codebook collapse, ")
  assert "Not judged" not in text.text
  found = findings.judge(checks, {"perplexity": 2.0, "code_usage": 0.9})
  _, table, text = findings.blocks(checks, {"perplexity": 2.0, "code_usage": 0.9})
  assert isinstance(table, Table)
  assert [row[0] for row in table.rows] == ["codebook collapse"]
  assert text.text.startswith("1 of 2 checks fired. Silent: unused codes. Not judged, for want of a number: all in one")
  assert findings.lines(found) == [found[0].line]
  assert findings.lines([]) == ["no finding"]
  assert findings.lines(None) == []
  assert heading.text == "Findings"
