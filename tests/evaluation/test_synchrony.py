"""Synchrony against other implementations, against what is known in advance, and against chance."""

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score, mutual_info_score

from behavejax.config import PairConfig, SimulateConfig
from behavejax.data import simulate, simulate_pair
from behavejax.errors import InputError
from behavejax.evaluation import synchrony as sync

SEQUENCES = st.integers(0, 10_000).map(lambda seed: random_pair(seed))


def random_pair(seed, *, states=4, steps=60, unknown=0.2):
  rng = np.random.default_rng(seed)
  pair = rng.integers(0, states, (2, steps))
  pair[1] = np.where(rng.random(steps) < 0.4, pair[0], pair[1])
  return np.where(rng.random((2, steps)) < unknown, -1, pair)


def chains(seed, *, steps, stay=0.9, states=3):
  """Two independent Markov chains that stay in a state for a while."""
  rng = np.random.default_rng(seed)
  fresh = rng.random((2, steps)) > stay
  fresh[:, 0] = True
  drawn = rng.integers(0, states, (2, steps))
  last = np.maximum.accumulate(np.where(fresh, np.arange(steps), 0), axis=1)
  return np.take_along_axis(drawn, last, axis=1)


def measure(first, second, *, seed=0, rate_hz=4.0, lag_s=2.0, shuffles=99):
  rng = np.random.default_rng(seed)
  return sync.synchrony(first, second, rate_hz=rate_hz, lag_s=lag_s, shuffles=shuffles, rng=rng)


