"""The video transformer beside the same written in PyTorch; what it may know of the future; frame by frame."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.config_vivit import VivitConfig
from behavejax.nets.vivit import (
  ParallelBlock,
  Tubelets,
  ViViT,
  attend,
  attention_weights,
  cells,
  empty_memory,
  past_frames,
)
from tests.nets.weights import drawn

SETTINGS = VivitConfig(
  kernel=(4, 5, 4), stride=(2, 3, 2), width=12, spatial_blocks=2, temporal_blocks=2, heads=2, head_width=8, hidden=10,
  context=3, registers=2,
)  # fmt: skip
FRAMES = 11


@pytest.fixture(scope="module")
def video():
  return np.random.default_rng(0).normal(size=(2, FRAMES, 8, 7, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def network(video):
  net = ViViT(SETTINGS)
  return net, drawn(jax.eval_shape(net.init, jax.random.key(0), video))


@pytest.fixture(scope="module")
def apply(network):
  return jax.jit(network[0].apply)


def test_cells_lie_in_the_middle_of_their_kernels():
  for size in range(1, 14):
    for kernel in range(1, 7):
      for stride in range(1, kernel + 1):
        middles, (low, high) = cells(size, kernel=kernel, stride=stride)
        windows = np.lib.stride_tricks.sliding_window_view(np.arange(-low, size + high), kernel)[::stride]
        np.testing.assert_allclose(middles, windows.mean(1)[: len(middles)])
        assert len(middles) == -(-size // stride)


def test_past_frames_end_with_their_own():
  x = jnp.arange(1.0, 8).reshape(1, 7, 1, 1, 1)
  found = past_frames(x, kernel=3, stride=2)[0, :, 0, 0]
  np.testing.assert_array_equal(found, [[0, 0, 1], [1, 2, 3], [3, 4, 5], [5, 6, 7]])


@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 3, 2), (3, 5, 4)])
def test_tubelets_equal_a_3d_convolution(video, stride):
  pytest.importorskip("torch", reason="PyTorch, which the nets are compared with, is not installed")
  references = importlib.import_module("tests.nets.references")
  module = Tubelets((4, 5, 4), stride, 6)
  variables = drawn(jax.eval_shape(module.init, jax.random.key(0), video))
  expected = references.tubelets(variables["params"], video, stride=stride)
  np.testing.assert_allclose(module.apply(variables, video), expected, atol=1e-5)


@pytest.mark.parametrize(("causal", "context"), [(False, 0), (True, 0), (True, 3)])
def test_block_equals_its_formula(causal, context):
  pytest.importorskip("torch", reason="PyTorch, which the nets are compared with, is not installed")
  references = importlib.import_module("tests.nets.references")
  module = ParallelBlock(2, 8, 10, causal=causal, context=context)
  x = np.random.default_rng(1).normal(size=(3, 5, 7, 12)).astype(np.float32)
  positions = np.random.default_rng(0).integers(0, 9, (7, 2))
  variables = drawn(jax.eval_shape(module.init, jax.random.key(1), x, positions))
  found, _ = jax.jit(module.apply)(variables, x, positions)
  sizes = {"heads": 2, "head_width": 8, "causal": causal, "context": context}
  expected = references.block(variables["params"], references.tensor(x), positions, **sizes)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_whole_core_equals_its_reference(network, apply, video):
  pytest.importorskip("torch", reason="PyTorch, which the nets are compared with, is not installed")
  references = importlib.import_module("tests.nets.references")
  expected = references.vivit(network[1]["params"], video, SETTINGS)
  found = apply(network[1], video)
  assert found.shape == (2, FRAMES, 3, 4, 12)
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("position", ["rotary", "sinusoidal"])
def test_no_output_knows_a_later_frame_to_the_bit(network, video, position):
  net = ViViT(dataclasses.replace(SETTINGS, position=position))
  apply = jax.jit(net.apply)
  base = apply(network[1], video)
  for t in (0, 3, 4, 8):
    changed = video.copy()
    changed[:, t + 1 :] += np.random.default_rng(t).normal(size=changed[:, t + 1 :].shape)
    found = apply(network[1], changed)
    np.testing.assert_array_equal(found[:, : t + 1], base[:, : t + 1])
    assert np.abs(found[:, t + 2 :] - base[:, t + 2 :]).max() > 1e-3


def test_without_causality_outputs_know_later_frames(network, video):
  apply = jax.jit(ViViT(dataclasses.replace(SETTINGS, causal=False)).apply)
  changed = video.copy()
  changed[:, -3:] += 1
  assert np.abs(apply(network[1], changed)[:, 4] - apply(network[1], video)[:, 4]).max() > 1e-3


@pytest.mark.parametrize("position", ["rotary", "sinusoidal"])
def test_step_by_step_equals_all_at_once(network, video, position):
  settings = dataclasses.replace(SETTINGS, position=position)
  net = ViViT(settings)
  step = jax.jit(lambda frames, memory, before: net.apply(network[1], frames, memory, before, method="step"))
  memory, steps = empty_memory(settings, batch=2, places=12), []
  padded = np.pad(video, ((0, 0), (3, 1), (0, 0), (0, 0), (0, 0)))
  for j in range(6):
    features, memory = step(padded[:, 2 * j : 2 * j + 4], memory, jnp.asarray(j))
    steps.append(jnp.moveaxis(features[:, 0], 3, 1))
  found = jnp.concatenate(steps, axis=1)[:, :FRAMES]
  np.testing.assert_allclose(found, jax.jit(net.apply)(network[1], video), atol=1e-5)


def test_attention_weights_are_those_of_attention():
  query, key, value = jax.random.normal(jax.random.key(0), (3, 2, 6, 2, 4))
  for causal, context in ((False, 0), (True, 0), (True, 2), (False, 3)):
    weights = attention_weights(query, key, causal=causal, context=context)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    expected = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
    np.testing.assert_allclose(attend(query, key, value, causal=causal, context=context), expected, atol=1e-5)


def test_training_leaves_out_places_and_keeps_the_mean(network, video):
  settings = dataclasses.replace(SETTINGS, patch_dropout=0.5, stochastic_depth=0.0, registers=2)
  apply = jax.jit(lambda keys: ViViT(settings).apply(network[1], video, keys=keys))
  keys = jax.random.split(jax.random.key(2), 2)
  found = np.asarray(apply(keys))
  left_out = (found == 0).all(axis=(1, 4)).reshape(2, -1)
  np.testing.assert_array_equal(left_out.sum(1), [6, 6])
  assert (left_out[0] != left_out[1]).any()  # each example its own
  np.testing.assert_array_equal(found, apply(keys))


def test_stochastic_depth_of_one_example_is_its_own(network, video):
  settings = dataclasses.replace(SETTINGS, patch_dropout=0.0, stochastic_depth=0.9)
  apply = jax.jit(lambda video, keys: ViViT(settings).apply(network[1], video, keys=keys))
  keys = jax.random.split(jax.random.key(3), 2)
  together = apply(video, keys)
  np.testing.assert_allclose(apply(video[::-1], keys[::-1]), together[::-1], atol=1e-5)
  kept = jax.jit(lambda: ViViT(dataclasses.replace(SETTINGS, patch_dropout=0.0)).apply(network[1], video))()
  assert np.abs(together - kept).max() > 1e-3


def test_remat_and_bfloat16_change_no_meaning(network, apply, video):
  expected = apply(network[1], video)
  for changes, tolerance in (({"remat": True}, 1e-5), ({"dtype": "bfloat16"}, 0.15)):
    net = ViViT(dataclasses.replace(SETTINGS, **changes))
    found = jax.jit(net.apply)(network[1], video)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=tolerance)
  gradients = [jax.jit(jax.grad(lambda v, net=ViViT(settings): jnp.sum(net.apply(v, video) ** 2)))(network[1])
               for settings in (SETTINGS, dataclasses.replace(SETTINGS, remat=True))]  # fmt: skip
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), *gradients)
