"""One generator for all tasks from clip to clip: a base plus a residual.

  y = base + where * head(trunk(given)),   head zero at the start,

so that step 0 is the classical estimate (Kim et al. 2016; for video Sajjadi et
al. 2018) and every figure after it a gain. All operations are local, with
normalisation pixel by pixel alone: what a pixel depends on is known exactly
(`halo`, `align`), and tiles, chunks and streams give what the whole clip
gives. The work is done at a lower resolution, after space-to-depth, or for
super-resolution on the small frames.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidgan_jax import errors
from vidgan_jax.models import bases
from vidgan_jax.models import condition
from vidgan_jax.models import layers
from vidgan_jax.models import patch as patch_lib


def variant(width: int, blocks: int, d_width: int) -> dict:
  """An entry of `VARIANTS`."""
  return {
    "generator": {"width": width, "blocks": blocks},
    "discriminator": {"width": d_width},
  }


# Those of D: of `sync` above 0; which class each pixel is of, with `segment`.
LOSSES = ("sync", "segment")
_RIM = 8  # Pixels; what is left of a rim there is below a tenth of a level.
# A gradient of "S" on 8 clips of 5 x 48 x 48 is half a second of one CPU core.
VARIANTS = {
  "XS": variant(32, 4, 24),  # 0.1 M parameters
  "S": variant(48, 4, 32),  # 0.2 M
  "M": variant(64, 5, 32),  # 0.5 M
  "L": variant(96, 6, 48),  # 1.2 M
  "XL": variant(128, 10, 64),  # 3.5 M
  "XXL": variant(256, 14, 64),  # 20 M
}


class Body(nn.Module):
  """Frames and their style -> frames of `features` channels, zero at first."""

  width: int
  blocks: int
  features: int
  temporal: str = "none"
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: jax.Array, style: jax.Array | None, frames: int
  ) -> jax.Array:
    """Frames and their style -> features of each pixel.

    Args:
      x: (B*T, H, W, C).
      style: as `layers.Modulate` takes it, or None.
      frames: T.

    Returns:
      (B*T, H, W, features).
    """
    x = layers.conv(self.width, dtype=self.dtype)(x.astype(self.dtype))
    for i in range(self.blocks):
      y = layers.rms_norm(x)
      y = layers.conv(self.width, dtype=self.dtype)(y)
      if self.temporal != "none":
        y = layers.TemporalMix(
          dtype=self.dtype, causal=self.temporal == "causal"
        )(y, frames)
      # The name that stored parameters have.
      modulate = layers.Modulate(gain=0, dtype=self.dtype, name=f"Film_{i}")
      y = layers.leaky_relu(modulate(y, style))
      x = x + layers.conv(self.width, gain=0.1, dtype=self.dtype)(y)
    x = layers.rms_norm(x)
    return layers.conv(self.features, gain=0, dtype=self.dtype)(x)

  @property
  def halo(self) -> tuple[int, int, int]:
    """Pixels of x, frames before, frames after that a pixel depends on."""
    frames = {"centred": (1, 1), "causal": (2, 0), "none": (0, 0)}
    before, after = frames[self.temporal]
    return 2 * self.blocks + 2, self.blocks * before, self.blocks * after


class Base(nn.Module):
  """What the generators of a given clip share: all but the network.

  Clips may have any number of frames and any size, also one that is not a
  multiple of `patch`.

  Attributes:
    channels: of the video.
    dtype: of the computation; the base, the sum and the output are float32.
    base: name of the classical estimate, see `bases.BASES`.
    scale: side of the target over side of the given clip.
    patch: pixels of the given clip to a side that make one of the network's.
    vector_dim: numbers a frame in given['vector'] (noise level, strength,
      global statistics); 0: they are not looked at.
    noise_dim: numbers in z, for tasks of more than one right answer.
    compose: writes only where given['mask'] is 1; the known pixels of the
      base stay exactly.
    keep_luma: changes colours alone, not the brightness of a pixel.
  """

  channels: int = 3
  dtype: Any = jnp.float32
  base: str = "copy"
  scale: int = 1
  patch: int = 2
  width: int = 48
  blocks: int = 4
  vector_dim: int = 0
  noise_dim: int = 0
  compose: bool = False
  keep_luma: bool = False

  def __post_init__(self):
    super().__post_init__()
    if self.base not in bases.BASES:
      raise errors.UserError(
        f"config.model.generator.base is {self.base!r}; there are "
        f"{', '.join(bases.BASES)}."
      )

  def noise_spec(self, seconds: float) -> dict[str, tuple]:
    """Shape of one sample's noise: none, unless `noise_dim` asks for it."""
    del seconds
    return {"z": (self.noise_dim,)} if self.noise_dim else {}

  @property
  def align(self) -> int:
    """Tiles must begin at, and be sized in, multiples of so many pixels.

    Of the given clip. The right and the lower border may be anywhere.
    """
    return math.lcm(self.patch, bases.ALIGN[self.base])

  @property
  def near(self) -> tuple[int, int] | None:
    """`align`, and pixels of `halo`, of windows with given['spread'].

    None where the base makes nothing of it, see `spread`.
    """
    if self.base not in bases.SPREAD:
      return None
    return self.patch, self.halo[0] - bases.HALO[self.base][0]

  def spread(self, given: dict) -> jax.Array:
    """What the base makes of whole frames, see `bases.spread`."""
    return bases.spread(self.base, given)

  @property
  def border(self) -> int:
    """Pixels by which footage is mirrored, see `footage.Stage.border`.

    None where a network enlarges or fills holes: there what a border adds is
    within its noise.
    """
    rim = -(-_RIM // self.align) * self.align
    return 0 if self.scale > 1 or self.compose else rim

  @property
  def cost(self) -> float:
    """Bytes of working memory a pixel of the given clip and frame, roughly."""
    return 24 * self.scale**2 + 24 * self.width / self.patch**2

  def _halo(self, pixels: int, before: int, after: int) -> tuple:
    """Halo of a network of that halo after the base, in given pixels."""
    around, past, future = bases.HALO[self.base]
    pixels *= self.patch
    # At scale 1 the network looks at the base, at others beside it.
    pixels = pixels + around if self.scale == 1 else max(pixels, around)
    whole = -(-pixels // self.align) * self.align
    return whole, before + past, after + future

  def _inputs(self, given: dict, times: jax.Array) -> tuple:
    """The base, and the network's input, both (B, T, H, W, C) float32."""
    base = bases.BASES[self.base](given, times, self.scale)
    inputs = [base if self.scale == 1 else given["video"]]
    inputs += [given["mask"]] if "mask" in given else []
    context = bases.context(self.base, given, times)
    if context is not None:
      inputs.append(context)
    return base, jnp.concatenate([x.astype(jnp.float32) for x in inputs], -1)

  def _to_patches(self, x: jax.Array) -> jax.Array:
    """(N, h, w, C) -> (N, ceil(h / patch), ceil(w / patch), patch^2 C)."""
    _, h, w, _ = x.shape
    rest = ((0, 0), (0, -h % self.patch), (0, -w % self.patch), (0, 0))
    return layers.space_to_depth(jnp.pad(x, rest), self.patch)

  def _to_pixels(self, x: jax.Array, like: jax.Array) -> jax.Array:
    """Features of all pixels of a patch -> one vector a pixel of `like`.

    Args:
      x: (N, h, w, (patch * scale)^2 features).
      like: (B, T, H, W, C), N = B T.

    Returns:
      (B, T, H, W, features) float32.
    """
    x = layers.depth_to_space(x.astype(jnp.float32), self.patch * self.scale)
    x = x[:, : like.shape[2], : like.shape[3]]
    return x.reshape(*like.shape[:4], -1)

  def _add(self, base: jax.Array, residual: jax.Array, given: dict):
    """The base plus what may be changed of it, float32."""
    if self.keep_luma:
      residual = residual - bases.luma(residual)
    if self.compose:
      mask = self._wanted(given, "mask", "compose is True").astype(jnp.float32)
      for axis in (2, 3):
        mask = jnp.repeat(mask, self.scale, axis) if self.scale > 1 else mask
      residual = mask * residual
    return base + residual

  def _style(self, given: dict, z: dict, times: jax.Array) -> jax.Array | None:
    """Vector, noise, conditions and map after one hidden layer, or None.

    Returns:
      (B*T, 1, 1, 64), or with a map (B*T, h, w, 64) for h x w patches.
    """
    b, t = times.shape
    rows = []
    if self.vector_dim:
      vector = self._wanted(given, "vector", f"vector_dim is {self.vector_dim}")
      if vector.shape != (b, t, self.vector_dim):
        raise errors.UserError(
          f"given['vector'] has shape {vector.shape}, but the generator's "
          f"vector_dim asks for {(b, t, self.vector_dim)}: set "
          "config.model.generator.vector_dim to the task's."
        )
      rows.append(vector)
    every = lambda x: jnp.broadcast_to(x[:, None], (b, t, x.shape[-1]))
    if self.noise_dim:
      rows.append(every(z["z"]))
    read = condition.Condition(
      self, given, own=("video", "mask", "vector", "spread")
    )
    text, sound, place = read.text(), read.rows(times), read.map()
    rows += [] if text is None else [every(text)]
    rows += [] if sound is None else [sound]
    hidden = functools.partial(
      nn.Dense, 64, kernel_init=layers.he(), dtype=self.dtype
    )
    styles = []
    if rows:
      x = jnp.concatenate([x.astype(self.dtype) for x in rows], -1)
      styles.append(hidden(name="style")(x).reshape(b * t, 1, 1, 64))
    if place is not None:
      x = place.astype(self.dtype)
      x = self._to_patches(x.reshape(b * t, *x.shape[2:]))
      styles.append(hidden(name="map")(x))
    return layers.leaky_relu(sum(styles)) if styles else None

  def _wanted(self, given: dict, name: str, why: str) -> jax.Array:
    if name not in given:
      raise errors.UserError(
        f"The generator's {why}, but the task gives no {name!r}, only "
        f"{sorted(given)}: choose a task that gives it or change the field in "
        "config.model.generator."
      )
    return given[name]


class Generator(Base):
  """Improves a cheap estimate of the clip; see the module's text.

  Attributes:
    temporal: a frame sees in every block its two neighbours ('centred'), the
      two before it ('causal': for live streams), or none ('none').
    motion: the longest motion, in pixels, along which the known frames around
      a missing one are moved before the base is made of them (after Liu et al.
      2017, Deep Voxel Flow, eq. 1-2), or, for 'fill', mixed into it; for the
      bases of `bases.MOTIONS`. At the start nothing is moved. 0: the base as it
      is.
    curve: the base goes through a tone curve (`bases.tone`) that is learnt, one
      for all clips. Few videos suffice to learn it.
    follow: the curve of each frame moves with how bright it is, of which
      given['vector'] has quantiles (`tasks.statistics`): what is dark is made
      brighter, and what is not can stay as it is.
  """

  temporal: str = "centred"
  motion: float = 0.0
  curve: bool = False
  follow: bool = False

  def __post_init__(self):
    super().__post_init__()
    if self.motion and self.base not in bases.MOTIONS:
      raise errors.UserError(
        f"config.model.generator.motion is {self.motion}, but nothing moves in "
        f"the base {self.base!r}: set motion to 0, or base to one of "
        f"{', '.join(bases.MOTIONS)}."
      )

  @property
  def halo(self) -> tuple[int, int, int]:
    """Pixels of the given clip, frames before, frames after.

    Within so much of a cut the output differs from the whole clip's; at the
    true ends of the clip and borders of the picture it does not.
    """
    pixels, before, after = self._body(parent=None).halo
    moved = math.ceil((math.ceil(self.motion) + 1) / self.patch)
    return self._halo(max(pixels, moved), before, after)

  def _body(self, **kwargs) -> Body:
    features = (self.patch * self.scale) ** 2 * (
      self.channels + (bases.MOTIONS[self.base] if self.motion else 0)
    )
    return Body(
      self.width, self.blocks, features, self.temporal, self.dtype, **kwargs
    )

  @nn.compact
  def __call__(self, given: dict, z: dict, times: jax.Array) -> jax.Array:
    """Given (B, T, h, w, ...), times (B, T) -> (B, T, H, W, C) float32."""
    b, t = times.shape
    base, x = self._inputs(given, times)
    x = self._to_patches(x.reshape(b * t, *x.shape[2:]))
    x = self._body(name="body")(x, self._style(given, z, times), t)
    x = self._to_pixels(x, base)
    residual = x[..., : self.channels]
    if self.curve:
      base = bases.tone(base, self._curve(given))
    if self.motion:
      moved = bases.moved(
        self.base, given, times, x[..., self.channels :], self.motion
      )
      # Each is computed by itself: fused with the difference, XLA rounds them
      # otherwise, and nothing moved would not be the base to the last bit.
      moved, base = jax.lax.optimization_barrier((moved, base))
      residual = residual + (moved - base)
      if self.base == "temporal":
        # Where nothing moves, nothing is to be gained on a line in time.
        residual *= bases.changing(given, times, self.motion)
    return self._add(base, residual, given)

  def _curve(self, given: dict) -> jax.Array:
    """(5,), or (B, T, 1, 1, 5) of what follows the frames."""
    curve = self.param("curve", nn.initializers.zeros, (5,))
    if not self.follow:
      return curve
    # Of few numbers, so that no scene is known by them: quantiles of grey.
    vector = self._wanted(given, "vector", "follow is True")
    grey = vector.reshape(*vector.shape[:2], 3, -1).mean(2)
    x = nn.tanh(nn.Dense(16, kernel_init=layers.he(), name="grey")(grey))
    x = nn.Dense(5, kernel_init=nn.initializers.zeros, name="follow")(x)
    return curve + x[:, :, None, None]


class Discriminator(nn.Module):
  """Scores by the heads of `models/patch.py` that are named.

  Attributes:
    heads: 'triplet' (motion, cheap on a CPU), 'temporal' (motion, of the
      whole clip), 'frame' (each frame, at several scales).
    width: channels of the first layer; they double to `width` * 4.
    levels: halvings of the picture.
    scales: of 'frame'.
    conditional: the heads also see given['video'], at the target's size.
    sync: above 0 it is asked which rows of the batch are a clip's, by vectors
      of so many numbers of each frame (`condition.Sync`) from the last head,
      which is one that scores every frame: 'frame' or 'temporal'.
    segment: D is asked for given['map'], see `patch.Segment`.
  """

  heads: tuple = ("triplet",)
  width: int = 32
  levels: int = 3
  scales: int = 2
  conditional: bool = False
  sync: int = 0
  segment: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, video: jax.Array, given: dict, times: jax.Array
  ) -> layers.Scores:
    """(B, T, H, W, C) -> logits (B, n) a head, one for every patch."""
    del times
    if self.sync and self.heads[-1] == "triplet":
      raise errors.UserError(
        "config.model.discriminator.sync asks of each frame what is heard, but "
        "the last of its heads, 'triplet', scores three together: end them with"
        " 'frame' or 'temporal', or set sync to 0."
      )
    own = ("video", "mask", "vector", "map")  # What the generator works with.
    read = condition.Condition(self, given, own=own)
    # Who is asked for the rows must not be shown them.
    shown = read.beside(video, rows=not self.sync)
    logits, features = [], []
    for name in self.heads:
      if name not in patch_lib.HEADS:
        raise errors.UserError(
          f"config.model.discriminator.heads has {name!r}; there are "
          f"{', '.join(patch_lib.HEADS)}."
        )
      more = {"scales": self.scales} if name == "frame" else {}
      scores = patch_lib.HEADS[name](
        width=self.width,
        levels=self.levels,
        dtype=self.dtype,
        name=name,
        **more,
      )(shown, given["video"] if self.conditional else None)
      for logit, seen in zip(scores.logits, scores.features):
        # (B*T, h, w, c) -> (B, T h w, c): one vector a logit.
        y = seen[-1].reshape(len(video), -1, seen[-1].shape[-1])
        y = y.astype(jnp.float32)
        logits.append(condition.projection(logit, y, read))
      features += scores.features
    asked = {}
    if self.sync:
      frames = seen[-1].mean((1, 2)).reshape(*video.shape[:2], -1)
      asked["sync"], _ = read.sync(frames.astype(jnp.float32), self.sync)
    if self.segment:
      if "map" not in given:
        raise errors.UserError(
          "config.model.discriminator.segment is True, but the task gives no "
          "'map': set it to False, or choose the task translate."
        )
      ask = patch_lib.Segment(
        self.width, self.levels, self.dtype, name="segment"
      )
      asked["segment"] = ask(video, given["map"])
    return layers.Scores(tuple(logits), tuple(features), asked)
