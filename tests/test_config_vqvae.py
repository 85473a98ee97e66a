"""Settings of the autoencoder of samples that are out of range, or exclude each other."""

import pytest

from behavejax import config as config_lib
from behavejax.errors import InputError


def changed(stages=("vqvae",), **sections):
  values = config_lib.default_config().to_dict() | {"stages": stages}
  return {**values, **{name: {**values[name], **changes} for name, changes in sections.items()}}


@pytest.mark.parametrize(
  ("values", "message"),
  [
    (changed(vqvae={"factors": (3, 2)}), "config.vqvae.factors needs 1 to 3 powers of two, one for each axis of space"),
    (changed(vqvae={"factors": ()}), "got ()"),
    (changed(vqvae={"factors": (2, 2, 2, 2)}), "got (2, 2, 2, 2)"),
    (changed(vqvae={"factors": (0,)}), "got (0,)"),
    (changed(vqvae={"attention": "local"}), "config.vqvae.attention must be one of full, axial, none, got 'local'"),
    (changed(vqvae={"norm": "layer"}), "config.vqvae.norm must be one of batch, group"),
    (changed(vqvae={"dtype": "float16"}), "config.vqvae.dtype must be one of float32, bfloat16"),
    (changed(vqvae={"reconstruction": "l2"}), "config.vqvae.reconstruction must be one of mse, l1, huber, got 'l2'"),
    (changed(vqvae={"hidden": 0}), "config.vqvae.hidden must be above 0, got 0"),
    (changed(vqvae={"hidden": 9, "heads": 3}), "must be even and a multiple of config.vqvae.heads=3"),
    (changed(vqvae={"hidden": 8, "heads": 3}), "config.vqvae.hidden=8 must be even and a multiple"),
    (changed(vqvae={"blocks": -1}), "config.vqvae.blocks must be 0 or more, got -1"),
    (changed(vqvae={"huber_delta": float("nan")}), "config.vqvae.huber_delta must be above 0, got nan"),
    (changed(vqvae={"spectral": 0.1}), "config.vqvae.spectral is for signals, of one axis"),
    (changed(vqvae={"spectral": 0.1, "factors": (2,), "spectral_windows": (1,)}), "each 2 or more, got (1,)"),
    (changed(loss={"reconstruction": 0.0}), "leaves the stage 'vqvae' nothing to learn"),
    (changed(augment={"jitter": 0.1}), "config.augment distorts windows of the stage 'encoder'"),
  ],
)
def test_wrong_settings_are_named(values, message):
  with pytest.raises(InputError) as caught:
    config_lib.resolve(values)
  assert message in str(caught.value)
  assert "\n" not in str(caught.value)


def test_other_stages_do_not_mind():
  config_lib.resolve(changed(stages=("encoder",), augment={"jitter": 0.1}, vqvae={"spectral": 0.1}))
