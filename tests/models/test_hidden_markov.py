"""The plain hidden Markov model: Baum-Welch against a NumPy one in float64, and states that come back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from behavejax.models import hidden_markov
from behavejax.segmentation import emissions

STATES, SEQUENCES, TIME = 3, 4, 50
EMISSION = emissions.categorical((4,))


@functools.cache
def problem():
  rng = np.random.default_rng(0)
  states = np.stack([np.repeat(rng.permutation(30) % STATES, rng.integers(3, 9, 30))[:TIME] for _ in range(SEQUENCES)])
  codes = np.where(rng.random(states.shape) < 0.8, states, 3)
  mask = np.arange(TIME)[None] < np.array([50, 50, 40, 1])[:, None]
  return states, jax.vmap(EMISSION.observe)(jnp.asarray(codes)), jnp.asarray(mask)


def baum_welch(codes, mask, probs, iterations):
  """In float64 and log space, one sequence after the other."""

  def maximize(initial, transitions, counts):
    initial, transitions = initial + 1 / STATES, transitions + 1 / STATES
    counts = counts + 1 / 4
    return (
      np.log(initial / initial.sum()),
      np.log(transitions / transitions.sum(axis=1, keepdims=True)),
      np.log(counts / counts.sum(axis=1, keepdims=True)),
    )

  def gather(each):
    initial = sum(p[0] for p, _, _ in each)
    transitions = sum(x for _, x, _ in each)
    counts = sum(np.stack([p[c == v].sum(axis=0) for v in range(4)], axis=1) for p, _, c in each)
    return maximize(initial, transitions, counts)

  sequences = [np.asarray(c)[np.asarray(m), 0] for c, m in zip(codes, mask, strict=True)]
  first = [(p[: len(c)], p[: len(c) - 1].T @ p[1 : len(c)], c) for p, c in zip(probs, sequences, strict=True)]
  model, trace = gather(first), []
  for _ in range(iterations):
    initial, transitions, emission = model
    total, each = 0.0, []
    for codes in sequences:
      values = emission[:, codes].T
      forward, backward = [initial + values[0]], [np.zeros(STATES)]
      for value in values[1:]:
        forward.append(logsumexp(forward[-1][:, None] + transitions, axis=0) + value)
      for value in values[:0:-1]:
        backward.append(logsumexp(transitions + (value + backward[-1])[None], axis=1))
      forward, backward = np.array(forward), np.array(backward[::-1])
      evidence = logsumexp(forward[-1])
      total += evidence
      pairs = sum(
        np.exp(forward[t][:, None] + transitions + (values[t + 1] + backward[t + 1])[None] - evidence)
        for t in range(len(codes) - 1)
      )
      each.append((np.exp(forward + backward - evidence), pairs, codes))
    trace.append(total)
    model = gather(each)
  return model, trace


def test_equals_baum_welch_in_float64():
  _, codes, mask = problem()
  probs = np.random.default_rng(1).dirichlet(np.ones(STATES), (SEQUENCES, TIME))
  found, trace = hidden_markov.fit(EMISSION, codes, mask, jnp.asarray(probs, jnp.float32), iterations=5)
  expected, wanted = baum_welch(codes, mask, probs, 5)
  np.testing.assert_allclose(trace, wanted, rtol=1e-5)
  np.testing.assert_allclose(np.exp(found.log_initial), np.exp(expected[0]), atol=1e-4)
  np.testing.assert_allclose(np.exp(found.log_transitions), np.exp(expected[1]), atol=1e-4)
  np.testing.assert_allclose(np.exp(found.emission[:, 0]), np.exp(expected[2]), atol=1e-4)


def test_states_come_back():
  states, codes, mask = problem()
  start = jax.nn.one_hot(jnp.minimum(codes[..., 0], STATES - 1), STATES)
  model, trace = hidden_markov.fit(EMISSION, codes, mask, start)
  assert np.diff(trace).min() > -0.05
  found = np.asarray(hidden_markov.best_states(EMISSION, model, codes, mask))
  np.testing.assert_array_equal(found == -1, ~np.asarray(mask))
  assert np.mean(found[mask] == states[np.asarray(mask)]) > 0.95
