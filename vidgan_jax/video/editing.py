"""What is done to frames besides the stages: masks, times, filters.

`Editing` is made of `plan.Options` and of what the input says of itself, and
refuses what cannot work before the first frame.
"""

from collections.abc import Callable
from collections.abc import Iterator
import fractions
import re
from typing import Any

import numpy as np

from vidgan_jax.video import edits
from vidgan_jax.video import filters
from vidgan_jax.video import masks
from vidgan_jax.video import matte
from vidgan_jax.video import plan
from vidgan_jax.video import read
from vidgan_jax.video import steady
from vidgan_jax.video import stream
from vidgan_jax.video import titles

_FLIPS = {"horizontal": "hflip", "vertical": "vflip"}
_TURNS = {0: "", 90: "transpose=clock", 180: "hflip,vflip",
          270: "transpose=cclock"}  # fmt: skip
_SHARP = "lanczos+accurate_rnd+full_chroma_int"
_PAD = re.compile(r"\d+:\d+(:[#\w]+)?")

_SQUARE = "scale=trunc(iw*sar/2)*2:ih,setsar=1"


class Editing:
  """The edits of one job.

  Attributes:
    pixels: whether frames have to be images.
    whole: whether all results have to be there, from the first on.
    whole_input: whether all decoded frames have.
    square: whether the pixels of the result are made square.
  """

  def __init__(
    self,
    options: plan.Options,
    *,
    timing: plan.Timing,
    aspect: float,
    turned: bool,
    masked: bool,
    total: int,
    clear: bool,
    length: fractions.Fraction,
    tell: Callable[[str], None],
  ):
    """Nothing is checked yet.

    Args:
      options: what is wanted.
      timing: of the output.
      aspect: width of a pixel of the input / its height.
      turned: whether pictures are stored turned.
      masked: whether a stage looks at a mask.
      total: frames of the input; 0: unknown.
      clear: whether the output can hold transparency.
      length: seconds of the input, for fades.
      tell: takes lines for the user.

    Raises:
      read.VideoError: an option is out of its range.
    """
    self._options, self._timing = options, timing
    self._aspect = fractions.Fraction(aspect).limit_denominator(1000)
    if options.mask and not masked:
      tell(
        f"--mask {options.mask}: changes nothing, no stage here looks at a mask"
        " (as inpaint does)"
      )
    if options.start or options.end or options.cuts or options.concat:
      total = 0
    self._masks = options.mask and masks.Masks(options.mask, total, tell)
    self._last = _after(options)
    self._fades = _fades(options, float(length) / options.speed)
    self._titles = options.text and titles.Titles(options.text, options.font)
    self.square = bool(self._last) and aspect != 1
    if self.square:
      tell(f"{self._last[0][0]}: pixels of {self._aspect} are made square")
      self._last.insert(0, ("", _SQUARE))
    self._cut = matte.cutter(options.key, options.plate, options.matte)
    self._behind = options.background and matte.Background(options.background)
    if self._cut and not self._behind and not clear:
      raise read.VideoError(
        "--key, --plate, --matte: without --background the rest becomes"
        " transparent, which this output cannot hold; name it .mov with --codec"
        " prores, .mkv with --codec ffv1, or .webm"
      )
    self.whole = bool(timing.grid or options.filter)
    self.whole_input = bool(self.whole or self._cut or options.stabilise)
    self.pixels = bool(
      options.mask or options.compare or options.crossfade or options.stabilise
      or self._cut or self._behind or self._titles
      or (turned and (self._last or self._fades))
    )  # fmt: skip

  def check(self, height: int, width: int) -> None:
    """Refuses filters that cannot work on frames of this size.

    Args:
      height: of the result of the stages.
      width: of it.

    Raises:
      read.VideoError: says which.
    """
    if self._options.audio_filter:
      filters.built(
        self._options.audio_filter, "--audio-filter",
        ("abuffer", "sample_fmt=fltp:sample_rate=48000:channel_layout=stereo"),
        ("anull", ""),
      )  # fmt: skip
    width *= 1 + (self._options.compare == "side")
    if self._last and height * width:  # a camera may not say its own
      grey = np.zeros((height, width, 3), np.uint8)
      base = self._timing.base
      frames = (
        stream.Frame(time=k * base, duration=base, image=grey) for k in range(2)
      )
      next(self._filtered(frames, self._last, False), None)

  def _filtered(
    self, frames: Any, pairs: Any, pixels: bool
  ) -> Iterator[stream.Frame]:
    for flag, text in pairs:
      frames = filters.filtered(
        frames,
        text,
        flag=flag,
        base=self._timing.base,
        aspect=self._aspect,
        pixels=pixels,
      )
    return frames

  def before(self, frames: Iterator[stream.Frame]) -> Iterator[stream.Frame]:
    """What the stages are shown of decoded frames."""
    if self._cut or self._behind:
      frames = matte.replaced(frames, self._cut, self._behind)
    if self._options.stabilise:
      frames = steady.steadied(frames)
    if self._masks:
      frames = self._masks(frames)
      if self._options.grow:
        frames = masks.grown(frames, self._options.grow)
    return frames

  def after(
    self, frames: Iterator[stream.Frame], pixels: bool
  ) -> Iterator[stream.Frame]:
    """The result of frames from the stages.

    Args:
      frames: their images may be missing, see `whole`.
      pixels: whether they have images otherwise.
    """
    if self._options.speed != 1:
      frames = edits.faster(frames, self._timing.speed)
    if self._timing.grid:
      frames = edits.at_rate(
        frames, self._timing.fps, self._options.max_repeats
      )
    if self._options.compare:
      frames = edits.compared(frames, self._options.compare)
    frames = self._filtered(frames, self._last, pixels)
    if self._titles:
      frames = self._titles(frames)
    empty = True
    for frame in self._filtered(frames, self._fades, pixels):
      empty = False
      yield frame
    if empty:
      text = self._options.filter
      raise read.VideoError(f"--filter {text}: leaves not one frame")


def _fades(options: Any, length: float) -> list[tuple[str, str]]:
  """(flag, filters) that fade a result of so many seconds."""
  first, last = options.fade
  texts = [
    first and f"fade=in:st=0:d={first}",
    last and f"fade=out:st={max(0.0, length - last)}:d={last}",
  ]
  return [("--fade", text) for text in texts if text]


def _after(options: Any) -> list[tuple[str, str]]:
  """(flag, filters) of `plan.Options`, for the result of the stages.

  Raises:
    read.VideoError: an option is out of its range.
  """
  turn = options.rotate % 360
  turn = int(turn) if turn == int(turn) else turn
  radians = f"{turn}*PI/180"
  even = "2*ceil(rot{}({})/2)".format
  free = f"rotate={radians}:ow='{even('w', radians)}':oh='{even('h', radians)}'"
  pad = ""
  if options.pad:
    if not _PAD.fullmatch(options.pad):
      raise read.VideoError(
        f"--pad {options.pad}: give WIDTH:HEIGHT, or WIDTH:HEIGHT:COLOUR"
      )
    width, height, *colour = options.pad.split(":", 2)
    pad = f"pad={width}:{height}:(ow-iw)/2:(oh-ih)/2:{(colour or ['black'])[0]}"
  named = [
    ("--rotate", _TURNS.get(turn, free)),
    ("--flip", _FLIPS.get(options.flip, "")),
    (
      "--height",
      f"scale=-2:{options.height}:flags={_SHARP}" * bool(options.height),
    ),
    ("--pad", pad),
    ("--filter", options.filter or ""),
  ]
  return [(flag, text) for flag, text in named if text]
