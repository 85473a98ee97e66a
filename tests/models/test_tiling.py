"""Tiles give what the whole gives, or fade without a seam."""

import jax
import numpy as np
import pytest

from behavejax.config import Config, QuantizerConfig
from behavejax.config_vqvae import VqvaeConfig
from behavejax.models import tiling
from behavejax.models.tiling import Plan, Tile
from behavejax.models.vqvae import make_vqvae
from tests.nets.weights import weights_key


def trained(shape, **settings):
  """A model whose batch statistics are those of its samples, so that it is not degenerate."""
  config = Config(
    vqvae=VqvaeConfig(hidden=8, **settings), quantizer=QuantizerConfig(name="vq_ema", num_codes=64, dim=4)
  )
  model = make_vqvae(config, shape=shape)
  x = np.random.default_rng(0).normal(size=(16, *shape)).astype(np.float32)
  return config, model, jax.jit(model.init)(weights_key(), x)


@pytest.mark.parametrize("cells", [1, 6, 7, 9, 10, 11, 23, 40])
def test_tiles_cover_everything_once(cells):
  found = tiling.tiles(cells, size=6, margin=1)
  kept = np.concatenate([np.arange(tile.first, tile.last) for tile in found])
  np.testing.assert_array_equal(kept, np.arange(cells))
  for i, tile in enumerate(found):
    assert tile.start == 0 or tile.first >= tile.start + 1
    assert i + 1 == len(found) or tile.last <= tile.start + 6 - 1
    assert tile.start + 6 <= max(cells, 6)


@pytest.mark.parametrize(
  ("shape", "factors", "long"), [((16, 2), (4,), 401), ((4, 4, 4, 1), (2, 2, 2), 60), ((8, 2), (1,), 150)]
)
def test_tiled_equals_whole(shape, factors, long, monkeypatch):
  monkeypatch.setattr(tiling, "_LONGEST", 8)
  config, model, variables = trained(shape, factors=factors, blocks=1, attention="none")
  plan = tiling.make_plan(config, shape=shape)
  assert plan.exact
  x = np.random.default_rng(1).normal(size=(long, *shape[1:])).astype(np.float32)
  tokens = tiling.encode(model, variables, x, plan)
  decoded = tiling.decode(model, variables, tokens, plan, length=long)
  filled = np.concatenate([x, np.repeat(x[-1:], -long % factors[0], axis=0)])
  whole = jax.jit(model.apply)(variables, filled[None])
  assert len(tiling.tiles(len(tokens), size=plan.size, margin=plan.margin)) > 2
  np.testing.assert_array_equal(tokens, np.asarray(whole.tokens)[0])
  np.testing.assert_allclose(decoded, np.asarray(whole.reconstruction)[0, :long], atol=1e-5)
  narrow = plan._replace(margin=0)  # the overlap is needed: without it the tokens are others
  assert (tiling.encode(model, variables, x, narrow) != tokens).any()


@pytest.mark.parametrize(("attention", "norm"), [("full", "batch"), ("none", "group")])
def test_tiles_that_see_all_fade_without_a_seam(attention, norm):
  """Where tiles meet, a smooth signal jumps no more than inside them; set side by side, they jump."""
  config, model, variables = trained((32, 1), factors=(4,), blocks=1, attention=attention, norm=norm)
  plan = tiling.make_plan(config, shape=(32, 1))
  assert not plan.exact
  time = np.arange(256)
  x = np.stack([np.sin(2 * np.pi * time / 40)], axis=-1).astype(np.float32)
  tokens = tiling.encode(model, variables, x, plan)
  smooth = tiling.decode(model, variables, tokens, plan, length=256)
  assert smooth.shape == x.shape
  steps = np.abs(np.diff(smooth[:, 0]))
  step = (plan.size - 2 * plan.margin) * plan.factor
  edges = np.concatenate([[start - 1, start] for start in range(step, 256 - step, step)])
  inside = np.setdiff1d(np.arange(len(steps)), edges)
  assert steps[edges].max() <= steps[inside].max()


def test_ramps_add_up_to_one_wherever_two_tiles_meet():
  plan = Plan(size=8, margin=2, factor=4, exact=False)
  total = np.zeros(20 * 4)
  for tile, weight in tiling._weighted(20, plan):
    total[tile.start * 4 : tile.start * 4 + len(weight)] += weight
  assert np.isclose(total, 1).all()
  assert tiling.tiles(20, size=8, margin=2)[0] == Tile(0, 0, 6)
