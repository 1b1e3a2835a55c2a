"""Texture: patches of the Laplacian pyramid, and how far two sets are apart.

The sliced Wasserstein distance of Karras et al. 2018 needs no network; blurred
texture costs much although its PSNR is good. NumPy in float64.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from vidgan_jax import errors
from vidgan_jax.measures import intervals

_SIDE = 7  # pixels of a patch


def descriptors(
  video: np.ndarray, weight: np.ndarray | None, seed: int, count: int = 256
) -> list[np.ndarray]:
  """Patches of 7 x 7 pixels from every level of the Laplacian pyramid.

  Args:
    video: (T, H, W, C).
    weight: patches are taken where their centre counts.
    seed: of the places; the same seed, shape and weight give the same places.
    count: patches a level.

  Returns:
    One array (count, 7 * 7 * C) a level, finest first; empty where nothing
    counts. No level for pictures below 16 pixels.
  """
  rng = np.random.default_rng(seed)
  counts = np.ones(video.shape[:3], bool)
  if weight is not None:
    counts = weight[..., 0] > 0
  levels = []
  for level in _pyramid(video.astype(np.float64)):
    h, w = level.shape[1:3]
    # The centres of the patches that fit, at this level's size.
    centres = counts[:, :h, :w][:, 3 : h - 3, 3 : w - 3]
    places = np.argwhere(centres)
    if len(places):
      places = places[rng.integers(0, len(places), count)]
      windows = np.lib.stride_tricks.sliding_window_view(
        level, (_SIDE, _SIDE), (1, 2)
      )
      levels.append(windows[tuple(places.T)].reshape(count, -1))
    else:
      levels.append(np.zeros((0, _SIDE**2 * video.shape[-1])))
    # A coarse pixel counts where one of its fine ones does.
    pad = [(0, 0), (0, h % 2), (0, w % 2)]
    counts = np.pad(counts, pad).reshape(len(counts), -(-h // 2), 2, -1, 2)
    counts = counts.any((2, 4))
  return levels


def _pyramid(video: np.ndarray) -> list[np.ndarray]:
  """Bands of the Laplacian pyramid (Burt and Adelson 1983), to 16 pixels.

  The last low-pass level is dropped: it is brightness, not texture.
  """
  taps = np.array([1, 4, 6, 4, 1]) / 16

  def blur(v):
    for axis in (1, 2):
      v = ndimage.correlate1d(v, taps, axis, mode="mirror")
    return v

  levels = []
  while min(video.shape[1:3]) >= 16:
    small = blur(video)[:, ::2, ::2]
    # Enlarged by zeros between the pixels and the same blur; 4 keeps the mean.
    large = np.zeros_like(video)
    large[:, ::2, ::2] = 4 * small
    levels.append(video - blur(large))
    video = small
  return levels


def sliced_wasserstein(
  fake: list[np.ndarray],
  target: list[np.ndarray],
  seed: int = 0,
  directions: int = 256,
) -> float:
  """1000 times the distance of two sets of patches, the mean of their levels.

  Karras et al. 2018, section 5: patches as points are projected on random
  directions and their order statistics compared, mean |sort(a) - sort(b)|.
  Unlike there both sets are scaled by the deviation of the *target's* patches,
  so that contrast lost to blur is seen. Lower is better, 0 for equal sets.

  Args:
    fake: (n, D) a level, from `descriptors`, of all clips.
    target: the same of the targets, n alike.
    seed: of the directions.
    directions: how many.
  """
  rng = np.random.default_rng(seed)
  values = []
  for a, b in zip(fake, target, strict=True):
    if not len(b):  # Nothing counts on this level.
      continue
    mean, deviation = b.mean(), b.std() + 1e-12
    way = rng.standard_normal((a.shape[1], directions))
    way /= np.linalg.norm(way, axis=0)
    gap = np.sort((a - mean) / deviation @ way, 0)
    gap -= np.sort((b - mean) / deviation @ way, 0)
    values.append(abs(gap).mean())
  return 1000 * float(np.mean(values)) if values else float("nan")


def distance(
  fake: Sequence[np.ndarray],
  real: Sequence[np.ndarray],
  *,
  patches: int = 16_384,
  frames: int = 8,
  seed: int = 0,
  parts: int = 8,
) -> intervals.Estimate:
  """`sliced_wasserstein` of two sets of clips, with its interval over clips.

  The patches of a level come from all clips alike. For the interval each of
  some disjoint parts of the clips has a distance as well. They rest on fewer
  clips, so that their deviation is larger than that of the whole by the root of
  their number (batch means, Conway 1963).

  Args:
    fake: clips (T, H, W, 3), uint8 or in [-1, 1]; they are read once.
    real: the same; as many or not, but of the same size.
    patches: of each set, a level.
    frames: of each clip, at most, taken at random.
    seed: of frames, places and directions.
    parts: at most; a part has two clips of each set at least. The ends are NaN
      for fewer than 3 parts.
  """
  parts = min(parts, len(fake) // 2, len(real) // 2)
  (a, of_a), (b, of_b) = (
    _patches(clips, patches, frames, seed) for clips in (fake, real)
  )
  if not a or len(a) != len(b):
    raise errors.UserError(
      f"swd: pyramids of {len(a)} and {len(b)} levels; give clips of the same "
      "size, at least 16 x 16 pixels."
    )
  value = sliced_wasserstein(a, b, seed)
  if parts < 3:
    return intervals.Estimate(value=value, low=np.nan, high=np.nan, bias=np.nan)
  values = []
  for i in range(parts):
    rows = [np.flatnonzero(clips % parts == i) for clips in (of_a, of_b)]
    count = min(map(len, rows))  # As many patches of each, all but a few.
    levels = (
      [level[index[:count]] for level in patches]
      for patches, index in zip((a, b), rows)
    )
    values.append(sliced_wasserstein(*levels, seed))
  variance = np.var(values, ddof=1) / parts
  return intervals.from_variance(value, variance, np.nan, parts)


def _patches(clips, patches, frames, seed):
  """(patches, D) a level, as many from each clip or +- 1, and (patches,) whose.

  Clips are numbered at random there: their order may have a period.
  """
  counts = np.diff(np.linspace(0, patches, len(clips) + 1).astype(int))
  number = np.random.default_rng(seed).permutation(len(clips))
  taken = []
  for i, (clip, count) in enumerate(zip(clips, counts)):
    rng = np.random.default_rng((seed, i))
    video = np.asarray(clip)[rng.permutation(len(clip))[:frames]]
    if not np.isfinite(video).all():
      raise errors.UserError(f"swd: clip {i} has pixels that are not finite.")
    if video.dtype == np.uint8:
      video = video / 127.5 - 1
    place = int(rng.integers(2**31))
    taken.append(descriptors(video, None, place, int(count)))
  levels = [np.concatenate(level) for level in zip(*taken)]
  return levels, np.repeat(number, counts)
