"""The nets of the neural encoder written again in PyTorch, from their formulas; they take the weights of ours."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, which the nets are compared with, is not installed")
functional = torch.nn.functional


def tensor(x):
  return torch.from_numpy(np.asarray(x, np.float32).copy())


def tubelets(params, video, *, stride):
  """Causal 3D convolution: zeros before the first frame, evenly around each frame."""
  weight = tensor(params["embed"]["kernel"])  # [kh, kw, kt, out] for one channel
  weight = weight.permute(3, 2, 0, 1)[:, None]  # [out, 1, kt, kh, kw]
  around = []
  for kernel, size, step in zip(weight.shape[3:], video.shape[2:4], stride[1:], strict=True):
    more = max((-(-size // step) - 1) * step + kernel - size, 0)
    around = [more // 2, more - more // 2, *around]  # the last axis first
  x = functional.pad(tensor(video).permute(0, 4, 1, 2, 3), (*around, weight.shape[2] - 1, 0))
  return functional.conv3d(x, weight, tensor(params["embed"]["bias"]), stride=stride).permute(0, 2, 3, 4, 1)


def rotate(x, positions):
  """Complex turns; x `[..., position, head, depth]`, positions `[position, axis]`."""
  axes, depth = positions.shape[1], x.shape[-1]
  half, parts = depth // (2 * axes), []
  frequencies = 10_000.0 ** (-torch.arange(half) / half)
  for axis in range(axes):
    part = x[..., 2 * half * axis : 2 * half * (axis + 1)]
    turn = torch.polar(torch.ones(1), tensor(positions[:, axis])[:, None] * frequencies)[:, None]
    turned = torch.complex(part[..., :half], part[..., half:]) * turn
    parts += [turned.real, turned.imag]
  return torch.cat([*parts, x[..., 2 * axes * half :]], dim=-1)


def block(params, x, positions, *, heads, head_width, causal=False, context=0):
  """Attention and feed-forward side by side, attention written out; x `[..., position, width]`."""
  own = heads * head_width
  y = functional.layer_norm(x, x.shape[-1:], tensor(params["norm"]["scale"]), tensor(params["norm"]["bias"]), eps=1e-6)
  y = y @ tensor(params["into"]["kernel"])
  query, key, value = (y[..., i * own : (i + 1) * own].unflatten(-1, (heads, head_width)) for i in range(3))
  query, key = rotate(query, positions), rotate(key, positions)
  scores = torch.einsum("...qhd,...khd->...hqk", query, key) / head_width**0.5
  back = torch.arange(x.shape[-2])[:, None] - torch.arange(x.shape[-2])
  hidden_from = (back < 0 if causal else torch.zeros_like(back, dtype=bool)) | ((back >= context) if context else False)
  weights = scores.masked_fill(hidden_from, -torch.inf).softmax(-1)
  mixed = torch.einsum("...hqk,...khd->...qhd", weights, value).flatten(-2)
  joined = torch.cat([mixed, functional.gelu(y[..., 3 * own :], approximate="tanh")], dim=-1)
  return x + joined @ tensor(params["out"]["kernel"]) + tensor(params["out"]["bias"])


def vivit(params, video, settings):
  """The whole core without dropout, rotary positions."""
  x = tubelets(params["tubelets"], video, stride=settings.stride)
  batch, steps, rows, columns, width = x.shape
  places = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), -1).reshape(-1, 2)
  places = np.concatenate([np.zeros((settings.registers, 2)), places])
  registers = tensor(params["registers"]).expand(batch, steps, -1, -1)
  x = torch.cat([registers, x.flatten(2, 3)], dim=2)
  sizes = {"heads": settings.heads, "head_width": settings.head_width}
  for i in range(settings.spatial_blocks):
    x = block(params[f"spatial_{i}"], x, places, **sizes)
  x = x.transpose(1, 2)
  for i in range(settings.temporal_blocks):
    x = block(
      params[f"temporal_{i}"], x, np.arange(steps)[:, None], causal=settings.causal, context=settings.context, **sizes
    )
  x = x.transpose(1, 2)[:, :, settings.registers :]
  norm = params["norm"]
  x = functional.layer_norm(x, (width,), tensor(norm["scale"]), tensor(norm["bias"]), eps=1e-6)
  x = x @ tensor(params["frames"]["kernel"]) + tensor(params["frames"]["bias"])
  x = x.reshape(batch, steps, rows, columns, settings.stride[0], width).permute(0, 1, 4, 2, 3, 5)
  return x.flatten(1, 2)[:, : video.shape[1]]


def modulator(params, features, behaviour):
  """A gated recurrent unit with a 3 x 3 convolution of its state, frame by frame."""
  width = params["recurrent"].shape[1] // 3
  weight = tensor(params["recurrent"]).reshape(3, 3, width, 3 * width).permute(3, 2, 0, 1)
  features, behaviour = tensor(features), tensor(behaviour)
  state = torch.zeros(features.shape[0], width, *features.shape[2:4])
  changed = []
  for t in range(features.shape[1]):
    given = features[:, t] @ tensor(params["from_features"]["kernel"]) + tensor(params["from_features"]["bias"])
    given = given + (behaviour[:, t] @ tensor(params["from_behaviour"]["kernel"]))[:, None, None]
    update, reset, new = given.permute(0, 3, 1, 2).chunk(3, dim=1)
    of_update, of_reset, of_new = functional.conv2d(state, weight, padding=1).chunk(3, dim=1)
    update, reset = torch.sigmoid(update + of_update), torch.sigmoid(reset + of_reset)
    state = update * state + (1 - update) * torch.tanh(new + reset * of_new)
    change = state.permute(0, 2, 3, 1) @ tensor(params["change"]["kernel"]) + tensor(params["change"]["bias"])
    gain, shift = change.chunk(2, dim=-1)
    changed.append(features[:, t] * (1 + gain) + shift)
  return torch.stack(changed, dim=1)
