"""Videos beside each other, written as mp4 for the browser."""

import importlib.util
import os
import pathlib
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from behavejax.errors import InputError

Film = UInt8[np.ndarray, "frame height width shade"]

_CODEC, _PIXELS = "libx264", "yuv420p"  # what every browser plays
_HEADER, _GAP = 18, 6  # pixels: of the line of names, and between two films
_HEIGHT = 192  # to which small films are enlarged, by whole factors
_LEAST_HZ = 1.0


def can_write() -> bool:
  """Whether the optional package av is there."""
  return importlib.util.find_spec("av") is not None


def side_by_side(films: Mapping[str, Film]) -> UInt8[np.ndarray, "frame height width 3"]:
  """One film of several, enlarged by a whole factor, a name over each; height and width are even."""
  first = next(iter(films.values()))
  for name, film in films.items():
    if film.shape[:3] != first.shape[:3]:
      raise ValueError(f"film {name} of shape {film.shape} beside one of {first.shape}")
  frames, height, width = first.shape[:3]
  factor = max(_HEIGHT // height, 1)
  height, width = height * factor, width * factor
  total = len(films) * (width + _GAP) - _GAP
  canvas = np.zeros((frames, _HEADER + height + height % 2, total + total % 2, 3), np.uint8)
  header = Image.new("RGB", (canvas.shape[2], _HEADER))
  for i, (name, film) in enumerate(films.items()):
    start = i * (width + _GAP)
    canvas[:, _HEADER : _HEADER + height, start : start + width] = film.repeat(factor, 1).repeat(factor, 2)
    ImageDraw.Draw(header).text((start + 3, 3), name, fill="white")
  canvas[:, :_HEADER] = np.asarray(header)
  return canvas


def write_mp4(path: pathlib.Path, film: UInt8[np.ndarray, "frame height width 3"], *, rate_hz: float) -> None:
  """Writes a film of even height and width under a temporary name, then renames it.

  Raises:
    InputError: the package av is missing, or was built without H.264.
  """
  try:
    import av
  except ImportError as error:
    raise InputError("writing videos needs the package av: pip install 'behavejax[data]'") from error
  if _CODEC not in av.codecs_available:
    raise InputError(f"the package av was built without {_CODEC}, which mp4 files are written with")
  temporary = path.with_name(f".{path.name}.tmp")
  try:
    with av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as container:
      rate = Fraction(max(rate_hz, _LEAST_HZ)).limit_denominator(1000)
      stream = container.add_stream(_CODEC, rate=rate, options={"crf": "18"})
      stream.height, stream.width, stream.pix_fmt = *film.shape[1:3], _PIXELS
      for image in film:
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
      container.mux(stream.encode())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
