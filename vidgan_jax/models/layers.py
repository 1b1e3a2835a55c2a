"""The few blocks that all models are made of.

Everything here works on frames folded into the batch (N H W C with N = B*T)
and uses dense 2-D convolutions of stride one: grouped, strided and 3-D
convolutions, and above all their second derivatives, are many times slower
in XLA on a CPU and no faster elsewhere at these sizes.
"""

from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp


class Scores(NamedTuple):
  """What a discriminator says of a batch.

  Attributes:
    logits: one array a head, (B,) or (B, n), float32.
    features: one tuple of arrays a head, for feature matching.
    auxiliary: name -> (B,) losses of questions beside "is it real?", such as
      which class it is. D learns to answer them of real clips, G to make clips
      of which D can (Odena et al. 2017, AC-GAN; Zhang et al. 2021, XMC-GAN).
  """

  logits: tuple
  features: tuple
  auxiliary: Mapping[str, jax.Array] = {}

  def per_clip(self) -> list[jax.Array]:
    """Each head's mean logit of every clip: (B,) float32 a head."""
    wide = (x.astype(jnp.float32) for x in self.logits)
    return [x.reshape(x.shape[0], -1).mean(-1) for x in wide]


class Drawn(NamedTuple):
  """What a generator returns, if it returns more than its clips.

  Attributes:
    video: (B, T, H, W, C) float32.
    losses: name -> (B,), such as the rate of a code; `config.reconstruction`
      weighs them by these names.
    extra: name -> array, for losses of `losses/reconstruction.py`.
  """

  video: jax.Array
  losses: Mapping[str, jax.Array] = {}
  extra: Mapping[str, jax.Array] = {}


def drawn(output: Any) -> Drawn:
  """What `generator.apply` returned, a video or a `Drawn`, as a `Drawn`."""
  return output if isinstance(output, Drawn) else Drawn(output)


def encode_and_draw(
  generator: nn.Module,
  target: jax.Array | None,
  given: Mapping,
  z: Mapping,
  times: jax.Array,
) -> tuple[Drawn, Mapping]:
  """What a bound generator draws in training, with its costs, and its z.

  A generator with `encode(target, given, z, times) -> (z, costs)` may look at
  the target (B, T, H, W, C), as that of a VAE does: z is drawn as ever, and the
  z that it returns is decoded. Its costs, name -> (B,), join `Drawn.losses`.
  Without a target, z is decoded as it was drawn.
  """
  costs = {}
  if target is not None and hasattr(generator, "encode"):
    z, costs = generator.encode(target, given, z, times)
  result = drawn(generator(given, z, times))
  return result._replace(losses={**costs, **result.losses}), z


def he(gain: float = 1.0):
  """Normal initialiser of variance gain^2 / fan_in (He et al. 2015)."""
  if gain == 0:
    return nn.initializers.zeros_init()
  return nn.initializers.variance_scaling(gain**2, "fan_in", "normal")


