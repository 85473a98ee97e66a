"""Readouts beside NumPy: masks that sum to 1, gradients that reach every parameter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.nets.readout import GaussianReadout, SamplingReadout
from tests.nets.weights import drawn

ROWS, COLUMNS, SIZE = (1.5, 5.5, 9.5), (0.5, 3.5, 6.5, 9.5), (12, 11)
COUNTS = (0.2, 1.5, 0.7)


@pytest.fixture(scope="module")
def features():
  return np.random.default_rng(1).normal(size=(2, 5, 3, 4, 6)).astype(np.float32)


def variables_of(readout, features):
  params = drawn(jax.eval_shape(readout.init, jax.random.key(1), features)["params"])
  rng = np.random.default_rng(0)
  params["mean"] = rng.uniform(-0.5, 0.5, (3, 2)).astype(np.float32)
  params["log_sigma"] = rng.uniform(-2, -1.5, (3, 2)).astype(np.float32)
  return {"params": params}


def grid():
  y, x = ((np.array(p) - (n - 1) / 2) / (n / 2) for p, n in zip((ROWS, COLUMNS), SIZE, strict=True))
  return np.stack(np.meshgrid(y, x, indexing="ij"), -1)


def test_gaussian_masks_equal_numpy_and_sum_to_one(features):
  readout = GaussianReadout(6, ROWS, COLUMNS, SIZE, COUNTS)
  variables = variables_of(readout, features)
  p = {name: np.asarray(value, np.float64) for name, value in variables["params"].items()}
  expected = np.zeros((3, 3, 4))
  for n in range(3):
    c, s = np.cos(p["angle"][n]), np.sin(p["angle"][n])
    turned = (grid() - p["mean"][n]) @ np.array([[c, -s], [s, c]]).T
    expected[n] = np.exp(-0.5 * np.sum((turned / np.exp(p["log_sigma"][n])) ** 2, -1))
    expected[n] /= expected[n].sum()
  masks = readout.apply(variables, method="masks")
  np.testing.assert_allclose(masks, expected, atol=1e-6)
  np.testing.assert_allclose(masks.sum((1, 2)), 1, rtol=1e-6)
  looked = np.einsum("btrcf,nrc,nf->btn", features, expected, p["weights"]) + p["bias"]
  np.testing.assert_allclose(readout.apply(variables, features), np.log1p(np.exp(looked)), atol=1e-5)


def test_a_mask_far_outside_still_sums_to_one(features):
  readout = GaussianReadout(6, ROWS, COLUMNS, SIZE, COUNTS)
  params = {**variables_of(readout, features)["params"], "mean": jnp.full((3, 2), 40.0)}
  masks = readout.apply({"params": params}, method="masks")
  np.testing.assert_allclose(masks.sum((1, 2)), 1, rtol=1e-6)


def test_sampling_equals_bilinear_interpolation(features):
  ndimage = pytest.importorskip("scipy.ndimage")
  readout = SamplingReadout(6, ROWS, COLUMNS, SIZE, COUNTS)
  variables = variables_of(readout, features)
  p = variables["params"]
  pixels = np.asarray(p["mean"], np.float64) * (np.array(SIZE) / 2) + (np.array(SIZE) - 1) / 2
  at = (pixels - [ROWS[0], COLUMNS[0]]) / [ROWS[1] - ROWS[0], COLUMNS[1] - COLUMNS[0]]
  expected = np.zeros((2, 5, 3))
  for b in range(2):
    for t in range(5):
      for f in range(6):
        plane = np.asarray(features[b, t, :, :, f], np.float64)
        expected[b, t] += ndimage.map_coordinates(plane, at.T, order=1, mode="nearest") * np.asarray(p["weights"])[:, f]
  expected = np.log1p(np.exp(expected + np.asarray(p["bias"])))
  np.testing.assert_allclose(readout.apply(variables, features), expected, atol=1e-5)
  np.testing.assert_allclose(readout.apply(variables, method="masks").sum((1, 2)), 1, rtol=1e-6)


@pytest.mark.parametrize("kind", [GaussianReadout, SamplingReadout])
def test_gradients_reach_every_parameter(features, kind):
  readout = kind(6, ROWS, COLUMNS, SIZE, COUNTS)
  variables = variables_of(readout, features)
  keys = jax.random.split(jax.random.key(0), 2)
  gradients = jax.jit(jax.grad(lambda v: jnp.sum(readout.apply(v, features, keys=keys) ** 2)))(variables)["params"]
  assert {"mean", "log_sigma", "weights", "bias"} <= gradients.keys()
  assert ("angle" in gradients) == (kind is GaussianReadout)
  for name, gradient in gradients.items():
    assert (np.abs(gradient) > 1e-6).all(), name


@pytest.mark.parametrize("kind", [GaussianReadout, SamplingReadout])
def test_first_predictions_are_mean_counts(kind):
  features = jnp.zeros((1, 2, 3, 4, 6))
  readout = kind(6, ROWS, COLUMNS, SIZE, COUNTS)
  found = readout.apply(readout.init(jax.random.key(0), features), features)
  np.testing.assert_allclose(found[0, 0], COUNTS, rtol=1e-5)


def test_one_neuron_and_one_place():
  features = jnp.ones((1, 2, 1, 1, 6))
  for kind in (GaussianReadout, SamplingReadout):
    readout = kind(6, (2.0,), (2.0,), (5, 5), (0.3,))
    variables = readout.init(jax.random.key(0), features)
    assert readout.apply(variables, features).shape == (1, 2, 1)
    np.testing.assert_allclose(readout.apply(variables, method="masks"), 1)
