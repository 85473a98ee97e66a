"""Indices of codes, as the library numbers them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.evaluation.tokens import digits_of
from behavejax.export.codes import Indexer
from behavejax.quantizers import fsq
from tests.export import packages


@pytest.mark.parametrize("symmetric", [False, True])
def test_indices_of_coarse_codes(symmetric):
  """Codes off the grid go to the nearest level and never beyond the codebook."""
  p = packages.preprocess(levels=(8, 5, 3))
  p = dataclasses.replace(p, quantizer=dataclasses.replace(p.quantizer, symmetric=symmetric))
  shape = p.model.outputs["codes"]
  indices = np.random.default_rng(0).integers(0, 120, shape[:3])
  codes = np.asarray(fsq.indices_to_codes(jnp.asarray(indices), levels=(8, 5, 3), symmetric=symmetric))
  found = Indexer(p, None)(codes + np.random.default_rng(1).uniform(-0.05, 0.05, shape).astype(np.float32))
  np.testing.assert_array_equal(found.indices, indices[0])
  np.testing.assert_array_equal(found.digits, digits_of(indices.ravel(), (8, 5, 3)))
  assert Indexer(p, None)(np.full(shape, 2.0, np.float32)).indices.max() == 119
