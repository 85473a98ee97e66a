"""Spaces of a sweep: what is read, and every mistake in one line before anything is trained."""

import json
import math
import pathlib
import shlex

import pytest

from behavejax import config as config_lib
from behavejax.errors import InputError
from behavejax.training import sweep_space
from behavejax.training.sweep_space import Choices, Range
from tests.test_config import load

ROOT = pathlib.Path(__file__).parent.parent.parent
CONFIG = config_lib.resolve(load("fsq").get_config("tiny"))


def parse(**entries):
  return sweep_space.parse({key.replace("__", "."): entry for key, entry in entries.items()}, CONFIG)


def test_ranges_and_choices():
  space = parse(
    train__learning_rate={"low": 1e-4, "high": 1e-2, "log": True},
    train__batch_size={"low": 32, "high": 128, "step": 32},
    model__dropout={"low": 0.0, "high": 0.5},
    train__epochs={"low": 5, "high": 7},
    quantizer__levels={"choices": [[8, 6, 5], [8, 5, 5, 5]]},
  )
  assert space["train.learning_rate"] == Range(1e-4, 1e-2, log=True)
  assert space["train.batch_size"].tried() == [32, 64, 96, 128]
  assert space["train.epochs"].tried() == [5, 6, 7]
  assert space["quantizer.levels"] == Choices(([8, 6, 5], [8, 5, 5, 5]))
  assert [entry.whole for entry in list(space.values())[:4]] == [False, True, False, True]
  assert [entry.size for entry in space.values()] == [math.inf, 4, math.inf, 3, 2]
  assert sweep_space.parse(json.loads(json.dumps(sweep_space.to_json(space))), CONFIG) == space


def test_steps_of_a_float_range_end_at_its_end():
  entry = parse(model__dropout={"low": 0.1, "high": 0.4, "step": 0.1})["model.dropout"]
  assert entry.tried() == pytest.approx([0.1, 0.2, 0.3, 0.4])
  assert entry.tried()[-1] == 0.4
  assert parse(train__steps={"low": 1, "high": 10_000})["train.steps"].tried() == [1, 10_000]


def test_the_space_that_comes_with_the_config():
  config = config_lib.resolve(load("fsq").get_config("quadruped"))
  assert len(sweep_space.read(ROOT / "configs/spaces/fsq.json", config)) == 5


@pytest.mark.parametrize(
  ("key", "entry", "message"),
  [
    ("train.learning_rat", {"low": 0.1, "high": 0.2}, "is not a setting; did you mean 'train.learning_rate'?"),
    ("config.train.steps", {"low": 1, "high": 2}, "is not a setting; did you mean 'train.steps'?"),
    ("train", {"low": 0.1, "high": 0.2}, "is a section of settings; name one of them, such as train.batch_size"),
    ("segmentation.states", {"low": 2, "high": 9}, "changes nothing that a sweep judges"),
    ("stages", {"choices": [["encoder"], ["hsmm"]]}, "changes nothing that a sweep judges"),
    ("model.dropout", [0.0, 0.5], 'must be {"low": ..., "high": ...} or {"choices": [...]}, got [0.0, 0.5]'),
    ("model.dropout", {"min": 0.0, "high": 0.5}, "'min' is not a part of a range; known: high, log, low, step"),
    ("model.dropout", {"choices": [0.1, 0.2], "log": True}, "'log' is not a part of choices"),
    ("model.dropout", {"low": 0.0}, "'high' is missing"),
    ("model.dropout", {"low": 0.5, "high": 0.0}, "low must be below high, got 0.5 and 0.0"),
    ("model.dropout", {"low": 0.5, "high": 0.5}, "low must be below high"),
    ("model.dropout", {"low": "0", "high": 0.5}, "low must be a finite number, got '0'"),
    ("model.dropout", {"low": float("nan"), "high": 0.5}, "low must be a finite number, got nan"),
    ("train.epochs", {"low": 1, "high": 10**400}, "high must be a finite number"),
    ("train.epochs", {"low": False, "high": 3.0}, "low must be a finite number, got False"),
    ("model.dropout", {"low": 0.0, "high": 0.5, "log": True}, "low must be above 0 where log is true, got 0.0"),
    ("model.dropout", {"low": 0.1, "high": 0.5, "log": 1}, "log must be true or false, got 1"),
    ("model.dropout", {"low": 0.1, "high": 0.5, "log": True, "step": 0.1}, "log and step exclude each other"),
    ("model.dropout", {"low": 0.0, "high": 0.5, "step": 0.3}, "steps of 0.3 do not lead from 0.0 to 0.5"),
    ("model.dropout", {"low": 0.0, "high": 0.5, "step": 0.0}, "step must be above 0, got 0.0"),
    ("train.batch_size", {"low": 32, "high": 64, "step": 0.5}, "step must be a whole number above 0, got 0.5"),
    ("train.batch_size", {"low": 32.0, "high": 64}, "config.train.batch_size must be of type int, got 32.0"),
    ("train.batch_size", {"low": 0, "high": 64, "step": 8}, "config.train.batch_size must be above 0, got 0"),
    ("train.batch_size", {"low": 8, "high": 24, "step": 4}, "batch_size=12 cannot be shared evenly by 8 devices"),
    ("train.schedule", {"low": 1, "high": 2}, "config.train.schedule must be of type str, got 1"),
    ("train.schedule", {"choices": ["plateau", "linear"]}, "config.train.schedule must be one of warmup_cosine, plat"),
    ("model.dropout", {"low": 0.5, "high": 1.0}, "config.model.dropout must be in [0, 1), got 1.0"),
    ("model.token_stride", {"low": 1, "high": 4}, "config.model.token_stride must be a power of two up to 4"),
    ("model.widths", {"low": 1, "high": 2}, "config.model.widths must be a tuple"),
    ("quantizer.levels", {"choices": [[8, 6], [8, 1]]}, "config.quantizer.levels"),
    ("quantizer.name", {"choices": ["fsq", "vqe"]}, "config.quantizer.name 'vqe' is unknown; did you mean 'vq'?"),
    ("quantizer.levels", {"choices": [[8, 6]]}, "choices must be a list of two values or more, got [[8, 6]]"),
    ("quantizer.levels", {"choices": [[8, 6], [8, 5], [8, 6]]}, "choices hold [8, 6] twice"),
  ],
)  # fmt: skip
def test_mistakes_are_named(key, entry, message):
  with pytest.raises(InputError) as caught:
    sweep_space.parse({key: entry}, CONFIG, where="s.json")
  assert message in str(caught.value)
  assert str(caught.value).startswith(f"s.json: {key}: ")
  assert "\n" not in str(caught.value)


