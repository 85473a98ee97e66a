"""A finished autoencoder of samples: its model, its data, and what it says about a split."""

import dataclasses
import math

import jax
import numpy as np
from jaxtyping import Float, Int, Shaped

from behavejax.config import Config, QuantizerConfig
from behavejax.data.batches import eval_batches
from behavejax.data.prepare_samples import PreparedSamples, prepare_samples
from behavejax.data.samples import Samples
from behavejax.models.vqvae import Vqvae, make_vqvae
from behavejax.types import Variables
from behavejax.workdir import Workdir

STAGE = "vqvae"


@dataclasses.dataclass(frozen=True)
class Coded:
  """A split as the model sees it.

  Attributes:
    error: mean squared error per sample and channel, normalised units.
    tokens: of every sample.
  """

  error: Float[np.ndarray, "sample channel"]
  tokens: Int[np.ndarray, "sample *grid"]


def restore(workdir: Workdir, config: Config) -> tuple[Vqvae, Variables, PreparedSamples]:
  """The trained autoencoder of a run, with the data it was made for.

  Raises:
    InputError: the stage is not complete, or the data are gone.
  """
  data = prepare_samples(config, config.seed)
  model = make_vqvae(config, shape=data.train.shape, classes=len(data.train.classes))
  like = jax.eval_shape(model.init, jax.random.key(0), data.train.gather(np.arange(1)))
  return model, workdir.read_result(STAGE, like), data


def code(model: Vqvae, variables: Variables, samples: Samples, config: Config) -> Coded:
  """Runs the model over all samples, in order, in batches of one compiled shape."""

  @jax.jit
  def apply(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    outputs = model.apply(variables, x)
    square = jax.numpy.square(outputs.reconstruction - x)
    return jax.numpy.mean(square, axis=tuple(range(1, square.ndim - 1))), outputs.tokens

  size = min(config.evaluation.batch_size, len(samples))
  parts = [jax.tree.map(np.asarray, apply(batch.x)) for batch in eval_batches(samples, batch_size=size)]
  error, tokens = (np.concatenate(part)[: len(samples)] for part in zip(*parts, strict=True))
  return Coded(error, tokens)


def codebook_counts(counts: Shaped[np.ndarray, " token"], config: QuantizerConfig) -> list[Shaped[np.ndarray, " code"]]:
  """How often each code of each codebook occurs: one, or one for every stage of every group.

  Args:
    counts: of each token.
    config: of the quantizer.

  >>> counts = np.zeros(9)
  >>> counts[[1, 7]] = 5, 2  # digits (1, 0) and (1, 2), the first fastest
  >>> codebook_counts(counts, QuantizerConfig(name="vq", num_codes=3, groups=2))
  [array([0., 7., 0.]), array([5., 0., 2.])]
  """
  size = math.prod(config.levels) if config.name == "fsq" else config.num_codes
  parts = config.stages * config.groups
  grid = counts.reshape((size,) * parts)
  return [grid.sum(axis=tuple(i for i in range(parts) if i != place)) for place in reversed(range(parts))]
