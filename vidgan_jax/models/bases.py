"""Classical estimates that generators of a given clip start from.

`BASES[name](given, times, scale)` makes of what is given a clip of the
target's size; a generator adds a residual to it (Kim et al. 2016), so that
with a last layer of zeros it *is* the classical answer. All are local:
`HALO[name]` says how far they look, and `ALIGN[name]` on which grid, so that a
clip can be cut into tiles and chunks without a trace.

Letters: given['video'] (B, T, h, w, C) float32, of which given['mask']
(B, T, h, w, 1) says where it is unknown (1); no mask: nowhere. What no tile can
know, how bright the whole is, comes as given['vector'].
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax import errors
from vidgan_jax import pixels
from vidgan_jax.models import layers

FOREVER = 1 << 30  # A halo that no tile and no chunk has.
REACH = 8  # Frames to either side where `temporal` looks for a known one.
LEVELS = 5  # Halvings of the pyramid of `fill`.
_ROUNDS = 2  # Cells of its last level that it looks to either side.
_SMOOTH = (6, 4, 0, 0, 0)  # Times that it smooths a level, finest first.
_LOBES = 3  # Of the Lanczos kernel: pixels to either side.


# ------------------------------------------------------------------- in space


def copy(given: dict, times: jax.Array, scale: int = 1) -> jax.Array:
  """The given clip itself: noisy, blocky or grey."""
  del times
  if scale != 1:
    raise errors.UserError(
      f"The base 'copy' cannot enlarge {scale} times: set scale to 1, or base "
      "to 'lanczos'."
    )
  return given["video"].astype(jnp.float32)


def lanczos(given: dict, times: jax.Array, scale: int = 1) -> jax.Array:
  """Enlarges by Lanczos' kernel of three lobes (Duchon 1979).

    w(x) = sinc(x) sinc(x / 3), |x| < 3

  in source pixels from the target pixel's centre, normalised over the pixels
  that exist, as Pillow does.
  """
  del times
  x = given["video"].astype(jnp.float32)
  if scale == 1:
    return x
  # From the target pixels within one source pixel to the pixels around it.
  taps = np.arange(-_LOBES, _LOBES + 1)
  gap = taps[:, None] - ((np.arange(scale) + 0.5) / scale - 0.5)
  kernel = pixels.lanczos(gap, _LOBES)
  b, t, h, w, c = x.shape
  x = _enlarge(x.reshape(b * t, h, w * c), kernel)
  x = _enlarge(x.reshape(b * t * h * scale, w, c), kernel)
  return x.reshape(b, t, h * scale, w * scale, c)


def _enlarge(x: jax.Array, kernel: np.ndarray) -> jax.Array:
  """(N, size, n) -> (N, size * scale, n) by a kernel (taps, scale)."""
  n, size, rest = x.shape
  scale = kernel.shape[1]
  padded = np.pad(np.ones(size), _LOBES)
  windows = np.lib.stride_tricks.sliding_window_view(padded, len(kernel))
  x = jax.lax.conv_general_dilated(
    x[..., None],
    jnp.asarray(kernel[:, None, None], jnp.float32),
    (1, 1),
    ((_LOBES, _LOBES), (0, 0)),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    precision=jax.lax.Precision.HIGHEST,
  )
  x = x / jnp.asarray(windows @ kernel, jnp.float32)[:, None]
  return x.swapaxes(2, 3).reshape(n, size * scale, rest)


def fill(given: dict, times: jax.Array, scale: int = 1) -> jax.Array:
  """Fills the unknown from what is known around it.

  Push-pull (Gortler et al. 1996, section 3.4.2): means of the known pixels in
  ever larger cells, then from the largest down each cell mixes its own mean
  with the interpolated coarser one, by how much of it is known; the finest are
  then drawn towards the means of their neighbours, as heat spreads. Where a
  whole neighbourhood is unknown, as in a lost frame, the frames before and
  after stand in (`temporal`). Known pixels are kept exactly.
  """
  video, mask = copy(given, times, scale), given.get("mask")
  if mask is None:
    return video
  seen = given["spread"] if "spread" in given else spread("fill", given)
  mean = jnp.where(mask > 0, seen[..., :-1], video)
  return temporal({"video": mean, "mask": seen[..., -1:]}, times)


def spread(name: str, given: dict) -> jax.Array:
  """What 'fill' and 'paint' make of each frame by itself.

  It looks far within a frame, and at no other. Made of whole frames and cut
  like them, as given['spread'], it leaves windows a halo of 0 pixels.

  Args:
    name: of `SPREAD`.
    given: video (B, T, h, w, C), mask.

  Returns:
    (B, T, h, w, C + 1): the frames (of 'paint': half their colours) filled, in
    [-1, 1], and 1 where a whole neighbourhood is unknown.
  """
  mask = given["mask"]
  video = (_colours if name == "paint" else copy)(given, None)
  b, t, h, w, c = video.shape
  fold = lambda x: x.reshape(b * t, h, w, -1)
  # Beyond the right and the lower border all is unknown.
  cell = 2**LEVELS
  beyond = ((0, 0), (0, -h % cell), (0, -w % cell), (0, 0))
  weight = jnp.pad(1 - fold(mask).astype(jnp.float32), beyond)
  mean = jnp.pad(fold(video), beyond) * weight
  pyramid = [(mean, weight)]
  for _ in range(LEVELS):
    mean = layers.downsample(mean * weight)
    weight = layers.downsample(weight)
    mean = mean / jnp.maximum(weight, 1e-6)
    # Four cells each a quarter known make a cell that is known.
    weight = jnp.minimum(4 * weight, 1)
    pyramid.append((mean, weight))
  # Cells of which nothing is known look at those beside them.
  mean, weight = pyramid.pop()
  for _ in range(_ROUNDS):
    near = _around(weight)
    guess = _around(mean * weight) / jnp.maximum(near, 1e-6)
    mean = jnp.where(weight > 0, mean, guess)
    weight = jnp.where(weight > 0, weight, jnp.minimum(near, 1))
  lost = (weight == 0).astype(jnp.float32)
  for (fine, known), rounds in zip(pyramid[::-1], _SMOOTH[::-1]):
    mean = known * fine + (1 - known) * layers.upsample(mean)
    for _ in range(rounds):
      mean = known * fine + (1 - known) * _smooth(mean)
  lost = jnp.repeat(jnp.repeat(lost, cell, 1), cell, 2)
  return jnp.concatenate([mean, lost], -1)[:, :h, :w].reshape(b, t, h, w, -1)


def paint(given: dict, times: jax.Array, scale: int = 1) -> jax.Array:
  """Spreads the colours of hints; brightness stays as it is.

  The colour of a pixel is its difference from its luma, known where
  given['mask'] is 0, elsewhere made by `fill`; without any hint it is grey.
  """
  video, mask = copy(given, times, scale), given.get("mask")
  if mask is None:
    return video
  colours = fill(given | {"video": _colours(given, times)}, times)
  return luma(video) + 2 * colours


def _colours(given: dict, times: jax.Array) -> jax.Array:
  """Half the known pixels' differences from their luma, of others 0."""
  video = copy(given, times)
  return (video - luma(video)) / 2 * (1 - given["mask"])


