"""`preprocess.json`: what a device must know to run an exported model, and proof that the files belong together.

An exported package is a folder, or the `.zip` of it, that holds `preprocess.json` and the files it lists with their
SHA-256. The input of the graph is made from samples in this order:

  repaired samples -> (x - mean) / std -> windows of `window` samples, folded to `[rows, window / rows, channel]`
  -> for each gain a copy `clip(gain (x - mean of its row over time), -3, 3)`, appended to the channels
  -> divided by `input_scale` -> `[1, rows, time, channel * (1 + gains)]` float32

Needs nothing but NumPy's companions in the standard library.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import pathlib
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from behavejax.errors import InputError

NAME = "preprocess.json"
FORMAT = "behavejax-edge-1"
HEF = "model.hef"
"""Compiled after the package was made, and so the only file of a package that may be without a digest."""
STRATEGIES = ("zero", "mean", "median", "interpolate", "drop", "raise")
_LARGEST_JSON = 16 << 20  # bytes
_LARGEST_INDEX = 1 << 24  # whole numbers up to here are exact in float32


@dataclasses.dataclass(frozen=True)
class Repair:
  """How lost samples are filled, as in `behavejax.data.repair.repair`; `fill` is in the channels' units."""

  strategy: str
  clip: float
  fill: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Quantizer:
  """How codes become integers.

  Attributes:
    name: "fsq", or "vq" with the rows of `codebook.npy` as codes; signs are an "fsq" of two levels per digit.
    levels: values of each digit.
    symmetric: the variant of finite scalar quantization.
    num_codes: size of the codebook.
    token_stride: samples from one code to the next within a row.
  """

  name: str
  levels: tuple[int, ...]
  symmetric: bool
  num_codes: int
  token_stride: int


@dataclasses.dataclass(frozen=True)
class Quality:
  """Limits on lost samples, in percent of a channel's samples."""

  max_nan_percent: float
  max_inf_percent: float


@dataclasses.dataclass(frozen=True)
class Graph:
  """Name and shape of the graph's input, and the shape of each of its outputs by name."""

  input: str
  shape: tuple[int, ...]
  outputs: Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Preprocess:
  """Everything about a model that is not in its graph.

  Attributes:
    rate_hz: samples per second.
    channels: names, in the order of the columns.
    units: of the channels, "" where unknown.
    window: samples per window.
    stride: samples from one window to the next.
    rows: 2 where a window is given as its two halves, else 1.
    repair: of lost samples.
    mean: per channel, in its unit.
    std: per channel, in its unit.
    gains: of the amplified copies of the input.
    input_scale: per channel of the graph's input.
    labels: names of the behaviours; empty for a model that knows none.
    quantizer: of the codes.
    quality: limits that a recording should keep.
    model: the graph's input and outputs.
    files: SHA-256 by name, of everything else in the package.
  """

  rate_hz: float
  channels: tuple[str, ...]
  units: tuple[str, ...]
  window: int
  stride: int
  rows: int
  repair: Repair
  mean: tuple[float, ...]
  std: tuple[float, ...]
  gains: tuple[float, ...]
  input_scale: tuple[float, ...]
  labels: tuple[str, ...]
  quantizer: Quantizer
  quality: Quality
  model: Graph
  files: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    _check(self)

  def save(self, folder: str | os.PathLike, files: Iterable[str]) -> Preprocess:
    """Writes `preprocess.json` beside `files`, under a temporary name first; returns it with the files' digests.

    Args:
      folder: of the package.
      files: names of the files in it, with `/` between folders.

    Raises:
      InputError: a file that is missing or lies outside the folder.
    """
    folder = pathlib.Path(folder)
    digests = {name: digest_of(inside(folder, name)) for name in sorted(files)}
    saved = dataclasses.replace(self, files=digests)
    content = {"format": FORMAT, **dataclasses.asdict(saved)}
    content["sha256"] = _digest(content)
    temporary = folder / f".{NAME}.tmp"
    try:
      temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
      os.replace(temporary, folder / NAME)
    finally:
      temporary.unlink(missing_ok=True)
    return saved

  @classmethod
  def load(cls, folder: str | os.PathLike) -> Preprocess:
    """Reads the `preprocess.json` of a folder and checks it and every file that it lists.

    Raises:
      InputError: damaged, incomplete or changed in any way, one line.
    """
    folder = pathlib.Path(folder)
    found = parse(read_limited(folder / NAME), str(folder / NAME))
    for name, expected in found.files.items():
      check_digest(name, digest_of(inside(folder, name)), expected)
    return found


