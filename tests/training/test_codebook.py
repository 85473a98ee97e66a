"""Building codebooks: every method, a build that is killed anywhere goes on to the same bits, clear refusals."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax import config as config_lib
from behavejax.config import CodebookConfig, Config
from behavejax.errors import InputError
from behavejax.evaluation import codebooks
from behavejax.quantizers import geodesic, joining
from behavejax.quantizers.geodesic_graph import adjacency
from behavejax.training import codebook
from behavejax.training.loop import Stopped
from behavejax.workdir import read_metrics
from tests.export.runs import ROOT

SETTINGS = CodebookConfig(codes=8, vectors=300, neighbours=6, restarts=2)
LATENTS = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)


def decode(z, around):
  return jnp.tanh(z @ WEIGHTS)


def around_too(z, around):
  return jnp.tanh(z @ WEIGHTS + around)


def build(folder, settings=SETTINGS, latents=LATENTS, *, stopping=lambda: False, told=None, decode=decode, **given):
  tell = (lambda step, values: told.append((step, values))) if told is not None else (lambda step, values: None)
  return codebook.build(settings, latents, codebook.Pace(folder, stopping, tell), seed=3, decode=decode, **given)


def test_settings_out_of_range_are_named():
  """`config_codebook` checks them."""
  for name, value in (("codes", 0), ("restarts", 0), ("neighbours", 0), ("line_points", 1), ("graph", "both")):
    with pytest.raises(InputError, match=f"config.codebook.{name} must be"):
      config_lib.resolve({"codebook": {name: value}})


@pytest.mark.parametrize("method", ["geodesic", "euclidean", "kmeans"])
@pytest.mark.parametrize("metric", ["decoder", "euclidean"])
def test_every_method_gives_codes_and_is_judged_in_both_metrics(tmp_path, method, metric):
  settings = dataclasses.replace(SETTINGS, method=method, metric=metric)
  surroundings = np.random.default_rng(2).normal(size=(400, 6)).astype(np.float32)
  built, found = build(tmp_path, settings, decode=around_too, surroundings=surroundings)
  book, graph = built.book, built.graph
  assert book.vectors.shape == (8, 3)
  assert found.sizes.sum() == 300
  assert (found.dead, found.usage) == (0, 1.0)
  assert 1 < found.perplexity <= 8
  vectors = LATENTS[built.rows]
  joined = joining.join(book, vectors, decode=around_too, surroundings=surroundings[built.rows])
  away = np.sum((vectors - book.vectors[joined.codes]) ** 2, axis=1)
  np.testing.assert_allclose(found.squared_error, away.mean(), rtol=1e-5)
  assert found.squared_distance > (0 if metric == "decoder" else found.squared_error)
  if method != "kmeans":
    assert {tuple(v) for v in book.vectors} <= {tuple(v) for v in vectors}
  if method == "geodesic":
    clusters = geodesic.cluster(adjacency(graph), graph.weights, codes=8, seed=3, restarts=2)
    np.testing.assert_array_equal(book.vectors, graph.latents[clusters.medoids])


def test_each_method_is_best_by_its_own_measure(tmp_path):
  found = {
    method: build(tmp_path / method, dataclasses.replace(SETTINGS, method=method, restarts=10))[1]
    for method in ("geodesic", "euclidean", "kmeans")
  }
  assert min(found, key=lambda name: found[name].squared_distance) == "geodesic"
  assert min(found, key=lambda name: found[name].squared_error) == "kmeans"


def test_a_build_that_is_stopped_anywhere_ends_with_the_same_bits(tmp_path, monkeypatch):
  monkeypatch.setattr(codebook, "_SAVE_EVERY", 1)
  lengths = codebook.geodesic_graph.decoder_lengths
  monkeypatch.setattr(
    codebook.geodesic_graph, "decoder_lengths", lambda *given, points: lengths(*given, points=points, chunk=256)
  )
  told = []
  whole = build(tmp_path / "whole", told=told)
  assert [step for step, _ in told] == list(range(1, len(told) + 1))
  by_restart = [[v["squared_distance"] for _, v in told if v["restart"] == i] for i in (0, 1)]
  assert all((np.diff(values) <= 0).all() for values in by_restart)
  times, again = 0, []
  while True:
    asked = iter([False, True])  # one piece of work, then stop
    try:
      found = build(tmp_path / "parts", told=again, stopping=lambda asked=asked: next(asked, True))
      break
    except Stopped:
      times += 1
  assert times > len(told) // 2
  assert dict(again) == dict(told)
  jax.tree.map(np.testing.assert_array_equal, found, whole)


KILLED = """
import os, pathlib, signal, sys
import numpy as np
from behavejax.config import CodebookConfig
from behavejax.training import codebook