def _smooth(x: jax.Array) -> jax.Array:
  """Means of the four neighbours, the border repeated: (N, H, W, C)."""
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
  rows = x[:, :-2, 1:-1] + x[:, 2:, 1:-1]
  return (rows + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]) / 4


def _around(x: jax.Array) -> jax.Array:
  """Sums over 3 x 3 cells: (N, H, W, C)."""
  for axis in (1, 2):
    size = x.shape[axis]
    beside = [(0, 0)] * 4
    beside[axis] = (1, 1)
    padded = jnp.pad(x, beside)
    x = sum(
      jax.lax.slice_in_dim(padded, k, k + size, axis=axis) for k in range(3)
    )
  return x


# -------------------------------------------------------------------- in time


def temporal(given: dict, times: jax.Array, scale: int = 1) -> jax.Array:
  """A straight line in time from the known frame before to the one after.

  Each pixel by itself. At the ends, and where one of the two is more than
  `REACH` frames away, it takes the other; where both are, it is left as given.
  """
  video, mask = copy(given, times, scale), given.get("mask")
  if mask is None:
    return video
  before, after, share = neighbours(video, mask, times)
  return jnp.where(mask > 0, before + share * (after - before), video)


def hold(given: dict, times: jax.Array, scale: int = 1) -> jax.Array:
  """The last known frame, held, each pixel by itself; before it: as given."""
  video, mask = copy(given, times, scale), given.get("mask")
  if mask is None:
    return video
  found, last = _last(mask == 0, video)
  return jnp.where(found, last, video)


