"""Every quantizer in the model: codes of a grid or a codebook, a state that all devices share, a start from data."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from behavejax.config import QuantizerConfig
from behavejax.data.batches import Batch
from behavejax.models.autoencoder import make_model
from behavejax.models.quantizer import codebook_of, compose, learns_codes, make_quantizer, start_codebook, tokens_of
from behavejax.quantizers import lfq, vq
from behavejax.training import parallel, state
from behavejax.training import step as step_lib
from tests.export.runs import tiny_config
from tests.nets.weights import weights_key

SHAPE = (2, 8, 3)
CONFIGS = {
  "fsq": QuantizerConfig(levels=(4, 3)),
  "symmetric": QuantizerConfig(levels=(2, 6), symmetric=True),
  "vq": QuantizerConfig(name="vq", num_codes=16, dim=4),
  "vq_ema": QuantizerConfig(name="vq_ema", num_codes=16, dim=4),
  "vq_ema cosine": QuantizerConfig(name="vq_ema", num_codes=16, dim=4, cosine=True, restart_after=2),
  "lfq": QuantizerConfig(name="lfq", num_codes=16, entropy_weight=0.1),
  "fsq composed": QuantizerConfig(levels=(4, 3), stages=2, groups=2),
  "vq composed": QuantizerConfig(
    name="vq", num_codes=4, dim=4, stages=2, groups=2, gradient="rotation", entropy_weight=0.1, orthogonality_weight=0.1
  ),
  "vq_ema residual": QuantizerConfig(name="vq_ema", num_codes=8, dim=4, stages=2, restart_after=2, entropy_weight=0.1),
}


def model_of(name, **rest):
  small = {"gains": (), "widths": (8,), "dilations": (), "token_stride": 2}
  config = dataclasses.replace(tiny_config(model=small), quantizer=CONFIGS[name])
  return make_model(config, shape=SHAPE, classes=3, **rest)


def windows(count=16):
  rng = np.random.default_rng(0)
  y = rng.integers(0, 3, count).astype(np.int32)
  x = rng.normal(size=(count, *SHAPE)) + y[:, None, None, None]
  return Batch(x.astype(np.float32), y, np.ones(count, bool))


@pytest.fixture(scope="module", params=CONFIGS)
def made(request):
  model, batch = model_of(request.param), windows()
  variables = jax.jit(model.init)(weights_key(), batch.x)
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
  codebook = codebook_of(config, variables) if learns_codes(config) else None
  np.testing.assert_array_equal(tokens_of(config, outputs.codes, codebook), outputs.tokens)
  if config.name == "fsq":
    np.testing.assert_array_equal(outputs.quantization_loss, 0)
  else:
    assert np.all(outputs.quantization_loss > 0)
  every = compose(config).codebook() if codebook is None else codebook
  assert every.shape == (model.num_codes, quantizer.digits)
  np.testing.assert_allclose(outputs.codes, every[outputs.tokens], atol=1e-6)


def test_two_steps_of_training_move_every_parameter(made):
  name, model, variables, batch = made
  config, optimizer = CONFIGS[name], optax.sgd(0.1)
  current = state.init_state(variables, optimizer=optimizer, key=jax.random.key(1))
  step = functools.partial(step_lib.train_step, loss=model.loss, optimizer=optimizer, augment=None, ema_decay=0.9)
  step = jax.jit(step)
  for _ in range(2):
    current, metrics = step(current, batch)
    assert metrics["nonfinite"] == 0
    assert metrics["codes"].sum() == 16 * 2 * 4
  moved = jax.tree.map(lambda a, b: np.any(a != b), current.params, variables["params"])
  assert all(jax.tree.leaves(moved["encoder"]))
  count = config.stages * config.groups
  numbers = [""] if count == 1 else [f"_{i}" for i in range(count)]
  if config.name == "vq":
    assert moved["quantizer"] == {f"codebook{i}": True for i in numbers}
  if config.name == "vq_ema":
    before, after = variables["batch_stats"]["quantizer"], current.batch_stats["quantizer"]
    assert set(after) == {"updates", *(f"state{i}" for i in numbers)}
    assert after["updates"] == 2
    assert all(np.any(after[f"state{i}"].codebook != before[f"state{i}"].codebook) for i in numbers)


def test_a_start_from_data_uses_most_codes(made):
  name, _, variables, _ = made
  if not learns_codes(CONFIGS[name]):
    pytest.skip("a grid has no start")
  latents = jax.random.normal(jax.random.key(2), (8, 2, 8, 4))
  started = jax.jit(lambda v, z, k: start_codebook(CONFIGS[name], v, z, k))(variables, latents, jax.random.key(3))
  tokens = tokens_of(CONFIGS[name], latents, codebook_of(CONFIGS[name], started))
  assert len(np.unique(tokens)) >= 16  # all of them where there are no more
  few = start_codebook(CONFIGS[name], variables, latents[:1, :1, :2], jax.random.key(4))
  np.testing.assert_array_equal(codebook_of(CONFIGS[name], few), codebook_of(CONFIGS[name], variables))


@pytest.mark.parametrize("name", ["vq", "lfq", "vq_ema residual"])
def test_penalties_count_once_in_the_mean_over_windows_and_only_in_training(name):
  config = dataclasses.replace(CONFIGS[name], entropy_weight=0.3, orthogonality_weight=0.2 if name == "vq" else 0.0)
  plain = dataclasses.replace(config, entropy_weight=0.0, orthogonality_weight=0.0)
  z = jax.random.normal(jax.random.key(6), (5, 2, 3, 4))
  modules = [make_quantizer(c).module(None) for c in (config, plain)]
  variables = modules[0].init(jax.random.key(7), z, train=False)
  loss, without = (m.apply(variables, z, train=True, mutable=["batch_stats"])[0].loss for m in modules)
  expected = 0.0
  if name == "lfq":
    expected = 0.3 * lfq.entropy_penalty(z)
  else:
    learned = {collection: {"quantizer": values} for collection, values in variables.items()}
    if name == "vq":
      codebook = codebook_of(config, learned)
      expected = 0.3 * vq.entropy_penalty(z, codebook) + 0.2 * vq.orthogonality_penalty(codebook)
    else:
      first, second = (variables["batch_stats"][f"state_{i}"].codebook for i in range(2))
      left = z - vq.quantize(z, first).codes
      expected = 0.3 * (vq.entropy_penalty(z, first) + vq.entropy_penalty(left, second))
  np.testing.assert_allclose(loss - without, np.full(5, expected), rtol=1e-4, atol=1e-5)
  evaluated = [m.apply(variables, z, train=False).loss for m in modules]
  np.testing.assert_array_equal(*evaluated)
  np.testing.assert_allclose(evaluated[0], without, rtol=1e-6)


def test_later_stages_start_from_what_is_left():
  config = QuantizerConfig(name="vq", num_codes=8, dim=4, stages=2, groups=2)
  latents = jax.random.normal(jax.random.key(8), (8, 2, 8, 4))
  started = start_codebook(config, {"params": {}, "batch_stats": {}}, latents, jax.random.key(9))
  codebooks = started["params"]["quantizer"]
  assert sorted(codebooks) == [f"codebook_{i}" for i in range(4)]
  for group, piece in enumerate(jnp.split(latents, 2, axis=-1)):
    for stage in range(2):
      codebook = codebooks[f"codebook_{2 * group + stage}"]
      indices = vq.codes_to_indices(piece, codebook).ravel()
      means = [np.asarray(piece).reshape(-1, 2)[indices == k].mean(0) for k in range(8)]
      np.testing.assert_allclose(codebook, means, atol=0.1)  # Lloyd's iterations have nearly converged
      piece = piece - vq.quantize(piece, codebook).codes
  codebook = codebook_of(config, started)
  assert jnp.mean(jnp.square(latents - codebook[tokens_of(config, latents, codebook)])) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vq", "vq_ema cosine", "vq_ema residual", "vq composed", "lfq"])
def test_eight_devices_hold_the_codebook_of_one(name):
  batch = windows()
  found = {}
  for kind, axis_name in (("pmap", parallel.AXIS), (None, None)):
    model = model_of(name, axis_name=axis_name)
    optimizer = optax.sgd(0.05)  # Adam would magnify gradients that are rounding
    start = jax.jit(model_of(name).init)(weights_key(), batch.x)
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
  if CONFIGS[name].name == "vq_ema":
    assert one.batch_stats["quantizer"]["updates"] == one.ema["batch_stats"]["quantizer"]["updates"] == 6
    last = "state" if CONFIGS[name].stages == 1 else "state_1"
    assert one.ema["batch_stats"]["quantizer"][last].initialised.dtype == jnp.bool_
