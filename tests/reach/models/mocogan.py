"""MoCoGAN: one content a clip, a motion a frame (Tulyakov et al. 2018).

The motion is a path: a recurrent network reads a row of noise a frame, so a
clip may be longer than those of training. One discriminator looks at a frame
that is drawn at random, one at the clip.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidgan_jax.models import condition
from vidgan_jax.models import dcgan3d
from vidgan_jax.models import layers

VARIANTS = {"S": {"generator": {}, "discriminator": {}}}
_KINDS = ("vector", "rows")  # Of a pixel it reads nothing.


class Generator(nn.Module):
  """Noise -> clip."""

  resolution: int
  frames: int
  channels: int = 3
  num_classes: int = 0
  fps: float = 8.0  # Steps of the motion a second.
  width: int = 16
  content_dim: int = 32
  motion_dim: int = 8
  dtype: Any = jnp.float32

  def noise_spec(self, seconds):
    """Shapes of one clip's noise: the motion has a row for each frame."""
    rows = round(seconds * self.fps) + 1
    return {"content": (self.content_dim,), "motion": (rows, self.motion_dim)}

  @nn.compact
  def __call__(self, given, z, times):
    """Noise, times (B, T) -> clips (B, T, H, W, C) in [-1, 1]."""
    b, t = times.shape
    read = condition.Condition(
      self, given, num_classes=self.num_classes, kinds=_KINDS
    )
    # z_M(k) = GRU(eps(k), z_M(k - 1)), from the start up to the last time.
    path = nn.RNN(nn.GRUCell(self.motion_dim))(z["motion"])
    index = jnp.round(times * self.fps).astype(jnp.int32)
    motion = jnp.take_along_axis(path, index[..., None], 1)
    content, vector = z["content"], read.vector(self.content_dim)
    if vector is not None:
      content = jnp.concatenate([content, vector], -1)
    rows = read.rows(times)
    moving = [motion] if rows is None else [motion, rows]
    content = jnp.repeat(content[:, None], t, 1)
    x = jnp.concatenate([content, *moving], -1).reshape(b * t, -1)
    # The picture of (z_C, z_M(k)): 4 x 4 pixels, doubled up to all.
    x = nn.Dense(4 * self.width * 16, kernel_init=layers.he())(x)
    x = layers.leaky_relu(x.astype(self.dtype)).reshape(b * t, 4, 4, -1)
    while x.shape[1] < self.resolution:
      x = layers.conv(self.width, dtype=self.dtype)(layers.upsample(x))
      x = layers.leaky_relu(layers.rms_norm(x))
    x = layers.conv(self.channels, gain=0.5, dtype=self.dtype)(x)
    return jnp.tanh(x.astype(jnp.float32)).reshape(b, t, *x.shape[1:])


class Discriminator(nn.Module):
  """Two heads: D_I, of one frame, and D_V, of the clip."""

  resolution: int
  frames: int
  channels: int = 3
  num_classes: int = 0
  width: int = 16
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, video, given, times):
    """Clips (B, T, H, W, C) -> two heads of logits (B,)."""
    read = condition.Condition(
      self, given, num_classes=self.num_classes, kinds=_KINDS
    )
    video = read.beside(video)
    index = jnp.zeros(len(video), jnp.int32)
    if "keys" in given:  # In training.
      draw = lambda key: jax.random.randint(key, (), 0, video.shape[1])
      index = jax.vmap(draw)(given["keys"])
    frame = jnp.take_along_axis(video, index[:, None, None, None, None], 1)
    heads = (self._features(frame, 1), self._features(video, 3))
    logit = lambda x: condition.projection(nn.Dense(1)(x)[:, 0], x, read)
    return layers.Scores(
      tuple(logit(x) for x in heads), tuple((x,) for x in heads)
    )

  def _features(self, x, reach):
    """(B, T, H, W, C) -> (B, n), by convolutions over `reach` frames."""
    width = self.width
    while x.shape[2] > 4:
      x = dcgan3d.Conv3D(width, reach, dtype=self.dtype)(x)
      x, width = layers.leaky_relu(x), 2 * width
      b, t, h, w, c = x.shape
      x = x.reshape(b, t, h // 2, 2, w // 2, 2, c).mean((3, 5))
    x = x.mean(1).reshape(len(x), -1)
    return x.astype(jnp.float32)
