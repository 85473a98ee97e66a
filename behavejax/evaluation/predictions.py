"""What a model said about every window of a split, and the file that keeps it."""

import dataclasses
import os
import pathlib

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclasses.dataclass(frozen=True)
class Predictions:
  """One split, in the order of its windows.

  Attributes:
    logits: class scores.
    labels: truth, -1 where unlabelled.
    tokens: code indices.
    embedding: pooled features of the codes.
    reconstruction_error: mean squared error per window, normalised units.
    subject: index of the subject within the split.
    recording: index of the recording within the split.
    time_s: start of the window within its recording.
    channel_error: mean squared error per window and column of the signal; None where it was not kept.
    probabilities: of the classes, calibrated on the validation split; None where that has no labels.
    label_sets: the classes that a set with the coverage of `config.evaluation.coverage` holds; None as above.
  """

  logits: Float[np.ndarray, "window class"]
  labels: Int[np.ndarray, " window"]
  tokens: Int[np.ndarray, "window row token"]
  embedding: Float[np.ndarray, "window feature"]
  reconstruction_error: Float[np.ndarray, " window"]
  subject: Int[np.ndarray, " window"]
  recording: Int[np.ndarray, " window"]
  time_s: Float[np.ndarray, " window"]
  channel_error: Float[np.ndarray, "window channel"] | None = None
  probabilities: Float[np.ndarray, "window class"] | None = None
  label_sets: Bool[np.ndarray, "window class"] | None = None

  @property
  def predicted(self) -> Int[np.ndarray, " window"]:
    """The most probable class of each window."""
    return self.logits.argmax(-1).astype(np.int32)


def save_predictions(path: pathlib.Path, splits: dict[str, Predictions]) -> None:
  """Writes all splits to one `.npz`, arrays named `split/field`; what is None is left out."""
  arrays = {
    f"{split}/{name}": value for split, p in splits.items() for name, value in vars(p).items() if value is not None
  }
  temporary = path.with_name(f".{path.name}.tmp")
  with temporary.open("wb") as file:
    np.savez_compressed(file, **arrays)
  os.replace(temporary, path)


def load_predictions(path: pathlib.Path) -> dict[str, Predictions]:
  """Reads what `save_predictions` wrote."""
  with np.load(path, allow_pickle=False) as arrays:
    splits = dict.fromkeys(name.split("/")[0] for name in arrays.files)
    fields = [field.name for field in dataclasses.fields(Predictions)]
    return {
      split: Predictions(**{name: arrays[f"{split}/{name}"] for name in fields if f"{split}/{name}" in arrays.files})
      for split in splits
    }
