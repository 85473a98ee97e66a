"""Files of latent vectors and codes; vectors that join a graph by the metric of its nodes alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.config import CodebookConfig
from behavejax.errors import InputError
from behavejax.evaluation.latents import Latents, read_arrays, read_latents, save_latents
from behavejax.quantizers import joining
from behavejax.training import codebook
from behavejax.workdir import Workdir


def curved(z, around):
  return jnp.stack([z[0] ** 2 + around.sum(), jnp.sin(z[1]), z[0] * z[1]])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
  rng = np.random.default_rng(0)
  latents, around = (rng.normal(size=(60, 2)).astype(np.float32) for _ in range(2))
  settings = CodebookConfig(codes=5, neighbours=4, restarts=1, join="node")
  pace = codebook.Pace(tmp_path_factory.mktemp("codebook"))
  return codebook.build(settings, latents, pace, seed=0, decode=curved, surroundings=around)[0].book


def test_ways_are_those_of_the_nodes_alone(built):
  new = np.random.default_rng(1).normal(size=(7, 2)).astype(np.float32)
  found = joining.join(built, new, decode=curved, ends="node")
  jacobian = jax.jacfwd(curved)
  for i, z in enumerate(new):
    near = np.argsort(((built.latents - z) ** 2).sum(1))[:4]
    ways = []
    for node in near:
      moved = jacobian(jnp.asarray(built.latents[node]), jnp.asarray(built.surroundings[node])) @ (
        z - built.latents[node]
      )
      ways.append(np.linalg.norm(moved) + built.distances[node])
    best = int(np.argmin(ways))
    np.testing.assert_allclose(found.distances[i], ways[best], rtol=1e-4)
    assert found.codes[i] == built.codes[near[best]]


def test_a_node_has_its_own_code(built):
  found = joining.join(built, built.latents, decode=curved, ends="node")
  np.testing.assert_array_equal(found.codes, built.codes)
  np.testing.assert_allclose(found.distances, built.distances)


def test_latents_come_back(tmp_path):
  rng = np.random.default_rng(0)
  parts = {
    name: Latents(*rng.normal(size=(3, 4, 2, 2, 5)).astype(np.float32)) for name in ("train", "val", "test")
  }  # fmt: skip
  workdir = Workdir(tmp_path)
  workdir.stage("vae").mkdir(parents=True)
  save_latents(workdir, parts)
  for name, own in read_latents(workdir).items():
    for field, array in own._asdict().items():
      np.testing.assert_array_equal(array, getattr(parts[name], field))
  path = workdir.stage("vae") / "latents.npz"
  path.write_bytes(path.read_bytes()[:100])
  with pytest.raises(InputError, match=r"latents.npz is missing or damaged: run its stage again"):
    read_arrays(path)
  with pytest.raises(InputError, match=r"is missing or damaged"):
    read_arrays(tmp_path / "gone.npz")
