"""The convolutional core: the same places as the transformer, every frame, and no look ahead."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.config_vivit import VivitConfig
from behavejax.nets.conv3d_core import Conv3dCore
from behavejax.nets.vivit import ViViT
from tests.nets.weights import drawn

SETTINGS = VivitConfig(
  kernel=(4, 5, 4), stride=(2, 3, 2), width=12, spatial_blocks=0, temporal_blocks=0, registers=0, convolutions=(4, 6, 6)
)


@pytest.fixture(scope="module")
def setup():
  video = np.random.default_rng(0).normal(size=(2, 9, 8, 7, 1)).astype(np.float32)
  core = Conv3dCore(SETTINGS)
  return jax.jit(core.apply), drawn(jax.eval_shape(core.init, jax.random.key(1), video)), video


def test_has_the_places_of_the_transformer(setup):
  apply, variables, video = setup
  theirs = jax.eval_shape(ViViT(SETTINGS).init_with_output, jax.random.key(0), video)[0].shape
  assert apply(variables, video).shape == (*theirs[:4], 6)


def test_no_output_knows_a_later_frame_to_the_bit(setup):
  apply, variables, video = setup
  base = apply(variables, video)
  for t in (0, 4):
    found = apply(variables, video + (np.arange(9) > t).astype(np.float32).reshape(1, 9, 1, 1, 1))
    np.testing.assert_array_equal(found[:, : t + 1], base[:, : t + 1])
    assert np.abs(found[:, t + 1 :] - base[:, t + 1 :]).max() > 1e-3


def test_equals_3d_convolutions_in_torch(setup):
  pytest.importorskip("torch", reason="PyTorch, which the nets are compared with, is not installed")
  references = importlib.import_module("tests.nets.references")
  functional = pytest.importorskip("torch.nn.functional")
  _, variables, video = setup
  p = variables["params"]
  x = references.tubelets(p["layer_0"], video, stride=(1, *SETTINGS.stride[1:]))
  for i in range(3):
    if i:
      weight = references.tensor(p[f"layer_{i}"]["embed"]["kernel"])  # [3, 3, 3 in, out], frames outermost in the third
      weight = weight.unflatten(2, (3, -1)).permute(4, 3, 2, 0, 1)
      padded = functional.pad(x.permute(0, 4, 1, 2, 3), (1, 1, 1, 1, 2, 0))
      y = functional.conv3d(padded, weight, references.tensor(p[f"layer_{i}"]["embed"]["bias"])).permute(0, 2, 3, 4, 1)
    else:
      y = x
    norm = (references.tensor(p[f"norm_{i}"][name]) for name in ("scale", "bias"))
    y = functional.elu(functional.layer_norm(y, y.shape[-1:], *norm, eps=1e-6))
    x = x + y if i and x.shape == y.shape else y
  norm = (references.tensor(p["norm"][name]) for name in ("scale", "bias"))
  expected = functional.layer_norm(x, x.shape[-1:], *norm, eps=1e-6)
  np.testing.assert_allclose(jnp.asarray(setup[0](variables, video)), expected, atol=1e-5)
