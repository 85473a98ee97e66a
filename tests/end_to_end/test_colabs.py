"""The notebooks run from top to bottom."""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

SHOWN = {
  "neural_encoding": ("stream equals clip: True", "achievable"),
  "edge": ("same bits: True", "hailo8: refused", "is not the file that preprocess.json describes"),
  "nd_vqvae": ("powers of two, one for each axis", "tiled equals whole: True", "grid (6, 5)"),
  "geodesic": ("geodesic codes keep to one turn: True", "same codes with and without a memory: True", "dB from latent"),
  "quickstart": ("did you mean 'batch_size'", "macro-F1"),
  "segmentation": ("log evidence", "HDP-HSMM"),
  "staged_training": ("fine-tuning: perplexity", "hdp mixture"),
}
COLABS = pathlib.Path(__file__).parent.parent.parent / "colabs"


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(COLABS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook(path):
  notebook = nbformat.read(path, as_version=4)
  NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(COLABS.parent)}}).execute()
  printed = "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))
  for words in SHOWN[path.stem]:
    assert words in printed
