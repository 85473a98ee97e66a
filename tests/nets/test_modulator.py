"""The modulator beside a GRU written in PyTorch; it begins as the identity and looks back only."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.nets.modulator import Modulator
from tests.nets.weights import drawn


@pytest.fixture(scope="module")
def setup():
  rng = np.random.default_rng(0)
  features, behaviour = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 6, 3, 4, 5), (2, 6, 3)))
  module = Modulator(4)
  variables = drawn(jax.eval_shape(module.init, jax.random.key(2), features, behaviour))
  return jax.jit(module.apply), variables, features, behaviour


def test_begins_as_the_identity(setup):
  _, _, features, behaviour = setup
  found, _ = jax.jit(Modulator(4).init_with_output)(jax.random.key(0), features, behaviour)
  np.testing.assert_array_equal(found[0], features)


def test_equals_its_reference(setup):
  pytest.importorskip("torch", reason="PyTorch, which the nets are compared with, is not installed")
  references = importlib.import_module("tests.nets.references")
  apply, variables, features, behaviour = setup
  found, _ = apply(variables, features, behaviour)
  np.testing.assert_allclose(found, references.modulator(variables["params"], features, behaviour), atol=1e-5)
  assert np.abs(found - features).max() > 0.1


def test_goes_on_from_a_state_and_unrolls(setup):
  apply, variables, features, behaviour = setup
  whole, last = apply(variables, features, behaviour)
  first, state = apply(variables, features[:, :2], behaviour[:, :2])
  rest, end = apply(variables, features[:, 2:], behaviour[:, 2:], state)
  np.testing.assert_allclose(jnp.concatenate([first, rest], axis=1), whole, atol=1e-6)
  np.testing.assert_allclose(end, last, atol=1e-6)
  unrolled, _ = jax.jit(Modulator(4, unroll=6).apply)(variables, features, behaviour)
  np.testing.assert_allclose(unrolled, whole, atol=1e-6)


def test_later_behaviour_changes_nothing_to_the_bit(setup):
  apply, variables, features, behaviour = setup
  later = behaviour + (np.arange(6) >= 4)[:, None]
  changed = apply(variables, features, later.astype(np.float32))[0]
  base = apply(variables, features, behaviour)[0]
  np.testing.assert_array_equal(changed[:, :4], base[:, :4])
  assert np.abs(changed[:, 4:] - base[:, 4:]).max() > 1e-3
