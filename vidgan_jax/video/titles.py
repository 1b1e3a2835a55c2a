"""Texts on frames: one for the whole film, or subtitles from a file."""

from collections.abc import Iterable
from collections.abc import Iterator
import fractions
import os
import re
from typing import Any
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from vidgan_jax.video import read
from vidgan_jax.video import stream

_SUBTITLES = (".srt", ".vtt")
_TIME = r"(?:(\d+):)?(\d+):(\d+)[,.](\d+)"  # hours may be missing
_TIMES = re.compile(rf"{_TIME}\s*-->\s*{_TIME}")
_TAG = re.compile(r"<[^>]*>|\{[^}]*\}")  # italics and such
_LINES = 16  # of text fit into the height
_WIDE = 0.9  # of the width at most
_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf",
          "LiberationSans-Regular.ttf", "Arial.ttf", "Arial Unicode.ttf",
          "arial.ttf", "msgothic.ttc", "NotoSansCJK-Regular.ttc")  # fmt: skip
_MISSING = "\U0010ffff"  # is in no font


class _Text(NamedTuple):
  """What is shown from a time on until another one, None: always."""

  start: fractions.Fraction
  end: fractions.Fraction | None
  text: str


class Titles:
  """Draws texts in white with a dark rim, in the middle at the bottom."""

  def __init__(self, text: str, font: str | None):
    r"""Reads it.

    Args:
      text: itself, where \n begins a line, or a file of subtitles, whose times
        are from the first frame of the result on.
      font: a file, .ttf or .otf; None: Pillow's own or, where that lacks a
        letter, a usual one of the system.

    Raises:
      read.VideoError: a file cannot be read, or the font lacks a letter.
    """
    if os.path.splitext(text)[1].lower() in _SUBTITLES:
      self._texts = _subtitles(text)
    else:
      whole = text.replace(r"\n", "\n")
      self._texts = [_Text(fractions.Fraction(0), None, whole)]
    letters = sorted({c for t in self._texts for c in t.text if c.strip()})
    lacking = []
    for self._font in [font] if font else [None, *_FONTS]:
      face = self._face(32)
      if face is not None:
        missing = bytes(face.getmask(_MISSING))
        lacking = [c for c in letters if bytes(face.getmask(c)) == missing]
        if not lacking:
          break
    else:
      raise read.VideoError(
        f"--text: the fonts here lack {' '.join(lacking[:10])};"
        " give a font that has it, as --font NotoSans.ttf"
      )
    self._drawn = None, None  # (text, size), (corner, colour, alpha)

  def _face(self, size: int) -> Any:
    try:
      if self._font is None:
        return ImageFont.load_default(size)
      return ImageFont.truetype(self._font, size)
    except OSError as error:
      if self._font in _FONTS:
        return None  # not here
      raise read.VideoError(
        f"--font {self._font}: not a font ({read.reason(error)})"
      ) from None

  def __call__(self, frames: Iterable[stream.Frame]) -> Iterator[stream.Frame]:
    """Frames with their text; those without an image pass."""
    first, shown = None, []  # texts, with their numbers in the file
    later = sorted(enumerate(self._texts), key=lambda item: -item[1].start)
    for frame in frames:
      first = frame.time if first is None else first
      time = frame.time - first
      while later and later[-1][1].start <= time:
        shown.append(later.pop())
      shown = [(i, t) for i, t in shown if t.end is None or time < t.end]
      if shown and frame.image is not None:
        self._draw(frame, "\n".join(t.text for _, t in sorted(shown)))
      yield frame

  def _draw(self, frame: stream.Frame, text: str) -> None:
    """Puts a text into the image of a frame."""
    key = text, frame.image.shape
    if self._drawn[0] != key:
      self._drawn = key, self._picture(text, *frame.image.shape[:2])
    rows, columns, colour, alpha = self._drawn[1]
    most = np.iinfo(frame.image.dtype).max
    image = frame.image.copy()
    part = image[rows, columns]
    mixed = alpha * (colour * np.float32(most)) + (1 - alpha) * part
    image[rows, columns] = np.round(mixed)
    frame.image = image
    if frame.alpha is not None:
      frame.alpha = frame.alpha.copy()
      clear = frame.alpha[rows, columns]
      solid = np.round(alpha[..., 0] * most).astype(clear.dtype)
      frame.alpha[rows, columns] = np.maximum(clear, solid)

  def _picture(self, text: str, height: int, width: int):
    """(rows, columns) of a text, its colour and alpha in [0, 1]."""
    size = max(8, height // _LINES)
    face, rim = self._face(size), max(1, size // 12)
    page = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(page)
    lines = "\n".join(_wrapped(draw, face, text, _WIDE * width))
    draw.multiline_text(
      (width / 2, height - size // 2), lines, "white", face, anchor="md",
      align="center", stroke_width=rim, stroke_fill="black",
    )  # fmt: skip
    left, top, right, bottom = page.getbbox() or (0, 0, 1, 1)
    pixels = np.asarray(page, np.float32)[top:bottom, left:right] / 255
    return (
      slice(top, bottom), slice(left, right), pixels[..., :3], pixels[..., 3:]
    )  # fmt: skip


def _wrapped(draw: Any, face: Any, text: str, width: float) -> Iterator[str]:
  """Lines that are not wider than `width`, if their words are not."""
  for line in text.split("\n"):
    held = ""
    for word in line.split(" "):
      longer = f"{held} {word}".strip()
      if held and draw.textlength(longer, face) > width:
        yield held
        longer = word
      held = longer
    yield held


def _subtitles(path: str) -> list[_Text]:
  """The texts of a file in the form of SubRip or WebVTT."""
  try:
    with open(path, encoding="utf-8-sig") as file:
      blocks = re.split(r"\n\s*\n", file.read())
  except (OSError, UnicodeDecodeError) as error:
    raise read.VideoError(
      f"--text {path}: cannot be read ({read.reason(error)})"
    ) from None
  texts = []
  for block in blocks:
    times = _TIMES.search(block)
    if times:
      _, _, text = block[times.start() :].partition("\n")
      start, end = _seconds(times.groups()[:4]), _seconds(times.groups()[4:])
      texts.append(_Text(start, end, _TAG.sub("", text).strip()))
  if not texts:
    raise read.VideoError(
      f"--text {path}: has no subtitles, as 00:00:01,000 --> 00:00:03,500 and a"
      " line of text"
    )
  return texts


def _seconds(groups: tuple[str | None, ...]) -> fractions.Fraction:
  hours, minutes, seconds, rest = groups
  whole = (int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)
  return whole + fractions.Fraction(int(rest), 10 ** len(rest))