def tell(step, values):
  if step == 4:
    os.kill(os.getpid(), signal.SIGKILL)

latents = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
settings = CodebookConfig(codes=8, vectors=300, neighbours=6, restarts=2, metric="euclidean")
codebook.build(settings, latents, codebook.Pace(pathlib.Path(sys.argv[1]), tell=tell), seed=3)
"""


def test_a_killed_build_goes_on(tmp_path):
  answer = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "killed")], cwd=ROOT, timeout=100)
  assert answer.returncode == -9
  assert {path.name for path in (tmp_path / "killed").iterdir()} == {"graph.npz", "search.npz"}
  settings, told = dataclasses.replace(SETTINGS, metric="euclidean"), []
  found = build(tmp_path / "killed", settings, told=told)
  assert told[0][0] == 4
  jax.tree.map(np.testing.assert_array_equal, found, build(tmp_path / "whole", settings))


def test_fit_writes_the_codebook_and_its_trace(tmp_path, capsys):
  config = Config(codebook=SETTINGS, seed=3)
  (tmp_path / "stage").mkdir()
  static = {"stage": "codebook", "decode": decode}
  codes = codebook.fit(config, LATENTS, tmp_path / "stage", tmp_path / "metrics.jsonl", **static)
  built = codebooks.read(tmp_path / "stage" / "codebook.npz")
  np.testing.assert_array_equal(codes, built.book.vectors)
  rows = read_metrics(tmp_path / "metrics.jsonl")
  assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
  assert {"codebook/squared_distance", "codebook/restart", "codebook/open"} <= set(rows[0])
  assert "codebook: 8 codes, perplexity" in capsys.readouterr().out
  codebook.fit(config, LATENTS, tmp_path / "stage", tmp_path / "metrics.jsonl", **static)
  assert read_metrics(tmp_path / "metrics.jsonl") == rows
  with pytest.raises(InputError, match="built from other latent vectors"):
    codebook.fit(config, LATENTS + 1, tmp_path / "stage", tmp_path / "metrics.jsonl", **static)


def test_what_cannot_be_built_is_refused(tmp_path):
  with pytest.raises(InputError, match="8 codes need as many different vectors, the graph has 5"):
    build(tmp_path / "few", latents=LATENTS[:5])
  with pytest.raises(InputError, match="8 codes need as many different vectors, there are 5"):
    build(tmp_path / "few straight", dataclasses.replace(SETTINGS, method="kmeans"), LATENTS[:5])
  broken = LATENTS.copy()
  broken[:] = np.nan
  with pytest.raises(InputError, match="latent vector 0 is not finite"):
    build(tmp_path / "broken", latents=broken)
  with pytest.raises(InputError, match=r"the length (inf|nan): it diverges"):
    build(tmp_path / "diverging", decode=lambda z, around: jnp.exp(1e4 * z))
  one, found = build(tmp_path / "one", dataclasses.replace(SETTINGS, codes=1), LATENTS[:1])
  np.testing.assert_array_equal(one.book.vectors, LATENTS[:1])
  assert (found.squared_distance, found.perplexity) == (0.0, 1.0)


def test_summary_warns_of_a_graph_in_pieces(tmp_path):
  apart = np.concatenate([LATENTS[:150], LATENTS[150:300] + 40])
  built, found = build(tmp_path, latents=apart)
  assert "only 50% of the vectors are connected: raise config.codebook.neighbours" in codebook.summary(built, found)[-1]
  assert found.sizes.sum() == 300
  rows = codebook.draw_rows(1000, 300, 0)
  assert (np.diff(rows) > 0).all()
  np.testing.assert_array_equal(codebook.draw_rows(7, 0, 0), np.arange(7))
