"""ONNX graphs made by hand for the operator check: how to write one, and those that it must refuse."""

import numpy as np
import onnx
from onnx import TensorProto, helper

X = ("x", (1, 4, 2, 50))
INT64 = TensorProto.INT64


def info(name, shape, kind=TensorProto.FLOAT):
  return helper.make_tensor_value_info(name, kind, shape)


def node(op, inputs, output="", name=None, **attributes):
  outputs = output.split() or [f"{op.lower()}_out"]
  return helper.make_node(op, inputs.split(" ") if inputs else [], outputs, name=name or op.lower(), **attributes)


def conv(inputs="x w", output="a", name="conv", **attributes):
  return node("Conv", inputs, output, name, **attributes)


def save(folder, nodes, *, inputs=(X,), outputs=(("y", (1, 4, 2, 50)),), opset=13, weights=None, domains=()):
  """Nodes as a file; `w` is a 1 x 1 convolution of 4 channels unless given."""
  weights = {"w": np.ones((4, 4, 1, 1), np.float32)} | (weights or {})
  used = {name for each in nodes for name in each.input}
  initializers = [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items() if k in used]
  graph = helper.make_graph(
    nodes, "g", [info(*each) for each in inputs], [info(*each) for each in outputs], initializers
  )  # fmt: skip
  imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
  path = folder / "model.onnx"
  onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
  return path


def f32(*shape):
  return np.ones(shape, np.float32)


def i64(*values):
  return np.array(values, np.int64)


def branches(op):
  """An If whose branches are Relu and Neg of `a`."""
  made = [helper.make_graph([node(o, "a", f"{o}_y", o)], o, [], [info(f"{o}_y", (1, 4, 2, 50))]) for o in op]
  return dict(zip(("then_branch", "else_branch"), made, strict=True))


