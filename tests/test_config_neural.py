"""Settings of neural recordings that are out of range or exclude each other are named."""

import dataclasses

import pytest

from behavejax import config as config_lib
from behavejax.errors import InputError
from behavejax.workdir import Workdir


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"clip": 0}, "config.neural.clip must be above 0, got 0"),
    ({"recordings": ()}, "config.neural.recordings is empty"),
    ({"recordings": ("a.npz", "a.npz")}, "config.neural.recordings names one twice"),
    ({"weights": (1.0,)}, "a number above 0 for each of the 2 recordings, got (1.0,)"),
    ({"weights": (1.0, 0.0)}, "a number above 0 for each of the 2 recordings"),
    ({"context": 32}, "config.neural.context=32 leaves nothing of a clip of 32"),
    ({"behaviour_lags": (-1,)}, "config.neural.behaviour_lags must be frames back"),
    ({"behaviour_lags": ()}, "config.neural.behaviour_lags must be frames back"),
    ({"val_fraction": 0.6, "test_fraction": 0.4}, "leave nothing to train on"),
    ({"test_fraction": 1.0}, "config.neural.test_fraction must be in [0, 1), got 1.0"),
    ({"rate_hz": -1.0}, "config.neural.rate_hz must be 0 or more"),
    ({"glm": {"penalties": ()}}, "config.neural.glm.penalties must be numbers above 0"),
    ({"glm": {"lags": 0}}, "config.neural.glm.lags must be above 0"),
    ({"simulate": {"neurons": (3,)}}, "as many elements in each tuple, got neurons 1, heights 2"),
    ({"simulate": {"widths": (3, 0)}}, "config.neural.simulate.widths must be above 0, got (3, 0)"),
    ({"simulate": {"energy": 1.5}}, "config.neural.simulate.energy must be in [0, 1], got 1.5"),
    ({"simulate": {"trial_s": 0.0}}, "config.neural.simulate.trial_s must be above 0"),
    ({"clips": 3}, "config.neural.clips is not a setting; did you mean 'clip'"),
  ],
)
def test_what_cannot_be_is_named(changes, message):
  values = config_lib.default_config().to_dict()
  for name, change in changes.items():
    values["neural"][name] = {**values["neural"][name], **change} if isinstance(change, dict) else change
  with pytest.raises(InputError) as caught:
    config_lib.resolve(values)
  assert message in str(caught.value)


def test_the_baseline_may_change_after_training_and_the_data_may_not(tmp_path):
  config = dataclasses.replace(config_lib.Config(), stages=("vivit",))
  workdir = Workdir(tmp_path)
  workdir.start(config)
  workdir.stage("vivit").mkdir(parents=True)
  neural = dataclasses.replace(config.neural, glm=dataclasses.replace(config.neural.glm, lags=3))
  workdir.start(dataclasses.replace(config, neural=neural))
  with pytest.raises(InputError, match=r"config.neural.clip is 16 here and 32 there"):
    workdir.start(dataclasses.replace(config, neural=dataclasses.replace(neural, clip=16)))
