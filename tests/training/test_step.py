"""The step: what it traces, what it averages, what it says of NaN."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from behavejax.config import Config, ModelConfig, QuantizerConfig, TrainConfig
from behavejax.config_vqvae import VqvaeConfig
from behavejax.data.batches import Batch
from behavejax.models.autoencoder import make_model
from behavejax.training.state import init_state, make_optimizer, schedule
from behavejax.training.step import describe_nonfinite, merge, tensor_names, train_step

SHAPE = (2, 12, 3)


@pytest.fixture(scope="module")
def setup():
  config = Config(
    model=ModelConfig(
      widths=(4,), dilations=(), token_stride=2, decoder_widths=(4,), classifier_hidden=4, classifier_dilations=()
    ),
    quantizer=QuantizerConfig(levels=(4, 4)),
  )
  model = make_model(config, shape=SHAPE, classes=2)
  optimizer = make_optimizer(config.train, steps=10)
  step = functools.partial(train_step, loss=model.loss, optimizer=optimizer, augment=None, ema_decay=0.5)
  rng = np.random.default_rng(0)
  batch = Batch(rng.normal(size=(4, *SHAPE)).astype(np.float32), np.array([0, 1, 0, 1], np.int32), np.ones(4, bool))
  variables = model.init(jax.random.key(0), batch.x)
  return step, init_state(variables, optimizer=optimizer, key=jax.random.key(1)), batch


def test_one_trace_and_a_falling_loss(setup):
  step, state, batch = setup
  chex.clear_trace_counter()
  jitted = jax.jit(chex.assert_max_traces(lambda state, batch: step(state, batch), n=1))
  losses = []
  for _ in range(20):
    state, metrics = jitted(state, batch)
    losses.append(float(metrics["loss"]))
  assert losses[-1] < losses[0]
  assert int(state.step) == 20
  assert int(metrics["nonfinite"]) == 0


def test_norms_of_modules_are_parts_of_the_whole(setup):
  step, state, batch = setup
  _, metrics = jax.jit(step)(state, batch)
  parts = {name.split("/")[1]: float(value) for name, value in metrics.items() if name.startswith("gradient_norm/")}
  assert parts.keys() == state.params.keys()
  assert min(parts.values()) > 0
  assert sum(value**2 for value in parts.values()) ** 0.5 == pytest.approx(float(metrics["gradient_norm"]), rel=1e-5)


def test_scan_equals_single_steps(setup):
  step, state, batch = setup
  twice = jax.tree.map(lambda a: jnp.stack([a, a]), batch)
  scanned, metrics = jax.jit(lambda s, b: jax.lax.scan(step, s, b))(state, twice)
  single = state
  for i in range(2):
    single, one = jax.jit(step)(single, batch)
    np.testing.assert_allclose(metrics["loss"][i], one["loss"], rtol=1e-5)
  chex.assert_trees_all_close(scanned.params, single.params, atol=1e-6)


def test_average_follows_its_recursion(setup):
  step, state, batch = setup
  after, _ = jax.jit(step)(state, batch)
  decay = min(0.5, 1 / 10)
  expected = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.ema["params"], after.params)
  chex.assert_trees_all_close(after.ema["params"], expected, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_input_is_named(setup, value):
  step, state, batch = setup
  x = batch.x.copy()
  x[1, 0, 3, 2] = value
  _, metrics = jax.jit(step)(state, batch._replace(x=x))
  line = describe_nonfinite(int(metrics["nonfinite"]), step=7, params=state.params, config=Config())
  assert line.startswith("step 7: the input windows is NaN or Inf")
  assert "config.data.nan_strategy" in line


def test_diverged_parameter_is_named(setup):
  step, state, batch = setup
  kernel = state.params["decoder"]["signal"]["kernel"]
  params = {
    **state.params,
    "decoder": {**state.params["decoder"], "signal": {"kernel": kernel * np.nan, "bias": jnp.zeros(3)}},
  }
  _, metrics = jax.jit(step)(state.replace(params=params), batch)
  config = Config(train=TrainConfig(learning_rate=0.5), vqvae=VqvaeConfig(dtype="bfloat16"))
  line = describe_nonfinite(int(metrics["nonfinite"]), step=3, params=state.params, config=config)
  assert "the loss is NaN" in line
  assert "learning_rate (now 0.5)" in line
  assert "config.vqvae.dtype=float32" in line
  assert "config.model.dtype" not in line  # which is float32 already
  assert len(tensor_names(params)) == 2 + len(jax.tree.leaves(params))


def test_merge_adds_up():
  total = None
  for value in (1.0, 2.0, 4.5):
    total = merge(total, {"loss": jnp.asarray(value), "codes": jnp.arange(3)})
  assert total["loss"] == 7.5
  np.testing.assert_array_equal(total["codes"], [0, 3, 6])


def test_schedules():
  cosine = schedule(TrainConfig(learning_rate=1.0, warmup_fraction=0.1), steps=100)
  assert [float(cosine(i)) for i in (0, 10, 100)] == pytest.approx([0, 1, 0], abs=1e-6)
  plateau = schedule(TrainConfig(learning_rate=1.0, warmup_fraction=0.1, schedule="plateau"), steps=100)
  assert [float(plateau(i)) for i in (0, 10, 100)] == pytest.approx([0, 1, 1])
  halved = schedule(TrainConfig(learning_rate=1.0, warmup_fraction=0.0, accumulate=2), steps=100)
  assert float(halved(50)) == pytest.approx(0, abs=1e-6)


def test_accumulation_equals_one_large_update():
  gradients = [{"w": jnp.array([[1.0, 3.0]])}, {"w": jnp.array([[3.0, 5.0]])}]
  params = {"w": jnp.ones((1, 2))}
  several = make_optimizer(TrainConfig(accumulate=2, warmup_fraction=0.0), steps=10)
  state = several.init(params)
  found = params
  for gradient in gradients:
    updates, state = several.update(gradient, state, found)
    found = optax.apply_updates(found, updates)
  single = make_optimizer(TrainConfig(warmup_fraction=0.0), steps=5)
  updates, _ = single.update({"w": jnp.array([[2.0, 4.0]])}, single.init(params), params)
  chex.assert_trees_all_close(found, optax.apply_updates(params, updates), atol=1e-7)
