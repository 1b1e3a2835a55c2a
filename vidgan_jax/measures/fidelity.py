"""How near a clip is to its target: PSNR, SSIM, flicker, colour.

Two aligned clips (T, H, W, 3), RGB, both uint8 or both in [-1, 1], and a weight
(T, H, W, 1) or None that says which pixels count. NumPy in float64. A clip of
bytes may be long and lie on the disk: where no pixel is weighted, it is read
frame by frame, and memory is that of the clip as it came.
"""

from collections.abc import Callable
from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from vidgan_jax import errors
from vidgan_jax import pixels

WINDOW = 11  # pixels of a side of SSIM's window
SMALLEST = 161  # pixels of a side for MS-SSIM: a window on its coarsest scale
# Wang et al. 2003, section 3.2: exponents, finest scale first.
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

Weight = np.ndarray | None


def check(fake: np.ndarray, target: np.ndarray) -> None:
  """Refuses what is not a pair of aligned clips.

  Raises:
    UserError: they are not of one shape.
    ValueError: they are not (T, H, W, 3) or not pixels.
  """
  if fake.shape != target.shape:
    raise errors.UserError(
      f"The clip is {fake.shape}, its target {target.shape}: paired metrics "
      "need the same frames and size. Cut or resize one of them first."
    )
  for video in (fake, target):
    if video.ndim != 4 or video.shape[-1] != 3 or not video.size:
      raise ValueError(f"A clip is (T, H, W, 3), not {video.shape}.")
    if video.dtype == np.uint8:
      continue
    if not np.issubdtype(video.dtype, np.floating):
      raise ValueError(
        f"A clip is uint8, or in [-1, 1] of a float type, not {video.dtype}."
      )
    low, high = video.min(), video.max()
    # But for rounding; NaN is in no range.
    if not (low >= -1.001 and high <= 1.001):
      raise ValueError(
        f"A clip has values from {low:.4g} to {high:.4g}; pixels are in "
        "[-1, 1], or uint8."
      )


# --------------------------------------------------------------------- signal


def psnr(fake: np.ndarray, target: np.ndarray, weight: Weight = None) -> float:
  """Peak signal to noise ratio of a clip, dB; at most 100, for equal clips.

    10 log10(2^2 / mean (fake - target)^2)

  over all frames, pixels and channels (RGB) that count; NaN if none does.
  """
  return _psnr(lambda x: x, 2, fake, target, weight)


def psnr_y(
  fake: np.ndarray,
  target: np.ndarray,
  weight: Weight = None,
  matrix: str = "bt601",
) -> float:
  """PSNR of luma, dB; at most 100. Report it with the matrix in its name.

  Luma is in the range of video, 16 to 235, and the peak is 255, as in papers on
  super-resolution (MATLAB's rgb2ycbcr) and in ffmpeg. Of the full range it
  would be 1.3 dB less. Levels are not rounded and borders
  count, unlike in some papers.

  Args:
    fake: clip.
    target: clip.
    weight: of its pixels.
    matrix: 'bt601', which super-resolution reports, or 'bt709' (HD video).
  """
  if matrix not in pixels.LUMA:
    raise errors.UserError(
      f"psnr_y: matrix={matrix!r} is none of {list(pixels.LUMA)}."
    )
  y = lambda x: 16 + 219 * _luma((x + 1) / 2, matrix)
  return _psnr(y, 255, fake, target, weight)


def psnr_chroma(
  fake: np.ndarray, target: np.ndarray, weight: Weight = None
) -> float:
  """PSNR of Cb and Cr together (see `ycbcr`), dB, for a peak of 255."""
  return _psnr(_chroma, 255, fake, target, weight)


def _psnr(signal: Callable, peak: float, fake, target, weight) -> float:
  """10 log10 of peak^2 over the mean square error of a signal of the clips."""

  def share(x, y, weight):
    return _mean(np.square((signal(x) - signal(y)) / peak), weight)

  mean = _over_clip(share, fake, target, weight)
  return float(-10 * np.log10(np.maximum(mean, 1e-10)))


