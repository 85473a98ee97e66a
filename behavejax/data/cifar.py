"""CIFAR-10 as published for Python, read without unpickling: a file may ask for nothing but what these files hold."""

import pathlib
import struct
from pickletools import genops
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from behavejax.data.samples import Loaded
from behavejax.data.splits import NAMES
from behavejax.errors import InputError

_SIDE = 32
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_VALUES = (
  "BININT", "BININT1", "BININT2", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES",
  "SHORT_BINBYTES",
)  # fmt: skip
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ARRAY, _DTYPE, _TYPE = "_reconstruct", "dtype", "ndarray"
_NAMES = {
  "numpy.core.multiarray _reconstruct": _ARRAY, "numpy._core.multiarray _reconstruct": _ARRAY,
  "numpy ndarray": _TYPE, "numpy dtype": _DTYPE,
}  # fmt: skip
_NO_OPERATION = ("PROTO", "FRAME", "STOP")
_DAMAGE = (ValueError, IndexError, KeyError, TypeError, AttributeError, struct.error, UnicodeError)


class _Global(NamedTuple):
  """A name that the file asks for; nothing is ever imported or called."""

  kind: str


class _Blank:
  """An array or a type that a later operation fills in."""

  def __init__(self, kind: str):
    self.kind = kind
    self.value: Any = None


_MARK = _Global("mark")


def read_cifar10(folder: pathlib.Path) -> Loaded:
  """Images of `data_batch_*` to learn from and of `test_batch` as the test split; class names from `batches.meta`.

  Raises:
    InputError: no batches, or a file that is damaged or holds anything else.
  """
  files = sorted(folder.glob("data_batch_*")) + sorted(folder.glob("test_batch"))
  if not files:
    raise InputError(f"{folder} holds no data_batch_* of CIFAR-10: unpack cifar-10-python.tar.gz and name its folder")
  learned = any(file.name.startswith("data") for file in files)
  images, labels, names, split = [], [], [], []
  for file in files:
    pixels, numbers = _batch(file)
    images.append(pixels)
    labels.append(numbers)
    names += [f"{file.name}[{i}]" for i in range(len(pixels))]
    split.append(np.full(len(pixels), NAMES.index("test") if learned and file.name == "test_batch" else -1))
  meta = folder / "batches.meta"
  classes = _class_names(meta) if meta.exists() else tuple(str(i) for i in range(10))
  every_label = np.concatenate(labels)
  if every_label.max() >= len(classes):
    raise InputError(f"{folder}: label {every_label.max()}, but only {len(classes)} classes have a name")
  return Loaded(
    steps=np.concatenate(images),
    bounds=np.arange(len(names) + 1),
    names=tuple(names),
    labels=every_label,
    classes=classes,
    split=np.concatenate(split),
  )


def read_plain_pickle(path: pathlib.Path) -> Any:
  """A pickle of dictionaries, lists, tuples, numbers, strings and byte arrays.

  The operations are interpreted here one by one: no class is looked up and nothing called. Arrays must be of bytes and
  as NumPy's `_reconstruct` makes them. What Python 2 wrote as strings comes back as such, one character per byte.

  Raises:
    InputError: the file asks for anything else, or is damaged.
  """
  try:
    return _interpret(path.read_bytes(), path)
  except InputError:
    raise
  except OSError as error:
    raise InputError(f"{path} cannot be read: {error}") from error
  except _DAMAGE as error:
    raise InputError(f"{path} is damaged or no batch of CIFAR-10: {error}") from error


