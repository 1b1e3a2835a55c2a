"""VGG-16's convolutions (Simonyan and Zisserman 2015, table 1, D)."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import numpy as np

from vidgan_jax.nets import naming

# Name, place in the file's 'features', channels.
_LAYERS = (
  ("conv1_1", 0, 64),
  ("conv1_2", 2, 64),
  ("conv2_1", 5, 128),
  ("conv2_2", 7, 128),
  ("conv3_1", 10, 256),
  ("conv3_2", 12, 256),
  ("conv3_3", 14, 256),
  ("conv4_1", 17, 512),
  ("conv4_2", 19, 512),
  ("conv4_3", 21, 512),
  ("conv5_1", 24, 512),
  ("conv5_2", 26, 512),
  ("conv5_3", 28, 512),
)
TAPS = ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3")
CHANNELS = (64, 128, 256, 512, 512)  # Of the taps.
PLACES = tuple(layer[1] for layer in _LAYERS)
SMALLEST = 16  # Pixels a side: below, the last pool has nothing to see.


class Network(nn.Module):
  """Frames -> activations."""

  @nn.compact
  def __call__(self, frames: jax.Array) -> dict[str, jax.Array]:
    """Applies the convolutions.

    Args:
      frames: (N, H, W, 3) scaled as the weights want it (`lpips.preprocess`).

    Returns:
      'conv1_2', 'conv2_2', 'conv3_3', 'conv4_3', 'conv5_3', the last of every
      stage: (N, h, w, C) after their ReLU, before the pool.
    """
    x, taps = frames, {}
    for name, _, channels in _LAYERS:
      x = nn.relu(nn.Conv(channels, (3, 3), precision="highest", name=name)(x))
      if name in TAPS:
        taps[name] = x
        x = nn.max_pool(x, (2, 2), (2, 2)) if name != TAPS[-1] else x
    return taps


def from_torchvision(tensors: Mapping[str, np.ndarray]) -> dict:
  """Tensors of torchvision's file -> parameters of `Network`.

  Args:
    tensors: 'features.0.weight', 'features.0.bias' and so on. The classifier's
      may be there too.

  Raises:
    ValueError: they are not this network's.
  """
  layers = [(*layer, 3) for layer in _LAYERS]
  return naming.convolutions(tensors, layers, "torchvision's VGG-16")
