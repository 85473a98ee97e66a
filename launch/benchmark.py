"""Speed, measured side by side in one run; medians, never a test.

python launch/benchmark.py train          windows/s of the whole loop and of the bare step
python launch/benchmark.py edge           one window through exported models, the runtime, JAX and PyTorch
python launch/benchmark.py segmentation   semi-Markov inference by size (--only=speed), learning (--only=recovery)
python launch/benchmark.py vivit          what :baseline takes (--only=size), steps beside PyTorch (--only=speed)
python launch/benchmark.py quantizers     each beside PyTorch's (--only=speed), each trained on HAPT (--only=table)
python launch/benchmark.py geodesic       a codebook of 512 codes from 50 000 latent vectors, part by part
python launch/benchmark.py prior          codes drawn with a memory of keys and values, and without
python launch/benchmark.py codebooks      five ways to codes for the digits, three seeds each
python launch/benchmark.py rate_distortion   bits per image against error and PSNR, codebook by codebook
python launch/benchmark.py nd_vqvae       a step of the autoencoder of video beside that of the package nd_vq_vae
"""

import functools
import sys

from absl import app, flags, logging

from behavejax.errors import InputError

_REPEATS = flags.DEFINE_integer("repeats", 9, "Timed repetitions; the median is shown.", lower_bound=5)
_ONLY = flags.DEFINE_enum(
  "only", None, ["speed", "table", "recovery", "size"], "One part of a benchmark that has several."
)
_PARTS = {"segmentation": ("speed", "recovery"), "quantizers": ("speed", "table"), "vivit": ("size", "speed")}


def main(argv: list[str]) -> None:
  from behavejax.export import benchmark_edge
  from behavejax.training import (
    benchmark,
    benchmark_codebooks,
    benchmark_geodesic,
    benchmark_prior,
    benchmark_quantizers,
    benchmark_segmentation,
    benchmark_vivit,
    benchmark_vqvae,
  )

  benchmarks = {
    "train": benchmark.run,
    "segmentation": functools.partial(benchmark_segmentation.run, only=_ONLY.value),
    "edge": benchmark_edge.run,
    "quantizers": functools.partial(benchmark_quantizers.run, only=_ONLY.value),
    "geodesic": benchmark_geodesic.run,
    "prior": benchmark_prior.run,
    "codebooks": benchmark_codebooks.run,
    "rate_distortion": benchmark_vqvae.rate_distortion,
    "nd_vqvae": benchmark_vqvae.beside_peer,
    "vivit": functools.partial(benchmark_vivit.run, only=_ONLY.value),
  }
  if len(argv) != 2 or argv[1] not in benchmarks:
    print(f"behavejax: name one benchmark: {', '.join(benchmarks)}", file=sys.stderr)
    sys.exit(2)
  if _ONLY.value and _ONLY.value not in _PARTS.get(argv[1], ()):
    print(f"behavejax: --only={_ONLY.value} is no part of {argv[1]}", file=sys.stderr)
    sys.exit(2)
  logging.set_verbosity(logging.WARNING)
  try:
    for line in benchmarks[argv[1]](repeats=_REPEATS.value):
      print(line, flush=True)
  except InputError as error:
    print(f"behavejax: {error}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
  app.run(main)
