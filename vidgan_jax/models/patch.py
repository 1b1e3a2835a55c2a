"""Heads that score every patch of a clip, with spectral norm and features.

Three designs cover the published systems from clip to clip:
  `TemporalPatch`    the whole clip as a volume (Chang et al. 2019, Free-form
                     video inpainting), its 3-D convolutions made of 2-D ones;
  `Triplet`          three frames in a row, stacked (Chu et al. 2020, TecoGAN):
                     a tenth of the cost on a CPU;
  `MultiScalePatch`  each frame, at several sizes (Wang et al. 2018, pix2pixHD).
All may be shown the given clip beside the one to be scored.

Layers after Isola et al. 2017, but pooled before the convolution instead of
strided ones, which are slow on a CPU; the first halving is space-to-depth, so
that no pixel is lost.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidgan_jax import errors
from vidgan_jax.models import bases
from vidgan_jax.models import layers

_SQUARINGS = 5


def spectral_norm(kernel: jax.Array) -> jax.Array:
  """Largest singular value of a kernel (..., O) as a matrix of O columns.

  Miyato et al. 2018, algorithm 1, without its state: the power iteration
  starts anew in each call. Squaring the Gram matrix makes 2^5 = 32 steps of
  five, so nothing has to be remembered. The gradient is that of u' W v with
  u and v constant, as in the paper.
  """
  w = kernel.reshape(-1, kernel.shape[-1]).astype(jnp.float32)
  w = w.T if w.shape[0] < w.shape[1] else w
  gram = jax.lax.stop_gradient(w.T @ w)
  gram = gram / (jnp.trace(gram) + 1e-30)
  power = gram
  for _ in range(_SQUARINGS):
    power = power @ power
    power = power / (jnp.trace(power) + 1e-30)
  # The longest column has a large share of the first singular vector.
  v = power[:, jnp.argmax(jnp.sum(power * power, 0))]
  v = gram @ v
  v = v / (jnp.linalg.norm(v) + 1e-30)
  u = jax.lax.stop_gradient(w) @ v
  u = u / (jnp.linalg.norm(u) + 1e-30)
  u, v = jax.lax.stop_gradient((u, v))
  return u @ w @ v


class SpectralConv(nn.Module):
  """A stride-one 'SAME' convolution by W / sigma(W): of spectral norm one.

  Miyato et al. 2018, eq. 8, the kernel taken as a matrix.
  """

  features: int
  size: int = 3
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """(N, H, W, C) -> (N, H, W, features)."""
    shape = (self.size, self.size, x.shape[-1], self.features)
    kernel = self.param("kernel", layers.he(), shape)
    bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
    kernel = kernel / (spectral_norm(kernel) + 1e-6)
    x = layers.convolve(x.astype(self.dtype), kernel.astype(self.dtype))
    return x + bias.astype(self.dtype)


class _Net(nn.Module):
  """Frames (N, H, W, C) -> logits (N, h, w) and the features before them.

  Attributes:
    width: channels after the first halving; they double up to four times it.
    levels: halvings.
    volume: each layer also sees the frames before and after.
  """

  width: int
  levels: int
  volume: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, frames: int) -> tuple:
    """Scores patches of 2^levels pixels to a side.

    Args:
      x: (B * frames, H, W, C), the frames of a clip in a row.
      frames: of a clip.

    Returns:
      Logits (B * frames, H / 2^levels, W / 2^levels) float32, and a tuple of
      the features of every level, the largest first, (B * frames, h, w, c).

    Raises:
      ValueError: sides that are not multiples of 2^levels.
    """
    cell = 2**self.levels
    if x.shape[1] % cell or x.shape[2] % cell:
      raise errors.UserError(
        f"A discriminator of {self.levels} levels needs sides that are "
        f"multiples of {cell}; the clip has {x.shape[1]} x {x.shape[2]}: "
        "change config.model.resolution or config.model.discriminator.levels."
      )
    features = []
    # The first halving: 2 x 2 pixels become channels, so that none is lost.
    x = layers.space_to_depth(x.astype(self.dtype), 2)
    for level in range(self.levels):
      x = layers.downsample(x) if level else x
      width = self.width * min(2**level, 4)
      x = self._see(x, frames)
      x = layers.leaky_relu(SpectralConv(width, dtype=self.dtype)(x))
      features.append(x)
    x = SpectralConv(1, dtype=self.dtype)(self._see(x, frames))
    return x[..., 0].astype(jnp.float32), tuple(features)

  def _see(self, x: jax.Array, frames: int) -> jax.Array:
    """Puts the neighbours of a frame beside it: a 3-D convolution's taps."""
    if not self.volume:
      return x
    # sum_i K_i x_(t+i), i in (-1, 0, 1), is one 2-D convolution of the three
    # frames in the channels.
    return layers.neighbours(x, frames)


