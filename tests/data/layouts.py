"""Small data sets in the layouts of the published ones."""

import zipfile

import numpy as np

ACTIVITIES = ("WALKING", "SITTING", "STAND_TO_SIT")


def hapt_files(subjects=(1, 2, 3), *, samples=600, seed=0):
  """Name -> text of a small HAPT: each person walks, changes posture, sits; the rest is unlabelled."""
  rng = np.random.default_rng(seed)
  files = {"activity_labels.txt": "".join(f"{i} {name}\n" for i, name in enumerate(ACTIVITIES, 1))}
  labels = []
  for experiment, user in enumerate(subjects, 1):
    for sensor in ("acc", "gyro"):
      rows = rng.normal(size=(samples, 3))
      name = f"RawData/{sensor}_exp{experiment:02d}_user{user:02d}.txt"
      files[name] = "\n".join(" ".join(f"{v:.6f}" for v in row) for row in rows) + "\n"
    third = samples // 3
    for activity, first in ((1, 1), (3, third + 1), (2, third + 101)):
      labels.append(f"{experiment} {user} {activity} {first} {first + 99}")
  files["RawData/labels.txt"] = "\n".join(labels) + "\n"
  return files


def write_hapt(path, **settings):
  """As a zip, or as a folder if the path has no suffix."""
  files = hapt_files(**settings)
  if path.suffix == ".zip":
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
      for name, text in files.items():
        file.writestr(name, text)
  else:
    for name, text in files.items():
      (path / name).parent.mkdir(parents=True, exist_ok=True)
      (path / name).write_text(text)
