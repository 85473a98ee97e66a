"""The watched tokens are those of the model, on any number of devices; errors of channels have their names."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.data.windows import Windows
from behavejax.training import validation
from behavejax.training.log import MetricWriter, SilentWriter


def windows(count, *, devices=1):
  rng = np.random.default_rng(0)
  channels = ("ax", "ay") if devices == 1 else ("c/ax", "c/ay", "h/ax", "h/ay")
  return Windows(
    rng.normal(size=(10 * count, 2 * devices)).astype(np.float32), np.arange(count) * 10, np.zeros(count, int),
    np.zeros(count, int), np.zeros(count, int), np.zeros(count), 10, False, 50.0, ("s",), ("r",), ("a",), channels,
    devices,
  )  # fmt: skip


class Coded(NamedTuple):
  """A code is whether the mean of a row of a window, times a variable, is positive."""

  tokens: object


def make(scale_of=lambda variables: variables["scale"]):
  return Coded(lambda variables, x: (jnp.mean(x, axis=(2, 3)) * scale_of(variables) > 0)[:, :, None].astype(jnp.int32))


@pytest.mark.parametrize("kind", ["pmap", "sharding"])
@pytest.mark.parametrize("count", [3, 100])
def test_tokens_are_those_of_the_model(kind, count):
  data, model = windows(count), make()
  watch = validation.make_watch(model, data, kind=kind)
  found = watch({"scale": jnp.float32(1)})
  size = len(found)
  assert size % jax.device_count() == 0
  chosen = np.linspace(0, count - 1, size).astype(int)
  assert found == np.asarray(model.tokens({"scale": 1.0}, data.gather(chosen))).ravel().tolist()
  turned = watch({"scale": jnp.float32(-1)})
  assert validation.tokens_changed(found, turned) == {"tokens_changed": 1.0}
  assert validation.tokens_changed(found, watch({"scale": jnp.float32(2)})) == {"tokens_changed": 0.0}


def test_the_first_evaluation_and_models_without_tokens_have_no_change():
  assert validation.tokens_changed(None, [1, 2]) == {}
  assert validation.tokens_changed([1, 2], None) == {}
  assert validation.tokens_changed([1, 2], [1, 2, 3]) == {}
  assert validation.tokens_changed([1, 2, 3, 4], [1, 2, 3, 5]) == {"tokens_changed": 0.25}
  assert validation.make_watch(object(), windows(3), kind="pmap")({}) is None


def test_errors_of_channels():
  ranges = np.array([1.0, 0.0])
  found = validation.channel_errors(np.array([[0.1, 0.2], [0.3, 0.4]]), windows(3), ranges)
  assert found == {
    "mse/ax": pytest.approx(0.2), "mse/ay": pytest.approx(0.3), "psnr/ax": pytest.approx(10 * np.log10(1 / 0.2)),
  }  # fmt: skip
  apart = validation.channel_errors(np.array([[0.1, 0.2], [0.3, 0.4]]), windows(3, devices=2), np.ones(4))
  assert apart["mse/h/ax"] == pytest.approx(0.3)
  assert apart["psnr/c/ay"] == pytest.approx(10 * np.log10(1 / 0.2))


def test_a_subject_is_spoken_of_once(tmp_path, capsys):
  with MetricWriter(tmp_path / "metrics.jsonl", stage="s", first_step=0, steps=1) as writer:
    for subject, line in (("a", "one"), ("b", "two"), ("a", "three")):
      writer.say_once(subject, line)
  assert capsys.readouterr().out.split() == ["one", "two"]
  with SilentWriter() as writer:
    writer.say_once("a", "one")
  assert capsys.readouterr().out == ""
