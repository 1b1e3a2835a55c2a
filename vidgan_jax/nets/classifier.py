"""Two small networks that learn to tell generated clips from real ones.

The one sees single frames and nothing of their order. The other sees what
changes from frame to frame, small and without colour, and nothing of a picture
that stands still. So what each of them learns says whether it is the
appearance or the motion that gives a generator away.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vidgan_jax import errors
from vidgan_jax import pixels

VERSION = "classifier-1"  # Changes with anything that changes the logits.
LEAST = 16  # pixels to a side
_FRAME, _MOTION = 64, 24  # pixels of the shorter side that each looks at
_NOISE = 0.05  # of 2: what the eye passes over gives nobody away
_LOOKS = 4  # frames of a clip that are asked when it is judged
_RATE, _DECAY = 3e-3, 1e-2  # of AdamW


class Frames(nn.Module):
  """Frame -> logit, above 0 where it seems generated; 47,000 parameters."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """(N, H, W, 3) in [-1, 1] -> (N,)."""
    # Fine detail is small beside the light of a frame: it is shown by itself.
    fine = x - nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)
    x = folded(jnp.concatenate([x, 4 * fine], -1))
    for width in (24, 48, 72):
      x = nn.leaky_relu(nn.Conv(width, (3, 3))(x), 0.2)
      x = halved(x)
    return _logit(x)


class Motion(nn.Module):
  """What changes -> logit likewise; 30,000 parameters."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """(N, T - 1, H, W) differences of frames -> (N,)."""
    n, t = x.shape[:2]
    x = folded(x.reshape(n * t, *x.shape[2:], 1))
    for width in (16, 32, 48):
      x = nn.leaky_relu(nn.Conv(width, (3, 3))(x), 0.2)
      clip = x.reshape(n, t, *x.shape[1:])
      # With its neighbours in time; the ends are their own.
      before = jnp.concatenate([clip[:, :1], clip[:, :-1]], 1)
      after = jnp.concatenate([clip[:, 1:], clip[:, -1:]], 1)
      y = nn.Dense(width)(jnp.concatenate([before, clip, after], -1))
      x = halved(nn.leaky_relu(y, 0.2).reshape(x.shape))
    return _logit(x.reshape(n, -1, *x.shape[2:]))


def folded(x: jax.Array) -> jax.Array:
  """(N, H, W, C) -> (N, H // 2, W // 2, 4 C): half the size at no loss."""
  n, h, w, c = x.shape
  x = x[:, : h // 2 * 2, : w // 2 * 2]
  x = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(n, h // 2, w // 2, 4 * c)


def halved(x: jax.Array) -> jax.Array:
  """The mean of each 2 x 2 square."""
  n, h, w, c = x.shape
  x = x[:, : h // 2 * 2, : w // 2 * 2]
  return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


def _logit(x: jax.Array) -> jax.Array:
  """(N, H, W, C) -> (N,), of the mean and the deviation of each channel."""
  mean = x.mean((1, 2))
  # The root of the square keeps far from zero, where it is not smooth.
  spread = jnp.sqrt(jnp.square(x - mean[:, None, None]).mean((1, 2)) + 1e-6)
  return nn.Dense(1)(jnp.concatenate([mean, spread], -1))[:, 0]


NETWORKS = {"frame": Frames(), "motion": Motion()}


# --------------------------------------------------------------- what they see


def looks(videos: np.ndarray) -> dict[str, np.ndarray]:
  """What each network sees of clips.

  Args:
    videos: (N, T, H, W, 3) uint8.

  Returns:
    `frame`, (N, T, h, w, 3) uint8, at most 64 pixels to the shorter side; of
    more than one frame also `motion`, (N, T - 1, h, w) float32, the differences
    of frames of at most 24 pixels, in deviations of the brightness of a clip.
  """
  if min(videos.shape[2:4]) < LEAST:
    raise errors.UserError(
      f"Clips are {videos.shape[2]} x {videos.shape[3]} pixels; they are told "
      f"apart from {LEAST} x {LEAST} on."
    )
  frames = np.stack([pixels.to_bytes(_small(x, _FRAME)) for x in videos])
  if videos.shape[1] < 2:
    return {"frame": frames}
  return {"frame": frames, "motion": np.stack([*map(_changes, videos)])}


def _small(clip: np.ndarray, side: int) -> np.ndarray:
  """(T, H, W, 3) uint8 -> [-1, 1], the shorter side `side` pixels at most."""
  video, (height, width) = pixels.to_floats(clip), clip.shape[1:3]
  shrink = min(1.0, side / min(height, width))
  if shrink == 1:
    return video
  size = round(shrink * height), round(shrink * width)
  box = lambda x: (abs(x) <= 0.5).astype(np.float64)
  return pixels.resize(video, *size, box)


def _changes(clip: np.ndarray) -> np.ndarray:
  """Differences of the frames (T - 1, h, w), of any contrast alike."""
  luma = _small(clip, _MOTION) @ np.float32(pixels.LUMA["bt709"])
  return 2 * np.diff(luma, axis=0) / (luma.std() + 0.05)


# -------------------------------------------------------------------- learning


@functools.cache
def _training(name: str, steps: int):
  """What learns: key, x -> parameters, state; a step; and what judges."""
  network = NETWORKS[name]
  tx = optax.adamw(
    optax.cosine_decay_schedule(_RATE, steps), weight_decay=_DECAY
  )

  @jax.jit
  def init(key, x):
    params = network.init(key, _floats(x))
    return params, tx.init(params)

  @jax.jit
  def step(params, state, key, x, label):
    x = _floats(x)
    x += _NOISE * jax.random.normal(key, x.shape)

    def loss(params):
      logits = network.apply(params, x)
      return optax.sigmoid_binary_cross_entropy(logits, label).mean()

    updates, state = tx.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state

  return init, step, jax.jit(lambda p, x: network.apply(p, _floats(x)))


def _floats(x: jax.Array) -> jax.Array:
  return pixels.to_floats(x) if x.dtype == jnp.uint8 else x


def course(
  name: str,
  fake: np.ndarray,
  real: np.ndarray,
  others: np.ndarray,
  *,
  steps: int,
  batch: int,
  seed: int,
) -> np.ndarray:
  """Learns to tell two sets apart, and judges other clips on its way.

  The same for the same arguments and machine.

  Args:
    name: of a network.
    fake: (N, ...) what that network sees of generated clips, from `looks`.
    real: (M, ...) the same of real clips.
    others: (K, ...) the same of the clips that are judged.
    steps: of AdamW.
    batch: clips a step, half of them generated.
    seed: of everything random.

  Returns:
    Logits (4, K) after an eighth, a quarter, a half and all of the steps; above
    0 for what seems generated.
  """
  init, step, judge = _training(name, steps)
  rng, key = np.random.default_rng(seed), jax.random.key(seed)
  marks, logits = [-(-steps // n) for n in (8, 4, 2, 1)], []
  params = state = None
  for i in range(steps):
    chosen = [_draw(rng, x, batch // 2, name) for x in (fake, real)]
    x = np.concatenate(chosen)
    label = np.repeat(np.float32([1, 0]), len(x) // 2)
    if params is None:
      params, state = init(key, x)
    params, state = step(params, state, jax.random.fold_in(key, i), x, label)
    logits += [_judged(judge, params, others, name)] * marks.count(i + 1)
  return np.stack(logits)


def _draw(rng, clips, num, name):
  """So many clips, all before any comes again; of frames two of each."""
  order = [rng.permutation(len(clips)) for _ in range(-(-num // len(clips)))]
  chosen = np.concatenate(order)[:num]
  if name != "frame":
    return clips[chosen]
  chosen = np.repeat(chosen, 2)
  return clips[chosen, rng.integers(clips.shape[1], size=2 * num)]


def _judged(judge, params, clips, name, batch=32):
  """Logits (K,); of frames the mean over some of a clip."""
  if name == "frame":
    times = np.linspace(0, clips.shape[1] - 1, _LOOKS).round().astype(int)
    flat = clips[:, times].reshape(-1, *clips.shape[2:])
    logits = _judged(judge, params, flat, "")
    return logits.reshape(len(clips), _LOOKS).mean(1)
  padded = np.resize(np.arange(len(clips)), -(-len(clips) // batch) * batch)
  parts = padded.reshape(-1, batch)  # One shape compiles once.
  return np.concatenate([judge(params, clips[i]) for i in parts])[: len(clips)]
