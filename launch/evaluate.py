"""Writes the reports of a finished run again.

python launch/evaluate.py --workdir=runs/fsq
"""

from absl import flags

from behavejax.launcher import run

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.", required=True)


def main() -> None:
  from behavejax.errors import InputError
  from behavejax.evaluation import reports
  from behavejax.workdir import Workdir

  workdir, written = Workdir(_WORKDIR.value), 0
  for shown in reports.write_all(workdir.path):
    print(shown)
    written += 1
  if not written:
    wanted = [name for name in workdir.read_config().stages if not workdir.is_complete(name)]
    state = f"stage {wanted[0]!r} of {workdir.path} is not complete" if wanted else f"{workdir.path} has no report"
    raise InputError(f"{state}; repeat launch/train.py")


if __name__ == "__main__":
  run(main)
