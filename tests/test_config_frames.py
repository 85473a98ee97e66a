"""What is wrong in the section `frames` is named."""

import pytest

from behavejax import config as config_lib
from behavejax.config_frames import FramesConfig, check_frames
from behavejax.errors import InputError


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"sise": (8, 8)}, "config.frames.sise is not a setting; did you mean 'size'"),
    ({"on_broken": "ignore"}, "config.frames.on_broken must be one of fatal, skip, got 'ignore'"),
    ({"channels": 2}, "config.frames.channels must be one of 0, 1, 3, 4, got 2"),
    ({"size": (8,)}, "config.frames.size must be (height, width) in pixels or (), got (8,)"),
    ({"size": (8, 0)}, "config.frames.size must be (height, width)"),
    ({"length": 0}, "config.frames.length must be above 0, got 0"),
    ({"stride": -1}, "config.frames.stride must be 0 or more, got -1"),
    ({"workers": -2}, "config.frames.workers must be 0 or more, got -2"),
    ({"val": 0.0}, "config.frames.val must be above 0, got 0.0"),
    ({"test": 2.5}, "config.frames.test must be a whole number or a share below 1, got 2.5"),
    ({"test": float("nan")}, "config.frames.test must be above 0, got nan"),
    ({"test": float("inf")}, "config.frames.test must be above 0, got inf"),
    ({"val": 0.5, "test": 0.5}, "leave nothing to train on"),
    ({"moving": {"videos": 0}}, "config.frames.moving.videos must be above 0, got 0"),
    ({"moving": {"speed": -1.0}}, "config.frames.moving.speed must be above 0, got -1.0"),
  ],
)
def test_wrong_settings_are_named(values, message):
  with pytest.raises(InputError) as caught:
    config_lib.resolve({"frames": values})
  assert message in str(caught.value)
  assert "\n" not in str(caught.value)


def test_counts_and_shares_are_both_taken():
  check_frames(FramesConfig(val=500.0, test=1000.0))
  assert config_lib.resolve({"frames": {"val": 20, "test": 0.25}}).frames.val == 20
