"""The six strategies against NumPy and pandas; finite values and inputs are never touched."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavejax.data import repair as repair_lib
from behavejax.errors import InputError


@pytest.fixture
def signal():
  signal = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
  signal[[0, 1, 7, 8, 19], 0] = np.nan
  signal[5, 1] = np.inf
  return signal


def run(signal, strategy, **settings):
  fill = repair_lib.fill_values([signal], strategy=strategy)
  return repair_lib.repair(signal, strategy=strategy, fill=fill, **settings)


@settings(max_examples=60, deadline=None)
@given(
  strategy=st.sampled_from(["zero", "mean", "median", "interpolate", "drop"]), seed=st.integers(0, 999),
  share=st.floats(0, 0.9),
)  # fmt: skip
def test_finite_values_and_inputs_stay(strategy, seed, share):
  rng = np.random.default_rng(seed)
  signal = rng.normal(size=(30, 3)).astype(np.float32)
  signal[rng.random(signal.shape) < share] = rng.choice([np.nan, np.inf, -np.inf])
  signal[0] = 1.0
  before = signal.copy()
  repaired, usable = run(signal, strategy)
  np.testing.assert_array_equal(signal, before)
  finite = np.isfinite(signal)
  np.testing.assert_array_equal(repaired[finite], signal[finite])
  assert np.isfinite(repaired).all()
  assert usable.tolist() == (finite.all(1).tolist() if strategy == "drop" else [True] * 30)


def test_interpolation_equals_pandas(signal):
  table = pd.DataFrame(np.where(np.isfinite(signal), signal, np.nan))
  expected = table.interpolate(limit_direction="both")
  np.testing.assert_allclose(run(signal, "interpolate")[0], expected, atol=1e-6)


def test_constants(signal):
  finite = np.where(np.isfinite(signal), signal, np.nan)
  assert run(signal, "zero")[0][0, 0] == 0
  assert run(signal, "mean")[0][0, 0] == pytest.approx(np.nanmean(finite[:, 0]))
  assert run(signal, "median")[0][5, 1] == pytest.approx(np.nanmedian(finite[:, 1]))


def test_one_finite_value_falls_back_to_the_mean_of_the_data_set():
  alone = np.array([[np.nan], [3.0], [np.nan]], np.float32)
  fill = repair_lib.fill_values([alone, np.array([[5.0]], np.float32)], strategy="interpolate")
  repaired, _ = repair_lib.repair(alone, strategy="interpolate", fill=fill)
  np.testing.assert_array_equal(repaired[:, 0], [4.0, 3.0, 4.0])


def test_outliers_beyond_the_clip_do_not_reach_the_fill():
  signal = np.array([[1.0], [1e30], [np.nan]], np.float32)
  for strategy in ("mean", "median", "drop"):
    fill = repair_lib.fill_values([signal], strategy=strategy, clip=10.0)
    repaired, _ = repair_lib.repair(signal, strategy=strategy, fill=fill, clip=10.0)
    np.testing.assert_allclose(repaired[:, 0], [1.0, 10.0, 5.5])


def test_clip_and_errors(signal):
  assert np.abs(run(signal, "zero", clip=0.5)[0]).max() == 0.5
  with pytest.raises(InputError, match=r"here: 6 of 20 samples are missing .* row 0"):
    run(signal, "raise", where="here")
  with pytest.raises(InputError, match=r"channel 1 holds no finite value"):
    run(np.array([[1.0, np.nan]] * 3, np.float32), "mean")
