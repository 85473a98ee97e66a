"""Moves to fewer states: which to propose, cheapest first."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

_PRESENT = 0.5


class Move(NamedTuple):
  """Where each state's statistics go: `into[j]` is a state, or their number to leave them to the others."""

  name: str
  into: Int[np.ndarray, " state"]


def propose(
  likeness: Float[np.ndarray, "state state"],
  time: Float[np.ndarray, " state"],
  refused: tuple[str, ...],
  *,
  count: int,
) -> list[Move]:
  """Up to `count` moves that have not been refused.

  First several merges at once, then single merges and removals in turns. A merge of `j` into `k` is cheap when
  `k` explains the time of `j` nearly as well; a removal when the state has little time.

  Args:
    likeness: log likelihood of each column's state in the time of each row's, summed.
    time: expected number of steps of each state.
    refused: names of moves.
    count: number of moves.
  """
  moves = (move for move in _all(likeness, time) if move.name not in refused)
  return [move for move, _ in zip(moves, range(count), strict=False)]


def stay(states: int) -> Move:
  """The move that changes nothing."""
  return Move("stay", np.arange(states))


def _all(likeness: Float[np.ndarray, "state state"], time: Float[np.ndarray, " state"]) -> Iterator[Move]:
  present = [int(state) for state in np.argsort(time) if time[state] > _PRESENT]
  if len(present) < 2:
    return
  merges = _merges(likeness, present)
  disjoint, taken = [], set()
  for pair in merges:
    if not taken & set(pair):
      disjoint.append(pair)
      taken |= set(pair)
  for size in (len(disjoint) * 2 // 3, len(disjoint) // 3):
    if size > 1:
      yield _move(disjoint[:size], len(time))
  removals = [(state, len(time)) for state in present]
  for pair in zip_longest(merges[: len(present)], removals):
    yield from (_move([one], len(time)) for one in pair if one is not None)


def _merges(likeness: Float[np.ndarray, "state state"], present: list[int]) -> list[tuple[int, int]]:
  """Pairs `(from, into)` of present states, cheapest first, each pair in its cheaper direction."""
  loss = np.diag(likeness)[:, None] - likeness
  pairs = [(j, k) if loss[j, k] <= loss[k, j] else (k, j) for i, j in enumerate(present) for k in present[:i]]
  return sorted(pairs, key=lambda pair: loss[pair])


def _move(pairs: list[tuple[int, int]], states: int) -> Move:
  into = np.arange(states)
  for source, target in pairs:
    into[source] = target
  return Move(" ".join(f"{source}>{target if target < states else ''}" for source, target in pairs), into)
