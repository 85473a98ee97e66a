"""What a trained autoencoder of signals, images or video makes of files, or of the way from one to another.

  python launch/generate.py --workdir=runs/vqvae_2d --input=a.png,b.png --out=decoded
  python launch/generate.py --workdir=runs/vqvae_2d --input=a.png,b.png --interpolate=8 --out=between

Without --input it takes samples of the test split. OUT/generated.html shows them, OUT/generated.npz holds tokens and
decoded samples.
"""

from absl import flags

from behavejax.launcher import run

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder to write to.", required=True)
_INPUT = flags.DEFINE_list("input", [], "Files: signals (.npy, recordings .npz), images, or videos.")
_INTERPOLATE = flags.DEFINE_integer("interpolate", 0, "Steps from the first file to the second; 0 reconstructs.")


def main() -> None:
  from behavejax.errors import InputError
  from behavejax.evaluation import generate

  steps = _INTERPOLATE.value
  if steps and not 2 <= steps <= 64:
    raise InputError(f"--interpolate must be from 2 to 64 steps, got {steps}")
  if steps:
    lines = generate.interpolate(_WORKDIR.value, _INPUT.value, _OUT.value, steps=steps)
  else:
    lines = generate.reconstruct(_WORKDIR.value, _INPUT.value, _OUT.value)
  print(*lines, f"page: {_OUT.value}/generated.html", sep="\n")


if __name__ == "__main__":
  run(main)