def test_the_settings_of_what_is_judged():
  images = config_lib.resolve(load("vqvae_2d").get_config("tiny"))
  sweep_space.parse({"vqvae.hidden": {"low": 16, "high": 64, "step": 16}}, images)
  with pytest.raises(InputError, match="which is 'vqvae': seed, data, frames, vqvae"):
    sweep_space.parse({"model.kernel": {"choices": [3, 5]}}, images)


@pytest.mark.parametrize("plain", [[], {}, "train.steps", None])
def test_a_space_is_a_map(plain):
  with pytest.raises(InputError, match="space must map settings to ranges"):
    sweep_space.parse(plain, CONFIG)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ('{"seed": {"low": 1, "high": 2},}', "is no JSON"),
    ('{"seed": {"low": 1, "high": 2}, "seed": {"low": 1, "high": 3}}', "'seed' stands there twice"),
    ('{"seed": {"low": 1, "low": 0, "high": 2}}', "'low' stands there twice"),
    ('{"model.dropout": {"low": 0.0, "high": Infinity}}', "high must be a finite number"),
  ],
)
def test_files_that_are_refused(tmp_path, text, message):
  (tmp_path / "space.json").write_text(text)
  with pytest.raises(InputError, match=message) as caught:
    sweep_space.read(tmp_path / "space.json", CONFIG)
  assert str(caught.value).startswith(str(tmp_path / "space.json"))
  with pytest.raises(InputError, match="no such file"):
    sweep_space.read(tmp_path / "gone.json", CONFIG)
  with pytest.raises(InputError, match="is a folder"):
    sweep_space.read(tmp_path, CONFIG)


def test_overrides_go_into_their_sections():
  changed = sweep_space.override(CONFIG, {"seed": 3, "train.epochs": 5, "quantizer.levels": [8, 5]})
  assert (changed.seed, changed.train.epochs, changed.quantizer.levels) == (3, 5.0, (8, 5))
  assert changed.model == CONFIG.model
  assert CONFIG.quantizer.levels == (4, 4, 4)


def test_arguments_survive_a_shell():
  changes = {"data.val_subjects": ["a b", "c"], "train.learning_rate": 0.1 + 0.2, "model.widths": [8], "seed": 1}
  flags = shlex.split(" ".join(sweep_space.arguments(changes)))
  assert flags == [
    "--config.data.val_subjects=('a b', 'c')",
    "--config.train.learning_rate=0.30000000000000004",
    "--config.model.widths=(8,)",
    "--config.seed=1",
  ]
