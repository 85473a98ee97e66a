"""Every value enters through `resolve`, and what is wrong is named."""

import dataclasses
import importlib.util
import pathlib

import jax
import ml_collections
import numpy as np
import pytest

from behavejax import config as config_lib
from behavejax.errors import InputError
from behavejax.models import neural_encoder, syllables
from behavejax.models.autoencoder import make_model
from behavejax.models.code_prior import make_prior
from behavejax.models.vae import make_vae
from behavejax.models.vqvae import make_vqvae
from behavejax.training import benchmark_vivit, stages

ROOT = pathlib.Path(__file__).parent.parent
PARAMETERS = {
  ("fsq", "quadruped"): ((2, 50, 9), 10),
  ("fsq", "basic_motions"): ((2, 20, 6), 4),
  ("fsq", "hapt"): ((2, 50, 6), 12),
  ("fsq", "dsa"): ((2, 50, 9), 19),
  ("fsq", "classic"): ((2, 50, 9), 10),
  ("fsq", "tiny"): ((2, 50, 9), 10),
  ("vq_hdp_hsmm", "quadruped"): ((2, 50, 9), 10),
  ("vq_hdp_hsmm", "hapt"): ((2, 50, 6), 12),
  ("vq_hdp_hsmm", "pair"): ((2, 100, 9), 10),
  ("vq_hdp_hsmm", "tiny"): ((2, 50, 9), 10),
}
"""Each config of an encoder with each argument: the shape of its windows and its number of classes."""

SAMPLES = {
  ("vqvae_1d", "quadruped"): ((100, 6), 37254),
  ("vqvae_1d", "hapt"): ((100, 6), 50374),
  ("vqvae_1d", "dsa"): ((200, 9), 51913),
  ("vqvae_1d", "tiny"): ((100, 6), 3030),
  ("vqvae_2d", "digits"): ((8, 8, 1), 194497),
  ("vqvae_2d", "mnist"): ((28, 28, 1), 325697),
  ("vqvae_2d", "fashion_mnist"): ((28, 28, 1), 325697),
  ("vqvae_2d", "cifar10"): ((32, 32, 3), 1294467),
  ("vqvae_2d", "folder"): ((64, 64, 3), 1294467),
  ("vqvae_2d", "tiny"): ((8, 8, 1), 8497),
  ("vqvae_3d", "moving_digits"): ((8, 16, 16, 1), 315985),
  ("vqvae_3d", "folder"): ((8, 64, 64, 3), 3794051),
  ("vqvae_3d", "tiny"): ((4, 16, 16, 1), 6777),
}
"""Each config of signals, images or video with each argument: the shape of its samples and its parameters."""

WITHOUT_ENCODER = {("hsmm", arg) for arg in ("simulated", "animals", "hapt", "mocap6", "quadruped", "tiny")}

GOLDEN = {
  ("fsq", "quadruped"): 891475,
  ("fsq", "basic_motions"): 886858,
  ("fsq", "hapt"): 868306,
  ("fsq", "dsa"): 873180,
  ("fsq", "classic"): 170419,
  ("fsq", "tiny"): 6203,
  ("vq_hdp_hsmm", "quadruped"): 902291,
  ("vq_hdp_hsmm", "hapt"): 879122,
  ("vq_hdp_hsmm", "pair"): 902291,
  ("vq_hdp_hsmm", "tiny"): 6307,
}
"""Parameters of each; a change here is a change of what a config means."""


NEURAL = {
  ("vivit", "simulated"): 121052,
  ("vivit", "small"): 3742812,
  ("vivit", "baseline"): 21613596,
  ("vivit", "tiny"): 11604,
}
"""Parameters of each neural encoder, with a data set of 24 x 32 pixels, two signals and ten neurons."""
GEODESIC = {
  "digits": ((8, 8, 1), (4, 4), 10, 192836, 116480),
  "mnist": ((28, 28, 1), (7, 7), 10, 192836, 215616),
  "fashion_mnist": ((28, 28, 1), (7, 7), 10, 192836, 215616),
  "cifar10": ((32, 32, 3), (8, 8), 10, 760044, 923136),
  "imu": ((100, 9), (25,), 10, 97522, 116480),
  "tiny": ((8, 8, 1), (4, 4), 10, 2964, 3772),
  "digits:vanilla:euclidean": ((8, 8, 1), (1, 1), 10, 286788, 116480),
}
"""Shape of a sample, grid of its codes, classes, parameters of the autoencoder and of the prior."""


