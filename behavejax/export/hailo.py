"""Operator check for the Hailo accelerators: what their parser would refuse in an ONNX or TFLite file, and why.

`python -m behavejax.export.hailo model.onnx --arch hailo8` prints the result; it ends with 0 if nothing is refused, 1
if something is, 2 if the input is wrong. The rows that are applied, each with its source, are in
`behavejax.export.hailo_rules` and docs/hailo_operators.md. The check comes before the proprietary compiler and does not
replace it: that a file passes does not show that it compiles.
"""

import argparse
import collections
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

from behavejax.config import did_you_mean
from behavejax.errors import InputError
from behavejax.export import hailo_onnx, hailo_tflite
from behavejax.export.hailo_checks import (
  CHECKS,
  INPUT_CHECKS,
  MODEL_CHECKS,
  Site,
  at_an_end,
  descendants,
  is_layer,
)
from behavejax.export.hailo_network import Network, Operation
from behavejax.export.hailo_rules import (
  ARCHITECTURES,
  LAYOUT,
  NPU_OPERATORS,
  SOURCES,
  UNKNOWN,
  Row,
  Severity,
  rows_of,
)

_READERS = {".onnx": hailo_onnx.read, ".tflite": hailo_tflite.read}


class Finding(NamedTuple):
  """Something that the parser refuses (error) or that costs something there (warning).

  Attributes:
    node: name of the node, of the graph's input, or of the file; operator and first output where a node has no name.
    op: operator as the file calls it, "(input)" or "(model)".
    reason: what was seen and the limit.
    source: where the limit was read.
    confidence: "documented", "reported" or "inferred".
    severity: "error" or "warning".
  """

  node: str
  op: str
  reason: str
  source: str
  confidence: str
  severity: Severity


class Verdict(NamedTuple):
  """What the check found.

  Attributes:
    arch: accelerator.
    operators: operator -> number of nodes; those that only compute constants do not count.
    findings: of the file, then of the inputs, then of the nodes in the graph's order.
    end_nodes: on each path the last layer before the first refused node, or before the output: what one would give to
      `hailo parser onnx MODEL --end-node-names`. Empty if the first layer is refused already.
  """

  arch: str
  operators: dict[str, int]
  findings: tuple[Finding, ...]
  end_nodes: tuple[str, ...]

  @property
  def ok(self) -> bool:
    return all(finding.severity != "error" for finding in self.findings)


def check(path: str | pathlib.Path, *, arch: str = "hailo8") -> Verdict:
  """Checks a .onnx or .tflite file against the table of operators.

  Raises:
    InputError: unknown accelerator, missing or damaged file, another suffix.
  """
  check_arch(arch)
  network = _read(path)
  nodes = {operation: tuple(_of_operation(network, operation, arch)) for operation in network.operations}
  refused = [operation for operation, found in nodes.items() if any(f.severity == "error" for f in found)]
  return Verdict(
    arch=arch,
    operators=dict(collections.Counter(operation.op for operation in network.operations)),
    findings=(*_of_file(network, pathlib.Path(path).name, arch), *(f for found in nodes.values() for f in found)),
    end_nodes=_end_nodes(network, refused),
  )


def check_arch(arch: str) -> None:
  """Raises `InputError` for an architecture that is not one of `ARCHITECTURES`."""
  if arch not in ARCHITECTURES:
    raise InputError(f"arch {arch!r} is unknown{did_you_mean(arch, ARCHITECTURES)}")


def outside_npu_set(path: str | pathlib.Path) -> tuple[str, ...]:
  """What in a file is outside `NPU_OPERATORS`: "operator name" of other operators, of a Clip that is not 0 to 6, and of
  a change of layout that is not at an end (before the first layer, or where only dense layers, a softmax or outputs
  follow).

  Raises:
    InputError: as `check`.
  """
  network = _read(path)
  return tuple(f"{o.op} {o.name}" for o in network.operations if not _in_npu_set(network, o))


