"""One round of learning an HDP-HSMM, by each method, on several lanes and all devices at once."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from behavejax.config import SegmentationConfig
from behavejax.segmentation import gibbs, learning
from behavejax.segmentation.learning import Batch, Learned, Parameters, Segmenter, Statistics
from behavejax.training import parallel
from behavejax.types import Key


class Fits(NamedTuple):
  """What learning carries from round to round; `lane` leads in all but `step`.

  Attributes:
    step: rounds done.
    learned: parameters and weights.
    statistics: that `learned` was made of.
    bound: of the parameters that `statistics` were counted with.
    extra: what the method itself remembers.
  """

  step: jax.Array
  learned: Learned
  statistics: Statistics
  bound: jax.Array
  extra: Any


class Problem(NamedTuple):
  """What is learned, how, and from which sequences; their number is a multiple of the number of devices.

  `batch_size` counts sequences, which are single steps for a mixture and recordings otherwise.
  """

  segmenter: Segmenter
  settings: SegmentationConfig
  batch: Batch
  seed: int
  batch_size: int


class Calls(NamedTuple):
  """Compiled functions.

  Attributes:
    expect: `parameters [lane], batch` -> statistics.
    sample: `(parameters [lane], key), (batch, sequence)` -> statistics of random segmentations.
    gradient: `parameters [lane], batch` -> log likelihood, steps and gradient.
    evidence: `parameters, batch` -> log likelihood and steps.
    maximize: `statistics [lane], weights [lane]` -> learned.
    draw: `statistics [lane], learned [lane], key [lane]` -> learned.
    move: `statistics, weights, into [lane, K]` -> learned after each move.
    estimate: `learned, statistics` -> parameters to go on with: see there.
    constrain: `parameters [lane]` of any values -> valid ones.
    ascend: `(parameters, optimizer state), gradient, steps` -> the former after a step of Adam.
  """

  expect: Callable
  sample: Callable
  gradient: Callable
  evidence: Callable
  maximize: Callable
  draw: Callable
  move: Callable
  estimate: Callable
  constrain: Callable
  ascend: Callable


def compile_calls(segmenter: Segmenter, settings: SegmentationConfig, *, kind: str) -> Calls:
  """The functions for one model; `kind` of parallelism as in `parallel`."""
  method = "map" if settings.method == "map" else "variational"
  optimizer = adam(settings)

  def spread(function: Callable) -> Callable:
    call = parallel.eval_call(function, kind=kind)
    # Two collectives in flight at once can wait for each other on virtual devices of a CPU.
    return lambda *inputs: parallel.everywhere(jax.block_until_ready(call(*inputs)))

  maximize = functools.partial(learning.maximize, segmenter, method=method)

  def sample(inputs: tuple[Parameters, Key], batch: tuple[Batch, jax.Array]) -> Statistics:
    sequences, index = batch
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(inputs[1], index)
    lanes = jnp.arange(inputs[0].log_initial.shape[0])
    per_lane = jax.vmap(jax.vmap(jax.random.fold_in, in_axes=(0, None)), in_axes=(None, 0))(keys, lanes)
    return jax.vmap(lambda p, k: gibbs.sample_statistics(segmenter, p, sequences, k))(inputs[0], per_lane)

  def estimate(learned: Learned, statistics: Statistics) -> Parameters:
    """Expected log probabilities are right inside a bound and say nothing of data that it has not seen.

    Of a code that a state never gave, the logarithm of its expected share is -7 where the expectation of the logarithm
    is -128; one such code would rule the state out for a new animal.
    """
    if settings.method not in ("variational", "stochastic"):
      return learned.parameters
    return learning.maximize(segmenter, statistics, learned.weights, method="map").parameters

  def gradient(parameters: Parameters, batch: Batch) -> tuple:
    def total(parameters: Parameters) -> tuple:
      return learning.evidence(segmenter, learning.constrain(segmenter, parameters), batch)

    (value, steps), slope = jax.vmap(jax.value_and_grad(total, has_aux=True))(parameters)
    return value, steps, slope

  def ascend(held: tuple[Parameters, Any], slope: Parameters, steps: jax.Array) -> tuple[Parameters, Any]:
    mean = jax.tree.map(lambda g: -g / jnp.maximum(steps[0], 1.0), slope)
    updates, state = optimizer.update(mean, held[1], held[0])
    return optax.apply_updates(held[0], updates), state

  return Calls(
    expect=spread(lambda p, batch: jax.vmap(lambda one: learning.expect(segmenter, one, batch))(p)),
    sample=spread(sample),
    gradient=spread(gradient),
    evidence=spread(lambda p, batch: learning.evidence(segmenter, p, batch)),
    maximize=jax.jit(jax.vmap(maximize)),
    draw=jax.jit(jax.vmap(functools.partial(gibbs.draw, segmenter))),
    move=jax.jit(
      jax.vmap(lambda s, w, into: maximize(learning.relabelled(s, into), w), in_axes=(None, None, 0))
    ),
    estimate=jax.jit(estimate),
    constrain=jax.jit(jax.vmap(functools.partial(learning.constrain, segmenter))),
    ascend=jax.jit(ascend),
  )  # fmt: skip


def coordinate_ascent(problem: Problem, calls: Calls, fits: Fits, key: Key) -> Fits:
  """Expected statistics of all sequences, then parameters: MAP-EM or variational Bayes."""
  del key
  statistics = calls.expect(fits.learned.parameters, share(problem.batch))
  learned = calls.maximize(statistics, fits.learned.weights)
  return fits._replace(
    learned=learned, statistics=statistics, bound=statistics.log_likelihood + fits.learned.prior
  )  # fmt: skip


def stochastic(problem: Problem, calls: Calls, fits: Fits, key: Key) -> Fits:
  """A pass of natural-gradient steps over minibatches of sequences; then the bound of all."""
  statistics, learned = fits.statistics, fits.learned
  steps = problem.batch.mask.sum()
  per_pass = -(-len(problem.batch.group) // problem.batch_size)
  for i, part in enumerate(_minibatches(problem, key)):
    rate = (float(fits.step) * per_pass + i + 2.0) ** -0.6
    scale = steps / max(part.mask.sum(), 1)
    seen = calls.expect(learned.parameters, share(part))
    statistics = learning.blend(statistics, seen, rate=np.float32(rate), scale=np.float32(scale))
    learned = calls.maximize(statistics, learned.weights)
  everything = calls.expect(learned.parameters, share(problem.batch))
  return fits._replace(
    learned=learned, statistics=statistics, bound=everything.log_likelihood + learned.prior
  )  # fmt: skip


def blocked_gibbs(problem: Problem, calls: Calls, fits: Fits, key: Key) -> Fits:
  """A sweep: random segmentations, then random parameters. The bound is the evidence of the parameters before."""
  sample_key, draw_key = jax.random.split(key)
  index = np.arange(len(problem.batch.group))
  statistics = calls.sample((fits.learned.parameters, sample_key), share((problem.batch, index)))
  keys = parallel.everywhere(jax.random.split(draw_key, len(fits.bound)))
  learned = calls.draw(statistics, fits.learned, keys)
  return fits._replace(learned=learned, statistics=statistics, bound=statistics.log_likelihood)


def gradient_ascent(problem: Problem, calls: Calls, fits: Fits, key: Key) -> Fits:
  """A pass of Adam steps on the marginal log likelihood of minibatches of sequences."""
  held = fits.extra
  for part in _minibatches(problem, key):
    _, steps, slope = calls.gradient(held[0], share(part))
    held = calls.ascend(held, slope, steps)
  parameters = calls.constrain(held[0])
  statistics = calls.expect(parameters, share(problem.batch))
  learned = Learned(parameters, fits.learned.weights, jnp.zeros_like(fits.bound))
  return fits._replace(
    learned=learned, statistics=statistics, bound=statistics.log_likelihood, extra=held
  )  # fmt: skip


SOLVERS: dict[str, Callable[[Problem, Calls, Fits, Key], Fits]] = {
  "variational": coordinate_ascent,
  "map": coordinate_ascent,
  "stochastic": stochastic,
  "gibbs": blocked_gibbs,
  "gradient": gradient_ascent,
}


def adam(settings: SegmentationConfig) -> optax.GradientTransformation:
  return optax.adam(settings.learning_rate)


def extra_of(settings: SegmentationConfig, learned: Learned) -> Any:
  """What the method remembers at the start."""
  if settings.method != "gradient":
    return ()
  return learned.parameters, adam(settings).init(learned.parameters)


def padded(batch: Batch, *, multiple: int) -> Batch:
  """A batch whose number of sequences is a multiple, by empty ones at its end."""
  missing = -len(batch.group) % multiple
  return jax.tree.map(lambda a: np.concatenate([a, np.zeros((missing, *a.shape[1:]), a.dtype)]), batch)


def rows(batch: Batch, which: np.ndarray) -> Batch:
  """Some of the sequences."""
  return jax.tree.map(lambda a: a[which], batch)


def share(batch: Any) -> Any:
  """This process's part of a batch."""
  processes = jax.process_count()
  return jax.tree.map(lambda a: np.split(a, processes)[jax.process_index()], batch) if processes > 1 else batch


def _minibatches(problem: Problem, key: Key) -> Iterator[Batch]:
  """All sequences in a random order, in batches of one size; the last is filled with empty sequences."""
  size = min(problem.batch_size, len(problem.batch.group))
  order = np.asarray(jax.random.permutation(key, len(problem.batch.group)))
  for start in range(0, len(order), size):
    part = rows(problem.batch, order[start : start + size])
    if part.mask.any():
      yield padded(padded(part, multiple=size), multiple=jax.device_count())
