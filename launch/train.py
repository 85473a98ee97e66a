"""Trains every stage of a config, then writes the report.

  python launch/train.py --config=configs/fsq.py --workdir=runs/fsq

Interrupted runs continue when the command is repeated; with --restart_from=STAGE that stage and those after it are run
again (leave it out to continue those), with --skip=STAGE,STAGE some are left out. Several hosts run the same command,
each with --coordinator=HOST:PORT --processes=N --process=I.
"""

from absl import flags

from behavejax.launcher import config_flag, distributed_flags, run, without_restart

_CONFIG = config_flag()
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; everything it makes lies there.", required=True)
_RESTART = flags.DEFINE_string("restart_from", "", "Stage to run again, with those after it.")
_SKIP = flags.DEFINE_list("skip", [], "Stages to leave as they are, complete or not, separated by commas.")
_REPORT = flags.DEFINE_bool("report", True, "Write the report when training is done.")
distributed_flags()


def main() -> None:
  import jax

  from behavejax.config import resolve
  from behavejax.evaluation import reports
  from behavejax.training import loop, stages

  try:
    workdir = stages.run(resolve(_CONFIG.value), _WORKDIR.value, restart_from=_RESTART.value, skip=_SKIP.value)
  except loop.Stopped as stopped:
    print(f"{stopped}{without_restart()}")
    return
  if jax.process_count() > 1:
    print(f"trained by {jax.process_count()} processes; report: launch/evaluate.py --workdir={_WORKDIR.value}")
    return
  if _REPORT.value:
    for shown in reports.write_all(workdir.path):
      print(shown)


if __name__ == "__main__":
  run(main)
