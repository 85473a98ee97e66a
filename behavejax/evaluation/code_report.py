"""The part of a report on codes: how they are used, what they stand for, and what is left of the signal."""

from collections.abc import Mapping, Sequence

import numpy as np

from behavejax.config import Config
from behavejax.data.windows import Windows
from behavejax.evaluation import figures, metrics
from behavejax.evaluation.metrics import CodeDictionary
from behavejax.evaluation.page import Block, Heading, Paragraph, Picture, Table
from behavejax.evaluation.predictions import Predictions

COLUMNS = ("code", "tokens", "share of tokens", "main behaviour", "share in it")
_SHOWN = 12


def section(
  test: Predictions,
  windows: Windows,
  dictionary: CodeDictionary | None,
  config: Config,
  *,
  num_codes: int,
  latents: Mapping[str, float],
) -> tuple[dict[str, float], list[Block]]:
  """Numbers and blocks.

  Args:
    test: predictions of the test split.
    windows: of the test split.
    dictionary: of its codes, None without labels.
    config: of the run.
    num_codes: size of the codebook.
    latents: numbers on the vectors before quantization, as of `metrics.json`.
  """
  statistics = metrics.code_statistics(test.tokens, num_codes=num_codes)
  per_window = test.tokens[0].size
  errors, channels = _channels(test, windows)
  values = {
    "codes/perplexity": statistics.perplexity,
    "codes/usage": statistics.usage,
    "codes/largest": float(statistics.counts.max() / max(statistics.counts.sum(), 1)),
    "codes/size": float(num_codes),
    "codes/per_window": float(per_window),
    "test/reconstruction_mse": float(test.reconstruction_error.mean()),
    **errors,
    **latents,
  }
  blocks: list[Block] = [
    Heading("Codes"),
    Paragraph(
      f"A window becomes {per_window} tokens ({per_window / config.data.window_s:g} per second). Over the whole test "
      f"split {statistics.usage:.1%} of the "
      f"{num_codes} codes occur, with perplexity {statistics.perplexity:.1f}; the decoder rebuilds the signal from "
      f"them with a mean squared error of {values['test/reconstruction_mse']:.3f} of the training variance."
    ),
    *channels,
    Picture("code_usage", figures.code_usage(statistics), "How evenly the codebook is used, test split."),
  ]
  if "codes/silhouette" in values:
    behaviours = values.get("codes/silhouette_behaviours")
    blocks.append(
      Paragraph(
        f"Silhouette of the vectors before quantization, validation split: {values['codes/silhouette']:.2f} by code"
        + ("" if behaviours is None else f", {behaviours:.2f} by behaviour")
        + " (-1 to 1; above 0 where vectors lie nearer to others of their group than to those of the next)."
      )
    )
  if dictionary is not None:
    values["codes/behaviour_information"] = dictionary.information
    found = rows(dictionary, windows.classes)
    blocks += [
      Picture(
        "code_behaviour", figures.code_behaviour(dictionary, windows.classes), "Which behaviours the codes occur in."
      ),
      Paragraph(
        f"The {min(_SHOWN, len(found))} most frequent codes with the behaviour they occur in most; "
        f"codes.csv holds all {len(found)} that occur."
      ),
      Table(COLUMNS, found[:_SHOWN]),
    ]
  if config.evaluation.embedding != "none":
    scatter = figures.embedding_scatter(
      test.embedding, test.labels, windows.classes, method=config.evaluation.embedding
    )
    blocks.append(Picture("embedding", scatter, "Windows that lie together have similar codes."))
  return values, blocks


def dictionary_of(test: Predictions, classes: Sequence[str], *, num_codes: int) -> CodeDictionary | None:
  """What the codes of a split stand for; None where nothing is labelled."""
  if not (test.labels >= 0).any():
    return None
  return metrics.code_dictionary(test.tokens, test.labels, num_codes=num_codes, classes=len(classes))


def rows(dictionary: CodeDictionary, classes: Sequence[str]) -> list[tuple[int, int, str, str, str]]:
  """Every code that occurs, the most frequent first, in the order of `COLUMNS`."""
  total = dictionary.joint.sum(1)
  return [
    (int(code), int(total[code]), f"{total[code] / total.sum():.4f}", classes[dictionary.behaviour[code]],
     f"{dictionary.purity[code]:.4f}")
    for code in np.argsort(-total, kind="stable")
    if total[code] > 0
  ]  # fmt: skip


def _channels(test: Predictions, windows: Windows) -> tuple[dict[str, float], list[Block]]:
  """How well the decoder rebuilds each channel."""
  if test.channel_error is None:
    return {}, []
  mse, ranges = test.channel_error.mean(axis=0), metrics.channel_ranges(windows.signal)
  ratio = metrics.psnr(mse, ranges)
  values, cells = {}, []
  for name, error, span, db in zip(windows.channels, mse, ranges, ratio, strict=True):
    values |= {f"test/mse/{name}": float(error)} | ({f"test/psnr/{name}": float(db)} if np.isfinite(db) else {})
    cells.append((name, f"{error:.3f}", f"{span:.1f}", f"{db:.1f}" if np.isfinite(db) else "-"))
  return values, [
    Table(("channel", "squared error", "range", "PSNR (dB)"), cells),
    Paragraph(
      "In units of the training data's standard deviation. PSNR is 10 log10(range² / squared error); the range is from "
      "the 0.1 % to the 99.9 % quantile of the channel in the test split."
    ),
  ]
