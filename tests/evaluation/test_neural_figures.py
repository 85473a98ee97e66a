"""Figures of neural encoders take what can occur: one neuron, undefined scores, no truth, no registers."""

import numpy as np
import pytest

from behavejax.evaluation import neural_figures
from behavejax.evaluation.neural_attention import Attention
from behavejax.evaluation.neural_fields import Fields, field_metrics
from behavejax.evaluation.neural_scores import CONSTANT, ENCODER, GLM, TRUTH, Judged, Scores, score_metrics


def judged(neurons, *, truth=True, behaviour=True, seed=0):
  rng, names = np.random.default_rng(seed), [ENCODER, CONSTANT, GLM, *([TRUTH] if truth else [])]
  rates = {name: rng.gamma(2.0, 0.2, (60, neurons)) for name in names}
  scores = {name: Scores(*rng.normal(0.5, 0.1, (3, neurons))) for name in names}
  if neurons > 1:
    scores[ENCODER].bits[0] = np.nan
  mask = np.ones((60, neurons), bool)
  mask[20:25] = False
  return Judged("a_recording", rates, scores, mask, rng.normal(size=neurons) if behaviour else None)


def fields(neurons):
  rng = np.random.default_rng(1)
  return Fields(rng.random((neurons, 4, 9, 12)), rng.random((neurons, 2)) * 8, rng.random((neurons, 2)) * 8)


@pytest.mark.parametrize("neurons", [1, 20])
def test_figures_are_drawn(tmp_path, neurons):
  own = [judged(neurons), judged(neurons, behaviour=False, seed=1)]
  spikes = np.random.default_rng(0).poisson(0.5, (60, neurons))
  truth = np.random.default_rng(2).random((neurons, 2)) * 8
  drawn = {
    "comparison": neural_figures.comparison(own),
    "by_neuron": neural_figures.by_neuron(own),
    "traces": neural_figures.traces(own[0], spikes, rate_hz=30.0),
    "behaviour": neural_figures.behaviour(own),
    "fields": neural_figures.receptive_fields(fields(neurons), truth, name="a"),
    "fields_without_truth": neural_figures.receptive_fields(fields(neurons), None, name="a"),
    "errors": neural_figures.field_errors({"a": (fields(neurons), truth)}),
  }
  for name, figure in drawn.items():
    figure.savefig(tmp_path / f"{name}.png")
    assert (tmp_path / f"{name}.png").stat().st_size > 2000


@pytest.mark.parametrize(("spatial", "registers"), [(2, 3), (1, 0), (0, 0)])
def test_attention_with_and_without_blocks(tmp_path, spatial, registers):
  rng, tokens = np.random.default_rng(0), registers + 6
  weights = rng.dirichlet(np.ones(tokens), (spatial, 2, tokens))
  time = rng.dirichlet(np.ones(5), (1, 2, 5))
  found = Attention(weights, time, *rng.random((2, max(spatial, 1), 2)), rng.random((spatial, 2)), (2, 3))
  neural_figures.attention_maps(found, name="a").savefig(tmp_path / "attention.png")


def test_metrics_leave_out_what_is_undefined():
  values = score_metrics([judged(3), judged(2, truth=False, seed=3)])
  assert values["test/undefined_neurons"] == 2
  assert "test/share_of_achievable" not in values
  assert np.isfinite(list(values.values())).all()
  assert field_metrics(fields(3), None).keys() == {"fields/apart_pixels"}
  near = field_metrics(fields(3), fields(3).gradient_centres)
  assert near["fields/gradient/within_1.5"] == 1.0
  assert near["fields/gradient/error_pixels"] == 0.0
