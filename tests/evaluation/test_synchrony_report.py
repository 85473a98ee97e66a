"""What the page says of two devices is what was measured, and what it cannot know."""

import re

import numpy as np
import pytest

from behavejax.config import PairConfig, SimulateConfig
from behavejax.data import simulate_pair
from behavejax.evaluation.page import markdown, write_page
from behavejax.evaluation.synchrony import synchrony
from behavejax.evaluation.synchrony_report import synchrony_blocks, synchrony_values

RATE = 10.0


def pairs(lag_s=1.0, coupling=0.8, minutes=4.0):
  config = SimulateConfig(subjects=3, minutes=minutes, rate_hz=RATE)
  truth = simulate_pair.behaviours(config, PairConfig(lag_s, coupling), 4)
  return [pair.first for pair in truth], [pair.second for pair in truth]


def report(first, second, **changes):
  settings = {"rate_hz": RATE, "lag_s": 3.0, "shuffles": 60, "seed": 0, **changes}
  values, blocks = synchrony_blocks(first, second, [f"r{i}" for i in range(len(first))], **settings)
  return values, blocks, markdown("A title", blocks)


def cells(text, first):
  line = next(line for line in text.splitlines() if line.startswith(f"| {first}"))
  return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_numbers_are_those_of_the_measurement():
  first, second = pairs()
  values, _, text = report(first, second)
  result = synchrony(first, second, rate_hz=RATE, lag_s=3.0, shuffles=60, rng=np.random.default_rng(0))
  assert values == synchrony_values(result)
  middle = len(result.lags_s) // 2
  assert values["synchrony/mutual_information_bits"] == result.information.values[middle]
  assert values["synchrony/kappa"] == result.kappa.values[middle]
  assert values["synchrony/peak_kappa"] == result.kappa.values.max()
  assert values["synchrony/transfer_entropy_1_to_2"] == result.transfer_1_to_2.effective
  assert values["synchrony/p_1_to_2"] == result.transfer_1_to_2.p
  assert values["synchrony/net_transfer_entropy"] > 0
  assert values["synchrony/peak_lag_s"] == pytest.approx(1)
  assert all(isinstance(value, float) and np.isfinite(value) for value in values.values())
  row = cells(text, "mutual information, same moment")
  assert row[1:] == [
    f"{result.information.values[middle]:.3f}", f"{result.information.chance[middle]:.3f}",
    f"{result.p_information:.3f}",
  ]  # fmt: skip
  assert cells(text, "transfer entropy, device 2 to device 1")[1] == f"{result.transfer_2_to_1.bits:.4f}"


def test_the_leader_is_named():
  first, second = pairs()
  text = report(first, second)[2]
  assert "What device 2 does goes together most closely with what device 1 did 1 s before" in text
  assert "from device 1 to device 2 0." in text
  swapped = report(second, first, names=("collar", "handler"))[2]
  assert "What collar does goes together most closely with what handler did 1 s before" in swapped
  assert "from handler to collar 0." in swapped
  at_once = report(*pairs(lag_s=0.0))[2]
  assert "Device 1 and device 2 go together most closely at the same moment" in at_once


def test_no_tie_is_said_to_be_none():
  values, _, text = report(*pairs(coupling=0.0))
  assert values["synchrony/p_peak"] > 0.05
  assert "No tie between the devices was found" in text
  assert "Neither way is more than chance" in text


def test_transfer_both_ways_is_said():
  rng = np.random.default_rng(0)
  first, second = (np.zeros(4000, int) for _ in range(2))
  noise = rng.random((2, 4000)) < 0.2
  for time in range(1, 4000):  # each does what the other did
    first[time], second[time] = second[time - 1] ^ noise[0, time], first[time - 1] ^ noise[1, time]
  text = report([first], [second], rate_hz=4.0)[2]
  assert "Both ways are more than chance" in text


def test_a_peak_at_the_end_may_lie_beyond():
  assert "may lie beyond (config.evaluation.synchrony_lag_s)" in report(*pairs(), lag_s=0.5)[2]
  assert "may lie beyond" not in report(*pairs())[2]


def test_recordings_too_short_are_said_to_be():
  first, second = pairs(minutes=0.1)
  values, blocks, text = report(first, second)
  assert values == {}
  assert len(blocks) == 2
  assert "Synchrony was not measured: no recording of two devices is" in text
  long = pairs()
  _, _, text = report([*long[0], first[0]], [*long[1], second[0]])
  assert "1 shorter recording(s) took no part." in text


def test_states_that_never_meet_have_no_table_of_pairs():
  first, second = pairs()
  values, _, text = report(first, [0 * states - 1 for states in second])
  assert values["synchrony/steps"] == 0
  assert "synchrony_states" not in text
  assert "No tie between the devices was found" in text


def test_limits_are_said():
  first, second = pairs()
  text = report(first, second)[2]
  assert "no proof of influence" in text
  assert "With 60 shifted sequences no p is below 0.016" in text
  assert "device_attention" not in text
  assert "p values below 0.05 come more often" not in text
  short = report(*pairs(minutes=0.5))[2]
  assert "p values below 0.05 come more often by chance than they should" in short
  assert "in part built in" in report(first, second, attention=True)[2]


def test_figures_lie_beside_the_page(tmp_path):
  _, blocks, text = report(*pairs())
  write_page(tmp_path, "segments", "A title", blocks)
  names = set(re.findall(r"figures/(\w+)\.png", text))
  assert names == {"synchrony_lags", "synchrony_states", "synchrony_ethogram"}
  for name in names:
    assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 3000
