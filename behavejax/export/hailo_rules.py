"""What the Hailo parser takes, as a table: operator, limit, where the limit was read and how sure it is.

The Dataflow Compiler is proprietary and was not run for this table; its guide is behind a registration. A row is
therefore "documented" (in something that Hailo publishes: the Model Zoo, posts of its staff), "reported" (a public log
or thread of somebody who ran the compiler, or who quotes the guide) or "inferred" (no source was found; the limit is on
the careful side). `behavejax.export.hailo` applies the rows, `rules_markdown` prints them.

Operators are named as in ONNX; `TWINS` gives the TFLite names that mean the same.
"""

from typing import Any, Literal, NamedTuple

ARCHITECTURES = ("hailo8", "hailo8l", "hailo10h", "hailo15h")
FIRST = ("hailo8", "hailo8l")  # Dataflow Compiler 3.x
SECOND = ("hailo10h", "hailo15h")  # Dataflow Compiler 5.x

DOCUMENTED, REPORTED, INFERRED = "documented", "reported", "inferred"
CONFIDENCES = (DOCUMENTED, REPORTED, INFERRED)

_ZOO = "github.com/hailo-ai/hailo_model_zoo"
SOURCES = {
  "changelog": f"Hailo Model Zoo, docs/CHANGELOG.rst ({_ZOO})",
  "zoo vit": f"Hailo Model Zoo, cfg/networks/vit_base.yaml, model vit_base_patch16_224_ops17.onnx ({_ZOO})",
  "zoo clip": f"Hailo Model Zoo, cfg/networks/clip_vit_b_32_image_encoder.yaml ({_ZOO})",
  "zoo deeplab": f"Hailo Model Zoo, cfg/networks/deeplab_v3_mobilenet_v2_wo_dilation.yaml ({_ZOO})",
  "zoo dilation": f"Hailo Model Zoo, cfg/networks/deeplab_v3_mobilenet_v2_dilation.yaml ({_ZOO})",
  "zoo video": f"Hailo Model Zoo, cfg/networks/r3d_18.yaml ({_ZOO})",
  "zoo text": f"Hailo Model Zoo, cfg/base/all_minilm.yaml ({_ZOO})",
  "staff 5046": "Hailo staff as quoted by others, community.hailo.ai/t/supported-operators/5046",
  "encoder": "user's log of a transformer encoder with compiler 5.3.0 on Hailo-10H, community.hailo.ai/t/.../19530",
  "guide quoted": "Dataflow Compiler User Guide 3.27 to 3.30 as summarised in github.com/Cammand-2026/Cammand-Core, "
  "docs/AI_MODEL_TEAM_SPEC.md",
  "single layers": "layers compiled one by one with compiler 3.32 for Hailo-8, github.com/nachalsa/mosu, "
  "docs/hardware/hailo8.md",
  "temporal": "temporal network on Hailo-8, github.com/wllmflower2460/Conv2d, "
  "docs/deployment/HAILO_COMPILATION_BREAKTHROUGH.md",
  "fsq": "network with finite scalar quantization on Hailo-8, github.com/wllmflower2460/Conv2d, "
  "Shared/Conv2D/Agent_Reviews/M1_3_HAILO_DEPLOYMENT_COMPLETE.md",
  "inertial": "four inertial networks on Hailo-8L, github.com/rogeherlor/cookies, scripts/positioning/hailo/README.md",
  "lstm": "parser's output for Hailo-8L, github.com/Vuong02011996/ai-engineer, "
  "08_Hardware_AI/Raspberry_AI_KIT_HAT/error.md",
  "gate": "operator list corrected against compiler 5.3.0, github.com/weftspun/rf-detr-cpp, "
  "scripts/gate_onnx_device.py",
  "opsets": "sweep of opsets with compiler 5.3.0, whose guide is said to give 15 to 21, "
  "github.com/weftspun/nx_shuttle, lib/nx_shuttle.ex",
  "shuffle": "parser's output, github.com/hailo-ai/Hailo-Application-Code-Examples/issues/364",
  "ridgerun": "developer.ridgerun.com/wiki, Hailo Dataflow Compiler, section Model Optimization",
  "none": "no source found",
}

Severity = Literal["error", "warning"]


