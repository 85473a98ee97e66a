"""Features drawn from a hidden semi-Markov model, so that states, durations and subjects' habits are known."""

import numpy as np
from jaxtyping import Float

from behavejax.config import SyllablesConfig
from behavejax.data.recording import Recording

RATE_HZ = 10.0
_DISPERSION = 5.0
_SPREAD = 0.7


def syllables(config: SyllablesConfig, seed: int) -> list[Recording]:
  """Recordings of Gaussian features whose labels are the true states.

  Durations are one plus a negative binomial number of steps. All subjects share what the states look like, how long
  they last and which tend to follow which; each subject has its own liking for every state, which multiplies the
  probability of going there.
  """
  rng = np.random.default_rng(seed)
  states = config.states
  means = config.separation * rng.normal(size=(states, config.channels))
  mean_steps = np.exp(np.linspace(np.log(config.shortest), np.log(config.longest), states))
  rng.shuffle(mean_steps)
  shared = rng.dirichlet(np.full(states, 2.0), states)
  liking = np.exp(_SPREAD * rng.normal(size=(config.subjects, states)) * (config.subjects > 1))
  recordings = []
  for i in range(config.recordings):
    subject = i % config.subjects
    chain = transitions(shared * liking[subject])
    labels = _segments(rng, chain, mean_steps, config.steps)
    noise = rng.normal(size=(config.steps, config.channels))
    recordings.append(
      Recording(
        signal=(means[labels] + noise).astype(np.float32),
        rate_hz=RATE_HZ,
        channels=tuple(f"feature_{c + 1}" for c in range(config.channels)),
        units=("",) * config.channels,
        labels=labels,
        classes=tuple(f"state_{k + 1}" for k in range(states)),
        subject=f"{subject + 1}",
        session=f"{i // config.subjects + 1}",
        source=f"simulated with seed {seed}",
      )
    )
  return recordings


def transitions(weights: Float[np.ndarray, "state state"]) -> Float[np.ndarray, "state state"]:
  """Rows that sum to 1, nothing on the diagonal."""
  weights = weights * (1 - np.eye(len(weights)))
  return weights / weights.sum(axis=1, keepdims=True)


def _segments(
  rng: np.random.Generator, chain: np.ndarray, mean_steps: np.ndarray, steps: int
) -> np.ndarray:  # fmt: skip
  labels, state = [], int(rng.integers(len(chain)))
  while len(labels) < steps:
    duration = 1 + rng.negative_binomial(_DISPERSION, _DISPERSION / (_DISPERSION + mean_steps[state] - 1))
    labels += [state] * int(duration)
    state = int(rng.choice(len(chain), p=chain[state]))
  return np.array(labels[:steps], np.int64)
