"""The file of a codebook: the same again, and one line for a missing or damaged one."""

import jax
import numpy as np
import pytest

from behavejax.config import CodebookConfig
from behavejax.errors import InputError
from behavejax.evaluation import codebooks
from behavejax.quantizers import geodesic, joining
from behavejax.quantizers.geodesic_graph import adjacency, neighbour_graph

LATENTS = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)


@pytest.mark.parametrize("seen", [False, True])
def test_what_is_written_is_read(tmp_path, seen):
  around = np.random.default_rng(1).normal(size=(60, 3, 2)).astype(np.float32) if seen else None
  graph = neighbour_graph(LATENTS, neighbours=4)
  clusters = geodesic.cluster(adjacency(graph), graph.weights, codes=5, seed=0)
  book = joining.on_graph(graph, clusters, neighbours=4, decoded=False, surroundings=around)
  built = codebooks.Built(book, graph, np.arange(60))
  codebooks.write(tmp_path / "codebook.npz", built)
  found = codebooks.read(tmp_path / "codebook.npz")
  assert jax.tree.structure(found) == jax.tree.structure(built)
  jax.tree.map(np.testing.assert_array_equal, found, built)
  assert [path.name for path in tmp_path.iterdir()] == ["codebook.npz"]
  expected = joining.join(book, LATENTS + 0.1)
  jax.tree.map(np.testing.assert_array_equal, codebooks.codes_of(found.book, CodebookConfig(), LATENTS + 0.1), expected)


def test_missing_and_damaged_files_are_named(tmp_path):
  file = tmp_path / "codebook.npz"
  with pytest.raises(InputError, match=r"codebook.npz is missing: run the stage 'codebook' first"):
    codebooks.read(file)
  for content in (b"", b"PK\x03\x04 cut", b"not a zip"):
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"codebook.npz is damaged"):
      codebooks.read(file)
  np.savez(file, rows=np.arange(3))
  with pytest.raises(InputError, match=r"codebook.npz is damaged"):
    codebooks.read(file)
