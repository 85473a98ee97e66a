"""The loop around learning an HDP-HSMM: starts, moves to fewer states, checkpoints, and a trace of the bound.

Several starts run side by side, as lanes of one `vmap`, until each has converged; the best of them fills all lanes.
From then on every round tries one move per lane, to do with fewer states, beside the present best in lane 0, all
with the same number of further iterations. What makes the bound larger stays; when no move does, learning ends.
"""

import functools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from behavejax.config import Config, SegmentationConfig
from behavejax.errors import InputError
from behavejax.evaluation import findings
from behavejax.models import syllables
from behavejax.models.syllables import Span, Steps
from behavejax.segmentation import hdp, learning, starts
from behavejax.segmentation.learning import Batch, Learned
from behavejax.training import parallel
from behavejax.training.checkpoint import Checkpoints
from behavejax.training.dynamics import dynamics, state_numbers
from behavejax.training.log import MetricWriter, SilentWriter
from behavejax.training.loop import Sigterm, Stopped
from behavejax.training.moves import propose, stay
from behavejax.training.solvers import (
  SOLVERS,
  Calls,
  Fits,
  Problem,
  compile_calls,
  coordinate_ascent,
  extra_of,
  padded,
  share,
)  # fmt: skip

_TRIAL_ITERATIONS = 3
_START_POINTS = 20_000
_IN_USE = 0.01
_SAVE_EVERY = 5  # rounds


class Record(NamedTuple):
  """Where learning stands, saved as JSON.

  Attributes:
    phase: "starts", "moves" or "done".
    rounds: done in this phase.
    refused: moves that did not help the present best.
  """

  phase: str = "starts"
  rounds: int = 0
  refused: tuple[str, ...] = ()


def fit(
  config: Config, settings: SegmentationConfig, steps: Steps, folder: pathlib.Path, metrics_file: pathlib.Path, *,
  stage: str, mixture: bool = False, clusters: Sequence[np.ndarray] | None = None,
) -> Learned:  # fmt: skip
  """Learns a segmentation from the last checkpoint in `folder`, or from the start.

  Args:
    config: of the run.
    settings: `config.segmentation`, or a variant of it.
    steps: sequences; where they are split, those of "train" are learned from and those of "val" held out.
    folder: of the stage.
    metrics_file: of the run.
    stage: its name.
    mixture: of single steps without order: the HDP mixture.
    clusters: of every step of every sequence, from which one of the starts begins.

  Raises:
    Stopped: SIGTERM arrived; the state is saved and repeating the call continues from it.
    InputError: the bound is not a number, or there are fewer steps than states.
  """
  problem, held_out, features, given = _make_problem(config, settings, steps, clusters, mixture=mixture)
  calls = compile_calls(problem.segmenter, settings, kind=config.train.parallel)
  fits, record = _start(problem, calls, features, given), Record()
  checkpoints = Checkpoints(folder / "checkpoints", keep_best=0)
  saved = checkpoints.restore_last(fits)
  if saved is not None:
    fits, record = saved[0], Record(saved[1]["phase"], saved[1]["rounds"], tuple(saved[1]["refused"]))
  first, key = int(fits.step), jax.random.key(config.seed + 1)
  checks = findings.state_checks(config, mixture=mixture)
  speaks = jax.process_index() == 0
  log = MetricWriter(metrics_file, stage=stage, first_step=first, steps=None) if speaks else SilentWriter()
  with log as writer, Sigterm() as sigterm:
    if first:
      writer.say(f"{stage}: resumed after round {first}")
    while record.phase != "done":
      number = int(fits.step) + 1
      if record.phase == "starts":
        fits, record = _advance_starts(problem, calls, fits, record, jax.random.fold_in(key, number))
      else:
        fits, record = _try_moves(problem, calls, fits, record)
      fits = fits._replace(step=jnp.asarray(number, jnp.int32))
      values, numbers = _measure(problem, calls, fits, held_out, stage, number, steps.rate_hz)
      writer.write(number, {f"{stage}/{name}": value for name, value in values.items()})
      writer.progress(number, f"{record.phase}: bound {values['bound']:.1f}, {values['states']:.0f} states")
      for finding in findings.judge(checks, numbers, done=0.5) if record.phase == "moves" else ():
        writer.say_once(f"{finding.name} {finding.healthy}", f"{stage}: round {number}  {finding.line}")
      stopping = sigterm.arrived() and record.phase != "done"
      if stopping or number % _SAVE_EVERY == 0:
        checkpoints.save(parallel.everywhere(fits), record._asdict())
      if stopping:
        checkpoints.wait()
        raise Stopped(f"{stage}: stopped after round {number}; repeat the command to resume")
    checkpoints.wait()
    values, numbers = _measure(problem, calls, fits, held_out, stage, int(fits.step), steps.rate_hz)
    writer.say(
      f"{stage}: {values['states']:.0f} states after {int(fits.step)} rounds, "
      f"log likelihood {values['log_likelihood_per_step']:.3f} per step"
    )
    for line in findings.lines(findings.judge(checks, numbers)):
      writer.say(f"{stage}: {line}")
  checkpoints.close()
  learned, statistics = jax.tree.map(lambda a: a[0], (fits.learned, fits.statistics))
  return learned._replace(parameters=calls.estimate(learned, statistics))


