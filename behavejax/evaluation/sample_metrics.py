"""How near reconstructions are, and how much like real samples drawn ones are."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import linalg, ndimage
from sklearn.neighbors import NearestNeighbors

_SIGMA, _REACH = 1.5, 5  # of the window of SSIM, in pixels


def psnr(mse: Float[np.ndarray, "*sample"], peak: float) -> Float[np.ndarray, "*sample"]:
  """`10 log10(peak^2 / mse)`, in dB.

  >>> psnr(np.array([1.0, 100.0]), 255.0).round(2).tolist()
  [48.13, 28.13]
  """
  return 10 * np.log10(peak**2 / np.maximum(mse, 1e-12))


def ssim(
  true: Float[np.ndarray, "sample height width channel"],
  other: Float[np.ndarray, "sample height width channel"],
  *,
  peak: float,
) -> Float[np.ndarray, " sample"]:
  """Structural similarity of images (Wang et al. 2004), mean over pixels and channels; 1 for equal ones.

  Means, variances and covariance are taken under a Gaussian window of sd 1.5 pixels, 11 wide, which is cut at the
  border and scaled to sum 1, so that every pixel counts in images of any size.

  Args:
    true: values of one range.
    other: of the same range.
    peak: that the values may span.
  """

  def blurred(x: np.ndarray) -> np.ndarray:
    for axis in (1, 2):
      x = ndimage.correlate1d(x, _WINDOW, axis=axis, mode="constant")
    return x

  x, y = (np.asarray(a, np.float64) for a in (true, other))
  whole = blurred(np.ones((1, *x.shape[1:3], 1)))
  mean_x, mean_y, xx, yy, xy = (blurred(a) / whole for a in (x, y, x * x, y * y, x * y))
  a, b = (0.01 * peak) ** 2, (0.03 * peak) ** 2
  structure = (2 * (xy - mean_x * mean_y) + b) / (xx - mean_x**2 + yy - mean_y**2 + b)
  return np.mean((2 * mean_x * mean_y + a) / (mean_x**2 + mean_y**2 + a) * structure, axis=(1, 2, 3))


_WINDOW = np.exp(-0.5 * (np.arange(-_REACH, _REACH + 1) / _SIGMA) ** 2)


def frechet(real: Float[np.ndarray, "sample feature"], drawn: Float[np.ndarray, "other feature"]) -> float:
  """Fréchet distance of two normal distributions with the samples' means and covariances (Heusel et al. 2017).

  `|m - n|^2 + tr(S + T - 2 (S^(1/2) T S^(1/2))^(1/2))`, in squared units of the features.
  """
  mean = np.sum(np.square(real.mean(0) - drawn.mean(0), dtype=np.float64))
  s, t = (np.atleast_2d(np.cov(a.astype(np.float64), rowvar=False)) for a in (real, drawn))
  values, vectors = linalg.eigh(s)
  root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
  shared = np.sqrt(np.maximum(linalg.eigvalsh(root @ t @ root), 0)).sum()
  return float(mean + np.trace(s) + np.trace(t) - 2 * shared)


class Manifold(NamedTuple):
  """Shares of samples within reach of others (Kynkäänniemi et al. 2019).

  Attributes:
    precision: drawn samples that lie as near to some real one as its k-th real neighbour does.
    recall: real samples that lie so near to drawn ones.
  """

  precision: float
  recall: float


def precision_recall(
  real: Float[np.ndarray, "sample feature"], drawn: Float[np.ndarray, "other feature"], *, neighbours: int
) -> Manifold:
  """Improved precision and recall with balls that reach to the k-th neighbour."""
  return Manifold(_within(real, drawn, neighbours), _within(drawn, real, neighbours))


def _within(centres: np.ndarray, points: np.ndarray, neighbours: int) -> float:
  """Share of the points inside some ball around a centre that reaches to its k-th neighbour among the centres."""
  k = min(neighbours, len(centres) - 1)
  if k < 1:
    return 0.0
  reach = NearestNeighbors(n_neighbors=k + 1).fit(centres).kneighbors(centres)[0][:, -1]
  inside = np.zeros(len(points), bool)
  for start in range(0, len(points), 512):
    part = points[start : start + 512]
    square = np.sum(part**2, 1)[:, None] + np.sum(centres**2, 1)[None] - 2 * part @ centres.T
    inside[start : start + 512] = (square <= reach[None] ** 2 + 1e-9 * np.abs(square)).any(axis=1)
  return float(inside.mean())


class Nearest(NamedTuple):
  """The nearest training sample of each of some others.

  Attributes:
    rows: of the training samples.
    distances: root mean square difference of their values.
  """

  rows: np.ndarray
  distances: Float[np.ndarray, " sample"]


def nearest(train: Float[np.ndarray, "sample *value"], others: Float[np.ndarray, "other *value"]) -> Nearest:
  """By the values themselves."""
  flat, own = (a.reshape(len(a), -1) for a in (train, others))
  distances, rows = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(flat).kneighbors(own)
  return Nearest(rows[:, 0], distances[:, 0] / np.sqrt(flat.shape[1]))


def copies(drawn: Float[np.ndarray, " sample"], held_out: Float[np.ndarray, " sample"]) -> float:
  """Share of the drawn samples that lie nearer to a training sample than all but 1 % of the held-out ones do.

  Near 0.01 where nothing is remembered; more where samples repeat what was learned from.
  """
  return float(np.mean(drawn < np.quantile(held_out, 0.01)))