BAD = {
  # name: (nodes, keywords of `save`, {refused node: part of the reason}, end nodes)
  "round": ([conv(), node("Round", "a", "b"), node("Relu", "b", "y")], {}, {"round": "rounding"}, ("conv",)),
  "round without a name": ([conv(), helper.make_node("Round", ["a"], ["y"])], {}, {"Round y": "rounding"}, ("conv",)),
  "round first": ([node("Round", "x", "a"), conv("a w", "y")], {}, {"round": "rounding"}, ()),
  "gather": (
    [conv(), node("Gather", "a i", "y", axis=3)],
    {"weights": {"i": i64(3, 1)}, "outputs": [("y", (1, 4, 2, 2))]},
    {"gather": "looked up outside"}, ("conv",),
  ),
  "argmax in the middle": (
    [conv(), node("ArgMax", "a", "b", axis=1), node("Cast", "b", "y", to=1)],
    {"outputs": [("y", (1, 1, 2, 50))]},
    {"argmax": "cast follows: an argmax is the very last node", "cast": "a cast is dropped"}, ("conv",),
  ),
  "argmax over time": (
    [conv(), node("ArgMax", "a", "y", axis=3)], {"outputs": [("y", (1, 4, 2, 1), INT64)]},
    {"argmax": "width axis 3"}, ("conv",),
  ),
  "dynamic batch": (
    [conv(output="y")], {"inputs": [("x", ("n", 4, 2, 50))], "outputs": [("y", ("n", 4, 2, 50))]},
    {"x": "batch not fixed"}, ("conv",),
  ),
  "batch of 8": (
    [conv(output="y")], {"inputs": [("x", (8, 4, 2, 50))], "outputs": [("y", (8, 4, 2, 50))]},
    {"x": "batch 8: the batch size is fixed at 1"}, ("conv",),
  ),
  "dynamic length": (
    [conv(output="y")], {"inputs": [("x", (1, 4, 2, "t"))], "outputs": [("y", (1, 4, 2, "t"))]},
    {"x": "shape [1, 4, 2, ?]"}, ("conv",),
  ),
  "length from data": (
    [conv(), node("Relu", "a", "b"), node("Resize", "b  s", "y", mode="nearest")],
    {"inputs": [X, ("s", (4,))], "outputs": [("y", ("a", "b", "c", "d"))]},
    {"s": "1 dimensions", "resize": "s is computed"}, ("relu",),
  ),
  "whole numbers as input": (
    [node("Gather", "table x", "a", axis=0), node("Relu", "a", "y")],
    {"inputs": [("x", (1, 8), INT64)], "weights": {"table": f32(9, 4)}, "outputs": [("y", (1, 8, 4))]},
    {"x": "type int64", "gather": "looked up outside"}, (),
  ),
  "conv 3d": (
    [conv(output="y")],
    {"inputs": [("x", (1, 4, 2, 5, 5))], "weights": {"w": f32(4, 4, 1, 1, 1)}, "outputs": [("y", (1, 4, 2, 5, 5))]},
    {"x": "5 dimensions", "conv": "5 dimensions"}, (),
  ),
  "rank 5 inside": (
    [conv(), node("Reshape", "a s", "b"), conv("b v", "y", "last")],
    {"weights": {"s": i64(1, 4, 2, 5, 10), "v": f32(4, 4, 1, 1, 1)}, "outputs": [("y", (1, 4, 2, 5, 10))]},
    {"reshape": "tensors have at most 4 dimensions", "last": "5 dimensions"}, ("conv",),
  ),
  "conv 1d": (
    [conv(), node("Relu", "a", "y")],
    {"inputs": [("x", (1, 4, 50))], "weights": {"w": f32(4, 4, 1)}, "outputs": [("y", (1, 4, 50))]},
    {"conv": "3 dimensions: convolutions are two-dimensional: a 1D convolution is written with kernels (1, k)"}, (),
  ),
  "dilation": (
    [conv(), conv("a v", "y", "wide", dilations=[1, 32], pads=[0, 32, 0, 32])], {"weights": {"v": f32(4, 4, 1, 3)}},
    {"wide": "dilation 1 x 32: a dilation is at most 16"}, ("conv",),
  ),
  "dilation with stride": (
    [conv(), conv("a v", "y", "wide", dilations=[1, 2], strides=[1, 2])],
    {"weights": {"v": f32(4, 4, 1, 3)}, "outputs": [("y", (1, 4, 2, 23))]},
    {"wide": "dilation 1 x 2 with stride 1 x 2"}, ("conv",),
  ),
  "stride": (
    [conv(), conv("a v", "y", "far", strides=[1, 8])],
    {"weights": {"v": f32(4, 4, 1, 9)}, "outputs": [("y", (1, 4, 2, 6))]},
    {"far": "stride 1 x 8: a stride is at most 4"}, ("conv",),
  ),
  "kernel": (
    [conv(), conv("a v", "y", "long")], {"weights": {"v": f32(4, 4, 1, 40)}, "outputs": [("y", (1, 4, 2, 11))]},
    {"long": "kernel 1 x 40: a side of a kernel is at most 32"}, ("conv",),
  ),
  "padding": (
    [conv(), conv("a v", "y", "padded", pads=[0, 3, 0, 3])],
    {"weights": {"v": f32(4, 4, 1, 3)}, "outputs": [("y", (1, 4, 2, 54))]},
    {"padded": "padding 0 x 3 x 0 x 3 of a kernel that spans 1 x 3"}, ("conv",),
  ),
  "channels": (
    [conv(), conv("a v", "y", "many")], {"weights": {"v": f32(9000, 4, 1, 1)}, "outputs": [("y", (1, 9000, 2, 50))]},
    {"many": "9000 channels"}, ("conv",),
  ),
  "computed weights": (
    [conv(), conv("a v", "y", "by data")], {"inputs": [X, ("v", (1, 4, 1, 1))], "outputs": [("y", (1, 1, 2, 50))]},
    {"by data": "v is computed: weights and bias are constants"}, ("conv",),
  ),
  "transposed convolution in groups": (
    [conv(), node("ConvTranspose", "a v", "y", group=4)], {"weights": {"v": f32(4, 1, 1, 1)}},
    {"convtranspose": "4 groups"}, ("conv",),
  ),
  "uneven groups": (
    [conv(), conv("a v", "y", "uneven", group=3)], {"weights": {"v": f32(4, 1, 1, 1)}},
    {"uneven": "3 groups of 4 and 4 channels"}, ("conv",),
  ),
  "dilated maximum": (
    [conv(), node("MaxPool", "a", "y", kernel_shape=[1, 3], dilations=[1, 2], pads=[0, 2, 0, 2])], {},
    {"maxpool": "dilation 1 x 2: a maximum has dilation 1"}, ("conv",),
  ),
  "layer norm over time": (
    [conv(), node("LayerNormalization", "a s", "y", axis=-1)], {"opset": 17, "weights": {"s": f32(50)}},
    {"layernormalization": "width axes: layer normalisation runs over the channel axis alone"}, ("conv",),
  ),
  "layer norm over two axes": (
    [node("MatMul", "x m", "a"), node("LayerNormalization", "a s", "y", axis=1)],
    {"opset": 17, "inputs": [("x", (1, 50, 4))], "weights": {"m": f32(4, 4), "s": f32(50, 4)},
     "outputs": [("y", (1, 50, 4))]},
    {"layernormalization": "width and channel axes"}, ("matmul",),
  ),
  "softmax over time": (
    [conv(), node("Softmax", "a", "y", axis=3)], {}, {"softmax": "width axis 3: softmax runs over the channel"},
    ("conv",),
  ),
  "mean over time": (
    [conv(), node("ReduceMean", "a", "y", axes=[3])], {"outputs": [("y", (1, 4, 2, 1))]},
    {"reducemean": "width axes: a mean runs over height and width together"}, ("conv",),
  ),
  "sum over everything": (
    [conv(), node("ReduceSum", "a", "y")], {"outputs": [("y", (1, 1, 1, 1))]},
    {"reducesum": "batch and channel and height and width axes"}, ("conv",),
  ),
  "concatenated batch": (
    [conv(), conv(output="b", name="other"), node("Concat", "a b", "y", axis=0)], {"outputs": [("y", (2, 4, 2, 50))]},
    {"concat": "batch axis 0"}, ("conv", "other"),
  ),
  "reshape in the middle": (
    [conv(), node("Reshape", "a s", "b"), conv("b v", "y", "last")],
    {"weights": {"s": i64(1, 8, 1, 50), "v": f32(4, 8, 1, 1)}, "outputs": [("y", (1, 4, 1, 50))]},
    {"reshape": "Reshape between layers"}, ("conv",),
  ),
  "transpose in the middle": (
    [conv(), node("Transpose", "a", "b", perm=[0, 1, 3, 2]), conv("b w", "y", "last")],
    {"outputs": [("y", (1, 4, 50, 2))]}, {"transpose": "Transpose between layers"}, ("conv",),
  ),
  "squeeze before a pooling": (
    [conv(), node("Transpose", "a", "b", perm=[0, 2, 3, 1]), node("Relu", "b", "c"),
     node("Transpose", "c", "d", "back", perm=[0, 3, 1, 2]), node("GlobalAveragePool", "d", "y")],
    {"outputs": [("y", (1, 4, 1, 1))]}, {"transpose": "between layers", "back": "between layers"}, ("conv",),
  ),
  "if": (
    [conv(), node("If", "c", "y", **branches(("Relu", "Neg")))],
    {"inputs": [X, ("c", (), TensorProto.BOOL)]},
    {"c": "type bool", "if": "control flow"}, ("conv",),
  ),
  "lstm": (
    [node("MatMul", "x m", "a"), node("LSTM", "a k r", "y", hidden_size=3)],
    {"inputs": [("x", (1, 9, 4))], "weights": {"m": f32(4, 4), "k": f32(1, 12, 4), "r": f32(1, 12, 3)},
     "outputs": [("y", (1, 1, 9, 3))]},
    {"lstm": "recurrent"}, ("matmul",),
  ),
  "broadcast along time": (
    [conv(), node("MaxPool", "a", "b", kernel_shape=[1, 50]), node("Add", "a b", "y")], {},
    {"add": "[1, 4, 2, 50] and [1, 4, 2, 1]: operands have the same shape"}, ("conv", "maxpool"),
  ),
  "top k": (
    [conv(), node("TopK", "a k", "y i", axis=1)],
    {"weights": {"k": i64(2)}, "outputs": [("y", (1, 2, 2, 50)), ("i", (1, 2, 2, 50), INT64)]},
    {"topk": "addresses that depend on data"}, ("conv",),
  ),
  "erf": ([conv(), node("Erf", "a", "y")], {}, {"erf": "only within a GELU"}, ("conv",)),
  "quantized onnx": (
    [conv(), node("QuantizeLinear", "a s z", "b"), node("DequantizeLinear", "b s z", "y")],
    {"weights": {"s": np.float32(0.1), "z": np.uint8(3)}},
    {"quantizelinear": "quantizes a float model by itself", "dequantizelinear": "by itself"}, ("conv",),
  ),
  "reflected padding": (
    [conv(), node("Pad", "a p", "y", mode="reflect")],
    {"weights": {"p": i64(0, 0, 0, 2, 0, 0, 0, 2)}, "outputs": [("y", (1, 4, 2, 54))]},
    {"pad": "mode reflect"}, ("conv",),
  ),
  "padded channels": (
    [conv(), node("Pad", "a p", "y")],
    {"weights": {"p": i64(0, 1, 0, 0, 0, 0, 0, 0)}, "outputs": [("y", (1, 5, 2, 50))]},
    {"pad": "channel axis: padded axes are height, width"}, ("conv",),
  ),
  "every other sample": (
    [conv(), node("Slice", "a b e d t", "y")],
    {"weights": {"b": i64(0), "e": i64(50), "d": i64(3), "t": i64(2)}, "outputs": [("y", (1, 4, 2, 25))]},
    {"slice": "steps 2: steps are 1"}, ("conv",),
  ),
  "cubic": (
    [conv(), node("Resize", "a  s", "y", mode="cubic")],
    {"weights": {"s": f32(4) * [1, 1, 1, 2]}, "outputs": [("y", (1, 4, 2, 100))]},
    {"resize": "mode cubic"}, ("conv",),
  ),
  "split to outputs": (
    [conv(), node("Split", "a", "y z", axis=1)], {"outputs": [("y", (1, 2, 2, 50)), ("z", (1, 2, 2, 50))]},
    {"split": "y is an output"}, ("conv",),
  ),
  "pooling that rounds up": (
    [conv(), node("AveragePool", "a", "y", kernel_shape=[1, 4], strides=[1, 4], ceil_mode=1)],
    {"outputs": [("y", (1, 4, 2, 13))]}, {"averagepool": "ceil_mode 1"}, ("conv",),
  ),
  "weights times data": (
    [conv(), node("MatMul", "m a", "y")], {"weights": {"m": f32(2, 2)}}, {"matmul": "m is a constant"}, ("conv",),
  ),
  "scaled dense layer": (
    [node("Gemm", "x m", "y", alpha=0.5)],
    {"inputs": [("x", (1, 4))], "weights": {"m": f32(4, 3)}, "outputs": [("y", (1, 3))]}, {"gemm": "alpha 0.5"}, (),
  ),
  "shape arithmetic": (
    [conv(), node("Shape", "a", "s"), node("Reshape", "a s", "y")], {},
    {"shape": "arithmetic with shapes", "reshape": "s is computed"}, ("conv",),
  ),
  "somebody's operator": (
    [conv(), node("Magic", "a", "y", domain="org.example")], {"domains": ["org.example"]},
    {"magic": "org.example.Magic: not in the table"}, ("conv",),
  ),
  "transposed convolution 1d": (
    [node("ConvTranspose", "x v", "y")],
    {"inputs": [("x", (1, 4, 50))], "weights": {"v": f32(4, 4, 1)}, "outputs": [("y", (1, 4, 50))]},
    {"convtranspose": "3 dimensions: transposed convolutions are two-dimensional"}, (),
  ),
  "long and dilated transposed convolutions": (
    [conv(), node("ConvTranspose", "a v", "y", "long"), node("ConvTranspose", "a u", "z", "wide", dilations=[1, 2])],
    {"weights": {"v": f32(4, 4, 1, 17), "u": f32(4, 4, 1, 3)},
     "outputs": [("y", (1, 4, 2, 66)), ("z", (1, 4, 2, 54))]},
    {"long": "kernel 1 x 17", "wide": "dilation 1 x 2"}, ("conv",),
  ),
  "computed dense layer": (
    [node("Gemm", "x v", "y")], {"inputs": [("x", (1, 4)), ("v", (4, 3))], "outputs": [("y", (1, 3))]},
    {"v": "batch 4", "gemm": "v is computed"}, (),
  ),
  "pooling 1d": (
    [node("MatMul", "x m", "a"), node("AveragePool", "a", "y", kernel_shape=[2])],
    {"inputs": [("x", (1, 4, 50))], "weights": {"m": f32(50, 50)}, "outputs": [("y", (1, 4, 49))]},
    {"averagepool": "3 dimensions: pooling is two-dimensional"}, ("matmul",),
  ),
  "long pooling": (
    [conv(), node("MaxPool", "a", "y", kernel_shape=[1, 40])], {"outputs": [("y", (1, 4, 2, 11))]},
    {"maxpool": "kernel 1 x 40: a side of a window is at most 32"}, ("conv",),
  ),
  "computed slopes": (
    [conv(), node("PRelu", "a a", "y")], {}, {"prelu": "a is computed: slopes are constants"}, ("conv",),
  ),
  "computed bounds": (
    [conv(), node("ReduceMax", "x", "m", keepdims=0), node("Clip", "a  m", "y")], {},
    {"reducemax": "no source", "clip": "m is computed: bounds are constants"}, ("conv",),
  ),
  "computed statistics": (
    [conv(), node("BatchNormalization", "a s b s s", "y")], {"inputs": [X, ("b", (4,))], "weights": {"s": f32(4)}},
    {"b": "1 dimensions", "batchnormalization": "b is computed: statistics are constants"}, ("conv",),
  ),
  "split over time": (
    [conv(), node("Split", "a", "b c", axis=3), node("Add", "b c", "y")], {"outputs": [("y", (1, 4, 2, 25))]},
    {"split": "width axis 3"}, ("conv",),
  ),
  "computed slice": (
    [conv(), node("Slice", "a b b", "y")],
    {"inputs": [X, ("b", (1,), INT64)], "outputs": [("y", ("a", "b", "c", "d"))]},
    {"b": "1 dimensions", "slice": "b is computed: bounds are constants"}, ("conv",),
  ),
  "sliced batch": (
    [conv(), node("Slice", "a b e d", "y")], {"weights": {"b": i64(0), "e": i64(1), "d": i64(0)}},
    {"slice": "batch axis: sliced axes are channel, height, width"}, ("conv",),
  ),
  "computed padding": (
    [conv(), node("Pad", "a p", "y")], {"inputs": [X, ("p", (8,), INT64)], "outputs": [("y", ("a", "b", "c", "d"))]},
    {"p": "1 dimensions", "pad": "p is computed: widths are constants"}, ("conv",),
  ),
  "resized channels": (
    [conv(), node("Resize", "a  s", "y", mode="nearest")],
    {"weights": {"s": f32(4) * [1, 2, 1, 1]}, "outputs": [("y", (1, 8, 2, 50))]},
    {"resize": "channel axis: resized axes are height, width"}, ("conv",),
  ),
  "tile": (
    [conv(), node("Tile", "a r", "y")], {"weights": {"r": i64(1, 1, 1, 2)}, "outputs": [("y", (1, 4, 2, 100))]},
    {"tile": "copies along an axis"}, ("conv",),
  ),
  "where it is not zero": (
    [conv(), node("NonZero", "a", "y")], {"outputs": [("y", (4, "n"), INT64)]},
    {"nonzero": "shapes that depend on data"}, ("conv",),
  ),
  "floor": ([conv(), node("Floor", "a", "y")], {}, {"floor": "no source says"}, ("conv",)),
  "two paths": (
    [conv(), node("Relu", "a", "b"), node("Round", "b", "c"), node("Sigmoid", "a", "d"), node("Round", "d", "e", "two"),
     node("Add", "c e", "y"), node("Tanh", "a", "z")],
    {"outputs": [("y", (1, 4, 2, 50)), ("z", (1, 4, 2, 50))]},
    {"round": "rounding", "two": "rounding"}, ("relu", "sigmoid", "tanh"),
  ),
  "codes in a head": (
    [conv(), node("GlobalAveragePool", "a", "b"), node("Flatten", "b", "c"), node("Round", "c", "y")],
    {"outputs": [("y", (1, 4))]}, {"flatten": "Flatten between layers", "round": "rounding"}, ("globalaveragepool",),
  ),
}  # fmt: skip