def _make_problem(
  config: Config, settings: SegmentationConfig, steps: Steps, clusters: Sequence[np.ndarray] | None, *, mixture: bool
) -> tuple[Problem, Batch | None, np.ndarray, np.ndarray | None]:
  """What to learn from, what is held out, and features `[N, T, F]` and clusters `[N, T]` to start from."""
  segmenter = syllables.make_segmenter(settings, steps)
  seen, out = _parts(config, settings, steps)
  learned = syllables.select(steps, seen)
  batch = syllables.make_batch(segmenter, learned)
  held_out = syllables.make_batch(segmenter, syllables.select(steps, out)) if out else None
  features = syllables.stacked(syllables.start_features(learned))
  given = None
  if clusters is not None:
    given = syllables.stacked([clusters[span.recording][span.start : span.stop] for span in seen])
  batch_size = settings.batch_size
  if mixture:
    batch_size *= batch.mask.shape[1]
    segmenter, batch = syllables.as_mixture(segmenter), syllables.single_steps(batch)
    held_out = None if held_out is None else syllables.single_steps(held_out)
    features = features.reshape(-1, 1, features.shape[-1])
  devices = jax.device_count()
  batch = padded(batch, multiple=devices)
  features, given = (_with_rows(a, len(batch.group)) for a in (features, given))
  problem = Problem(segmenter, settings, batch, config.seed, batch_size)
  return problem, None if held_out is None else padded(held_out, multiple=devices), features, given


def _parts(config: Config, settings: SegmentationConfig, steps: Steps) -> tuple[list[Span], list[Span]]:
  """What is learned from and what is held out: as the data are split, else some whole recordings."""
  if steps.spans is not None:
    return [s for s in steps.spans["train"] if s.stop > s.start], [s for s in steps.spans["val"] if s.stop > s.start]
  whole = [Span(i, 0, len(values)) for i, values in enumerate(steps.values)]
  order = np.random.default_rng(config.seed).permutation(len(whole))
  if settings.holdout > 0 and len(order) < 2:
    raise InputError("config.segmentation.holdout needs two recordings or more, got one")
  out = 0 if settings.holdout == 0 else min(max(round(settings.holdout * len(order)), 1), len(order) - 1)
  return [whole[i] for i in np.sort(order[out:])], [whole[i] for i in np.sort(order[:out])]


def _with_rows(array: np.ndarray | None, count: int) -> np.ndarray | None:
  """The same with rows of zeros behind it."""
  if array is None:
    return None
  return np.concatenate([array, np.zeros((count - len(array), *array.shape[1:]), array.dtype)])


