"""Near copies: what a generator repeats of its training clips.

Every generated clip is held against the nearest training clip, in two spaces:
that of a network's features (`neighbours.nearest`) and that of perceptual
hashes (`hashes`, `nearest_hash`). How near is too near is not a number that one
could know beforehand: real clips that were *not* trained on are held against
the training clips in the same way, and what generated clips do beyond them is
memory. Held-out clips must be of other scenes: cut by source video.
"""

from collections.abc import Iterable

import numpy as np

from vidgan_jax import errors
from vidgan_jax import pixels

_SIDE = 32  # of the picture that is hashed
_BITS = 64


def threshold(
  fake: np.ndarray, held_out: np.ndarray, share: float = 0.05
) -> float:
  """The distance below which a generated clip is a near copy.

  Args:
    fake: (N,) distances of generated clips to the nearest training clip.
    held_out: (M,) of real clips that were not trained on, M >= 1 / share.
    share: of held-out clips that may be below the threshold, at most.
  """
  if len(held_out) < 1 / share:
    raise errors.UserError(
      f"near_copies: {len(held_out)} held-out clips tell no share of {share}; "
      f"give at least {int(np.ceil(1 / share))}."
    )
  if not len(fake) or not np.isfinite([*fake, *held_out]).all():
    raise ValueError(
      f"near_copies: {len(fake)} distances of generated clips, and all must be "
      "finite."
    )
  # A distance that was seen, and strictly below it: hashes have many ties.
  distance = np.quantile(held_out, share, method="inverted_cdf")
  if distance <= 0:
    raise errors.UserError(
      f"near_copies: {share:.0%} of the held-out clips are in the training "
      "set: split the data by source video."
    )
  return float(distance)


def nearer(fake: np.ndarray, held_out: np.ndarray) -> float:
  """How probably a generated clip is nearer to training than a held-out one.

  Half without memory (the Mann-Whitney statistic of Meehan et al. 2020); below
  half, generated clips lie beside the data.

  Args:
    fake: (N,) distances, see `threshold`.
    held_out: (M,) likewise.
  """
  before = np.searchsorted(np.sort(held_out), fake, "left")
  after = np.searchsorted(np.sort(held_out), fake, "right")
  return float(1 - (before + after).mean() / (2 * len(held_out)))


def hashes(videos: Iterable[np.ndarray], keys: int = 4) -> np.ndarray:
  """Perceptual hashes of key frames (Zauner 2010, pHash): (N, keys, 64) bool.

  The luma of each key frame, shrunk to 32 x 32; of its DCT the 8 x 8 lowest
  frequencies after the constant row and column, each above their median or
  not. It hardly changes with size, brightness, contrast, noise or a codec.

  Args:
    videos: clips (T, H, W, 3) uint8, of any length and size.
    keys: frames of a clip, at equal distances, the first and the last included.
  """
  basis = _dct(_SIDE)[1:9]
  rows = []
  for video in videos:
    times = np.linspace(0, len(video) - 1, keys).round().astype(int)
    frames = np.asarray(video)[times].astype(np.float32)
    luma = frames @ np.array([0.299, 0.587, 0.114], np.float32)
    small = pixels.resize(luma[..., None], _SIDE, _SIDE)[..., 0]
    low = (basis @ small @ basis.T).reshape(keys, _BITS)
    rows.append(low > np.median(low, 1, keepdims=True))
  return np.array(rows)


def nearest_hash(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The nearest clip by its hashes, whatever the offset in time.

  The distance of a clip x to a clip y: the bits in which a key frame of x
  differs from the nearest key frame of y, the mean over those of x; 0 to 64.
  Of unlike pictures about 32.

  Args:
    x: (N, K, 64) bool, from `hashes`.
    y: (M, L, 64) of the training clips.

  Returns:
    The distance (N,) and the number of the nearest y (N,).
  """
  distance, index = [], []
  for bits in _bits(x, y):
    bits = bits.mean(0)
    index.append(bits.argmin())
    distance.append(bits.min())
  return np.array(distance, np.float64), np.array(index)


def drifts(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """How clearly the nearest training clip changes within each clip, bits (N,).

    d_start(b) - d_start(a) + d_end(a) - d_end(b)

  d: the mean bits in which the key frames of the clip's first half, or of its
  second, differ from the nearest key frame of a training clip; a is the
  training clip nearest to the start, b the one nearest to the end. 0 where they
  are the same; a face that becomes another one within the clip has many.

  Args:
    x: (N, K, 64) bool, from `hashes`, K at least 2.
    y: (M, L, 64) of the training clips.
  """
  out = []
  for bits in _bits(x, y):
    half = len(bits) // 2
    start, end = bits[:half].mean(0), bits[-half:].mean(0)
    a, b = start.argmin(), end.argmin()
    out.append(start[b] - start[a] + end[a] - end[b])
  return np.array(out, np.float64)


def _bits(x, y):
  """Yields for each x the bits (K, M) from each key frame to each clip y."""
  sign = lambda bits: np.where(bits, np.float32(1), np.float32(-1))
  flat = sign(y).reshape(-1, _BITS).T
  for clip in sign(x):
    # The product of two signs is 1 where the bits agree and -1 elsewhere.
    alike = (clip @ flat).reshape(len(clip), *y.shape[:2])
    yield (_BITS - alike.max(2)) / 2


def _dct(size: int) -> np.ndarray:
  """The orthonormal DCT-II (size, size), a row a frequency."""
  k, x = np.mgrid[:size, :size]
  rows = np.sqrt(2 / size) * np.cos(np.pi * k * (x + 0.5) / size)
  rows[0] /= np.sqrt(2)
  return rows
