"""Scores of predicted counts against float64 references, under masks and in parts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavejax.evaluation import neural_metrics as metrics

sizes = st.tuples(st.integers(1, 40), st.integers(1, 4), st.integers(0, 10_000))


def drawn(steps, neurons, seed):
  rng = np.random.default_rng(seed)
  rates = rng.gamma(1.0, 0.5, (steps, neurons)) + 1e-3
  spikes = rng.poisson(rates).astype(np.float32)
  mask = rng.random((steps, neurons)) < 0.7
  return rates, spikes, mask


def bits_reference(rates, spikes, mask):
  """The formula as it is written, neuron by neuron."""
  found = []
  for n in range(rates.shape[1]):
    r, y = (np.asarray(a, np.float64)[mask[:, n], n] for a in (rates, spikes))
    if y.sum() == 0:
      found.append(np.nan)
      continue
    mean = y.mean()
    total = sum(b * np.log(a) - a - b * np.log(mean) + mean for a, b in zip(r, y, strict=True))
    found.append(total / (y.sum() * np.log(2)))
  return np.array(found)


@settings(max_examples=60, deadline=None)
@given(sizes)
def test_bits_per_spike_is_the_formula(size):
  rates, spikes, mask = drawn(*size)
  found = metrics.bits_per_spike(metrics.score(rates, spikes, mask))
  np.testing.assert_allclose(found, bits_reference(rates, spikes, mask), rtol=1e-9, atol=1e-11)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(1, 5), st.floats(0.05, 3.0))
def test_parts_add_up_whatever_the_reference(size, count, reference):
  rates, spikes, mask = drawn(*size)
  whole = metrics.score(rates, spikes, mask)
  pieces = np.array_split(np.arange(len(rates)), count)
  fixed = np.full(rates.shape[1], reference)
  merged = metrics.merge([metrics.spike_sums(rates[i], spikes[i], mask[i], fixed) for i in pieces])
  for measure in (metrics.bits_per_spike, metrics.correlation):
    np.testing.assert_allclose(measure(merged), measure(whole), rtol=1e-7, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(sizes)
def test_correlation_is_numpys(size):
  rates, spikes, mask = drawn(*size)
  found = metrics.correlation(metrics.score(rates, spikes, mask))
  for n in range(rates.shape[1]):
    r, y = rates[mask[:, n], n], spikes[mask[:, n], n]
    if len(y) < 2 or np.ptp(y) == 0 or np.ptp(r) == 0:
      assert np.isnan(found[n])
    else:
      np.testing.assert_allclose(found[n], np.corrcoef(r, y)[0, 1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_rate_scores_exactly_zero(dtype):
  for seed in range(50):
    _, spikes, mask = drawn(37, 3, seed)
    mean = metrics.mean_counts(spikes, mask)
    constant = np.broadcast_to(mean.astype(dtype), spikes.shape)
    found = metrics.bits_per_spike(metrics.score(constant, spikes, mask))
    assert (found[mean > 0] == 0.0).all()
    halves = [slice(0, 20), slice(20, 37)]
    parts = [metrics.spike_sums(constant[h], spikes[h], mask[h], mean.astype(dtype)) for h in halves]
    assert (metrics.bits_per_spike(metrics.merge(parts))[mean > 0] == 0.0).all()


def test_another_constant_scores_below_zero():
  _, spikes, mask = drawn(200, 3, 1)
  for factor in (0.5, 0.99, 1.01, 2.0):
    constant = np.broadcast_to(factor * metrics.mean_counts(spikes, mask), spikes.shape)
    assert (metrics.bits_per_spike(metrics.score(constant, spikes, mask)) < 0).all()


def test_silent_neurons_and_unseen_ones_are_undefined_and_counted():
  rates, spikes, mask = drawn(50, 4, 2)
  spikes[:, 1] = 0
  mask[:, 2] = False
  with np.errstate(all="raise"):
    found = metrics.bits_per_spike(metrics.score(rates, spikes, mask))
  assert np.isnan(found).tolist() == [False, True, True, False]
  assert metrics.mean_defined(found) == ((found[0] + found[3]) / 2, 2)
  assert metrics.mean_defined(np.full(3, np.nan)).undefined == 3


def test_what_is_masked_out_does_not_matter():
  rates, spikes, mask = drawn(60, 3, 3)
  stimulus = np.arange(60) % 15
  before = metrics.score(rates, spikes, mask), metrics.explained_variance(rates, spikes, mask, stimulus)
  rates, spikes = (np.where(mask, a, np.nan) for a in (rates, spikes))
  after = metrics.score(rates, spikes, mask), metrics.explained_variance(rates, spikes, mask, stimulus)
  for a, b in zip((*before[0], *before[1]), (*after[0], *after[1]), strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_spike_where_none_was_expected_costs_everything():
  rates, spikes = np.array([[0.0], [1.0]]), np.array([[1.0], [1.0]])
  assert metrics.bits_per_spike(metrics.score(rates, spikes, np.ones((2, 1), bool)))[0] == -np.inf


def test_merging_needs_one_reference():
  rates, spikes, mask = drawn(10, 2, 0)
  parts = [metrics.spike_sums(rates, spikes, mask, np.full(2, value)) for value in (0.5, 1.0)]
  with pytest.raises(ValueError, match="different references"):
    metrics.merge(parts)


def feve_reference(rates, spikes, mask, stimulus):
  found = []
  for n in range(rates.shape[1]):
    noise, kept = [], []
    for s in np.unique(stimulus[stimulus >= 0]):
      repeats = np.flatnonzero((stimulus == s) & mask[:, n])
      if len(repeats) >= 2:
        noise.append(np.var(spikes[repeats, n].astype(np.float64), ddof=1))
        kept += repeats.tolist()
    y, r = spikes[kept, n].astype(np.float64), rates[kept, n]
    explainable = y.var() - np.mean(noise) if kept else 0.0
    found.append(1 - (np.mean((y - r) ** 2) - np.mean(noise)) / explainable if explainable > 1e-12 else np.nan)
  return np.array(found)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(1, 12))
def test_feve_is_the_formula(size, frames):
  rates, spikes, mask = drawn(*size)
  stimulus = np.random.default_rng(size[2]).integers(-1, frames, len(rates))
  found = metrics.explained_variance(rates, spikes, mask, stimulus).feve
  np.testing.assert_allclose(found, feve_reference(rates, spikes, mask, stimulus), rtol=1e-6, atol=1e-9)


def test_feve_of_the_true_rates_is_one_and_of_the_mean_zero():
  rng = np.random.default_rng(0)
  rates = np.tile(rng.gamma(2.0, 0.5, (200, 5)), (100, 1))
  spikes = rng.poisson(rates).astype(np.float32)
  stimulus, mask = np.tile(np.arange(200), 100), np.ones(rates.shape, bool)
  found = metrics.explained_variance(rates, spikes, mask, stimulus)
  np.testing.assert_allclose(found.feve, 1, atol=0.02)
  np.testing.assert_allclose(found.fev, rates.var(0) / spikes.var(0), atol=0.02)
  means = np.broadcast_to(spikes.mean(0), spikes.shape)
  np.testing.assert_allclose(metrics.explained_variance(means, spikes, mask, stimulus).feve, 0, atol=1e-9)


def test_frames_of_repeats_share_a_number():
  trial, condition = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 3]), np.array([1, -1, 1, 0])
  assert metrics.stimulus_numbers(trial, condition).tolist() == [3, 4, 5, -1, -1, 3, 4, 5, 0, 1]
