"""Curves show every number that a stage wrote, and nothing where it wrote none."""

import io

import numpy as np
import pytest

from behavejax.evaluation import curves


def titles(figure):
  figure.savefig(io.BytesIO(), format="png", dpi=40)
  return [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]


def points(figure, title, label):
  axes = next(axes for axes in figure.axes if axes.get_title(loc="left") == title)
  return next(line.get_xydata().tolist() for line in axes.get_lines() if line.get_label() == label)


def rows(steps=50, **values):
  named = {key.replace("__", "/"): value for key, value in values.items()}
  return [{"stage": "encoder", "step": i + 1, **named} for i in range(steps)]


def test_panels_are_those_with_numbers():
  history = [
    {"step": 1, "train/loss": 2.0, "train/quantization_loss": 0.0, "gradient_norm": 3.0, "gradient_norm/encoder": 2.0},
    {"step": 2, "val/loss": 1.0, "val/mse/acc_x": 0.5, "val/mse/acc_y": 0.25, "val/psnr/acc_x": 12.0,
     "val/tokens_changed": 0.5, "val/largest_code": 0.1, "val/macro_f1": 0.7},
    {"step": 3, "train/loss": 1.5},
  ]  # fmt: skip
  figure = curves.training_curves(history)
  assert titles(figure) == [
    "loss", "accuracy", "squared error by channel", "PSNR by channel (dB)", "share of the commonest code",
    "share of tokens that changed", "gradient norm",
  ]  # fmt: skip
  assert points(figure, "loss", "train") == [[1, 2], [3, 1.5]]
  assert points(figure, "loss", "validation") == [[2, 1]]
  assert points(figure, "squared error by channel", "acc_y") == [[2, 0.25]]
  assert points(figure, "gradient norm", "encoder") == [[1, 2]]
  assert {text.get_text() for text in figure.legends[0].get_texts()} == {
    "train", "validation", "macro-F1", "acc_x", "acc_y",
  }  # fmt: skip


@pytest.mark.parametrize("channels", [1, 9, 40])
def test_legend_stays_in_the_figure(channels):
  history = rows(train__loss=1.0, val__loss=1.0, **{f"val__mse__channel_{i}": float(i + 1) for i in range(channels)})
  figure = curves.training_curves(history)
  figure.draw_without_rendering()
  assert bool(figure.legends) == (channels < 20)
  for legend in figure.legends:
    box = legend.get_window_extent()
    assert figure.bbox.x0 <= box.x0
    assert box.x1 <= figure.bbox.x1
    assert box.y1 < min(axes.get_window_extent().y0 for axes in figure.axes if axes.get_visible())


def test_nothing_is_drawn_of_nothing():
  assert titles(curves.training_curves([])) == []
  assert titles(curves.training_curves([{"step": 1, "gradient_norm": 1.0}])) == ["gradient norm"]


def test_learning_of_a_segmentation():
  history = [
    {"stage": "hsmm", "step": i, "hsmm/bound": -100.0 + i, "hsmm/log_likelihood_per_step": -2.0 / i,
     "hsmm/held_out_log_likelihood_per_step": -2.1 / i, "hsmm/states": 6.0, "hsmm/transitions_per_minute": 30.0,
     "hsmm/mean_duration_s": 1.5, "hsmm/persistence": 0.9}
    for i in range(1, 9)
  ]  # fmt: skip
  figure = curves.learning_curves(history)
  assert titles(figure) == [
    "bound (nats)", "log likelihood per step", "states in use", "state changes per minute", "mean duration (s)",
    "probability to stay, per step",
  ]  # fmt: skip
  assert points(figure, "bound (nats)", "_")[-1] == [8, -92]
  assert len(points(figure, "log likelihood per step", "held out")) == 8
  mixture = [{"stage": "hdp", "step": 1, "hdp/bound": -1.0, "hdp/log_likelihood_per_step": -1.0, "hdp/states": 2.0}]
  assert titles(curves.learning_curves(mixture)) == ["bound (nats)", "log likelihood per step", "states in use"]
  assert np.isfinite(curves.learning_curves(mixture).axes[0].get_ylim()).all()
