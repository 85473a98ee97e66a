"""A plain hidden Markov model, learned by expectation-maximization: what an HDP-HSMM has to beat.

A number of states that is given, no durations, no weights of a hierarchy, every step taken for independent evidence.
Messages are those of a semi-Markov model whose segments all last one step.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from behavejax.segmentation import decode, messages
from behavejax.segmentation.emissions import Emission
from behavejax.segmentation.model import HSMM

_PSEUDO = 1.0
"""Pseudo-transitions of each row, so that none is impossible."""


class HMM(NamedTuple):
  """Log initial distribution `[K]`, log transitions `[K, K]`, parameters of the emission."""

  log_initial: Float[Array, "state"]
  log_transitions: Float[Array, "state state"]
  emission: Any


@functools.partial(jax.jit, static_argnames=("emission", "iterations"))
def fit(
  emission: Emission,
  observed: Any,
  mask: Bool[Array, "sequence time"],
  assignments: Float[Array, "sequence time state"],
  *,
  iterations: int = 30,
) -> tuple[HMM, Float[Array, "iteration"]]:
  """Baum-Welch from first assignments of steps to states.

  Args:
    emission: what a state looks like.
    observed: as the emission observes sequences, `[N, T, ...]`.
    mask: steps that exist.
    assignments: shares of the states in each step to start from.
    iterations: of expectation and maximization.

  Returns:
    The model, and the log likelihood before each iteration, nats.
  """
  states = assignments.shape[2]

  def maximize(initial: Array, transitions: Array, each: Any) -> HMM:
    initial, transitions = (a + _PSEUDO / states for a in (initial, transitions))
    total = jax.tree.map(lambda a: jnp.sum(a, axis=0), each)
    return HMM(
      jnp.log(initial / jnp.sum(initial)),
      jnp.log(transitions / jnp.sum(transitions, axis=1, keepdims=True)),
      emission.mode(total),
    )

  def iterate(model: HMM, _: None) -> tuple[HMM, Array]:
    def one(observed: Any, mask: Array) -> tuple:
      posterior = messages.smooth(_as_hsmm(model), emission.log_likelihoods(model.emission, observed), mask)
      statistics = emission.statistics(observed, posterior.state_probs)
      return posterior.state_probs[0], posterior.transitions, statistics, posterior.log_likelihood

    initial, transitions, each, evidence = jax.vmap(one)(observed, mask)
    return maximize(jnp.sum(initial, axis=0), jnp.sum(transitions, axis=0), each), jnp.sum(evidence)

  probs = assignments * mask[:, :, None]
  start = maximize(
    jnp.sum(probs[:, 0], axis=0),
    jnp.einsum("ntj,ntk->jk", probs[:, :-1], probs[:, 1:]),
    jax.vmap(emission.statistics)(observed, probs),
  )
  return jax.lax.scan(iterate, start, None, length=iterations)


@functools.partial(jax.jit, static_argnames="emission")
def best_states(
  emission: Emission, model: HMM, observed: Any, mask: Bool[Array, "sequence time"]
) -> Int[Array, "sequence time"]:  # fmt: skip
  """States of the most probable path of each sequence, -1 where masked."""

  def one(observed: Any, mask: Array) -> Array:
    return decode.viterbi(_as_hsmm(model), emission.log_likelihoods(model.emission, observed), mask).states

  return jax.vmap(one)(observed, mask)


def _as_hsmm(model: HMM) -> HSMM:
  return HSMM(model.log_initial, model.log_transitions, jnp.zeros((len(model.log_initial), 1)))
