"""Percentiles of the latest windows."""

import numpy as np
import pytest

from behavejax.export.timing import Timings


def test_percentiles_of_the_latest_windows():
  timings = Timings()
  assert np.isnan(timings.latency().model.p99_ms)
  for _ in range(5000):
    timings.add(1.0, 1.0, 1.0)
  for i in range(4096):
    timings.add(0.001, i * 1e-6, 0.002)
  latency = timings.latency()
  assert latency.assemble == pytest.approx((1.0, 1.0))
  assert latency.model == pytest.approx((2.0475, 4.05405))
  assert latency.step.p50_ms == pytest.approx(5.0475)
