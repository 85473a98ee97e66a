"""How a graph makes its codes: exactly, with operations of an accelerator, or outside.

- `host`: the quantizer as it was trained, with `Round`, or with a comparison of scores with the largest of them.
- `npu`: nothing but convolutions, ReLU6 and softmax. Finite scalar quantization of a digit with `L` levels is a
  monotone staircase of `L - 1` steps at the thresholds `z_m`,

    code(z) = -1 + step sum_m [z >= z_m],

  and each step is one channel, `relu6(6 (s (z - z_m) + 1/2)) / 6`: exact outside `1 / (2 s)` of a threshold. The
  channels are folded into the projection before them; a second convolution adds them up. The nearest of learned codes
  is a softmax over `16 s (2 e.z - |e|^2)`, also folded into the projection, and a convolution of the codes: exact
  where the two best scores differ by more than `1.25 / s`.
- `split`: cut at the projection; the tail is a graph of its own.
"""

import numpy as np
from jaxtyping import Array, Float
from scipy import optimize

from behavejax.errors import InputError
from behavejax.export.graph import INPUT, Graph, Node, shapes, with_outputs
from behavejax.quantizers import fsq

_CHOICE_GAIN = 16
_CERTAIN = 20  # a difference of logits that leaves 2e-9 to the second best


def lower(graph: Graph, form: str, *, sharpness: float) -> Graph:
  """The graph with its quantizer in a form that runs on one device; `split` graphs come from `cut`.

  Args:
    graph: from `behavejax.export.build.build`.
    form: "npu" or "host".
    sharpness: steepness `s` of a step, in 1 / unit of z, or of the softmax; only "npu".
  """
  if form not in ("npu", "host"):
    raise InputError(f"no form {form!r} of a graph; known: npu, host")
  nodes: list[Node] = []
  for node in graph.nodes:
    if node.op == "quantize" and form == "npu":
      projection = nodes.pop()
      if (projection.name,) != node.inputs or projection.op != "conv" or projection.activation:
        raise InputError(f"the quantizer {node.name} does not follow a linear projection")
      make = staircase if node.codebook is None else soft_choice
      nodes += make(projection, node, sharpness=sharpness)
    elif node.op == "quantize" and node.codebook is not None:
      nodes += hard_choice(node)
    else:
      nodes.append(node)
  return graph._replace(nodes=tuple(nodes))


def cut(graph: Graph) -> tuple[Graph, Graph]:
  """Head, from the window to `latents`, and tail, from the latents to the outputs."""
  head = with_outputs(graph._replace(outputs={"latents": "latents"}), ["latents"])
  position = [node.name for node in graph.nodes].index("latents") + 1
  rest = tuple(
    node._replace(inputs=tuple(INPUT if name == "latents" else name for name in node.inputs))
    for node in graph.nodes[position:]
  )
  return head, Graph(shapes(graph)["latents"], rest, graph.outputs)


def staircase(projection: Node, node: Node, *, sharpness: float) -> list[Node]:
  """Projection and quantizer as two convolutions with a ReLU6 between."""
  levels, digits = node.levels, len(node.levels)
  places = thresholds(levels, symmetric=node.symmetric)
  digit = np.repeat(np.arange(digits), [len(row) for row in places])
  place, gain = np.concatenate(places), 6 * sharpness
  weights = gain * projection.weights.astype(np.float64)[..., digit]
  bias = gain * (projection.bias.astype(np.float64)[digit] - place) + 3
  steps = np.zeros((1, 1, len(digit), digits))
  steps[0, 0, np.arange(len(digit)), digit] = step_sizes(levels, symmetric=node.symmetric)[digit] / 6
  return [
    Node(f"{node.name}.steps", "conv", projection.inputs, weights.astype(np.float32), bias.astype(np.float32),
         activation="relu6"),
    Node(node.name, "conv", (f"{node.name}.steps",), steps.astype(np.float32), np.full(digits, -1, np.float32)),
  ]  # fmt: skip


