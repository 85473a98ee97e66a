"""What fine-tuning has changed: accuracy of the classifier and likelihood of the syllables, before and after."""

from behavejax.config import Config
from behavejax.evaluation import metrics
from behavejax.evaluation.evaluate import predict, restore
from behavejax.evaluation.page import Block, Heading, Paragraph, Table
from behavejax.evaluation.steps import load_steps, read_learned, read_syllables
from behavejax.models import syllables
from behavejax.workdir import Workdir

_NAMES = {
  "accuracy": "accuracy",
  "macro_f1": "macro-F1",
  "log_likelihood_per_step": "log likelihood per step (nats)",
  "perplexity": "perplexity of the codes",
  "reconstruction_mse": "reconstruction error",
}


def compare(workdir: Workdir, config: Config) -> tuple[dict[str, float], list[Block]]:
  """Scores `finetune/NAME_before` and `finetune/NAME_after` on the test part, and the section of the report."""
  if not workdir.is_complete("finetune"):
    return {}, []
  values = {}
  for when, stage in (("before", "encoder"), ("after", "finetune")):
    values |= {f"finetune/{name}_{when}": value for name, value in _scores(workdir, config, stage).items()}
  alone = values["finetune/log_likelihood_per_step_em_alone"] = _em_alone(workdir, config)
  rows = [
    (label, *(f"{values[f'finetune/{name}_{when}']:.4f}" for when in ("before", "after")))
    for name, label in _NAMES.items()
    if f"finetune/{name}_before" in values
  ]
  return values, [
    Heading("Fine-tuning"),
    Table(("on the test part", "before", "after"), rows),
    Paragraph(
      "The log likelihood is that of the codes of whole held-out recordings under the syllables, divided by the "
      f"{config.segmentation.temperature or 'number of codes per step'} that codes of a step count together. It also "
      "rises where codes become fewer or easier to foresee: read it beside the perplexity and the reconstruction. "
      f"Fine-tuning ends with {config.finetune.rounds} rounds of EM for the syllables, kept where they explain the "
      f"validation part better; those alone, with the codes from before, would have reached {alone:.4f}."
    ),
  ]


def _scores(workdir: Workdir, config: Config, stage: str) -> dict[str, float]:
  model, variables, data = restore(workdir, config, stage=stage)
  test = predict(model, variables, data.test, config)
  found = {
    "perplexity": metrics.code_statistics(test.tokens, num_codes=model.num_codes).perplexity,
    "reconstruction_mse": float(test.reconstruction_error.mean()),
    "log_likelihood_per_step": _held_out(workdir, config, stage),
  }
  if (test.labels >= 0).any():
    table = metrics.confusion(test.labels, test.predicted, classes=len(data.test.classes))
    found |= {"accuracy": metrics.accuracy(table), "macro_f1": metrics.macro_f1(table)}
  return found


def _held_out(workdir: Workdir, config: Config, stage: str) -> float:
  _, steps = load_steps(workdir, config, encoder=stage)
  learned_in = "finetune" if stage == "finetune" else "hsmm"
  segmenter, parameters = read_syllables(workdir, config.segmentation, steps, stage=learned_in)
  return syllables.evidence_per_step(segmenter, parameters, syllables.part_batch(segmenter, steps, "test"))


def _em_alone(workdir: Workdir, config: Config) -> float:
  """The same with the codes from before, and the rounds of EM that fine-tuning ends with, kept by the same rule."""
  _, steps = load_steps(workdir, config, encoder="encoder")
  segmenter, learned = read_learned(workdir, config.segmentation, steps, stage="hsmm")
  train, val, test = (syllables.part_batch(segmenter, steps, part) for part in ("train", "val", "test"))
  parameters, _, _ = syllables.learn_on(segmenter, learned, train, val, rounds=config.finetune.rounds)
  return syllables.evidence_per_step(segmenter, parameters, test)
