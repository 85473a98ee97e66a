"""Strict JAX for every test: no silent rank promotion, no reused keys, eight virtual devices.

Compiling takes most of the time of the tests, so it is done without optimizations here: a draw of random numbers
compiles in a seventh of the time, and what is computed is the same but for rounding. What is compiled is kept in
`build/xla` and shared by the workers, the processes that tests start (these have one device), and the next run.
"""

import os
import pathlib

os.environ["XLA_FLAGS"] = " ".join([
  os.environ.get("XLA_FLAGS", ""), "--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"
])  # fmt: skip
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parent.parent / "build" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax
from absl import flags

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
flags.FLAGS.mark_as_parsed()
