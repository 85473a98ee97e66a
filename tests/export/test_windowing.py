"""The input of the graph, and the buffer that it is taken from."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.export.gaps import Repaired
from behavejax.export.windowing import Assembler, Samples
from behavejax.nets.conv2d import amplify
from tests.export import packages


@pytest.mark.parametrize("gains", [(), (4.0,), (4.0, 32.0)])
@pytest.mark.parametrize("rows", [1, 2])
def test_amplified_as_the_network_does(rows, gains):
  p = packages.preprocess(rows=rows, gains=gains)
  window = np.random.default_rng(0).normal(size=(rows, 40 // rows, 3)).astype(np.float32)
  expected = amplify(jnp.asarray(window)[None], gains=gains) / jnp.asarray(p.input_scale, jnp.float32)[None, None, None]
  np.testing.assert_allclose(Assembler(p)(window), expected, rtol=1e-5, atol=1e-5)


def test_windows_anywhere_in_a_long_stream():
  """The buffer moves on many times, by pieces of any size."""
  p = packages.preprocess()
  samples, rng = Samples(p), np.random.default_rng(0)
  values = rng.normal(size=(9000, 3)).astype(np.float32)
  usable, seen = rng.random(9000) > 0.02, rng.random(9000) > 0.95
  normal = ((values - np.array(p.mean, np.float32)) / np.array(p.std, np.float32)).reshape(-1, 3)
  start = checked = 0
  while start < len(values):
    stop = min(start + int(rng.integers(1, 3000)), len(values))
    part, taken = Repaired(values[start:stop], usable[start:stop], seen[start:stop]), 0
    while taken < stop - start:
      taken += samples.append(part, taken, keep=checked)
      while checked + 40 <= samples.count:
        window = slice(checked, checked + 40)
        np.testing.assert_array_equal(samples.window(checked).reshape(40, 3), normal[window])
        assert samples.usable(checked, checked + 40) == usable[window].all()
        assert samples.seen(checked, checked + 40) == seen[window].any()
        checked += 13
    start = stop
  assert samples.count == 9000
  tail = samples.tail(checked).reshape(40, 3)
  np.testing.assert_array_equal(tail[: 9000 - checked], normal[checked:])
  assert (tail[9000 - checked :] == normal[-1]).all()


def test_windows_far_apart():
  """A stride that leaps over what the buffer holds."""
  p = dataclasses.replace(packages.preprocess(), stride=4000)
  samples = Samples(p)
  values = np.arange(27000, dtype=np.float32).reshape(9000, 3)
  part, taken, due = Repaired(values, np.ones(9000, bool), np.ones(9000, bool)), 0, [0, 4000, 8000]
  while taken < 9000:
    taken += samples.append(part, taken, keep=due[0] if due else 9000)
    while due and due[0] + 40 <= samples.count:
      expected = (values[due[0]] - np.array(p.mean, np.float32)) / np.array(p.std, np.float32)
      np.testing.assert_array_equal(samples.window(due.pop(0))[0, 0], expected)
  assert not due
