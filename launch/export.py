"""Makes a package for a device of a finished run: TFLite and ONNX models, what prepares their input, and a report.

python launch/export.py --workdir=runs/fsq            writes runs/fsq/export/ and runs/fsq/export.zip
python launch/export.py --workdir=runs/fsq --qat      fine-tunes for 8 bits first
python launch/export.py --workdir=runs/fsq --check    compares the operators with what an accelerator takes
python launch/export.py --workdir=runs/vivit          ONNX and jax.export of a neural encoder, one of each data set
"""

import sys

from absl import flags

from behavejax.launcher import run

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.", required=True)
_QAT = flags.DEFINE_bool("qat", False, "Fine-tune under 8-bit arithmetic first, as stage `qat` of the run.")
_CHECK = flags.DEFINE_bool("check", False, "Check the exported model's operators; exports nothing.")
_ARCH = flags.DEFINE_string("arch", "hailo8", "Accelerator: hailo8, hailo8l, hailo10h or hailo15h.")


def main() -> None:
  from behavejax.errors import InputError
  from behavejax.export import compare, hailo, neural, package
  from behavejax.training import loop, stages
  from behavejax.workdir import Workdir

  workdir = Workdir(_WORKDIR.value)
  folder = workdir.path
  if neural.is_neural(workdir):
    if _QAT.value or _CHECK.value:
      raise InputError("--qat and --check are for networks of movement data; a neural encoder is exported without")
    print(neural.table(neural.export(folder)))
    print(f"package: {folder / 'export'}")
    return
  hailo.check_arch(_ARCH.value)
  if not _CHECK.value:
    if _QAT.value:
      try:
        stages.add(folder, "qat")
      except loop.Stopped as stopped:
        print(stopped)
        return
    print(compare.table(package.export(folder, arch=_ARCH.value)))
    print(f"package: {folder / 'export'}, {folder / 'export.zip'}")
  verdict = package.check(folder, arch=_ARCH.value)
  print(hailo.table(verdict))
  if not verdict.ok:
    sys.exit(1)


if __name__ == "__main__":
  run(main)
