"""Masks: what of each frame is unknown.

A mask is read by what varies in it, over all its frames: transparency if that
does, else brightness. Unknown is what is opaque, or brighter than the middle of
the range; with few values, as 0 and 1, what is more than the least. In images
with a palette that begins with black it is every entry but that.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import fractions
import os
from typing import Any

import numpy as np
from PIL import ImageColor
from PIL import ImageOps
from scipy import ndimage

from vidgan_jax.video import folder
from vidgan_jax.video import images
from vidgan_jax.video import read
from vidgan_jax.video import source as source_lib
from vidgan_jax.video import stream

_NEAR = 40  # of 255: how near to the mask's colour a pixel may be
_FEW = 32  # a range of fewer values is of numbers, not of brightness
_SLACK = fractions.Fraction(1, 10)  # seconds that a mask may end before


class Masks:
  """Gives frames their masks.

  Attributes:
    still: whether there is one mask for all frames.
  """

  def __init__(self, mask: str, frames: int, tell: Callable[[str], None]):
    """Looks through a mask that is not a colour.

    Args:
      mask: an image, which holds for all frames; a film, whose pictures are
        taken by their time from the first frame on; a folder of images, one a
        frame, and so is a film of as many pictures as there are frames; or a
        colour, #00ff00 or a name, to be replaced.
      frames: of the video, 0: unknown.
      tell: takes lines for the user.

    Raises:
      read.VideoError: it cannot be read.
    """
    self._mask, self._tell = mask, tell
    self.still = images.is_picture(mask)
    if not os.path.exists(mask):
      self._colour = _colour(mask)
      return
    self._colour = None
    values = _Values()
    for pixels, _ in self._pictures():
      values.add(pixels)
    self._values = values
    self._numbered = os.path.isdir(mask) or values.count == frames

  def _pictures(self) -> Iterator[tuple[np.ndarray, fractions.Fraction]]:
    """(pixels (H, W, 1, 3 or 4), seconds) of its images or its film."""
    if self.still:
      yield _image(self._mask), fractions.Fraction(0)
    elif os.path.isdir(self._mask):
      clips = folder.scan(self._mask, "frames")[1]
      if len(clips) != 1:
        raise read.VideoError(
          f"--mask {self._mask}: holds no images, or in sub-folders"
        )
      for i, name in enumerate(clips[0].images):
        path = os.path.join(self._mask, clips[0].file, name)
        yield _image(path), fractions.Fraction(i)
    else:
      with source_lib.Source(self._mask) as film:
        film.look()
        for frame in film.frames(film.clock()):
          pixels = frame.image
          if frame.alpha is not None:
            pixels = np.dstack([pixels, frame.alpha])
          yield pixels, frame.time

  def __call__(self, frames: Iterable[stream.Frame]) -> Iterator[stream.Frame]:
    """Gives every frame a mask; says if they hide all or nothing.

    Raises:
      read.VideoError: it is of another size, or ends too early.
    """
    if self._colour is not None:
      yield from self._coloured(frames)
      return
    unknown = self._by_number() if self._numbered or self.still else None
    unknown = unknown or self._by_time()
    next(unknown)
    hides = self._values.all_or_none()
    for frame in frames:
      frame.mask = mask = unknown.send(frame.time)
      if frame.image is not None and mask.shape != frame.image.shape[:2]:
        height, width = frame.image.shape[:2]
        raise read.VideoError(
          f"--mask {self._mask}: is {mask.shape[1]}x{mask.shape[0]}, the video"
          f" {width}x{height}; they must be of one size"
        )
      if hides:
        self._tell(f"--mask {self._mask}: hides {hides}")
        hides = ""
      yield frame

  def _coloured(self, frames):
    """Unknown is what has nearly the colour."""
    seen = 0
    for frame in frames:
      if frame.image is not None:
        image = frame.image
        image = image >> 8 if image.dtype == np.uint16 else image
        far = np.abs(image.astype(np.int32) - self._colour).max(-1)
        frame.mask = far <= _NEAR
        seen += frame.mask.any()
      yield frame
    if not seen:
      self._tell(f"--mask {self._mask}: no pixel has this colour")

  def _by_number(self):
    """Is sent times, gives masks: the next, or for ever the only one."""
    count, mask = 0, None
    yield
    for pixels, _ in self._pictures():
      mask = self._values.unknown(pixels)
      yield mask
      count += 1
    while self.still:
      yield mask
    raise self._short(f"has {count} frames")

  def _by_time(self):
    """Is sent times, gives the masks that are nearest, from the first on."""
    pictures = self._pictures()
    (pixels, begin), after = next(pictures), next(pictures, None)
    now, mask, step = begin, self._values.unknown(pixels), _SLACK
    time = first = yield
    while True:
      time += begin - first
      while after is not None and after[1] - time <= time - now:
        step = after[1] - now
        mask, now = self._values.unknown(after[0]), after[1]
        after = next(pictures, None)
      if after is None and time > now + step + _SLACK:
        raise self._short(f"ends at {float(now + step - begin):.2f} s")
      time = yield mask

  def _short(self, why: str) -> read.VideoError:
    return read.VideoError(f"--mask {self._mask}: {why}, the video has more")


class _Values:
  """What the values of a mask's pixels are, over all its pictures.

  Attributes:
    count: pictures.
  """

  def __init__(self):
    self.count = 0
    self._ends = {}  # of brightness and alpha: the least and the most

  def add(self, pixels: np.ndarray) -> None:
    """Notes the values of a picture (H, W, 1, 3 or 4)."""
    self.count += 1
    planes = {"brightness": pixels[..., :3]}
    if pixels.shape[-1] == 4:
      planes["alpha"] = pixels[..., 3:]
    for name, plane in planes.items():
      value = plane.max(-1)
      low, high = self._ends.get(name, (np.inf, -np.inf))
      self._ends[name] = min(low, value.min()), max(high, value.max())

  def _chosen(self) -> str:
    low, high = self._ends.get("alpha", (1, 1))
    return "alpha" if low < high or high == 0 else "brightness"

  def all_or_none(self) -> str:
    """What is hidden, if it is everything or nothing, else ''."""
    low, high = self._ends[self._chosen()]
    if low < high:
      return ""
    return "everything: all is made up" if high else "nothing"

  def unknown(self, pixels: np.ndarray) -> np.ndarray:
    """(H, W, 1, 3 or 4) -> (H, W) bool."""
    name = self._chosen()
    low, high = self._ends[name]
    plane = pixels[..., 3] if name == "alpha" else pixels[..., :3].max(-1)
    if low == high:
      return np.full(plane.shape, bool(high))
    return plane > (low if high - low < _FEW else (low + high) / 2)


def _colour(text: str) -> np.ndarray:
  try:
    return np.array(ImageColor.getrgb(text)[:3], np.int32)
  except ValueError:
    raise read.VideoError(
      f"--mask {text}: neither a file, a folder nor a colour as #00ff00"
    ) from None


def _image(path: str) -> np.ndarray:
  """Upright pixels (H, W, 1, 3 or 4), integers or floats."""
  with images.opened(path) as file:
    image: Any = ImageOps.exif_transpose(file)
    clear = image.has_transparency_data
    if image.mode == "P" and not clear and not any(image.getpalette()[:3]):
      return (np.asarray(image) > 0)[..., None].astype(np.uint8)
    if image.mode in ("1", "P") or image.mode.startswith("RGB") or clear:
      image = image.convert("RGBA" if clear else "RGB")
    pixels = np.asarray(image)
  return pixels[..., None] if pixels.ndim == 2 else pixels[..., :4]


def grown(
  frames: Iterable[stream.Frame], pixels: int
) -> Iterator[stream.Frame]:
  """Makes masks larger by some pixels to each side.

  A hand-made mask ends where an object seems to end; its blurred edge, left
  outside, is taken for background and drawn into the hole.
  """
  for frame in frames:
    if frame.mask is not None:  # it is for frames whose result exists
      frame.mask = ndimage.maximum_filter(
        frame.mask, 2 * pixels + 1, mode="constant"
      )
    yield frame
