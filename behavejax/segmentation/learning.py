"""Learning an HDP-HSMM from sequences: pure steps that share one set of expected sufficient statistics.

`expect` turns parameters and sequences into `Statistics`; `maximize` turns those into parameters again, at
the posterior mode (MAP-EM) or as expectations under the posterior (variational Bayes). Stochastic variational
inference blends the statistics of minibatches; `gibbs` draws instead of averaging. A state without statistics
falls back to the prior and costs nothing, which is how the number of states is found: `relabelled` proposes to
do with fewer, and the bound decides.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from behavejax.segmentation import durations, hdp, messages
from behavejax.segmentation.emissions import Emission
from behavejax.segmentation.model import HSMM

METHODS = ("map", "variational")
_ANY_DURATION = 1e-4
_RAREST = -35.0  # log of the transition that is expected least: it says never as well as -1000 does


class Segmenter(NamedTuple):
  """What is fixed before learning.

  Attributes:
    emission: what a state looks like.
    states: limit on the number of states, `K`.
    groups: number of groups of sequences (animals), each with its own transitions and weights.
    family: of durations, a name in `durations.NAMES`.
    duration_prior: pseudo-counts of segments of 1..D steps, `[D]`; its length is the longest duration.
    shortest: steps of a segment, but for the one in ten thousand of `hsmm_of`.
    alpha: how closely a state's transitions follow its group's weights, in pseudo-transitions.
    kappa: how closely a group's weights follow the shared ones.
    gamma: of the shared weights; larger means more states a priori.
    right_censored: the last segment of a sequence may go on after it.
    stationary: sequences start in the middle of a segment.
    temperature: log likelihoods and their counts are divided by it; above 1 for samples that repeat each other.
  """

  emission: Emission
  states: int
  groups: int
  family: str
  duration_prior: Float[Array, "duration"]
  shortest: int = 1
  alpha: float = 4.0
  kappa: float = 20.0
  gamma: float = 4.0
  right_censored: bool = True
  stationary: bool = False
  temperature: float = 1.0


class Batch(NamedTuple):
  """Sequences: `observed` as the emission observes them, `[N, T, ...]`; `mask [N, T]`; `group [N]`."""

  observed: Any
  mask: Bool[Array, "sequence time"]
  group: Int[Array, "sequence"]


class Parameters(NamedTuple):
  """What the messages need.

  Attributes:
    log_initial: `[G, K]`.
    log_transitions: `[G, K, K]`.
    theta: of the durations, `[K, P]`.
    emission: parameters of the emission, `K` leading.
  """

  log_initial: Float[Array, "group state"]
  log_transitions: Float[Array, "group state state"]
  theta: Float[Array, "state parameter"]
  emission: Any


class Statistics(NamedTuple):
  """Expected counts; they add over sequences and devices.

  Attributes:
    initial: `[G, K]` first states.
    transitions: `[G, K, K]`.
    durations: `[K, D]` segments by duration.
    emission: statistics of the emission.
    likeness: `[K, K]`, log likelihood of state k summed over the time spent in state j.
    log_likelihood: evidence, nats.
    time: `[K]` steps in each state.
    steps: number of steps seen.
  """

  initial: Float[Array, "group state"]
  transitions: Float[Array, "group state state"]
  durations: Float[Array, "state duration"]
  emission: Any
  likeness: Float[Array, "state state"]
  log_likelihood: Float[Array, ""]
  time: Float[Array, "state"]
  steps: Float[Array, ""]


class Explained(NamedTuple):
  """What the states are to one sequence, under given parameters.

  Attributes:
    values: tempered log likelihoods `[T, K]`.
    state_probs: `[T, K]`, zero where masked.
    transitions: `[K, K]` expected, or drawn, number.
    durations: `[K, D]` segments by duration.
    log_likelihood: evidence, nats.
  """

  values: Float[Array, "time state"]
  state_probs: Float[Array, "time state"]
  transitions: Float[Array, "state state"]
  durations: Float[Array, "state duration"]
  log_likelihood: Float[Array, ""]


class Learned(NamedTuple):
  """A point of learning: parameters, the weights of the hierarchy, and what the priors say of both.

  `log_likelihood + prior` is what MAP-EM (up to a constant) or variational Bayes (the bound) makes large.
  """

  parameters: Parameters
  weights: hdp.Weights
  prior: Float[Array, ""]


def hsmm_of(segmenter: Segmenter, parameters: Parameters, group: Int[Array, ""]) -> HSMM:
  """The model of one group; one segment in ten thousand may have any duration, so that none is impossible."""
  longest = len(segmenter.duration_prior)
  log_pmf = durations.log_pmf(segmenter.family, parameters.theta, longest=longest, shortest=segmenter.shortest)
  log_pmf = jnp.logaddexp(log_pmf + math.log1p(-_ANY_DURATION), math.log(_ANY_DURATION / longest))
  first = None
  if segmenter.stationary:
    log_survival = jax.lax.cumlogsumexp(log_pmf, axis=1, reverse=True)
    first = log_survival - jax.nn.logsumexp(log_survival, axis=1, keepdims=True)
  return HSMM(parameters.log_initial[group], parameters.log_transitions[group], log_pmf, first)


def log_likelihoods(segmenter: Segmenter, parameters: Parameters, observed: Any) -> Float[Array, "time state"]:
  """Of one sequence, tempered."""
  return segmenter.emission.log_likelihoods(parameters.emission, observed) / segmenter.temperature


def expect(
  segmenter: Segmenter, parameters: Parameters, batch: Batch, *, axis_name: str | None = None
) -> Statistics:  # fmt: skip
  """Expected statistics of a batch, summed over devices where `axis_name` names their axis."""

  def one(observed: Any, mask: Array, group: Array) -> Explained:
    values = log_likelihoods(segmenter, parameters, observed)
    model = hsmm_of(segmenter, parameters, group)
    found = messages.smooth(model, values, mask, right_censored=segmenter.right_censored)
    return Explained(values, found.state_probs, found.transitions, found.durations, found.log_likelihood)

  return count(segmenter, batch, jax.vmap(one)(*batch), axis_name=axis_name)


def count(
  segmenter: Segmenter, batch: Batch, explained: Explained, *, axis_name: str | None = None
) -> Statistics:  # fmt: skip
  """Statistics of explained sequences, `sequence` leading in every field; summed over devices too.

  Nothing is kept per sequence that is larger than its own part: a mixture has one for every step.
  """
  own = jax.nn.one_hot(batch.group, segmenter.groups)
  probs = explained.state_probs
  found = Statistics(
    initial=own.T @ probs[:, 0],
    transitions=jnp.einsum("ng,njk->gjk", own, explained.transitions),
    durations=jnp.sum(explained.durations, axis=0),
    emission=_emission_statistics(segmenter, batch, probs),
    likeness=jnp.einsum("ntj,ntk->jk", probs, jnp.maximum(explained.values, -1e6)),
    log_likelihood=jnp.sum(explained.log_likelihood),
    time=jnp.sum(probs, axis=(0, 1)),
    steps=jnp.sum(batch.mask).astype(jnp.float32),
  )
  return found if axis_name is None else jax.lax.psum(found, axis_name)


def _emission_statistics(segmenter: Segmenter, batch: Batch, probs: Float[Array, "sequence time state"]) -> Any:
  """Of all sequences as one, tempered: counted as often as their log likelihoods are."""
  observed, probs = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), (batch.observed, probs))
  return jax.tree.map(lambda a: a / segmenter.temperature, segmenter.emission.statistics(observed, probs))


def evidence(
  segmenter: Segmenter, parameters: Parameters, batch: Batch, *, axis_name: str | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """Log likelihood of a batch and its number of steps, to be divided for held-out scores."""

  def one(observed: Any, mask: Array, group: Array) -> tuple[Array, Array]:
    values = log_likelihoods(segmenter, parameters, observed)
    model = hsmm_of(segmenter, parameters, group)
    total = messages.log_likelihood(model, values, mask, right_censored=segmenter.right_censored)
    return total, jnp.sum(mask).astype(jnp.float32)

  total = jax.tree.map(lambda a: jnp.sum(a, axis=0), jax.vmap(one)(*batch))
  return total if axis_name is None else jax.lax.psum(total, axis_name)


def empty(segmenter: Segmenter, emission: Any) -> Statistics:
  """No segments seen yet, only `emission` statistics, for instance of clusters of the features."""
  groups, states = segmenter.groups, segmenter.states
  return Statistics(
    initial=jnp.zeros((groups, states)),
    transitions=jnp.zeros((groups, states, states)),
    durations=jnp.zeros((states, len(segmenter.duration_prior))),
    emission=emission,
    likeness=jnp.zeros((states, states)),
    log_likelihood=jnp.zeros(()),
    time=jnp.zeros(states),
    steps=jnp.zeros(()),
  )


def from_assignments(
  segmenter: Segmenter, batch: Batch, state_probs: Float[Array, "sequence time state"]
) -> Statistics:
  """Statistics to start from: what each state looks like under given assignments, and nothing on time."""
  return empty(segmenter, _emission_statistics(segmenter, batch, state_probs * batch.mask[:, :, None]))


def maximize(
  segmenter: Segmenter, statistics: Statistics, weights: hdp.Weights, *, method: str = "variational"
) -> Learned:  # fmt: skip
  """Parameters from statistics; the weights of the hierarchy move on by their own fixed point.

  Args:
    method: "variational", expectations under the posterior of everything but the durations and weights;
      "map", its mode.
  """
  weights = hdp.update_weights(
    weights, statistics.transitions, statistics.initial,
    alpha=segmenter.alpha, kappa=segmenter.kappa, gamma=segmenter.gamma,
  )  # fmt: skip
  prior, allowed = transition_prior(segmenter, weights)
  initial_prior = segmenter.alpha * weights.groups
  theta = durations.fit(segmenter.family, statistics.durations, segmenter.duration_prior, shortest=segmenter.shortest)
  log_pmf = durations.log_pmf(
    segmenter.family, theta, longest=len(segmenter.duration_prior), shortest=segmenter.shortest
  )
  everywhere = jnp.ones_like(initial_prior, bool)
  log_of = hdp.dirichlet_expected_log if method == "variational" else hdp.dirichlet_mean_log
  emission_of = segmenter.emission.expected if method == "variational" else segmenter.emission.mode
  parameters = Parameters(
    log_initial=log_of(statistics.initial + initial_prior, everywhere),
    log_transitions=jnp.where(allowed, jnp.maximum(log_of(statistics.transitions + prior, allowed), _RAREST), -jnp.inf),
    theta=theta,
    emission=emission_of(statistics.emission),
  )
  log_prior = jnp.sum(durations.log_probability(segmenter.duration_prior[None], log_pmf, shortest=segmenter.shortest))
  log_prior += jnp.sum(segmenter.gamma / segmenter.states * jnp.log(weights.shared))
  pull = jnp.broadcast_to(segmenter.kappa * weights.shared[None], weights.groups.shape)
  log_prior += jnp.sum(hdp.dirichlet_log_density(jnp.log(weights.groups), pull, everywhere))
  if method == "variational":
    log_prior -= jnp.sum(hdp.dirichlet_divergence(statistics.initial + initial_prior, initial_prior, everywhere))
    log_prior -= jnp.sum(hdp.dirichlet_divergence(statistics.transitions + prior, prior, allowed))
    log_prior -= jnp.sum(segmenter.emission.divergence(statistics.emission))
  else:
    log_prior += jnp.sum(hdp.dirichlet_log_density(parameters.log_initial, initial_prior, everywhere))
    log_prior += jnp.sum(hdp.dirichlet_log_density(parameters.log_transitions, prior, allowed))
    log_prior += jnp.sum(segmenter.emission.log_prior(parameters.emission))
  return Learned(parameters, weights, log_prior)


def learn_on(segmenter: Segmenter, learned: Learned, batch: Batch, *, rounds: int) -> Learned:
  """MAP-EM from what was learned before: `rounds` times the expected statistics of `batch`, then their mode."""

  @jax.jit
  def one(learned: Learned, batch: Batch) -> Learned:
    return maximize(segmenter, expect(segmenter, learned.parameters, batch), learned.weights, method="map")

  for _ in range(rounds):
    learned = one(learned, batch)
  return learned


def blend(
  old: Statistics, seen: Statistics, *, rate: Float[Array, ""], scale: Float[Array, ""]
) -> Statistics:  # fmt: skip
  """Statistics after a minibatch: a natural-gradient step of stochastic variational inference.

  `(1 - rate) old + rate scale seen` (Hoffman et al. 2013; Johnson and Willsky 2014); `maximize` then gives the
  parameters.

  Args:
    rate: step size in (0, 1]; 1 with the whole data set is a step of coordinate ascent.
    scale: steps of the data set / steps of the batch.
  """
  return jax.tree.map(lambda a, b: (1 - rate) * a + rate * scale * b, old, seen)


def constrain(segmenter: Segmenter, parameters: Parameters) -> Parameters:
  """Parameters of any values, as gradient steps leave them -> valid ones."""
  allowed = off_diagonal(segmenter)
  free = jax.nn.log_softmax(jnp.where(allowed[None], parameters.log_transitions, -1e9), axis=-1)
  return Parameters(
    log_initial=jax.nn.log_softmax(parameters.log_initial, axis=-1),
    log_transitions=jnp.where(allowed[None], free, -jnp.inf),
    theta=parameters.theta,
    emission=segmenter.emission.constrain(parameters.emission),
  )


def loss(segmenter: Segmenter, parameters: Parameters, batch: Batch) -> Float[Array, ""]:
  """Negative log marginal likelihood per step of unconstrained parameters, for optax or inside an encoder's loss."""
  total, steps = evidence(segmenter, constrain(segmenter, parameters), batch)
  return -total / steps