class Between(NamedTuple):
  """A range of whole numbers; both ends belong to it."""

  low: int
  high: int

  def __str__(self) -> str:
    return f"{self.low} to {self.high}"


class Row(NamedTuple):
  """One limit.

  Attributes:
    operators: ONNX names; "(input)", "(model)" and "(any)" stand for the graph's inputs, the file, every operator.
    aspect: name of the check that applies `limit`, a key of `behavejax.export.hailo_checks.CHECKS`; "accepted" and
      "refused" say whether the operator is taken at all.
    limit: what the check compares with.
    text: the limit in words, with `{limit}` where its value belongs.
    source: key of `SOURCES`.
    confidence: one of `CONFIDENCES`.
    archs: accelerators that the row is about.
    severity: of a finding.
  """

  operators: tuple[str, ...]
  aspect: str
  limit: Any
  text: str
  source: str
  confidence: str
  archs: tuple[str, ...] = ARCHITECTURES
  severity: Severity = "error"

  def sentence(self) -> str:
    listed = isinstance(self.limit, tuple) and not isinstance(self.limit, Between)
    return self.text.format(limit=", ".join(map(str, self.limit)) if listed else self.limit)


TWINS = {
  "ADD": "Add", "ARG_MAX": "ArgMax", "ARG_MIN": "ArgMin", "AVERAGE_POOL_2D": "AveragePool", "BATCH_MATMUL": "MatMul",
  "BROADCAST_TO": "Expand", "CAST": "Cast", "CEIL": "Ceil", "CONCATENATION": "Concat", "CONV_2D": "Conv",
  "CUMSUM": "CumSum", "DEPTHWISE_CONV_2D": "Conv", "DEPTH_TO_SPACE": "DepthToSpace", "DEQUANTIZE": "DequantizeLinear",
  "DIV": "Div", "ELU": "Elu", "EXP": "Exp", "EXPAND_DIMS": "Unsqueeze", "FLOOR": "Floor", "FULLY_CONNECTED": "Gemm",
  "GATHER": "Gather", "GATHER_ND": "GatherND", "GELU": "Gelu", "HARD_SWISH": "HardSwish", "IF": "If",
  "LEAKY_RELU": "LeakyRelu", "LOGISTIC": "Sigmoid", "LOG_SOFTMAX": "LogSoftmax", "MAX_POOL_2D": "MaxPool",
  "MEAN": "ReduceMean", "MUL": "Mul", "ONE_HOT": "OneHot", "PAD": "Pad", "PADV2": "Pad", "PRELU": "PRelu",
  "QUANTIZE": "QuantizeLinear", "REDUCE_MAX": "ReduceMax", "RELU": "Relu", "RELU6": "Clip", "RESHAPE": "Reshape",
  "RESIZE_BILINEAR": "Resize", "RESIZE_NEAREST_NEIGHBOR": "Resize", "ROUND": "Round", "SHAPE": "Shape",
  "SLICE": "Slice", "SOFTMAX": "Softmax", "SPACE_TO_DEPTH": "SpaceToDepth", "SPLIT": "Split", "SQRT": "Sqrt",
  "SQUEEZE": "Squeeze", "STRIDED_SLICE": "Slice", "SUB": "Sub", "SUM": "ReduceSum", "TANH": "Tanh", "TILE": "Tile",
  "TOPK_V2": "TopK", "TRANSPOSE": "Transpose", "TRANSPOSE_CONV": "ConvTranspose",
  "UNIDIRECTIONAL_SEQUENCE_LSTM": "LSTM", "WHERE": "Where", "WHILE": "Loop",
}  # fmt: skip
"""TFLite operator -> the ONNX operator whose rows hold for it."""

NPU_OPERATORS = frozenset((
  "Conv", "Relu", "Clip", "Add", "Mul", "AveragePool", "GlobalAveragePool", "Gemm", "MatMul", "Softmax", "Reshape",
  "Flatten", "Transpose",
  "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "RELU", "RELU6", "ADD", "MUL", "AVERAGE_POOL_2D", "SOFTMAX",
  "RESHAPE", "TRANSPOSE", "QUANTIZE", "DEQUANTIZE",
))  # fmt: skip
"""All that an export in the form `npu` may hold; Clip only as ReLU6, changes of layout only at the ends."""

