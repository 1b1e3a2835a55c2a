"""What moves, and how: numbers that a single frame does not have.

Each is computed clip by clip, a row a clip, in the order in which they come, so
that `intervals.split` and `intervals.jackknife` give intervals. Videos:
clips (T, H, W, 3) uint8, of one length, size and rate in both sets that are
compared.
"""

from collections.abc import Callable
from collections.abc import Iterable

import numpy as np

from vidgan_jax import errors
from vidgan_jax.measures import flow as flows

_STEP, _BINS = 1 / 16, 1024  # of a histogram of speeds: to 64 pixels a frame
_FLOOR = 1 / 12  # power of rounding to 8 bits, levels^2


# --------------------------------------------------------------------- speeds


def speeds(
  videos: Iterable[np.ndarray], flow: flows.Flow = flows.farneback
) -> np.ndarray:
  """Histograms of the length of the flow, pixels a frame: (N, 1024).

  Bins are a sixteenth of a pixel; the last one has all above. A row's sum is 1.
  """

  def histogram(video):
    counts = np.zeros(_BINS)
    for a, b in zip(video[:-1], video[1:]):
      length = np.linalg.norm(flow(a, b), axis=-1).ravel()
      bins = np.minimum(length / _STEP, _BINS - 1).astype(int)
      counts += np.bincount(bins, minlength=_BINS)
    return counts / counts.sum()

  return _rows(videos, histogram)


def speed_distance(fake: np.ndarray, real: np.ndarray) -> float:
  """Wasserstein distance of the speeds of two sets, pixels a frame.

  The least mean change of speed that makes one distribution the other.

  Args:
    fake: (N, 1024), from `speeds`.
    real: (M, 1024).
  """
  gap = np.cumsum(fake.mean(0) - real.mean(0))
  return float(abs(gap).sum() * _STEP)


# -------------------------------------------------------------------- amounts


def amounts(videos: Iterable[np.ndarray]) -> np.ndarray:
  """How much each clip moves, levels a frame: (N,).

    mean |x_t+1 - x_t|

  of the brightness of squares, sixteen to the shorter side, without what all
  squares of a frame have in common: noise and flicker hardly count. It needs no
  flow, which errs where pictures melt.
  """

  def amount(video):
    gray = video.mean(-1, dtype=np.float64)
    size = max(1, min(gray.shape[1:]) // 16)
    t, h, w = len(gray), gray.shape[1] // size, gray.shape[2] // size
    x = gray[:, : h * size, : w * size]
    x = x.reshape(t, h, size, w, size).mean((2, 4))
    x -= x.mean((1, 2), keepdims=True)
    return abs(np.diff(x, axis=0)).mean()

  return _rows(videos, amount)


# ----------------------------------------------------------------------- lags


def lag_curve(moved: np.ndarray, heard: np.ndarray, most: int) -> np.ndarray:
  """How like what is heard what moves is, if one of them is shifted.

    r_k = correlation of moved_(t+k) with heard_t over all t of both,

  for k = -most ... most frames. Where both begin and end at rest r_0 is high
  for any two clips: what belongs together has its peak near k = 0.

  Args:
    moved: (T,) how much moves at each time.
    heard: (T,) how much is heard then.
    most: frames, less than T - 2.

  Returns:
    (2 most + 1,); 0 where one of them does not change.
  """
  curve = []
  for k in range(-most, most + 1):
    a, b = moved[max(k, 0) :], heard[max(-k, 0) :]
    a, b = (x[: min(len(a), len(b))] for x in (a, b))
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a**2).sum() * (b**2).sum())
    curve.append((a * b).sum() / size if size else 0.0)
  return np.array(curve)


# -------------------------------------------------------------------- spectra


def spectra(videos: Iterable[np.ndarray]) -> np.ndarray:
  """Power of the differences of frames over frequency: (N, (T-1) // 2 + 1).

  The mean over pixels and channels of |DFT(x_t+1 - x_t) / (T - 1)|^2, in levels
  of 8 bits squared; over both signs of frequency it sums up to the mean square
  of the differences. From a drift to flicker of every other frame. Time
  backwards has the same.
  """

  def spectrum(video):
    power = []
    for channel in range(3):  # One at a time, for the memory.
      change = np.diff(video[..., channel].astype(np.float64), axis=0)
      wave = np.fft.rfft(change, axis=0) / len(change)
      power.append((abs(wave) ** 2).mean((1, 2)))
    return np.mean(power, 0)

  return _rows(videos, spectrum)


