"""The flagship: a generator that draws each frame at its real-valued time.

Content and motion are apart (Tulyakov et al. 2018). The motion of a clip is a
grid of noise in time, smoothed by padding-less convolutions and read out at
any time t by an acyclic embedding (Skorokhodov et al. 2022, StyleGAN-V, eqs.
3-5). One 2-D residual network then draws the frame of every t on its own,
so it trains on a few sparse frames and samples any length at any frame rate.
The discriminator scores frames alone and the joined features of all frames
with the time between them. No statistics over the batch anywhere.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidgan_jax import errors
from vidgan_jax.models import condition
from vidgan_jax.models import layers


def _variant(widths, blocks, style, d_widths, joint):
  return {
    "generator": {"widths": widths, "blocks": blocks, "style_dim": style},
    "discriminator": {"widths": d_widths, "blocks": blocks, "joint": joint},
  }


# Those of D: which text of the batch is the clip's, and which sound, and when;
# with its `match` and `sync` above 0.
LOSSES = ("match", "sync")

# Widths from the smallest picture (4 x 4 at the resolution named) upwards, and
# for the discriminator downwards.
VARIANTS = {
  # 0.36 M parameters, 32 px: trains on two CPU cores.
  "XS": _variant((64, 48, 32), 1, 128, (32, 48, 64), 128),
  # 2.9 M, 32 px.
  "S": _variant((256, 128, 64), 1, 256, (64, 128, 256), 256),
  # 8 M, 64 px.
  "M": _variant((384, 256, 128, 64), 1, 256, (64, 128, 256, 384), 256),
  # 28 M, 128 px.
  "L": _variant(
    (512, 512, 256, 128, 64), 2, 512, (64, 128, 256, 512, 512), 512
  ),
  # 90 M, 256 px.
  "XL": _variant(
    (768, 768, 768, 512, 256, 128), 2, 512, (128, 256, 512, 768, 768, 768), 512
  ),
}


def smallest(model) -> int:
  """Its side, pixels: resolution / (patch * 2^(levels - 1))."""
  base, rest = divmod(
    model.resolution, model.patch * 2 ** (len(model.widths) - 1)
  )
  if rest or not base:
    raise errors.UserError(
      f"config.model.resolution is {model.resolution}, but patch "
      f"{model.patch} and {len(model.widths)} widths need a multiple of "
      f"{model.patch * 2 ** (len(model.widths) - 1)}: change one of them."
    )
  return base


class Motion(nn.Module):
  """Noise on a time grid -> an embedding of every time asked for."""

  period: float  # Seconds between two codes.
  features: int
  kernel: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, noise: jax.Array, times: jax.Array) -> jax.Array:
    """(B, cells, n) noise and (B, T) seconds -> (B, T, features).

    With c_k the code at k periods, s in [0, 1] the share of the cell k that has
    passed, and amplitude, frequency, phase and line linear in the codes:

      w(s) = amplitude_k sin(frequency_k s + phase_k)
      u(t) = w(s) - lerp(w(0), w(1), s) + lerp(line_k, line_(k+1), s)

    (Skorokhodov et al. 2022, eqs. 3-5).
    """
    # The codes: smooth along the grid, and as many less as kernels reach.
    codes = noise
    for _ in range(2):
      codes = nn.Conv(
        self.features,
        (self.kernel,),
        padding="VALID",
        kernel_init=layers.he(),
      )(codes)
      codes = layers.rms_norm(layers.leaky_relu(codes))
    # Where each time lies: the cell k = left, and s = share.
    position = times / self.period
    left = jnp.clip(jnp.floor(position), 0, codes.shape[1] - 2)
    share = (position - left)[..., None]  # In [0, 1] within the grid.
    left = left.astype(jnp.int32)
    pick = lambda x, i: jnp.take_along_axis(x, i[..., None], 1)
    # Waves: frequency, phase and amplitude come from the cell's left code.
    dense = lambda name, gain=1.0: nn.Dense(
      self.features, kernel_init=layers.he(gain), name=name
    )(codes)
    base = 2.0 ** jnp.linspace(-1.0, 2.0, self.features)
    frequency = pick(base * (1 + jnp.tanh(dense("frequency"))), left)
    phase = pick(dense("phase"), left)
    # Small at first: motion begins as straight lines between the codes.
    amplitude = pick(dense("amplitude", 0.2), left)
    wave = lambda s: amplitude * jnp.sin(frequency * s + phase)
    lerp = lambda a, b: a + share * (b - a)
    # Without its linear part a wave is zero at both ends of its cell, so the
    # embedding is continuous although every cell has a wave of its own.
    waves = wave(share) - lerp(wave(0.0), wave(1.0))
    line = dense("line")
    return waves + lerp(pick(line, left), pick(line, left + 1))


class Mapping(nn.Module):
  """Content noise, and a class or a text if there is one -> a clip's style."""

  features: int
  num_classes: int = 0

  @nn.compact
  def __call__(self, given: dict, content: jax.Array) -> jax.Array:
    """(B, n) noise -> (B, features), each of mean square 1."""
    read = condition.Condition(self, given, num_classes=self.num_classes)
    vector = read.vector(content.shape[-1])
    w = content
    if vector is not None:
      w = jnp.concatenate([w, vector], -1)
    for _ in range(2):
      w = layers.leaky_relu(nn.Dense(self.features, kernel_init=layers.he())(w))
    # Normalised like all that goes into the frames: what follows does not
    # see its scale, so nothing else would keep it from growing without end.
    return layers.rms_norm(w)


