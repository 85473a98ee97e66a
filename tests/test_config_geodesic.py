"""Sections of the geodesic system: every range is of a setting that exists, and holds."""

import operator

import pytest

from behavejax import config as config_lib
from behavejax import config_geodesic
from behavejax.errors import InputError

RANGES = {
  **dict.fromkeys(config_geodesic.POSITIVE, (0, "above 0")),
  **dict.fromkeys(config_geodesic.NOT_NEGATIVE, (-1, "0 or more")),
  **dict.fromkeys(config_geodesic.SHARES, (1.0, "in [0, 1)")),
  **dict.fromkeys(config_geodesic.CHOICES, ("so", "must be one of")),
}


@pytest.mark.parametrize("key", sorted(RANGES))
def test_values_out_of_range_are_named(key):
  default = operator.attrgetter(key)(config_lib.Config())
  wrong, words = RANGES[key]
  values, (section, name) = config_lib.default_config().to_dict(), key.split(".")
  values[section][name] = type(default)(wrong)
  with pytest.raises(InputError) as caught:
    config_lib.resolve(values)
  assert f"config.{key}" in str(caught.value)
  assert words in str(caught.value)


def test_every_number_has_a_range():
  unbounded = {"prior.top_p"}
  for section in ("vae", "prior", "generate"):
    for name, value in vars(getattr(config_lib.Config(), section)).items():
      if not isinstance(value, tuple | bool):
        assert f"{section}.{name}" in RANGES.keys() | unbounded
