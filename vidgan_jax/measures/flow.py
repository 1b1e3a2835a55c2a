"""Dense optical flow, and frames brought back along it.

A flow of frame `a` to frame `b` is (H, W, 2), pixels to the right and down:
what is at p in `a` is at p + flow(p) in `b`.
"""

from collections.abc import Callable

import numpy as np

from vidgan_jax import errors

Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]


def farneback(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Polynomial expansion (Farneback 2003), of OpenCV, as TecoGAN calls it.

  Args:
    a: frame (H, W, 3) uint8.
    b: the next one.

  Raises:
    ValueError: OpenCV is not installed.
  """
  try:
    import cv2
  except ImportError as error:
    raise errors.UserError(
      "not computed: optical flow needs `pip install opencv-python-headless` "
      "(the extra 'baselines'), or another flow function."
    ) from error
  grey = [
    cv2.cvtColor(np.ascontiguousarray(x), cv2.COLOR_RGB2GRAY) for x in (a, b)
  ]
  return cv2.calcOpticalFlowFarneback(*grey, None, 0.5, 3, 15, 3, 5, 1.2, 0)


def warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
  """image(p + flow(p)), bilinear, the border repeated.

  Args:
    image: (H, W, C).
    flow: (H, W, 2).

  Returns:
    (H, W, C) float64.
  """
  image = np.asarray(image, np.float64)
  h, w = flow.shape[:2]
  # The place of each pixel in the image, between the pixels top, left, below,
  # right; a border without a next pixel is its own.
  y, x = np.mgrid[:h, :w].astype(np.float64)
  y = np.clip(y + flow[..., 1], 0, h - 1)
  x = np.clip(x + flow[..., 0], 0, w - 1)
  top = np.minimum(y.astype(int), max(h - 2, 0))
  left = np.minimum(x.astype(int), max(w - 2, 0))
  below, right = np.minimum(top + 1, h - 1), np.minimum(left + 1, w - 1)
  v, u = (y - top)[..., None], (x - left)[..., None]
  upper = image[top, left] * (1 - u) + image[top, right] * u
  lower = image[below, left] * (1 - u) + image[below, right] * u
  return upper * (1 - v) + lower * v


def visible(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
  """Where a pixel of `a` is seen in `b`: (H, W) bool (Ruder et al. 2016).

  Not where flow there and back does not return, nor at the borders of motion,

    |f + b(p + f)|^2 > 0.01 (|f|^2 + |b(p + f)|^2) + 0.5
    |grad f_x|^2 + |grad f_y|^2 > 0.01 |f|^2 + 0.002,

  nor where it leaves the picture.
  """
  h, w = forward.shape[:2]
  back = warp(backward, forward)
  forward = np.asarray(forward, np.float64)
  length = lambda v: (v * v).sum(-1)
  lost = length(forward + back) > (
    0.01 * (length(forward) + length(back)) + 0.5
  )
  # Differences to the right and below.
  slope = sum(
    length(np.diff(forward, axis=axis, append=np.take(forward, [-1], axis)))
    for axis in (0, 1)
  )
  border = slope > 0.01 * length(forward) + 0.002
  y, x = np.mgrid[:h, :w]
  y, x = y + forward[..., 1], x + forward[..., 0]
  inside = (y >= 0) & (y <= h - 1) & (x >= 0) & (x <= w - 1)
  return inside & ~lost & ~border


def warping_error(
  video: np.ndarray, guide: np.ndarray | None = None, flow: Flow = farneback
) -> float:
  """E_warp (Lai et al. 2018, eqs. 8 and 9): flicker, where motion is known.

    mean_t [ sum M |V_t - V_t+1 warped|^2 / sum M ]

  in colours from 0 to 1, the three channels' squares added; M as in `visible`.
  NaN where no pixel of any frame is seen again. A still has 0: read it beside
  a measure of motion.

  Args:
    video: (T, H, W, 3) uint8.
    guide: the clip along whose flow it is, of the same shape: for a processed
      clip its input, or its target; None: the clip itself.
    flow: of two frames.
  """
  guide = video if guide is None else guide
  _check(video, guide)
  gaps = []
  for t in range(len(video) - 1):
    forward = flow(guide[t], guide[t + 1])
    seen = visible(forward, flow(guide[t + 1], guide[t]))
    gap = warp(video[t + 1], forward) - video[t]
    if seen.any():
      gaps.append(np.square(gap[seen] / 255).sum(-1).mean())
  return float(np.mean(gaps)) if gaps else float("nan")


def tof(fake: np.ndarray, target: np.ndarray, flow: Flow = farneback) -> float:
  """Motion, tOF (Chu et al. 2020, eq. 5): how much it differs, pixels.

  Mean length of the difference of both clips' flows from frame to frame. Papers
  print it times 10, and may cut the borders off. NaN for a single frame.

  Args:
    fake: (T, H, W, 3) uint8.
    target: the same.
    flow: of two frames.
  """
  _check(fake, target)
  gaps = []
  for t in range(len(fake) - 1):
    gap = flow(*fake[t : t + 2]) - flow(*target[t : t + 2])
    gaps.append(np.linalg.norm(gap, axis=-1).mean())
  return float(np.mean(gaps)) if gaps else float("nan")


def _check(*videos: np.ndarray) -> None:
  """Refuses clips that are not of one shape, or not of bytes."""
  shapes = [video.shape for video in videos]
  if len(set(shapes)) > 1:
    raise errors.UserError(
      f"Clips of {' and '.join(map(str, shapes))} are not aligned: flow needs "
      "the same frames and size of both."
    )
  for video in videos:
    if video.dtype != np.uint8:
      raise ValueError(f"Flow is of clips of uint8, not {video.dtype}.")