def chroma_error(
  fake: np.ndarray, target: np.ndarray, weight: Weight = None
) -> float:
  """Mean |error| of Cb and Cr (see `ycbcr`), levels."""
  error = lambda x, y, weight: _mean(abs(_chroma(x) - _chroma(y)), weight)
  return _over_clip(error, fake, target, weight)


# ------------------------------------------------------------------ structure


def ssim(fake: np.ndarray, target: np.ndarray, weight: Weight = None) -> float:
  """Structural similarity (Wang et al. 2004, eq. 13).

    (2 m n + c1) (2 s_xy + c2) / ((m^2 + n^2 + c1) (s_x^2 + s_y^2 + c2))

  with m, n the means and s the (co)variances in a Gaussian window of 11 x 11
  pixels and sigma 1.5, c1 = 0.01^2, c2 = 0.03^2, each of R, G and B by itself;
  the mean over the windows that lie in the picture and whose centre counts. NaN
  for pictures smaller than the window.
  """
  if min(fake.shape[1:3]) < WINDOW:
    return float("nan")

  def similarity(x, y, weight):
    means, mean_squares, covariances, variances = _moments(x, y)
    value = means * covariances
    value /= mean_squares * variances
    edge = WINDOW // 2
    inner = slice(edge, -edge)
    return _mean(value, None if weight is None else weight[:, inner, inner])

  return _over_clip(similarity, fake, target, weight)


def ms_ssim(fake: np.ndarray, target: np.ndarray) -> float:
  """SSIM on five scales (Wang et al. 2003, eq. 7), of R, G, B by themselves.

    l_5^a5 prod_j cs_j^aj,

  l (of the means) and cs (of the variances) averaged over the windows of a
  frame's channel, then the mean over frames and channels. A scale is the mean
  of 2 x 2 pixels of the one before, the border repeated where it is odd. A cs
  below 0 counts as 0. NaN for pictures of less than 161 pixels a side.
  """
  if min(fake.shape[1:3]) < SMALLEST:
    return float("nan")

  def similarity(x, y, weight):
    product = 1.0
    for scale, power in enumerate(_SCALES):
      if scale:
        x, y = _halved(x), _halved(y)
      means, mean_squares, covariances, variances = _moments(x, y)
      part = covariances / variances
      if scale == len(_SCALES) - 1:
        part = means / mean_squares * part
      product = product * np.maximum(part.mean((1, 2)), 0) ** power
    return product.mean()

  return _over_clip(similarity, fake, target, None)


