"""Building a codebook, phase by phase, each saved: graph, lengths of its edges, restarts of k-medoids."""

import pathlib
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from behavejax.config import Config
from behavejax.quantizers.geodesic_graph import Decode


def fit(
  config: Config,
  latents: Float[np.ndarray, "vector dim"],
  folder: pathlib.Path,
  metrics_file: pathlib.Path,
  *,
  stage: str,
  decode: Decode | None = None,
  surroundings: Any = None,
) -> Float[Array, "code dim"]:
  """Builds the codebook of `config.codebook` from what an interrupted build left in `folder`, or from the start.

  Beside the codes, which are returned, `folder/codebook.npz` holds the graph and what joins new vectors to it:
  `behavejax.evaluation.codebooks.read`.

  Args:
    config: of the run; `codebook` and `seed` are used.
    latents: posterior means of the training split; `codebook.vectors` of them are drawn.
    folder: of the stage.
    metrics_file: of the run.
    stage: its name.
    decode: of one latent vector; needed where `codebook.metric` is "decoder".
    surroundings: an array (or a tree of them) with a row for each vector, given to `decode`.

  Raises:
    Stopped: SIGTERM arrived; repeating the call continues.
    InputError: fewer different vectors than codes, or one that is not finite; a decoder that is not.
  """
  raise NotImplementedError
