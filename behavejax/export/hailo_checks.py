"""The limits of the table, each as a function that says what in a graph is beyond one, or nothing."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from behavejax.export.hailo_network import Network, Operation, Shape
from behavejax.export.hailo_rules import DENSE, LAYOUT, Row

_TRANSPARENT = (*LAYOUT, "QuantizeLinear", "DequantizeLinear", "Identity", "Dropout")
_SPATIAL = (
  "Conv", "ConvTranspose", "AveragePool", "MaxPool", "GlobalAveragePool", "Resize", "Pad", "DepthToSpace",
  "SpaceToDepth",
)  # fmt: skip


class Site(NamedTuple):
  """An operation in its graph."""

  network: Network
  operation: Operation

  @property
  def source(self) -> str:
    """Its first input that is no constant."""
    return next(iter(self.network.data(self.operation)), "")

  @property
  def target(self) -> str:
    return self.operation.outputs[0]

  def shape(self, name: str) -> Shape:
    return self.network.shapes.get(name, ())

  def roles(self, axes: Iterable[int | None]) -> tuple[str, ...]:
    """What axes of the first input are; empty where that is not known."""
    known = self.network.roles.get(self.source, ())
    return tuple(known[axis] for axis in axes if axis is not None and -len(known) <= axis < len(known))

  def get(self, attribute: str, default: object = None) -> object:
    value = self.operation.attributes.get(attribute)
    return default if value is None else value


def at_an_end(network: Network, operation: Operation) -> bool:
  """Whether a change of layout stands before the first layer, or where only dense layers, softmax or outputs follow."""
  return not any(_layers(network, operation, network.before)) or (
    all(_closes(network, layer) for layer in _layers(network, operation, network.after))
    and not any(later.kind in _SPATIAL for later in descendants(network, [operation]))
  )


def descendants(network: Network, operations: Iterable[Operation]) -> list[Operation]:
  """The operations and all that depend on them, in the graph's order."""
  names = {name for operation in operations for name in operation.outputs}
  found = []
  for operation in network.operations:
    if names & {*operation.inputs, *operation.outputs}:
      names |= {*operation.outputs}
      found.append(operation)
  return found


def is_layer(operation: Operation) -> bool:
  """Whether an operation computes something, rather than changing a layout or a number format."""
  return operation.kind not in _TRANSPARENT


def _layers(network: Network, operation: Operation, step: Callable) -> list[Operation]:
  """The nearest layers in one direction, through changes of layout."""
  found = []
  for other in step(operation):
    found += [other] if is_layer(other) else _layers(network, other, step)
  return found


def _closes(network: Network, layer: Operation) -> bool:
  return layer.kind in ("Softmax", "ArgMax") or (layer.kind in DENSE and len(network.data(layer)) == 1)


def _opset(network: Network, row: Row) -> str | None:
  low, high = row.limit
  return None if network.format == "tflite" or low <= network.opset <= high else f"opset {network.opset}"


def _precision(network: Network, row: Row) -> str | None:
  kinds = sorted({network.types.get(name, "") for name in network.types} & {"int8", "uint8", "int16", "int4"})
  return f"{', '.join(kinds)} tensors" if kinds else None


def _batch(network: Network, row: Row, name: str) -> str | None:
  size = next(iter(network.shapes.get(name, ())), row.limit)
  return None if size == row.limit else f"batch {'not fixed' if size is None else size}"


def _input_static(network: Network, row: Row, name: str) -> str | None:
  shape = network.shapes.get(name)
  if shape is None:
    return "no shape"
  return f"shape {_text(shape)}" if None in shape[1:] else None


def _input_rank(network: Network, row: Row, name: str) -> str | None:
  rank = len(network.shapes.get(name, ()))
  return None if row.limit.low <= rank <= row.limit.high else f"{rank} dimensions"


def _input_type(network: Network, row: Row, name: str) -> str | None:
  return None if network.types[name] in row.limit else f"type {network.types[name]}"


