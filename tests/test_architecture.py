"""The rooms: imports only go down, no cycles, no large files, launchers are thin."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
ALLOWED = {
  "data": set(),
  "nets": set(),
  "quantizers": set(),
  "segmentation": set(),
  "models": {"nets", "quantizers", "segmentation"},
  "evaluation": {"data", "models", "nets", "quantizers", "segmentation"},
  "export": {"data", "evaluation", "models", "nets", "quantizers", "segmentation"},
  "training": {"data", "evaluation", "export", "models", "nets", "quantizers", "segmentation"},
}
"""Room -> rooms it may import. Training uses the metrics of `evaluation` and fine-tunes the graph of `export`; never
the other way round."""

FILES = sorted(ROOT.glob("behavejax/**/*.py"))


def imports(path):
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
      found |= {f"{node.module}.{alias.name}" for alias in node.names}
  return found


def room(name):
  parts = name.split(".")
  return parts[1] if len(parts) > 1 and parts[0] == "behavejax" and parts[1] in ALLOWED else None


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
  own = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
  used = {room(name) for name in imports(path)} - {None, own}
  if own is None:
    assert not used, f"top-level modules stand below every room, {path.name} imports {used}"
  else:
    assert used <= ALLOWED[own]


def test_data_is_numpy_and_quantizers_know_no_flax():
  for path in FILES:
    names = {name.split(".")[0] for name in imports(path)}
    if path.parent.name == "data":
      assert not names & {"jax", "flax", "optax"}, path
    if path.parent.name in ("quantizers", "segmentation"):
      assert not names & {"flax", "optax", "orbax"}, path


def test_pmap_stands_in_one_file():
  users = [path.name for path in FILES if "jax.pmap(" in path.read_text()]
  assert users == ["parallel.py"]


def test_files_have_one_subject_and_launchers_are_thin():
  for path in FILES:
    assert len(path.read_text().splitlines()) <= 450, path
    assert path.stem not in ("utils", "util", "helpers", "misc")
  for path in ROOT.glob("launch/*.py"):
    assert len(path.read_text().splitlines()) < 100, path


def test_nothing_is_unpickled_or_evaluated():
  for path in [*FILES, *ROOT.glob("launch/*.py")]:
    text = path.read_text()
    assert "allow_pickle=True" not in text
    calls = {n.func.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert not calls & {"eval", "exec"}, path
    assert "import pickle" not in text


def test_every_module_has_its_test():
  tested = "\n".join(path.read_text() for path in ROOT.glob("tests/**/*.py"))
  for path in FILES:
    if path.stem != "__init__":
      assert path.stem in tested, f"no test mentions {path.relative_to(ROOT)}"
