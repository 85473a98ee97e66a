"""What reconstructions are measured by, and simpler codes of the same size to compare them with."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import ndimage

LARGEST = 4096  # values of a sample up to which principal components are computed
_WINDOW = 7  # pixels
_ROUNDS = 8  # of Lloyd's iterations


class Components(NamedTuple):
  """Principal components of training samples.

  Attributes:
    mean: of the samples.
    axes: one per row, the largest variance first.
    variances: along them.
  """

  mean: Float[np.ndarray, " value"]
  axes: Float[np.ndarray, "component value"]
  variances: Float[np.ndarray, " component"]


def principal_components(samples: Float[np.ndarray, "sample value"]) -> Components:
  """All components along which the samples vary, in float64: small variances stand beside large ones."""
  samples = samples.astype(np.float64)
  mean = samples.mean(axis=0)
  _, spread, axes = np.linalg.svd(samples - mean, full_matrices=False)
  return Components(mean, axes, spread**2 / len(samples))


def by_numbers(components: Components, samples: Float[np.ndarray, "sample value"], count: int) -> float:
  """Mean squared error of the projection on the first `count` components: a code of as many real numbers."""
  axes = components.axes[:count]
  centred = samples - components.mean
  return float(np.mean(np.square(centred - centred @ axes.T @ axes)))


def by_bits(
  components: Components,
  train: Float[np.ndarray, "sample value"],
  samples: Float[np.ndarray, "sample value"],
  bits: int,
) -> float:
  """Mean squared error of transform coding: every component rounded to levels, `bits` in all.

  Each bit goes where it lowers the error most, as if it cut that of its component to a quarter; levels are fitted to
  the training samples (Lloyd 1982).
  """
  given = allocate(components.variances, bits)
  used = np.flatnonzero(given)
  axes = components.axes[used]
  seen, wanted = ((x - components.mean) @ axes.T for x in (train, samples))
  rounded = np.stack(
    [_nearest(wanted[:, i], _levels(seen[:, i], 2 ** given[k])) for i, k in enumerate(used)], axis=1
  ) if len(used) else np.zeros((len(samples), 0), samples.dtype)  # fmt: skip
  return float(np.mean(np.square(samples - components.mean - rounded @ axes)))


def allocate(variances: Float[np.ndarray, " component"], bits: int) -> np.ndarray:
  """Bits for each component, one after the other to the one with the largest error that is left.

  >>> allocate(np.array([16.0, 2.0, 0.1]), 3).tolist()
  [2, 1, 0]
  """
  left, given = variances.astype(float).copy(), np.zeros(len(variances), int)
  for _ in range(bits):
    place = int(left.argmax())
    given[place] += 1
    left[place] /= 4
  return given


def _levels(values: Float[np.ndarray, " sample"], count: int) -> Float[np.ndarray, " level"]:
  count = min(count, len(values))
  levels = np.quantile(values, (np.arange(count) + 0.5) / count)
  for _ in range(_ROUNDS):
    place = np.searchsorted((levels[1:] + levels[:-1]) / 2, values)
    total, used = np.bincount(place, values, minlength=count), np.bincount(place, minlength=count)
    levels = np.where(used > 0, total / np.maximum(used, 1), levels)
  return np.sort(levels)


def _nearest(values: Float[np.ndarray, " sample"], levels: Float[np.ndarray, " level"]):
  return levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, values)]


def psnr(mse: float, peak: float) -> float:
  """Peak signal-to-noise ratio in dB.

  >>> round(psnr(0.01, 1.0), 6)
  20.0
  """
  return float(10 * np.log10(peak**2 / max(mse, 1e-30)))


def ssim(
  a: Float[np.ndarray, "*count height width channel"], b: Float[np.ndarray, "*count height width channel"], peak: float
) -> Float[np.ndarray, "*count"]:
  """Structural similarity of pictures, 1 for equal ones (Wang et al. 2004), mean over channels.

  Statistics are of squares of 7 pixels, smaller where a picture is, that lie inside the picture.

  Args:
    a: pictures.
    b: the others.
    peak: what values may span.
  """
  size = min(_WINDOW, *a.shape[-3:-1])
  count, first = size * size, (1 / 100 * peak) ** 2
  second = 9 * first

  def local(x: np.ndarray) -> np.ndarray:
    mean = ndimage.uniform_filter(x, size=(1,) * (x.ndim - 3) + (size, size, 1), mode="nearest")
    before, after = size // 2, size - 1 - size // 2
    inner = (slice(before, x.shape[-3] - after), slice(before, x.shape[-2] - after))
    return mean[(..., *inner, slice(None))]

  a, b = a.astype(np.float64), b.astype(np.float64)
  mean_a, mean_b = local(a), local(b)
  unbiased = count / max(count - 1, 1)
  var_a, var_b = (unbiased * (local(x * x) - m * m) for x, m in ((a, mean_a), (b, mean_b)))
  both = unbiased * (local(a * b) - mean_a * mean_b)
  similar = (2 * mean_a * mean_b + first) * (2 * both + second)
  return np.mean(similar / ((mean_a**2 + mean_b**2 + first) * (var_a + var_b + second)), axis=(-3, -2, -1))
