"""Cuts recordings into syllables without labels, and writes the segments, figures and a report.

  python launch/segment.py --config=configs/hsmm.py --workdir=runs/hsmm       (features of recordings)
  python launch/segment.py --workdir=runs/fsq                                 (codes of a trained encoder)

An interrupted run continues when the command is repeated; a finished one writes its report again.
"""

from absl import flags
from ml_collections import config_flags

from behavejax.launcher import run

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration: configs/NAME.py or configs/NAME.py:ARG.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; everything it makes lies there.", required=True)


def main() -> None:
  from behavejax.config import resolve
  from behavejax.errors import InputError
  from behavejax.evaluation.segment import comparison_table, segment
  from behavejax.training import loop, stages
  from behavejax.workdir import Workdir

  try:
    if _CONFIG.value is not None:
      config = resolve(_CONFIG.value)
      if "hsmm" not in config.stages:
        raise InputError(f"config.stages is {config.stages}: without 'hsmm' nothing is segmented")
      stages.run(config, _WORKDIR.value)
    else:
      stages.add(_WORKDIR.value, "hsmm")
  except loop.Stopped as stopped:
    print(stopped)
    return
  metrics = segment(_WORKDIR.value)
  print(comparison_table(metrics))
  print(f"report: {Workdir(_WORKDIR.value).path / 'segments' / 'segments.html'}")


if __name__ == "__main__":
  run(main)
