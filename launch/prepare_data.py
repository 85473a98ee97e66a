"""Checks a data set and writes its processed splits and a quality report; trains nothing.

  python launch/prepare_data.py --config=configs/fsq.py --out=prepared

Writes OUT/train.npz, val.npz, test.npz (windows, labels, subjects), normalization.npz and qa/qa.html.
Only with --download is anything fetched, into the data root.
"""

import pathlib

from absl import flags

from behavejax.launcher import config_flag, run

_CONFIG = config_flag()
_OUT = flags.DEFINE_string("out", None, "Folder to write to.", required=True)
_DOWNLOAD = flags.DEFINE_bool("download", False, "Fetch the data set first, into config.data.root.")
_SHA256 = flags.DEFINE_string("sha256", "", "Digest that the download must have, where none is pinned.")


def main() -> None:
  from behavejax.config import resolve
  from behavejax.data import download, export_windows, prepare, sources
  from behavejax.evaluation.quality_report import write_quality_report

  config = resolve(_CONFIG.value)
  out = pathlib.Path(_OUT.value)
  if _DOWNLOAD.value:
    download.download(config.data.name, sources.data_root(config.data), sha256=_SHA256.value)
  recordings = sources.load(config.data, config.seed)
  data = prepare.prepare_recordings(recordings, config.data, config.seed)
  export_windows.write_splits(out, data)
  write_quality_report(out / "qa", recordings, data, title=f"Data quality: {config.data.name}")
  print(f"{'split':<8}{'windows':>9}{'subjects':>10}")
  for name in ("train", "val", "test"):
    windows = getattr(data, name)
    print(f"{name:<8}{len(windows):>9,}{len(windows.subjects):>10}")
  print(*(f"warning: {line}" for line in data.warnings), f"quality report: {out / 'qa' / 'qa.html'}", sep="\n")


if __name__ == "__main__":
  run(main)
