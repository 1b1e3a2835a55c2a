"""The textbook pair: fully connected G and D (Goodfellow et al. 2014, s. 5).

G: z (100) -> 256 -> 512 -> 1024 -> all pixels of the clip, tanh;
D: all pixels -> 1024 -> 512 -> 256 -> logit; LeakyReLU(0.2) between. Usually
with binary cross-entropy (`minimax`, `nonsaturating`) and Adam, 2e-4, betas
0.5 and 0.999. No batch normalisation: every sample is on its own.

The number of frames is built in, and the times of the frames are not used.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidgan_jax import errors
from vidgan_jax.models import condition
from vidgan_jax.models import layers

# It knows no place: of each pixel nothing can be told.
_KINDS = ("vector", "rows")

VARIANTS = {
  # 3.8 M + 3.8 M parameters at 32 px, 1 frame; 2.1 k more each a value.
  "S": {
    "generator": {"widths": (256, 512, 1024)},
    "discriminator": {"widths": (1024, 512, 256)},
  },
}


def check_shape(model: Any, name: str, shape: tuple, want: tuple) -> None:
  """Refuses what the model, whose clip size is fixed, cannot take.

  Raises:
    ValueError: when `shape` differs from `want`.
  """
  if shape != want:
    raise errors.UserError(
      f"{type(model).__module__}.{type(model).__name__} was given {name} of"
      f" shape {shape} per clip, but is built for {want}: config.model.frames"
      f" is {model.frames}, resolution {model.resolution}, channels"
      f" {model.channels}. Clips of this model have that size only; set the"
      " fields to the data's, or use the model 'continuous' for other lengths."
    )


class Generator(nn.Module):
  """Draws all pixels of a clip by one matrix product."""

  resolution: int
  frames: int
  channels: int = 3
  num_classes: int = 0
  widths: tuple = (256, 512, 1024)
  z_dim: int = 100
  dtype: Any = jnp.float32

  def noise_spec(self, seconds: float) -> dict[str, tuple]:
    """Shape of one sample's noise, the same for any number of seconds."""
    del seconds
    return {"z": (self.z_dim,)}

  @nn.compact
  def __call__(self, given: dict, z: dict, times: jax.Array) -> jax.Array:
    """Noise (B, z_dim), times (B, T) -> clips (B, T, H, W, C) in [-1, 1]."""
    check_shape(self, "times", times.shape[1:], (self.frames,))
    shape = (self.frames, self.resolution, self.resolution, self.channels)
    read = condition.Condition(
      self, given, num_classes=self.num_classes, kinds=_KINDS
    )
    x = layers.flat(z["z"], read.vector(self.z_dim), read.rows(times))
    for width in self.widths:
      x = nn.Dense(width, kernel_init=layers.he(), dtype=self.dtype)(x)
      x = layers.leaky_relu(x)
    # Half the variance-keeping gain: tanh begins where it is not flat.
    x = nn.Dense(
      math.prod(shape), kernel_init=layers.he(0.5), dtype=self.dtype
    )(x)
    return jnp.tanh(x.astype(jnp.float32)).reshape(-1, *shape)


class Discriminator(nn.Module):
  """One logit from all pixels of a clip at once."""

  resolution: int
  frames: int
  channels: int = 3
  num_classes: int = 0
  widths: tuple = (1024, 512, 256)
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, video: jax.Array, given: dict, times: jax.Array
  ) -> layers.Scores:
    """Clips (B, T, H, W, C) -> one head of logits (B,)."""
    del times
    shape = (self.frames, self.resolution, self.resolution, self.channels)
    check_shape(self, "a clip", video.shape[1:], shape)
    read = condition.Condition(
      self, given, num_classes=self.num_classes, kinds=_KINDS
    )
    x = layers.flat(video, read.rows())
    features = []
    for width in self.widths:
      x = nn.Dense(width, kernel_init=layers.he(), dtype=self.dtype)(x)
      x = layers.leaky_relu(x)
      features.append(x.astype(jnp.float32))
    x = features[-1]
    logit = nn.Dense(1)(x)[:, 0]
    logit = condition.projection(logit, x, read)
    return layers.Scores((logit,), (tuple(features),))
