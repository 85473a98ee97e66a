"""How fast semi-Markov inference is beside a hidden Markov model's, and what learning recovers of simulated data."""

import dataclasses
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sklearn.metrics import adjusted_rand_score

from behavejax.config import Config, DataConfig, FeaturesConfig, SegmentationConfig, SyllablesConfig
from behavejax.data.streams import Streams
from behavejax.evaluation.segments import hungarian_accuracy, mean_durations, runs, states_in_use
from behavejax.evaluation.steps import load_steps
from behavejax.models import syllables
from behavejax.segmentation import decode, messages
from behavejax.segmentation.model import HSMM
from behavejax.training import segmentation
from behavejax.training.benchmark import alternate
from behavejax.workdir import Workdir

SIZES = tuple(product((10, 20, 50), (50, 100, 200), (1000, 10_000), (1, 16)))
_KERNELS = ("evidence", "smoothing", "gradient", "Viterbi")
_PEERS = ("pyhsmm", "ssm", "hsmmlearn")


def run(*, repeats: int, only: str | None = None) -> Iterator[str]:
  """Milliseconds of each kernel at each size, then what five seeds find in simulated recordings of six states.

  Args:
    repeats: timed repetitions of which the median is shown.
    only: "speed" or "recovery"; None for both.
  """
  if only in (None, "speed"):
    yield from speed(SIZES, repeats=repeats)
  if only in (None, "recovery"):
    settings = SegmentationConfig(states=20, max_duration_s=15.0, mean_duration_s=3.0)
    yield from recovery(Config().data.syllables, settings)


def speed(sizes: tuple[tuple[int, int, int, int], ...], *, repeats: int) -> Iterator[str]:
  peer = _dynamax_inference()
  yield f"{jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}, median of {repeats}, ms"
  yield "hidden semi-Markov packages: " + ", ".join(
    f"{name} {'is installed' if importlib.util.find_spec(name) else 'is not installed, left out'}" for name in _PEERS
  )
  yield "dynamax: a hidden Markov model of K states, no durations" + ("" if peer else "; not there, left out")
  peers = ("HMM filter", "HMM smoother") if peer else ()
  yield "plain scan: the evidence by the textbook recursion, K by D numbers moved and scaled at each step"
  heads = (*_KERNELS, "smoothing/evidence", "plain scan", *peers)
  yield f"{'K':>4}{'D':>5}{'T':>7}{'batch':>6}" + "".join(f"{head:>{max(len(head), 9) + 2}}" for head in heads)
  for states, longest, steps, batch in sizes:
    times = [statistics.median(own) for own in alternate(_kernels(states, longest, steps, batch, peer), repeats)]
    cells = [f"{1e3 * t:.1f}" for t in times]
    cells.insert(len(_KERNELS), f"{times[1] / times[0]:.2f}")
    shown = "".join(f"{cell:>{max(len(head), 9) + 2}}" for cell, head in zip(cells, heads, strict=True))
    yield f"{states:>4}{longest:>5}{steps:>7}{batch:>6}{shown}"


def _kernels(states: int, longest: int, steps: int, batch: int, peer: ModuleType | None) -> list[Callable[[], None]]:
  model, values = random_problem(states, longest, steps, batch)
  functions = [
    lambda v: messages.log_likelihood(model, v),
    lambda v: messages.smooth(model, v),
    jax.grad(lambda v: messages.log_likelihood(model, v)),
    lambda v: decode.viterbi(model, v),
    lambda v: plain_evidence(model, v),
  ]
  if peer:
    functions += _dynamax(model, peer)
  return [_runner(jax.jit(jax.vmap(function)), values) for function in functions]


def _runner(function: Callable, values: Array) -> Callable[[], None]:
  return lambda: jax.block_until_ready(function(values))


def random_problem(states: int, longest: int, steps: int, batch: int) -> tuple[HSMM, Float[Array, "batch time state"]]:
  """A model without structure, and log likelihoods as standard normal numbers."""
  rng = np.random.default_rng(0)
  chain = rng.dirichlet(np.ones(states), states) * (1 - np.eye(states))
  with np.errstate(divide="ignore"):
    parts = (
      np.log(rng.dirichlet(np.ones(states))),
      np.log(chain / chain.sum(axis=1, keepdims=True)),
      np.log(rng.dirichlet(np.ones(longest), states)),
    )
  model = HSMM(*(jnp.asarray(part, jnp.float32) for part in parts))
  return model, jnp.asarray(rng.normal(size=(batch, steps, states)), jnp.float32)


def plain_evidence(model: HSMM, log_likelihoods: Float[Array, "time state"]) -> Float[Array, ""]:
  """`log p(x)` by remaining durations, `a_{t+1}[j,r] = b_j (a_t[j,r+1] + p_j(r) sum_i a_t[i,1] A_ij)`, scaled."""
  transitions, durations = jnp.exp(model.log_transitions), jnp.exp(model.log_durations)

  def scaled(forward: Array, values: Array) -> tuple[Array, Array]:
    top = jnp.max(values)
    forward = forward * jnp.exp(values - top)[:, None]
    total = jnp.sum(forward)
    return forward / total, jnp.log(total) + top

  def step(forward: Array, values: Array) -> tuple[Array, Array]:
    begun = (forward[:, 0] @ transitions)[:, None] * durations
    return scaled(jnp.pad(forward[:, 1:], ((0, 0), (0, 1))) + begun, values)

  first, total = scaled(jnp.exp(model.log_initial)[:, None] * durations, log_likelihoods[0])
  return total + jnp.sum(jax.lax.scan(step, first, log_likelihoods[1:])[1])


