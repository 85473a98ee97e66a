"""The part on codes says what the tokens and errors say; the whole page is tested in `test_report`."""

import numpy as np
import pytest

from behavejax.config import Config, EvaluationConfig
from behavejax.data.windows import Windows
from behavejax.evaluation import code_report
from behavejax.evaluation.page import Paragraph, Picture, Table
from behavejax.evaluation.predictions import Predictions

CONFIG = Config(evaluation=EvaluationConfig(embedding="none"))


def example(error=None):
  rng = np.random.default_rng(0)
  labels = np.array([0, 0, 1, 1, -1, 1])
  tokens = np.array([[0, 0], [0, 1], [2, 2], [2, 1], [3, 3], [2, 2]])[:, None]
  signal = rng.normal(size=(60, 3)).astype(np.float32)
  signal[:, 2] = 0.5  # constant
  none = np.zeros(6, int)
  windows = Windows(
    signal, np.arange(6) * 10, labels, none, none, np.zeros(6), 10, True, 50.0, ("s",), ("r",), ("a", "b"),
    ("x", "y", "z"),
  )  # fmt: skip
  return Predictions(
    np.zeros((6, 2)), labels, tokens, np.zeros((6, 2)), np.full(6, 0.2), none, none, np.zeros(6), error
  ), windows  # fmt: skip


def section(test, windows, **latents):
  dictionary = code_report.dictionary_of(test, windows.classes, num_codes=5)
  return code_report.section(test, windows, dictionary, CONFIG, num_codes=5, latents=latents)


def test_codes_and_what_they_stand_for():
  values, blocks = section(*example(), **{"codes/silhouette": 0.25, "codes/silhouette_behaviours": -0.5})
  assert values["codes/usage"] == 0.8
  assert values["codes/largest"] == pytest.approx(5 / 12)
  assert values["codes/per_window"] == 2
  assert values["test/reconstruction_mse"] == pytest.approx(0.2)
  assert not [name for name in values if "psnr" in name]
  (table,) = [block for block in blocks if isinstance(block, Table)]
  assert table.rows == [
    (2, 5, "0.5000", "b", "1.0000"),
    (0, 3, "0.3000", "a", "1.0000"),
    (1, 2, "0.2000", "a", "0.5000"),
  ]
  text = " ".join(block.text for block in blocks if isinstance(block, Paragraph))
  assert "0.25 by code, -0.50 by behaviour" in text
  assert {block.name for block in blocks if isinstance(block, Picture)} == {"code_usage", "code_behaviour"}


def test_channels_have_errors_and_constant_ones_no_ratio():
  error = np.tile([0.1, 0.2, 0.3], (6, 1))
  test, windows = example(error)
  values, blocks = section(test, windows)
  assert values["test/mse/z"] == pytest.approx(0.3)
  assert {name for name in values if "psnr" in name} == {"test/psnr/x", "test/psnr/y"}
  rows = next(block for block in blocks if isinstance(block, Table)).rows
  assert [row[0] for row in rows] == ["x", "y", "z"]
  assert rows[2][2:] == ("0.0", "-")


def test_nothing_labelled():
  test, windows = example()
  unlabelled = Predictions(**{**vars(test), "labels": np.full(6, -1)})
  assert code_report.dictionary_of(unlabelled, (), num_codes=5) is None
  values, blocks = section(unlabelled, windows)
  assert "codes/behaviour_information" not in values
  assert not [block for block in blocks if isinstance(block, Table)]
