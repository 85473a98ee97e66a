"""The staircase gives the codes of the quantizer everywhere but at its steps; a cut graph joins up again."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.errors import InputError
from behavejax.export import build, forms, graph
from behavejax.quantizers import fsq, vq
from tests.export.runs import LEVELS, small_model, tiny_config

SHAPE = (2, 20, 3)


def quantizer_alone(levels, *, symmetric, sharpness):
  """The staircase of values given as they are."""
  digits = len(levels)
  eye = np.eye(digits, dtype=np.float32)[None, None]
  projection = graph.Node("latents", "conv", (graph.INPUT,), eye, np.zeros(digits, np.float32))
  node = graph.Node("codes", "quantize", ("latents",), levels=levels, symmetric=symmetric)
  whole = graph.Graph((1, 64, digits), (projection, node), {"codes": "codes"})
  return forms.lower(whole, "npu", sharpness=sharpness)


@pytest.mark.parametrize("symmetric", [False, True])
@hypothesis.given(
  levels=st.lists(st.integers(2, 16), min_size=1, max_size=4).map(tuple),
  seed=st.integers(0, 2**16),
  sharpness=st.sampled_from([16.0, 512.0, 4096.0]),
)
@hypothesis.settings(max_examples=25, deadline=None)
def test_staircase_equals_the_quantizer_away_from_its_steps(levels, symmetric, seed, sharpness):
  if not symmetric:
    levels = tuple(max(count, 3) for count in levels)
  z = np.random.default_rng(seed).normal(size=(1, 1, 64, len(levels))).astype(np.float32)
  near = forms.near_threshold(z, levels, symmetric=symmetric, sharpness=sharpness)
  found = graph.run(quantizer_alone(levels, symmetric=symmetric, sharpness=sharpness), z)["codes"]
  expected = np.asarray(fsq.quantize(jnp.asarray(z), levels=levels, symmetric=symmetric))
  np.testing.assert_allclose(found[~near], expected[~near], atol=1e-6)
  step = np.broadcast_to(forms.step_sizes(levels, symmetric=symmetric), z.shape)
  assert np.all(np.abs(found - expected)[near] <= step[near] + 1e-6)  # between two neighbours


@pytest.mark.parametrize("symmetric", [False, True])
def test_thresholds_are_where_the_code_changes(symmetric):
  levels = (2, 3, 8) if symmetric else (3, 5, 8)
  for digit, row in enumerate(forms.thresholds(levels, symmetric=symmetric)):
    assert len(row) == levels[digit] - 1
    assert np.all(np.diff(row) > 0)
    for z in row:
      around = np.zeros((2, len(levels)), np.float32)
      around[:, digit] = z + np.array([-1e-3, 1e-3])
      codes = np.asarray(fsq.quantize(jnp.asarray(around), levels=levels, symmetric=symmetric))[:, digit]
      np.testing.assert_allclose(np.diff(codes), forms.step_sizes(levels, symmetric=symmetric)[digit], rtol=1e-5)


@pytest.mark.parametrize(("levels", "symmetric"), [(levels, False) for levels in LEVELS.values()] + [((2, 6), True)])
def test_a_whole_network_in_its_accelerator_form(levels, symmetric):
  config = tiny_config(quantizer={"levels": levels, "symmetric": symmetric}, model={"gains": ()})
  model, variables = small_model(config, shape=SHAPE)
  x = np.random.default_rng(1).normal(size=(8, *SHAPE)).astype(np.float32)
  expected = jax.jit(model.apply)(variables, x)
  npu = forms.lower(build.build(config, variables, shape=SHAPE), "npu", sharpness=4096.0)
  assert {node.op for node in npu.nodes} == {"conv", "add", "average_pool", "flatten", "dense"}
  found = graph.run(npu, x)
  near = forms.near_threshold(expected.latents, levels, symmetric=symmetric, sharpness=4096.0)
  np.testing.assert_allclose(found["codes"][~near], np.asarray(expected.codes)[~near], atol=1e-6)
  far = ~near.any(axis=(1, 2, 3))
  np.testing.assert_allclose(found["logits"][far], expected.logits[far], atol=1e-5)
  assert near.mean() < 0.01


def test_head_and_tail_are_the_whole():
  config = tiny_config(model={"gains": ()})
  model, variables = small_model(config, shape=SHAPE)
  whole = build.build(config, variables, shape=SHAPE)
  head, tail = forms.cut(whole)
  x = np.random.default_rng(1).normal(size=(2, *SHAPE)).astype(np.float32)
  latents = graph.run(head, x)["latents"]
  np.testing.assert_allclose(latents, jax.jit(model.apply)(variables, x).latents, atol=1e-5)
  for name, value in graph.run(tail, latents).items():
    np.testing.assert_array_equal(value, graph.run(whole, x)[name])


def test_what_cannot_be_lowered_is_named():
  config = tiny_config(model={"gains": ()})
  _, variables = small_model(config, shape=SHAPE)
  whole = build.build(config, variables, shape=SHAPE)
  with pytest.raises(InputError, match="no form 'tpu'"):
    forms.lower(whole, "tpu", sharpness=1.0)
  bent = tuple(node._replace(activation="relu") if node.name == "latents" else node for node in whole.nodes)
  with pytest.raises(InputError, match="does not follow a linear projection"):
    forms.lower(whole._replace(nodes=bent), "npu", sharpness=1.0)


@pytest.mark.parametrize("cosine", [False, True])
def test_nearest_code_in_both_forms(cosine):
  rng = np.random.default_rng(0)
  codebook, z = (rng.normal(size=shape).astype(np.float32) for shape in ((32, 4), (50, 1, 40, 4)))
  eye = np.eye(4, dtype=np.float32)[None, None]
  projection = graph.Node("latents", "conv", (graph.INPUT,), eye, np.zeros(4, np.float32))
  if cosine:
    codebook /= np.linalg.norm(codebook, axis=1, keepdims=True)
  node = graph.Node("codes", "quantize", ("latents",), codebook=codebook, cosine=cosine)
  whole = graph.Graph((1, 40, 4), (projection, node), {"codes": "codes"})
  expected = np.asarray(vq.quantize(jnp.asarray(z), jnp.asarray(codebook), cosine=cosine).codes)
  np.testing.assert_allclose(graph.run(whole, z)["codes"], expected, atol=1e-6)
  host = forms.lower(whole, "host", sharpness=1.0)
  assert [n.op for n in host.nodes] == ["conv", "conv", "largest", "conv"]
  np.testing.assert_allclose(graph.run(host, z)["codes"], expected, atol=1e-6)
  npu = forms.lower(whole, "npu", sharpness=64.0)
  assert [n.op for n in npu.nodes] == ["conv", "softmax", "conv"]
  assert npu.nodes[0].activation == "relu"
  near = forms.near_tie(z, codebook, cosine=cosine, sharpness=64.0)
  assert 0 < near.mean() < 0.1
  np.testing.assert_allclose(graph.run(npu, z)["codes"][~near], expected[~near], atol=1e-6)
  assert np.abs(graph.run(npu, z)["codes"] - expected)[near].max() > 1e-4  # where the test is needed


def test_the_lowest_best_score_is_never_undercut():
  rng = np.random.default_rng(1)
  gain, offset = rng.normal(size=(3, 20)), rng.normal(size=20)
  lowest = forms.lowest_best_score(gain, offset)
  best = (rng.normal(size=(200_000, 3)) @ gain + offset).max(axis=1)
  assert lowest <= best.min() < lowest + 0.3
  assert forms.lowest_best_score(np.ones((2, 3)), np.zeros(3)) is None  # all on one side: falls for ever


def test_without_a_bound_there_is_no_relu():
  codebook = np.abs(np.random.default_rng(0).normal(size=(8, 4))).astype(np.float32) + 0.1
  projection = graph.Node("latents", "conv", (graph.INPUT,), np.eye(4, dtype=np.float32)[None, None], np.zeros(4))
  nodes = forms.soft_choice(
    projection, graph.Node("codes", "quantize", ("latents",), codebook=codebook), sharpness=64.0
  )
  assert nodes[0].activation == ""
