"""The factorised video transformer with Gaussian readouts in PyTorch: what its training step is timed beside."""

from collections.abc import Callable
from typing import Any

import numpy as np

from behavejax.config_vivit import VivitConfig
from behavejax.models.neural_encoder import DataSet


def make_step(settings: VivitConfig, data: DataSet, video: np.ndarray, spikes: np.ndarray) -> Callable[[], Any]:
  """A training step: forward, Poisson loss, backward, AdamW. Rotary positions, no dropout, no modulator.

  Raises:
    ImportError: PyTorch is not installed.
  """
  import torch

  network = _network(settings, data, video.shape[1:4])
  optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
  x, y = torch.from_numpy(video), torch.from_numpy(spikes)

  def step() -> None:
    optimizer.zero_grad(set_to_none=True)
    rates = network(x)
    (rates - y * torch.log(rates + 1e-8)).mean().backward()
    optimizer.step()

  return step


def parameters(settings: VivitConfig, data: DataSet, shape: tuple[int, int, int]) -> int:
  """Number of parameters of the network for clips of this shape (time, height, width)."""
  return sum(p.numel() for p in _network(settings, data, shape).parameters())


def _network(s: VivitConfig, data: DataSet, shape: tuple[int, int, int]):
  import torch
  from torch import nn
  from torch.nn import functional

  time, rows, columns = (-(-size // stride) for size, stride in zip(shape, s.stride, strict=True))
  around = []
  for kernel, stride, size, count in zip(s.kernel[:0:-1], s.stride[:0:-1], shape[:0:-1], (columns, rows), strict=True):
    more = max((count - 1) * stride + kernel - size, 0)
    around += [more // 2, more - more // 2]

  def turns(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    half = s.head_width // (2 * positions.shape[1])
    frequencies = 10_000.0 ** (-torch.arange(half) / half)
    angles = (positions[:, :, None] * frequencies)[:, None]  # [position, 1, axis, half]
    return angles.cos(), angles.sin()

  def turned(x: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    cos, sin = turn
    first, second = x.unflatten(-1, (cos.shape[-2], 2, -1)).unbind(-2)
    return torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-2).flatten(-3)

  class Block(nn.Module):
    def __init__(self, *, causal: bool):
      super().__init__()
      own, self.causal = s.heads * s.head_width, causal
      self.norm = nn.LayerNorm(s.width, eps=1e-6)
      self.into = nn.Linear(s.width, 3 * own + s.hidden, bias=False)
      self.out = nn.Linear(own + s.hidden, s.width)

    def forward(self, x, turn):
      own = s.heads * s.head_width
      *projected, hidden = self.into(self.norm(x)).split([own, own, own, s.hidden], dim=-1)
      query, key, value = (a.unflatten(-1, (s.heads, s.head_width)) for a in projected)
      query, key = (turned(a, turn) for a in (query, key))
      mixed = functional.scaled_dot_product_attention(
        *(a.transpose(-2, -3) for a in (query, key, value)), is_causal=self.causal
      )
      joined = torch.cat([mixed.transpose(-2, -3).flatten(-2), functional.gelu(hidden, approximate="tanh")], dim=-1)
      return x + self.out(joined)

  class Network(nn.Module):
    def __init__(self):
      super().__init__()
      self.embed = nn.Conv3d(1, s.width, s.kernel, s.stride)
      self.registers = nn.Parameter(0.02 * torch.randn(s.registers, s.width))
      self.spatial = nn.ModuleList(Block(causal=False) for _ in range(s.spatial_blocks))
      self.temporal = nn.ModuleList(Block(causal=True) for _ in range(s.temporal_blocks))
      self.norm = nn.LayerNorm(s.width, eps=1e-6)
      self.frames = nn.Linear(s.width, s.stride[0] * s.width)
      neurons = len(data.mean_counts)
      self.mean, self.log_sigma = nn.Parameter(torch.zeros(neurons, 2)), nn.Parameter(torch.zeros(neurons, 2))
      self.angle, self.bias = nn.Parameter(torch.zeros(neurons)), nn.Parameter(torch.zeros(neurons))
      self.weights = nn.Parameter(0.02 * torch.randn(neurons, s.width))
      places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).float()
      self.turn_places = turns(torch.cat([torch.zeros(s.registers, 2), places]))
      self.turn_time = turns(torch.arange(time).float()[:, None])
      self.grid = 2 * places / torch.tensor([rows, columns]) - 1

    def masks(self):
      row, column = (self.grid[None] - self.mean[:, None]).unbind(-1)
      cos, sin = self.angle.cos()[:, None], self.angle.sin()[:, None]
      offset = torch.stack([cos * row - sin * column, sin * row + cos * column], -1) * (-self.log_sigma).exp()[:, None]
      return (-0.5 * offset.square().sum(-1)).softmax(-1)

    def forward(self, video):
      x = functional.pad(video.permute(0, 4, 1, 2, 3), (*around, s.kernel[0] - 1, 0))
      x = self.embed(x).flatten(3).permute(0, 2, 3, 1)
      x = torch.cat([self.registers.expand(*x.shape[:2], -1, -1), x], dim=2)
      for block in self.spatial:
        x = block(x, self.turn_places)
      x = x.transpose(1, 2)
      for block in self.temporal:
        x = block(x, self.turn_time)
      x = self.frames(self.norm(x.transpose(1, 2)[:, :, s.registers :]))
      x = x.unflatten(-1, (s.stride[0], s.width)).permute(0, 1, 3, 2, 4).flatten(1, 2)[:, : shape[0]]
      looked = x @ self.weights.T
      return functional.softplus(torch.einsum("btsn,ns->btn", looked, self.masks()) + self.bias)

  return Network()
