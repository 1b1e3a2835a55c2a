"""A small network that learns what is seen at each pixel of real frames.

Shown generated frames, it says whether they show the label map that they were
made of. Half a million parameters; it learns in a minute or two of CPU time.
"""

from collections.abc import Callable
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vidgan_jax import errors
from vidgan_jax import pixels
from vidgan_jax.nets import classifier

VERSION = "segmenter-1"  # Changes with anything that changes the answers.
LEAST = 16  # pixels to a side
UNKNOWN = 255  # in a map: neither learnt nor judged
_WIDTHS = (24, 48, 96)  # channels at a half, a quarter and an eighth of a side
_RATE, _DECAY = 3e-3, 1e-2  # of AdamW
_NOISE = 0.05  # of 2
_LIGHT = 0.2  # of 2, how much lighter or darker a frame is learnt from


class Segmenter(nn.Module):
  """Frame -> logits of the classes at each pixel (Ronneberger et al. 2015)."""

  classes: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """(N, H, W, 3) in [-1, 1] -> (N, H, W, classes)."""
    n, h, w, _ = x.shape
    x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), "edge")
    x, levels = classifier.folded(x), []
    for width in _WIDTHS:
      x = _layer(width)(x)
      levels.append(x)
      x = classifier.halved(x)
    x = _layer(_WIDTHS[-1])(x)
    for width, beside in zip(_WIDTHS[::-1], levels[::-1]):
      size = *beside.shape[:3], x.shape[-1]
      x = jax.image.resize(x, size, "nearest")
      x = _layer(width)(jnp.concatenate([x, beside], -1))
    x = nn.Dense(4 * self.classes)(x)
    # The inverse of `folded`: (N, H / 2, W / 2, 4 K) -> (N, H, W, K).
    half = x.shape[1:3]
    x = x.reshape(n, *half, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, 2 * half[0], 2 * half[1], -1)[:, :h, :w]


def _layer(width: int) -> Callable[[jax.Array], jax.Array]:
  """A convolution of normalised features."""
  return nn.Sequential(
    [
      nn.Conv(width, (3, 3)),
      nn.GroupNorm(num_groups=8),
      functools.partial(nn.leaky_relu, negative_slope=0.2),
    ]
  )


def learn(
  frames: np.ndarray,
  maps: np.ndarray,
  classes: int,
  *,
  steps: int,
  batch: int = 16,
  seed: int = 0,
) -> Callable[[np.ndarray], np.ndarray]:
  """Learns from real frames; the same for the same arguments and machine.

  Args:
    frames: (N, H, W, 3) uint8.
    maps: (N, H, W) uint8, `UNKNOWN` where nothing is known.
    classes: numbers of the maps are below.
    steps: of AdamW.
    batch: frames of a step.
    seed: of everything random.

  Returns:
    Frames like those, (M, H, W, 3) uint8 -> (M, H, W) uint8, what is seen.

  Raises:
    UserError: the frames are too small.
  """
  if min(frames.shape[1:3]) < LEAST:
    raise errors.UserError(
      f"Frames are {frames.shape[1]} x {frames.shape[2]} pixels; what they show"
      f" is learnt from {LEAST} x {LEAST} on."
    )
  network = Segmenter(classes)
  tx = optax.adamw(optax.cosine_decay_schedule(_RATE, steps), 0.9, 0.99)
  # A class that covers a hundredth of the pixels counts a tenth of the whole.
  count = np.bincount(maps.ravel(), minlength=256)[:classes]
  weights = 1 / np.sqrt(np.maximum(count, 1))
  weights = jnp.asarray(weights * count.sum() / (weights * count).sum())

  @jax.jit
  def step(params, state, key, x, ids):
    light, noise, turn = jax.random.split(key, 3)
    x = pixels.to_floats(x)
    x += _LIGHT * jax.random.normal(light, (len(x), 1, 1, 1))
    x += _NOISE * jax.random.normal(noise, x.shape)
    mirror = jax.random.bernoulli(turn, shape=(len(x), 1, 1))
    x = jnp.where(mirror[..., None], x[:, :, ::-1], x)
    ids = jnp.where(mirror, ids[:, :, ::-1], ids).astype(jnp.int32)
    weight = jnp.where(
      ids == UNKNOWN, 0, weights[jnp.minimum(ids, classes - 1)]
    )

    def loss(params):
      logits = network.apply(params, x)
      each = optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.minimum(ids, classes - 1)
      )
      return (weight * each).mean()

    updates, state = tx.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state

  rng, key = np.random.default_rng(seed), jax.random.key(seed)
  params = jax.jit(network.init)(key, pixels.to_floats(frames[:1]))
  state = tx.init(params)
  order = np.concatenate(
    [
      rng.permutation(len(frames))
      for _ in range(-(-steps * batch // len(frames)))
    ]
  )
  for i in range(steps):
    chosen = order[i * batch : (i + 1) * batch]
    params, state = step(
      params, state, jax.random.fold_in(key, i), frames[chosen], maps[chosen]
    )
  asked = jax.jit(
    lambda x: (
      network.apply(params, pixels.to_floats(x)).argmax(-1).astype("uint8")
    )
  )

  def see(others):
    # One shape compiles once.
    padded = np.resize(np.arange(len(others)), -(-len(others) // batch) * batch)
    parts = padded.reshape(-1, batch)
    return np.concatenate([asked(others[i]) for i in parts])[: len(others)]

  return see
