"""InfoGAN: codes that can be read off the clip (Chen et al. 2016).

The network Q, which reads them, learns together with G (eq. 6), so it is a
part of the generator: sampling does not use what it says.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vidgan_jax.models import layers
from vidgan_jax.models import mlp

VARIANTS = {"S": {"generator": {}, "discriminator": {"widths": (32,)}}}
LOSSES = ("info",)
Discriminator = mlp.Discriminator


class Generator(nn.Module):
  """Noise -> clip, and how far Q is from the first `codes` of the noise."""

  resolution: int
  frames: int
  channels: int = 3
  num_classes: int = 0
  codes: int = 4
  dtype: Any = jnp.float32

  def noise_spec(self, seconds):
    """Shape of one clip's noise."""
    return {"z": (16,)}

  @nn.compact
  def __call__(self, given, z, times):
    """-log Q(c | G(z)) of a normal Q of deviation 1 (eq. 5), less its c."""
    draw = mlp.Generator(
      resolution=self.resolution,
      frames=self.frames,
      channels=self.channels,
      num_classes=self.num_classes,
      widths=(32,),
      dtype=self.dtype,
    )
    video = draw(given, z, times)
    x = nn.relu(nn.Dense(32)(video.reshape(len(video), -1)))
    miss = nn.Dense(self.codes)(x) - z["z"][:, : self.codes]
    return layers.Drawn(video, {"info": 0.5 * jnp.sum(miss**2, -1)})
