"""Looks for better settings: trials of a config, drawn by Optuna from a space, judged on the validation split.

  python launch/sweep.py --config=configs/fsq.py --space=configs/spaces/fsq.json --workdir=runs/sweep --trials=20

The space is a JSON file: for each setting "low" and "high" (with "log" or "step"; whole numbers where both ends are) or
"choices". An interrupted sweep continues when the command is repeated, a finished one with more --trials.
"""

from absl import flags

from behavejax.launcher import config_flag, config_source, run

_CONFIG = config_flag()
_SPACE = flags.DEFINE_string("space", None, "JSON file of settings and their ranges.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the sweep; everything it makes lies there.", required=True)
_TRIALS = flags.DEFINE_integer("trials", 20, "Trials in all, those of earlier calls included.", lower_bound=1)
_OBJECTIVE = flags.DEFINE_string("objective", "val/score", "Validation metric of the encoder to judge by.")
_DIRECTION = flags.DEFINE_enum("direction", None, ["maximize", "minimize"], "Default: what is better for the metric.")


def main() -> None:
  from behavejax.config import resolve
  from behavejax.evaluation.sweep_trials import best_table
  from behavejax.training import loop, sweep, sweep_space

  config = resolve(_CONFIG.value)
  space = sweep_space.read(_SPACE.value, config)
  config_file, changes = config_source()
  try:
    found = sweep.run(
      config, space, _WORKDIR.value, trials=_TRIALS.value, objective=_OBJECTIVE.value, direction=_DIRECTION.value,
      config_file=config_file, changes=changes,
    )  # fmt: skip
  except loop.Stopped as stopped:
    print(stopped)
    return
  print(best_table(found))
  print(found.command)
  print(f"report: {_WORKDIR.value}/report/report.html")


if __name__ == "__main__":
  run(main)
