"""From a trained model to its static graph."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from behavejax.config import Config, QuantizerConfig
from behavejax.errors import InputError
from behavejax.export.graph import INPUT, Graph, Node
from behavejax.models.quantizer import codebook_of, learns_codes, make_quantizer
from behavejax.types import Variables

_EPSILON = 1e-5  # of flax.linen.BatchNorm


def build(config: Config, variables: Variables, *, shape: tuple[int, int, int]) -> Graph:
  """The graph of a trained model with outputs `logits`, `codes` and `embedding`.

  Args:
    config: the sections `model` and `quantizer` are used.
    variables: parameters and running statistics, as trained.
    shape: of a window before it is amplified, (height, time, channel).

  Raises:
    InputError: a part that has no static form.
  """
  model = config.model
  if model.device_attention:
    raise InputError(
      "config.model.device_attention=True cannot be exported: attention between the rows at every step is a batched "
      "product of activations, which accelerators for convolutions do not have; train without it"
    )
  codes = _codes(config.quantizer, variables)
  params, stats = jax.tree.map(np.asarray, (variables["params"], variables["batch_stats"]))
  nodes: list[Node] = []

  def add(name: str, op: str, *inputs: str, **rest: Any) -> str:
    nodes.append(Node(name, op, inputs, **rest))
    return name

  def conv_norm(path: str, x: str, *, relu: bool = True, **rest: int) -> str:
    part, *inner = path.split(".")
    p, s = params[part], stats[part]
    for key in inner:
      p, s = p[key], s[key]
    weights, bias = fold(p["conv"]["kernel"], s["norm"]["stats"], p["norm"]["stats"])
    return add(path, "conv", x, weights=weights, bias=bias, activation="relu" if relu else "", **rest)

  def residual(path: str, x: str, *, dilation: int) -> str:
    y = conv_norm(f"{path}.ConvNorm_0", x, dilation=dilation)
    y = conv_norm(f"{path}.ConvNorm_1", y, relu=False)
    return add(path, "add", x, y, activation="relu")

  x, halvings = INPUT, model.token_stride.bit_length() - 1
  for i in range(len(model.widths)):
    x = conv_norm(f"encoder.stage_{i}", x, stride=2 if i < halvings else 1)
  for i, dilation in enumerate(model.dilations):
    x = residual(f"encoder.block_{i}", x, dilation=dilation)
  height, tokens = shape[0], -(-shape[1] // model.token_stride)
  if model.pool == "window":
    x = add("encoder.pool", "average_pool", x, window=(height, tokens))
    height, tokens = 1, 1
  weights, bias = fold(params["encoder"]["projection"]["kernel"], stats["encoder"]["spread"]["stats"], {})
  x = add("latents", "conv", x, weights=weights, bias=bias)
  x = add("codes", "quantize", x, **codes)
  x = conv_norm("classifier.embed", x)
  for i, dilation in enumerate(model.classifier_dilations):
    x = residual(f"classifier.block_{i}", x, dilation=dilation)
  x = add("classifier.pool", "average_pool", x, window=(1, -(-tokens // model.classifier_segments)))
  add("embedding", "flatten", x)
  segments = -(-tokens // -(-tokens // model.classifier_segments))
  hidden, logits = (params["classifier"][name] for name in ("hidden", "logits"))
  weights = hidden["kernel"].reshape(height, segments, -1, hidden["kernel"].shape[1])
  x = add("classifier.hidden", "dense", x, weights=weights, bias=hidden["bias"], activation="relu")
  x = add("classifier.logits", "dense", x, weights=logits["kernel"][None, None], bias=logits["bias"])
  add("logits", "flatten", x)
  channels = shape[2] * (1 + len(model.gains))
  return Graph((*shape[:2], channels), tuple(nodes), {name: name for name in ("logits", "codes", "embedding")})


def _codes(config: QuantizerConfig, variables: Variables) -> dict[str, Any]:
  """The quantizer as its node: a grid, which signs and groups of grids are too, or one codebook."""
  if config.stages > 1:
    raise InputError(
      f"config.quantizer.stages={config.stages} cannot be exported: every stage needs the answer of the one before; "
      "train with stages=1"
    )
  if learns_codes(config) and config.groups > 1:
    raise InputError(
      f"config.quantizer.groups={config.groups} of learned codes cannot be exported: a graph has one codebook; train "
      "with groups=1"
    )
  if config.spherical:
    raise InputError(
      "config.quantizer.spherical=True cannot be exported: codes of a graph are signs of magnitude 1; train with "
      "spherical=False"
    )
  if learns_codes(config):
    return {"codebook": np.asarray(codebook_of(config, variables)), "cosine": config.cosine}
  return {"levels": make_quantizer(config).levels, "symmetric": config.symmetric or config.name == "lfq"}


def fold(
  kernel: Float[np.ndarray, "1 k in out"], running: Mapping[str, np.ndarray], affine: Mapping[str, np.ndarray]
) -> tuple[Float[np.ndarray, "1 k in out"], Float[np.ndarray, " out"]]:
  """Weights and bias of a convolution followed by `scale (y - mean) / sqrt(var + eps) + bias`."""
  gain = affine.get("scale", 1.0) / np.sqrt(running["var"].astype(np.float64) + _EPSILON)
  bias = affine.get("bias", 0.0) - running["mean"] * gain
  return (kernel * gain).astype(np.float32), bias.astype(np.float32)
