"""Trains the video encoder of neural activity whole and without each of its parts, and compares them.

  python launch/ablate.py --config=configs/vivit.py --workdir=runs/ablation

The parts: patch dropout, registers, causality, the position code, the modulator. An interrupted comparison continues
when the command is repeated.
"""

from absl import flags

from behavejax.launcher import config_flag, run

_CONFIG = config_flag()
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder of the comparison, a run in it for each version.", required=True
)


def main() -> None:
  from behavejax.config import resolve
  from behavejax.evaluation import neural_ablation
  from behavejax.training import ablation, loop

  try:
    values = ablation.run(resolve(_CONFIG.value), _WORKDIR.value)
  except loop.Stopped as stopped:
    print(stopped)
    return
  print(neural_ablation.table(values))
  print(f"report: {_WORKDIR.value}/report/ablation.html")


if __name__ == "__main__":
  run(main)