def _interpret(content: bytes, path: pathlib.Path) -> Any:
  stack: list[Any] = []
  memo: dict[int, Any] = {}

  def pop_to_mark() -> list[Any]:
    place = len(stack) - 1 - next(i for i, item in enumerate(reversed(stack)) if item is _MARK)
    items = stack[place + 1 :]
    del stack[place:]
    return items

  for operation, argument, _ in genops(content):
    name = operation.name
    if name in _NO_OPERATION:
      continue
    if name in _VALUES:
      stack.append(argument)
    elif name in _CONSTANTS:
      stack.append(_CONSTANTS[name])
    elif name == "MARK":
      stack.append(_MARK)
    elif name == "EMPTY_DICT":
      stack.append({})
    elif name == "EMPTY_LIST":
      stack.append([])
    elif name in ("BINPUT", "LONG_BINPUT"):
      memo[argument] = stack[-1]
    elif name == "MEMOIZE":
      memo[len(memo)] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET"):
      stack.append(memo[argument])
    elif name == "TUPLE":
      stack.append(tuple(pop_to_mark()))
    elif name in _TUPLES:
      count = _TUPLES[name]
      stack[-count:] = [tuple(stack[-count:])]
    elif name in ("APPEND", "APPENDS"):
      items = pop_to_mark() if name == "APPENDS" else [stack.pop()]
      _checked(stack[-1], list).extend(items)
    elif name in ("SETITEM", "SETITEMS"):
      items = pop_to_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
      _checked(stack[-1], dict).update(zip(items[::2], items[1::2], strict=True))
    elif name == "GLOBAL" and argument in _NAMES:
      stack.append(_Global(_NAMES[argument]))
    elif name == "REDUCE":
      arguments, called = stack.pop(), stack.pop()
      stack.append(_made(called, arguments))
    elif name == "BUILD":
      state = stack.pop()
      _fill(_checked(stack[-1], _Blank), state)
    else:
      asked = f" {argument!r}" if isinstance(argument, str) else ""
      raise InputError(f"{path} asks for {name}{asked}, which no batch of CIFAR-10 does: it is refused")
  return _resolved(_one(stack))


def _made(called: Any, arguments: Any) -> _Blank:
  """An array or a type yet to be filled in."""
  kind = _checked(called, _Global).kind
  if kind == _DTYPE and arguments[0] == "u1":
    return _Blank(_DTYPE)
  if kind == _ARRAY and arguments[0] == _Global(_TYPE):
    return _Blank(_ARRAY)
  raise ValueError(f"an object of {kind} {arguments!r:.40}")


def _fill(blank: _Blank, state: Any) -> None:
  """Gives an array its bytes; a type of bytes has no state of interest."""
  if blank.kind == _ARRAY:
    _, shape, dtype, fortran, content = state
    if _checked(dtype, _Blank).kind != _DTYPE or fortran is not False:
      raise ValueError("an array that is not of bytes in rows")
    raw = content.encode("latin-1") if isinstance(content, str) else content
    blank.value = np.frombuffer(raw, np.uint8).reshape(shape)


def _resolved(value: Any) -> Any:
  """A dictionary whose arrays stand in place of their blanks."""
  return {key: item.value if isinstance(item, _Blank) else item for key, item in _checked(value, dict).items()}


def _one(stack: list[Any]) -> Any:
  if len(stack) != 1:
    raise ValueError(f"{len(stack)} values where one was expected")
  return stack[0]


def _checked(value: Any, kind: type) -> Any:
  if not isinstance(value, kind):
    raise ValueError(f"a {type(value).__name__} where a {kind.__name__.lstrip('_').lower()} was expected")
  return value


def _batch(path: pathlib.Path) -> tuple[UInt8[np.ndarray, "image height width channel"], np.ndarray]:
  """Images, stored as planes of red, green and blue one after the other, and their labels."""
  content = read_plain_pickle(path)
  data, labels = content.get("data"), content.get("labels")
  if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != 3 * _SIDE**2 or not len(data):
    raise InputError(f"{path} holds no images of CIFAR-10: 'data' must be an array of bytes, [image, {3 * _SIDE**2}]")
  whole = isinstance(labels, list) and all(isinstance(label, int) and label >= 0 for label in labels)
  if not whole or len(labels) != len(data):
    raise InputError(f"{path}: 'labels' must be a list of {len(data)} numbers, one per image")
  images = np.moveaxis(data.reshape(-1, 3, _SIDE, _SIDE), 1, -1)
  return np.ascontiguousarray(images), np.array(labels, np.int32)  # taking from a view would copy all of it each time


def _class_names(path: pathlib.Path) -> tuple[str, ...]:
  names = read_plain_pickle(path).get("label_names")
  if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
    raise InputError(f"{path} holds no 'label_names'")
  return tuple(names)