MODEL_CHECKS: dict[str, Callable[[Network, Row], str | None]] = {"opset": _opset, "precision": _precision}
INPUT_CHECKS: dict[str, Callable[[Network, Row, str], str | None]] = {
  "batch": _batch, "static": _input_static, "rank": _input_rank, "type": _input_type,
}  # fmt: skip


def _static(site: Site, row: Row) -> str | None:
  """Reports where sizes get lost, not everything after that."""
  known = [name for name in site.network.data(site.operation) if None not in site.network.shapes.get(name, (None,))]
  if len(known) < len(site.network.data(site.operation)):
    return None
  used = [name for name in site.operation.outputs if name in (*site.network.consumers, *site.network.outputs)]
  lost = [name for name in used if None in site.network.shapes.get(name, (None,))]
  return f"output {lost[0]} of shape {_text(site.network.shapes.get(lost[0], (None,)))}" if lost else None


def _rank(site: Site, row: Row) -> str | None:
  names = (*site.network.data(site.operation), *site.operation.outputs)
  ranks = sorted({len(site.network.shapes[name]) for name in names if name in site.network.shapes})
  wrong = [rank for rank in ranks if not row.limit.low <= rank <= row.limit.high]
  return f"{wrong[-1]} dimensions" if wrong else None


def _constants(site: Site, row: Row) -> str | None:
  inputs = site.operation.inputs
  names = [inputs[i] for i in row.limit if i < len(inputs) and inputs[i] not in ("", *site.network.constants)]
  return f"{names[0]} is computed" if names else None


def _kernel(site: Site, row: Row) -> str | None:
  kernel = site.get("kernel", ())
  whole = _space(site) if site.operation.kind in ("AveragePool", "MaxPool") else ()
  large = any(side > row.limit and (i >= len(whole) or side != whole[i]) for i, side in enumerate(kernel))
  return f"kernel {_by(kernel)}" if large else None


def _stride(site: Site, row: Row) -> str | None:
  strides = site.get("strides", ())
  pairs = zip(strides, site.get("kernel", ()), strict=False)
  return f"stride {_by(strides)}" if any(stride > row.limit and stride != side for stride, side in pairs) else None


def _dilation(site: Site, row: Row) -> str | None:
  dilations = site.get("dilations", ())
  return f"dilation {_by(dilations)}" if any(dilation > row.limit for dilation in dilations) else None


def _dilated_stride(site: Site, row: Row) -> str | None:
  both = zip(site.get("dilations", ()), site.get("strides", ()), strict=False)
  if any(dilation > 1 and stride > row.limit for dilation, stride in both):
    return f"dilation {_by(site.get('dilations'))} with stride {_by(site.get('strides'))}"
  return None


def _padding(site: Site, row: Row) -> str | None:
  pads, spans = site.get("pads", ()), _spans(site)
  if any(pad >= span for pad, span in zip(pads, spans * 2, strict=False) if pad):
    return f"padding {_by(pads)} of a kernel that spans {_by(spans)}"
  return None


