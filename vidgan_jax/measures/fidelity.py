"""How near a clip is to its target: PSNR, SSIM, flicker, colour, texture.

NumPy in float64, one clip at a time: (T, H, W, C) in [-1, 1], and a weight
(T, H, W, 1) or None that says which pixels count.
"""

import numpy as np
from scipy import ndimage

_SIDE = 7  # Of a patch, pixels.


def psnr(
  fake: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None
) -> float:
  """Peak signal to noise ratio of a clip, dB; at most 100, for equal clips.

    10 log10(2^2 / mean (fake - target)^2)

  over all frames, pixels and channels (RGB) that count; NaN if none does.
  """
  return _psnr(fake.astype(np.float64) - target, 2, weight)


def psnr_y(
  fake: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None
) -> float:
  """PSNR of the luma alone, dB, as papers on super-resolution give it.

  Y of BT.601 in its limited range, 16 to 235, against a peak of 255; unlike in
  some of them neither are levels rounded nor borders left out.
  """
  error = ycbcr(fake)[..., :1] - ycbcr(target)[..., :1]
  return _psnr(error, 255, weight)


def ssim(
  fake: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None
) -> float:
  """Structural similarity (Wang et al. 2004, eq. 13).

  Gaussian window of 11 x 11 pixels and sigma 1.5, K = 0.01, 0.03, each channel
  by itself; the mean over the windows that lie in the picture and whose centre
  counts. NaN for pictures smaller than the window.
  """
  if min(fake.shape[1:3]) < 11:
    return float("nan")
  x, y = ((v.astype(np.float64) + 1) / 2 for v in (fake, target))
  taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
  taps /= taps.sum()

  def blur(v):
    for axis in (1, 2):
      v = ndimage.correlate1d(v, taps, axis)
    return v[:, 5:-5, 5:-5]

  a, b = blur(x), blur(y)
  xx, yy, xy = blur(x * x) - a * a, blur(y * y) - b * b, blur(x * y) - a * b
  c1, c2 = 0.01**2, 0.03**2
  value = (2 * a * b + c1) * (2 * xy + c2)
  value /= (a * a + b * b + c1) * (xx + yy + c2)
  return _mean(value, None if weight is None else weight[:, 5:-5, 5:-5])


def temporal_error(
  fake: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None
) -> float:
  """Mean |(y_t+1 - y_t) - (x_t+1 - x_t)| in levels of 8 bits.

  What flickers or lags. It counts where either frame counts; NaN for a clip
  of one frame.
  """
  if weight is not None:
    weight = np.maximum(weight[1:], weight[:-1])
  step = lambda v: np.diff(v.astype(np.float64), axis=0)
  return 127.5 * _mean(abs(step(fake) - step(target)), weight)


# --------------------------------------------------------------------- colour


def ycbcr(video: np.ndarray) -> np.ndarray:
  """Luma and chroma of ITU-R BT.601, limited range, in levels of 8 bits.

  Args:
    video: (..., 3) RGB in [-1, 1].

  Returns:
    (..., 3) float64, not rounded: Y from 16 to 235, Cb and Cr from 16 to 240
    with grey at 128.
  """
  red, green, blue = np.moveaxis((video.astype(np.float64) + 1) / 2, -1, 0)
  luma = 0.299 * red + 0.587 * green + 0.114 * blue
  cb, cr = (blue - luma) / 1.772, (red - luma) / 1.402
  return np.stack([16 + 219 * luma, 128 + 224 * cb, 128 + 224 * cr], -1)


def chroma_error(
  fake: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None
) -> float:
  """Mean |error| of Cb and Cr (see `ycbcr`), levels."""
  return _mean(abs(_chroma(fake) - _chroma(target)), weight)


def psnr_chroma(
  fake: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None
) -> float:
  """PSNR of Cb and Cr together (see `ycbcr`), dB, for a peak of 255."""
  return _psnr(_chroma(fake) - _chroma(target), 255, weight)


def temporal_chroma(
  fake: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None
) -> float:
  """`temporal_error` of Cb and Cr (see `ycbcr`): flickering colours, levels."""
  colours = (2 / 255 * _chroma(v) - 1 for v in (fake, target))
  return temporal_error(*colours, weight)


def _chroma(video: np.ndarray) -> np.ndarray:
  return ycbcr(video)[..., 1:]


def _psnr(error: np.ndarray, peak: float, weight: np.ndarray | None) -> float:
  share = _mean(np.square(error / peak), weight)
  return float(-10 * np.log10(np.maximum(share, 1e-10)))


def _mean(error: np.ndarray, weight: np.ndarray | None) -> float:
  if not error.size:
    return float("nan")
  if weight is None:
    return float(error.mean())
  total = weight.sum(dtype=np.float64) * error.shape[-1]
  return float((error * weight).sum() / total) if total else float("nan")


# -------------------------------------------------------------------- texture


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
  found = []
  for level in _pyramid(video.astype(np.float64)):
    h, w = level.shape[1:3]
    # The centres of the patches that fit, at this level's size.
    there = counts[:, :h, :w][:, 3 : h - 3, 3 : w - 3]
    places = np.argwhere(there)
    if len(places):
      places = places[rng.integers(0, len(places), count)]
      windows = np.lib.stride_tricks.sliding_window_view(
        level, (_SIDE, _SIDE), (1, 2)
      )
      found.append(windows[tuple(places.T)].reshape(count, -1))
    else:
      found.append(np.zeros((0, _SIDE**2 * video.shape[-1])))
    # A coarse pixel counts where one of its fine ones does.
    pad = [(0, 0), (0, h % 2), (0, w % 2)]
    counts = np.pad(counts, pad).reshape(len(counts), -(-h // 2), 2, -1, 2)
    counts = counts.any((2, 4))
  return found


def _pyramid(video: np.ndarray) -> list[np.ndarray]:
  """Bands of the Laplacian pyramid (Burt and Adelson 1983), to 16 pixels.

  Without the small picture that is left: brightness is no texture.
  """
  taps = np.array([1, 4, 6, 4, 1]) / 16

  def blur(v):
    for axis in (1, 2):
      v = ndimage.correlate1d(v, taps, axis, mode="mirror")
    return v

  levels = []
  while min(video.shape[1:3]) >= 16:
    small = blur(video)[:, ::2, ::2]
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
  so that contrast lost to blur is seen. No network is needed; blurred texture
  costs much although its PSNR is good. Lower is better, 0 for equal sets.

  Args:
    fake: (n, D) a level, from `descriptors`, of all clips.
    target: the same of the targets, n alike.
    seed: of the directions.
    directions: how many.
  """
  rng = np.random.default_rng(seed)
  values = []
  for a, b in zip(fake, target, strict=True):
    if not len(b):
      continue
    mean, deviation = b.mean(), b.std() + 1e-12
    way = rng.standard_normal((a.shape[1], directions))
    way /= np.linalg.norm(way, axis=0)
    gap = np.sort((a - mean) / deviation @ way, 0)
    gap -= np.sort((b - mean) / deviation @ way, 0)
    values.append(abs(gap).mean())
  return 1000 * float(np.mean(values)) if values else float("nan")
