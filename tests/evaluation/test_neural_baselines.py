"""Baselines of a neural encoder: the regression is scikit-learn's, its past frames are those of the trial."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import PoissonRegressor

from behavejax.config_neural import GlmConfig, NeuralDataConfig, SimulateNeuralConfig
from behavejax.data.neural_prepare import prepare_neural, prepare_recording
from behavejax.evaluation import neural_baselines as baselines
from behavejax.evaluation import neural_metrics as metrics

CONFIG = NeuralDataConfig(
  recordings=("simulated_1",), clip=20, stride=20, context=7, behaviour_lags=(0, 3), simulate=SimulateNeuralConfig(
    neurons=(6,), heights=(11,), widths=(12,), rates_hz=(30.0,), trials=60, repeated=1, repeats=4, spikes_per_s=30.0,
  ),
  glm=GlmConfig(lags=8, penalties=(0.3, 1.0, 3.0), iterations=10),
)  # fmt: skip


@pytest.fixture(scope="module")
def data():
  return prepare_neural(CONFIG, None, 0)[0]


@pytest.fixture(scope="module")
def glm(data):
  return baselines.fit_glm(CONFIG.glm, data)


def bits(data, rates):
  mask = data.test.counted_frames()
  return metrics.bits_per_spike(metrics.score(rates, data.recording.spikes, mask))


def embedded(clips, frames, *, lags, pool):
  """Past frames side by side, one by one; grey before a trial and beyond the edges."""
  edges, trial = clips.recording.trial_edges, clips.recording.trial
  height, width = (-(-size // pool) for size in clips.recording.video.shape[1:3])
  found = np.zeros((len(frames), lags, height, width))
  for i, frame in enumerate(frames):
    for lag in range(lags):
      if frame - lag >= edges[trial[frame]]:
        picture = np.zeros((height * pool, width * pool))
        shown = clips.video(np.array(frame - lag))[..., 0]
        picture[: shown.shape[0], : shown.shape[1]] = shown
        for y in range(height):
          for x in range(width):
            found[i, lag, y, x] = picture[y * pool : (y + 1) * pool, x * pool : (x + 1) * pool].mean()
  return found.reshape(len(frames), lags, -1)


@pytest.mark.parametrize("pool", [1, 5])
def test_drive_is_weighted_past_frames_and_behaviour(data, pool):
  rng, clips, lags = np.random.default_rng(0), data.val, 3
  rows = baselines._rows(clips, lags=lags, pool=pool)
  seen = np.flatnonzero(rows.frame >= 0)[::9]
  frames = rows.frame[seen]
  past = embedded(clips, frames, lags=lags, pool=pool)
  weights = baselines.Weights(
    rng.normal(size=(lags, past.shape[2], 6)).astype(np.float32), rng.normal(size=(5, 6)).astype(np.float32)
  )
  side = np.concatenate([clips.behaviour(frames), np.ones((len(frames), 1))], axis=1)
  expected = np.einsum("tlp,lpn->tn", past, weights.video) + side @ weights.side
  np.testing.assert_allclose(np.asarray(baselines._drive(weights, rows))[seen], expected, rtol=1e-3, atol=1e-3)
  np.testing.assert_array_equal(rows.mask[seen], clips.counted_frames()[frames])


def test_the_regression_is_scikit_learns(data):
  penalty, lags = 0.2, 2
  rows = baselines._rows(data.train, lags=lags, pool=4)
  means = data.scaling.mean_counts
  start = baselines.Weights(jnp.zeros((lags, 9, 6)), jnp.zeros((5, 6)).at[-1].set(np.log(means)))
  basis = baselines.make_basis(rows, lags=lags, penalty=penalty)
  found = baselines.solve(start, jax.tree.map(jnp.asarray, rows), jnp.asarray(means), basis, penalty, iterations=15)
  rates = np.asarray(baselines.expected(found, rows))
  kept = rows.mask[:, 0]
  frames = rows.frame[kept]
  past = embedded(data.train, frames, lags=lags, pool=4).reshape(len(frames), -1)
  free = 1e3  # a signal that is large has a small weight, which is hardly penalised
  features = np.concatenate([past, free * data.train.behaviour(frames)], axis=1)
  for n in range(6):
    reference = PoissonRegressor(alpha=penalty * float(means[n]), tol=1e-8, max_iter=2000, solver="newton-cholesky")
    reference.fit(features, rows.spikes[kept, n])
    np.testing.assert_allclose(rates[kept, n], reference.predict(features), rtol=1e-3)
    np.testing.assert_allclose(np.asarray(found.video)[..., n].ravel(), reference.coef_[:18], atol=1e-4)


def test_between_constant_and_achievable(data, glm):
  achievable = bits(data, data.recording.truth.rates)
  constant, regression = bits(data, baselines.constant_rates(data)), bits(data, glm.rates)
  assert glm.rates.shape == data.recording.spikes.shape
  assert (constant <= 0).all()
  assert constant.mean() > -0.1
  assert constant.mean() + 0.1 < regression.mean() < 0.8 * achievable.mean()
  assert (regression < achievable).all()


def test_each_neuron_has_the_penalty_that_validates_best(data, glm):
  tried = np.array([3.0, 1.0, 0.3])
  np.testing.assert_array_equal(glm.penalties, tried[np.argmax(glm.bits, axis=0)])
  found = bits(dataclasses.replace(data, test=data.val), glm.rates)
  np.testing.assert_allclose(found, glm.bits.max(0), rtol=1e-4)


def test_large_frames_are_pooled_until_the_weights_are_few_enough(data, glm, monkeypatch):
  assert glm.weights.video.shape == (8, 11 * 12, 6)
  monkeypatch.setattr(baselines, "_MOST_FEATURES", 8 * 12)
  coarse = baselines.fit_glm(dataclasses.replace(CONFIG.glm, iterations=2, penalties=(1.0,)), data)
  assert coarse.weights.video.shape == (8, 3 * 3, 6)  # squares of 4 pixels
  assert np.isfinite(coarse.rates).all()


def test_no_behaviour_one_neuron_and_no_spikes_in_validation(data):
  one = data.recording.neurons_only(np.array([2]))
  one = dataclasses.replace(one, behaviour=None, spikes=one.spikes.copy())
  silent = prepare_recording(CONFIG, one, None, 0)
  one.spikes[silent.val.counted_frames()] = 0
  found = baselines.fit_glm(dataclasses.replace(CONFIG.glm, iterations=2), prepare_recording(CONFIG, one, None, 0))
  assert np.isnan(found.bits).all()
  assert found.penalties.tolist() == [3.0]  # the strongest, where nothing can be told
  assert np.isfinite(found.rates).all()
