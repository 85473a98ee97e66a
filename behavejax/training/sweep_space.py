"""The space of a sweep: ranges and choices of config keys, read from JSON and tried before anything is trained."""

import dataclasses
import json
import math
import os
import pathlib
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from behavejax import config as config_lib
from behavejax.config import Config, did_you_mean
from behavejax.errors import InputError
from behavejax.models.quantizer import make_quantizer
from behavejax.training import parallel

_SECTIONS = {
  "encoder": ("seed", "data", "augment", "model", "quantizer", "loss", "train"),
  "vqvae": ("seed", "data", "frames", "vqvae", "quantizer", "loss", "train"),
  "vivit": ("seed", "neural", "vivit", "train"),
}
"""What a stage that is judged depends on; the rest of a config changes no trial's score."""
_TRIED_AT_MOST = 256  # values of one range; of a longer one only the ends are tried


@dataclasses.dataclass(frozen=True)
class Range:
  """Numbers from `low` to `high`, both included; whole ones where both ends are.

  Attributes:
    low: first value.
    high: last value.
    log: drawn evenly in the logarithm.
    step: between values; None is 1 for whole numbers and none for others.
  """

  low: float
  high: float
  log: bool = False
  step: float | None = None

  @property
  def whole(self) -> bool:
    return isinstance(self.low, int) and isinstance(self.high, int)

  @property
  def spacing(self) -> float:
    """Between neighbouring values; 0 where there is always one between."""
    return self.step or (1 if self.whole else 0)

  @property
  def size(self) -> float:
    """Number of values, infinite where they are not counted."""
    return 1 + round((self.high - self.low) / self.spacing) if self.spacing else math.inf

  def tried(self) -> list[float]:
    """Values to be tried beforehand: all if they are few, else both ends."""
    if self.size > _TRIED_AT_MOST:
      return [self.low, self.high]
    return [self.low + i * self.spacing for i in range(int(self.size) - 1)] + [self.high]


@dataclasses.dataclass(frozen=True)
class Choices:
  """Any JSON values."""

  choices: tuple[Any, ...]

  @property
  def size(self) -> int:
    return len(self.choices)

  def tried(self) -> list[Any]:
    return list(self.choices)


Space = dict[str, Range | Choices]
"""By config key without the leading `config.`, such as `train.learning_rate`."""


def read(path: str | os.PathLike, config: Config) -> Space:
  """Reads a JSON file of ranges and choices and tries every end and choice in the config.

  Raises:
    InputError: no such file, no JSON, or whatever `parse` refuses; the message names file and key.
  """
  path = pathlib.Path(path)
  try:
    plain = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repeats)
  except FileNotFoundError as error:
    raise InputError(f"no such file: --space={path}") from error
  except IsADirectoryError as error:
    raise InputError(f"--space={path} is a folder, expected a JSON file") from error
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise InputError(f"{path} is no JSON: {error}") from error
  except InputError as error:
    raise InputError(f"{path}: {error}") from error
  return parse(plain, config, where=str(path))


def parse(plain: Any, config: Config, *, where: str = "space") -> Space:
  """`{"train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": true}, "model.kernel": {"choices": [3, 5]}}` -> space.

  Raises:
    InputError: a key that the config has not, a range that is none, or a value that the config refuses.
  """
  if not isinstance(plain, dict) or not plain:
    raise InputError(f'{where} must map settings to ranges, such as {{"model.dropout": {{"low": 0.0, "high": 0.5}}}}')
  space = {}
  for key, entry in plain.items():
    try:
      _check_key(key, config)
      space[key] = _entry(entry)
      for value in space[key].tried():
        _try(override(config, {key: value}))
    except InputError as error:
      raise InputError(f"{where}: {key}: {error}") from error
  return space


def override(config: Config, changes: Mapping[str, Any]) -> Config:
  """The config with some settings changed, by dotted key.

  Raises:
    InputError: the values do not go together.
  """
  plain = config_lib.to_dict(config)
  for key, value in changes.items():
    *sections, name = key.split(".")
    section = plain
    for part in sections:
      section = section[part]
    section[name] = value
  return config_lib.resolve(plain)


