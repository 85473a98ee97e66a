"""Writes the report of a finished run again.

python launch/evaluate.py --workdir=runs/fsq
"""

from absl import flags

from behavejax.launcher import run

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.", required=True)


def main() -> None:
  from behavejax.evaluation.evaluate import evaluate, summary_table
  from behavejax.workdir import Workdir

  print(summary_table(evaluate(_WORKDIR.value)))
  print(f"report: {Workdir(_WORKDIR.value).report / 'report.html'}")


if __name__ == "__main__":
  run(main)
