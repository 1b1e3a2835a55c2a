"""The shaking of a camera taken out.

The movement between two frames is the peak of their phase correlation (Kuglin
and Hines, 1975, "The phase correlation image alignment method"): that of most
of the picture, to a fraction of a pixel. The path of the camera, its sum, is
smoothed, and frames are moved from the one to the other. Turning, zooming and
rolling shutters stay. libavfilter's own `deshake` takes out half as much.
"""

import collections
from collections.abc import Iterable
from collections.abc import Iterator

import numpy as np
from PIL import Image
from scipy import ndimage

from vidgan_jax.video import stream

_SIDE = 256  # pixels of the shorter side that movement is measured at
_AHEAD = 15  # frames to each side that the path is smoothed over
_WIDTH = 6.0  # standard deviation of the weights, in frames
_MOST = 0.1  # of a side that a frame is moved
_SURE = 0.04  # peak of the correlation below which two frames are of two shots


def steadied(frames: Iterable[stream.Frame]) -> Iterator[stream.Frame]:
  """Frames with images, moved; what comes in from outside is mirrored.

  So many frames as `_AHEAD` are held.
  """
  held, path = collections.deque(), collections.deque()
  last, place = None, np.zeros(2)
  for frame in frames:
    small, scale = _small(frame.image)
    spectrum = _spectrum(small)
    if last is not None:
      place = place + scale * _movement(last, spectrum, small.shape)
    last = spectrum
    held.append(frame)
    path.append(place)
    if len(held) > _AHEAD:
      yield _moved(held.popleft(), path, len(path) - 1 - _AHEAD)
    if len(path) > 2 * _AHEAD:
      path.popleft()
  while held:
    yield _moved(held.popleft(), path, len(path) - 1 - len(held))


def _small(image: np.ndarray) -> tuple[np.ndarray, int]:
  """Brightness (h, w), of means over squares, and how large those are."""
  scale = max(1, min(image.shape[:2]) // _SIDE)
  height, width = (side // scale for side in image.shape[:2])
  grey = image[: height * scale, : width * scale].astype(np.float32).mean(-1)
  return grey.reshape(height, scale, width, scale).mean((1, 3)), scale


def _spectrum(image: np.ndarray) -> np.ndarray:
  """Frequencies of a picture (h, w) that fades out towards its borders."""
  window = np.outer(*(np.hanning(side + 2)[1:-1] for side in image.shape))
  return np.fft.rfft2((image - image.mean()) * window)


def _movement(
  before: np.ndarray, after: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
  """(y, x) by which the picture moved; 0 if it is another one.

  Args:
    before: from `_spectrum`.
    after: that of the next frame.
    shape: (h, w) of both pictures.
  """
  cross = np.conj(before) * after
  peak = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-6), shape)
  # The noise of single frequencies, which have one weight each, is blurred.
  peak = ndimage.gaussian_filter(peak, 1, mode="wrap")
  where = np.unravel_index(np.argmax(peak), peak.shape)
  if peak[where] < _SURE * 0.16:  # 0.16 is what the blur leaves of a point
    return np.zeros(2)
  move = []
  for axis, (at, size) in enumerate(zip(where, peak.shape)):
    line = np.take(peak, where[1 - axis], 1 - axis)
    low, mid, high = line[at - 1], line[at], line[(at + 1) % size]
    curve = low - 2 * mid + high  # of the parabola through the three
    part = (low - high) / (2 * curve) if curve < 0 else 0.0
    move.append((at + size // 2) % size - size // 2 + part)
  return np.array(move)


def _moved(frame: stream.Frame, path, at: int) -> stream.Frame:
  """A frame, moved from its place on the path to the smoothed one."""
  places = np.array(path)
  weights = np.exp(-(((np.arange(len(places)) - at) / _WIDTH) ** 2) / 2)
  smooth = (weights[:, None] * places).sum(0) / weights.sum()
  limit = _MOST * np.array(frame.image.shape[:2])
  move = np.clip(smooth - places[at], -limit, limit)
  frame.image = frame.base = _shifted(frame.image, *move)
  if frame.alpha is not None:
    frame.alpha = _shifted(frame.alpha[..., None], *move)[..., 0]
  frame.picture = None
  return frame


def _shifted(image: np.ndarray, y: float, x: float) -> np.ndarray:
  """(H, W, C), moved by a fraction of pixels."""
  if image.dtype != np.uint8:
    return ndimage.shift(image, (y, x, 0), order=1, mode="mirror")
  height, width = image.shape[:2]
  edge = int(np.ceil(max(abs(y), abs(x)))) + 2
  wide = np.pad(image, ((edge, edge), (edge, edge), (0, 0)), "reflect")
  planes = [
    Image.fromarray(np.ascontiguousarray(wide[..., c])).transform(
      (width, height),
      Image.Transform.AFFINE,
      (1, 0, edge - x, 0, 1, edge - y),
      Image.Resampling.BICUBIC,
    )
    for c in range(image.shape[-1])
  ]
  return np.stack([np.asarray(plane) for plane in planes], -1)
