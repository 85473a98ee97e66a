"""Takes 20 training steps on fixed data with the devices it is given, and saves the parameters.

Run as a program by `test_parallel.py`, once per number of devices and processes.
"""

import argparse

import jax
import numpy as np


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--kind", required=True)
  parser.add_argument("--out", required=True)
  parser.add_argument("--coordinator", default="")
  parser.add_argument("--process", type=int, default=0)
  args = parser.parse_args()
  if args.coordinator:
    jax.distributed.initialize(args.coordinator, num_processes=2, process_id=args.process)
  params, replicas_agree = take_steps(args.kind)
  if args.process == 0:
    np.savez(args.out, replicas_agree=replicas_agree, **params)


def take_steps(kind: str) -> tuple[dict[str, np.ndarray], bool]:
  """Parameters after 20 steps of two per call, and whether every device holds the same ones."""
  import functools

  from behavejax.config import AugmentConfig, Config, ModelConfig, QuantizerConfig, TrainConfig
  from behavejax.data.batches import Batch
  from behavejax.models.autoencoder import make_model
  from behavejax.training import parallel
  from behavejax.training.augment import augment
  from behavejax.training.state import init_state, make_optimizer
  from behavejax.training.step import train_step

  config = Config(
    model=ModelConfig(
      widths=(8, 8), dilations=(1,), decoder_widths=(8,), classifier_hidden=8, classifier_dilations=(), dropout=0.3
    ),
    quantizer=QuantizerConfig(levels=(5, 5)),
    augment=AugmentConfig(rotation_deg=20.0, jitter=0.1, scale=0.1, time_warp=0.1, channel_dropout=0.1),
    train=TrainConfig(learning_rate=1e-3, parallel=kind),
  )
  shape, classes, size = (2, 20, 6), 4, 16
  axis_name = parallel.axis_name(kind)
  model = make_model(config, shape=shape, classes=classes, axis_name=axis_name)
  optimizer = make_optimizer(config.train, steps=20)
  init_key, key = jax.random.split(jax.random.key(0))
  state = init_state(jax.jit(model.init)(init_key, np.zeros((1, *shape), np.float32)), optimizer=optimizer, key=key)
  distort = functools.partial(augment, config=config.augment, mean=np.zeros(6), std=np.ones(6))
  step = functools.partial(
    train_step, loss=model.loss, optimizer=optimizer, augment=distort, ema_decay=0.9, axis_name=axis_name
  )
  call = parallel.train_call(step, kind=kind)
  rng = np.random.default_rng(0)
  part = slice(
    jax.process_index() * size // jax.process_count(), (jax.process_index() + 1) * size // jax.process_count()
  )
  for _ in range(10):
    y = rng.integers(0, classes, (2, size)).astype(np.int32)
    x = (rng.normal(size=(2, size, *shape)) + y[..., None, None, None]).astype(np.float32)
    state, _ = jax.block_until_ready(call(state, Batch(x[:, part], y[:, part], np.ones((2, size), bool)[:, part])))
  leaves = jax.tree_util.tree_flatten_with_path((state.params, state.ema))[0]
  agree = all(
    np.array_equal(leaf.addressable_shards[0].data, shard.data)
    for _, leaf in leaves
    for shard in leaf.addressable_shards
  )
  return {jax.tree_util.keystr(path): np.asarray(leaf.addressable_shards[0].data) for path, leaf in leaves}, agree


if __name__ == "__main__":
  main()
