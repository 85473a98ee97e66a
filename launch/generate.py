"""What a trained model of signals, images or video makes of files, of the way between two, or anew.

  python launch/generate.py --workdir=runs/vqvae_2d --input=a.png,b.png --out=decoded
  python launch/generate.py --workdir=runs/vqvae_2d --input=a.png,b.png --interpolate=8 --out=between
  python launch/generate.py --workdir=runs/geodesic --out=samples

Of a run of `vqvae`: without --input it takes samples of the test split. OUT/generated.html shows them,
OUT/generated.npz holds tokens and decoded samples. Of a run with a prior (`configs/geodesic.py`): a page with a grid of
new samples, rows by class, a sweep of temperatures and ways between test samples along straight lines and along the
graph of the codebook, OUT/samples.html, and OUT/samples.npz (samples in the units of the data, codes, labels); the same
seed gives the same samples.
"""

from absl import flags

from behavejax.launcher import run

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder to write to.", required=True)
_INPUT = flags.DEFINE_list("input", [], "Files: signals (.npy, recordings .npz), images, or videos.")
_INTERPOLATE = flags.DEFINE_integer("interpolate", 0, "Steps from the first file to the second; 0 reconstructs.")
_SAMPLES = flags.DEFINE_integer("samples", 64, "New samples of the grid.", lower_bound=1, upper_bound=100_000)
_CLASSES = flags.DEFINE_list("classes", [], "Classes to draw, by name, in turns; none: of any class.")
_TEMPERATURE = flags.DEFINE_float("temperature", None, "Of drawing; by default that of the config.", lower_bound=0.0)
_TEMPERATURES = flags.DEFINE_list("temperatures", ["0.5", "0.75", "1", "1.25"], "Of the sweep, separated by commas.")
_PAIRS = flags.DEFINE_integer("pairs", 4, "Pairs of test samples with ways between them.", lower_bound=0)
_STEPS = flags.DEFINE_integer("steps", 9, "Samples on such a way, both ends included.", lower_bound=2)
_SEED = flags.DEFINE_integer("seed", 0, "Of the draws.", lower_bound=0)


def main() -> None:
  from behavejax.errors import InputError
  from behavejax.evaluation import generate, generation_page
  from behavejax.workdir import Workdir

  steps = _INTERPOLATE.value
  if steps and not 2 <= steps <= 64:
    raise InputError(f"--interpolate must be from 2 to 64 steps, got {steps}")
  if "codebook" in Workdir(_WORKDIR.value).read_config().stages:
    if _INPUT.value or steps:
      raise InputError("--input and --interpolate are of runs of vqvae; ways between samples of this run: --pairs")
    generation_page.generate(_WORKDIR.value, _OUT.value, _wishes())
    lines, page = [], "samples"
  elif steps:
    lines, page = generate.interpolate(_WORKDIR.value, _INPUT.value, _OUT.value, steps=steps), "generated"
  else:
    lines, page = generate.reconstruct(_WORKDIR.value, _INPUT.value, _OUT.value), "generated"
  print(*lines, f"page: {_OUT.value}/{page}.html", sep="\n")


def _wishes():
  from behavejax.errors import InputError
  from behavejax.evaluation.generation_page import Wishes

  try:
    temperatures = tuple(float(value) for value in _TEMPERATURES.value)
  except ValueError as error:
    raise InputError(f"--temperatures={','.join(_TEMPERATURES.value)}: numbers separated by commas expected") from error
  return Wishes(
    _SAMPLES.value, tuple(_CLASSES.value), _TEMPERATURE.value, temperatures, _PAIRS.value, _STEPS.value, _SEED.value
  )  # fmt: skip


if __name__ == "__main__":
  run(main)
