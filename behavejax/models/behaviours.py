"""Smoothing of class probabilities over time: a hidden semi-Markov model whose states are the labelled behaviours.

How long behaviours last and what follows what is counted in labelled recordings; what a moment looks like is said by a
classifier `q_t(y)` of short windows, as a scaled likelihood (Bourlard & Morgan 1994) with a weight `w` for windows that
overlap:

  log b_y(t) = w (log q_t(y) - (1 - p) log pi(y))

A classifier trained with classes of frequency `pi` weighted by `pi ** -p` holds the prior `pi ** (1 - p)`.
"""

import itertools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from behavejax.segmentation import durations, messages
from behavejax.segmentation.model import HSMM

_FAMILY = "negative_binomial"
_FREE_TRANSITIONS = 1.0  # pseudo-transitions of each behaviour, to others as often as they begin
_ANY_DURATION = 1e-3


def fit(labels: Sequence[Int[np.ndarray, " step"]], *, classes: int, longest: int) -> HSMM:
  """Counts bouts of labelled behaviour.

  Args:
    labels: per recording, -1 where unknown; bouts that touch unknown steps or the ends count with what is seen.
    classes: number of behaviours.
    longest: duration in steps up to which lengths are told apart; what lasts longer may follow itself.
  """
  lasting, changes, begins = np.zeros((classes, longest)), np.zeros((classes, classes)), np.zeros(classes)
  beyond = np.zeros(classes)
  for sequence in labels:
    previous = -1
    for label, length in _bouts(sequence):
      if label >= 0:
        lasting[label, min(length, longest) - 1] += 1
        beyond[label] += length > longest
        begins[label] += 1
        if previous >= 0:
          changes[previous, label] += 1
      previous = label
  share = (begins + 1) / (begins + 1).sum()
  others = (changes + _FREE_TRANSITIONS * share) * (1 - np.eye(classes))
  stay = beyond / (begins + 1)
  transitions = others / np.maximum(others.sum(axis=1, keepdims=True), 1e-12) * (1 - stay[:, None]) + np.diag(stay)
  pooled = (lasting.sum(axis=0) + _ANY_DURATION) / (lasting.sum() + longest * _ANY_DURATION)
  theta = durations.fit(_FAMILY, jnp.asarray(lasting, jnp.float32), jnp.asarray(pooled, jnp.float32))
  pmf = np.exp(np.asarray(durations.log_pmf(_FAMILY, theta, longest=longest), np.float64))
  pmf = (1 - _ANY_DURATION) * pmf / pmf.sum(axis=1, keepdims=True) + _ANY_DURATION / longest
  with np.errstate(divide="ignore"):
    return HSMM(*(jnp.asarray(np.log(a), jnp.float32) for a in (share, transitions, pmf)))


def log_prior(labels: Int[np.ndarray, " step"], *, classes: int, power: float) -> Float[np.ndarray, " class"]:
  """Log prior of the behaviours, up to a constant, that a classifier holds whose classes weighed `pi ** -power`.

  >>> np.exp(log_prior(np.array([0, 0, 0, 0, 0, 0, 0, 1, -1]), classes=2, power=0.5)).round(2).tolist()
  [0.89, 0.45]
  """
  counts = np.bincount(labels[labels >= 0], minlength=classes) + 1
  return (1 - power) * np.log(counts / counts.sum())


def smooth(
  model: HSMM, log_probs: Float[np.ndarray, "recording step class"], lengths: Int[np.ndarray, " recording"], *,
  log_prior: Float[np.ndarray, " class"], weight: float,
) -> list[Float[np.ndarray, "step class"]]:  # fmt: skip
  """Probability of each behaviour at each step given whole recordings.

  Args:
    model: of the behaviours.
    log_probs: of the classifier, padded behind the end of a recording.
    lengths: of the recordings, in steps.
    log_prior: of the behaviours, as the classifier's probabilities hold it; a constant makes no difference.
    weight: of a step's evidence, about 1 over the number of overlapping windows that saw it.
  """
  mask = np.arange(log_probs.shape[1])[None] < lengths[:, None]
  values = weight * (log_probs - log_prior[None, None]).astype(np.float32)
  probs = np.asarray(_smooth(model, jnp.asarray(values), jnp.asarray(mask)))
  return [row[:n] for row, n in zip(probs, lengths, strict=True)]


@jax.jit
def _smooth(model: HSMM, values: Float[Array, "recording step class"], mask: Array) -> Array:
  return jax.vmap(lambda v, m: messages.smooth(model, v, m).state_probs)(values, mask)


def _bouts(labels: Int[np.ndarray, " step"]) -> Iterator[tuple[int, int]]:
  """Stretches of one label: the label and how long it lasts."""
  edges = np.flatnonzero(np.diff(labels, prepend=np.nan, append=np.nan) != 0)
  for start, stop in itertools.pairwise(edges):
    yield int(labels[start]), int(stop - start)