def neighbours(
  video: jax.Array, mask: jax.Array, times: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """What is known before and after each pixel, within `REACH` frames.

  Args:
    video: (B, T, H, W, C).
    mask: (B, T, H, W, 1), 1 where it is unknown.
    times: (B, T) seconds.

  Returns:
    before, after: (B, T, H, W, C); known pixels are their own neighbours,
      and one that is missing is replaced by the other.
    share: (B, T, H, W, 1) of the way in time from before to after.
  """
  known = mask == 0
  clock = times[:, :, None, None, None]
  frame = jnp.arange(video.shape[1])[:, None, None, None]
  found = {}
  for reverse in (False, True):
    has, value, when, where = _last(known, video, clock, frame, reverse=reverse)
    found[reverse] = has & (abs(frame - where) <= REACH), value, when
  (has_past, past, start), (has_future, future, end) = found.values()
  before = jnp.where(has_past, past, jnp.where(has_future, future, video))
  after = jnp.where(has_future, future, before)
  both = has_past & has_future & (end > start)
  share = (clock - start) / jnp.where(both, end - start, 1)
  return before, after, jnp.where(both, share, 0)


def _last(known: jax.Array, *values: jax.Array, reverse: bool = False):
  """Carries `values` of the last known frame on in time (axis 1).

  Returns:
    Whether there is one, and its values.
  """

  def later(a, b):
    return [jnp.where(b[0], q, p) for p, q in zip(a, b)]

  wide = [jnp.broadcast_to(x, known.shape[:-1] + x.shape[-1:]) for x in values]
  return jax.lax.associative_scan(
    later, [known, *wide], reverse=reverse, axis=1
  )


# ------------------------------------------------------------------- in light


def luma(x: jax.Array) -> jax.Array:
  """Brightness (BT.709): (..., 3) -> (..., 1)."""
  shares = jnp.asarray(pixels.LUMA["bt709"], jnp.float32)
  return jnp.tensordot(x, shares, 1)[..., None]


def levels(given: dict, times: jax.Array, scale: int = 1) -> jax.Array:
  """Black and white of each frame put where those of good footage are.

  given['vector'] (B, T, 3 n) has quantiles of each channel, darkest first
  (`tasks.statistics`). The lowest and highest of all channels, moved out by
  their distances to the next ones, go to -0.8 and 0.8, so that colours keep
  their hue; few good frames reach from black to white.
  """
  x = copy(given, times, scale)
  if "vector" not in given or given["vector"].shape[-1] % 3:
    raise errors.UserError(
      "The base 'levels' needs given['vector'] with quantiles of the channels: "
      "choose a task that gives it, as enhance, or another "
      "config.model.generator.base."
    )
  q = given["vector"].astype(jnp.float32)
  q = q.reshape(*q.shape[:2], 3, -1)
  low, high = q.min((2, 3)), q.max((2, 3))
  low -= q[..., 1].min(-1) - low
  high += high - q[..., -2].max(-1)
  low, high = low[..., None, None, None], high[..., None, None, None]
  return 0.8 * (2 * (x - low) / jnp.maximum(high - low, 0.1) - 1)


def tone(x: jax.Array, curve: jax.Array) -> jax.Array:
  """The same curve for every pixel; of all zeros, the identity.

    z = (x + 1) / 2 - c0
    z = e^c2 z |z|^(e^c1 - 1) + c0 + c3
    luma + e^c4 (z - luma)

  so that c0 and c3 say where black was and is, c1 bends (gamma), c2 is the
  contrast and c4 the saturation.

  Args:
    x: (..., 3) in [-1, 1], but for a little.
    curve: (..., 5): one for all, (5,), or one for each frame or pixel.
  """
  curve = [curve[..., i : i + 1] for i in range(5)]
  start = (x + 1) / 2
  z = start - curve[0]
  # At 0 a root would have no slope.
  z *= jnp.maximum(abs(z), 1e-3) ** (jnp.exp(curve[1]) - 1)
  z = jnp.exp(curve[2]) * z + curve[0] + curve[3]
  z += (jnp.exp(curve[4]) - 1) * (z - luma(z))
  return x + 2 * (z - start)  # The identity is one to the last bit.


# ---------------------------------------------------------------------- table

BASES = {
  "copy": copy,
  "lanczos": lanczos,
  "fill": fill,
  "paint": paint,
  "temporal": temporal,
  "hold": hold,
  "levels": levels,
}

# The rounds, then one cell of each level and its smoothing.
_FILLED = (
  (_ROUNDS + 2) * 2**LEVELS
  - 2
  + sum(n * 2**level for level, n in enumerate(_SMOOTH))
)
# Pixels of the given clip, frames before, frames after.
HALO = {
  "copy": (0, 0, 0),
  "lanczos": (_LOBES, 0, 0),
  "fill": (_FILLED, REACH, REACH),
  "paint": (_FILLED, REACH, REACH),
  "temporal": (0, REACH, REACH),
  "hold": (0, FOREVER, 0),
  "levels": (0, 0, 0),
}

SPREAD = ("fill", "paint")  # See `spread`.

# Tiles begin at multiples of so many pixels.
ALIGN = dict.fromkeys(BASES, 1) | dict.fromkeys(SPREAD, 2**LEVELS)


def context(name: str, given: dict, times: jax.Array) -> jax.Array | None:
  """What a network should see of the clip beside the base and the mask.

  Where frames are missing, a line in time or a held frame hides how things
  move. These channels show it.

  Returns:
    'temporal' and 'fill': (B, T, H, W, 2C + 1), what is known before and after
    and the share of the way between them. 'hold': (B, T, H, W, C + 1), the
    known frame before the last one and the time since the last, in units of
    the time between the two (at most 10). Otherwise None.
  """
  if name not in ("temporal", "fill", "hold") or "mask" not in given:
    return None
  video, mask = copy(given, times), given["mask"]
  if name == "temporal":
    return jnp.concatenate(neighbours(video, mask, times), -1)
  if name == "fill":
    return jnp.concatenate(_beside(given, times), -1)
  known, clock = mask == 0, times[:, :, None, None, None]
  found, last, when = _last(known, video, clock)
  # At a known frame, what is carried is what was the last before it.
  delay = lambda x: jnp.concatenate([x[:, :1], x[:, :-1]], 1)
  _, previous, earlier = _last(known, delay(last), delay(when))
  two = found & (when > earlier)
  since = jnp.where(two, (clock - when) / jnp.where(two, when - earlier, 1), 0)
  return jnp.concatenate([previous, jnp.minimum(since, 10)], -1)


# Features of a pixel that say how the base moves, see `moved`.
MOTIONS = {"temporal": 5, "hold": 2, "fill": 6}


def moved(
  name: str, given: dict, times: jax.Array, x: jax.Array, reach: float
) -> jax.Array:
  """The base, made of known frames that were moved first.

  Args:
    name: of `MOTIONS`.
    given: video, mask.
    times: (B, T).
    x: (B, T, H, W, MOTIONS[name]), for each of the frames that are mixed where
      to look in it, (x, y); then how much more the later one counts; then, for
      'fill', how much of the mixture goes into the base. All zeros give the
      base.
    reach: the farthest look, in pixels.
  """
  video, mask = copy(given, times), given["mask"]
  if name == "hold":
    found, last = _last(mask == 0, video)
    return _look(jnp.where(found, last, video), x, reach)
  if name == "fill":
    before, after, share = _beside(given, times)
  else:
    before, after, share = neighbours(video, mask, times)
  later = share * jnp.exp(3 * jnp.tanh(x[..., 4:5]))
  share = later / (later + (1 - share))
  before = _look(before, x[..., :2], reach)
  mixed = before + share * (_look(after, x[..., 2:4], reach) - before)
  if name == "temporal":
    return mixed
  base = fill(given, times)
  return base + x[..., 5:] * (mixed - base)


def changing(given: dict, times: jax.Array, reach: float) -> jax.Array:
  """How much the known frames around a missing one differ, near each pixel.

  Returns:
    (B, T, H, W, 1) in [0, 1): x^2 / (x^2 + 0.3^2) of the largest difference x
    of any channel within `reach` pixels. As a Wiener filter's share of signal,
    with what a line in time leaves as the signal; 0 where nothing changes.
  """
  before, after, _ = neighbours(copy(given, times), given["mask"], times)
  x = abs(after - before).max(-1, keepdims=True)
  r = math.ceil(reach)
  for axis in (2, 3):
    size = [1] * 5
    size[axis] = 2 * r + 1
    # Beyond the border is -inf: only what exists is looked at.
    x = jax.lax.reduce_window(
      x, -jnp.inf, jax.lax.max, tuple(size), (1,) * 5, "SAME"
    )
  return x**2 / (x**2 + 0.3**2)


def _beside(given: dict, times: jax.Array) -> tuple:
  """`neighbours`, filled where a pixel is known at no time."""
  return neighbours(fill(given, times), given["mask"], times)


def _look(video: jax.Array, x: jax.Array, reach: float) -> jax.Array:
  """Each pixel of a clip from at most `reach` pixels away."""
  fold = lambda y: y.reshape(-1, *y.shape[2:])
  return layers.warp(fold(video), reach * jnp.tanh(fold(x))).reshape(
    video.shape
  )