def _same_padding(site: Site, row: Row) -> str | None:
  pads, spans, sizes = site.get("pads", ()), _spans(site), _space(site)
  if not any(pads) or site.get("auto_pad", "NOTSET") != "NOTSET" or None in sizes or len(sizes) != len(spans):
    return None
  for i, (size, span, stride) in enumerate(zip(sizes, spans, site.get("strides"), strict=True)):
    total = max((math.ceil(size / stride) - 1) * stride + span - size, 0)
    begin, end = pads[i], pads[i + len(spans)]
    if (begin, end) not in ((0, 0), (total // 2, total - total // 2), (total - total // 2, total // 2)):
      return f"padding {_by(pads)}"
  return None


def _groups(site: Site, row: Row) -> str | None:
  group, (inward, outward) = site.get("group", 1), _channels_of(site)
  return f"{group} groups of {inward} and {outward} channels" if inward % group or outward % group else None


def _ungrouped(site: Site, row: Row) -> str | None:
  return f"{site.get('group')} groups" if site.get("group", 1) != 1 else None


def _channels(site: Site, row: Row) -> str | None:
  largest = max(_channels_of(site))
  return f"{largest} channels" if largest > row.limit else None


def _gemm(site: Site, row: Row) -> str | None:
  odd = [key for key, usual in (("transA", 0), ("alpha", 1.0), ("beta", 1.0)) if site.get(key, usual) != usual]
  return ", ".join(f"{key} {site.get(key):g}" for key in odd) or None


def _product(site: Site, row: Row) -> str | None:
  first = site.operation.inputs[0]
  return f"{first} is a constant" if first in site.network.constants else None


def _attention(site: Site, row: Row) -> str | None:
  data = site.network.data(site.operation)
  return f"{data[0]} times {data[1]}" if len(data) == 2 else None


def _ceil(site: Site, row: Row) -> str | None:
  return "ceil_mode 1" if site.get("ceil_mode", 0) != row.limit else None


def _axis(site: Site, row: Row) -> str | None:
  roles = site.roles([site.get("axis")])
  return f"{roles[0]} axis {site.get('axis')}" if roles and roles[0] not in row.limit else None


def _axes(site: Site, row: Row) -> str | None:
  rank = len(site.shape(site.source))
  roles = site.roles(site.get("axes", range(rank)))
  return f"{' and '.join(roles)} axes" if sorted(roles) not in map(sorted, row.limit) else None


def _axes_within(site: Site, row: Row) -> str | None:
  wrong = [role for role in site.roles(site.get("axes", ())) if role not in row.limit]
  return f"{wrong[0]} axis" if wrong else None


def _norm_axis(site: Site, row: Row) -> str | None:
  rank = len(site.shape(site.source))
  roles = site.roles(range(site.get("axis", -1) % rank, rank)) if rank else row.limit
  return f"{' and '.join(roles)} axes" if roles != row.limit else None


def _keepdims(site: Site, row: Row) -> str | None:
  return "keepdims 0" if site.get("keepdims", 1) != row.limit else None


def _steps(site: Site, row: Row) -> str | None:
  return f"steps {_by(site.get('steps'))}" if any(step != row.limit for step in site.get("steps", ())) else None


def _broadcast(site: Site, row: Row) -> str | None:
  shapes = [site.shape(name) for name in site.operation.inputs]
  if any(None in shape for shape in shapes) or len({*shapes}) == 1:
    return None
  large = max(shapes, key=lambda shape: (len(shape), math.prod(shape)))
  roles = site.network.roles.get(site.target, ())
  for shape in shapes:
    shape = (1,) * (len(large) - len(shape)) + shape
    kept = {role for role, size, full in zip(roles, shape, large, strict=False) if size == full and full > 1}
    full = {role for role, size in zip(roles, large, strict=False) if size > 1}
    if math.prod(shape) > 1 and kept not in (full, {"channel"}, full - {"channel"}):
      return " and ".join(_text(size) for size in shapes)
  return None


def _preview(site: Site, row: Row) -> str | None:
  return site.operation.op


def _relu6(site: Site, row: Row) -> str | None:
  bounds = (site.get("min", -math.inf), site.get("max", math.inf))
  return None if bounds in (row.limit, (0.0, math.inf)) else f"bounds {bounds[0]:g} and {bounds[1]:g}"


def _activation(site: Site, row: Row) -> str | None:
  fused = site.get("activation", row.limit[0])
  return f"ends in {fused}" if fused not in row.limit else None


def _placement(site: Site, row: Row) -> str | None:
  return None if _layers(site.network, site.operation, site.network.before) else "reads the graph's input"


def _folded(site: Site, row: Row) -> str | None:
  before = site.network.producer.get(site.source)
  folds = (
    before and before.kind in ("Conv", "ConvTranspose", *DENSE) and site.network.after(before) == (site.operation,)
  )
  return None if folds else f"after {before.op if before else 'the input'}"


def _position(site: Site, row: Row) -> str | None:
  fits = at_an_end(site.network, site.operation) or _unchanged(site, row)
  return None if fits else f"{site.operation.op} between layers"


def _unchanged(site: Site, row: Row) -> str | None:
  before, after = site.shape(site.source), site.shape(site.target)
  changes = site.operation.kind == "Transpose" or None in before or before != after
  return None if changes else f"{_text(before)} again"


def _flattened(site: Site, row: Row) -> str | None:
  space, out = _space(site), site.shape(site.target)
  merges = len(out) == 2 and None not in space and math.prod(space) > 1 and len(space) == 2
  dense = any(layer.kind in DENSE for layer in _layers(site.network, site.operation, site.network.after))
  return f"{_by(space)} flattened" if merges and dense else None


def _last(site: Site, row: Row) -> str | None:
  return "an output" if {*site.operation.outputs} & {*site.network.outputs} else None


def _inner(site: Site, row: Row) -> str | None:
  left = [name for name in site.operation.outputs if name in site.network.outputs]
  return f"{left[0]} is an output" if left else None


def _at_output(site: Site, row: Row) -> str | None:
  after = site.network.after(site.operation)
  return f"{after[0].name} follows" if after else None


def _mode(site: Site, row: Row) -> str | None:
  return f"mode {site.get('mode')}" if site.get("mode") not in row.limit else None


def _tflite_only(site: Site, row: Row) -> str | None:
  return None if site.network.format == "tflite" else site.operation.op


CHECKS: dict[str, Callable[[Site, Row], str | None]] = {
  "accepted": lambda site, row: None, "refused": lambda site, row: site.operation.op, "static": _static, "rank": _rank,
  "constants": _constants, "kernel": _kernel, "stride": _stride, "dilation": _dilation,
  "dilated stride": _dilated_stride, "padding": _padding, "same padding": _same_padding, "groups": _groups,
  "ungrouped": _ungrouped, "channels": _channels, "gemm": _gemm, "product": _product, "attention": _attention,
  "ceil": _ceil, "axis": _axis, "axes": _axes, "axes within": _axes_within, "norm axis": _norm_axis,
  "keepdims": _keepdims, "steps": _steps, "broadcast": _broadcast, "preview": _preview, "relu6": _relu6,
  "fused activation": _activation, "placement": _placement, "folded": _folded, "position": _position,
  "unchanged": _unchanged, "flattened": _flattened, "last": _last, "inner": _inner, "at output": _at_output,
  "pad mode": _mode, "resize mode": _mode, "tflite only": _tflite_only,
}  # fmt: skip
"""Aspect -> what is beyond the row's limit at a place, or None."""


def _space(site: Site) -> tuple[int | None, ...]:
  """Height and width of the first input."""
  shape, roles = site.shape(site.source), site.network.roles.get(site.source, ())
  return tuple(size for size, role in zip(shape, roles, strict=False) if role in ("height", "width"))


def _spans(site: Site) -> tuple[int, ...]:
  pairs = zip(site.get("kernel", ()), site.get("dilations", ()), strict=False)
  return tuple((side - 1) * dilation + 1 for side, dilation in pairs)


def _channels_of(site: Site) -> tuple[int, int]:
  """Channels in and out of a layer with constant weights; 1 where that is not known."""
  roles, found = site.network.roles, []
  for name in (site.source, site.target):
    sizes = dict(zip(roles.get(name, ()), site.shape(name), strict=False))
    found.append(sizes.get("channel") or 1)
  return found[0], found[1]


def _by(sizes: Iterable[int | None]) -> str:
  return " x ".join(map(str, sizes))


def _text(shape: Shape) -> str:
  return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"
