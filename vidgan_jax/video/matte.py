"""Another background: what is in front is cut out and laid over it.

The observed colour C is alpha F + (1 - alpha) K: in front F, behind it K. The
three ways to alpha differ in what is known (Smith and Blinn, 1996, "Blue screen
matting"): the hue of K (a screen), all of K (a plate: the scene without what is
in front), or alpha itself (a matte). F = (C - (1 - alpha) K) / alpha is then
without the colour of the old background at edges, and the result is
alpha F + (1 - alpha) B. All of it is done on coded values, as editors do.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import fractions
import itertools
import os
from typing import Any

import numpy as np
from PIL import Image
from PIL import ImageColor
from PIL import ImageOps
from scipy import ndimage

from vidgan_jax.video import edits
from vidgan_jax.video import images
from vidgan_jax.video import read
from vidgan_jax.video import source as source_lib
from vidgan_jax.video import stream

# RGB -> two axes of hue: c1 = R - (G + B)/2, c2 = (G - B) sqrt(3)/2.
_HUE = np.array([[1, -0.5, -0.5], [0, 0.75**0.5, -(0.75**0.5)]], np.float32)
_PLATES = 16  # frames of a film that make a plate
_FAINT = 0.15  # of full saturation: what is less has no hue
# (degrees from the hue that is named, of full saturation) of a screen: the
# farther from it, the stronger.
_HUES = ((30, _FAINT), (60, 2 * _FAINT))
_LEAST = 0.03  # of the pixels of the first frame have to be screen

# (H, W, 3) float32 in [0, 1], seconds -> alpha (H, W) and F (H, W, 3); None for
# F: C itself.
Cutter = Callable[[np.ndarray, Any], tuple[np.ndarray, np.ndarray | None]]


class Screen:
  """A screen of one hue, after Vlahos' colour difference.

  In the plane of hues p is the part of a colour along the screen's hue and q
  that across; s = p - |q| / sqrt(3). For green that is G - max(R, B). It is 0
  in front, unless that has the screen's hue as well, and linear between, so
  1 - alpha = s(C) / s(K).
  """

  def __init__(self, flag: str, hue: np.ndarray, low: float):
    """Use `screen`."""
    self._flag, self._low = flag, low
    self._aim(hue)
    self._seen = None  # s of the screen in the frames so far

  def _aim(self, hue: np.ndarray) -> None:
    """Chooses the axes for the hue of a colour (3,)."""
    along = _HUE @ hue
    along /= np.linalg.norm(along)
    across = along[::-1] * (-1, 1)
    self._axes = (np.stack([along, across]) @ _HUE).astype(np.float32)
    # Taken away s times, this leaves no s, and R + G + B as it was.
    self._spill = (along @ _HUE * 2 / 3).astype(np.float32)

  def _strength(self, colours: np.ndarray) -> np.ndarray:
    along, across = np.moveaxis(colours @ self._axes.T, -1, 0)
    return along - np.abs(across) * np.float32(3**-0.5)

  def _find(self, image: np.ndarray) -> None:
    """Finds the screen in the first frame: people call cyan screens blue."""
    for degrees, least in _HUES:
      along, across = np.moveaxis(image @ self._axes.T, -1, 0)
      near = np.abs(across) < along * np.tan(np.deg2rad(degrees))
      near &= along > least
      if near.mean() >= _LEAST:
        self._aim(np.median(image[near], 0))
        return
    raise read.VideoError(
      f"{self._flag}: less than {_LEAST:.0%} of the first frame has this"
      f" colour; the screen may be {_frequent(image)}; or use --plate, --matte"
    )

  def __call__(self, image, time):
    """See `Cutter`."""
    del time
    if self._seen is None:
      self._find(image)
    s = self._strength(image)
    strong = s > max(_FAINT, 0.5 * float(np.percentile(s[::4, ::4], 99)))
    if strong.mean() >= _LEAST:
      self._seen = float(np.median(s[strong]))
    strong = s > 0.5 * self._seen
    level, *colour = _carried([s, *np.moveaxis(image, -1, 0)], strong, 16)
    level = np.maximum(level, 0.5 * self._seen)
    # What is a little uneven is screen as well: noise, folds, compression.
    spread = 1.48 * np.median(np.abs(s - level)[strong]) / self._seen
    high = np.clip(1 - 3 * spread, 0.6, 0.95)
    low = max(self._low, 2 * spread)
    behind = np.clip((s / level - low) / (high - low), 0, 1)
    colour = np.stack(colour, -1)
    alpha = _refined(image, 1 - behind, colour)
    front = _unmixed(image, alpha, colour)
    spill = np.maximum(self._strength(front), 0)[..., None]
    return alpha, np.clip(front - spill * self._spill, 0, 1)


def _frequent(image: np.ndarray) -> str:
  """The most frequent of the strong colours of an image, as #2a9d4f."""
  along, across = np.moveaxis(image @ _HUE.T, -1, 0)
  sector = np.floor(np.arctan2(across, along) * 6 / np.pi).astype(int) % 12
  sector[np.hypot(along, across) < _FAINT] = 12  # has no hue
  most = np.argmax(np.bincount(sector.ravel(), minlength=13)[:12])
  if not (sector == most).any():
    return "of no hue"
  colour = np.round(255 * np.median(image[sector == most], 0)).astype(int)
  return "#{:02x}{:02x}{:02x}".format(*colour)


