"""Two simulated quadrupeds with collars, of which the second follows the first: who leads, and how far, is known."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from behavejax.config import PairConfig, SimulateConfig
from behavejax.data import simulate
from behavejax.data.recording import Recording
from behavejax.errors import InputError

CHANNELS = tuple(f"{name}_{device}" for device in (1, 2) for name in simulate.CHANNELS)


class Behaviours(NamedTuple):
  """What both animals of a pair do.

  Attributes:
    first: behaviour of the first animal, an index into `simulate.CLASSES`.
    second: behaviour of the second one.
    follows: whether the second one does what the first did `lag` samples ago; where not, it may by chance.
  """

  first: Int[np.ndarray, " sample"]
  second: Int[np.ndarray, " sample"]
  follows: Bool[np.ndarray, " sample"]


def pair(config: SimulateConfig, coupling: PairConfig, seed: int) -> list[Recording]:
  """One recording per pair of animals: nine channels of each, labels of the first one.

  Each animal has its own pace, vigour, wearing of the collar and lost samples.

  Args:
    config: number of pairs (`subjects`), length, rate, noise and share of lost samples.
    coupling: lag and coupling.
    seed: of everything but the species.

  Raises:
    InputError: recordings that are no longer than the lag.
  """
  recordings = []
  for i, (both, keys) in enumerate(zip(behaviours(config, coupling, seed), _keys(config, seed), strict=True)):
    collars = [
      simulate.collar_signal(states, config, np.random.default_rng(key))
      for states, key in zip((both.first, both.second), keys[1:], strict=True)
    ]
    signal = np.concatenate(collars, axis=1)
    recordings.append(
      Recording(
        signal, config.rate_hz, CHANNELS, 2 * simulate.UNITS, both.first, simulate.CLASSES, str(i + 1),
        source="simulated pair",
      )
    )  # fmt: skip
  return recordings


def behaviours(config: SimulateConfig, coupling: PairConfig, seed: int) -> list[Behaviours]:
  """What the animals of `pair` do, pair by pair; see there."""
  samples, lag = round(config.minutes * 60 * config.rate_hz), round(coupling.lag_s * config.rate_hz)
  if samples < max(lag + 1, 2):
    raise InputError(
      f"config.data.simulate.minutes={config.minutes:g} at {config.rate_hz:g} Hz is {samples} sample(s) per pair, too "
      f"few for config.data.pair.lag_s={coupling.lag_s:g}"
    )
  chain = simulate.truth(config.rate_hz)
  return [
    follow(chain, samples, lag=lag, coupling=coupling.coupling, rng=np.random.default_rng(keys[0]))
    for keys in _keys(config, seed)
  ]


def follow(
  chain: simulate.Truth, samples: int, *, lag: int, coupling: float, rng: np.random.Generator
) -> Behaviours:  # fmt: skip
  """Two state sequences that each would follow the chain alone.

  The second one joins in a bout of the first as a whole or not at all, `lag` samples later; in between it does what
  its own sequence says, which goes on underneath.

  Args:
    chain: of both animals.
    samples: length.
    lag: in samples, 0 or more.
    coupling: probability of joining in a bout.
    rng: source of randomness.
  """
  first, own = (simulate.sample_states(chain, samples, rng) for _ in range(2))
  bout = np.cumsum(np.diff(first, prepend=first[:1]) != 0)
  joined = (rng.random(bout[-1] + 1) < coupling)[bout]
  follows = np.concatenate([np.zeros(lag, bool), joined[: samples - lag]])
  leader = np.concatenate([own[:lag], first[: samples - lag]])
  return Behaviours(first, np.where(follows, leader, own), follows)


def _keys(config: SimulateConfig, seed: int) -> list[list[np.random.SeedSequence]]:
  """Of each pair: for what both do, and for the collar of each animal."""
  return [key.spawn(3) for key in np.random.SeedSequence(seed).spawn(config.subjects)]