class _Head(nn.Module):
  width: int = 32
  levels: int = 3
  dtype: Any = jnp.float32

  def _net(self, x: jax.Array, volume: bool = False) -> tuple:
    """Scores (B, T, H, W, C): logits (B, n), features (B*T, h, w, c)."""
    b, t = x.shape[:2]
    net = _Net(self.width, self.levels, volume, self.dtype)
    logits, features = net(x.reshape(b * t, *x.shape[2:]), t)
    return logits.reshape(b, -1), features


def _beside(video: jax.Array, condition: jax.Array | None) -> jax.Array:
  """Puts the condition, enlarged to the video's size, into its channels."""
  if condition is None:
    return video
  scale, rest = divmod(video.shape[2], condition.shape[2])
  if rest or condition.shape[3] * scale != video.shape[3]:
    raise errors.UserError(
      "A conditional discriminator needs a target whose sides are the same "
      f"multiple of the given clip's: the clip to be scored has {video.shape}, "
      f"given['video'] {condition.shape}. Set config.model.discriminator."
      "conditional to False or change the task."
    )
  condition = bases.lanczos({"video": condition}, None, scale)
  return jnp.concatenate([video, condition.astype(video.dtype)], -1)


class TemporalPatch(_Head):
  """Scores patches of the clip as a volume: each layer sees three frames."""

  @nn.compact
  def __call__(
    self, video: jax.Array, condition: jax.Array | None
  ) -> layers.Scores:
    """(B, T, H, W, C), (B, T, h, w, C) or None -> one head."""
    logits, features = self._net(_beside(video, condition), volume=True)
    return layers.Scores((logits,), (features,))


class Triplet(_Head):
  """Scores every three frames in a row, and their differences."""

  @nn.compact
  def __call__(
    self, video: jax.Array, condition: jax.Array | None
  ) -> layers.Scores:
    """(B, T, H, W, C), (B, T, h, w, C) or None -> one head.

    A clip of less than three frames is filled up with its last one.
    """
    video = _beside(video, condition)
    fill = [video[:, -1:]] * (3 - video.shape[1])
    video = jnp.concatenate([video, *fill], 1)
    # x_t, x_(t+1), x_(t+2) and the two steps between them, side by side.
    steps = video[:, 1:] - video[:, :-1]
    x = (
      video[:, :-2],
      video[:, 1:-1],
      video[:, 2:],
      steps[:, :-1],
      steps[:, 1:],
    )
    logits, features = self._net(jnp.concatenate(x, -1))
    return layers.Scores((logits,), (features,))


class MultiScalePatch(_Head):
  """Scores each frame, at its size and halved, with a network for each."""

  scales: int = 2

  @nn.compact
  def __call__(
    self, video: jax.Array, condition: jax.Array | None
  ) -> layers.Scores:
    """(B, T, H, W, C), (B, T, h, w, C) or None -> `scales` heads."""
    x = _beside(video, condition)
    b, t = x.shape[:2]
    heads = []
    for scale in range(self.scales):
      if scale:
        x = layers.downsample(x.reshape(b * t, *x.shape[2:]))
        x = x.reshape(b, t, *x.shape[1:])
      heads.append(self._net(x))
    return layers.Scores(*map(tuple, zip(*heads)))


class Segment(nn.Module):
  """A question to D: of which class is each pixel?

  With p the classes that it sees, y those of the map and n of them,

    loss = mean_pixels sum_k a_k y_k -log p_k,   a_k = 1 / (n mean y_k),

  so that a rare class counts as much as a frequent one (Schoenfeld et al. 2021,
  OASIS, eqs. 1 and 2, without their class of what is made: the other heads say
  that). Means are over the part of the batch that is computed together. What is
  void counts for nothing.
  """

  width: int = 32
  levels: int = 3
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, video: jax.Array, map_: jax.Array) -> jax.Array:
    """(B, T, H, W, C) and the map of it (B, T, H, W, n) -> (B,) float32."""
    b, t, _, _, n = map_.shape
    net = _Net(self.width, self.levels, dtype=self.dtype)
    x = video.reshape(b * t, *video.shape[2:])
    _, (*above, y) = net(x, t)
    # Up again, beside what was seen on the way down.
    for seen in above[::-1]:
      y = jnp.concatenate([layers.upsample(y), seen], -1)
      y = SpectralConv(seen.shape[-1], dtype=self.dtype)(y)
      y = layers.leaky_relu(y)
    y = layers.conv(4 * n, 1, dtype=self.dtype)(y)
    logits = layers.depth_to_space(y.astype(jnp.float32), 2)
    map_ = map_.reshape(b * t, *map_.shape[2:]).astype(jnp.float32)
    share = jnp.mean(map_, (0, 1, 2))
    weight = jnp.where(share > 0, 1 / (n * jnp.maximum(share, 1e-6)), 0)
    miss = -jax.nn.log_softmax(logits) * map_ * weight
    return miss.sum(-1).reshape(b, -1).mean(1)


HEADS = {
  "triplet": Triplet,
  "temporal": TemporalPatch,
  "frame": MultiScalePatch,
}
