"""Syllables: a hidden semi-Markov model over the steps of recordings, put together from a config."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import ndimage

from behavejax.config import SegmentationConfig
from behavejax.errors import InputError
from behavejax.segmentation import decode, durations, emissions, hdp, learning, messages


class Span(NamedTuple):
  """Steps `start:stop` of recording `recording`."""

  recording: int
  start: int
  stop: int


class Steps(NamedTuple):
  """Sequences of one kind, ready to be segmented.

  Attributes:
    values: per recording, features `[step, feature]`, or counts of codes `[step, digit, level]`.
    groups: per recording, which subject it is of.
    levels: number of values of each digit; empty for features.
    rate_hz: steps per second.
    overlap: how many neighbouring steps, or codes of a step, say the same.
    spans: of the split's parts by name, in steps; None where nothing is split.
  """

  values: Sequence[np.ndarray]
  groups: Int[np.ndarray, " recording"]
  levels: tuple[int, ...]
  rate_hz: float
  overlap: float
  spans: Mapping[str, Sequence[Span]] | None = None


class Decoded(NamedTuple):
  """Best segmentation of one recording, and the posterior probability of its state at each step.

  `entropy` is that of the posterior over all states at each step, in nats.
  """

  states: Int[np.ndarray, " step"]
  probabilities: Float[np.ndarray, " step"]
  entropy: Float[np.ndarray, " step"] | None = None


def make_segmenter(config: SegmentationConfig, steps: Steps) -> learning.Segmenter:
  """The model of a config for sequences like these; no duration is longer than the longest of them.

  Raises:
    InputError: durations shorter than a step, or none between the shortest and the longest.
  """
  longest = round(min(config.max_duration_s * steps.rate_hz, max(map(len, steps.values))))
  if longest < 1:
    raise InputError(
      f"config.segmentation.max_duration_s={config.max_duration_s:g} is shorter than a step of {1 / steps.rate_hz:g} s"
    )
  shortest = max(round(config.min_duration_s * steps.rate_hz), 1)
  if shortest > longest:
    raise InputError(
      f"config.segmentation.min_duration_s={config.min_duration_s:g} is longer than the longest segment there can be, "
      f"{longest / steps.rate_hz:g} s"
    )
  d = np.arange(1, longest + 1)
  expected = np.exp(-d / max(config.mean_duration_s * steps.rate_hz, 0.5)) * (d >= shortest)
  prior = config.duration_strength * expected / expected.sum()
  groups = int(steps.groups.max()) + 1 if config.groups else 1
  return learning.Segmenter(
    emission=make_emission(config, steps),
    states=config.states,
    groups=groups,
    family=config.durations,
    duration_prior=jnp.asarray(np.maximum(prior, 1e-6), jnp.float32),
    shortest=shortest,
    alpha=config.alpha,
    kappa=config.kappa,
    gamma=config.gamma,
    right_censored=config.right_censored,
    stationary=config.start == "stationary",
    temperature=config.temperature or steps.overlap,
  )


def make_emission(config: SegmentationConfig, steps: Steps) -> emissions.Emission:
  if steps.levels:
    return emissions.bags(steps.levels, strength=config.emission_strength)
  lags = config.lags if config.emission == "autoregressive" else 0
  longest = max(map(len, steps.values))
  if lags >= longest:
    raise InputError(f"config.segmentation.lags={lags} leaves nothing to predict in recordings of {longest} steps")
  return emissions.gaussian(
    steps.values[0].shape[1],
    covariance="diagonal" if config.emission == "diagonal" else "full",
    lags=lags,
    strength=config.emission_strength,
    noise=config.noise,
  )


def make_batch(segmenter: learning.Segmenter, steps: Steps) -> learning.Batch:
  """All sequences in one batch of NumPy arrays, padded at the end and masked."""
  lengths = np.array([len(values) for values in steps.values])
  if lengths.min() < 1:
    raise InputError("a recording has no step to segment")
  group = steps.groups if segmenter.groups > 1 else np.zeros(len(lengths), np.int32)
  observed = jax.jit(jax.vmap(segmenter.emission.observe))(stacked(steps.values))
  mask = np.arange(lengths.max())[None] < lengths[:, None]
  return learning.Batch(jax.tree.map(np.asarray, observed), mask, group.astype(np.int32))


def part_batch(segmenter: learning.Segmenter, steps: Steps, part: str) -> learning.Batch:
  """The sequences of "train", "val" or "test", where steps are split."""
  chosen = select(steps, steps.spans[part])
  if not chosen.values:
    raise InputError(f"no recording of the {part} part has a step to segment: they are too short, or there is none")
  return make_batch(segmenter, chosen)


def learned_like(segmenter: learning.Segmenter, batch: learning.Batch) -> learning.Learned:
  """What is learned, as shapes, for reading it back."""

  def some(batch: learning.Batch) -> learning.Learned:
    clusters = jnp.zeros((*batch.mask.shape, segmenter.states))
    weights = hdp.uniform(segmenter.groups, segmenter.states)
    return learning.maximize(segmenter, learning.from_assignments(segmenter, batch, clusters), weights)

  return jax.eval_shape(some, batch)


def start_features(steps: Steps) -> list[Float[np.ndarray, "step feature"]]:
  """What sequences look like around each step, for clusters to start from.

  Features of overlapping windows are taken as they are; single samples are averaged over eleven steps, with their
  spread; of codes it is the share of each over a second.
  """
  if steps.levels:
    width = 2 * round(steps.rate_hz / 2) + 1
    shares = [a.reshape(len(a), -1) / np.maximum(a.sum(axis=(1, 2)), 1.0)[:, None] for a in steps.values]
    return [_moving_mean(share, width).astype(np.float32) for share in shares]
  if steps.overlap > 1:
    return [np.asarray(values, np.float32) for values in steps.values]
  found = []
  for values in steps.values:
    mean, square = (_moving_mean(a, 11) for a in (values, values**2))
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    found.append(np.concatenate([mean, spread], axis=1).astype(np.float32))
  return found


def select(steps: Steps, spans: Sequence[Span]) -> Steps:
  """Parts of the sequences as sequences of their own."""
  spans = [span for span in spans if span.stop > span.start]
  return steps._replace(
    values=[steps.values[span.recording][span.start : span.stop] for span in spans],
    groups=steps.groups[[span.recording for span in spans]],
    spans=None,
  )


def step_edges(codes: int, steps: int) -> Int[np.ndarray, " edge"]:
  """First code of each step of a window, and the number of codes: step i has those from edge i to edge i + 1."""
  return np.arange(steps + 1) * codes // steps


def digits_of(tokens: Int[np.ndarray, " code"], levels: tuple[int, ...]) -> Int[np.ndarray, "code digit"]:
  """Codes as numbers of mixed base, the first digit fastest.

  >>> digits_of(np.array([192]), (8, 6, 5)).tolist()
  [[0, 0, 4]]
  """
  basis = np.cumprod([1, *levels[:-1]])
  return (tokens[:, None] // basis % np.array(levels)).astype(np.int32)


def stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
  """Arrays of different lengths in one, `[N, longest, ...]`, zeros behind the shorter ones."""
  whole = np.zeros((len(parts), max(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
  for row, part in zip(whole, parts, strict=True):
    row[: len(part)] = part
  return whole


def _moving_mean(values: Float[np.ndarray, "step feature"], width: int) -> Float[np.ndarray, "step feature"]:
  return ndimage.uniform_filter1d(np.asarray(values, np.float64), width, axis=0, mode="nearest")


def as_mixture(segmenter: learning.Segmenter) -> learning.Segmenter:
  """The HDP mixture: the same model of single steps, which have no order and no durations."""
  return segmenter._replace(family="categorical", duration_prior=jnp.ones(1), shortest=1, stationary=False)


def single_steps(batch: learning.Batch) -> learning.Batch:
  """Every step as a sequence of its own."""
  length = batch.mask.shape[1]
  flat = jax.tree.map(lambda a: a.reshape(-1, 1, *a.shape[2:]), (batch.observed, batch.mask))
  return learning.Batch(*flat, np.repeat(batch.group, length))


def clusters(
  segmenter: learning.Segmenter, parameters: learning.Parameters, batch: learning.Batch
) -> list[Int[np.ndarray, " step"]]:  # fmt: skip
  """The most probable component of the HDP mixture for every step of every sequence."""

  @jax.jit
  @jax.vmap
  def one(observed: Any, group: Array) -> Array:
    values = learning.log_likelihoods(segmenter, parameters, observed)
    return jnp.argmax(values + parameters.log_initial[group][None], axis=1)

  found = np.asarray(one(batch.observed, batch.group))
  return [row[:n] for row, n in zip(found, batch.mask.sum(axis=1), strict=True)]


def evidence_per_step(segmenter: learning.Segmenter, parameters: learning.Parameters, batch: learning.Batch) -> float:
  """Log likelihood of all sequences in nats, divided by their steps."""
  total, steps = jax.jit(lambda p, b: learning.evidence(segmenter, p, b))(parameters, batch)
  return float(total) / max(float(steps), 1.0)


def learn_on(
  segmenter: learning.Segmenter, learned: learning.Learned, train: learning.Batch, val: learning.Batch, *, rounds: int
) -> tuple[learning.Parameters, float, float]:
  """Rounds of EM on `train`, kept if they explain `val` better; its log likelihood per step before and after them."""
  parameters = learned.parameters
  found = learning.learn_on(segmenter, learned, train, rounds=rounds).parameters
  before, after = (evidence_per_step(segmenter, p, val) for p in (parameters, found))
  return found if after > before else parameters, before, after


def decode_all(
  segmenter: learning.Segmenter, parameters: learning.Parameters, batch: learning.Batch
) -> list[Decoded]:  # fmt: skip
  """Segments every sequence of a batch.

  Raises:
    InputError: a sequence that no segmentation can explain, or a value that is not a number.
  """

  @jax.jit
  @jax.vmap
  def one(observed: Any, mask: Array, group: Array) -> tuple[Array, Array, Array, Array]:
    values = learning.log_likelihoods(segmenter, parameters, observed)
    model = learning.hsmm_of(segmenter, parameters, group)
    options = {"right_censored": segmenter.right_censored}
    path = decode.viterbi(model, values, mask, **options)
    posterior = messages.smooth(model, values, mask, **options)
    probs = jnp.take_along_axis(posterior.state_probs, jnp.maximum(path.states, 0)[:, None], axis=1)[:, 0]
    entropy = jnp.sum(jax.scipy.special.entr(posterior.state_probs), axis=1)
    return path.states, probs, entropy, posterior.log_likelihood

  states, probs, entropies, evidence = (np.asarray(a) for a in one(*batch))
  lengths = batch.mask.sum(axis=1)
  if not np.isfinite(evidence).all():
    which = int(np.argmin(np.isfinite(evidence)))
    raise InputError(f"sequence {which} has log likelihood {evidence[which]}: no segmentation explains it")
  return [Decoded(s[:n], p[:n], e[:n]) for s, p, e, n in zip(states, probs, entropies, lengths, strict=True)]


def plain_hmm(config: SegmentationConfig) -> SegmentationConfig:
  """The same model with geometric durations: a hidden Markov model."""
  return dataclasses.replace(config, durations="geometric", min_duration_s=0.0)


def mixture_of(config: SegmentationConfig, steps: Steps) -> SegmentationConfig:
  """The settings of the HDP mixture: every subject has weights of its own, and likelihoods are tempered less.

  `temperature` is for sequences, in which neighbouring steps say nearly the same. A mixture learns from what goes
  together within a step: if its codes counted as one, any mixture of categoricals would be one categorical, and there
  would be nothing to find. They count as two.
  """
  return dataclasses.replace(config, groups=True, temperature=max(steps.overlap / 2, 1.0))


def fitted_tables(
  segmenter: learning.Segmenter, parameters: learning.Parameters
) -> tuple[Float[np.ndarray, "from to"], Float[np.ndarray, "state step"]]:
  """Probabilities of the next state, averaged over groups, and of durations."""
  transitions = np.exp(np.asarray(parameters.log_transitions, np.float64)).mean(axis=0)
  log_pmf = durations.log_pmf(
    segmenter.family, parameters.theta, longest=len(segmenter.duration_prior), shortest=segmenter.shortest
  )
  return transitions / np.maximum(transitions.sum(axis=1, keepdims=True), 1e-30), np.exp(np.asarray(log_pmf))
