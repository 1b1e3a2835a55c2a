"""How near a clip is to its target: PSNR, SSIM, flicker, colour.

NumPy in float64, one clip at a time: (T, H, W, C) in [-1, 1], and a weight
(T, H, W, 1) or None that says which pixels count.
"""

import numpy as np
from scipy import ndimage


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