class Generator(nn.Module):
  """Draws clips at given times; see the module's text."""

  resolution: int
  frames: int
  channels: int = 3
  num_classes: int = 0
  widths: tuple = (96, 64, 32)  # From 4 x 4 upwards.
  blocks: int = 1
  patch: int = 2  # Pixels to a side that one last feature draws.
  pixel_features: int = 8
  content_dim: int = 64
  motion_dim: int = 16
  motion_features: int = 64
  motion_period: float = 1.0
  motion_kernel: int = 3
  style_dim: int = 128
  temporal: bool = False
  dtype: Any = jnp.float32

  def noise_spec(self, seconds: float) -> dict[str, tuple]:
    """Shapes of one sample's noise for times in [0, seconds]."""
    cells = math.floor(seconds / self.motion_period + 1e-6) + 2
    cells += 2 * (self.motion_kernel - 1)
    return {
      "content": (self.content_dim,),
      "motion": (cells, self.motion_dim),
    }

  def style(self, params: Any, given: dict, z: dict) -> jax.Array:
    """(B, style_dim) styles of z; may stand for z['content'] as z['style']."""
    mapping = self._mapping(parent=None)
    return mapping.apply({"params": params["mapping"]}, given, z["content"])

  def _mapping(self, **kwargs) -> Mapping:
    return Mapping(self.style_dim, self.num_classes, **kwargs)

  @nn.compact
  def __call__(self, given: dict, z: dict, times: jax.Array) -> jax.Array:
    """Draws clips.

    Args:
      given: conditions of models/condition.py, (B, ...) each.
      z: 'content' (B, content_dim), or in its place a 'style' (B, style_dim);
        'motion' (B, cells, motion_dim).
      times: (B, T) seconds.

    Returns:
      (B, T, H, W, C) float32, about [-1, 1].
    """
    b, t = times.shape
    read = condition.Condition(self, given, num_classes=self.num_classes)
    # --- Style of every frame: content, class, text, motion and sound.
    if "style" in z:
      w = layers.rms_norm(z["style"])
    else:
      w = self._mapping(name="mapping")(given, z["content"])
    u = Motion(self.motion_period, self.motion_features, self.motion_kernel)(
      z["motion"], times
    )
    rows = read.rows(times, around=True)
    moving = [u] if rows is None else [u, rows]
    style = jnp.concatenate([jnp.repeat(w[:, None], t, 1), *moving], -1)
    style = nn.Dense(self.style_dim, kernel_init=layers.he(), name="join")(
      style.reshape(b * t, -1)
    )
    style = layers.rms_norm(layers.leaky_relu(style)).astype(self.dtype)
    place = read.map()
    if place is not None:
      place = place.reshape(b * t, *place.shape[2:]).astype(self.dtype)
    # --- The frame: from a 4 x 4 picture of the style to the pixels.
    base = smallest(self)
    x = nn.Dense(
      base**2 * self.widths[0], kernel_init=layers.he(), dtype=self.dtype
    )(style)
    x = layers.leaky_relu(layers.rms_norm(x)).reshape(b * t, base, base, -1)
    picture = jnp.zeros((b * t, base, base, self.channels), self.dtype)
    for level, width in enumerate(self.widths):
      if level:
        x = layers.upsample(x)
        picture = layers.upsample(picture)
      if x.shape[-1] != width:
        x = layers.conv(width, 1, dtype=self.dtype)(x)
      here = place if place is None else layers.resize(place, *x.shape[1:3])
      for _ in range(self.blocks):
        y = layers.rms_norm(x)
        y = layers.conv(width, dtype=self.dtype)(y)
        modulate = layers.Modulate(dtype=self.dtype)
        y = layers.leaky_relu(modulate(y, style[:, None, None], here))
        y = layers.conv(width, gain=0.1, dtype=self.dtype)(y)
        x = x + y
      if self.temporal and x.shape[1] <= 32:
        x = layers.TemporalMix(dtype=self.dtype)(x, t)
      if level < len(self.widths) - 1:
        drawn = layers.conv(self.channels, 1, 0.1, dtype=self.dtype)
        picture = picture + drawn(layers.rms_norm(x))
    # --- The pixels: a few features each, so that patches join smoothly.
    x = layers.rms_norm(x)
    x = layers.conv(self.pixel_features * self.patch**2, dtype=self.dtype)(x)
    x = layers.leaky_relu(layers.depth_to_space(x, self.patch))
    x = layers.conv(self.channels, gain=0.1, dtype=self.dtype)(x)
    for _ in range(int(math.log2(self.patch))):
      picture = layers.upsample(picture)
    picture = picture + x
    size = self.resolution
    return picture.reshape(b, t, size, size, -1).astype(jnp.float32)


