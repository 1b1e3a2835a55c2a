"""A small network that learns its features from the data set itself.

No labels and no weights from elsewhere: it is taught by three games whose
answers are known. Are the frames of a clip in order, reversed or shuffled
(Misra et al. 2016; Lee et al. 2017)? At what speed does it play (Benaim et al.
2020)? Which two crops are of the same clip (Chen et al. 2020, NT-Xent, eq. 1)?
A distance on such features sees appearance and motion of *this* data set; it
can be compared only within the same features, never with FVD.

Frames are folded into the batch for 2-D convolutions, and mixed with their
neighbours in time by dense layers: quick on a CPU.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import functools
import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vidgan_jax import errors
from vidgan_jax import pixels

VERSION = "selfnet-1"  # Changes with anything that changes the features.
WIDTHS = (32, 64, 96, 128)
SIZE = 2 * sum(WIDTHS)  # Length of the feature vector.
ORDERS = ("forward", "reversed", "shuffled")
SPEEDS = (1, 2, 4)
LEAST = 4  # Frames of a clip, at least.
_CROP = 64  # Pixels of a crop in training, at most.
_TEMPERATURE = 0.2  # Of NT-Xent.


class Network(nn.Module):
  """Clip -> features; 0.3 million parameters."""

  @nn.compact
  def __call__(self, video: jax.Array) -> jax.Array:
    """Features of clips.

    Args:
      video: (B, T, H, W, 3) float32 in [-1, 1], H and W at least 16. What
        exceeds a multiple of 16 pixels is left out at right and bottom.

    Returns:
      (B, SIZE): the mean and the standard deviation of every channel of every
      stage over time and space.
    """
    b, t, h, w, c = video.shape
    # Pixels of a 2 x 2 square become channels: half the size at no loss.
    x = video[:, :, : h // 2 * 2, : w // 2 * 2]
    x = x.reshape(b * t, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    x, features = x.reshape(b * t, h // 2, w // 2, 4 * c), []
    dense = {"kernel_init": nn.initializers.he_normal(), "precision": "highest"}
    for i, width in enumerate(WIDTHS):
      if i:
        n, h, w, c = x.shape
        x = x[:, : h // 2 * 2, : w // 2 * 2]
        x = x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
      x = nn.leaky_relu(nn.Conv(width, (3, 3), **dense)(x), 0.2)
      clip = x.reshape(b, t, *x.shape[1:])
      # The ends are their own neighbours, so that a still clip has no ends.
      before = jnp.concatenate([clip[:, :1], clip[:, :-1]], 1)
      after = jnp.concatenate([clip[:, 1:], clip[:, -1:]], 1)
      y = jnp.concatenate([before, clip, after], -1)
      clip += nn.leaky_relu(nn.Dense(width, **dense)(y), 0.2)
      clip *= 0.5**0.5  # The sum of two is no larger than each.
      x = clip.reshape(x.shape)
      mean = clip.mean((1, 2, 3), keepdims=True)
      # The root of the square keeps far from zero, where it is not smooth.
      std = jnp.sqrt(jnp.square(clip - mean).mean((1, 2, 3)) + 1e-6)
      features += [mean[:, 0, 0, 0], std]
    return jnp.concatenate(features, -1)


class Games(nn.Module):
  """Clip -> logits of its order and its speed, and a point on a sphere."""

  @nn.compact
  def __call__(self, video):
    """(B, T, H, W, 3) -> (B, orders), (B, speeds), (B, 64) of length 1."""
    x = Network(name="network")(video)
    # What the clips of a batch share says nothing; `apply` takes off what all
    # clips share.
    x = (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-6)
    order = nn.Dense(len(ORDERS))(nn.relu(nn.Dense(128)(x)))
    speed = nn.Dense(len(SPEEDS))(nn.relu(nn.Dense(128)(x)))
    point = nn.Dense(64)(nn.relu(nn.Dense(128)(x)))
    point /= jnp.sqrt(jnp.square(point).sum(-1, keepdims=True) + 1e-12)
    return order, speed, point


def apply(params: Any, video: jax.Array) -> jax.Array:
  """Features in standard deviations of the clips that they were learnt from.

  Args:
    params: from `fit`.
    video: (B, T, H, W, 3) uint8.

  Returns:
    (B, SIZE) float32.
  """
  video = pixels.to_floats(video)
  x = Network().apply({"params": params["network"]}, video)
  return (x - params["mean"]) / params["scale"]


def fit(
  source: Any, *, steps: int, batch: int, seed: int
) -> tuple[dict[str, Any], dict[str, float]]:
  """Learns the features; the same for the same arguments and machine.

  Args:
    source: clips: `len` and `read(indices)` -> dicts with `video`
      (T, H, W, 3) uint8, all of one shape.
    steps: of Adam.
    batch: clips a step, at most all; two views are cut from each.
    seed: of everything random.

  Returns:
    Parameters for `apply`, NumPy; and the losses and shares of right answers,
    means over the last tenth of the steps.

  Raises:
    ValueError: clips are too few, too short, too small or not alike, or the
      losses are not finite.
  """
  if len(source) < 4 or steps < 1:
    raise errors.UserError(
      f"Features are learnt from at least 4 clips in at least 1 step, not from "
      f"{len(source)} in {steps}."
    )
  batch = min(batch, len(source))
  if batch < 2:
    raise errors.UserError(
      f"A batch of {batch} has nothing to tell apart; take 32."
    )
  shape = np.shape(read(source, [0])[0])
  init, step = _training(steps)
  pairs = views(source, shape, steps, batch, seed)
  first = next(pairs)
  params, state = init(jax.random.key(seed), first["video"])
  history = []
  for view in itertools.chain([first], pairs):
    params, state, figures = step(params, state, view)
    history.append(figures)
  last = jax.device_get(history[-max(1, steps // 10) :])
  figures = {key: float(np.mean([t[key] for t in last])) for key in last[0]}
  figures["speed_chance"] = 1 / len(_pace(shape[0])[1])
  if not all(map(np.isfinite, figures.values())):
    raise errors.UserError(
      f"Learning features diverged: {figures}. Take another seed, or look for "
      "damaged clips."
    )
  network = jax.device_get(params["params"]["network"])
  return _standard(network, source, batch, seed), figures


def read(source: Any, indices: Sequence[int]) -> np.ndarray:
  """Clips of a source, (n, T, H, W, 3) uint8, checked."""
  clips = [np.asarray(example["video"]) for example in source.read(indices)]
  shapes = {clip.shape for clip in clips}
  shape = clips[0].shape
  if len(shapes) > 1:
    raise errors.UserError(
      f"Clips of the sizes {sorted(shapes)} (T, H, W, C) do not go together: "
      "cut them to one size, with the ops of the data set."
    )
  if (
    len(shape) != 4
    or shape[0] < LEAST
    or min(shape[1:3]) < 16
    or shape[3] != 3
    or clips[0].dtype != np.uint8
  ):
    raise errors.UserError(
      f"Clips are {shape} {clips[0].dtype}; features are learnt from "
      f"(T, H, W, 3) uint8 of at least {LEAST} frames and 16 x 16 pixels."
    )
  return np.stack(clips)


# ---------------------------------------------------------------------- games


@functools.cache
def _training(steps):
  """(key, video) -> parameters, state; and the step."""
  games, tx = Games(), optax.adam(optax.cosine_decay_schedule(1e-3, steps))

  @jax.jit  # Op by op it would take as long as many steps.
  def init(key, video):
    params = games.init(key, video)
    return params, tx.init(params)

  @jax.jit
  def step(params, state, view):
    (_, figures), grads = jax.value_and_grad(_loss, has_aux=True)(
      params, games, view
    )
    updates, state = tx.update(grads, state)
    return optax.apply_updates(params, updates), state, figures

  return init, step


def _loss(params, games, view):
  """The sum of the three games' losses; each, and shares of right answers."""
  order, speed, point = games.apply(params, view["video"])
  losses = {
    "order": _entropy(order, view["order"]),
    "speed": _entropy(speed, view["speed"]),
    "contrast": nt_xent(point),
  }
  figures = losses | {
    "order_right": jnp.mean(order.argmax(-1) == view["order"]),
    "speed_right": jnp.mean(speed.argmax(-1) == view["speed"]),
  }
  return sum(losses.values()), figures


