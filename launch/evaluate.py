"""Writes the reports of a finished run again.

python launch/evaluate.py --workdir=runs/fsq
"""

from absl import flags

from behavejax.launcher import run

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.", required=True)


def main() -> None:
  from behavejax.errors import InputError
  from behavejax.evaluation import reports

  written = 0
  for shown in reports.write_all(_WORKDIR.value):
    print(shown)
    written += 1
  if not written:
    raise InputError(f"--workdir {_WORKDIR.value} has no finished stage to report on; repeat launch/train.py")


if __name__ == "__main__":
  run(main)
