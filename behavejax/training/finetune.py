"""Fine-tuning of encoder and syllables together, on stretches of recording; then of the syllables, on whole ones."""

import dataclasses
from typing import NamedTuple

import jax

from behavejax.config import Config
from behavejax.data.prepare import Prepared
from behavejax.data.stretches import stretches
from behavejax.data.windows import Windows
from behavejax.evaluation.evaluate import restore
from behavejax.evaluation.steps import load_steps, read_learned
from behavejax.evaluation.tokens import steps_per_window
from behavejax.models import syllables
from behavejax.models.autoencoder import class_weights, make_model
from behavejax.models.joint import Joint, constrain, encoder_of, make_joint
from behavejax.segmentation import learning
from behavejax.training import loop, parallel
from behavejax.training.task import make_plan
from behavejax.types import Variables
from behavejax.workdir import Workdir

_HALF_A_POINT = 0.005  # of accuracy


class Start(NamedTuple):
  """What fine-tuning starts from."""

  encoder: Variables
  segmenter: learning.Segmenter
  learned: learning.Learned
  data: Prepared


def fit(config: Config, workdir: Workdir) -> Variables:
  """Trains from the last checkpoint, or from what the stages `encoder` and `hsmm` learned; see `models.joint`.

  Returns the encoder's variables; the parameters of the syllables are written beside them, as part "syllables".

  The best parameters are those that `rank` puts first on the validation part, and may be those from before the first
  step. Steps small enough for the encoder hardly move the syllables: a few rounds of EM on the new codes do.

  Raises:
    InputError: a stage before is not complete, recordings are too short, or the loss diverged.
    loop.Stopped: SIGTERM arrived; everything is saved.
  """
  start, settings = load_start(config, workdir), config.finetune
  train = dataclasses.replace(
    config.train, epochs=settings.epochs, steps=settings.steps, learning_rate=settings.learning_rate,
    evaluations=settings.evaluations, batch_size=settings.batch_size, schedule="warmup_cosine", weight_decay=0.0,
    patience=0,
  )  # fmt: skip
  evaluation = dataclasses.replace(config.evaluation, batch_size=settings.batch_size)
  augment = dataclasses.replace(config.augment, time_warp=0.0)  # it would move behaviours away from their labels
  tuned = dataclasses.replace(config, train=train, evaluation=evaluation, augment=augment)
  data = dataclasses.replace(
    start.data, **{name: stretches(getattr(start.data, name), settings.windows) for name in ("train", "val")}
  )
  updates = make_plan(tuned, windows=len(data.train)).steps
  one = start.data.train

  def build(config: Config, data: Windows, *, axis_name: str | None = None) -> Joint:
    classes = len(data.classes)
    weights = class_weights(one.labels, classes=classes, power=config.loss.class_weight_power) if classes else None
    model = make_model(config, shape=one.shape, classes=classes, class_weights=weights, axis_name=axis_name)
    return make_joint(
      config, model, start.segmenter, start.encoder, start.learned.parameters,
      shape=one.shape, steps_per_window=_steps_per_window(config, start), updates=updates,
    )  # fmt: skip

  folder = workdir.stage("finetune")
  found = loop.fit(tuned, data, folder, workdir.metrics_file, stage="finetune", build=build, rank=rank)
  free = jax.device_get(found["params"]["syllables"])  # they may lie on devices of several processes
  parameters = constrain(start.segmenter, start.learned.parameters, free)
  workdir.write_part("finetune", "syllables", _learn_on(config, workdir, start, encoder_of(found), parameters))
  return encoder_of(found)


def _learn_on(
  config: Config, workdir: Workdir, start: Start, encoder: Variables, parameters: learning.Parameters
) -> learning.Parameters:
  """The syllables after EM on the codes of the tuned encoder; every process does the same."""
  encoder, parameters = jax.device_get((encoder, parameters))
  _, steps = load_steps(workdir, config, encoder=encoder)
  train, val = (syllables.part_batch(start.segmenter, steps, part) for part in ("train", "val"))
  rounds = config.finetune.rounds
  found, before, after = syllables.learn_on(
    start.segmenter, start.learned._replace(parameters=parameters), train, val, rounds=rounds
  )  # fmt: skip
  if rounds and jax.process_index() == 0:
    what = f"log likelihood {before:.3f} -> {after:.3f} per step{'' if after > before else ', not kept'}"
    print(f"finetune: {rounds} rounds of EM for the syllables, {what}")
  return parallel.everywhere(found)


def rank(values: dict[str, float], start: dict[str, float]) -> float:
  """The log likelihood per step less what the accuracy has lost: one nat for half a point, four for a whole one.

  >>> start = {"val/log_likelihood_per_step": -9.0, "val/accuracy": 0.95}
  >>> rank({"val/log_likelihood_per_step": -6.0, "val/accuracy": 0.96}, start)
  -6.0
  >>> round(rank({"val/log_likelihood_per_step": -6.0, "val/accuracy": 0.94}, start), 3)
  -10.0
  """
  lost = max(start["val/accuracy"] - values["val/accuracy"], 0.0)
  return values["val/log_likelihood_per_step"] - (lost / _HALF_A_POINT) ** 2


def load_start(config: Config, workdir: Workdir) -> Start:
  """The encoder, the syllables and the data of a run."""
  _, encoder, data = restore(workdir, config, stage="encoder")
  _, steps = load_steps(workdir, config, encoder="encoder")
  return Start(encoder, *read_learned(workdir, config.segmentation, steps, stage="hsmm"), data)


def _steps_per_window(config: Config, start: Start) -> int:
  one = start.data.train
  model = make_model(config, shape=one.shape, classes=len(one.classes))
  tokens = jax.eval_shape(model.tokens, start.encoder, jax.ShapeDtypeStruct((1, *one.shape), "float32"))
  rows = tokens.shape[1] // config.data.devices if tokens.shape[1] >= config.data.devices else tokens.shape[1]
  return steps_per_window(rows * tokens.shape[2], config.data.window_s, config.segmentation.features.step_s)