def _entropy(logits, label):
  return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()


def nt_xent(points: jax.Array) -> jax.Array:
  """Tells the partner from all others (Chen et al. 2020, equation 1).

    - log exp(z_i . z_j / tau) / sum over k != i of exp(z_i . z_k / tau)

  Args:
    points: (2 B, D) of length 1; i and i + B are partners.
  """
  num = len(points)
  logits = jnp.dot(points, points.T, precision="highest") / _TEMPERATURE
  logits = jnp.where(jnp.eye(num, dtype=bool), -1e9, logits)
  return _entropy(logits, (jnp.arange(num) + num // 2) % num)


def views(source, shape, steps, batch, seed) -> Iterator[dict[str, Any]]:
  """Yields two views of each of `batch` clips, for every step.

  `video` (2 B, t, h, w, 3) float32, the views of clip i at i and i + B; `order`
  (2 B,) a number of ORDERS and `speed` (2 B,) one of SPEEDS.
  """
  total, height, width, _ = shape
  frames, speeds = _pace(total)
  tall, wide = (min(max(16, side * 3 // 4), _CROP) for side in (height, width))
  for step in range(steps):
    rng = np.random.default_rng((seed, step))
    clips = read(source, rng.choice(len(source), batch, replace=False))
    video = np.empty((2 * batch, frames, tall, wide, 3), np.float32)
    order = rng.integers(len(ORDERS), size=2 * batch)
    speed = rng.integers(len(speeds), size=2 * batch)
    for i in range(2 * batch):
      # A place for the view's first frame and upper left corner, at which it
      # lies in the clip.
      span = speeds[speed[i]] * (frames - 1) + 1
      t, y, x = (
        rng.integers(have - want + 1)
        for have, want in zip(shape, (span, tall, wide))
      )
      times = t + speeds[speed[i]] * _order(rng, order[i], frames)
      video[i] = clips[i % batch][times, y : y + tall, x : x + wide]
    # Another light: crops must not be matched by their mean alone.
    gain = rng.uniform(0.9, 1.1, (2 * batch, 1, 1, 1, 1))
    light = rng.uniform(-0.1, 0.1, (2 * batch, 1, 1, 1, 3))
    video = gain * (video / 127.5 - 1) + light
    yield {
      "video": video.astype(np.float32),
      "order": order.astype(np.int32),
      "speed": speed.astype(np.int32),
    }


def _pace(total):
  """Frames of a view, and the speeds at which a clip has so many.

  Few enough for four times the speed, but four at least; short clips have fewer
  speeds.
  """
  frames = min(max(total // SPEEDS[-1], LEAST), 16)
  return frames, [s for s in SPEEDS if s * (frames - 1) < total]


def _order(rng, order, frames):
  """Places (frames,) in the order of that number; shuffled ones run no way."""
  places = np.arange(frames)
  if ORDERS[order] == "reversed":
    return places[::-1]
  while ORDERS[order] == "shuffled":
    shuffled = rng.permutation(frames)
    steps = np.diff(shuffled)
    if not (steps > 0).all() and not (steps < 0).all():
      return shuffled
  return places


_run = jax.jit(apply)


def _standard(network, source, batch, seed):
  """Parameters with the mean and the deviation of each feature."""
  zero = {"network": network, "mean": np.float32(0), "scale": np.float32(1)}
  rng = np.random.default_rng((seed, 2**32 - 1))
  chosen = rng.permutation(len(source))[:256]
  parts = []
  for start in range(0, len(chosen), batch):
    part = chosen[start : start + batch]
    full = np.resize(part, batch)  # One shape compiles once.
    parts.append(np.asarray(_run(zero, read(source, full)))[: len(part)])
  x = np.concatenate(parts).astype(np.float64)
  scale = x.std(0)
  # A feature that hardly varies among real clips must not count without end.
  scale = np.maximum(scale, 0.1 * np.median(scale) + 1e-6)
  return {
    "network": network,
    "mean": x.mean(0).astype(np.float32),
    "scale": scale.astype(np.float32),
  }
