"""Models of samples in the common loop: the same on one device and on eight, in both forms."""

import functools

from behavejax.config import Config, FramesConfig, TrainConfig, VaeConfig
from behavejax.evaluation.latents import build_vae
from behavejax.training.sample_task import fit_samples
from behavejax.workdir import Workdir, read_metrics

CONFIG = Config(
  frames=FramesConfig(val=0.4, test=0.4),
  vae=VaeConfig(widths=(4, 6), halvings=1, dim=3, free_bits=0.05),
  train=TrainConfig(steps=4, evaluations=2, batch_size=32),
)


def trained(config, data, folder):
  workdir = Workdir(folder)
  workdir.start(config)
  found = fit_samples(
    config, data, workdir, stage="vae", build=functools.partial(build_vae, updates=4),
    line=lambda values: "", checks=(),
  )  # fmt: skip
  return found, [row for row in read_metrics(workdir.metrics_file) if "val/loss" in row]