def soft_choice(projection: Node, node: Node, *, sharpness: float) -> list[Node]:
  """Projection and nearest code as convolution, ReLU, softmax, convolution.

  The ReLU cuts off what is below the best score of any vector: it changes no answer, and leaves 8 bits three times as
  fine. Without such a bound there is no ReLU.
  """
  weights, bias = (a.astype(np.float64) for a in (projection.weights, projection.bias))
  scale, (gain, offset) = _CHOICE_GAIN * sharpness, _scores(node)
  lowest = lowest_best_score(gain, offset)
  shift = 0.0 if lowest is None else 2 * _CERTAIN - scale * lowest
  return [
    Node(f"{node.name}.scores", "conv", projection.inputs, (scale * weights @ gain).astype(np.float32),
         (scale * (bias @ gain + offset) + shift).astype(np.float32), activation="" if lowest is None else "relu"),
    Node(f"{node.name}.choice", "softmax", (f"{node.name}.scores",)),
    _chosen(node),
  ]  # fmt: skip


def lowest_best_score(
  gain: Float[np.ndarray, "digit code"], offset: Float[np.ndarray, " code"]
) -> float | None:  # fmt: skip
  """`min over z of max over k of (z . gain_k + offset_k)` by linear programming; None where there is no least.

  >>> lowest_best_score(np.array([[2.0, -2.0]]), np.array([-1.0, -1.0]))
  -1.0
  """
  digits, codes = gain.shape
  found = optimize.linprog(
    np.append(np.zeros(digits), 1.0), np.hstack([gain.T, -np.ones((codes, 1))]), -offset, bounds=(None, None)
  )
  return float(found.fun) if found.status == 0 else None


def hard_choice(node: Node) -> list[Node]:
  """Nearest code as convolution, comparison with the largest score, convolution."""
  gain, offset = (a.astype(np.float32) for a in _scores(node))
  return [
    Node(f"{node.name}.scores", "conv", node.inputs, gain[None, None], offset),
    Node(f"{node.name}.choice", "largest", (f"{node.name}.scores",)),
    _chosen(node),
  ]


def _scores(node: Node) -> tuple[Float[np.ndarray, "digit code"], Float[np.ndarray, " code"]]:
  """`2 e.z - |e|^2` of every code, which is largest where `|z - e|` is smallest."""
  codebook = node.codebook.astype(np.float64)
  square = np.zeros(len(codebook)) if node.cosine else np.square(codebook).sum(axis=1)
  return 2 * codebook.T, -square


def _chosen(node: Node) -> Node:
  codebook = node.codebook.astype(np.float32)
  return Node(
    node.name, "conv", (f"{node.name}.choice",), codebook[None, None], np.zeros(codebook.shape[1], np.float32)
  )


def thresholds(levels: tuple[int, ...], *, symmetric: bool) -> list[Float[np.ndarray, " step"]]:
  """Where `z` passes from one level of each digit to the next, ascending.

  >>> [row.round(3).tolist() for row in thresholds((3, 2), symmetric=True)]
  [[-0.549, 0.549], [0.0]]
  """
  if symmetric:
    return [np.arctanh((2 * np.arange(1, count) - 1) / (count - 1) - 1) for count in levels]
  half, offset, shift = fsq.bounds(levels)
  m = [np.arange(1 - count // 2, count - count // 2) for count in levels]
  return [np.arctanh((m[i] - 0.5 + offset[i]) / half[i]) - shift[i] for i in range(len(levels))]


def step_sizes(levels: tuple[int, ...], *, symmetric: bool) -> Float[np.ndarray, " digit"]:
  """Distance of neighbouring codes of each digit."""
  levels = np.asarray(levels)
  return 2 / (levels - 1) if symmetric else 1 / (levels // 2)


def near_tie(
  latents: Float[Array, "*batch digit"], codebook: Float[np.ndarray, "code digit"], *, cosine: bool, sharpness: float
) -> np.ndarray:
  """Which vectors have two codes so alike that the softmax shares out between them."""
  node = Node("codes", "quantize", (), codebook=np.asarray(codebook), cosine=cosine)
  gain, offset = _scores(node)
  best = np.sort(np.asarray(latents, np.float64) @ gain + offset, axis=-1)[..., -2:]
  return best[..., 1] - best[..., 0] <= _CERTAIN / (_CHOICE_GAIN * sharpness)


def near_threshold(
  latents: Float[Array, "*batch digit"], levels: tuple[int, ...], *, symmetric: bool, sharpness: float
) -> np.ndarray:
  """Which entries lie within `1 / (2 sharpness)` of a threshold, rounding included."""
  latents = np.asarray(latents)
  within = 0.5 / sharpness + 1e-5
  places = thresholds(levels, symmetric=symmetric)
  close = [np.abs(latents[..., i, None] - row).min(-1) <= within for i, row in enumerate(places)]
  return np.stack(close, axis=-1)
