"""Checks a data set and writes its processed splits and a quality report; trains nothing.

  python launch/prepare_data.py --config=configs/fsq.py --out=prepared

Writes OUT/train.npz, val.npz, test.npz (windows, labels, subjects), normalization.npz and qa/qa.html; of images and
videos, which stay in their files, the last two.
Only with --download is anything fetched, into the data root.
"""

import pathlib

from absl import flags

from behavejax.launcher import config_flag, run

_CONFIG = config_flag()
_OUT = flags.DEFINE_string("out", None, "Folder to write to.", required=True)
_DOWNLOAD = flags.DEFINE_bool("download", False, "Fetch the data set first, into config.data.root.")
_SPLITS = ("train", "val", "test")
_SHA256 = flags.DEFINE_string("sha256", "", "Digest that the download must have, where none is pinned.")


def main() -> None:
  from behavejax.config import resolve
  from behavejax.config_frames import STAGES
  from behavejax.config_neural import STAGES as NEURAL
  from behavejax.data.prepare_samples import SIGNALS
  from behavejax.errors import InputError

  config = resolve(_CONFIG.value)
  if {*config.stages} <= {*NEURAL}:
    raise InputError("neural recordings are checked by launch/train.py, before it trains: this is for all other data")
  out = pathlib.Path(_OUT.value)
  frames = bool({*config.stages} & {*STAGES}) and config.frames.name not in SIGNALS
  rows, data = _frames(config, out) if frames else _recordings(config, out)
  for first, second, third in rows:
    print(f"{first:<8}{second:>9}{third:>10}")
  print(*(f"warning: {line}" for line in data.warnings), f"quality report: {out / 'qa' / 'qa.html'}", sep="\n")


def _recordings(config, out):
  """Windows of recordings: what to print of each split, and the data."""
  from behavejax.data import download, export_windows, prepare, sources
  from behavejax.evaluation.quality_report import write_quality_report

  if _DOWNLOAD.value:
    download.download(config.data.name, sources.data_root(config.data), sha256=_SHA256.value)
  recordings = sources.load(config.data, config.seed)
  data = prepare.prepare_recordings(recordings, config.data, config.seed)
  export_windows.write_splits(out, data)
  write_quality_report(out / "qa", recordings, data, title=f"Data quality: {config.data.name}")
  parts = {name: getattr(data, name) for name in _SPLITS}
  rows = [(name, f"{len(part):,}", len(part.subjects)) for name, part in parts.items()]
  return [("split", "windows", "subjects"), *rows], data


def _frames(config, out):
  """The same of images or videos."""
  from behavejax.data.prepare_samples import prepare_samples
  from behavejax.errors import InputError
  from behavejax.evaluation.samples_report import write_samples_report

  if _DOWNLOAD.value:
    raise InputError(f"--download fetches recordings only, not config.frames.name={config.frames.name}")
  data = prepare_samples(config, config.seed)
  write_samples_report(out / "qa", data, title=f"Data quality: {config.frames.name}")
  data.normalization.save(out / "normalization.npz")
  parts = {name: getattr(data, name) for name in _SPLITS}
  rows = [(name, f"{len(part):,}", f"{len({*part.source.tolist()}):,}") for name, part in parts.items()]
  return [("split", "samples", "sources"), *rows], data


if __name__ == "__main__":
  run(main)
