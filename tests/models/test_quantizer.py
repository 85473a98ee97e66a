"""Every quantizer in the model: codes of a grid or a codebook, a state that all devices share, a start from data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from behavejax.config import QuantizerConfig
from behavejax.data.batches import Batch
from behavejax.models.autoencoder import make_model
from behavejax.models.quantizer import codebook_of, make_quantizer, start_codebook, tokens_of
from behavejax.training import parallel, state
from behavejax.training import step as step_lib
from tests.export.runs import tiny_config

SHAPE = (2, 16, 3)
CONFIGS = {
  "fsq": QuantizerConfig(levels=(4, 3)),
  "symmetric": QuantizerConfig(levels=(2, 6), symmetric=True),
  "vq": QuantizerConfig(name="vq", num_codes=16, dim=4),
  "vq rotation": QuantizerConfig(name="vq", num_codes=16, dim=4, gradient="rotation"),
  "vq_ema": QuantizerConfig(name="vq_ema", num_codes=16, dim=4),
  "vq_ema cosine": QuantizerConfig(name="vq_ema", num_codes=16, dim=4, cosine=True, restart_after=2),
}


def model_of(name, **rest):
  config = dataclasses.replace(tiny_config(model={"gains": ()}), quantizer=CONFIGS[name])
  return make_model(config, shape=SHAPE, classes=3, **rest)


def windows(count=16):
  rng = np.random.default_rng(0)
  y = rng.integers(0, 3, count).astype(np.int32)
  x = rng.normal(size=(count, *SHAPE)) + y[:, None, None, None]
  return Batch(x.astype(np.float32), y, np.ones(count, bool))


@pytest.fixture(scope="module", params=CONFIGS)
def made(request):
  model, batch = model_of(request.param), windows()
  variables = jax.jit(model.init)(jax.random.key(0), batch.x)
  return request.param, model, variables, batch


def test_codes_are_codes_and_tokens_name_them(made):
  name, model, variables, batch = made
  config = CONFIGS[name]
  outputs = jax.jit(model.apply)(variables, batch.x)
  quantizer = make_quantizer(config)
  assert outputs.codes.shape == (16, 2, 4, quantizer.digits)
  assert model.num_codes == quantizer.num_codes == np.prod(quantizer.levels)
  assert outputs.tokens.min() >= 0
  assert outputs.tokens.max() < model.num_codes
  codebook = None if config.name == "fsq" else codebook_of(config, variables)
  np.testing.assert_array_equal(tokens_of(config, outputs.codes, codebook), outputs.tokens)
  if codebook is None:
    np.testing.assert_array_equal(outputs.quantization_loss, 0)
  else:
    np.testing.assert_allclose(outputs.codes, codebook[outputs.tokens], atol=1e-6)
    assert np.all(outputs.quantization_loss > 0)


def test_every_parameter_learns(made):
  name, model, variables, batch = made
  keys = jax.random.split(jax.random.key(1), 16)

  def loss(params):
    values, aux = model.loss({**variables, "params": params}, batch, keys)
    return values.mean(), aux

  gradients, (stats, _) = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
  assert all(np.any(g) for g in jax.tree.leaves(gradients["encoder"]))
  if CONFIGS[name].name == "vq":
    assert np.any(gradients["quantizer"]["codebook"])
  if CONFIGS[name].name == "vq_ema":
    assert stats["quantizer"]["updates"] == 1
    assert np.any(stats["quantizer"]["state"].codebook != variables["batch_stats"]["quantizer"]["state"].codebook)


def test_a_start_from_data_uses_most_codes(made):
  name, _, variables, _ = made
  if CONFIGS[name].name == "fsq":
    pytest.skip("a grid has no start")
  latents = jax.random.normal(jax.random.key(2), (8, 2, 8, 4))
  started = jax.jit(lambda v, z, k: start_codebook(CONFIGS[name], v, z, k))(variables, latents, jax.random.key(3))
  tokens = tokens_of(CONFIGS[name], latents, codebook_of(CONFIGS[name], started))
  assert len(np.unique(tokens)) == 16
  few = start_codebook(CONFIGS[name], variables, latents[:1, :1, :2], jax.random.key(4))
  np.testing.assert_array_equal(codebook_of(CONFIGS[name], few), codebook_of(CONFIGS[name], variables))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vq", "vq_ema cosine"])
def test_eight_devices_hold_the_codebook_of_one(name):
  batch = windows()
  found = {}
  for kind, axis_name in (("pmap", parallel.AXIS), (None, None)):
    model = model_of(name, axis_name=axis_name)
    optimizer = optax.sgd(0.05)  # Adam would magnify gradients that are rounding
    start = jax.jit(model_of(name).init)(jax.random.key(0), batch.x)
    current = state.init_state(start, optimizer=optimizer, key=jax.random.key(1))

    def step(current, batch, model=model, optimizer=optimizer, axis_name=axis_name):
      return step_lib.train_step(
        current, batch, loss=model.loss, optimizer=optimizer, augment=None, ema_decay=0.9, axis_name=axis_name
      )  # fmt: skip

    call = parallel.train_call(step, kind=kind) if kind else jax.jit(step)
    for _ in range(6):
      current, metrics = call(current, jax.tree.map(lambda a: a[None], batch) if kind else batch)
      jax.block_until_ready(metrics)
    found[kind] = current
    if kind:
      for leaf in jax.tree.leaves({"params": current.params, "stats": current.batch_stats}):
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert all(np.array_equal(copies[0], copy) for copy in copies[1:])
  many, one = (found[kind] for kind in ("pmap", None))
  pairs = jax.tree.map(lambda a, b: (np.asarray(a), np.asarray(b)), many.ema, one.ema)
  for a, b in jax.tree.leaves(pairs, is_leaf=lambda x: isinstance(x, tuple) and not hasattr(x, "_fields")):
    np.testing.assert_allclose(a, b, atol=1e-5)
  if name != "vq":
    assert one.batch_stats["quantizer"]["updates"] == one.ema["batch_stats"]["quantizer"]["updates"] == 6
    assert one.ema["batch_stats"]["quantizer"]["state"].initialised.dtype == jnp.bool_