def load(name):
  spec = importlib.util.spec_from_file_location(name, ROOT / "configs" / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def changed(**sections):
  values = config_lib.default_config().to_dict()
  for section, changes in sections.items():
    if isinstance(changes, dict):
      values[section] = {**values[section], **changes}
    else:
      values[section] = changes
  return values


def test_defaults_resolve_to_the_dataclass():
  assert config_lib.resolve(config_lib.default_config()) == config_lib.Config()


def test_json_round_trip():
  config = config_lib.resolve(load("fsq").get_config("hapt"))
  assert config_lib.resolve(config_lib.to_dict(config)) == config


def test_every_argument_is_listed_here():
  for path in (ROOT / "configs").glob("*.py"):
    geodesic = [("geodesic", arg) for arg in GEODESIC if ":" not in arg]
    listed = [*PARAMETERS, *SAMPLES, *WITHOUT_ENCODER, *NEURAL, *geodesic]
    assert {arg for name, arg in listed if name == path.stem} == set(load(path.stem).ARGUMENTS)


@pytest.mark.parametrize(("name", "arg"), list(PARAMETERS))
def test_every_config_builds_its_model(name, arg):
  config = config_lib.resolve(load(name).get_config(arg))
  shape, classes = PARAMETERS[name, arg]
  model = make_model(config, shape=shape, classes=classes)
  variables = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, *shape), np.float32))
  assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])) == GOLDEN[name, arg]


@pytest.mark.parametrize("arg", list(GEODESIC))
def test_every_config_builds_its_codes(arg):
  config = config_lib.resolve(load("geodesic").get_config(arg))
  assert set(config.stages) <= set(stages.STAGES)
  shape, grid, classes, *golden = GEODESIC[arg]
  vae = make_vae(config.vae, shape=shape)
  assert vae.grid == grid
  prior = make_prior(config.prior, grid=grid, num_codes=config.codebook.codes, classes=classes)
  inputs = np.zeros((1, *shape), np.float32), np.zeros((1, *grid), np.int32)
  made = [jax.eval_shape(m.init, jax.random.key(0), x) for m, x in zip((vae, prior), inputs, strict=True)]
  found = [sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])) for variables in made]
  assert found == golden
  assert config.vae.latent == ("vanilla" if "vanilla" in arg else "spatial")
  assert config.codebook.method == ("euclidean" if "euclidean" in arg else "geodesic")


@pytest.mark.parametrize(
  ("arg", "message"),
  [
    ("digit", "no argument 'digit'; did you mean 'digits'"),
    ("mnist:spacial", "no option 'spacial'; did you mean 'spatial'"),
    ("mnist:spatial:vanilla", "asks for both spatial and vanilla"),
  ],
)
def test_wrong_arguments_are_named(arg, message):
  with pytest.raises(InputError, match=message):
    load("geodesic").get_config(arg)


@pytest.mark.parametrize(("name", "arg"), list(SAMPLES))
def test_every_config_of_samples_builds_its_model(name, arg):
  config = config_lib.resolve(load(name).get_config(arg))
  shape, parameters = SAMPLES[name, arg]
  model = make_vqvae(config, shape=shape)
  variables = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, *shape), np.float32))
  assert config.stages == ("vqvae",)
  assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])) == parameters


@pytest.mark.parametrize(("name", "arg"), list(NEURAL))
def test_every_config_builds_its_neural_encoder(name, arg):
  config = config_lib.resolve(load(name).get_config(arg))
  assert set(config.stages) <= set(stages.STAGES)
  model = neural_encoder.make_model(config.vivit, [neural_encoder.DataSet((24, 32), 2, (0.5,) * 10)])
  variables = jax.eval_shape(model.init, jax.random.key(0))
  assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(variables)) == NEURAL[name, arg]


def test_the_benchmark_measures_the_baseline():
  assert config_lib.resolve(load("vivit").get_config("baseline")).vivit == benchmark_vivit.BASELINE


