"""The NumPy filter against the one of the library, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from behavejax.errors import InputError
from behavejax.export.online import OnlineHSMM
from behavejax.segmentation import decode
from behavejax.segmentation.model import HSMM

filter_sequence = jax.jit(decode.filter_sequence)


def random_arrays(seed, *, states=5, longest=20, levels=(8, 6, 5), first=False, impossible=0.0):
  """Logs of random probabilities; `impossible` is the share of them that is -inf."""
  rng = np.random.default_rng(seed)

  def logs(*shape):
    weights = rng.gamma(0.5, size=shape) * (rng.random(shape) >= impossible)
    weights[..., 0] += weights.sum(-1) == 0
    with np.errstate(divide="ignore"):
      return np.log(weights / weights.sum(-1, keepdims=True)).astype(np.float32)

  arrays = {
    "log_initial": logs(states),
    "log_transitions": logs(states, states),
    "log_durations": logs(states, longest),
    "temperature": np.float64(rng.uniform(1, 3)),
    "rate_hz": np.float64(12.5),
    "steps_per_window": np.int64(1),
  }
  if first:
    arrays["log_first_durations"] = logs(states, longest)
  for i, count in enumerate(levels):
    arrays[f"log_emission_{i}"] = logs(states, count)
  return arrays, rng


def batch(arrays, digits):
  """Answers of the library for a whole sequence; codes `[step, code, digit]` of a step count together."""
  codes = digits.reshape(len(digits), -1, digits.shape[-1])
  emissions = [arrays[f"log_emission_{i}"] for i in range(codes.shape[2])]
  return filtered(arrays, sum(e[:, codes[:, :, i]].sum(axis=2).T for i, e in enumerate(emissions)))


def filtered(arrays, values):
  """The same from log likelihoods `[step, state]` that are not tempered yet."""
  first = arrays.get("log_first_durations")
  model = HSMM(*(jnp.asarray(arrays[f"log_{name}"]) for name in ("initial", "transitions", "durations")), first)
  return filter_sequence(model, jnp.asarray(values / np.float32(arrays["temperature"]), jnp.float32))


def online(arrays, digits):
  model = OnlineHSMM(arrays)
  carried, steps = model.start(), []
  for row in digits:
    carried, step = model.step(carried, np.atleast_2d(row))
    steps.append(step)
  return carried, steps


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("impossible", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_library(seed, impossible, first):
  arrays, rng = random_arrays(seed, first=first, impossible=impossible)
  digits = np.stack([rng.integers(0, n, 150) for n in (8, 6, 5)], axis=1)
  carried, answers = batch(arrays, digits)
  last, steps = online(arrays, digits)
  np.testing.assert_allclose([s.state_probs for s in steps], answers.state_probs, atol=1e-5)
  np.testing.assert_allclose([s.remaining for s in steps], answers.remaining, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(last.log_message, carried.log_message, rtol=1e-4, atol=2e-4)
  np.testing.assert_allclose(last.log_likelihood, carried.log_likelihood, rtol=1e-4)


def test_codes_of_a_step_count_together():
  arrays, rng = random_arrays(9)
  digits = np.stack([rng.integers(0, n, (40, 6)) for n in (8, 6, 5)], axis=2)
  carried, answers = batch(arrays, digits)
  last, steps = online(arrays, digits)
  np.testing.assert_allclose([step.state_probs for step in steps], answers.state_probs, atol=1e-5)
  np.testing.assert_allclose(last.log_likelihood, carried.log_likelihood, rtol=1e-5)
  edges = OnlineHSMM({**arrays, "steps_per_window": np.int64(3)}).edges(10)
  np.testing.assert_array_equal(edges, [0, 3, 6, 10])


def test_long_run_of_one_digit():
  arrays, rng = random_arrays(7, states=3, longest=60, levels=(16,))
  digits = rng.integers(0, 16, (3000, 1))
  _, answers = batch(arrays, digits)
  last, steps = online(arrays, digits)
  np.testing.assert_allclose([s.state_probs for s in steps], answers.state_probs, atol=1e-5)
  np.testing.assert_allclose([s.remaining for s in steps], answers.remaining, rtol=1e-5, atol=1e-5)
  assert np.isfinite(last.log_likelihood)
  states = np.array([s.state for s in steps])
  changed = np.flatnonzero(np.diff(states, prepend=-1))
  lasted = np.arange(len(states)) - np.repeat(changed, np.diff(changed, append=len(states))) + 1
  np.testing.assert_allclose([s.lasted_s for s in steps], lasted / 12.5)
  np.testing.assert_allclose([s.remaining_s for s in steps], [s.remaining[s.state] / 12.5 for s in steps])


def test_unlikely_is_not_impossible():
  """Likelihoods that differ by 1000 nats; an impossible sequence says so."""
  arrays, _ = random_arrays(1, states=2, longest=4, levels=(2,))
  arrays |= {
    "log_transitions": np.log(1 - np.eye(2) + 1e-300),
    "log_emission_0": np.array([[0.0, -1000], [-1000, 0.0]]),
  }
  digits = np.tile([[0], [1], [1]], (20, 1))
  last, steps = online(arrays, digits)
  assert np.isfinite(last.log_likelihood)
  assert all(abs(step.state_probs.sum() - 1) < 1e-9 for step in steps)
  arrays["log_emission_0"] = np.array([[0.0, -np.inf], [0.0, -np.inf]])
  last, steps = online(arrays, digits[:2])
  assert last.log_likelihood == -np.inf
  assert (steps[0].state >= 0, steps[1].state, steps[1].state_probs.tolist()) == (True, -1, [0.0, 0.0])
  assert np.isnan(steps[1].remaining_s)


@pytest.mark.parametrize("nats", [5, 50, 200, 400, 1000])
@pytest.mark.parametrize("part", ["initial", "transitions", "durations", "first_durations", "emission_0"])
@pytest.mark.parametrize("impossible", [0.0, 0.3])
def test_probabilities_and_logs_agree(part, nats, impossible):
  """However far apart: what a float cannot hold is done in logs, and only that."""
  arrays, rng = random_arrays(nats, states=4, longest=9, first=True, impossible=impossible)
  digits = np.stack([rng.integers(0, n, 300) for n in (8, 6, 5)], axis=1)
  digits[100:150] = digits[100]
  arrays[f"log_{part}"] = arrays[f"log_{part}"] - nats * rng.random(arrays[f"log_{part}"].shape)
  model, logs = OnlineHSMM(arrays), OnlineHSMM(arrays)
  logs._scalable = False
  carried, expected, scaled = model.start(), logs.start(), 0
  for row in digits:
    carried, step = model.step(carried, row[None])
    expected, wanted = logs.step(expected, row[None])
    scaled += carried.log_scale is not None
    assert expected.log_scale is None
    assert (step.state, step.lasted_s) == (wanted.state, wanted.lasted_s)
    np.testing.assert_allclose(step.state_probs, wanted.state_probs, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(step.remaining, wanted.remaining, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(carried.log_message, expected.log_message, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(carried.log_likelihood, expected.log_likelihood, rtol=1e-12)
  if nats <= 50:
    assert scaled == 300
  if (part, nats) == ("durations", 1000):
    assert scaled == 0


def test_logs_only_while_they_are_needed():
  """A state that 500 nats speak against is not forgotten, and the filter goes back to probabilities."""
  logs = {
    "log_initial": np.log([0.5, 0.5]),
    "log_transitions": np.array([[-500.0, 0.0], [0.0, -500.0]]),
    "log_durations": np.log([[0.25, 0.25, 0.5]] * 2),
    "log_emission_0": np.array([[0.0, 0.0], [-500.0, 0.0]]),
  }
  digits = np.array([[0]] * 7 + [[1]] * 20)
  arrays = {**logs, "temperature": np.float64(1), "rate_hz": np.float64(1), "steps_per_window": np.int64(1)}
  carried, steps = online(arrays, digits)
  _, answers = batch({name: np.float32(value) for name, value in arrays.items()}, digits)
  np.testing.assert_allclose([s.state_probs for s in steps], answers.state_probs, atol=1e-5)
  np.testing.assert_allclose([s.remaining for s in steps], answers.remaining, rtol=1e-5, atol=1e-5)
  model, forms = OnlineHSMM(arrays), []
  carried = model.start()
  for row in digits:
    carried, _ = model.step(carried, row[None])
    forms.append(carried.log_scale is not None)
  assert not all(forms)
  assert all(forms[-10:])


def test_step_of_which_nothing_is_seen():
  """Time passes: the same as a code that all states give alike."""
  arrays, _ = random_arrays(3, levels=(4,))
  arrays["log_emission_0"] = np.concatenate([arrays["log_emission_0"], np.zeros((5, 1))], axis=1)
  model = OnlineHSMM(arrays)
  carried, _ = model.step(model.start(), np.array([[2]]))
  seen, unseen = model.step(carried, np.array([[4]]))[1], model.step(carried, None)[1]
  np.testing.assert_array_equal(seen.state_probs, unseen.state_probs)


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"log_initial": None}, "lacks log_initial"),
    ({"log_transitions": np.zeros((4, 4))}, r"expected \[K\], \[K, K\] and \[K, D\]"),
    ({"log_durations": np.zeros((5, 0))}, r"\(5, 0\)"),
    ({"log_durations": np.zeros(5)}, "do not fit"),
    ({"log_first_durations": np.zeros((5, 3))}, "log_first_durations"),
    ({"log_initial": np.full(5, np.nan)}, "finite logs or -inf"),
    ({"log_initial": np.full(5, np.inf)}, "finite logs or -inf"),
    ({"log_initial": np.array(["a"] * 5)}, "must hold numbers"),
    ({"log_emission_1": np.zeros((4, 6))}, "log_emission_0"),
    ({"log_emission_1": None}, "lacks log_emission_1"),
    ({"temperature": 0.0}, "temperature must be one number above 0"),
    ({"steps_per_window": None}, "steps_per_window must be one number above 0"),
    ({"rate_hz": None}, "rate_hz must be one number"),
    ({"rate_hz": np.array([1, 2])}, "rate_hz must be one number"),
  ],
)
def test_arrays_that_cannot_be(tmp_path, change, words):
  arrays, _ = random_arrays(0)
  arrays = {name: value for name, value in {**arrays, **change}.items() if value is not None}
  np.savez(tmp_path / "hsmm.npz", **arrays)
  with pytest.raises(InputError, match=words):
    OnlineHSMM.load(tmp_path / "hsmm.npz")


def test_files_that_are_none(tmp_path):
  arrays, _ = random_arrays(0)
  np.savez(tmp_path / "hsmm.npz", **arrays)
  assert OnlineHSMM.load(tmp_path / "hsmm.npz").levels == (8, 6, 5)
  whole = (tmp_path / "hsmm.npz").read_bytes()
  (tmp_path / "short.npz").write_bytes(whole[: len(whole) // 2])
  (tmp_path / "text.npz").write_text("hello")
  np.save(tmp_path / "one.npy", np.zeros(3))
  np.savez(tmp_path / "pickled.npz", log_initial=np.array([{}], object))
  for name in ("short.npz", "text.npz", "one.npy", "pickled.npz", "gone.npz"):
    with pytest.raises(InputError, match="holds no model of syllables"):
      OnlineHSMM.load(tmp_path / name)
