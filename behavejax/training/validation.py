"""What the sums of a model say, and what an evaluation measures besides: errors by channel, how steady codes are."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from behavejax.data.batches import eval_batches
from behavejax.data.samples import Samples
from behavejax.data.windows import Windows
from behavejax.evaluation import metrics
from behavejax.training import parallel
from behavejax.training import step as step_lib
from behavejax.types import Metrics, Variables

_WATCHED = 64  # windows


class Sample(NamedTuple):
  """Windows, and the place of each among all that are watched."""

  x: Float[np.ndarray, "window *space channel"]
  place: Int[np.ndarray, " window"]


def make_sums(
  score: Callable[[Variables, Any], Metrics], samples: Any, *, kind: str, batch_size: int, batches: Any = eval_batches
) -> Callable[[Variables], dict[str, np.ndarray]]:
  """A function of variables: the metrics of all samples, summed over batches that devices and processes share.

  Args:
    score: of the model; sums over examples.
    samples: to be scored.
    kind: of parallelism, as in `parallel`.
    batch_size: at the most, but for a whole number per device.
    batches: `(samples, batch_size=) -> batches` in order, padded and masked.
  """
  devices, processes = jax.device_count(), jax.process_count()
  size = -(-min(batch_size, len(samples)) // devices) * devices
  call = parallel.eval_call(score, kind=kind)

  def sums(variables: Variables) -> dict[str, np.ndarray]:
    totals = None
    for batch in batches(samples, batch_size=size):
      share = jax.tree.map(lambda a: np.split(a, processes)[jax.process_index()], batch)
      totals = step_lib.merge(totals, call(variables, share))
    return totals

  return sums


_MEANS = ("loss", "reconstruction_mse", "quantization_loss", "agreement")
"""Sums over examples that a model may report."""


def summarize(totals: dict[str, np.ndarray], *, prefix: str) -> dict[str, float]:
  """Sums -> means, and the histogram of codes -> its perplexity, usage and largest share."""
  count, labelled, codes = totals["count"], max(float(totals["labelled"]), 1.0), totals["codes"]
  values = {
    **{name: totals[name] / count for name in _MEANS if name in totals},
    "cross_entropy": totals["cross_entropy"] / labelled,
    "accuracy": totals["correct"] / labelled,
    **code_values(codes),
    **{f"latent_std/{i}": np.sqrt(s / count) for i, s in enumerate(totals["latent_square"])},
  }
  if "log_likelihood" in totals:
    values["log_likelihood_per_step"] = totals["log_likelihood"] / count
  return {f"{prefix}/{name}": float(value) for name, value in values.items()}


def code_values(codes: np.ndarray) -> dict[str, float]:
  """How evenly codes are used, from their counts."""
  return {
    "perplexity": metrics.perplexity(codes),
    "code_usage": np.mean(codes > 0),
    "largest_code": codes.max() / max(codes.sum(), 1),
  }


def channel_errors(
  squared_error: Float[np.ndarray, "row channel"], windows: Windows, ranges: Float[np.ndarray, " channel"]
) -> dict[str, float]:
  """`mse/CHANNEL` and `psnr/CHANNEL` (dB; see `metrics.psnr`); constant channels have no PSNR.

  Args:
    squared_error: mean over windows, by row and channel of a window.
    windows: that were evaluated.
    ranges: of their channels, as of `metrics.channel_ranges`.
  """
  mse = metrics.by_channel(squared_error, devices=windows.devices)
  ratios = metrics.psnr(mse, ranges)
  values = {f"mse/{name}": float(error) for name, error in zip(windows.channels, mse, strict=True)}
  return values | {f"psnr/{n}": float(r) for n, r in zip(windows.channels, ratios, strict=True) if np.isfinite(r)}


def make_watch(model: Any, windows: Windows | Samples, *, kind: str) -> Callable[[Variables], list[int] | None]:
  """A function of variables: the tokens of a fixed sample of windows, in one list; None for a model without tokens.

  Args:
    model: may have a function `tokens` as `behavejax.models.autoencoder.Model` has.
    windows: to take the sample from, evenly.
    kind: of parallelism, as in `parallel`.
  """
  if getattr(model, "tokens", None) is None:
    return lambda variables: None
  size = -(-min(_WATCHED, len(windows)) // jax.device_count()) * jax.device_count()
  places = np.arange(size, dtype=np.int32)
  sample = Sample(windows.gather(np.linspace(0, len(windows) - 1, size).astype(int)), places)
  share = jax.tree.map(lambda a: np.split(a, jax.process_count())[jax.process_index()], sample)

  def at_their_place(variables: Variables, sample: Sample) -> dict[str, Array]:
    found = model.tokens(variables, sample.x)
    return {"tokens": jnp.zeros((size, *found.shape[1:]), jnp.int32).at[sample.place].set(found)}  # adds up

  call = parallel.eval_call(at_their_place, kind=kind)
  return lambda variables: np.asarray(call(variables, share)["tokens"]).ravel().tolist()


def tokens_changed(before: Sequence[int] | None, now: Sequence[int] | None) -> dict[str, float]:
  """`tokens_changed`: share of the watched tokens that are others than at the last evaluation; empty at the first."""
  if before is None or now is None or len(before) != len(now):
    return {}
  return {"tokens_changed": float(np.mean(np.asarray(before) != np.asarray(now)))}
