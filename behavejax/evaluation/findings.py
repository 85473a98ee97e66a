"""What goes wrong with codes and syllables, as checks: a number, what is healthy, and the settings that mend it.

A check looks at one number of an evaluation, of a report or of a segmentation. A number that is missing or not finite
is not judged.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from behavejax.config import Config
from behavejax.evaluation.page import Block, Heading, Paragraph, Table
from behavejax.models.quantizer import learns_codes, make_quantizer


@dataclasses.dataclass(frozen=True)
class Limits:
  """Where healthy ends. Usage and the smallest perplexity are settings: `config.data.quality`."""

  perplexity: float = 0.1  # of the codes, as a share of them
  encoder_gradient: float = 0.01  # norm of the encoder's gradient, as a share of the whole gradient's
  reconstruction_mse: float = 0.5  # of the variance
  largest: float = 0.9  # share of the most frequent code, or of the time in one state
  tokens_changed: float = 0.3  # share of the tokens that change from one evaluation to the next
  transitions_per_minute: float = 0.2
  shortest_steps: float = 2.0  # mean duration of a state
  longest_share: float = 0.8  # mean duration of a state, as a share of the longest that is possible
  hsmm_time: float = 0.5  # share of the run's time
  settled: float = 0.8  # share of the training before which reconstruction and changes are not judged


class Check(NamedTuple):
  """A number and its limit.

  Attributes:
    name: of the finding, when it fires.
    key: of the number.
    limit: of what is healthy.
    above: whether healthy is the limit and more, else the limit and less.
    text: what the number is, with `{}` in its place.
    style: format of the number.
    advice: settings to change.
    after: share of the training before which the check is left out; 1 waits for the end.
  """

  name: str
  key: str
  limit: float
  above: bool
  text: str
  style: str
  advice: str
  after: float = 0.0


class Finding(NamedTuple):
  """A check that fired.

  Attributes:
    name: of what is wrong.
    measured: the number.
    limit: of what is healthy.
    seen: the number in words.
    healthy: the limit in words.
    advice: what to change.
  """

  name: str
  measured: float
  limit: float
  seen: str
  healthy: str
  advice: str

  @property
  def keys(self) -> tuple[str, ...]:
    """Settings that the advice names, without `config.`."""
    return tuple(re.findall(r"config\.([a-z_]+(?:\.[a-z_]+)*)", self.advice))

  @property
  def line(self) -> str:
    return f"finding: {self.name}: {self.seen} (healthy: {self.healthy}): {self.advice}"


def judge(checks: Sequence[Check], values: Mapping[str, float], *, done: float = 1.0) -> list[Finding]:
  """The checks that fire.

  >>> check = Check("too warm", "degrees", 30, False, "{} degrees", ".0f", "open config.window")
  >>> judge([check], {"degrees": 31})[0].line
  'finding: too warm: 31 degrees (healthy: at most 30): open config.window'
  >>> judge([check], {"degrees": 30})
  []
  """
  found = []
  for check in checks:
    measured = values.get(check.key, math.nan)
    wrong = measured < check.limit if check.above else measured > check.limit
    if wrong and math.isfinite(measured) and done >= check.after:
      healthy = f"{'at least' if check.above else 'at most'} {check.limit:{check.style}}"
      seen = check.text.format(f"{measured:{check.style}}")
      found.append(Finding(check.name, measured, check.limit, seen, healthy, check.advice))
  return found


def lines(found: Sequence[Finding] | None) -> list[str]:
  """Findings for a terminal, one a line; None where nothing was checked."""
  if found is None:
    return []
  return [finding.line for finding in found] or ["no finding"]


def blocks(checks: Sequence[Check], values: Mapping[str, float]) -> list[Block]:
  """The section of a report: what fires, what does not, and what could not be judged."""
  found = judge(checks, values)
  judged = [check for check in checks if math.isfinite(values.get(check.key, math.nan))]
  rows = [(f.name, f.seen, f.healthy, f.advice) for f in found]
  table = [Table(("finding", "measured", "healthy", "what to change"), rows)] if rows else []
  fired = {f.name for f in found}
  silent = dict.fromkeys(check.name for check in judged if check.name not in fired)
  unknown = dict.fromkeys(check.name for check in checks if check not in judged)
  text = f"{len(found) or 'None'} of {len(judged)} checks fired."
  if silent:
    text += f" Silent: {', '.join(silent)}."
  if unknown:
    text += f" Not judged, for want of a number: {', '.join(unknown)}."
  return [Heading("Findings"), *table, Paragraph(text)]


def code_checks(config: Config, limits: Limits = Limits()) -> list[Check]:
  """Of an encoder and its codes.

  The numbers: `perplexity`, `code_usage` and `largest_code` of the tokens, `encoder_gradient` (norm of the encoder's
  gradient over that of the whole), `reconstruction_mse`, `tokens_changed` (of a fixed sample, between evaluations).
  """
  quantizer, quality = config.quantizer, config.data.quality
  codes, parts = make_quantizer(quantizer).num_codes, quantizer.stages * quantizer.groups
  each = round(codes ** (1 / parts))  # of several codebooks, not all combinations can be asked for
  least = max(min(quality.min_perplexity, each / 2), limits.perplexity * each)
  size = "config.quantizer.levels" if quantizer.name == "fsq" else "config.quantizer.num_codes"
  revive = {
    "fsq": f"raise config.loss.reconstruction, lower config.train.learning_rate or use fewer {size}",
    "vq_ema": f"raise config.quantizer.entropy_weight, lower config.quantizer.restart_after or use fewer {size}",
  }.get(quantizer.name, f"raise config.quantizer.entropy_weight or use fewer {size}")
  checks = [
    Check("codebook collapse", "perplexity", least, True, f"perplexity {{}} of {codes} codes", ".1f", revive),
    Check(
      "all in one cluster", "largest_code", limits.largest, False, "{} of the tokens are one code", ".1%", revive
    ),
    Check(
      "no gradient through the quantizer", "encoder_gradient", limits.encoder_gradient, True,
      "the encoder has {} of the gradient's norm", ".2%",
      "lower config.train.learning_rate"
      + (" or change config.quantizer.gradient" if learns_codes(quantizer) else f" or use fewer {size}"),
    ),
    Check(
      "assignments unstable", "tokens_changed", limits.tokens_changed, False,
      "{} of the tokens changed since the last evaluation", ".1%",
      "lower config.train.learning_rate or raise config.train.ema_decay"
      + (" or config.quantizer.decay" if quantizer.name == "vq_ema" else ""),
      limits.settled,
    ),
  ]  # fmt: skip
  if parts == 1:
    checks.append(
      Check("unused codes", "code_usage", quality.min_usage, True, f"{{}} of {codes} codes occur", ".1%", revive)
    )
  if config.loss.reconstruction:
    checks.append(
      Check(
        "poor reconstruction", "reconstruction_mse", limits.reconstruction_mse, False,
        "squared error {} of the variance", ".2f",
        "raise config.loss.reconstruction, widen config.model.decoder_widths or give more codes: a smaller "
        f"config.model.token_stride, more {size}",
        limits.settled,
      )
    )  # fmt: skip
  return checks


def of_evaluation(values: Mapping[str, float], config: Config, *, done: float = 1.0) -> list[Finding]:
  """Findings of an evaluation during training.

  The encoder's gradient is that of the training loss, of which a commitment loss is a part; the report leaves it out.

  Args:
    values: the row of the evaluation with that of the training step before it, as in `metrics.jsonl`.
    config: of the run.
    done: share of the training.
  """
  named = {key.removeprefix("val/"): value for key, value in values.items()}
  if "gradient_norm/encoder" in values:
    named["encoder_gradient"] = values["gradient_norm/encoder"] / max(values["gradient_norm"], 1e-30)
  return judge(code_checks(config), named, done=done)


def state_checks(config: Config, limits: Limits = Limits(), *, mixture: bool = False) -> list[Check]:
  """Of a segmentation; the numbers are those of `state_values`, and `hsmm_time`, a share of the run's time.

  Args:
    config: of the run.
    limits: of what is healthy.
    mixture: of the stage `hdp`, which has no temperature.
  """
  most = config.segmentation.states
  # features have a variance that the prior expects, codes only the weight of each
  codes = bool({"encoder", "codebook"} & set(config.stages))
  spread = "config.segmentation.temperature" if codes else "config.segmentation.noise"
  lower, higher = ("", "") if codes and mixture else (f"lower {spread} or ", f"raise {spread} or ")
  shorter = "lower config.segmentation.mean_duration_s, or config.segmentation.temperature (1 trusts every step)"
  return [
    Check(
      "all in one cluster", "largest_state", limits.largest, False, "one state has {} of the time", ".1%",
      f"{lower}raise config.segmentation.gamma or config.segmentation.restarts",
    ),
    Check(
      "too many clusters", "states", most - 1, False, f"{{}} states in use, of {most}", ".0f",
      f"raise config.segmentation.states if there are that many; else {higher}lower "
      "config.segmentation.gamma, and leave config.segmentation.moves on", 1.0,
    ),
    Check(
      "states never change", "transitions_per_minute", limits.transitions_per_minute, True,
      "{} changes per minute", ".2f", shorter,
    ),
    Check(
      "unrealistic durations", "shortest_mean_steps", limits.shortest_steps, True,
      "a state lasts {} steps on average", ".1f",
      "raise config.segmentation.min_duration_s or config.segmentation.temperature",
    ),
    Check(
      "unrealistic durations", "longest_mean_share", limits.longest_share, False,
      "a state lasts {} of the longest duration on average", ".0%", "raise config.segmentation.max_duration_s",
    ),
    Check(
      "time spent in the HSMM", "hsmm_time", limits.hsmm_time, False, "{} of the run's time", ".0%",
      "lower config.segmentation.restarts, config.segmentation.iterations or config.segmentation.max_duration_s, or "
      "raise config.segmentation.features.step_s",
    ),
  ]  # fmt: skip


def state_values(
  share: Float[np.ndarray, " state"],
  mean_steps: Float[np.ndarray, " state"],
  *,
  transitions_per_minute: float,
  longest: int,
  in_use: float,
) -> dict[str, float]:
  """Numbers for `state_checks`.

  Args:
    share: of the time in each state.
    mean_steps: mean duration of each state, in steps; NaN where it is not known.
    transitions_per_minute: from one state to another.
    longest: duration that is possible, in steps.
    in_use: share of the time that a state needs to count.
  """
  used = share > in_use
  means = mean_steps[used & np.isfinite(mean_steps)]
  values = {
    "largest_state": float(share.max(initial=0)),
    "states": float(used.sum()),
    "transitions_per_minute": transitions_per_minute,
  }
  if len(means) and longest > 1:  # of single steps, durations say nothing
    values |= {"shortest_mean_steps": float(means.min()), "longest_mean_share": float(means.max() / longest)}
  return values


def time_share(seconds: Mapping[str, float], stage: str = "hsmm") -> dict[str, float]:
  """`hsmm_time`: share of a stage in the wall time of all; empty where it is the only one or not known."""
  if stage not in seconds or len(seconds) < 2:
    return {}
  return {"hsmm_time": seconds[stage] / max(sum(seconds.values()), 1e-9)}
