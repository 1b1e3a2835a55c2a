"""Augmentation of all that D sees, the same for every frame of a clip.

The transforms of DiffAugment (Zhao et al. 2020) and a flip: brightness,
saturation, contrast; translation; cutout. They are differentiable, so G
learns through them, and act on whole clips: augmenting frames apart would
teach G to flicker (Skorokhodov et al. 2022).

No leak: each transform is applied with probability p, and left out with
1 - p. The distribution of clips then differs from that of augmented clips,
so G need not draw augmented ones, as long as p is safely below one:
p <= 0.8 (Karras et al. 2020, section 2.2 and appendix C). At p = 0 the output
is the input, bit for bit.
"""

import jax
import jax.numpy as jnp

from vidgan_jax import errors
from vidgan_jax import rooms

POLICIES = ("flip", "color", "translation", "cutout")


def augment(
  video: jax.Array, keys: jax.Array, p: jax.Array | float, policy: str
) -> jax.Array:
  """Applies the transforms that `policy` names, each with probability p.

  Args:
    video: (B, T, H, W, C), pixels in [-1, 1].
    keys: (B,) typed keys. A clip's transform depends on its key alone, not on
      its place in the batch nor on what else is in the policy.
    p: scalar in [0, 1], may be traced.
    policy: names out of `POLICIES`, comma separated; '' for none. 'color' is
      three transforms with a draw each.

  Returns:
    Array of the shape and dtype of `video`. Pixels may leave [-1, 1].

  Raises:
    ValueError: for a name that is not in `POLICIES`.
  """
  names = [name.strip() for name in policy.split(",") if name.strip()]
  for name in names:
    if name not in POLICIES:
      raise errors.UserError(
        f"config.augment.policy names {name!r}, which is not an augmentation. "
        + rooms.nearest(name, POLICIES)
      )

  def one(clip, key):
    # One draw for everything: each random call costs a third of a second of
    # compilation on a CPU. Every transform has its row, whatever the policy.
    draws = jax.random.uniform(key, (len(_TRANSFORMS), 3))
    for (name, transform), draw in zip(_TRANSFORMS.items(), draws):
      if name.split(".")[0] in names:
        clip = transform(clip, draw[1:], draw[0] < p)
    return clip

  return jax.vmap(one)(video, keys)


def adapt(
  p: jax.Array,
  sign_mean: jax.Array,
  target: float,
  batch: int | jax.Array,
  kimg: float,
  limit: float = 0.8,
) -> jax.Array:
  """The next p of adaptive augmentation (Karras et al. 2020, section 3).

  r_t = E[sign(D(x))] says how much D overfits: 0 not at all, 1 fully. p is
  moved by a fixed step towards the side that brings r_t to its target.

  Args:
    p: float32 scalar, the probability until now.
    sign_mean: r_t, the mean of sign(D(x)) over the global batch.
    target: the r_t to hold; the paper's is 0.6.
    batch: clips shown since the last call.
    kimg: thousands of clips in which p can go from 0 to 1; the paper's is 500.
    limit: p stays at or below it, see "no leak" above.

  Returns:
    float32 scalar in [0, limit].
  """
  step = jnp.sign(sign_mean - target) * batch / (kimg * 1000)
  return jnp.clip(p + step, 0.0, limit).astype(jnp.float32)


# Each transform takes a clip (T, H, W, C), two draws of U(0, 1) and whether to
# act, and gives the clip back untouched when not.


def _flip(clip, draw, applied):
  # When it acts it mirrors every second clip: mirroring with probability 1/2
  # in all could not be undone, and would leak at p = 1/2.
  return jnp.where(applied & (draw[0] < 0.5), clip[:, :, ::-1], clip)


def _brightness(clip, draw, applied):
  return jnp.where(applied, clip + (draw[0] - 0.5), clip)


def _saturation(clip, draw, applied):
  grey = jnp.mean(clip, -1, keepdims=True)
  return jnp.where(applied, grey + 2 * draw[0] * (clip - grey), clip)


def _contrast(clip, draw, applied):
  # The mean of the whole clip: one affine map of the pixels for all frames.
  mean = jnp.mean(clip)
  return jnp.where(applied, mean + (0.5 + draw[0]) * (clip - mean), clip)


def _translation(clip, draw, applied, share=0.125):
  """Moves by up to `share` of the side; what enters is 0, mid-grey."""
  _, h, w, _ = clip.shape
  dy, dx = round(h * share), round(w * share)
  top, left = jnp.where(
    applied,
    jnp.floor(draw * jnp.array([2 * dy + 1, 2 * dx + 1])).astype(jnp.int32),
    jnp.array([dy, dx]),
  )
  padded = jnp.pad(clip, ((0, 0), (dy, dy), (dx, dx), (0, 0)))
  # A slice of each clip: faster than a matrix that shifts, or
  # than a shift for every bit of the distance, and no traffic on a mesh.
  return jax.lax.dynamic_slice(padded, (0, top, left, 0), clip.shape)


def _cutout(clip, draw, applied, share=0.5):
  """Greys a rectangle of `share` of each side, its centre anywhere."""
  _, h, w, _ = clip.shape
  inside = applied
  for axis, size, u in zip((1, 2), (h, w), draw):
    length = round(size * share)
    centre = jnp.floor(u * (size + 1)).astype(jnp.int32)
    place = jax.lax.broadcasted_iota(jnp.int32, (1, h, w, 1), axis)
    place -= centre - length // 2
    inside &= (place >= 0) & (place < length)
  return jnp.where(inside, jnp.zeros_like(clip), clip)


_TRANSFORMS = {
  "flip": _flip,
  "color.brightness": _brightness,
  "color.saturation": _saturation,
  "color.contrast": _contrast,
  "translation": _translation,
  "cutout": _cutout,
}