LAYOUT = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")
DENSE = ("Gemm", "MatMul")
_CONV = ("Conv",)
_POOLS = ("AveragePool", "MaxPool")
_ELEMENTWISE = ("Add", "Sub", "Mul", "Div")
_ACTIVATIONS = ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Elu", "PRelu", "Gelu")

OPERATORS = (
  # The file and its inputs.
  Row(("(model)",), "opset", Between(11, 17), "opsets of compiler 3.x are {limit}: 17 is that of the zoo's ViT, 11 "
      "that of layers compiled one by one", "zoo vit", REPORTED, FIRST),
  Row(("(model)",), "opset", Between(13, 21), "opsets of compiler 5.x are {limit}; its parser took 13 to 23", "opsets",
      REPORTED, SECOND),
  Row(("(model)",), "precision", None, "the compiler quantizes a float model by itself; give it the float file",
      "ridgerun", REPORTED, severity="warning"),
  Row(("(input)",), "batch", 1, "the batch size is fixed at {limit}", "temporal", REPORTED),
  Row(("(input)",), "static", None, "every size is known before compilation", "guide quoted", REPORTED),
  Row(("(input)",), "rank", Between(2, 4), "inputs have {limit} dimensions", "inertial", REPORTED),
  Row(("(input)",), "type", ("float32", "float16", "int8", "uint8"), "inputs are one of {limit}; tables are looked up "
      "outside, as in the zoo's text models", "zoo text", INFERRED),
  Row(("(any)",), "static", None, "every size is known before compilation", "guide quoted", REPORTED),
  Row(("(any)",), "rank", Between(0, 4), "tensors have at most 4 dimensions; the zoo's one video network, for hailo8 "
      "and hailo8l, folds its frames into the channels", "zoo video", INFERRED),
  # Convolutions.
  Row(_CONV, "accepted", None, "dense, grouped, depthwise and dilated", "single layers", REPORTED),
  Row(("ConvTranspose",), "accepted", None, "transposed convolution", "single layers", REPORTED),
  Row(_CONV, "rank", Between(4, 4), "convolutions are two-dimensional: a 1D convolution is written with kernels (1, k)",
      "inertial", REPORTED),
  Row(("ConvTranspose",), "rank", Between(4, 4), "transposed convolutions are two-dimensional", "none", INFERRED),
  Row((*_CONV, "ConvTranspose"), "constants", (1, 2), "weights and bias are constants", "none", INFERRED),
  Row(_CONV, "kernel", 32, "a side of a kernel is at most {limit}, as in the zoo's ViT-B/32 with patches of 32 x 32",
      "zoo clip", INFERRED),
  Row(("ConvTranspose",), "kernel", 16, "a side of a kernel is at most {limit}", "none", INFERRED),
  Row((*_CONV, "ConvTranspose"), "stride", 4, "a stride is at most {limit} unless it equals the kernel; 4 along time "
      "was compiled", "inertial", INFERRED),
  Row(_CONV, "dilation", 16, "a dilation is at most {limit}; dilated kernels as such are in the zoo", "zoo dilation",
      INFERRED),
  Row(_CONV, "dilated stride", 1, "a dilated convolution has stride {limit}", "none", INFERRED),
  Row(("ConvTranspose",), "dilation", 1, "a transposed convolution has dilation {limit}", "none", INFERRED),
  Row(_CONV, "padding", None, "padding is smaller than the kernel it belongs to", "none", INFERRED),
  Row(_CONV, "same padding", None, "padding that is neither 'same' nor 'valid' costs a layer of its own", "none",
      INFERRED, severity="warning"),
  Row(_CONV, "groups", None, "groups have equal channels; grouped networks (RegNetX) are in the zoo", "changelog",
      DOCUMENTED),
  Row(("ConvTranspose",), "ungrouped", None, "a transposed convolution has one group", "none", INFERRED),
  Row((*_CONV, "ConvTranspose", *DENSE), "channels", 8192, "at most {limit} channels in and out", "none", INFERRED),
  # Dense layers and products.
  Row(DENSE, "accepted", None, "dense layer", "single layers", REPORTED),
  Row(("Gemm",), "constants", (1, 2), "weights and bias are constants", "none", INFERRED),
  Row(("Gemm",), "gemm", None, "transA is 0, alpha and beta are 1", "none", INFERRED),
  Row(("MatMul",), "product", None, "the first factor is data", "none", INFERRED),
  Row(("MatMul",), "attention", None, "products of two activations: attention of this size is released for some "
      "networks only, CLIP ViT-B and DaViT first for hailo15h and hailo10h alone", "changelog", DOCUMENTED, FIRST,
      severity="warning"),
  # Pooling and reductions.
  Row((*_POOLS, "GlobalAveragePool"), "accepted", None, "pooling", "single layers", REPORTED),
  Row((*_POOLS, "GlobalAveragePool"), "rank", Between(4, 4), "pooling is two-dimensional", "inertial", INFERRED),
  Row(_POOLS, "kernel", 32, "a side of a window is at most {limit} unless it covers the whole input", "none", INFERRED),
  Row(("MaxPool",), "dilation", 1, "a maximum has dilation {limit}", "none", INFERRED),
  Row(_POOLS, "ceil", 0, "ceil_mode is {limit}", "none", INFERRED),
  Row(("ReduceMean",), "accepted", None, "mean over height and width, or over channels", "single layers", REPORTED),
  Row(("ReduceMean",), "axes", (("height", "width"), ("channel",)), "a mean runs over height and width together, or "
      "over the channels; better a pooling", "single layers", REPORTED),
  Row(("ReduceMean",), "keepdims", 1, "keepdims is {limit}: a mean without it broke the dense layer after it",
      "single layers", REPORTED, severity="warning"),
  Row(("ReduceSum",), "accepted", None, "sum over channels", "none", INFERRED),
  Row(("ReduceSum",), "axes", (("channel",),), "a sum runs over the channels", "none", INFERRED),
  # Elementwise arithmetic.
  Row(_ELEMENTWISE, "accepted", None, "elementwise arithmetic", "single layers", REPORTED),
  Row(_ELEMENTWISE, "broadcast", None, "operands have the same shape, or one of them is a scalar, one number per "
      "channel or one per position", "none", INFERRED),
  # Activations.
  Row(_ACTIVATIONS[:-1], "accepted", None, "activation", "single layers", REPORTED),
  Row(("Gelu",), "accepted", None, "activation", "staff 5046", REPORTED),
  Row(("Gelu",), "preview", None, "listed as a preview", "staff 5046", REPORTED, severity="warning"),
  Row(("HardSwish",), "preview", None, "listed as a preview", "guide quoted", REPORTED, severity="warning"),
  Row(("Softplus", "Mish", "Exp", "Sqrt"), "accepted", None, "activation", "staff 5046", REPORTED),
  Row(("PRelu",), "constants", (1,), "slopes are constants", "none", INFERRED),
  Row(("Clip",), "accepted", None, "torch.clamp", "single layers", REPORTED),
  Row(("Clip",), "constants", (1, 2), "bounds are constants", "none", INFERRED),
  Row(("Clip",), "relu6", (0.0, 6.0), "bounds other than ReLU's and ReLU6's are a layer of their own", "single layers",
      REPORTED, severity="warning"),
  Row((*_CONV, *DENSE, *_POOLS, *_ELEMENTWISE, "Concat"), "fused activation", ("NONE", "RELU", "RELU6", "TANH"),
      "a TFLite operator ends in one of {limit}", "none", INFERRED),
  Row((*_ACTIVATIONS, "Clip", "Softplus", "Mish"), "placement", None, "an activation follows a layer; on the graph's "
      "input it is a layer of its own", "none", INFERRED, severity="warning"),
  Row(("Softmax",), "accepted", None, "softmax", "encoder", REPORTED),
  Row(("Softmax",), "axis", ("channel",), "softmax runs over the {limit} axis", "guide quoted", REPORTED),
  # Normalisation.
  Row(("BatchNormalization",), "accepted", None, "folded into the convolution or dense layer before it", "guide quoted",
      REPORTED),
  Row(("BatchNormalization",), "constants", (1, 2, 3, 4), "statistics are constants", "none", INFERRED),
  Row(("BatchNormalization",), "folded", None, "not right after a convolution or dense layer that it alone reads, it "
      "becomes a normalization layer of its own", "encoder", REPORTED, severity="warning"),
  Row(("LayerNormalization",), "accepted", None, "zoo networks with it: ViT, DeiT, vit_pose_small", "changelog",
      DOCUMENTED),
  Row(("LayerNormalization",), "norm axis", ("channel",), "layer normalisation runs over the {limit} axis alone",
      "none", INFERRED),
  Row(("InstanceNormalization",), "accepted", None, "instance normalisation", "single layers", REPORTED),
  # Shapes.
  Row(LAYOUT, "accepted", None, "change of layout at an end of the graph", "guide quoted", REPORTED),
  Row(LAYOUT, "position", None, "a change of layout stands before the first layer, or after the last pooling or "
      "convolution where only dense layers, a softmax or outputs follow", "shuffle", REPORTED),
  Row(("Reshape", "Flatten"), "unchanged", None, "a change to the same shape goes away when the parser tries again "
      "with a simplified graph", "shuffle", INFERRED, severity="warning"),
  Row(("Reshape", "Flatten"), "flattened", None, "flattening more than 1 x 1 before a dense layer was refused for one "
      "network and taken for others; pool first", "inertial", REPORTED, severity="warning"),
  Row(LAYOUT[:-1], "last", None, "not the last layer; end at the node before it", "guide quoted", REPORTED,
      severity="warning"),
  Row(("Reshape",), "constants", (1,), "the shape is a constant", "inertial", REPORTED),
  Row(("Concat",), "accepted", None, "concatenation", "single layers", REPORTED),
  Row(("Concat",), "axis", ("channel", "height", "width"), "concatenated axes are {limit}, never the batch", "gate",
      REPORTED),
  Row(("Split",), "accepted", None, "split", "encoder", INFERRED),
  Row(("Split",), "axis", ("channel",), "a split runs over the {limit} axis", "none", INFERRED),
  Row(("Split",), "inner", None, "outputs of a split go to layers, not out of the graph", "none", INFERRED),
  Row(("Slice",), "accepted", None, "slice", "none", INFERRED),
  Row(("Slice",), "constants", (1, 2, 3, 4), "bounds are constants", "none", INFERRED),
  Row(("Slice",), "axes within", ("channel", "height", "width"), "sliced axes are {limit}", "lstm", INFERRED),
  Row(("Slice",), "steps", 1, "steps are {limit}", "none", INFERRED),
  Row(("Pad",), "accepted", None, "zero padding", "single layers", REPORTED),
  Row(("Pad",), "constants", (1, 2), "widths are constants", "none", INFERRED),
  Row(("Pad",), "pad mode", ("constant",), "padding is with zeros", "none", INFERRED),
  Row(("Pad",), "axes within", ("height", "width"), "padded axes are {limit}", "none", INFERRED),
  Row(("Resize",), "accepted", None, "nearest and bilinear", "single layers", REPORTED),
  Row(("Resize",), "constants", (1, 2, 3), "sizes are constants", "none", INFERRED),
  Row(("Resize",), "resize mode", ("nearest", "linear"), "resizing is one of {limit}", "single layers", REPORTED),
  Row(("Resize",), "axes within", ("height", "width"), "resized axes are {limit}", "none", INFERRED),
  Row(("DepthToSpace", "SpaceToDepth"), "accepted", None, "sub-pixel layers, as in the zoo's ESPCN", "changelog",
      INFERRED),
  Row(("Identity", "Dropout"), "accepted", None, "dropped", "guide quoted", REPORTED),
  # Ends.
  Row(("ArgMax",), "accepted", None, "end node of the zoo's DeepLab", "zoo deeplab", DOCUMENTED),
  Row(("ArgMax",), "axis", ("channel",), "an argmax runs over the {limit} axis", "zoo deeplab", INFERRED),
  Row(("ArgMax",), "at output", None, "an argmax is the very last node", "zoo deeplab", INFERRED),
  Row(("QuantizeLinear", "DequantizeLinear"), "accepted", None, "only in TFLite files, with a warning", "none",
      INFERRED),
  Row(("QuantizeLinear", "DequantizeLinear"), "tflite only", None, "the compiler quantizes a float model by itself",
      "ridgerun", REPORTED),
  # Refused.
  Row(("Round",), "refused", None, "the parser does not take rounding: end before it and round on the host", "fsq",
      REPORTED),
  Row(("Gather",), "refused", None, "rows of a table are looked up outside, as in the zoo's text models", "zoo text",
      DOCUMENTED),
  Row(("GatherElements", "GatherND", "ScatterND", "ScatterElements", "TopK", "GridSample"), "refused", None,
      "addresses that depend on data are not taken", "gate", REPORTED),
  Row(("NonZero", "NonMaxSuppression"), "refused", None, "shapes that depend on data are not taken", "gate", REPORTED),
  Row(("If", "Loop", "Scan"), "refused", None, "control flow is not taken", "gate", REPORTED),
  Row(("Tile",), "refused", None, "copies along an axis are not taken", "gate", REPORTED),
  Row(("Erf",), "refused", None, "alone it is not taken, only within a GELU that the parser recognises", "opsets",
      REPORTED),
  Row(("Cast",), "refused", None, "a cast is dropped, so that its values would differ", "opsets", REPORTED),
  Row(("LSTM", "GRU", "RNN"), "refused", None, "recurrent layers are not taken in general", "lstm", REPORTED),
  Row(("Shape", "Size"), "refused", None, "arithmetic with shapes broke the parser; write the sizes as constants",
      "inertial", REPORTED),
  Row(("ArgMin", "Ceil", "Floor", "Sign", "Mod", "Expand", "Where", "Equal", "Greater", "Less", "And", "Or", "Not",
       "CumSum", "Einsum", "LogSoftmax", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2", "OneHot", "DFT", "Sin",
       "Cos", "Min", "Max", "Pow", "Log", "Abs", "Neg", "Reciprocal", "GroupNormalization"), "refused", None,
      "no source says that the parser takes it alone", "none", INFERRED),
)  # fmt: skip

