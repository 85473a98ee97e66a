"""New samples of a run with a prior, and ways from one sample to another through its codes.

  python launch/generate.py --workdir=runs/geodesic --out=runs/geodesic_samples

Writes a page with a grid, rows by class, a sweep of temperatures and interpolations along straight lines and along the
graph of the codebook, and `samples.npz` (samples in the units of the data, codes, labels). The same seed gives the same
samples.
"""

from absl import flags

from behavejax.launcher import run

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder for the page; new, empty, or of earlier samples.", required=True)
_SAMPLES = flags.DEFINE_integer("samples", 64, "Samples of the grid.", lower_bound=1, upper_bound=100_000)
_CLASSES = flags.DEFINE_list("classes", [], "Classes to draw, by name, in turns; none: of any class.")
_TEMPERATURE = flags.DEFINE_float("temperature", None, "Of drawing; by default that of the config.", lower_bound=0.0)
_TEMPERATURES = flags.DEFINE_list("temperatures", ["0.5", "0.75", "1", "1.25"], "Of the sweep, separated by commas.")
_PAIRS = flags.DEFINE_integer("pairs", 4, "Pairs of test samples with ways between them.", lower_bound=0)
_STEPS = flags.DEFINE_integer("steps", 9, "Samples on a way, both ends included.", lower_bound=2)
_SEED = flags.DEFINE_integer("seed", 0, "Of the draws.", lower_bound=0)


def main() -> None:
  from behavejax.errors import InputError
  from behavejax.evaluation.generation_page import Wishes, generate

  try:
    temperatures = tuple(float(value) for value in _TEMPERATURES.value)
  except ValueError as error:
    raise InputError(f"--temperatures={','.join(_TEMPERATURES.value)}: numbers separated by commas expected") from error
  wishes = Wishes(
    _SAMPLES.value, tuple(_CLASSES.value), _TEMPERATURE.value, temperatures, _PAIRS.value, _STEPS.value, _SEED.value
  )  # fmt: skip
  generate(_WORKDIR.value, _OUT.value, wishes)
  print(f"samples: {_OUT.value}/samples.html")


if __name__ == "__main__":
  run(main)
