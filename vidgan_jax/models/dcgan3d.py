"""The 3-D convolutional classic: VideoGAN (Vondrick et al. 2016), DCGAN.

G unfolds z to a clip of 4 x 4 pixels and doubles it, in space at every level
and in time while the number of frames allows, with a 3 x 3 x 3 convolution
after each doubling (Radford et al. 2016 in 3-D); D is its mirror. With
`two_stream` a moving foreground is laid by a mask over a still background
(VideoGAN, eq. 2).

Three parts of the recipe are of today. Batch normalisation, under which a
sample depends on the others of its batch, is the per-pixel normalisation of
Karras et al. 2018 in G and nothing in D. Every level of G sees z (skip-z,
Brock et al. 2019): without batch statistics, a G that sees it at 4 x 4 pixels
alone learns to ignore it, even for clips of two plain colours. Strided and
transposed convolutions are a mean or a repetition and a convolution of stride
one: no checkerboard, and second derivatives that are quick on a CPU.

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
from vidgan_jax.models import mlp

VARIANTS = {
  # 0.7 M + 0.3 M parameters at 32 px, 16 frames.
  "S": {
    "generator": {"width": 16},
    "discriminator": {"width": 16},
  },
  # 5.6 M + 4.7 M parameters at 64 px, 16 frames.
  "B": {
    "generator": {"width": 32},
    "discriminator": {"width": 32},
  },
}


class Conv3D(nn.Module):
  """A 'SAME' convolution of `frames` x 3 x 3, stride one, over a clip.

  Equal to a 3-D convolution, but computed as one 2-D convolution of the
  frames, folded into the batch, whose channels hold the neighbouring frames
  too: two to six times faster than XLA's own on a CPU.
  """

  features: int
  frames: int = 3  # Odd.
  gain: float = 1.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """(B, T, H, W, C) -> (B, T, H, W, features); zeros beyond the ends."""
    b, t, h, w, c = x.shape
    kernel = self.param(
      "kernel",
      layers.he(self.gain),
      (self.frames, 3, 3, c, self.features),
      jnp.float32,
    )
    bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
    reach = self.frames // 2
    x = jnp.pad(
      x.astype(self.dtype), ((0, 0), (reach, reach), (0, 0), (0, 0), (0, 0))
    )
    x = jnp.concatenate([x[:, i : i + t] for i in range(self.frames)], -1)
    # Channels are (frame, c): frame major, as the concatenation is.
    kernel = kernel.transpose(1, 2, 0, 3, 4).reshape(3, 3, -1, self.features)
    x = layers.convolve(x.reshape(b * t, h, w, -1), kernel.astype(self.dtype))
    return x.reshape(b, t, h, w, -1) + bias.astype(self.dtype)


def _levels(model) -> list[tuple[int, int]]:
  """(channels, how many times the frames) of each level, 4 x 4 pixels first.

  The channels double from `width` at the full resolution with each halving of
  the picture, up to `max_width`. The frames double with the picture, from the
  first doubling on, for as long as that divides `frames`.
  """
  doublings = int(math.log2(max(model.resolution, 4) / 4))
  if model.resolution != 4 * 2**doublings:
    raise errors.UserError(
      f"config.model.resolution is {model.resolution}, but the model dcgan3d"
      " doubles pictures of 4 x 4 pixels: make it 4, 8, 16, 32, 64, ..."
    )
  levels = []
  for level in range(doublings + 1):
    channels = min(model.width * 2 ** (doublings - level), model.max_width)
    longer = 2 if 0 < level and model.frames % 2**level == 0 else 1
    levels.append((channels, longer))
  return levels


def _repeat(x: jax.Array, longer: int) -> jax.Array:
  """(B, T, H, W, C) -> (B, longer T, 2H, 2W, C), nearest neighbour."""
  b, t, h, w, c = x.shape
  x = x[:, :, None, :, None, :, None]
  x = jnp.broadcast_to(x, (b, t, longer, h, 2, w, 2, c))
  return x.reshape(b, t * longer, h * 2, w * 2, c)


def _mean(x: jax.Array, longer: int) -> jax.Array:
  """(B, longer T, 2H, 2W, C) -> (B, T, H, W, C)."""
  b, t, h, w, c = x.shape
  x = x.reshape(b, t // longer, longer, h // 2, 2, w // 2, 2, c)
  return x.mean((2, 4, 6))


def _fewer(x: jax.Array, frames: int) -> jax.Array:
  """(B, T, ...) -> (B, frames, ...): the mean of frames that share one."""
  b, t = x.shape[:2]
  return x.reshape(b, frames, t // frames, *x.shape[2:]).mean(2)


class Stream(nn.Module):
  """A latent -> features of every pixel, of a clip or of one still picture."""

  levels: tuple  # See _levels; without doublings of the frames for a still.
  frames: int  # Of the result.
  reach: int  # Frames that a convolution spans.
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    z: jax.Array,
    rows: jax.Array | None = None,
    place: jax.Array | None = None,
  ) -> jax.Array:
    """Unfolds a latent.

    Args:
      z: (B, n), seen by every level.
      rows: (B, T, m) of each time, likewise, or None.
      place: (B, T, h, w, k) of each pixel, likewise, or None.

    Returns:
      (B, frames, H, W, channels of the last level).
    """
    first = self.frames // math.prod(longer for _, longer in self.levels)
    channels = self.levels[0][0]
    dense = lambda n, name=None: nn.Dense(
      n, kernel_init=layers.he(), dtype=self.dtype, name=name
    )
    x = dense(first * 16 * channels)(z).reshape(-1, first, 4, 4, channels)
    x = layers.rms_norm(layers.leaky_relu(x))
    for level, (channels, longer) in enumerate(self.levels[1:], 1):
      x = Conv3D(channels, self.reach, dtype=self.dtype)(_repeat(x, longer))
      x += dense(channels)(z)[:, None, None, None]
      if rows is not None:
        y = _fewer(rows, x.shape[1])
        x += dense(channels, f"rows_{level}")(y)[:, :, None, None]
      if place is not None:
        y = _fewer(place, x.shape[1])
        y = layers.resize(y.reshape(-1, *y.shape[2:]), *x.shape[2:4])
        y = dense(channels, f"place_{level}")(y)
        x += y.reshape(x.shape)
      x = layers.rms_norm(layers.leaky_relu(x))
    return x


class Generator(nn.Module):
  """Draws clips of a fixed size; see the module's text."""

  resolution: int
  frames: int
  channels: int = 3
  num_classes: int = 0
  width: int = 16  # Channels at the full resolution.
  max_width: int = 512
  z_dim: int = 100
  two_stream: bool = False
  dtype: Any = jnp.float32

  def noise_spec(self, seconds: float) -> dict[str, tuple]:
    """Shape of one sample's noise, the same for any number of seconds."""
    del seconds
    return {"z": (self.z_dim,)}

  @nn.compact
  def __call__(self, given: dict, z: dict, times: jax.Array) -> jax.Array:
    """Noise (B, z_dim), times (B, T) -> clips (B, T, H, W, C) in [-1, 1]."""
    mlp.check_shape(self, "times", times.shape[1:], (self.frames,))
    levels = tuple(_levels(self))
    read = condition.Condition(self, given, num_classes=self.num_classes)
    vector, place = read.vector(self.z_dim), read.map()
    rows = read.rows(times)
    x = layers.rms_norm(z["z"])
    if vector is not None:
      x = jnp.concatenate([x, vector], -1)

    def head(x, channels, name):
      x = Conv3D(channels, 1, gain=0.5, dtype=self.dtype, name=name)(x)
      return x.astype(jnp.float32)

    moving = Stream(levels, self.frames, 3, self.dtype, name="foreground")
    moving = moving(x, rows, place)
    video = jnp.tanh(head(moving, self.channels, "pixels"))
    if self.two_stream:
      mask = jax.nn.sigmoid(head(moving, 1, "mask"))
      levels = tuple((channels, 1) for channels, _ in levels)
      still = Stream(levels, 1, 1, self.dtype, name="background")
      still = still(x, rows, place)
      still = jnp.tanh(head(still, self.channels, "still"))
      video = mask * video + (1 - mask) * still
    return video


