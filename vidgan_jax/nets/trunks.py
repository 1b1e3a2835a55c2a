"""Convolutions of two classifiers of torchvision, under LPIPS.

AlexNet (Krizhevsky 2014): one tower, no response normalisation. VGG-16
(Simonyan and Zisserman 2015): table 1, D.
"""

from collections.abc import Mapping
import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np

from vidgan_jax.nets import naming


class Layer(NamedTuple):
  """A convolution and its ReLU.

  Attributes:
    name: ours.
    place: in the file's 'features'.
    channels: that come out.
    side: pixels of the kernel.
    stride: of the kernel.
    pool: side of the maximum pool before it, whose stride is 2; 0: none.
    tap: whether LPIPS compares its output.
  """

  name: str
  place: int
  channels: int
  side: int = 3
  stride: int = 1
  pool: int = 0
  tap: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trunk:
  """The convolutions of a classifier.

  Attributes:
    title: the file, in words.
    layers: in order.
    smallest: pixels a side: below, the last pool has nothing to see.
  """

  title: str
  layers: tuple[Layer, ...]
  smallest: int

  @property
  def taps(self) -> dict[str, int]:
    """What LPIPS compares: name -> channels."""
    return {layer.name: layer.channels for layer in self.layers if layer.tap}


ALEX = Trunk(
  title="torchvision's AlexNet",
  layers=(
    Layer("conv1", 0, 64, 11, 4, tap=True),
    Layer("conv2", 3, 192, 5, pool=3, tap=True),
    Layer("conv3", 6, 384, pool=3, tap=True),
    Layer("conv4", 8, 256, tap=True),
    Layer("conv5", 10, 256, tap=True),
  ),
  smallest=31,
)
VGG = Trunk(
  title="torchvision's VGG-16",
  layers=(
    Layer("conv1_1", 0, 64),
    Layer("conv1_2", 2, 64, tap=True),
    Layer("conv2_1", 5, 128, pool=2),
    Layer("conv2_2", 7, 128, tap=True),
    Layer("conv3_1", 10, 256, pool=2),
    Layer("conv3_2", 12, 256),
    Layer("conv3_3", 14, 256, tap=True),
    Layer("conv4_1", 17, 512, pool=2),
    Layer("conv4_2", 19, 512),
    Layer("conv4_3", 21, 512, tap=True),
    Layer("conv5_1", 24, 512, pool=2),
    Layer("conv5_2", 26, 512),
    Layer("conv5_3", 28, 512, tap=True),
  ),
  smallest=16,
)


class Network(nn.Module):
  """Frames -> activations."""

  trunk: Trunk

  @nn.compact
  def __call__(self, frames: jax.Array) -> dict[str, jax.Array]:
    """Applies the convolutions.

    Args:
      frames: (N, H, W, 3) scaled as the weights want it (`lpips.preprocess`).

    Returns:
      Each of `Trunk.taps`: (N, h, w, C) after its ReLU, before any pool.
    """
    x, taps = frames, {}
    for layer in self.trunk.layers:
      if layer.pool:
        x = nn.max_pool(x, (layer.pool, layer.pool), (2, 2))
      # AlexNet's first pads two pixels, less than half of its kernel.
      pad = min(layer.side // 2, 2)
      x = nn.relu(
        nn.Conv(
          layer.channels,
          (layer.side, layer.side),
          layer.stride,
          ((pad, pad), (pad, pad)),
          precision="highest",
          name=layer.name,
        )(x)
      )
      if layer.tap:
        taps[layer.name] = x
    return taps


def from_torchvision(
  tensors: Mapping[str, np.ndarray], trunk: Trunk
) -> dict[str, dict[str, np.ndarray]]:
  """Tensors of torchvision's file -> parameters of `Network`.

  Args:
    tensors: 'features.0.weight', 'features.0.bias' and so on. The classifier's
      may be there too.
    trunk: whose.

  Returns:
    Layer -> {'kernel': (h, w, in, out), 'bias': (out,)}, float32.

  Raises:
    ValueError: they are not this network's.
  """
  shapes, below = {}, 3
  for layer in trunk.layers:
    name, side = f"features.{layer.place}", layer.side
    shapes[f"{name}.weight"] = layer.channels, below, side, side
    shapes[f"{name}.bias"] = (layer.channels,)
    below = layer.channels
  naming.check(tensors, shapes, trunk.title, unused=r"classifier\..*")
  return {
    layer.name: {
      "kernel": np.ascontiguousarray(
        tensors[f"features.{layer.place}.weight"].transpose(2, 3, 1, 0),
        np.float32,
      ),
      "bias": np.asarray(tensors[f"features.{layer.place}.bias"], np.float32),
    }
    for layer in trunk.layers
  }