UNKNOWN = Row(("(other)",), "refused", None, "not in the table of operators", "none", INFERRED)

_HEADER = f"""# Operators of the Hailo accelerators

Made from `behavejax/export/hailo_rules.py` by `rules_markdown()`; `python -m behavejax.export.hailo MODEL` applies it
to an ONNX or TFLite file. Hailo's Dataflow Compiler is proprietary and was not run for this table. Confidence:

- documented: in something that Hailo publishes (Model Zoo, posts of its staff);
- reported: a public log or thread of somebody who ran the compiler, or who quotes its guide;
- inferred: no source was found that gives the limit; it is on the careful side. A source in such a row says where
  the nearest fact was read.

A graph that ends in something refused is cut before it and the rest runs on the host; Hailo describes how in
community.hailo.ai/t/handling-unsupported-operations-with-onnxruntime/17956.

"(model)", "(input)" and "(any)" stand for the file, the inputs of the graph and every operator. An operator in no row
is refused ("{UNKNOWN.text}"). TFLite operators go by the rows of their ONNX twins, listed at the end.

"""


def rows_of(operator: str, arch: str) -> tuple[Row, ...]:
  """The rows about an operator on an accelerator; empty if the table does not know it."""
  return tuple(row for row in OPERATORS if operator in row.operators and arch in row.archs)


def rules_markdown() -> str:
  """The whole table, its sources and the TFLite names as Markdown."""
  numbers = {key: i for i, key in enumerate(SOURCES, 1)}
  titles = ("operators", "aspect", "limit", "accelerators", "finding", "confidence", "source")
  lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
  for row in OPERATORS:
    archs = "all" if row.archs == ARCHITECTURES else ", ".join(row.archs)
    finding = "" if row.aspect == "accepted" else row.severity
    cells = (", ".join(row.operators), row.aspect, row.sentence(), archs, finding, row.confidence, numbers[row.source])
    lines.append(f"| {' | '.join(map(str, cells))} |")
  sources = [f"{numbers[key]}. {text}" for key, text in SOURCES.items()]
  twins = [f"| {name} | {twin} |" for name, twin in sorted(TWINS.items())]
  parts = [lines, ["", "## Sources", "", *sources], ["", "## TFLite", "", "| TFLite | ONNX |", "|---|---|", *twins]]
  return _HEADER + "\n".join(line for part in parts for line in part) + "\n"