def _dynamax_inference() -> ModuleType | None:
  try:
    from dynamax.hidden_markov_model import inference
  except ImportError:  # its TensorFlow Probability asks for more where TensorFlow is loaded already
    return None
  return inference


def _dynamax(model: HSMM, inference: ModuleType) -> list[Callable]:
  initial = jnp.exp(model.log_initial)
  stays = 1 / jnp.exp(model.log_durations) @ jnp.ones(model.log_durations.shape[1])
  stays = jnp.clip(1 - 1 / stays, 0.5, 0.99)
  chain = jnp.diag(stays) + (1 - stays)[:, None] * jnp.exp(model.log_transitions)
  return [
    lambda v: inference.hmm_filter(initial, chain, v).marginal_loglik,
    lambda v: inference.hmm_smoother(initial, chain, v).smoothed_probs,
  ]


def recovery(simulated: SyllablesConfig, settings: SegmentationConfig, *, seeds: int = 5) -> Iterator[str]:
  """What every seed of learning finds, for one animal and for three that differ, and how the seeds agree."""
  features = FeaturesConfig(statistics="none", step_s=0.1, components=0.0)
  settings = dataclasses.replace(settings, features=features)
  yield f"{simulated.recordings} recordings of {simulated.steps} steps, {simulated.states} states"
  yield "states found, Hungarian accuracy, adjusted Rand index, largest errors of mean duration (relative) and usage"
  three = dataclasses.replace(simulated, subjects=3, recordings=simulated.recordings + -simulated.recordings % 3)
  for name, data, groups in (("one animal", simulated, False), ("three animals", three, True)):
    found = []
    for seed in range(seeds):
      config = Config(
        data=DataConfig(name="syllables", syllables=data),
        segmentation=dataclasses.replace(settings, groups=groups),
      )
      start = time.perf_counter()
      streams, states, weights = _fit(config, seed)
      seconds = time.perf_counter() - start
      found.append(np.concatenate(states))
      own = f"  weights and bouts r = {weights_agreement(streams, states, weights):.3f}" if groups else ""
      yield f"  {name}, seed {seed}: {describe(streams, states)}{own}  {seconds:.0f} s"
    pairs = [adjusted_rand_score(a, b) for i, a in enumerate(found) for b in found[:i]]
    yield f"  {name}: adjusted Rand index between seeds {min(pairs):.3f} to {max(pairs):.3f}"


def _fit(config: Config, seed: int) -> tuple[Streams, list[np.ndarray], Float[np.ndarray, "group state"]]:
  """Learns from data that are the same for every seed."""
  with tempfile.TemporaryDirectory() as folder:
    streams, steps = load_steps(Workdir(folder), config)
    stage, metrics = Path(folder) / "stage", Path(folder) / "metrics.jsonl"
    config = dataclasses.replace(config, seed=seed)
    learned = segmentation.fit(config, config.segmentation, steps, stage, metrics, stage="hsmm")
  segmenter = syllables.make_segmenter(config.segmentation, steps)
  decoded = syllables.decode_all(segmenter, learned.parameters, syllables.make_batch(segmenter, steps))
  return streams, [d.states for d in decoded], np.asarray(learned.weights.groups)


def describe(streams: Streams, states: list[np.ndarray]) -> str:
  """States in use, agreement with the labels, and the largest errors of durations (relative) and usage (absolute)."""
  labels = [recording.labels for recording in streams.recordings]
  truth, found = np.concatenate(labels), np.concatenate(states)
  size = int(max(truth.max(), found.max())) + 1
  match = np.array([np.bincount(found[truth == k], minlength=size).argmax() for k in range(truth.max() + 1)])
  wanted = mean_durations(labels, num_states=size, rate_hz=1.0)[: len(match)]
  durations = mean_durations(states, num_states=size, rate_hz=1.0)[match]
  usage = 0.0
  for own in _by_subject(streams):
    parts = [np.concatenate([sequences[i] for i in own]) for sequences in (labels, states)]
    shares = [np.bincount(part, minlength=size) / len(part) for part in parts]
    usage = max(usage, np.abs(shares[0][: len(match)] - shares[1][match]).max())
  return (
    f"{len(states_in_use(states))}  {hungarian_accuracy(truth, found):.3f}  {adjusted_rand_score(truth, found):.3f}  "
    f"{np.abs(durations / wanted - 1).max():.3f}  {usage:.3f}"
  )


def weights_agreement(
  streams: Streams, states: list[np.ndarray], weights: Float[np.ndarray, "group state"]
) -> float:  # fmt: skip
  """Correlation of each animal's learned weights with its true share of bouts, both relative to the other animals'."""
  labels = [recording.labels for recording in streams.recordings]
  truth, found = np.concatenate(labels), np.concatenate(states)
  match = [np.bincount(found[truth == k]).argmax() for k in range(truth.max() + 1)]
  bouts = []
  for own in _by_subject(streams):
    counts = sum(np.bincount(labels[i][runs(labels[i])[0]], minlength=len(match)) for i in own)
    bouts.append(counts / counts.sum())
  both = [np.log(np.maximum(a, 1e-3)) for a in (np.array(bouts), weights[:, match])]
  centred = [(a - a.mean(axis=0)).ravel() for a in both]
  return float(np.corrcoef(*centred)[0, 1])


def _by_subject(streams: Streams) -> list[list[int]]:
  subjects = [recording.subject for recording in streams.recordings]
  return [[i for i, name in enumerate(subjects) if name == subject] for subject in dict.fromkeys(subjects)]
