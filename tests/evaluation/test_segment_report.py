"""The report of a segmentation says what its arrays say, and what it cannot know."""

import csv
import re

import numpy as np
import pytest

from behavejax.evaluation import segments
from behavejax.evaluation.page import Heading, Paragraph
from behavejax.evaluation.segment_report import Fitted, write_segment_report
from behavejax.evaluation.segments import Segmentation

RATE = 10.0


def example(*, labelled=True):
  rng = np.random.default_rng(0)
  states = [np.repeat(np.arange(30) % 4, rng.integers(5, 40, 30)) for _ in range(2)]
  states[0][:7] = -1
  labels = [np.where(x < 3, x % 3, -1) if labelled else np.full(len(x), -1) for x in states]
  classes = ("walk", "sit | lie", "<run>") if labelled else ()
  probabilities = [np.full(len(x), 0.9) for x in states]
  return Segmentation(states, probabilities, labels, ("r0", "r1"), ("p", "p"), classes, RATE)


def fitted(num_states=6):
  pmf = np.zeros((num_states, 50))
  pmf[:, 19] = pmf[:, 29] = 0.5  # a mean of 2.5 s
  return Fitted(np.full((num_states, num_states), 1 / num_states), pmf, 0.1)


def write(folder, segmentation):
  rows = {
    "HDP-HSMM": segments.scores(segmentation, tolerance_s=0.3),
    "k-means": {"segments/states": 7.0, "segments/median_dwell_s": float("nan"), "segments/v_measure": 0.1234},
  }
  write_segment_report(folder, segmentation, fitted(), rows, title="A title", tolerance_s=0.3)
  return (folder / "segments.md").read_text(), (folder / "segments.html").read_text()


def cells(text, first):
  line = next(line for line in text.splitlines() if line.startswith(f"| {first} |"))
  return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_numbers_are_those_of_the_arrays(tmp_path):
  segmentation = example()
  text, html = write(tmp_path / "report", segmentation)
  values = segments.scores(segmentation, tolerance_s=0.3)
  assert cells(text, "HDP-HSMM") == [
    "HDP-HSMM", f"{values['segments/v_measure']:.3f}", f"{values['segments/adjusted_rand']:.3f}",
    f"{values['segments/hungarian_accuracy']:.3f}", f"{values['segments/boundary_f1']:.3f}",
    f"{values['segments/recording_adjusted_rand']:.3f}", f"{values['segments/recording_boundary_f1']:.3f}", "4",
    f"{values['segments/median_dwell_s']:.2f}",
  ]  # fmt: skip
  assert cells(text, "k-means") == ["k-means", "0.123", "-", "-", "-", "-", "-", "7", "-"]
  found = segments.durations(segmentation.states, rate_hz=RATE)[2]
  share = segments.usage(segmentation.states, num_states=6)
  assert cells(text, "S2") == [
    "S2", f"{share[2]:.1%}", f"{len(found)}", f"{found.mean():.2f}", f"{np.median(found):.2f}", "2.50", "-",
  ]  # fmt: skip
  assert "sit \\| lie 100%" in text
  assert "&lt;run&gt;" in text
  assert "<run>" not in html
  unlabelled = np.mean(np.concatenate(segmentation.labels) < 0)
  assert f"{unlabelled:.1%} of the samples carry no label" in text
  assert "match within 0.3 s" in text
  assert "labels were not used for fitting" in text
  assert "got no state" in text


def test_certainty_is_that_of_the_posterior(tmp_path):
  segmentation = example()
  entropies = [np.where(states == 2, 1.0, 0.25) for states in segmentation.states]
  text, _ = write(tmp_path / "report", segmentation._replace(entropies=entropies))
  pooled, states = np.concatenate(entropies), np.concatenate(segmentation.states)
  assert [cells(text, f"S{i}")[-1] for i in (0, 2)] == ["0.25", "1.00"]
  assert f"an entropy of {pooled.mean():.2f} nats" in text
  assert f"for {np.mean(states == 2):.1%} of the time" in text
  changing = []
  for x, e in zip(segmentation.states, entropies, strict=True):
    at = np.flatnonzero(np.diff(x)) + 1
    near = np.abs(np.arange(len(x))[:, None] + 0.5 - at[None]).min(axis=1) < 5
    changing.append(e[near])
  assert f"It is {np.concatenate(changing).mean():.2f} within 0.5 s of a change" in text


def test_findings_and_learning_of_every_stage_are_shown(tmp_path):
  rows = [{"stage": s, "step": i, f"{s}/bound": -1.0 / i, f"{s}/states": 4.0} for s in ("hmm", "hsmm") for i in (1, 2)]
  write_segment_report(
    tmp_path / "report", example(), fitted(), {}, title="A title", tolerance_s=0.3, history=rows,
    findings=[Heading("Findings"), Paragraph("None.")],
  )  # fmt: skip
  text = (tmp_path / "report" / "segments.md").read_text()
  assert text.index("## Findings") < text.index("## States")
  assert {"learning", "learning_hmm"} <= {path.stem for path in (tmp_path / "report" / "figures").iterdir()}


def test_files_and_figures_lie_beside_the_page(tmp_path):
  text, html = write(tmp_path / "report", example())
  names = {"ethogram", "usage", "durations", "transitions", "behaviours"}
  assert set(re.findall(r"figures/(\w+)\.png", text)) == set(re.findall(r"figures/(\w+)\.png", html)) == names
  for name in names:
    assert (tmp_path / "report" / "figures" / f"{name}.png").stat().st_size > 1000
  with (tmp_path / "report" / "segments.csv").open() as file:
    assert len(list(csv.DictReader(file))) == len(segments.segment_rows(example()))
  for name in ("states.npz", "boris.csv", "boris", "elan"):
    assert (tmp_path / "report" / name).exists()
  assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("classes", [(), ("walk",)])
def test_unlabelled_recordings_are_reported(tmp_path, classes):
  text, _ = write(tmp_path / "report", example(labelled=False)._replace(classes=classes))
  assert cells(text, "HDP-HSMM")[1:5] == ["-"] * 4
  assert "Nothing is labelled" in text
  assert "## Behaviours" not in text
  assert "S3" in text


def test_nothing_segmented_is_said(tmp_path):
  segmentation = example()
  text, _ = write(tmp_path / "report", segmentation._replace(states=[0 * x - 1 for x in segmentation.states]))
  assert "No state has enough of the time" in text
  assert "100.0% of the samples got no state" in text


def test_old_report_is_replaced(tmp_path):
  (tmp_path / "report").mkdir()
  (tmp_path / "report" / "old").write_text("")
  write(tmp_path / "report", example())
  assert not (tmp_path / "report" / "old").exists()
