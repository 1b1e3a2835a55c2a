"""A dual encoder: clips and their texts or sounds in one space of features.

It draws nothing. Trained by `contrast` alone (config.adversary.weight=0) on
clips with their texts it is a small CLIP (Radford et al. 2021), on clips with
their sounds a SyncNet (Chung and Zisserman 2016): an expert that says how well
a clip fits what was asked for. Frozen, it is a loss of other runs
(`losses.reconstruction.alignment`) or a measure of them (`evals.retrieval`,
`evals.sync`); see experts.py.

Clips may have any number of frames, at any times: a frame is seen with its two
neighbours and the time between.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidgan_jax import errors
from vidgan_jax.models import condition
from vidgan_jax.models import continuous
from vidgan_jax.models import layers

LOSSES = ("contrast",)

VARIANTS = {
  # 0.3 M parameters at 24 px, and of texts 0.26 M for the words.
  "XS": {
    "generator": {"widths": (32, 48, 64)},
    "discriminator": {"widths": (32,), "joint": 64},
  },
  # 64 px.
  "S": {
    "generator": {"widths": (48, 64, 96, 128), "joint": 256, "features": 128},
    "discriminator": {"widths": (32,), "joint": 64},
  },
}
# What is learnt -> what is given beside the clip.
READS = {"match": condition.TEXTS, "sync": condition.ROWS}


class Frames(nn.Module):
  """What each frame shows, and how it moves there."""

  widths: tuple
  joint: int
  resolution: int
  patch: int = 2
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, video: jax.Array, times: jax.Array) -> jax.Array:
    """(B, T, H, W, C) and (B, T) seconds -> (B, T, joint).

    Clips of another size than config.model.resolution are resized to it.
    """
    continuous.smallest(self)  # Refuses a resolution that cannot be halved.
    b, t = times.shape
    x = video.reshape(b * t, *video.shape[2:]).astype(self.dtype)
    if x.shape[1:3] != (self.resolution, self.resolution):
      x = layers.resize(x, self.resolution, self.resolution)
    x = layers.space_to_depth(x, self.patch)
    x, _ = layers.shrink(x, self.widths, 1, self.dtype)
    dense = lambda: nn.Dense(
      self.joint, kernel_init=layers.he(), dtype=self.dtype
    )
    x = layers.leaky_relu(dense()(x.reshape(b * t, -1)))
    # Change of velocity is seen in three frames: x_(t-1), x_t, x_(t+1), and
    # the logarithms of the seconds between; 0 where there is no neighbour.
    gaps = jnp.log(jnp.maximum(jnp.diff(times), 1e-3))
    pad = lambda *ends: jnp.pad(gaps, ((0, 0), ends))
    gaps = jnp.stack([pad(1, 0), pad(0, 1)], -1).reshape(b * t, 2)
    y = layers.neighbours(x, t)
    y = dense()(jnp.concatenate([y, gaps.astype(self.dtype)], -1))
    x = x + dense()(layers.leaky_relu(y))
    return x.reshape(b, t, -1).astype(jnp.float32)


class Generator(nn.Module):
  """The encoder of clips and of what is given beside them."""

  resolution: int
  widths: tuple = (32, 48, 64)
  joint: int = 128
  features: int = 64  # In which clips and conditions are compared.
  patch: int = 2
  dtype: Any = jnp.float32

  def noise_spec(self, seconds: float) -> dict[str, tuple]:
    """No noise."""
    del seconds
    return {}

  @nn.compact
  def __call__(self, given: dict, z: dict, times: jax.Array) -> layers.Drawn:
    """Compares clips with their conditions.

    Args:
      given: 'video' (B, T, H, W, C), and a text, or what is heard at each
        frame, or both; see models/condition.py.
      z: empty.
      times: (B, T) seconds.

    Returns:
      The clips as they are; the loss `contrast`; and as `extra` the unit
      vectors of pairs, of clip and text 'match' (B, 2, features), of frame and
      sound 'sync' (B, T, 2, features).
    """
    del z
    read = condition.Condition(
      self, given, own=("video",), kinds=("vector", "rows")
    )
    x = Frames(
      self.widths, self.joint, self.resolution, self.patch, self.dtype
    )(given["video"], times)
    asked = {}
    if any(name in given for name in READS["match"]):
      asked["match"] = read.match(x.mean(1), self.features)
    if any(name in given for name in READS["sync"]):
      asked["sync"] = read.sync(x, self.features)
    if not asked:
      raise errors.UserError(
        "The model 'align' compares clips with their texts or sounds, but the "
        "task gives neither: set config.task.options.signals=('video', 'text')"
        " or ('video', 'sound')."
      )
    contrast = sum(loss for loss, _ in asked.values())
    pairs = {name: pair for name, (_, pair) in asked.items()}
    return layers.Drawn(given["video"], {"contrast": contrast}, pairs)


class Discriminator(nn.Module):
  """A logit a frame; it takes no part, since config.adversary.weight is 0."""

  resolution: int
  widths: tuple = (32,)
  joint: int = 64
  patch: int = 2
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, video: jax.Array, given: dict, times: jax.Array
  ) -> layers.Scores:
    """Clips (B, T, H, W, C) -> one head of logits (B, T)."""
    del given
    x = Frames(
      self.widths, self.joint, self.resolution, self.patch, self.dtype
    )(video, times)
    return layers.Scores((nn.Dense(1)(x)[..., 0],), ((x,),))