def to_json(space: Space) -> dict[str, dict[str, Any]]:
  """What `parse` reads."""
  return {
    key: {name: value for name, value in dataclasses.asdict(entry).items() if value is not None and value is not False}
    for key, entry in space.items()
  }


def arguments(changes: Mapping[str, Any]) -> list[str]:
  """Settings as a command line takes them, quoted for a shell.

  >>> arguments({"train.steps": 3, "quantizer.levels": [8, 5]})
  ['--config.train.steps=3', "'--config.quantizer.levels=(8, 5)'"]
  """
  return [shlex.quote(f"--config.{key}={_tuples(value)}") for key, value in changes.items()]


def settings(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
  """Dotted keys and values of a nested config."""
  for name, value in plain.items():
    if isinstance(value, dict):
      yield from settings(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", value


def _tuples(value: Any) -> Any:
  return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  for i, (key, _) in enumerate(pairs):
    if key in [earlier for earlier, _ in pairs[:i]]:
      raise InputError(f"{key!r} stands there twice")
  return dict(pairs)


def _check_key(key: str, config: Config) -> None:
  known = [name for name, _ in settings(config_lib.to_dict(config))]
  if key not in known:
    if any(setting.startswith(f"{key}.") for setting in known):
      raise InputError(f"is a section of settings; name one of them, such as {key}.{_first(known, key)}")
    raise InputError(f"is not a setting{did_you_mean(key, known)}")
  stage = next((name for name in _SECTIONS if name in config.stages), "encoder")
  if key.split(".")[0] not in _SECTIONS[stage]:
    raise InputError(f"changes nothing that a sweep judges, which is {stage!r}: {', '.join(_SECTIONS[stage])}")


def _first(known: list[str], section: str) -> str:
  return next(key for key in known if key.startswith(f"{section}.")).removeprefix(f"{section}.")


def _entry(entry: Any) -> Range | Choices:
  if not isinstance(entry, dict):
    raise InputError(f'must be {{"low": ..., "high": ...}} or {{"choices": [...]}}, got {entry!r}')
  names = ("choices",) if "choices" in entry else ("low", "high", "log", "step")
  for name in entry:
    if name not in names:
      raise InputError(f"{name!r} is not a part of {'choices' if 'choices' in entry else 'a range'}"
                       f"{did_you_mean(name, names)}")  # fmt: skip
  return _choices(entry["choices"]) if "choices" in entry else _range(entry)


def _choices(values: Any) -> Choices:
  if not isinstance(values, list) or len(values) < 2:
    raise InputError(f"choices must be a list of two values or more, got {values!r}")
  for i, value in enumerate(values):
    if any(json.dumps(value) == json.dumps(earlier) for earlier in values[:i]):
      raise InputError(f"choices hold {value!r} twice")
  return Choices(tuple(values))


def _range(entry: dict[str, Any]) -> Range:
  for name in ("low", "high"):
    if name not in entry:
      raise InputError(f"{name!r} is missing: a range has two ends")
  for name in ("low", "high", "step"):
    if name in entry and not _is_number(entry[name]):
      raise InputError(f"{name} must be a finite number, got {entry[name]!r}")
  found = Range(**entry)
  if not isinstance(found.log, bool):
    raise InputError(f"log must be true or false, got {found.log!r}")
  if found.low >= found.high:
    raise InputError(f"low must be below high, got {found.low!r} and {found.high!r}")
  if found.log and found.low <= 0:
    raise InputError(f"low must be above 0 where log is true, got {found.low!r}")
  if found.step is not None:
    _check_step(found)
  return found


def _check_step(entry: Range) -> None:
  if entry.log:
    raise InputError("log and step exclude each other")
  if entry.step <= 0 or (entry.whole and not isinstance(entry.step, int)):
    raise InputError(f"step must be {'a whole number ' if entry.whole else ''}above 0, got {entry.step!r}")
  count = (entry.high - entry.low) / entry.step
  if not math.isclose(count, round(count), rel_tol=1e-9) or round(count) < 1:
    raise InputError(f"steps of {entry.step!r} do not lead from {entry.low!r} to {entry.high!r}")


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


def _try(config: Config) -> None:
  """What else a run would refuse, if it can be known before the data are loaded."""
  parallel.check_batch_size(config.train.batch_size)
  make_quantizer(config.quantizer)
