"""The prior of a run, and codes drawn from it."""

import jax
import numpy as np
from jaxtyping import Int

from behavejax.config import Config
from behavejax.data.samples import Samples
from behavejax.evaluation.latents import as_samples, read_codes
from behavejax.models.code_prior import CodePrior, keys_of, make_prior
from behavejax.types import Variables
from behavejax.workdir import Workdir


def build_prior(config: Config, codes: Samples) -> CodePrior:
  """The model for grids of codes like these."""
  return make_prior(config.prior, grid=codes.shape, num_codes=config.codebook.codes, classes=len(codes.classes))


def restore_prior(workdir: Workdir, config: Config, samples: Samples) -> tuple[CodePrior, Variables]:
  """The trained prior of a run.

  Args:
    workdir: of the run.
    config: of the run.
    samples: of the training split.
  """
  own = as_samples(read_codes(workdir)["train"], samples)
  model = build_prior(config, own)
  like = jax.eval_shape(model.init, jax.random.key(0), own.gather(np.arange(1)))
  return model, workdir.read_result("prior", {"batch_stats": {}, **like})


def draw_codes(
  prior: CodePrior,
  variables: Variables,
  labels: Int[np.ndarray, " sample"],
  config: Config,
  *,
  seed: int,
  temperature: float | None = None,
) -> Int[np.ndarray, "sample *grid"]:
  """A grid for every label, in batches of one shape; the i-th depends on the seed, its label and i alone."""
  warmth = config.prior.temperature if temperature is None else temperature
  sample, keys = jax.jit(prior.sample), keys_of(seed, len(labels))
  size, parts = min(config.generate.batch_size, len(labels)), []
  for start in range(0, len(labels), size):
    rows = np.minimum(np.arange(start, start + size), len(labels) - 1)
    parts.append(np.asarray(sample(variables, keys[rows], labels[rows], warmth)))
  return np.concatenate(parts)[: len(labels)]
