"""Plain editing of a stream of frames: other times, comparisons.

Each function takes frames and yields frames, see `vidgan_jax.video.stream`.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import fractions

import numpy as np
from PIL import Image

from vidgan_jax.video import clips
from vidgan_jax.video import read
from vidgan_jax.video import stream


def lanczos(video: np.ndarray, height: int, width: int) -> np.ndarray:
  """(T, h, w, C) -> (T, height, width, C) float32; looks 4 pixels far."""
  planes = [
    np.stack(
      [
        np.asarray(
          Image.fromarray(np.ascontiguousarray(image[..., c])).resize(
            (width, height), Image.Resampling.LANCZOS
          )
        )
        for c in range(video.shape[-1])
      ],
      -1,
    )
    for image in np.asarray(video, np.float32)
  ]
  return np.stack(planes)


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
  """(h, w[, C]) integers of another size."""
  if image.shape[:2] == (height, width):
    return image
  flat = image.reshape(*image.shape[:2], -1)
  large = lanczos(stream.to_float(flat)[None], height, width)[0]
  large = stream.to_integer(large, image.dtype)
  return large.reshape(height, width, *image.shape[2:])


def mixed(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
  """(1 - share) a + share b, rounded to the type of `a`."""
  blend = (1 - share) * a.astype(np.float32) + share * b.astype(np.float32)
  return np.round(blend).astype(a.dtype)


def at_rate(
  frames: Iterable[stream.Frame], fps: fractions.Fraction, max_repeats: int
) -> Iterator[stream.Frame]:
  """The frames nearest to a regular grid of times; see `clips.resample`."""
  start = None
  numbered = ((read.Frame(f, float(f.time)), 0) for f in frames)
  even = clips.resample(numbered, float(fps), max_repeats)
  for k, (held, _) in enumerate(even):
    start = held.image.time if start is None else start
    yield dataclasses.replace(
      held.image, time=start + k / fps, duration=1 / fps
    )


def compared(
  frames: Iterable[stream.Frame], how: str
) -> Iterator[stream.Frame]:
  """Puts what came in beside ('side') or left of the middle ('split')."""
  for frame in frames:
    if frame.image is not None:
      height, width = frame.image.shape[:2]
      base = frame.base
      if base.dtype != frame.image.dtype:
        base = stream.to_integer(stream.to_float(base), frame.image.dtype)
      base = resized(base, height, width)
      frame.picture = None
      if how == "side":
        frame.image = np.concatenate([base, frame.image], 1)
        if frame.alpha is not None:  # no stage changes it
          alpha = resized(frame.alpha, height, width)
          frame.alpha = np.concatenate([alpha, alpha], 1)
      else:
        frame.image = frame.image.copy()
        frame.image[:, : width // 2] = base[:, : width // 2]
        middle = slice(width // 2 - (width > 63), width // 2 + (width > 63))
        frame.image[:, middle] = np.iinfo(frame.image.dtype).max
    yield frame


def faster(
  frames: Iterable[stream.Frame], speed: fractions.Fraction
) -> Iterator[stream.Frame]:
  """Divides all times."""
  for frame in frames:
    frame.time, frame.duration = frame.time / speed, frame.duration / speed
    yield frame


def finished(frames: Iterable[stream.Frame]) -> Iterator[stream.Frame]:
  """Gives transparency the size of the image, and lets go of the rest."""
  for frame in frames:
    if frame.image is not None:
      frame.mask = None
      if frame.alpha is not None:
        frame.alpha = resized(frame.alpha, *frame.image.shape[:2])
    yield frame


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crop(stream.Step):
  """Cuts out `w` x `h` pixels whose corner is at (x, y), the middle when -1."""

  w: int
  h: int
  x: int = -1
  y: int = -1
  name = "crop"

  def size(self, height: int, width: int) -> tuple[int, int]:
    """That of the cut."""
    del height, width
    return self.h, self.w

  def frames(self, frames: Iterable[stream.Frame]) -> Iterator[stream.Frame]:
    """Crops all that a frame has."""
    for frame in frames:
      if frame.image is not None:
        height, width = frame.image.shape[:2]
        x = self.x if self.x >= 0 else (width - self.w) // 2
        y = self.y if self.y >= 0 else (height - self.h) // 2
        if min(x, y) < 0 or x + self.w > width or y + self.h > height:
          raise read.VideoError(
            f"crop: {self.w}x{self.h} at ({x}, {y}) does not fit into frames of"
            f" {width}x{height}"
          )
        for name in ("image", "alpha", "base", "mask"):
          value = getattr(frame, name)
          if value is not None:
            setattr(frame, name, value[y : y + self.h, x : x + self.w])
        frame.picture = None
      yield frame
