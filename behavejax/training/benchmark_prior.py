"""How fast codes are drawn: with a memory of keys and values, and without."""

import functools
import statistics
from collections.abc import Callable, Iterator

import jax
import numpy as np

from behavejax.config import PriorConfig
from behavejax.models.code_prior import keys_of, make_prior
from behavejax.training.benchmark import alternate

_GRID, _CODES = (16, 16), 512
_BATCHES = (1, 4)


def run(*, repeats: int) -> Iterator[str]:
  """Tokens/s of 256 codes by each way of drawing, taken in turns, and whether they are the same codes."""
  model = make_prior(PriorConfig(), grid=_GRID, num_codes=_CODES, classes=10)
  variables = model.init(jax.random.key(0), np.zeros((1, *_GRID), np.int32))
  ways = [jax.jit(way) for way in (model.sample, model.sample_plainly)]
  size = sum(leaf.size for leaf in jax.tree.leaves(variables))
  yield f"{jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}, median of {repeats}"
  yield f"{_GRID[0] * _GRID[1]} tokens of {_CODES} codes, transformer of {size:,} parameters"
  yield ""
  yield f"{'batch':>6}{'memory, tokens/s':>18}{'without, tokens/s':>20}{'times as fast':>15}{'same tokens':>13}"
  for batch in _BATCHES:
    keys, labels = keys_of(0, batch), np.arange(batch, dtype=np.int32) % 10
    calls = [functools.partial(way, variables, keys, labels) for way in ways]
    drawn = [np.asarray(call()) for call in calls]
    steps = [functools.partial(_wait, call) for call in calls]
    seconds = [statistics.median(own) for own in alternate(steps, repeats)]
    quick, plain = (drawn[0].size / own for own in seconds)
    yield f"{batch:>6}{quick:>18.0f}{plain:>20.0f}{quick / plain:>15.1f}{np.mean(drawn[0] == drawn[1]):>12.1%}"


def _wait(call: Callable[[], jax.Array]) -> None:
  jax.block_until_ready(call())
