"""I3D in PyTorch, written from Carreira and Zisserman (2017), figure 3.

A second opinion on `nets/i3d.py`: the tests compare the outputs of both,
`benchmarks/features.py` their speed. Names of attributes are those of the
public checkpoints, in either of two styles.
"""

import torch
from torch import nn
import torch.nn.functional as F

STAGES = (
  ("3b", (64, 96, 128, 16, 32, 32)),
  ("3c", (128, 128, 192, 32, 96, 64)),
  ("4a", None),
  ("4b", (192, 96, 208, 16, 48, 64)),
  ("4c", (160, 112, 224, 24, 64, 64)),
  ("4d", (128, 128, 256, 24, 64, 64)),
  ("4e", (112, 144, 288, 32, 64, 64)),
  ("4f", (256, 160, 320, 32, 128, 128)),
  ("5a", None),
  ("5b", (256, 160, 320, 32, 128, 128)),
  ("5c", (384, 192, 384, 48, 128, 128)),
)


def pad_same(x, window: list[int], stride: int, time_stride: int):
  """Zeros so that every axis has ceil(size / stride) outputs."""
  pads = []
  for axis in (4, 3, 2):  # F.pad counts from the last axis.
    step = time_stride if axis == 2 else stride
    size = x.size(axis)
    outputs = (size + step - 1) // step
    missing = max((outputs - 1) * step + window[axis - 2] - size, 0)
    pads += [missing // 2, missing - missing // 2]
  return F.pad(x, pads)


class Pool(nn.Module):
  def __init__(self, window, stride, time_stride):
    super().__init__()
    self.window = list(window)
    self.stride, self.time_stride = stride, time_stride

  def forward(self, x):
    x = pad_same(x, self.window, self.stride, self.time_stride)
    stride = [self.time_stride, self.stride, self.stride]
    return F.max_pool3d(x, self.window, stride)


class UnitA(nn.Module):
  """Normalisation under the name `bn`."""

  def __init__(self, c, d, size=1, stride=1):
    super().__init__()
    self.size, self.stride = size, stride
    self.conv3d = nn.Conv3d(c, d, size, stride, bias=False)
    self.bn = nn.BatchNorm3d(d, eps=1e-3)

  def forward(self, x):
    x = pad_same(x, [self.size] * 3, self.stride, self.stride)
    return F.relu(self.bn(self.conv3d(x)))


class UnitB(nn.Module):
  """Normalisation under the name `batch3d`."""

  def __init__(self, c, d, size=1, stride=1):
    super().__init__()
    self.size, self.stride = size, stride
    self.conv3d = nn.Conv3d(c, d, size, stride, bias=False)
    self.batch3d = nn.BatchNorm3d(d, eps=1e-3)

  def forward(self, x):
    x = pad_same(x, [self.size] * 3, self.stride, self.stride)
    return F.relu(self.batch3d(self.conv3d(x)))


class MixedA(nn.Module):
  def __init__(self, c, a):
    super().__init__()
    self.b0 = UnitA(c, a[0])
    self.b1a, self.b1b = UnitA(c, a[1]), UnitA(a[1], a[2], 3)
    self.b2a, self.b2b = UnitA(c, a[3]), UnitA(a[3], a[4], 3)
    self.b3a, self.b3b = Pool((3, 3, 3), 1, 1), UnitA(c, a[5])

  def forward(self, x):
    b1 = self.b1b(self.b1a(x))
    b2 = self.b2b(self.b2a(x))
    return torch.cat([self.b0(x), b1, b2, self.b3b(self.b3a(x))], 1)


class MixedB(nn.Module):
  def __init__(self, c, a):
    super().__init__()
    self.branch_0 = UnitB(c, a[0])
    self.branch_1 = nn.Sequential(UnitB(c, a[1]), UnitB(a[1], a[2], 3))
    self.branch_2 = nn.Sequential(UnitB(c, a[3]), UnitB(a[3], a[4], 3))
    self.branch_3 = nn.Sequential(Pool((3, 3, 3), 1, 1), UnitB(c, a[5]))

  def forward(self, x):
    parts = [self.branch_0(x), self.branch_1(x)]
    return torch.cat(parts + [self.branch_2(x), self.branch_3(x)], 1)


class Linear(nn.Module):
  def __init__(self, c, d):
    super().__init__()
    self.conv3d = nn.Conv3d(c, d, 1)

  def forward(self, x):
    return self.conv3d(x)


class I3D(nn.Module):
  """Clips (B, 3, T, H, W) -> logits, or all endpoints in order.

  `style` is 'a' (pytorch-i3d's names) or 'b' (kinetics_i3d_pytorch's).
  """

  def __init__(self, classes=400, width=64, window=(2, 7, 7), style="a"):
    super().__init__()
    lower = style == "b"
    unit, mixed = (UnitB, MixedB) if lower else (UnitA, MixedA)
    count = lambda n: max(n * width // 64, 1)
    self.window = list(window)
    self.endpoints: list[str] = []

    def add(name, module):
      self.endpoints.append(name)
      self.add_module(name.lower() if lower else name, module)

    add("Conv3d_1a_7x7", unit(3, count(64), 7, 2))
    add("MaxPool3d_2a_3x3", Pool((1, 3, 3), 2, 1))
    add("Conv3d_2b_1x1", unit(count(64), count(64)))
    add("Conv3d_2c_3x3", unit(count(64), count(192), 3))
    add("MaxPool3d_3a_3x3", Pool((1, 3, 3), 2, 1))
    c = count(192)
    for name, channels in STAGES:
      if name == "4a":
        add("MaxPool3d_4a_3x3", Pool((3, 3, 3), 2, 2))
      elif name == "5a":
        add("MaxPool3d_5a_2x2", Pool((2, 2, 2), 2, 2))
      else:
        a = [count(n) for n in channels]
        add(f"Mixed_{name}", mixed(c, a))
        c = a[0] + a[2] + a[4] + a[5]
    self.add_module("conv3d_0c_1x1" if lower else "logits", Linear(c, classes))

  def forward(self, x):
    *stages, head = self.children()
    for stage in stages:
      x = stage(x)
    x = head(F.avg_pool3d(x, self.window, 1))
    return x.mean((2, 3, 4))

  def outputs(self, x):
    """Endpoint -> array, and `logits`."""
    found = {}
    *stages, head = self.children()
    for name, stage in zip(self.endpoints, stages):
      found[name] = x = stage(x)
    pooled = F.avg_pool3d(x, self.window, 1)
    found["pool"] = pooled.mean((2, 3, 4))
    found["logits"] = head(pooled).mean((2, 3, 4))
    return found


def randomise(module, seed):
  """Random weights and random statistics of the normalisations."""
  generator = torch.Generator().manual_seed(seed)
  draw = lambda x, low, high: x.copy_(
    torch.rand(x.shape, generator=generator) * (high - low) + low
  )
  with torch.no_grad():
    for layer in module.modules():
      if isinstance(layer, (nn.Conv3d, nn.Linear)):
        scale = (6 / layer.weight[0].numel()) ** 0.5
        draw(layer.weight, -scale, scale)
        if layer.bias is not None:
          draw(layer.bias, -0.5, 0.5)
      elif isinstance(layer, nn.BatchNorm3d):
        draw(layer.weight, 0.5, 1.5)
        draw(layer.bias, -0.3, 0.3)
        draw(layer.running_mean, -0.3, 0.3)
        draw(layer.running_var, 0.3, 1.5)
  return module.eval()
