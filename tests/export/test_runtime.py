"""A stream in chunks of any size answers as the whole recording does, and as the library's own pipeline."""

import dataclasses
import gc
import shutil
import subprocess
import sys
import types

import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavejax.config import DataConfig, SimulateConfig
from behavejax.data.normalization import Normalization
from behavejax.data.prepare import prepare_recordings
from behavejax.data.repair import fill_values
from behavejax.data.repair import repair as repair_whole
from behavejax.data.simulate import quadruped
from behavejax.data.windows import Windows, contains, window_starts
from behavejax.errors import InputError
from behavejax.evaluation import tokens as tokens_lib
from behavejax.export import runtime as runtime_lib
from behavejax.export.manifest import STRATEGIES, Repair
from behavejax.export.runtime import Runtime
from behavejax.nets.conv2d import amplify
from behavejax.quantizers import fsq
from tests.export import packages
from tests.export.test_online import filtered

FILLING = [name for name in STRATEGIES if name != "raise"]


class Recorder:
  """A backend that keeps its inputs; its answers depend on every value of them."""

  def __init__(self, outputs):
    self.outputs, self.windows = outputs, []

  def run(self, window):
    self.windows.append(window.copy())
    found = {}
    for name, shape in self.outputs.items():
      size = int(np.prod(shape))
      found[name] = np.sin(np.resize(window, (-(-window.size // size), size)).sum(axis=0)).reshape(shape)
    return found


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  """Packages of every strategy with a stride that fits nothing else, and an HSMM."""
  root = tmp_path_factory.mktemp("packages")
  for name in STRATEGIES:
    packages.make(root / name, hsmm=True, strategy=name, clip=1.0, stride=7)
  return root


def recorded(monkeypatch, folder, **settings):
  """A runtime and what its backend sees."""
  made = []
  monkeypatch.setattr(
    runtime_lib, "open_backend", lambda name, where, p, threads: made.append(Recorder(p.model.outputs)) or made[-1]
  )
  return Runtime(folder, **settings), made[0]


def fed(runtime, signal, time_s=None, *, chunk):
  answers = []
  for start in range(0, len(signal), chunk):
    part = slice(start, start + chunk)
    answers += runtime.feed(signal[part], None if time_s is None else time_s[part])
  return answers + runtime.flush()


def flat(value):
  """Everything in an answer, as bytes where it is an array."""
  if isinstance(value, tuple | list):
    return tuple(map(flat, value))
  return (value.shape, value.dtype.str, value.tobytes()) if isinstance(value, np.ndarray) else repr(value)


def assert_same(first, second):
  assert len(first) == len(second)
  for one, other in zip(first, second, strict=True):
    assert flat(one) == flat(other)


def prepared(p, signal):
  """Windows by the modules that training uses, without those of which nothing was measured."""
  fill = np.array(p.repair.fill)
  values, usable = repair_whole(signal, strategy=p.repair.strategy, fill=fill, clip=p.repair.clip)
  normalization = Normalization(np.array(p.mean, np.float32), np.array(p.std, np.float32), p.channels)
  starts = window_starts(len(signal), length=p.window, stride=p.stride)
  keep = ~contains(~usable, starts, length=p.window)
  keep &= contains(np.isfinite(signal).any(axis=1), starts, length=p.window)
  none = np.zeros(keep.sum(), np.int32)
  windows = Windows(
    normalization.apply(values), starts[keep], none, none, none, starts[keep] / p.rate_hz, p.window, p.rows == 2,
    p.rate_hz, ("a",), ("a",), (), p.channels,
  )  # fmt: skip
  return windows.gather(np.arange(len(windows))), starts[keep], values


def plain(folder):
  """The same package without amplification and scale: what the graph sees are the windows themselves."""
  p = packages.preprocess(
    strategy=folder.name, clip=1.0, stride=7, gains=(), labels=("rest", "walk", "run")
  )  # fmt: skip
  return dataclasses.replace(p, input_scale=(1.0,) * 3)


@pytest.mark.parametrize("strategy", FILLING)
@pytest.mark.parametrize("kind", ["none", "gaps", "ends", "dead_channel", "one_value", "leading_value", "all_lost"])
def test_chunks_and_the_batch_pipeline_agree_bit_for_bit(tmp_path, monkeypatch, strategy, kind):
  signal = packages.recording(330, seed=3, lost=0.0 if kind == "none" else 0.2)
  if kind == "ends":
    signal[:13, 0], signal[:5], signal[-17:, 1], signal[-3:] = np.nan, np.inf, np.nan, np.nan
  if kind == "dead_channel":
    signal[:, 1] = np.nan
  if kind in ("one_value", "leading_value"):
    signal[:, 2] = np.nan
    signal[60 if kind == "one_value" else 0, 2] = 0.25
  if kind == "all_lost":
    signal[100:170] = np.nan
  p = plain(tmp_path / strategy)
  (tmp_path / "model.onnx").write_bytes(b"not run")
  p.save(tmp_path, ["model.onnx"])
  windows, starts, _ = prepared(p, signal)
  runtime, recorder = recorded(monkeypatch, tmp_path)
  whole = fed(runtime, signal, chunk=len(signal))
  assert b"".join(window.tobytes() for window in recorder.windows) == windows.tobytes()
  assert [answer.start for answer in whole] == starts.tolist()
  np.testing.assert_allclose([answer.time_s for answer in whole], starts / 50)
  assert runtime.statistics.windows == len(starts)
  assert runtime.statistics.skipped == len(window_starts(330, length=40, stride=7)) - len(starts)
  assert runtime.statistics.lost == (~np.isfinite(signal)).any(axis=1).sum()
  for chunk in (1, 7, 50, 1000):
    assert_same(fed(Runtime(tmp_path), signal, chunk=chunk), whole)
    stamped_answers = fed(runtime, signal, np.arange(330) / 50 + 1e9, chunk=chunk)
    assert_same([answer[2:] for answer in stamped_answers], [answer[2:] for answer in whole])


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_chunks_any_gaps(folders, data):
  """Also with gaps that are too long, and with syllables."""
  strategy = data.draw(st.sampled_from(FILLING))
  max_gap_s = data.draw(st.sampled_from([None, 0.0, 0.02, 0.1, 0.5]))
  signal = packages.recording(
    data.draw(st.integers(0, 150)), seed=data.draw(st.integers(0, 50)), lost=data.draw(st.sampled_from([0, 0.1, 0.6]))
  )
  chunks = data.draw(st.lists(st.integers(0, 60), max_size=20))
  with pytest.MonkeyPatch.context() as patch:
    runtime, _ = recorded(patch, folders / strategy, max_gap_s=max_gap_s)
  whole = fed(runtime, signal, chunk=max(len(signal), 1))
  answers, start = [], 0
  for chunk in chunks:
    answers += runtime.feed(signal[start : start + chunk])
    start += chunk
  answers += runtime.feed(signal[start:])
  assert_same(answers + runtime.flush(), whole)


@pytest.mark.parametrize("strategy", FILLING)
def test_answers_of_the_real_graph(folders, strategy):
  """Amplified as the network amplifies, the graph's outputs, indices of the library."""
  folder = folders / strategy
  signal = packages.recording(400, seed=1, lost=0.1)
  runtime = Runtime(folder)
  p = runtime.preprocess
  windows, starts, _ = prepared(p, signal)
  own = [answer for answer in fed(runtime, signal, chunk=33) if answer.name]
  assert [answer.start for answer in own] == starts.tolist()
  inputs = amplify(jnp.asarray(windows), gains=p.gains) / jnp.asarray(p.input_scale, jnp.float32).reshape(1, 1, 1, -1)
  session = onnxruntime.InferenceSession(folder / "model.onnx")
  for answer, window in zip(own, np.asarray(inputs), strict=True):
    logits, codes, embedding = session.run(None, {"window": window[None]})
    np.testing.assert_allclose(answer.logits, logits[0], atol=1e-4)
    np.testing.assert_allclose(answer.embedding, embedding[0], atol=1e-4)
    exponents = np.exp(logits[0] - logits[0].max())
    np.testing.assert_allclose(answer.probabilities, exponents / exponents.sum(), atol=1e-5)
    assert answer.name == p.labels[answer.label]
    near = (np.abs(codes - answer.codes) > 1e-3).any(axis=(0, -1))
    assert near.mean() < 0.1  # a latent may lie on the edge between two levels
    indices = fsq.codes_to_indices(jnp.asarray(answer.codes), levels=p.quantizer.levels)
    np.testing.assert_array_equal(answer.tokens, np.asarray(indices))
  assert answer.tokens.dtype == np.int32
  latency = runtime.latency()
  assert 0 < latency.model.p50_ms <= latency.step.p50_ms <= latency.step.p99_ms


def test_no_window_yet(folders):
  runtime = Runtime(folders / "zero")
  assert runtime.feed(np.zeros((39, 3))) == runtime.feed([]) == runtime.feed(np.zeros((0, 3))) == []
  assert np.isnan(runtime.latency().step.p50_ms)
  assert len(runtime.feed(np.zeros((1, 3)))) == 1


def test_equals_prepare_on_a_simulated_recording(tmp_path, monkeypatch):
  raw = quadruped(SimulateConfig(subjects=3, minutes=0.5, gaps=0.05), seed=2)
  assert any(np.isnan(recording.signal).any() for recording in raw)
  config = DataConfig(window_s=2.0, stride_s=0.5)
  data = prepare_recordings(raw, config, seed=0)
  fill = fill_values([recording.signal for recording in raw], strategy="interpolate")
  p = packages.preprocess(channels=9, window=100, stride=25, gains=())
  p = dataclasses.replace(
    p, channels=raw[0].channels, units=raw[0].units, input_scale=(1.0,) * 9, labels=(),
    repair=Repair("interpolate", 0.0, tuple(map(float, fill))),
    mean=tuple(map(float, data.normalization.mean)), std=tuple(map(float, data.normalization.std)),
    model=dataclasses.replace(p.model, outputs={**p.model.outputs, "logits": (1, 1)}),
  )  # fmt: skip
  (tmp_path / "model.onnx").write_bytes(b"not run")
  p.save(tmp_path, ["model.onnx"])
  (subject,) = data.test.subjects
  recording = next(recording for recording in raw if recording.subject == subject)
  runtime, recorder = recorded(monkeypatch, tmp_path, rate_hz=50.0)
  answers = fed(runtime, recording.signal, chunk=50)
  expected = data.test.gather(np.arange(len(data.test)))
  assert np.concatenate(recorder.windows).tobytes() == expected.tobytes()
  np.testing.assert_allclose([answer.time_s for answer in answers], data.test.time_s)
  assert {(answer.label, answer.name) for answer in answers} == {(-1, "")}


@pytest.mark.parametrize("samples", [39, 40, 41, 275, 280])
@pytest.mark.parametrize("strategy", ["interpolate", "drop"])
def test_syllables_equal_the_batch_filter(folders, strategy, samples):
  """Windows end to end, the last one filled up, steps behind the end left out: as `token_streams` does it."""
  folder = folders / strategy
  signal = packages.recording(samples, seed=5, lost=0.1)
  runtime = Runtime(folder)
  p = runtime.preprocess
  _, _, values = prepared(p, signal)
  normalization = Normalization(np.array(p.mean, np.float32), np.array(p.std, np.float32), p.channels)
  windows = tokens_lib._end_to_end(normalization.apply(values), p.window).reshape(-1, p.rows, p.window // p.rows, 3)
  codes = np.stack([runtime._backend.run(runtime._assemble(window))["codes"][0] for window in windows])
  indices = np.asarray(fsq.codes_to_indices(jnp.asarray(codes), levels=p.quantizer.levels))
  begins = tokens_lib.token_starts(indices.shape, p.window, stride=packages.STRIDE)
  levels = p.quantizer.levels
  with np.load(folder / "hsmm.npz") as arrays:
    tables = {name: np.asarray(arrays[name], np.float32) for name in arrays.files}
  per_window = int(tables["steps_per_window"])
  bags = tokens_lib.bags_of(indices.reshape(len(indices), -1), begins < samples, levels, steps=per_window)
  edges = tokens_lib.step_edges(indices[0].size, per_window)
  begins = begins.reshape(len(indices), -1)[:, edges[:-1]].ravel()
  inside = begins < samples
  values = sum(bags[inside][:, i, :n] @ tables[f"log_emission_{i}"].T for i, n in enumerate(levels))
  _, expected = filtered(tables, values)
  answers = fed(runtime, signal, chunk=11)
  steps = [syllable for answer in answers for syllable in answer.syllables]
  assert [syllable.start for syllable in steps] == begins[inside].tolist()
  np.testing.assert_allclose([syllable.time_s for syllable in steps], begins[inside] / 50)
  np.testing.assert_allclose([s.step.state_probs for s in steps], expected.state_probs, atol=1e-5)
  np.testing.assert_allclose([s.step.remaining for s in steps], expected.remaining, rtol=1e-5, atol=1e-5)
  assert all(answer.start % 7 == 0 for answer in answers if answer.logits is not None)
  assert all(answer.start % 40 == 0 for answer in answers if answer.syllables)
  assert [answer.start for answer in answers] == sorted(answer.start for answer in answers)


def test_what_nobody_saw_is_no_evidence(folders):
  signal = packages.recording(120, seed=5)
  signal[40:80] = np.nan
  runtime = Runtime(folders / "interpolate")
  answers = {answer.start: answer for answer in fed(runtime, signal, chunk=120)}
  assert runtime.statistics.skipped == 0  # no window of the stride lies within the gap
  assert answers[40].logits is None
  assert len(answers[40].syllables) == 3
  short = Runtime(folders / "interpolate", max_gap_s=0.7)
  skipped = fed(short, signal, chunk=120)
  assert short.statistics[7:9] == (1, 11)
  assert [answer.start for answer in skipped if answer.logits is not None] == [0]
  assert len([s for answer in skipped for s in answer.syllables]) == 9


def stamped(samples, **settings):
  return packages.recording(samples, **settings), np.arange(samples) / 50


def test_lost_places_are_gaps(folders):
  signal, time_s = stamped(200, seed=8)
  keep = np.ones(200, bool)
  keep[[3, 4, 50, 51, 52, 120]] = False
  lost = np.where(keep[:, None], signal, np.nan).astype(np.float32)
  jitter = np.random.default_rng(0).uniform(-0.009, 0.009, 200) * (np.arange(200) > 0)
  runtime = Runtime(folders / "interpolate")
  expected = fed(Runtime(folders / "interpolate"), lost, chunk=200)
  for chunk in (1, 7, 200):
    answers = fed(runtime, signal[keep], (time_s + jitter + 123.0)[keep], chunk=chunk)
    assert_same([a[2:9] for a in answers], [a[2:9] for a in expected])
    assert [a.start for a in answers] == [a.start for a in expected]
    np.testing.assert_allclose([a.time_s for a in answers], [a.start / 50 + 123 for a in expected])
  assert runtime.statistics.samples == 3 * 194
  assert runtime.statistics.rows == 600
  assert runtime.statistics.lost == 18
  assert runtime.statistics.nan.tolist() == [18, 18, 18]


def test_late_and_double_samples(folders):
  """In time they take their place; too late they are counted; of two with one place the first one wins."""
  signal, time_s = stamped(150, seed=8)
  order = np.arange(150)
  order[[20, 21, 22, 23]] = [22, 23, 21, 20]  # two overtaken by two
  order = np.insert(order, 60, [58, 59])  # two again
  signal_sent = signal[order].copy()
  signal_sent[60:62] = 99.0
  whole = fed(Runtime(folders / "interpolate"), signal, chunk=150)
  for chunk in (1, 3, 152):
    patient = Runtime(folders / "interpolate", lateness_s=0.08)
    assert_same([a[2:] for a in fed(patient, signal_sent, time_s[order], chunk=chunk)], [a[2:] for a in whole])
    assert patient.statistics[5:7] == (0, 2)
    hasty = Runtime(folders / "interpolate")
    answers = fed(hasty, signal_sent, time_s[order], chunk=chunk)
    assert hasty.statistics[5:7] == (3, 1)  # 20, 21 and 58 late; 59 is the newest, and doubled
    assert hasty.statistics.lost == 2
    lost = signal.copy()
    lost[[20, 21]] = np.nan
    assert_same([a[2:] for a in answers], [a[2:] for a in fed(Runtime(folders / "interpolate"), lost, chunk=150)])


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_order_any_chunks(folders, data):
  """Time stamps that jump to and fro: the chunks never matter."""
  seed = data.draw(st.integers(0, 1000))
  rng = np.random.default_rng(seed)
  samples = data.draw(st.integers(1, 250))
  time_s = np.sort(rng.uniform(0, samples / 50, samples)) + rng.normal(size=samples) * rng.choice([0, 0.005, 0.05])
  time_s += (np.arange(samples) > samples / 2) * rng.choice([0, 0.3, 30, 1e6])
  options = {"lateness_s": rng.choice([0, 0.05, 1.0]), "max_gap_s": rng.choice([None, 0.0, 0.2])}
  signal = packages.recording(samples, seed=seed, lost=0.1)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr("behavejax.export.timeline._TOLERANCE", np.inf)
    whole_runtime, _ = recorded(patch, folders / "interpolate", **options)
    parts_runtime, _ = recorded(patch, folders / "interpolate", **options)
    whole = fed(whole_runtime, signal, time_s, chunk=samples)
    answers = fed(parts_runtime, signal, time_s, chunk=data.draw(st.integers(1, 80)))
  assert_same(answers, whole)
  assert flat(whole_runtime.statistics) == flat(parts_runtime.statistics)
  starts = [answer.start for answer in whole]
  assert starts == sorted(starts)


def test_far_forward_is_a_new_segment(folders):
  """A clock that jumps by eleven days allocates nothing, and both parts answer as recordings of their own."""
  signal, time_s = stamped(200, seed=8)
  time_s[90:] += 1e6
  runtime = Runtime(folders / "interpolate")
  answers = fed(runtime, signal, time_s, chunk=17)
  parts = [fed(Runtime(folders / "interpolate"), part, chunk=500) for part in (signal[:90], signal[90:])]
  assert_same([a[2:9] for a in answers], [a[2:9] for part in parts for a in part])
  assert [a.start for a in answers] == [a.start + shift for shift, part in zip((0, 50_000_090), parts) for a in part]  # noqa: B905
  np.testing.assert_allclose([a.time_s for a in answers][-1], 1e6 + 1.8 + parts[1][-1].start / 50)
  assert runtime.statistics.segments == 2
  assert runtime.statistics.rows == 200
  shorter = Runtime(folders / "interpolate", max_gap_s=0.2)
  time_s[90:] += 0.22 - 1e6
  assert len(fed(shorter, signal, time_s, chunk=1)) == len(answers)
  assert shorter.statistics.segments == 2
  assert shorter.statistics.interrupted == 11  # 0.22 s at 50 Hz
  assert runtime.statistics.interrupted == 50_000_000


def test_an_hour_of_a_dead_channel_is_not_held_for_ever(folders, monkeypatch):
  monkeypatch.setattr(runtime_lib, "FAR_S", 2.0)
  signal = packages.recording(400, seed=8)
  signal[50:, 0] = np.nan
  runtime = Runtime(folders / "interpolate")
  answers = fed(runtime, signal, chunk=10)
  assert [a.start for a in answers if a.logits is not None] == [0, 7]
  assert len(runtime._repair._values) <= 256
  assert [a.start for a in answers if a.syllables] == list(range(0, 400, 40))


@pytest.mark.parametrize(
  ("samples", "time_s", "words"),
  [
    (np.zeros((5, 2)), None, r"shape \(5, 2\), expected \[n, 3\]: acc_x, acc_y, acc_z"),
    (np.zeros(3), None, r"shape \(3,\)"),
    ([["a", "b", "c"]], None, "must be numbers"),
    (np.zeros((3, 3)), np.zeros(2), "time stamps for 3 samples"),
    (np.zeros((3, 3)), [0.0, np.nan, 0.1], "time stamp 1 of the chunk is nan"),
    (np.zeros((3, 3)), [0.0, np.inf, 0.1], "time stamp 1 of the chunk is inf"),
    (np.zeros((3, 3)), ["a", "b", "c"], "must be numbers"),
    (np.zeros((3, 3)), [100.0, 100.02, 39.0], "time goes back by 61.02 s"),
    (np.zeros((99, 3)), np.arange(99) / 25, "rate of 25 Hz .*, the model was made for 50 Hz"),
    (np.zeros((99, 3)), np.arange(99) * 20, "rate of 0.05 Hz"),
    (np.zeros((99, 3)), np.zeros(99), "rate of inf Hz"),
  ],
)
def test_input_that_cannot_be(folders, samples, time_s, words):
  runtime = Runtime(folders / "interpolate")
  with pytest.raises(InputError, match=words) as error:
    runtime.feed(samples, time_s)
  assert "\n" not in str(error.value)
  assert runtime.statistics.samples == runtime.statistics.rows == 0


def test_rates_that_fit(folders):
  """The median is right with losses, the mean with coarse stamps; neither is asked twice."""
  rng = np.random.default_rng(0)
  for time_s in (np.arange(300) / 51, np.sort(rng.choice(400, 300, replace=False)) / 50, np.arange(300) // 1.04 / 48):
    fed(Runtime(folders / "zero"), np.zeros((300, 3)), time_s, chunk=40)
  runtime = Runtime(folders / "zero")
  runtime.feed(np.zeros((20, 3)), np.arange(20) / 30)
  with pytest.raises(InputError, match="rate of 30 Hz"):
    runtime.flush()


def test_settings_that_cannot_be(folders):
  with pytest.raises(InputError, match="delivers 100 Hz, the model was made for 50 Hz"):
    Runtime(folders / "zero", rate_hz=100.0)
  with pytest.raises(InputError, match="lateness_s must be 0 s or more, got -1"):
    Runtime(folders / "zero", lateness_s=-1)
  with pytest.raises(InputError, match="max_gap_s must be 0 s or more, got nan"):
    Runtime(folders / "zero", max_gap_s=float("nan"))
  runtime = Runtime(folders / "zero", rate_hz=50.0)
  runtime.feed(np.zeros((1, 3)))
  with pytest.raises(InputError, match="some samples have time stamps and some have none"):
    runtime.feed(np.zeros((1, 3)), [0.0])
  runtime.flush()
  runtime.feed(np.zeros((1, 3)), [0.0])


def test_lost_samples_where_there_must_be_none(folders):
  runtime = Runtime(folders / "raise")
  runtime.feed(np.zeros((50, 3)))
  broken = np.zeros((50, 3))
  broken[9, 1] = np.nan
  with pytest.raises(InputError, match="sample 59 is lost"):
    runtime.feed(broken)


def test_hsmm_of_another_model(tmp_path):
  p = packages.make(tmp_path)
  np.savez(tmp_path / "hsmm.npz", **{**packages.syllables(p), "log_emission_2": np.zeros((4, 6))})
  p.save(tmp_path, ["model.onnx", "hsmm.npz"])
  with pytest.raises(InputError, match=r"codes with \(8, 6, 6\) values, the model's have \(8, 6, 5\)"):
    Runtime(tmp_path)


def test_vector_quantized_codes(tmp_path):
  """The index is that of the nearest row of the codebook."""
  p = packages.preprocess(levels=(8, 6, 5))
  codebook = np.random.default_rng(0).uniform(-1, 1, (16, 3)).astype(np.float32)
  quantizer = dataclasses.replace(p.quantizer, name="vq", levels=(), num_codes=16)
  (tmp_path / "model.onnx").write_bytes(packages.graph(p).SerializeToString())
  with pytest.raises(InputError, match=r"needs codebook\.npy"):
    dataclasses.replace(p, quantizer=quantizer).save(tmp_path, ["model.onnx"])
    Runtime(tmp_path)
  np.save(tmp_path / "codebook.npy", codebook)
  dataclasses.replace(p, quantizer=quantizer).save(tmp_path, ["model.onnx", "codebook.npy"])
  answers = fed(Runtime(tmp_path), packages.recording(200), chunk=50)
  for answer in answers:
    distances = ((answer.codes[:, :, None] - codebook) ** 2).sum(-1)
    np.testing.assert_array_equal(answer.tokens, distances.argmin(-1))
  np.save(tmp_path / "codebook.npy", codebook[:5])
  dataclasses.replace(p, quantizer=quantizer).save(tmp_path, ["model.onnx", "codebook.npy"])
  with pytest.raises(InputError, match=r"expected finite codes of shape \(16, 3\), got \(5, 3\)"):
    Runtime(tmp_path)


def test_zip_of_a_package_runs(folders, tmp_path, monkeypatch):
  path = shutil.make_archive(tmp_path / "package", "zip", folders / "interpolate")
  signal = packages.recording(100)
  monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
  runtime = Runtime(path)
  assert_same(fed(runtime, signal, chunk=9), fed(Runtime(folders / "interpolate"), signal, chunk=100))
  del runtime
  gc.collect()
  assert [file.name for file in tmp_path.iterdir()] == ["package.zip"]


BLOCKED = (
  "jax", "flax", "optax", "tensorflow", "scipy", "sklearn", "pandas", "ml_collections", "jaxtyping", "absl", "chex",
)  # fmt: skip


def test_runs_without_jax_and_all_else(folders, tmp_path):
  """NumPy and the library that runs the graph are enough."""
  signal = packages.recording(120)
  (tmp_path / "signal.csv").write_text("acc_x,acc_y,acc_z\n" + "".join(f"{a},{b},{c}\n" for a, b, c in signal.tolist()))
  program = f"""
import sys
for name in {BLOCKED!r}:
  sys.modules[name] = None
from behavejax.export.runtime import Runtime
from behavejax.export.stream import describe, stream_file
runtime = Runtime({str(folders / "interpolate")!r})
summary = stream_file(runtime, {str(tmp_path / "signal.csv")!r}, {str(tmp_path / "out")!r})
print(describe(summary, 50.0))
"""
  answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
  assert answer.returncode == 0, answer.stderr
  assert "12 windows" in answer.stdout
  assert {path.name for path in (tmp_path / "out").iterdir()} == {"windows.csv", "ethogram.csv", "syllables.csv"}


def test_backend_arguments_reach_the_backend(folders, monkeypatch):
  seen = types.SimpleNamespace()

  def opened(name, folder, preprocess, *, threads):
    seen.name, seen.threads = name, threads
    return Recorder(preprocess.model.outputs)

  monkeypatch.setattr(runtime_lib, "open_backend", opened)
  Runtime(folders / "zero", "onnx", threads=3)
  assert (seen.name, seen.threads) == ("onnx", 3)
