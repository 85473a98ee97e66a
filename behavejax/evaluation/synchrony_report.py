"""What a page says about two devices worn at once: whether their states go together, who is ahead, and what is open."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from behavejax.errors import InputError
from behavejax.evaluation import synchrony_figures as figures
from behavejax.evaluation.page import Block, Heading, Notes, Paragraph, Picture, Table
from behavejax.evaluation.synchrony import ALPHA, Synchrony, synchrony

_TRACKS = 3
_TRACK_S = 300.0
_HEADING = Heading("Two devices at once")
_ATTENTION = (
  "The encoder let each device see the other one (config.model.device_attention): what their states have in common is "
  "in part built in, and shifted sequences do not show how much. Train without it to judge synchrony."
)


def synchrony_blocks(
  first: Sequence[Int[np.ndarray, " time"]],
  second: Sequence[Int[np.ndarray, " time"]],
  recordings: Sequence[str],
  *,
  rate_hz: float,
  lag_s: float,
  shuffles: int,
  seed: int,
  attention: bool = False,
  names: tuple[str, str] = ("device 1", "device 2"),
) -> tuple[dict[str, float], list[Block]]:
  """Numbers for `metrics.json` and blocks for a page; no numbers where the recordings are too short.

  Args:
    first: per recording, the state of the first device at each sample; -1 where there is none.
    second: likewise of the second device.
    recordings: their names.
    rate_hz: samples per second.
    lag_s: furthest lead or lag.
    shuffles: shifted sequences to compare with.
    seed: of the shifts.
    attention: whether the states of one device come from an encoder that saw the other one too.
    names: of the devices.
  """
  try:
    result = synchrony(
      first, second, rate_hz=rate_hz, lag_s=lag_s, shuffles=shuffles, rng=np.random.default_rng(seed)
    )  # fmt: skip
  except InputError as error:
    return {}, [_HEADING, Paragraph(f"Synchrony was not measured: {error}.")]
  end = int(_TRACK_S * rate_hz)
  longest = sorted(np.argsort([-len(states) for states in first], kind="stable")[:_TRACKS])
  tracks = [figures.PairTrack(recordings[i], first[i][:end], second[i][:end]) for i in longest]
  left_out = len(first) - result.recordings
  warnings = [_ATTENTION] if attention else []
  if result.independent * ALPHA < 1:
    warnings.append(
      f"The recordings are short beside the time that behaviours last: only about {result.independent} of all possible "
      f"shifts are unrelated, and p values below {ALPHA:g} come more often by chance than they should."
    )
  blocks = [
    _HEADING,
    *([Notes(warnings, warning=True)] if warnings else []),
    Paragraph(_tie(result, names) + (f" {left_out} shorter recording(s) took no part." if left_out else "")),
    Paragraph(_lead(result, names)),
    _table(result, names),
    Picture("synchrony_lags", figures.lag_curves(result, names),
            f"The states of both devices at lags of up to {result.lags_s[-1]:.3g} s. Grey: 95 % of the shifted "
            "sequences at each lag, and their mean. Dotted: 95 % of the shifted sequences stay below it at every lag. "
            "Orange: the lag with the most mutual information, where that is more than chance."),
    *([Picture("synchrony_states", figures.joint_heat_map(result, names),
               "Which states occur together at the lag with the most mutual information.")]
      if result.joint.any() else []),
    Picture("synchrony_ethogram", figures.paired_ethogram(tracks, names, rate_hz=rate_hz),
            f"Both devices in the first {_TRACK_S / 60:g} minutes of the longest recordings. Here every state has a "
            "colour of its own; below, the moments at which both are in the same state."),
    Heading("What synchrony does not say"),
    Notes(_limits(result, names)),
  ]  # fmt: skip
  return synchrony_values(result), blocks


def synchrony_values(result: Synchrony) -> dict[str, float]:
  """Numbers by flat names; transfer entropies in bits per step beyond chance."""
  now, peak = len(result.lags_s) // 2, int(np.argmin(np.abs(result.lags_s - result.peak_lag_s)))
  forward, backward = result.transfer_1_to_2, result.transfer_2_to_1
  values = {
    "steps": result.steps,
    "recordings": result.recordings,
    "step_s": result.step_s,
    "mutual_information_bits": result.information.values[now],
    "mutual_information_by_chance_bits": result.information.chance[now],
    "normalized_information": result.normalized,
    "p_mutual_information": result.p_information,
    "agreement": result.agreement.values[now],
    "kappa": result.kappa.values[now],
    "peak_lag_s": result.peak_lag_s,
    "peak_mutual_information_bits": result.information.values[peak],
    "peak_kappa": result.kappa.values[peak],
    "p_peak": result.p_peak,
    "transfer_entropy_1_to_2": forward.effective,
    "transfer_entropy_2_to_1": backward.effective,
    "net_transfer_entropy": forward.effective - backward.effective,
    "p_1_to_2": forward.p,
    "p_2_to_1": backward.p,
  }
  return {f"synchrony/{name}": float(value) for name, value in values.items()}


def _tie(result: Synchrony, names: tuple[str, str]) -> str:
  """Whether the two go together, and at which lag."""
  lag, most, furthest = result.peak_lag_s, result.information.values.max(), result.lags_s[-1]
  compared = (
    f"{result.highest_by_chance:.2f} bits is what 95 % of {result.shuffles} pairs of shifted sequences stay below at "
    f"every lag; p = {result.p_peak:.3f}"
  )
  if result.p_peak > ALPHA:
    return (
      f"No tie between the devices was found: at no lag up to {furthest:.3g} s do their states tell more about each "
      f"other than shifted sequences do (at most {most:.2f} bits; {compared})."
    )
  if lag == 0:
    when = f"{_upper(names[0])} and {names[1]} go together most closely at the same moment"
  else:
    ahead, behind = names if lag > 0 else names[::-1]
    when = f"What {behind} does goes together most closely with what {ahead} did {abs(lag):.2g} s before"
  beyond = " No further lag was looked at: the closest tie may lie beyond (config.evaluation.synchrony_lag_s)."
  edge = beyond if abs(lag) == furthest else ""
  return f"{when}: one tells {most:.2f} bits about the other ({compared}).{edge}"


def _lead(result: Synchrony, names: tuple[str, str]) -> str:
  """Which device foretells the other."""
  ways = ((result.transfer_1_to_2, *names), (result.transfer_2_to_1, *names[::-1]))
  found = [way for way in ways if way[0].p <= ALPHA]
  step = f"bits per step of {result.step_s:.2g} s beyond chance"
  meaning = "what one device does now foretells the next step of the other, beyond what the other's own state foretells"
  if not found:
    (there, *_), (back, *_) = ways
    return (
      f"Transfer entropy asks whether {meaning}. Neither way is more than chance ({names[0]} to {names[1]} "
      f"p = {there.p:.3f}, {names[1]} to {names[0]} p = {back.p:.3f})."
    )
  found.sort(key=lambda way: -way[0].effective)
  said = ", ".join(
    f"from {source} to {target} {way.effective:.3f} {step} (p = {way.p:.3f})" for way, source, target in found
  )
  if len(found) == 2:
    rest = f"Both ways are more than chance, the one from {found[0][1]} the more so."
  else:
    other = next(way for way in ways if way is not found[0])
    rest = f"The other way round nothing beyond chance was found (p = {other[0].p:.3f})."
  return f"Transfer entropy asks whether {meaning}: {said}. {rest}"


def _table(result: Synchrony, names: tuple[str, str]) -> Table:
  now, peak = len(result.lags_s) // 2, int(result.information.values.argmax())
  forward, backward = result.transfer_1_to_2, result.transfer_2_to_1
  rows = [
    ("mutual information, same moment (bits)", f"{result.information.values[now]:.3f}",
     f"{result.information.chance[now]:.3f}", f"{result.p_information:.3f}"),
    (f"mutual information, lag {result.peak_lag_s:+.2f} s (bits)", f"{result.information.values[peak]:.3f}",
     f"{result.information.chance[peak]:.3f}", f"{result.p_peak:.3f}"),
    ("share of the smaller entropy, same moment", f"{result.normalized:.1%}", "", ""),
    ("equal states, same moment", f"{result.agreement.values[now]:.1%}", f"{result.agreement.chance[now]:.1%}", ""),
    ("Cohen's kappa, same moment", f"{result.kappa.values[now]:.3f}", f"{result.kappa.chance[now]:.3f}", ""),
    (f"Cohen's kappa, lag {result.peak_lag_s:+.2f} s", f"{result.kappa.values[peak]:.3f}",
     f"{result.kappa.chance[peak]:.3f}", ""),
  ]  # fmt: skip
  rows += [
    (f"transfer entropy, {source} to {target} (bits per step)", f"{way.bits:.4f}", f"{way.chance:.4f}", f"{way.p:.3f}")
    for way, source, target in ((forward, *names), (backward, *names[::-1]))
  ]
  return Table(("measure", "found", "shifted sequences", "p"), rows)


def _limits(result: Synchrony, names: tuple[str, str]) -> list[str]:
  return [
    f"Going together is no proof of influence. A noise, a command, the time of day or a third animal that moves both "
    f"looks the same, and one that reaches {names[1]} later looks like a lead of {names[0]}.",
    "Lags are as good as the clocks: an offset between the devices shifts every lag by as much. States come from "
    "windows of the signal, which blurs a change over the length of a window.",
    f"Transfer entropy looks back one step of {result.step_s:.2g} s. How long a state has lasted already is not in it: "
    "where durations are far from geometric, the one that follows can seem to foretell a little of the one that leads. "
    "Few changes of state, or very many states, leave it blind.",
    "Chance is judged by turning one sequence in time within its recording. That assumes that behaviour does not drift "
    "over a recording: two that both tire, or both warm up, go together without taking notice of each other.",
    f"With {result.shuffles} shifted sequences no p is below {1 / (result.shuffles + 1):.3f}; p of the peak counts all "
    "lags, the other p values stand for themselves and are not corrected for being several.",
    "Mutual information is corrected for its bias as if steps were independent; what is left shows in the column of "
    "the shifted sequences. States that were confused by the segmentation make every tie look weaker than it is.",
  ]


def _upper(name: str) -> str:
  return name[:1].upper() + name[1:]