def _moments(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
  """2 m n + c1, m^2 + n^2 + c1, 2 s_xy + c2, s_x^2 + s_y^2 + c2: see `ssim`.

  Args:
    x: (t, h, w, 3) in [-1, 1].
    y: the same.

  Returns:
    Each (t, h - 10, w - 10, 3), of pixels in [0, 1].
  """
  edge = WINDOW // 2
  taps = np.exp(-(np.arange(-edge, edge + 1) ** 2) / (2 * 1.5**2))
  taps /= taps.sum()

  def blur(v):
    for axis in (1, 2):
      v = ndimage.correlate1d(v, taps, axis)
    return v[:, edge:-edge, edge:-edge]

  x, y = (x + 1) / 2, (y + 1) / 2
  # s_xy = E[xy] - E[x] E[y], E the Gaussian mean of the window.
  a, b = blur(x), blur(y)
  xx, yy, xy = blur(x * x) - a * a, blur(y * y) - b * b, blur(x * y) - a * b
  c1, c2 = 0.01**2, 0.03**2
  return 2 * a * b + c1, a * a + b * b + c1, 2 * xy + c2, xx + yy + c2


def _halved(x: np.ndarray) -> np.ndarray:
  """(t, h, w, C) -> means of 2 x 2 pixels, the border repeated where odd."""
  t, h, w = x.shape[:3]
  x = np.pad(x, [(0, 0), (0, h % 2), (0, w % 2), (0, 0)], "edge")
  return x.reshape(t, -(-h // 2), 2, -(-w // 2), 2, x.shape[-1]).mean((2, 4))


# ----------------------------------------------------------------------- time


def temporal_error(
  fake: np.ndarray, target: np.ndarray, weight: Weight = None
) -> float:
  """Mean |(y_t+1 - y_t) - (x_t+1 - x_t)| in levels of 8 bits.

  What flickers or lags; of clips in [-1, 1]. It counts where either frame
  counts; NaN for a clip of one frame.
  """
  if weight is not None:
    weight = np.maximum(weight[1:], weight[:-1])
  step = lambda v: np.diff(v.astype(np.float64), axis=0)
  return 127.5 * _mean(abs(step(fake) - step(target)), weight)


def temporal_chroma(
  fake: np.ndarray, target: np.ndarray, weight: Weight = None
) -> float:
  """`temporal_error` of Cb and Cr (see `ycbcr`): flickering colours, levels."""
  colours = (2 / 255 * _chroma(v) - 1 for v in (fake, target))
  return temporal_error(*colours, weight)


# --------------------------------------------------------------------- colour


def ycbcr(video: np.ndarray) -> np.ndarray:
  """Luma and chroma of ITU-R BT.601, limited range, in levels of 8 bits.

    Y  =  16 + 219 y,  y = 0.299 R + 0.587 G + 0.114 B
    Cb = 128 + 224 (B - y) / 1.772
    Cr = 128 + 224 (R - y) / 1.402

  with R, G, B in [0, 1].

  Args:
    video: (..., 3) RGB in [-1, 1].

  Returns:
    (..., 3) float64, not rounded: Y from 16 to 235, Cb and Cr from 16 to 240
    with grey at 128.
  """
  rgb = (video.astype(np.float64) + 1) / 2
  red, luma, blue = rgb[..., 0], _luma(rgb, "bt601")[..., 0], rgb[..., 2]
  cb, cr = (blue - luma) / 1.772, (red - luma) / 1.402
  return np.stack([16 + 219 * luma, 128 + 224 * cb, 128 + 224 * cr], -1)


def _luma(rgb: np.ndarray, matrix: str) -> np.ndarray:
  """(..., 3) in [0, 1] -> (..., 1) in [0, 1]."""
  red, green, blue = np.split(rgb, 3, -1)
  r, g, b = pixels.LUMA[matrix]
  return r * red + g * green + b * blue


def _chroma(video: np.ndarray) -> np.ndarray:
  return ycbcr(video)[..., 1:]


# ---------------------------------------------------------------------- means


def _over_clip(
  measure: Callable[[np.ndarray, np.ndarray, Weight], float],
  fake: np.ndarray,
  target: np.ndarray,
  weight: Weight,
) -> float:
  """The mean of a measure over the parts of a clip, which are all as large."""
  check(fake, target)
  values = [measure(*part) for part in _parts(fake, target, weight)]
  return float(np.mean(values))


def _parts(fake, target, weight) -> Iterator[tuple]:
  """Yields (t, H, W, 3) float64 in [-1, 1] of both, and their weight.

  Bytes come frame by frame, floats as a whole: those are in memory anyway.
  """
  if fake.dtype != np.uint8 or target.dtype != np.uint8 or weight is not None:
    yield _floats(fake), _floats(target), weight
    return
  for t in range(len(fake)):
    yield _floats(fake[t : t + 1]), _floats(target[t : t + 1]), None


def _floats(video: np.ndarray) -> np.ndarray:
  if video.dtype == np.uint8:
    return video / 127.5 - 1
  return video.astype(np.float64)


def _mean(error: np.ndarray, weight: Weight) -> float:
  """The mean over what counts, of all channels alike; NaN if nothing does."""
  if not error.size:
    return float("nan")
  if weight is None:
    return float(error.mean())
  total = weight.sum(dtype=np.float64) * error.shape[-1]
  return float((error * weight).sum() / total) if total else float("nan")
