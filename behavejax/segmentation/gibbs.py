"""Blocked Gibbs sampling of the HDP-HSMM: whole segmentations, then everything else given them.

Each sweep draws a segmentation of every sequence from its exact posterior (forward filter, backward sample), then the
numbers of tables and weights of the hierarchy, transitions, durations and emissions. Johnson and Willsky (2013).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from behavejax.segmentation import decode, durations, hdp, learning
from behavejax.segmentation.learning import Batch, Learned, Parameters, Segmenter, Statistics
from behavejax.segmentation.model import HSMM
from behavejax.types import Key


def sample_statistics(
  segmenter: Segmenter, parameters: Parameters, batch: Batch, keys: Key, *, axis_name: str | None = None
) -> Statistics:
  """Statistics of one random segmentation of each sequence; `keys [N]`, one per sequence."""

  def one(observed: Any, mask: Array, group: Array, key: Key) -> learning.Explained:
    values = learning.log_likelihoods(segmenter, parameters, observed)
    model = learning.hsmm_of(segmenter, parameters, group)
    path_key, length_key = jax.random.split(key)
    path = decode.sample_posterior(model, values, path_key, mask, right_censored=segmenter.right_censored)
    probs = jax.nn.one_hot(path.states, segmenter.states)
    transitions = probs[:-1].T @ (probs[1:] * path.starts[1:, None])
    counts = _segment_counts(model, path, mask, length_key, cut=segmenter.right_censored)
    return learning.Explained(values, probs, transitions, counts, path.log_probability)

  return learning.count(segmenter, batch, jax.vmap(one)(*batch, keys), axis_name=axis_name)


def draw(segmenter: Segmenter, statistics: Statistics, learned: Learned, key: Key) -> Learned:
  """Parameters and weights given the statistics of segmentations; the same `key` draws the same everywhere."""
  weight_key, transition_key, initial_key, duration_key, emission_key = jax.random.split(key, 5)
  weights = hdp.draw_weights(
    learned.weights, statistics.transitions, statistics.initial, weight_key,
    alpha=segmenter.alpha, kappa=segmenter.kappa, gamma=segmenter.gamma,
  )  # fmt: skip
  prior, allowed = learning.transition_prior(segmenter, weights)
  initial = statistics.initial + segmenter.alpha * weights.groups
  parameters = Parameters(
    log_initial=hdp.dirichlet_draw_log(initial, jnp.ones_like(initial, bool), initial_key),
    log_transitions=hdp.dirichlet_draw_log(statistics.transitions + prior, allowed, transition_key),
    theta=durations.metropolis(
      segmenter.family,
      learned.parameters.theta,
      statistics.durations,
      segmenter.duration_prior,
      duration_key,
      shortest=segmenter.shortest,
    ),
    emission=segmenter.emission.draw(statistics.emission, emission_key),
  )
  return Learned(parameters, weights, learned.prior)


def _segment_counts(
  model: HSMM, path: decode.Path, mask: Bool[Array, "time"], key: Key, *, cut: bool
) -> Float[Array, "state duration"]:
  """Counts of a segmentation's durations; a last segment that is cut off gets a random duration it may have had."""
  longest = model.log_durations.shape[1]
  following = jnp.concatenate([path.starts[1:] | ~mask[1:], jnp.ones(1, bool)])

  def step(length: Array, starts: Array) -> tuple[Array, Array]:
    length = jnp.where(starts, 1, length + 1)
    return length, length

  _, lengths = jax.lax.scan(step, jnp.zeros((), jnp.int32), path.starts)
  last = jnp.sum(mask) - 1
  state = path.states[last]
  possible = jnp.arange(1, longest + 1) >= lengths[last]
  drawn = jax.random.categorical(key, jnp.where(possible, model.log_durations[state], -jnp.inf)) + 1
  time = jnp.arange(len(mask))
  lengths = jnp.where((time == last) & cut, drawn, lengths)
  ends = following & mask
  if model.log_first_durations is not None:  # the first segment's full duration is not known
    first_end = jnp.argmax(ends)
    ends = ends & (time != first_end)
  counts = jnp.zeros_like(model.log_durations)
  return counts.at[path.states, jnp.minimum(lengths, longest) - 1].add(ends.astype(counts.dtype))
