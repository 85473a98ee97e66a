"""Images: scikit-learn's digits, IDX files, CIFAR-10 batches, folders."""

import numpy as np
from sklearn.datasets import load_digits

from behavejax.data.samples import Loaded


def read_digits() -> Loaded:
  """The 1 797 digits of 8 x 8 pixels that come with scikit-learn, sixteenths as bytes."""
  digits = load_digits()
  count = len(digits.target)
  return Loaded(
    steps=np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None],
    bounds=np.arange(count + 1),
    names=tuple(f"digit{i:04d}" for i in range(count)),
    labels=digits.target.astype(np.int32),
    classes=tuple(str(i) for i in range(10)),
    split=np.full(count, -1),
  )