def parse(data: bytes, where: str) -> Preprocess:
  """The content of a `preprocess.json`, checked against its own digest; its files are not looked at."""
  try:
    content = json.loads(data.decode("utf-8"), object_pairs_hook=_no_repeats)
  except (ValueError, RecursionError) as error:
    raise InputError(f"{where} is no JSON: {error}") from error
  if not isinstance(content, dict) or content.get("format") != FORMAT:
    seen = content.get("format") if isinstance(content, dict) else content
    raise InputError(f"{where}: format is {_short(seen)}, expected {FORMAT!r}")
  digest = content.pop("sha256", None)
  try:
    own = _digest(content)
  except ValueError as error:
    raise InputError(f"{where}: {error}") from error
  if digest != own:
    raise InputError(f"{where} was changed or damaged: its content does not have the SHA-256 that it states")
  del content["format"]
  try:
    return _read(Preprocess, content, "")
  except InputError as error:
    raise InputError(f"{where}: {error}") from error


def read_limited(path: pathlib.Path) -> bytes:
  """A small file as bytes.

  Raises:
    InputError: it is not there, or too large to be what it should be.
  """
  try:
    with path.open("rb") as file:
      data = file.read(_LARGEST_JSON + 1)
  except OSError as error:
    raise InputError(f"{path} cannot be read: {error.strerror}") from error
  if len(data) > _LARGEST_JSON:
    raise InputError(f"{path} is larger than {_LARGEST_JSON >> 20} MiB, that is no {NAME}")
  return data


def safe_name(name: str) -> str:
  """The name itself.

  Raises:
    InputError: it is absolute, leads out of the folder, or means something else on another system.
  """
  parts = name.split("/")
  if not name or "\\" in name or ":" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
    raise InputError(f"file name {_short(name)} leads out of the package; expected a plain relative name")
  return name


def inside(folder: pathlib.Path, name: str) -> pathlib.Path:
  """The path of a file of the package.

  Raises:
    InputError: it is not there, or leads out of the folder, be it by a link.
  """
  path = folder / safe_name(name)
  if not path.is_file():
    raise InputError(f"{folder} lacks {name}, which {NAME} lists")
  if not path.resolve().is_relative_to(folder.resolve()):
    raise InputError(f"{path} is a link that leads out of the package")
  return path