def _carried(
  planes: list[np.ndarray], known: np.ndarray, cell: int
) -> list[np.ndarray]:
  """Smooth values everywhere of values that are known somewhere.

  They are averages over cells, carried on into what is unknown by normalised
  convolution (Knutsson and Westin, 1993): blur(value known) / blur(known), with
  a wide blur where a narrow one finds nothing.

  Args:
    planes: of (H, W).
    known: (H, W) bool.
    cell: pixels a side.
  """
  height, width = known.shape
  rows, columns = -(-height // cell), -(-width // cell)
  pad = ((0, rows * cell - height), (0, columns * cell - width))

  def cells(values):
    values = np.pad(values.astype(np.float32), pad)
    return values.reshape(rows, cell, columns, cell).sum((1, 3)) / cell**2

  def blurred(values, pixels):
    return ndimage.gaussian_filter(values, pixels, mode="nearest")

  def smooth(values):
    near = blurred(values, 1.5) * (1 - share) / narrow
    return near + blurred(values, 8) * share / wide

  count = cells(known)
  narrow, wide = blurred(count, 1.5) + 1e-6, blurred(count, 8) + 1e-6
  share = np.clip(1 - 10 * narrow, 0, 1)  # of the wide blur
  return [
    np.asarray(
      Image.fromarray(smooth(cells(plane * known))).resize(
        (columns * cell, rows * cell), Image.Resampling.BILINEAR
      )
    )[:height, :width]
    for plane in planes
  ]


def _refined(
  image: np.ndarray, alpha: np.ndarray, behind: np.ndarray
) -> np.ndarray:
  """Alpha by what is in front nearby, where a first one is neither 0 nor 1.

  With F of the nearest places that are surely in front, alpha is the place of
  C on the line from K to F: (C - K) (F - K) / |F - K|^2.

  Args:
    image: (H, W, 3), C.
    alpha: (H, W).
    behind: (H, W, 3), K.
  """
  sure = ndimage.binary_erosion(alpha > 0.98, iterations=2)
  if not sure.any():
    return alpha
  edge = (alpha > 0.02) & (alpha < 0.98)
  edge = ndimage.binary_dilation(edge, iterations=2)
  front = np.stack(_carried(list(np.moveaxis(image, -1, 0)), sure, 4), -1)
  line = front - behind
  length = (line**2).sum(-1)
  place = ((image - behind) * line).sum(-1) / np.maximum(length, 1e-6)
  # A step of 1/50 between front and behind is too small to judge by.
  return np.where(edge & (length > 4e-4), np.clip(place, 0, 1), alpha)


def _unmixed(
  image: np.ndarray, alpha: np.ndarray, behind: np.ndarray
) -> np.ndarray:
  """F of C = alpha F + (1 - alpha) K."""
  alpha = alpha[..., None]
  front = (image - (1 - alpha) * behind) / np.maximum(alpha, 0.02)
  return np.where(alpha > 0.02, np.clip(front, 0, 1), image)


def screen(text: str) -> Screen:
  """The cutter of --key COLOUR[:LOW].

  Raises:
    read.VideoError: it is not a colour, or has no hue.
  """
  flag = f"--key {text}"
  name, _, low = text.partition(":")
  try:
    colour = np.array(ImageColor.getrgb(name)[:3], np.float32) / 255
    low = float(low or 0.05)
  except ValueError:
    raise read.VideoError(
      f"{flag}: is no colour; give a name as green, or #2a9d4f, and after a"
      " colon how much of it what is in front may have, 0 to 0.5"
    ) from None
  if not 0 <= low <= 0.5:
    raise read.VideoError(f"{flag}: give 0 to 0.5 after the colon")
  if np.linalg.norm(_HUE @ colour) < _FAINT:
    raise read.VideoError(
      f"{flag}: has no hue; a screen is green, blue or of another strong"
      " colour; use --plate for other backgrounds"
    )
  return Screen(flag, colour, low)


class Plate:
  """A plate: the same camera's picture without what is in front.

  Where the colour differs from the plate by more than its noise, something is
  in front; a shadow as well. A change of exposure between both is taken out.
  """

  def __init__(self, path: str):
    """Reads it.

    Args:
      path: a picture, or a film, whose first frames are averaged.

    Raises:
      read.VideoError: it cannot be read.
    """
    self._path = path
    frames = [
      stream.to_float(frame.image)
      for frame in itertools.islice(_frames(path), _PLATES)
    ]
    self._plate = np.mean(frames, 0) / 2 + 0.5

  def __call__(self, image, time):
    """See `Cutter`."""
    del time
    plate = self._plate
    _check_size(f"--plate {self._path}", plate, image)
    bright = plate[::4, ::4] > 0.1
    ratio = image[::4, ::4] / np.maximum(plate[::4, ::4], 0.1)
    gain = [np.median(ratio[..., c][bright[..., c]]) for c in range(3)
            if bright[..., c].any()]  # fmt: skip
    if len(gain) == 3:
      plate = plate * np.clip(gain, 0.8, 1.25).astype(np.float32)
    apart = np.linalg.norm(image - plate, axis=-1)
    apart = ndimage.uniform_filter(apart, 3)
    noise = np.clip(np.median(apart[::4, ::4]), 0.006, 0.03)
    alpha = np.clip((apart - 3 * noise) / (4 * noise), 0, 1)
    # Specks are noise; holes are places where both have one colour.
    core = ndimage.binary_opening(alpha > 0.5, iterations=2)
    core = ndimage.binary_closing(core, iterations=4)
    near = ndimage.binary_dilation(core, iterations=4)
    inner = ndimage.binary_erosion(core, iterations=2)
    alpha = np.where(inner, 1, alpha * near).astype(np.float32)
    alpha = _refined(image, alpha, plate)
    return alpha, _unmixed(image, alpha, plate)


class Matte:
  """A film, or a picture, of alpha itself: white in front, black behind."""

  def __init__(self, path: str):
    """Opens it.

    Args:
      path: a picture, a film or a folder of pictures.

    Raises:
      read.VideoError: it cannot be read.
    """
    self._path, self._film = path, Film(path)

  def __call__(self, image, time):
    """See `Cutter`."""
    frame = self._film.at(time)
    matte = frame.image if frame.alpha is None else frame.alpha[..., None]
    matte = stream.to_float(matte).mean(-1) / 2 + 0.5
    _check_size(f"--matte {self._path}", matte, image)
    surely = matte < 0.02
    if not surely.any():
      return matte, None
    planes = _carried(list(np.moveaxis(image, -1, 0)), surely, 4)
    return matte, _unmixed(image, matte, np.stack(planes, -1))


class Film:
  """Frames by their time; what is shorter than asked for begins again."""

  def __init__(self, path: str):
    """Opens it; a picture is a film of one frame.

    Raises:
      read.VideoError: it cannot be read.
    """
    self._path, self._frames = path, _frames(path)
    self._now = next(self._frames)
    self._first, self._next = self._now.time, next(self._frames, None)
    self._still = self._next is None
    self._round = fractions.Fraction(0)  # where this turn began

  def at(self, time: fractions.Fraction) -> stream.Frame:
    """The frame that is shown at a time from the start on; times increase."""
    while not self._still:
      end = self._now.time + self._now.duration
      if self._next is not None:
        end = self._next.time
      if time < self._round + end - self._first:
        break
      if self._next is None:
        self._round += end - self._first
        self._frames = _frames(self._path)
        self._next = next(self._frames)
      self._now, self._next = self._next, next(self._frames, None)
    return self._now


def _frames(path: str) -> Iterator[stream.Frame]:
  """Upright frames with images of a picture, a film or a folder of pictures."""
  if not os.path.exists(path) and images.names(path) is None:
    raise read.VideoError(f"{path}: there is no such file")
  if images.is_picture(path):
    yield _picture(path)
    return
  with source_lib.Source(path) as film:
    yield from film.frames(film.clock())


def _picture(path: str) -> stream.Frame:
  try:
    with Image.open(path) as image:
      image = ImageOps.exif_transpose(image)
      clear = image.has_transparency_data
      pixels = np.array(image.convert("RGBA" if clear else "RGB"))
  except (OSError, ValueError) as error:
    raise read.VideoError(
      f"{path}: not a picture ({read.reason(error)})"
    ) from None
  second = fractions.Fraction(1)
  return stream.Frame(
    time=0 * second,
    duration=second,
    image=np.ascontiguousarray(pixels[..., :3]),
    alpha=pixels[..., 3] if clear else None,
  )


def _check_size(name: str, given: np.ndarray, image: np.ndarray) -> None:
  if given.shape[:2] != image.shape[:2]:
    raise read.VideoError(
      "{}: is {}x{}, the film {}x{}; they must be of one size".format(
        name, *given.shape[1::-1], *image.shape[1::-1]
      )
    )


def cutter(key: str | None, plate: str | None, matte: str | None) -> Any:
  """What cuts out, by the option that is given; None: the film's own alpha.

  Raises:
    read.VideoError: it cannot be used, or there are two.
  """
  given = {"--key": key, "--plate": plate, "--matte": matte}
  flags = [flag for flag, value in given.items() if value]
  if len(flags) > 1:
    raise read.VideoError(f"{' and '.join(flags)}: give one of them")
  if key:
    return screen(key)
  if plate:
    return Plate(plate)
  return Matte(matte) if matte else None


def replaced(
  frames: Iterable[stream.Frame],
  cut: Cutter | None,
  background: "Background | None",
) -> Iterator[stream.Frame]:
  """Lays what is in front over another background.

  Args:
    frames: with images.
    cut: gives alpha; None: it is that of the frames.
    background: None: none, the frames become transparent.

  Raises:
    read.VideoError: something cannot be read or has another size.
  """
  first = None
  for frame in frames:
    first = frame.time if first is None else first
    most = np.iinfo(frame.image.dtype).max
    image = frame.image.astype(np.float32) / most
    if cut is not None:
      alpha, front = cut(image, frame.time - first)
      front = image if front is None else front
    elif frame.alpha is not None:
      alpha, front = frame.alpha.astype(np.float32) / most, image
    else:
      raise read.VideoError(
        f"--background {background.text}: the film has no transparency; say by"
        " --key, --plate or --matte what is in front"
      )
    if background is None:
      frame.alpha = np.round(alpha * most).astype(frame.image.dtype)
    else:
      share, frame.alpha = alpha[..., None], None
      other = background.at(frame.time - first, *image.shape[:2])
      front = share * front + (1 - share) * other
    frame.image = np.round(front * most).astype(frame.image.dtype)
    yield frame


class Background:
  """A colour, picture, film or folder of pictures, which covers frames."""

  def __init__(self, text: str):
    """Opens it.

    Raises:
      read.VideoError: it is none of these.
    """
    self.text, self._film, self._last = text, None, None
    try:
      colour = ImageColor.getrgb(text)[:3]
      self._colour = np.array(colour, np.float32) / 255
    except ValueError:
      if not os.path.exists(text) and images.names(text) is None:
        raise read.VideoError(
          f"--background {text}: neither a file nor a colour as navy or #102030"
        ) from None
      self._film = Film(text)

  def at(self, time: fractions.Fraction, height: int, width: int):
    """(height, width, 3) or a colour (3,), in [0, 1]."""
    if self._film is None:
      return self._colour
    frame = self._film.at(time)
    if frame is not self._last:
      self._last = frame
      self._image = _covering(frame.image, height, width)
    return self._image


def _covering(image: np.ndarray, height: int, width: int) -> np.ndarray:
  """The middle of an image, as large as covers (height, width), in [0, 1]."""
  rows, columns = image.shape[:2]
  scale = max(height / rows, width / columns)
  rows, columns = (max(1, round(scale * side)) for side in (rows, columns))
  rows, columns = max(rows, height), max(columns, width)
  large = edits.lanczos(stream.to_float(image)[None], rows, columns)[0]
  y, x = (rows - height) // 2, (columns - width) // 2
  return np.clip(large[y : y + height, x : x + width] / 2 + 0.5, 0, 1)
