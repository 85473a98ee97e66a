"""The static graph computes what the network computes, in JAX and in NumPy; its parts and its cost."""

import functools

import jax
import numpy as np
import pytest

from behavejax.errors import InputError
from behavejax.export import build, counts, graph, run_jax
from behavejax.nets.conv2d import amplify
from tests.export.runs import small_model, tiny_config

SHAPE = (2, 20, 3)
CONFIGS = {
  "tiny": {},
  "no copies": {"model": {"gains": ()}},
  "window pool": {"model": {"pool": "window"}},
  "plain": {"model": {"gains": (), "classifier_dilations": (1,), "token_stride": 1}},
  "symmetric": {"quantizer": {"levels": (2, 5), "symmetric": True}},
  "signs": {"quantizer": {"name": "lfq", "num_codes": 32}},
  "groups": {"quantizer": {"levels": (5, 4), "groups": 2}},
  "one segment": {"model": {"classifier_segments": 1, "token_stride": 4}},
  "seven segments": {"model": {"classifier_segments": 4}},
}


@functools.cache
def example(name="no copies"):
  config = tiny_config(**CONFIGS[name])
  model, variables = small_model(config, shape=SHAPE)
  x = np.random.default_rng(1).normal(size=(3, *SHAPE)).astype(np.float32)
  return config, jax.jit(model.apply)(variables, x), build.build(config, variables, shape=SHAPE), x


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_the_network(name):
  config, expected, static, x = example(name)
  window = np.asarray(amplify(x, gains=config.model.gains))
  for found in (run_jax.run(static, window), graph.run(static, window)):
    np.testing.assert_allclose(found["codes"], expected.codes, atol=1e-6)
    np.testing.assert_allclose(found["embedding"], expected.embedding, atol=1e-5)
    np.testing.assert_allclose(found["logits"], expected.logits, atol=1e-5)


@pytest.mark.parametrize(
  ("quantizer", "message"),
  [
    ({"levels": (4, 3), "stages": 2}, "config.quantizer.stages=2 cannot be exported"),
    ({"name": "vq_ema", "num_codes": 8, "dim": 4, "stages": 2}, "config.quantizer.stages=2 cannot be exported"),
    ({"name": "vq", "num_codes": 8, "dim": 4, "groups": 2}, "config.quantizer.groups=2 of learned codes"),
    ({"name": "lfq", "num_codes": 8, "spherical": True}, "config.quantizer.spherical=True cannot be exported"),
  ],
)
def test_quantizers_without_a_static_form_are_named(quantizer, message):
  config = tiny_config(quantizer=quantizer, model={"gains": ()})
  with pytest.raises(InputError, match=message):
    build.build(config, {}, shape=SHAPE)


def test_fold_equals_normalisation_in_float64():
  rng = np.random.default_rng(0)
  kernel, x = rng.normal(size=(1, 1, 4, 5)).astype(np.float32), rng.normal(size=(7, 4))
  running = {"mean": rng.normal(size=5), "var": rng.uniform(0.01, 3, 5)}
  affine = {"scale": rng.normal(size=5), "bias": rng.normal(size=5)}
  weights, bias = build.fold(kernel, running, affine)
  y = x @ kernel[0, 0].astype(np.float64)
  expected = affine["scale"] * (y - running["mean"]) / np.sqrt(running["var"] + 1e-5) + affine["bias"]
  np.testing.assert_allclose(x @ weights[0, 0] + bias, expected, rtol=1e-5, atol=1e-6)


def test_a_scaled_input_changes_nothing():
  config, expected, static, x = example("tiny")
  window = np.asarray(amplify(x, gains=config.model.gains))
  scale = np.random.default_rng(2).uniform(0.1, 9, window.shape[-1]).astype(np.float32)
  found = graph.run(graph.scale_input(static, scale), window / scale)
  np.testing.assert_allclose(found["logits"], expected.logits, atol=1e-5)


def test_only_what_an_output_needs_is_kept():
  _, _, static, _ = example()
  codes = graph.with_outputs(static, ["codes"])
  assert [node.name for node in codes.nodes][-1] == "codes"
  assert len(codes.nodes) < len(static.nodes)


def test_saved_and_loaded_again(tmp_path):
  _, _, static, x = example()
  graph.save(tmp_path / "graph.npz", static)
  again = graph.load(tmp_path / "graph.npz")
  np.testing.assert_array_equal(graph.run(again, x)["logits"], graph.run(static, x)["logits"])
  assert list(tmp_path.iterdir()) == [tmp_path / "graph.npz"]
  (tmp_path / "graph.npz").write_bytes(b"something else")
  with pytest.raises(InputError, match="holds no graph"):
    graph.load(tmp_path / "graph.npz")


def test_shapes_are_those_of_the_values():
  _, _, static, x = example()
  seen = {}
  run_jax.run(static, x, observe=lambda node, value: seen.setdefault(node.name, value))
  expected = {name: value.shape[1:] for name, value in seen.items()} | {graph.INPUT: SHAPE}
  assert {name: tuple(shape) for name, shape in graph.shapes(static).items()} == expected


def test_weights_are_put_back_where_they_were():
  _, _, static, x = example()
  params = run_jax.parameters(static)
  zero = run_jax.with_parameters(static, jax.tree.map(np.zeros_like, params))
  assert not np.any(run_jax.run(zero, x)["logits"])
  np.testing.assert_array_equal(
    run_jax.run(run_jax.with_parameters(zero, params), x)["logits"], run_jax.run(static, x)["logits"]
  )


def test_attention_between_rows_has_no_static_form():
  config = tiny_config(model={"device_attention": True})
  with pytest.raises(InputError, match="device_attention"):
    build.build(config, {}, shape=SHAPE)


def test_counts_by_hand():
  ones = np.ones
  nodes = (
    graph.Node("a", "conv", (graph.INPUT,), ones((1, 3, 2, 4)), ones(4), stride=2),
    graph.Node("b", "conv", ("a",), ones((1, 1, 4, 4)), ones(4)),
    graph.Node("c", "add", ("a", "b")),
    graph.Node("e", "dense", ("c",), ones((1, 5, 4, 3)), ones(3)),
  )
  found = counts.count(graph.Graph((1, 10, 2), nodes, {"e": "e"}))
  assert found.macs == 5 * 4 * 6 + 5 * 4 * 4 + 20 * 3
  assert found.parameters == 24 + 4 + 16 + 4 + 60 + 3
  assert found.activations == 60  # a, b and c of 20 numbers each