def table(verdict: Verdict) -> str:
  """The verdict as text for a terminal: findings in columns, their sources numbered below."""
  counts = collections.Counter(finding.severity for finding in verdict.findings)
  result = "accepted" if verdict.ok else "refused"
  lines = [
    f"{verdict.arch}: {result}; errors: {counts['error']}, warnings: {counts['warning']}",
    f"operators: {', '.join(f'{op} {count}' for op, count in verdict.operators.items()) or 'none'}",
  ]
  sources = list(dict.fromkeys((finding.confidence, finding.source) for finding in verdict.findings))
  rows = [
    (f.severity, f.node, f.op, f"{f.reason} [{sources.index((f.confidence, f.source)) + 1}]") for f in verdict.findings
  ]
  if rows:
    rows.insert(0, ("finding", "node", "operator", "reason"))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines += ["", *("  ".join((*map(str.ljust, row[:3], widths), row[3])) for row in rows), ""]
    lines += [f"[{i}] {confidence}: {source}" for i, (confidence, source) in enumerate(sources, 1)]
  if rows:
    lines += ["", f"nearest valid end nodes: {' '.join(verdict.end_nodes) or 'none, the first layer is refused'}"]
  return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
  """The command line; returns the exit code."""
  parser = _Parser(prog="python -m behavejax.export.hailo", description=__doc__.splitlines()[0])
  parser.add_argument("model", help="an .onnx or .tflite file")
  parser.add_argument("--arch", default="hailo8", help=f"one of {', '.join(ARCHITECTURES)}")
  parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
  try:
    arguments = parser.parse_args(argv)
    verdict = check(arguments.model, arch=arguments.arch)
  except InputError as error:
    print(f"behavejax: {error}", file=sys.stderr)
    return 2
  print(json.dumps(_plain(verdict), indent=2) if arguments.json else table(verdict))
  return 0 if verdict.ok else 1


class _Parser(argparse.ArgumentParser):
  """Wrong arguments become the one line that every wrong input is."""

  def error(self, message: str) -> NoReturn:
    raise InputError(message)


def _plain(verdict: Verdict) -> dict:
  findings = [finding._asdict() for finding in verdict.findings]
  return {"ok": verdict.ok, **verdict._asdict(), "findings": findings}


def _read(path: str | pathlib.Path) -> Network:
  path = pathlib.Path(path)
  reader = _READERS.get(path.suffix.lower())
  if reader is None:
    raise InputError(f"{path.name} must end in {' or '.join(_READERS)}")
  if not path.is_file():
    raise InputError(f"there is no file {path}")
  return reader(path)


def _of_file(network: Network, name: str, arch: str) -> Iterator[Finding]:
  for row in rows_of("(model)", arch):
    yield from _finding(row, name, "(model)", MODEL_CHECKS[row.aspect](network, row))
  for given in network.inputs:
    for row in rows_of("(input)", arch):
      yield from _finding(row, given, "(input)", INPUT_CHECKS[row.aspect](network, row, given))


def _of_operation(network: Network, operation: Operation, arch: str) -> Iterator[Finding]:
  rows = rows_of(operation.kind, arch) or (UNKNOWN,)
  if rows[0].aspect != "refused":
    rows = (*rows_of("(any)", arch), *rows)
  for row in rows:
    yield from _finding(row, operation.name, operation.op, CHECKS[row.aspect](Site(network, operation), row))


def _finding(row: Row, node: str, op: str, seen: str | None) -> Iterator[Finding]:
  if seen is not None:
    yield Finding(node, op, f"{seen}: {row.sentence()}", SOURCES[row.source], row.confidence, row.severity)


def _end_nodes(network: Network, refused: Sequence[Operation]) -> tuple[str, ...]:
  lost = set(descendants(network, refused))
  names = [*network.outputs, *(name for operation in lost for name in operation.inputs)]
  found = {name for output in names for name in _layers_at(network, output, lost)}
  return tuple(operation.name for operation in network.operations if operation.name in found)


def _layers_at(network: Network, name: str, lost: set[Operation]) -> Iterator[str]:
  """The layer that makes a tensor, through changes of layout; nothing if it is refused or there is none."""
  operation = network.producer.get(name)
  if operation is None or operation in lost:
    return
  if is_layer(operation):
    yield operation.name
  else:
    for given in network.data(operation):
      yield from _layers_at(network, given, lost)


def _in_npu_set(network: Network, operation: Operation) -> bool:
  if operation.op == "Clip":
    return (operation.attributes.get("min"), operation.attributes.get("max")) == (0.0, 6.0)
  if operation.kind in LAYOUT and not at_an_end(network, operation):
    return False
  return operation.op in NPU_OPERATORS


if __name__ == "__main__":
  sys.exit(main())
