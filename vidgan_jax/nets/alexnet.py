"""AlexNet's convolutions (Krizhevsky 2014), under LPIPS.

As torchvision trains it: one tower, no response normalisation.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import numpy as np

from vidgan_jax.nets import naming

# Name, place in the file's 'features', channels, kernel, stride.
_LAYERS = (
  ("conv1", 0, 64, 11, 4),
  ("conv2", 3, 192, 5, 1),
  ("conv3", 6, 384, 3, 1),
  ("conv4", 8, 256, 3, 1),
  ("conv5", 10, 256, 3, 1),
)
TAPS = tuple(layer[0] for layer in _LAYERS)
CHANNELS = tuple(layer[2] for layer in _LAYERS)
PLACES = tuple(layer[1] for layer in _LAYERS)
SMALLEST = 31  # Pixels a side: below, the last pool has nothing to see.


class Network(nn.Module):
  """Frames -> activations."""

  @nn.compact
  def __call__(self, frames: jax.Array) -> dict[str, jax.Array]:
    """Applies the convolutions.

    Args:
      frames: (N, H, W, 3) scaled as the weights want it (`lpips.preprocess`).

    Returns:
      'conv1' ... 'conv5': (N, h, w, C) after their ReLU, before any pool.
    """
    x, taps = frames, {}
    for name, _, channels, side, stride in _LAYERS:
      if name in ("conv2", "conv3"):
        x = nn.max_pool(x, (3, 3), (2, 2))
      # The first pads two pixels, less than half of its kernel.
      pad = min(side // 2, 2)
      x = nn.relu(
        nn.Conv(
          channels,
          (side, side),
          stride,
          ((pad, pad), (pad, pad)),
          precision="highest",
          name=name,
        )(x)
      )
      taps[name] = x
    return taps


def from_torchvision(tensors: Mapping[str, np.ndarray]) -> dict:
  """Tensors of torchvision's file -> parameters of `Network`.

  Args:
    tensors: 'features.0.weight', 'features.0.bias' and so on for 3, 6, 8, 10.
      The classifier's may be there too.

  Raises:
    ValueError: they are not this network's.
  """
  layers = [layer[:4] for layer in _LAYERS]
  return naming.convolutions(tensors, layers, "torchvision's AlexNet")