def conv(features: int, size: int = 3, gain: float = 1.0, **kwargs) -> nn.Conv:
  """A stride-one 'SAME' convolution of `size` x `size`."""
  return nn.Conv(features, (size, size), kernel_init=he(gain), **kwargs)


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """A stride-one 'SAME' convolution by a kernel (h, w, C, features)."""
  return jax.lax.conv_general_dilated(
    x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


def leaky_relu(x: jax.Array) -> jax.Array:
  """Leaky ReLU of slope 0.2 that keeps the variance of a normal input."""
  return nn.leaky_relu(x, 0.2) * jnp.asarray(1.387, x.dtype)


def rms_norm(x: jax.Array) -> jax.Array:
  """Divides by the root mean square over the channels (..., C).

  The pixel-wise normalisation of Karras et al. 2018, eq. in section 4.2. The
  statistics are taken in float32.
  """
  power = jnp.mean(jnp.square(x.astype(jnp.float32)), -1, keepdims=True)
  return x * jax.lax.rsqrt(power + 1e-6).astype(x.dtype)


def upsample(x: jax.Array) -> jax.Array:
  """Doubles H and W: repeats, then smooths with [1, 2, 1] / 4.

  Args:
    x: (N, H, W, C).

  Returns:
    (N, 2H, 2W, C); exactly bilinear interpolation between pixel centres, with
    the border repeated.
  """
  # Of each pixel two, y_2i = (3 x_i + x_(i-1)) / 4 and
  # y_(2i+1) = (3 x_i + x_(i+1)) / 4.
  for axis in (1, 2):
    size = x.shape[axis]
    before = jax.lax.slice_in_dim(x, 0, size - 1, axis=axis)
    first = jax.lax.slice_in_dim(x, 0, 1, axis=axis)
    after = jax.lax.slice_in_dim(x, 1, size, axis=axis)
    last = jax.lax.slice_in_dim(x, size - 1, size, axis=axis)
    left = 0.75 * x + 0.25 * jnp.concatenate([first, before], axis)
    right = 0.75 * x + 0.25 * jnp.concatenate([after, last], axis)
    x = jnp.stack([left, right], axis + 1)
    x = x.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 2 :])
  return x


def downsample(x: jax.Array) -> jax.Array:
  """Halves H and W by the mean of 2 x 2 pixels: (N, H, W, C)."""
  n, h, w, c = x.shape
  return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


def flat(*parts: jax.Array | None) -> jax.Array:
  """All numbers of each clip in a row: (B, ...) -> (B, n); None is left out."""
  parts = [x.reshape(len(x), -1) for x in parts if x is not None]
  return jnp.concatenate(parts, -1) if len(parts) > 1 else parts[0]


def resize(x: jax.Array, height: int, width: int) -> jax.Array:
  """Pixels between pixels are linear; where it shrinks, means: (N, H, W, C)."""
  return jax.image.resize(x, (x.shape[0], height, width, x.shape[3]), "linear")


