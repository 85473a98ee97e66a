"""Codes as a graph gives them -> integers, in NumPy."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from behavejax.errors import InputError
from behavejax.export.manifest import Preprocess

if TYPE_CHECKING:
  from jaxtyping import Float, Int

CODEBOOK = "codebook.npy"


class Tokens(NamedTuple):
  """Integers of one window.

  Attributes:
    indices: `[row, token]`, of the codebook.
    digits: `[row * token, digit]`, in the order of time; for "vq" the index itself.
  """

  indices: Int[np.ndarray, "row token"]
  digits: Int[np.ndarray, "step digit"]


class Indexer:
  """Finds the integer of each code of a window: `behavejax.quantizers.fsq.codes_to_indices`, or the nearest row of
  `codebook.npy`.

  Args:
    preprocess: of the package.
    folder: of the package, already checked.

  Attributes:
    levels: number of values of each digit.

  Raises:
    InputError: a codebook that is missing, damaged or of another shape.
  """

  def __init__(self, preprocess: Preprocess, folder: pathlib.Path):
    quantizer = preprocess.quantizer
    _, self._rows, self._tokens, size = preprocess.model.outputs["codes"]
    self._codebook = None
    if quantizer.name == "vq":
      self.levels: tuple[int, ...] = (quantizer.num_codes,)
      self._codebook = _codebook(preprocess, folder, (quantizer.num_codes, size)).T
      self._squares = (self._codebook**2).sum(axis=0)
      return
    self.levels = quantizer.levels
    levels = np.array(quantizer.levels)
    self._half = ((levels - 1) / 2 if quantizer.symmetric else levels // 2).astype(np.float32)
    self._top = (levels - 1).astype(np.float32)
    self._basis = np.cumprod([1, *quantizer.levels[:-1]]).astype(np.float32)
    self._none = np.float32(0)

  def __call__(self, codes: Float[np.ndarray, "1 row token digit"]) -> Tokens:
    flat = codes.reshape(self._rows * self._tokens, -1)
    if self._codebook is not None:
      indices = (self._squares - 2 * (flat @ self._codebook)).argmin(axis=1).astype(np.int32)
      return Tokens(indices.reshape(self._rows, self._tokens), indices[:, None])
    digits = flat * self._half
    np.add(digits, self._half, out=digits)
    np.rint(digits, out=digits)
    np.maximum(digits, self._none, out=digits)  # a coarse model may miss the grid at its edges
    np.minimum(digits, self._top, out=digits)
    indices = (digits @ self._basis).astype(np.int32)  # below 2^24, exact
    return Tokens(indices.reshape(self._rows, self._tokens), digits.astype(np.int32))


def _codebook(preprocess: Preprocess, folder: pathlib.Path, shape: tuple[int, int]) -> np.ndarray:
  if CODEBOOK not in preprocess.files:
    raise InputError(f"{folder}: a model with quantizer.name 'vq' needs {CODEBOOK} among its files")
  try:
    found = np.load(folder / CODEBOOK, allow_pickle=False)
  except (OSError, EOFError, ValueError) as error:
    raise InputError(f"{folder / CODEBOOK} holds no codebook: {error}") from error
  if not isinstance(found, np.ndarray) or found.shape != shape or not np.isfinite(found).all():
    raise InputError(f"{folder / CODEBOOK}: expected finite codes of shape {shape}, got {getattr(found, 'shape', '?')}")
  return found.astype(np.float32)