class Discriminator(nn.Module):
  """One logit a clip, by 3-D convolutions; see the module's text."""

  resolution: int
  frames: int
  channels: int = 3
  num_classes: int = 0
  width: int = 16  # Channels at the full resolution.
  max_width: int = 512
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, video: jax.Array, given: dict, times: jax.Array
  ) -> layers.Scores:
    """Clips (B, T, H, W, C) -> one head of logits (B,)."""
    del times
    shape = (self.frames, self.resolution, self.resolution, self.channels)
    mlp.check_shape(self, "a clip", video.shape[1:], shape)
    # Level l makes the channels that G has there; then the clip shrinks.
    read = condition.Condition(self, given, num_classes=self.num_classes)
    x, features = read.beside(video), []
    levels = _levels(self)
    for i, (channels, longer) in reversed(list(enumerate(levels))):
      x = layers.leaky_relu(Conv3D(channels, dtype=self.dtype)(x))
      features.append(x.astype(jnp.float32))
      if i:
        x = _mean(x, longer)
    x = features[-1]  # (B, T', 4, 4, C)
    logit = nn.Dense(1)(x.reshape(x.shape[0], -1))[:, 0]
    logit = condition.projection(logit, x.mean((1, 2, 3)), read)
    return layers.Scores((logit,), (tuple(features),))