def space_to_depth(x: jax.Array, size: int) -> jax.Array:
  """(N, H, W, C) -> (N, H/size, W/size, size*size*C)."""
  n, h, w, c = x.shape
  x = x.reshape(n, h // size, size, w // size, size, c)
  x = x.transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(n, h // size, w // size, size * size * c)


def depth_to_space(x: jax.Array, size: int) -> jax.Array:
  """The inverse of `space_to_depth`."""
  n, h, w, c = x.shape
  c //= size * size
  x = x.reshape(n, h, w, size, size, c).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(n, h * size, w * size, c)


def neighbours(x: jax.Array, frames: int, causal: bool = False) -> jax.Array:
  """Each frame between its neighbours: (B * frames, ..., C) -> (..., 3C).

  The frames of a clip lie in a row. The neighbours are one before and one
  after, or, if `causal`, the two before; at the ends the frame itself is
  repeated.
  """
  clip = x.reshape(-1, frames, *x.shape[1:])
  first, last = clip[:, :1], clip[:, -1:]
  ends = (first, first, clip) if causal else (first, clip, last)
  # Two frames longer, so that the three choices are three slices of it.
  long = jnp.concatenate(ends, 1)
  near = jnp.concatenate([long[:, i : i + frames] for i in range(3)], -1)
  return near.reshape(*x.shape[:-1], -1)


class TemporalMix(nn.Module):
  """Residual mixing of each frame with its two neighbours.

  One matrix product a pixel, so its cost is small beside a convolution. With
  gain 0 it is the identity at the start. The neighbours are those of
  `neighbours`:

    y_t = x_t + W [x_(t-1), x_t, x_(t+1)], or x_t + W [x_(t-2), x_(t-1), x_t].
  """

  gain: float = 0.0
  dtype: Any = jnp.float32
  causal: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, frames: int) -> jax.Array:
    """(B * frames, H, W, C), the frames of a clip in a row -> the same."""
    mix = nn.Dense(x.shape[-1], kernel_init=he(self.gain), dtype=self.dtype)
    return x + mix(neighbours(x, frames, self.causal))


def shrink(
  x: jax.Array,
  widths: tuple[int, ...],
  blocks: int,
  dtype: Any = jnp.float32,
  frames: int = 0,
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
  """Residual blocks, halving after each width, of the module that calls.

  Args:
    x: (N, h, w, C).
    widths: channels, the largest picture first.
    blocks: of each width.
    dtype: of the computation.
    frames: of a clip, which are mixed; 0: each frame alone.

  Returns:
    The last picture, and that of every width: (N, h / 2^level, w / 2^level,
    width).
  """
  features = []
  x = leaky_relu(conv(widths[0], dtype=dtype)(x))
  for level, width in enumerate(widths):
    if level:
      x = downsample(x)
    if x.shape[-1] != width:
      x = conv(width, 1, dtype=dtype)(x)
    for _ in range(blocks):
      y = leaky_relu(conv(width, dtype=dtype)(x))
      y = leaky_relu(conv(width, gain=0.5, dtype=dtype)(y))
      x = (x + y) * 0.8  # Keeps the variance about where it was.
    if frames:
      x = TemporalMix(gain=0.5, dtype=dtype)(x, frames)
    features.append(x)
  return x, tuple(features)


class Modulate(nn.Module):
  """Scales and shifts channels by a style: x (1 + scale) + shift.

  Perez et al. 2018, eq. 2; by what is known of each pixel as in Wang et al.
  2018 (Recovering Realistic Texture), eq. 4. Scale and shift are linear in the
  style and in the place.
  """

  gain: float = 0.5  # 0: the identity at the start.
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    style: jax.Array | None,
    place: jax.Array | None = None,
  ) -> jax.Array:
    """Without a style and a place it is the identity for ever.

    Args:
      x: (N, H, W, C).
      style: (N, 1 or H, 1 or W, S), or None.
      place: (N, H, W, n), or None.

    Returns:
      (N, H, W, C).
    """
    dense = lambda name, gain: nn.Dense(
      2 * x.shape[-1], kernel_init=he(gain), dtype=self.dtype, name=name
    )
    both = [dense(None, self.gain)(style)] if style is not None else []
    both += [dense("place", 0.5)(place)] if place is not None else []
    if not both:
      return x
    scale, shift = jnp.split(sum(both[1:], both[0]), 2, -1)
    return x * (1 + scale) + shift


def warp(x: jax.Array, flow: jax.Array) -> jax.Array:
  """Samples a picture elsewhere: output(p) = x(p + flow(p)), bilinear.

  Args:
    x: (N, H, W, C).
    flow: (N, H, W, 2) pixels, (x, y); beyond the border its pixels repeat.

  Returns:
    (N, H, W, C). With a forward flow from frame t, the frame t + 1 comes to
    lie on frame t.
  """
  n, h, w, c = x.shape
  # Where each pixel is taken from: row + down between the rows `top` and
  # `top + 1`, column + right likewise.
  column = jnp.clip(jnp.arange(w) + flow[..., 0], 0, w - 1)
  row = jnp.clip(jnp.arange(h)[:, None] + flow[..., 1], 0, h - 1)
  left, top = jnp.floor(column), jnp.floor(row)
  right = (column - left)[..., None].astype(x.dtype)
  down = (row - top)[..., None].astype(x.dtype)
  left, top = left.astype(jnp.int32), top.astype(jnp.int32)
  pixels = x.reshape(n, h * w, c)

  # A gather on the pixels in a row is one index a pixel instead of three.
  def pick(i, j):
    index = jnp.minimum(i, h - 1) * w + jnp.minimum(j, w - 1)
    index = index.reshape(n, h * w, 1)
    return jnp.take_along_axis(pixels, index, 1).reshape(x.shape)

  above = pick(top, left) * (1 - right) + pick(top, left + 1) * right
  below = pick(top + 1, left) * (1 - right) + pick(top + 1, left + 1) * right
  return above * (1 - down) + below * down
