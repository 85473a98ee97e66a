"""The simulated pair: the second animal follows as often and as late as it is said to."""

import dataclasses

import numpy as np
import pytest

from behavejax.config import DataConfig, PairConfig, SimulateConfig
from behavejax.data import simulate, simulate_pair, sources
from behavejax.data.quality import runs
from behavejax.errors import InputError

LONG = SimulateConfig(subjects=6, minutes=60.0)


@pytest.mark.parametrize(("lag_s", "coupling"), [(1.0, 0.7), (0.0, 1.0), (2.5, 0.3)])
def test_the_second_follows_as_often_and_as_late_as_said(lag_s, coupling):
  config = PairConfig(lag_s, coupling)
  lag = round(50 * lag_s)
  found = simulate_pair.behaviours(LONG, config, 0)
  for first, second, follows in found:
    late = first[: len(first) - lag]
    assert (second[lag:] == late)[follows[lag:]].all()
    assert not follows[:lag].any()
  bouts = [joined for pair in found for joined in joined_bouts(pair.first, pair.follows, lag)]
  assert np.mean(bouts) == pytest.approx(coupling, abs=0.04)


def joined_bouts(first, follows, lag):
  """Per bout of the first animal whether the second one joins in; it does so as a whole."""
  starts = np.flatnonzero(np.diff(first, prepend=-1))
  stops = np.minimum(np.append(starts[1:], len(first)), len(first) - lag)
  for start, stop in zip(starts, stops, strict=True):
    if stop > start:
      part = follows[start + lag : stop + lag]
      assert part.all() or not part.any()
      yield part[0]


def test_both_animals_behave_as_the_species_does():
  chain = simulate.truth(50.0)
  found = simulate_pair.behaviours(LONG, PairConfig(coupling=0.0), 1)
  firsts, seconds = (np.concatenate(part) for part in (list(zip(*found, strict=True))[:2]))
  usage = [np.bincount(part, minlength=10) / len(part) for part in (firsts, seconds)]
  np.testing.assert_allclose(usage[0], usage[1], atol=0.02)
  lengths = runs(seconds == 4)[1:-1, 1]
  assert lengths.mean() == pytest.approx(chain.mean_durations[4], rel=0.15)
  chance = (usage[0] * usage[1]).sum()
  assert np.mean(firsts == seconds) == pytest.approx(chance, abs=0.01)


def test_recordings_hold_both_collars_and_the_labels_of_the_first():
  config = SimulateConfig(subjects=2, minutes=10.0, gaps=0.02)
  recordings = simulate_pair.pair(config, PairConfig(), 3)
  truth = simulate_pair.behaviours(config, PairConfig(), 3)
  for recording, (first, second, _) in zip(recordings, truth, strict=True):
    np.testing.assert_array_equal(recording.labels, first)
    assert recording.channels[:2] == ("acc_x_1", "acc_y_1")
    assert recording.channels[9] == "acc_x_2"
    lost = np.isnan(recording.signal)
    assert not np.array_equal(lost[:, 0], lost[:, 9])
    for states, part in ((first, recording.signal[:, :9]), (second, recording.signal[:, 9:])):
      turning = [np.nanmean(part[states == k, 5]) for k in (4, 5)]  # yaw rate, left and right
      assert turning[0] - turning[1] > 1
  assert [recording.subject for recording in recordings] == ["1", "2"]


def test_a_seed_is_a_data_set():
  config = DataConfig(name="pair", simulate=SimulateConfig(subjects=2, minutes=0.2))
  first, again, other = (sources.load(config, seed) for seed in (1, 1, 2))
  np.testing.assert_array_equal(first[1].signal, again[1].signal)
  assert not np.array_equal(first[1].signal, other[1].signal, equal_nan=True)
  uncoupled = sources.load(dataclasses.replace(config, pair=PairConfig(coupling=0.0)), 1)
  np.testing.assert_array_equal(uncoupled[0].labels, first[0].labels)  # the first animal does not mind


def test_a_recording_shorter_than_the_lag_is_refused():
  with pytest.raises(InputError, match=r"minutes=0.01 at 50 Hz is 30 sample\(s\) per pair, .*lag_s=1"):
    simulate_pair.pair(SimulateConfig(minutes=0.01), PairConfig(), 0)