def spectrum_distance(fake: np.ndarray, real: np.ndarray) -> float:
  """Mean difference over the frequencies, dB, of the sets' mean spectra.

  Below the power of rounding to 8 bits nothing counts, so a still has one too.

  Args:
    fake: (N, F), from `spectra`.
    real: (M, F).
  """
  if fake.shape[1] != real.shape[1]:
    raise errors.UserError(
      f"spectrum_distance: {fake.shape[1]} and {real.shape[1]} frequencies: "
      "both sets need clips of the same number of frames."
    )
  level = lambda power: 10 * np.log10(power.mean(0) + _FLOOR / power.shape[1])
  return float(abs(level(fake) - level(real)).mean())


# ---------------------------------------------------------------------- order


def order(videos: Iterable[np.ndarray]) -> np.ndarray:
  """How much nearer neighbours in time are than any two frames: (N,).

    1 - sum (x_t+1 - x_t)^2 / (2 sum (x_t - mean x)^2)

  over pixels (von Neumann's ratio, 1941): near 1 for slow motion, 0 in the mean
  over all orders of the frames, below 0 when they alternate. Time backwards has
  the same. NaN for a still.
  """

  def ratio(video):
    video = video.astype(np.float64)
    change = np.square(np.diff(video, axis=0)).sum()
    spread = np.square(video - video.mean(0)).sum()
    return 1 - change / (2 * spread) if spread else np.nan

  return _rows(videos, ratio)


# ---------------------------------------------------------------------- arrow


def arrows(videos: Iterable[np.ndarray]) -> np.ndarray:
  """Which way time runs: (N, F), each number's sign turns with time.

    mean x_t x_t+k (x_t+k - x_t) / (deviation of x * mean (x_t+k - x_t)^2)

  the difference of bicovariances of Ramsey and Rothman (1996), of the
  brightness, its mean taken off, over frames and pixels; for k of 1, 2 and 4
  frames, as it is and of the means of 2 x 2, 4 x 4 and 8 x 8 pixels, as far as
  the clip goes. 0 for a still and for what looks alike in both directions.
  """

  def numbers(video):
    gray = video.mean(-1, dtype=np.float64)
    ratios = []
    for size in (1, 2, 4, 8):
      t, h, w = len(gray), gray.shape[1] // size, gray.shape[2] // size
      x = gray[:, : h * size, : w * size]
      x = x.reshape(t, h, size, w, size).mean((2, 4))
      x -= x.mean() if x.size else 0
      for k in (1, 2, 4):
        before, after = x[:-k], x[k:]
        if before.size:
          change = after - before
          scale = x.std() * np.square(change).mean()
          odd = (before * after * change).mean()
          ratios.append(odd / scale if scale else 0.0)
    return np.array(ratios)

  return _rows(videos, numbers)


def arrow_distance(fake: np.ndarray, real: np.ndarray) -> float:
  """How far apart the sets' mean `arrows` are, in deviations of one clip.

  The root mean square over the numbers. Of N and M clips that are alike about
  sqrt(1 / N + 1 / M).
  """
  spread = (fake.var(0) + real.var(0)) / 2
  apart = np.square(fake.mean(0) - real.mean(0))
  return float(np.sqrt(np.mean(apart / np.where(spread, spread, 1))))


# -------------------------------------------------------------------- warping


def warping_errors(
  videos: Iterable[np.ndarray], flow: flows.Flow = flows.farneback
) -> np.ndarray:
  """`flow.warping_error` of each clip along its own flow: (N,).

  There is no right value but that of real clips of the same data set.
  """
  return _rows(videos, lambda video: flows.warping_error(video, flow=flow))


def _rows(videos: Iterable[np.ndarray], measure: Callable) -> np.ndarray:
  """`measure` of each clip."""
  rows, shape = [], None
  for i, video in enumerate(videos):
    video = np.asarray(video)
    shape = shape or video.shape
    if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8:
      raise ValueError(
        f"Clip {i} is {video.shape} {video.dtype}; clips are (T, H, W, 3) "
        "uint8."
      )
    if video.shape != shape:
      raise errors.UserError(
        f"Clip {i} is {video.shape}, the first was {shape}: what moves is "
        "measured in pixels and frames, so all clips must be alike."
      )
    if len(video) < 2:
      raise errors.UserError(f"Clip {i} has one frame: nothing moves.")
    rows.append(measure(video))
  if not rows:
    raise errors.UserError("No clips came.")
  return np.array(rows)
