"""What a model has to beat: the majority class, chance, and a random forest on hand-made features."""

import numpy as np
from jaxtyping import Float, Int
from sklearn.ensemble import RandomForestClassifier

Labels = Int[np.ndarray, " window"]


def majority(train_labels: Labels, windows: int) -> Labels:
  """The most frequent training class, for every window."""
  return np.full(windows, np.bincount(train_labels[train_labels >= 0]).argmax(), np.int32)


def random_draw(train_labels: Labels, windows: int, *, seed: int) -> Labels:
  """Classes drawn with their training frequencies."""
  known = train_labels[train_labels >= 0]
  return np.random.default_rng(seed).choice(known, windows).astype(np.int32)


def hand_features(x: Float[np.ndarray, "window height time channel"]) -> Float[np.ndarray, "window feature"]:
  """Per channel: mean, std, min, max, quartiles, mean |difference|, and the first 15 FFT magnitudes."""
  flat = x.reshape(len(x), -1, x.shape[-1])  # the rows of a folded window follow each other in time
  quartiles = np.percentile(flat, [25, 50, 75], axis=1)
  spectrum = np.abs(np.fft.rfft(flat - flat.mean(1, keepdims=True), axis=1))[:, 1:16]
  parts = [
    flat.mean(1), flat.std(1), flat.min(1), flat.max(1), *quartiles, np.abs(np.diff(flat, axis=1)).mean(1),
    spectrum.reshape(len(x), -1),
  ]  # fmt: skip
  return np.concatenate(parts, axis=1).astype(np.float32)


def random_forest(
  train: Float[np.ndarray, "window height time channel"],
  labels: Labels,
  test: Float[np.ndarray, "window height time channel"],
  *,
  seed: int,
) -> Labels:
  """Predictions of 300 trees on `hand_features`; it sees the continuous signal, not the codes."""
  forest = RandomForestClassifier(300, random_state=seed, n_jobs=-1)
  known = labels >= 0
  return forest.fit(hand_features(train[known]), labels[known]).predict(hand_features(test)).astype(np.int32)