@settings(max_examples=40, deadline=None)
@given(pair=SEQUENCES)
def test_measures_equal_those_of_scikit_learn(pair):
  joint = sync.joint_counts(*pair, num_states=4)
  known = (pair >= 0).all(axis=0)
  first, second = pair[:, known]
  assert joint.sum() == known.sum()
  assert sync.mutual_information(joint, corrected=False) == pytest.approx(
    mutual_info_score(first, second) / np.log(2), abs=1e-9
  )
  assert sync.agreement(joint) == pytest.approx(np.mean(first == second))
  assert sync.cohen_kappa(joint) == pytest.approx(cohen_kappa_score(first, second), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(pair=SEQUENCES)
def test_transfer_entropy_equals_a_sum_over_a_dictionary(pair):
  source, target = pair
  triples = [
    triple for triple in zip(target[1:].tolist(), target[:-1].tolist(), source[:-1].tolist(), strict=True)
    if min(triple) >= 0
  ]  # fmt: skip
  whole, now, both, moves = (
    collections.Counter(tuple(triple[i] for i in chosen) for triple in triples)
    for chosen in ((0, 1, 2), (1,), (1, 2), (0, 1))
  )
  expected = sum(
    count / len(triples) * np.log2(count / both[y, x] / (moves[later, y] / now[y,]))
    for (later, y, x), count in whole.items()
  )
  counts = sync.transfer_counts(source, target, num_states=4)
  assert sync.transfer_entropy(counts, corrected=False) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(pair=SEQUENCES, lag=st.integers(-59, 59))
def test_counts_at_a_lag_are_those_of_a_loop(pair, lag):
  expected = np.zeros((4, 4), int)
  for time, state in enumerate(pair[0]):
    if 0 <= time + lag < 60 and min(state, pair[1][time + lag]) >= 0:
      expected[state, pair[1][time + lag]] += 1
  np.testing.assert_array_equal(sync.lagged_counts(*pair, np.array([lag]), num_states=4)[0], expected)


def test_closed_forms():
  equal = np.diag([10, 10, 10, 10])
  assert sync.mutual_information(equal, corrected=False) == pytest.approx(2)
  assert sync.normalized_information(equal) == pytest.approx(1)
  flipped = np.array([[45, 5], [5, 45]])  # a binary symmetric channel: 1 - H(0.1)
  assert sync.mutual_information(flipped, corrected=False) == pytest.approx(1 + 0.1 * np.log2(0.1) + 0.9 * np.log2(0.9))
  assert sync.cohen_kappa(flipped) == pytest.approx(0.8)
  independent = np.outer([2, 3], [4, 1])
  assert sync.mutual_information(independent, corrected=False) == pytest.approx(0)
  assert sync.cohen_kappa(independent) == pytest.approx(0)
  rng = np.random.default_rng(0)
  source = rng.integers(0, 4, 100_000)
  target = np.concatenate([[0], source[:-1]])  # does at once what the source did
  counts = sync.transfer_counts(source, target, num_states=4)
  assert sync.transfer_entropy(counts) == pytest.approx(2, abs=1e-3)
  assert sync.transfer_entropy(sync.transfer_counts(target, source, num_states=4)) == pytest.approx(0, abs=1e-3)


def test_nothing_known_and_nothing_changing_is_no_synchrony():
  nothing = np.zeros((3, 3), int)
  still = np.diag([7, 0, 0])
  for joint in (nothing, still):
    assert sync.mutual_information(joint) == 0
    assert sync.cohen_kappa(joint) == 0
    assert sync.normalized_information(joint) == 0
  assert sync.agreement(still) == 1
  assert sync.agreement(nothing) == 0


def test_the_correction_removes_the_bias_of_independent_samples():
  """Miller's correction counts occupied bins only, so bins have to be well filled."""
  plain, corrected, transfers = [], [], []
  for seed in range(300):
    pair = np.random.default_rng(seed).integers(0, 4, (2, 400))
    joint = sync.joint_counts(*pair, num_states=4)
    plain.append(sync.mutual_information(joint, corrected=False))
    corrected.append(sync.mutual_information(joint))
    counts = sync.transfer_counts(*pair, num_states=4)
    transfers.append([sync.transfer_entropy(counts, corrected=on) for on in (False, True)])
  error = np.std(corrected) / np.sqrt(300)
  assert abs(np.mean(corrected)) < 4 * error
  assert np.mean(plain) == pytest.approx(9 / (2 * 400 * np.log(2)), rel=0.15)  # (4 - 1) (4 - 1) degrees of freedom
  before, after = np.mean(transfers, axis=0)
  assert abs(after) < 0.1 * before


def test_thinning_takes_the_middle_sample():
  assert sync.thinned(np.arange(11), 3).tolist() == [1, 4, 7]
  assert sync.thinned(np.arange(4), 1).tolist() == [0, 1, 2, 3]


def test_memory_is_where_a_sequence_forgets_itself():
  for stay in (0.5, 0.9):
    states, _ = chains(1, steps=50_000, stay=stay)
    expected = np.log(0.1) / np.log(stay)  # kappa of a lag is stay ** lag
    found = sync.memory(states, np.zeros(50_000, int), num_states=3, most=500)
    assert found == pytest.approx(expected, abs=3)
  assert sync.memory(np.tile([0, 1], 50), np.zeros(100, int), num_states=2, most=30) == 1
  assert sync.memory(np.zeros(100, int), np.zeros(100, int), num_states=1, most=30) == 1
  assert sync.memory(np.repeat([0, 1], 50), np.zeros(100, int), num_states=2, most=10) == 10
  borders = np.repeat([0, 1], 100), np.repeat(np.arange(50), 4)
  assert sync.memory(*borders, num_states=2, most=10) == 4  # a lag of 4 lies in no recording


@pytest.mark.parametrize("lag", [-5, 0, 3])
def test_lag_and_direction_of_a_copy_are_found(lag):
  leader, noise = chains(3, steps=4000)
  both = leader[max(-lag, 0) :], np.roll(leader, lag)[max(-lag, 0) :]
  first, second = (np.where(noise[: len(part)] == 0, i, part) for i, part in enumerate(both))
  found = measure([first], [second])
  assert found.peak_lag_s == pytest.approx(lag / 4)
  assert found.p_peak == pytest.approx(0.01)
  forward, backward = found.transfer_1_to_2, found.transfer_2_to_1
  if lag:
    ahead, behind = (forward, backward) if lag > 0 else (backward, forward)
    assert ahead.effective > max(3 * behind.effective, 0.01)
    assert ahead.p == pytest.approx(0.01)


@pytest.mark.parametrize(("lag_s", "coupling"), [(1.0, 0.7), (2.0, 0.5)])
def test_the_truth_of_a_pair_is_found(lag_s, coupling):
  truth = simulate_pair.behaviours(SimulateConfig(subjects=6, minutes=6.0), PairConfig(lag_s, coupling), 5)
  found = measure([pair.first for pair in truth], [pair.second for pair in truth], rate_hz=50.0, lag_s=5.0)
  assert found.peak_lag_s == pytest.approx(lag_s, abs=0.5 * found.step_s + 1e-6)
  assert found.p_peak == found.p_information == found.transfer_1_to_2.p == pytest.approx(0.01)
  assert found.transfer_1_to_2.effective > 5 * abs(found.transfer_2_to_1.effective)
  peak = int(found.information.values.argmax())
  usage = found.joint.sum(axis=1) / found.joint.sum()
  chance = (usage**2).sum()
  assert found.agreement.values[peak] == pytest.approx(coupling + (1 - coupling) * chance, abs=0.1)
  assert found.kappa.values[peak] == pytest.approx(coupling, abs=0.1)
  exchanged = measure([pair.second for pair in truth], [pair.first for pair in truth], rate_hz=50.0, lag_s=5.0)
  assert exchanged.peak_lag_s == -found.peak_lag_s
  assert exchanged.transfer_2_to_1.bits == pytest.approx(found.transfer_1_to_2.bits)


def test_unrelated_animals_are_significant_as_rarely_as_stated():
  """Semi-Markov behaviour, two recordings each: p below 0.05 in at most the 99.9 % quantile of Binomial(60, 0.05)."""
  chain, significant = simulate.truth(4.0), collections.Counter()
  for seed in range(60):
    rng = np.random.default_rng(seed)
    first, second = ([simulate.sample_states(chain, 1200, rng) for _ in range(2)] for _ in range(2))
    found = measure(first, second, seed=seed, shuffles=59)
    for name, p in (
      ("same moment", found.p_information), ("any lag", found.p_peak),
      ("1 to 2", found.transfer_1_to_2.p), ("2 to 1", found.transfer_2_to_1.p),
    ):  # fmt: skip
      significant[name] += p <= 0.05
  most = stats.binom.ppf(0.999, 60, 0.05)
  assert max(significant.values()) <= most, significant


def test_recordings_do_not_touch():
  """Counts of several recordings are the sums of each one's own, and one step is missing from each at lag 1."""
  rng = np.random.default_rng(0)
  first, second = ([rng.integers(0, 3, n) for n in (40, 35, 60, 50)] for _ in range(2))
  found = measure(first, second, lag_s=1.0)
  lags = np.arange(-4, 5)
  joint = np.stack([
    sum(sync.lagged_counts(a, b, np.array([lag]), num_states=3)[0] for a, b in zip(first, second, strict=True))
    for lag in lags
  ])  # fmt: skip
  np.testing.assert_allclose(found.information.values, sync.mutual_information(joint))
  np.testing.assert_allclose(found.kappa.values, sync.cohen_kappa(joint))
  counts = sum(sync.transfer_counts(a, b, num_states=3) for a, b in zip(first, second, strict=True))
  assert found.transfer_1_to_2.bits == pytest.approx(sync.transfer_entropy(counts))
  assert found.steps == 185
  assert joint[lags == 4].sum() == 185 - 4 * 4


def test_livelier_recordings_are_not_synchrony():
  """Both devices have the same habits in a recording, and recordings differ: information, but no tie in time."""
  first, second = [], []
  for seed in range(8):
    offset = 3 * (seed % 2)
    a, b = chains(seed, steps=400, stay=0.7)
    first.append(a + offset)
    second.append(b + offset)
  found = measure(first, second)
  middle = len(found.lags_s) // 2
  assert found.information.values[middle] > 0.9
  assert found.information.chance[middle] > 0.9
  assert found.p_peak > 0.05


def test_unknown_states_count_for_nothing():
  first, second = chains(2, steps=1000)
  known = measure([first], [second])
  gap = first.copy()
  gap[300:500] = -1
  with_gap = measure([gap], [second])
  assert with_gap.steps == 800
  assert known.steps == 1000
  joint = sync.joint_counts(np.delete(first, np.s_[300:500]), np.delete(second, np.s_[300:500]), num_states=3)
  assert with_gap.information.values[8] == pytest.approx(sync.mutual_information(joint))


def test_states_may_have_any_numbers():
  first, second = chains(4, steps=600)
  named = np.array([17, 3, 140])
  found, renamed = measure([first], [second]), measure([named[first]], [named[second]])
  assert renamed.states.tolist() == [3, 17, 140]
  np.testing.assert_allclose(renamed.information.values, found.information.values)
  assert renamed.p_peak == found.p_peak


def test_a_seed_is_a_result():
  pair = chains(5, steps=500)
  first, again, other = (measure(pair[:1], pair[1:], seed=seed) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first.information.low, again.information.low)
  assert not np.array_equal(first.information.low, other.information.low)
  assert (first.information.low <= first.information.high).all()


def test_unrelated_shifts_are_counted_in_memories():
  pair = chains(9, steps=2000)
  once, twice = measure(pair[:1], pair[1:]), measure([pair[0]] * 2, [pair[1]] * 2)
  remembered = max(sync.memory(part, np.zeros(2000, int), num_states=3, most=600) for part in pair)
  assert once.independent == (2000 - 2 * (8 + remembered) + 1) // remembered
  assert twice.independent == pytest.approx(2 * once.independent, rel=0.1)


def test_short_recordings_take_no_part():
  long, short = chains(6, steps=300), chains(7, steps=26)
  alone = measure([long[0]], [long[1]])
  beside = measure([long[0], short[0]], [long[1], short[1]])
  assert beside.recordings == 1
  np.testing.assert_array_equal(beside.joint, alone.joint)
  just = measure([long[0], *chains(7, steps=27)[:1]], [long[1], *chains(7, steps=27)[1:]])
  assert just.recordings == 2


@pytest.mark.parametrize(
  ("first", "second", "message"),
  [
    ([np.zeros(10, int)], [np.zeros(10, int)], r"no recording of two devices is 6.75 s long.*synchrony_lag_s=2"),
    ([np.zeros(90, int)], [np.zeros(91, int)], r"states of the same steps, got lengths \[90\] and \[91\]"),
    ([np.zeros(90, int)], [], r"got lengths \[90\] and \[\]"),
    ([np.full(90, -1)], [np.full(90, -1)], "have 0 known states, expected 1 to 100"),
    ([np.arange(303)], [np.arange(303)], "have 303 known states"),
  ],
)
def test_what_cannot_be_measured_is_refused(first, second, message):
  with pytest.raises(InputError, match=message):
    measure(first, second)


def test_nothing_in_common_is_no_tie():
  first, _ = chains(8, steps=300)
  found = measure([first], [np.full(300, -1)])
  assert found.steps == 0
  assert found.p_peak == 1
  assert all(np.isfinite(value).all() for value in found.information)
  same = measure([np.full(300, 2)], [np.full(300, 2)])
  assert (same.agreement.values == 1).all()
  assert (same.kappa.values == 0).all()
  assert same.p_peak == 1


def test_transfer_beyond_chance_is_a_difference():
  assert sync.Transfer(0.3, 0.1, 0.01).effective == pytest.approx(0.2)
