"""Receptive fields of an encoder: by the gradient of predictions with respect to the video, and by the readouts."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from behavejax.data.neural_start import centre
from behavejax.data.neural_windows import Clips
from behavejax.evaluation.neural_run import Trained

_CLIPS = 8
_LAGS = 12


class Fields(NamedTuple):
  """Of the neurons of one data set; centres are rows and columns in pixels from the middle of the first one.

  Attributes:
    energy: mean squared gradient of the expected count of a frame, by lag (0 is the frame itself) and pixel.
    gradient_centres: of the energy summed over lags.
    readout_centres: means of the readouts' masks.
  """

  energy: Float[np.ndarray, "neuron lag height width"]
  gradient_centres: Float[np.ndarray, "neuron 2"]
  readout_centres: Float[np.ndarray, "neuron 2"]


def receptive_fields(trained: Trained, number: int) -> Fields:
  """Fields of all neurons of a data set, from an even sample of its test clips."""
  clips = trained.data[number].test
  energy = gradient_energy(trained, number, clips)
  centres = np.stack([centre(own.sum(0)) for own in energy])
  mean = np.asarray(trained.variables["params"][f"readout_{number}"]["mean"], np.float64)
  size = np.array(clips.shape[1:3])
  return Fields(energy, centres, mean * size / 2 + (size - 1) / 2)


def gradient_energy(trained: Trained, number: int, clips: Clips) -> Float[np.ndarray, "neuron lag height width"]:
  """Mean over clips of the squared gradient of the last frame's expected count.

  Squares do not cancel where the sign of the gradient depends on the video, as in a complex cell.
  """
  inside = np.flatnonzero(clips.counted().any(-1)[:, -1])  # whose last frame is not padding
  if len(inside) == 0:
    inside = np.arange(len(clips))
  batch = clips.gather(inside[np.linspace(0, len(inside) - 1, min(_CLIPS, len(inside))).astype(int)])

  @jax.jit
  def forward(variables, video, behaviour):
    rates = functools.partial(trained.model.rates, variables, behaviour=behaviour, data_set=number)
    return jax.vjp(lambda video: rates(video)[:, -1].sum(0), video)

  backward = jax.jit(lambda pull, direction: jnp.square(pull(direction)[0][..., 0]).mean(0)[::-1][:_LAGS])
  total, pull = forward(trained.variables, batch.video, batch.behaviour)
  return np.stack([np.asarray(backward(pull, direction)) for direction in np.eye(len(total), dtype=np.float32)])


def field_metrics(
  fields: Fields, truth: Float[np.ndarray, "neuron 2"] | None, *, near: float = 1.5
) -> dict[str, float]:
  """Distances to the true centres in pixels, by either way, and of both ways to each other."""
  apart = np.linalg.norm(fields.gradient_centres - fields.readout_centres, axis=1)
  values = {"fields/apart_pixels": float(np.median(apart))}
  if truth is None or not np.isfinite(truth).all():
    return values
  for name, centres in (("gradient", fields.gradient_centres), ("readout", fields.readout_centres)):
    error = np.linalg.norm(centres - truth, axis=1)
    values[f"fields/{name}/error_pixels"] = float(np.median(error))
    values[f"fields/{name}/within_{near:g}"] = float(np.mean(error <= near))
  return values
