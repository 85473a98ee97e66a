"""Strict JAX for every test: no silent rank promotion, no reused keys, eight virtual devices.

What is compiled is kept in `build/xla` and shared by the workers, the processes that tests start, and the next run.
"""

import os
import pathlib

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parent.parent / "build" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax
from absl import flags

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
flags.FLAGS.mark_as_parsed()