def digest_of(path: pathlib.Path) -> str:
  """SHA-256 of a file, read in pieces."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(name: str, found: str, expected: str) -> None:
  if found != expected:
    raise InputError(
      f"{name} is not the file that {NAME} describes: SHA-256 {found[:12]}..., expected {expected[:12]}...; it is "
      "damaged or of another model"
    )


def _digest(content: Mapping[str, Any]) -> str:
  """SHA-256 of the canonical JSON: sorted keys, no spaces, ASCII."""
  text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
  return hashlib.sha256(text.encode()).hexdigest()


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = dict(pairs)
  if len(found) != len(pairs):
    raise ValueError("a key occurs twice")
  return found


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 60 else f"{text[:57]}..."


def _read(kind: Any, value: Any, where: str) -> Any:
  """A value of JSON as the type that a field states; `InputError` names the field."""
  if dataclasses.is_dataclass(kind):
    return _read_record(kind, value, where)
  origin, inner = typing.get_origin(kind), typing.get_args(kind)
  if origin is tuple:
    if not isinstance(value, list):
      raise InputError(f"{where} must be a list, got {_short(value)}")
    return tuple(_read(inner[0], item, f"{where}[{i}]") for i, item in enumerate(value))
  if origin is Mapping:
    if not isinstance(value, dict):
      raise InputError(f"{where} must be an object, got {_short(value)}")
    return {key: _read(inner[1], item, f"{where}.{key}") for key, item in value.items()}
  if kind is float and type(value) in (int, float) and math.isfinite(value):
    return float(value)
  if kind is not float and type(value) is kind:
    return value
  names = {float: "a finite number", int: "a whole number", str: "text", bool: "true or false"}
  raise InputError(f"{where} must be {names[kind]}, got {_short(value)}")


def _read_record(kind: type, value: Any, where: str) -> Any:
  if not isinstance(value, dict):
    raise InputError(f"{where or 'the content'} must be an object, got {_short(value)}")
  types = typing.get_type_hints(kind)
  prefix = f"{where}." if where else ""
  for name in types.keys() - value.keys():
    raise InputError(f"{prefix}{name} is missing")
  for name in value.keys() - types.keys():
    raise InputError(f"{prefix}{name} is not known")
  return kind(**{name: _read(types[name], value[name], prefix + name) for name in types})


def _check(p: Preprocess) -> None:
  """Values and shapes that do not fit each other."""
  channels, inputs = len(p.channels), len(p.channels) * (1 + len(p.gains))
  expected = (1, p.rows, p.window // max(p.rows, 1), inputs)
  lengths = {"units": channels, "mean": channels, "std": channels, "repair.fill": channels, "input_scale": inputs}
  for name, count in lengths.items():
    values = p.repair.fill if name == "repair.fill" else getattr(p, name)
    _expect(len(values) == count, f"the number of entries of {name}", len(values), count)
  numbers = {"mean": p.mean, "std": p.std, "repair.fill": p.repair.fill, "gains": p.gains, "input_scale": p.input_scale}
  for name, values in numbers.items():
    _expect(all(map(math.isfinite, values)), name, values, "finite numbers")
  _expect(math.isfinite(p.rate_hz) and p.rate_hz > 0, "rate_hz", p.rate_hz, "above 0")
  _expect(channels > 0 and len(set(p.channels)) == channels, "channels", p.channels, "different names")
  _expect(p.rows in (1, 2), "rows", p.rows, "1 or 2")
  _expect(p.window >= 2 and p.window % p.rows == 0, "window", p.window, "2 or more, a multiple of rows")
  _expect(p.stride >= 1, "stride", p.stride, "1 or more")
  _expect(p.repair.strategy in STRATEGIES, "repair.strategy", p.repair.strategy, " | ".join(STRATEGIES))
  _expect(p.repair.clip >= 0, "repair.clip", p.repair.clip, "0 or more")
  for name in ("std", "input_scale", "gains"):
    _expect(all(value > 0 for value in getattr(p, name)), name, getattr(p, name), "above 0")
  _expect(len(set(p.labels)) == len(p.labels), "labels", p.labels, "different names")
  _expect(tuple(p.model.shape) == expected, "model.shape", p.model.shape, f"{expected} from rows, window and channels")
  for name, digest in p.files.items():
    safe_name(name)
    known = len(digest) == 64 and set(digest) <= set("0123456789abcdef")
    _expect(known and name != NAME, f"files.{name}", digest, "a SHA-256 in hexadecimal digits")
  _check_outputs(p)


def _check_outputs(p: Preprocess) -> None:
  """Logits `[1, class]` and codes `[1, row, token, digit]` that fit the labels and the quantizer."""
  quantizer, outputs = p.quantizer, p.model.outputs
  for name in ("logits", "codes"):
    _expect(name in outputs, "model.outputs", tuple(outputs), f"{name!r} among them")
  for name, shape in outputs.items():
    _expect(len(shape) > 0 and shape[0] == 1 and min(shape) > 0, f"model.outputs.{name}", shape, "a shape from 1 on")
  logits, codes = tuple(outputs["logits"]), tuple(outputs["codes"])
  _expect(logits == (1, max(len(p.labels), 1)), "model.outputs.logits", logits, f"one for {len(p.labels)} labels")
  _expect(len(codes) == 4, "model.outputs.codes", codes, "[1, row, token, digit]")
  _expect(p.window % codes[1] == 0, "model.outputs.codes", codes, f"rows that divide a window of {p.window} samples")
  _expect(quantizer.name in ("fsq", "vq"), "quantizer.name", quantizer.name, "fsq | vq")
  _expect(0 < quantizer.num_codes <= _LARGEST_INDEX, "quantizer.num_codes", quantizer.num_codes, "1 to 2^24")
  last = (codes[2] - 1) * quantizer.token_stride
  _expect(
    quantizer.token_stride >= 1 and last < p.window // codes[1],
    "quantizer.token_stride", quantizer.token_stride, f"1 or more, {codes[2]} codes within a row",
  )  # fmt: skip
  if quantizer.name == "fsq":
    levels = quantizer.levels
    _expect(len(levels) == codes[3] and min(levels) >= 2, "quantizer.levels", levels, f"{codes[3]} of 2 or more")
    _expect(math.prod(levels) == quantizer.num_codes, "quantizer.num_codes", quantizer.num_codes, math.prod(levels))


def _expect(holds: bool, name: str, seen: Any, wanted: Any) -> None:
  if not holds:
    raise InputError(f"{name} is {_short(seen)}, expected {wanted}")