def relabelled(statistics: Statistics, into: Int[Array, "state"]) -> Statistics:
  """Statistics after a move that does with fewer states: what state `j` has seen goes to state `into[j]`.

  States poured together become one; `into[j]` equal to the number of states leaves the time of `j` for the others
  to explain. Changes between states that have become one are no changes.
  """
  states = into.shape[0]
  pour = jax.nn.one_hot(into, states)
  keep = 1 - jnp.eye(states)[None]
  return statistics._replace(
    initial=statistics.initial @ pour,
    transitions=keep * jnp.einsum("jk,gjl,lm->gkm", pour, statistics.transitions, pour),
    durations=pour.T @ statistics.durations,
    time=statistics.time @ pour,
    emission=jax.tree.map(lambda a: jnp.tensordot(pour.T, a, axes=1), statistics.emission),
  )


def transition_prior(segmenter: Segmenter, weights: hdp.Weights) -> tuple[Array, Array]:
  """Pseudo-counts of each group's transitions `[G, K, K]`, and where transitions are allowed."""
  prior = jax.vmap(lambda w: hdp.transition_prior(w, segmenter.alpha))(weights.groups)
  return prior, jnp.broadcast_to(off_diagonal(segmenter), prior.shape)


def off_diagonal(segmenter: Segmenter) -> Bool[Array, "state state"]:
  """True where a transition leads to another state."""
  return ~jnp.eye(segmenter.states, dtype=bool)