def _start(problem: Problem, calls: Calls, features: np.ndarray, given: np.ndarray | None) -> Fits:
  """Every lane from its own k-means clusters; the first from the given ones, where there are some."""
  segmenter, lanes = problem.segmenter, problem.settings.restarts
  points = features[problem.batch.mask]
  if len(points) < segmenter.states:
    raise InputError(f"{len(points)} steps are too few to tell config.segmentation.states={segmenter.states} apart")
  points = jnp.asarray(points[:: -(-len(points) // _START_POINTS)])
  keys = jax.random.split(jax.random.key(problem.seed), lanes)

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(None, None, 0))
  def statistics(batch: Batch, features: jax.Array, key: jax.Array) -> learning.Statistics:
    centres = starts.kmeans(points, key, clusters=segmenter.states)
    clusters = jax.vmap(lambda x: jax.nn.one_hot(starts.nearest(x, centres), segmenter.states))(features)
    return learning.from_assignments(segmenter, batch, clusters)

  uniform = hdp.uniform(segmenter.groups, segmenter.states)
  weights = jax.tree.map(lambda a: jnp.stack([a] * lanes), uniform)
  first = statistics(problem.batch, features, keys)
  if given is not None:
    own = learning.from_assignments(segmenter, problem.batch, jax.nn.one_hot(given, segmenter.states))
    first = jax.tree.map(lambda a, b: a.at[0].set(b), first, own)
  first, weights = parallel.everywhere((first, weights))
  learned = calls.maximize(first, weights)
  extra = extra_of(problem.settings, learned)
  return parallel.everywhere(Fits(jnp.zeros((), jnp.int32), learned, first, jnp.full(lanes, -jnp.inf), extra))


def _advance_starts(problem: Problem, calls: Calls, fits: Fits, record: Record, key: jax.Array) -> tuple[Fits, Record]:
  """A round of the method on every lane; at the end of the phase the best lane fills all."""
  settings, before = problem.settings, np.asarray(fits.bound)
  fits = SOLVERS[settings.method](problem, calls, fits, key)
  rounds, after = record.rounds + 1, np.asarray(fits.bound)
  small = settings.tolerance * np.abs(after)
  converged = settings.method in ("variational", "map") and bool(np.all(after - before < small))
  if rounds < settings.iterations and not converged:
    return fits, Record("starts", rounds)
  fits = _fill(fits, int(np.argmax(after)))
  if settings.moves:
    return fits, Record("moves")
  if settings.method == "gibbs":  # a posterior mean is shown rather than a draw
    fits = fits._replace(learned=calls.maximize(fits.statistics, fits.learned.weights))
  return fits, Record("done")


def _try_moves(problem: Problem, calls: Calls, fits: Fits, record: Record) -> tuple[Fits, Record]:
  """A round of moves beside the present best."""
  best = jax.tree.map(lambda a: np.asarray(a)[0], (fits.statistics, fits.learned.weights))
  lanes, states = len(fits.bound), problem.segmenter.states
  moves = propose(best[0].likeness, best[0].time, record.refused, count=lanes - 1)
  tried = [stay(states), *moves, *[stay(states)] * (lanes - 1 - len(moves))]
  before = float(fits.bound[0])
  moved = calls.move(*best, np.stack([move.into for move in tried]))
  trial = fits._replace(learned=parallel.everywhere(moved))
  for _ in range(_TRIAL_ITERATIONS):
    trial = coordinate_ascent(problem, calls, trial, None)
  bound = np.asarray(trial.bound)
  winner = int(np.argmax(bound))
  enough, late = problem.settings.tolerance * abs(bound[0]), record.rounds >= 10 * states
  if bound[winner] - bound[0] > enough and not late:
    return _fill(trial, winner), Record("moves", record.rounds + 1)
  last = late or (not moves and bound[0] - before < enough)
  refused = (*record.refused, *(move.name for move in moves))
  return _fill(trial, 0), Record("done" if last else "moves", record.rounds + 1, refused)


def _fill(fits: Fits, lane: int) -> Fits:
  """The fits of one lane, in all; what the method remembers is left alone."""
  own = (fits.learned, fits.statistics, fits.bound)
  learned, statistics, bound = jax.tree.map(lambda a: jnp.stack([a[lane]] * len(fits.bound)), own)
  return parallel.everywhere(fits._replace(learned=learned, statistics=statistics, bound=bound))


def _measure(
  problem: Problem, calls: Calls, fits: Fits, held_out: Batch | None, stage: str, number: int, rate_hz: float
) -> tuple[dict[str, float], dict[str, float]]:
  """The trace of a round: of the best lane, and of the sequences held out; and the numbers that findings look at.

  Raises:
    InputError: the bound is not a number.
  """
  bound = np.asarray(fits.bound)
  if not np.isfinite(bound).all():
    raise InputError(
      f"{stage}: the bound of start {int(np.argmin(np.isfinite(bound)))} is {bound[~np.isfinite(bound)][0]} in round "
      f"{number}; the likely cause is a feature that is nearly constant within a state: raise "
      "config.segmentation.noise or emission_strength, or keep fewer config.segmentation.features.components"
    )
  lane = int(np.argmax(bound))
  learned, statistics = jax.tree.map(lambda a: a[lane], (fits.learned, fits.statistics))
  spent = np.asarray(statistics.time)
  total = max(float(problem.batch.mask.sum()), 1.0)
  values = {
    "bound": float(bound[lane]),
    "log_likelihood_per_step": float(statistics.log_likelihood) / total,
    "states": float(np.sum(spent > _IN_USE * spent.sum())),
    **dynamics(statistics, rate_hz=rate_hz),
  }
  if held_out is not None:
    evidence, count = calls.evidence(calls.estimate(learned, statistics), share(held_out))
    values["held_out_log_likelihood_per_step"] = float(evidence) / max(float(count), 1.0)
  return values, state_numbers(statistics, rate_hz=rate_hz, in_use=_IN_USE)