@pytest.mark.parametrize(("name", "arg"), sorted(WITHOUT_ENCODER))
def test_every_config_builds_its_segmenter(name, arg):
  config = config_lib.resolve(load(name).get_config(arg))
  settings = config.segmentation
  assert set(config.stages) <= set(stages.STAGES)
  steps = syllables.Steps([np.zeros((30, 4), np.float32)] * 3, np.arange(3), (), 1 / settings.features.step_s, 1.0)
  segmenter = syllables.make_segmenter(settings, steps)
  assert segmenter.groups == (3 if arg == "animals" else 1)
  learned = syllables.learned_like(segmenter, syllables.make_batch(segmenter, steps))
  assert learned.parameters.log_transitions.shape == (segmenter.groups, settings.states, settings.states)


@pytest.mark.parametrize(
  ("values", "message"),
  [
    (changed(sed=1), "config.sed is not a setting; did you mean 'seed'"),
    (changed(train={"batchsize": 3}), "config.train.batchsize is not a setting; did you mean 'batch_size'"),
    (changed(train={"batch_size": "64"}), "config.train.batch_size must be of type int, got '64'"),
    (changed(train={"batch_size": True}), "config.train.batch_size must be of type int, got True"),
    (changed(train={"batch_size": 0}), "config.train.batch_size must be above 0, got 0"),
    (changed(data={"val_subjects": 3}), "config.data.val_subjects must be a tuple"),
    (changed(train=3), "config.train must be a section of settings"),
    (changed(model={"widths": (32, "a")}), "config.model.widths[1] must be of type int"),
    (changed(model={"token_stride": 3}), "config.model.token_stride must be a power of two"),
    (changed(model={"token_stride": 16}), "config.model.token_stride must be a power of two up to 8"),
    (changed(quantizer={"levels": ()}), "config.quantizer.levels needs at least one level"),
    (changed(quantizer={"levels": (2, 3)}), "needs config.quantizer.symmetric=True"),
    (changed(quantizer={"name": "vq", "num_codes": 1}), "config.quantizer.num_codes must be 2 or more, got 1"),
    (changed(quantizer={"name": "lfq", "num_codes": 48}), "config.quantizer.num_codes must be a power of two"),
    (changed(quantizer={"name": "lfq", "num_codes": 2**17}), "131,072 codes, the most is 65,536"),
    (changed(quantizer={"name": "vq", "dim": 16, "groups": 3}), "dim=16 cannot be cut into config.quantizer.groups=3"),
    (changed(quantizer={"name": "vq_ema", "stages": 2, "groups": 2}), "4,294,967,296 codes, the most is 65,536"),
    (changed(quantizer={"levels": (8, 6, 5), "stages": 3}), "lower stages, groups, levels"),
    (changed(quantizer={"stages": 0}), "config.quantizer.stages must be above 0, got 0"),
    (changed(quantizer={"name": "vq", "stages": 2, "cosine": True}), "config.quantizer.cosine=True gives every code"),
    (changed(quantizer={"name": "lfq", "stages": 2, "spherical": True}), "config.quantizer.spherical=True gives every"),
    (changed(quantizer={"spherical": True}), "config.quantizer.spherical=True is of name=lfq only, got name=fsq"),
    (changed(quantizer={"entropy_weight": 0.1}), "config.quantizer.entropy_weight has nothing to act on with name=fsq"),
    (changed(quantizer={"name": "vq_ema", "orthogonality_weight": 0.1}), "of name=vq only, got name=vq_ema"),
    (changed(train={"schedule": "linear"}), "config.train.schedule must be one of warmup_cosine, plateau"),
    (changed(data={"val_fraction": 0.5, "test_fraction": 0.5}), "leave nothing to train on"),
    (changed(data={"val_subjects": (1, 2), "test_subjects": ("2",)}), "share 2"),
    (changed(model={"device_attention": True}, data={"fold": False}), "config.data.fold=True"),
    (changed(loss={"reconstruction": 0.0, "classification": 0.0}), "nothing to learn"),
    (changed(train={"steps": 0, "epochs": 0.0}), "nothing to train"),
    (changed(finetune={"steps": 0, "epochs": 0.0}), "config.finetune.epochs are both 0: nothing to train"),
    (changed(quantizer={"levels": (8, 1001)}), "each from 2 to 1000, got (8, 1001)"),
    (changed(stages=("encoder", "hsmm"), segmentation={"holdout": 0.2}), "config.segmentation.holdout is of features"),
    (changed(stages=("vae",), augment={"jitter": 0.1}), "config.augment distorts windows of the stage 'encoder'"),
    (changed(stages=()), "config.stages is empty"),
    (changed(evaluation={"ethogram_recordings": 0}), "config.evaluation.ethogram_recordings must be above 0, got 0"),
    (changed(model={"dropout": 1.0}), "config.model.dropout must be in [0, 1), got 1.0"),
    (changed(data={"window_s": float("nan")}), "config.data.window_s must be above 0, got nan"),
    (changed(segmentation={"durations": "weibull"}), "config.segmentation.durations must be one of geometric"),
    (changed(segmentation={"states": 0}), "config.segmentation.states must be above 0, got 0"),
    (changed(stages=("hsmm",), segmentation={"states": 1}), "config.segmentation.states must be 2 or more, got 1"),
    (changed(stages=("hsmm", "encoder")), "config.stages has 'encoder' after 'hsmm'"),
    (changed(stages=("hsmm",), data={"nan_strategy": "drop"}), "config.data.nan_strategy=drop leaves holes"),
    (changed(segmentation={"restarts": 1}), "config.segmentation.restarts must be 2 or more"),
    (changed(segmentation={"method": "gradient"}), "set moves=False"),
    (changed(segmentation={"holdout": 1.0}), "config.segmentation.holdout must be in [0, 1), got 1.0"),
    (changed(segmentation={"min_duration_s": 30.0}), "min_duration_s=30 is above max_duration_s=20"),
    (changed(data={"syllables": {"shortest": 500.0}}), "config.data.syllables needs 2 states or more"),
    (changed(vivit={"core": "resnet"}), "config.vivit.core must be one of vivit, conv3d, got 'resnet'"),
    (changed(vivit={"kernel": (8, 8)}), "config.vivit.kernel needs three whole numbers above 0"),
    (changed(vivit={"stride": (2, 9, 4)}), "leaves out rows between tubelets of config.vivit.kernel=(8, 8, 8)"),
    (changed(vivit={"head_width": 6}), "config.vivit.head_width=6 cannot be turned along rows and columns"),
    (changed(vivit={"width": 32, "position": "sinusoidal"}), "config.vivit.width=32 cannot hold waves"),
    (changed(vivit={"convolutions": ()}), "config.vivit.convolutions needs at least one number of filters"),
    (changed(vivit={"patch_dropout": 1.0}), "config.vivit.patch_dropout must be in [0, 1), got 1.0"),
    (changed(stages=("readout",)), "config.stages has 'readout', which needs a trained core"),
    (changed(stages=("vivit", "readout"), readout={"steps": 0, "epochs": 0.0}), "are both 0: nothing to train"),
    (changed(vae={"latent": "flat"}), "config.vae.latent must be one of spatial, vanilla, got 'flat'"),
    (changed(vae={"halvings": 4}), "config.vae.halvings must be at most 3, the number of config.vae.widths, got 4"),
    (changed(vae={"widths": ()}), "config.vae.widths needs at least one number of filters"),
    (
      changed(prior={"width": 20, "heads": 4}),
      "config.prior.width=20 must be a multiple of twice config.prior.heads=4",
    ),
    (changed(prior={"order": "spiral"}), "config.prior.order must be one of raster, columns, snake, coarse"),
    (changed(prior={"top_p": 1.5}), "config.prior.top_p must be at most 1, got 1.5"),
    (changed(prior={"steps": 0, "epochs": 0.0}), "config.prior.steps and config.prior.epochs are both 0"),
    (changed(stages=("hsmm", "vae", "codebook")), "config.stages has 'codebook' after 'hsmm'"),
  ],
)
def test_wrong_settings_are_named(values, message):
  with pytest.raises(InputError) as caught:
    config_lib.resolve(values)
  assert message in str(caught.value)
  assert "\n" not in str(caught.value)


def test_config_dict_takes_no_unknown_key_once_locked():
  config = config_lib.default_config().lock()
  with pytest.raises(AttributeError):
    config.train.batchsize = 3


def test_every_field_has_the_type_of_its_default():
  def walk(section):
    for field in dataclasses.fields(section):
      value = getattr(section, field.name)
      if dataclasses.is_dataclass(value):
        walk(value)
      else:
        assert isinstance(value, str | int | float | bool | tuple)

  walk(config_lib.Config())
  assert isinstance(config_lib.default_config(), ml_collections.ConfigDict)