class Discriminator(nn.Module):
  """Scores frames and the clip that they make; see the module's text."""

  resolution: int
  frames: int
  channels: int = 3
  num_classes: int = 0
  widths: tuple = (32, 64, 96)  # Down to 4 x 4.
  blocks: int = 1
  patch: int = 2
  joint: int = 128
  temporal_head: bool = False  # Also looks at the whole clip at half size.
  match: int = 0  # Features in which clips and their texts are compared.
  sync: int = 0  # The same of frames and their sounds.
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, video: jax.Array, given: dict, times: jax.Array
  ) -> layers.Scores:
    """Scores clips.

    Args:
      video: (B, T, H, W, C).
      given: conditions, as the generator's.
      times: (B, T) seconds.

    Returns:
      Logits of two or three heads, each (B, T) of frames or (B, 1) of the clip.
    """
    b, t = times.shape
    read = condition.Condition(self, given, num_classes=self.num_classes)
    frames = read.beside(video, rows=not self.sync)
    frames = frames.reshape(b * t, *frames.shape[2:]).astype(self.dtype)
    # --- Each frame alone.
    x = layers.space_to_depth(frames, self.patch)
    x, features = layers.shrink(x, self.widths, self.blocks, self.dtype)
    y = nn.Dense(self.joint, dtype=self.dtype)(x.reshape(b * t, -1))
    heads = [(layers.leaky_relu(y).reshape(b, t, -1), features)]
    moving = [heads[0][0]]
    # --- The clip: features of all frames side by side, and the time gaps.
    gaps = jnp.log(jnp.maximum(times[:, 1:] - times[:, :-1], 1e-3))
    base = smallest(self)
    x = x.reshape(b, t, base, base, -1).transpose(0, 2, 3, 1, 4)
    x = x.reshape(b, base, base, -1)
    x = layers.leaky_relu(layers.conv(self.joint, 3, dtype=self.dtype)(x))
    if t > 1:
      gap = nn.Dense(self.joint, name="gaps")(gaps).astype(self.dtype)
      x = x * (1 + gap[:, None, None])
    x = layers.leaky_relu(
      nn.Dense(self.joint, dtype=self.dtype)(x.reshape(b, -1))
    )
    heads.append((x[:, None], (x,)))
    # --- The motion: the whole clip at half its size (Clark et al. 2019).
    if self.temporal_head:
      y = layers.space_to_depth(layers.downsample(frames), self.patch)
      y, features = layers.shrink(
        y, self.widths[:-1], self.blocks, self.dtype, frames=t
      )
      y = y.reshape(b, t, -1, y.shape[-1])
      moving.append(y.mean(2))
      y = y.mean((1, 2))
      y = layers.leaky_relu(nn.Dense(self.joint, dtype=self.dtype)(y))
      heads.append((y[:, None], features))
    # --- Logits.
    logits = []
    for y, _ in heads:
      y = y.astype(jnp.float32)
      logits.append(condition.projection(nn.Dense(1)(y)[..., 0], y, read))
    asked = {}
    if self.match:
      # What the clip shows as a whole and how it moves: all heads, means over
      # the frames.
      y = jnp.concatenate([y.mean(1) for y, _ in heads], -1)
      asked["match"], _ = read.match(y.astype(jnp.float32), self.match)
    if self.sync:
      y = jnp.concatenate(moving, -1).astype(jnp.float32)
      asked["sync"], _ = read.sync(y, self.sync)
    features = tuple(f for _, f in heads)
    return layers.Scores(tuple(logits), features, asked)
