"""Compares runs of the same recordings, say of five seeds: spread of their scores, agreement of their states.

python launch/compare.py --workdirs=runs/vq_0,runs/vq_1,runs/vq_2 --out=runs/vq_seeds
"""

from absl import flags

from behavejax.launcher import run

_WORKDIRS = flags.DEFINE_list("workdirs", None, "Folders of finished runs, separated by commas.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder for the page; new, empty, or of an earlier comparison.", required=True)


def main() -> None:
  from behavejax.evaluation.compare import compare, table

  print(table(compare(_WORKDIRS.value, _OUT.value)))
  print(f"report: {_OUT.value}/compare.html")


if __name__ == "__main__":
  run(main)
