"""The codebook of a run: the file that holds it, and codes of new vectors by the metric it was built with."""

import pathlib
import zipfile
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from behavejax.config import CodebookConfig
from behavejax.errors import InputError
from behavejax.quantizers import joining
from behavejax.quantizers.geodesic_graph import Decode, Graph
from behavejax.quantizers.joining import Codebook, Joined
from behavejax.workdir import write_arrays


class Built(NamedTuple):
  """What the stage `codebook` leaves behind.

  Attributes:
    book: the codes, and how vectors join them.
    graph: of the training vectors, with the lengths of its edges.
    rows: of the latent vectors that were given, which ones the graph was made of.
  """

  book: Codebook
  graph: Graph
  rows: np.ndarray


def write(path: pathlib.Path, built: Built) -> None:
  """Saves a codebook as `.npz`."""
  book = {f"book/{name}": value for name, value in built.book._asdict().items() if value is not None}
  write_arrays(path, {**book, **{f"graph/{name}": a for name, a in built.graph._asdict().items()}, "rows": built.rows})


def read(path: pathlib.Path) -> Built:
  """The same again; `InputError` where there is none, or a damaged one."""
  if not path.exists():
    raise InputError(f"{path} is missing: run the stage 'codebook' first")
  try:
    with np.load(path, allow_pickle=False) as saved:
      parts = {name: saved[name] for name in saved.files}
    book = Codebook(**{name: parts.get(f"book/{name}") for name in Codebook._fields})
    book = book._replace(neighbours=int(book.neighbours), decoded=bool(book.decoded), longest=float(book.longest))
    return Built(book, Graph(**{name: parts[f"graph/{name}"] for name in Graph._fields}), parts["rows"])
  except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
    raise InputError(f"{path} is damaged: {error}") from error


def codes_of(
  book: Codebook,
  settings: CodebookConfig,
  latents: Float[np.ndarray, "vector dim"],
  *,
  decode: Decode | None = None,
  surroundings: Float[np.ndarray, "vector ..."] | None = None,
) -> Joined:
  """Codes of any vectors by the metric of training, `config.codebook` being `settings`."""
  return joining.join(
    book, latents, decode=decode, surroundings=surroundings, points=settings.line_points, ends=settings.join
  )  # fmt: skip
