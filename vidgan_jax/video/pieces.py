"""What is read, piece after piece: each range of each input.

  a.mp4 b.mp4, ranges 3-5 and 8-9  ->  a 3-5, a 8-9, b 3-5, b 8-9

A piece begins where the one before it ended. What is of another size than the
first input is fitted into that.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import fractions
from typing import Any

from vidgan_jax.video import filters
from vidgan_jax.video import plan
from vidgan_jax.video import read
from vidgan_jax.video import source as source_lib
from vidgan_jax.video import stream

FITS = ("pad", "crop")


@dataclasses.dataclass(kw_only=True)
class Piece:
  """One range of one input.

  Attributes:
    source: the input, open; each piece has its own.
    start: seconds from its first picture.
    end: seconds; None: all.
    fit: filters that give its frames the size of the first.
    streams: (stream, index of the first input's stream that it continues).
    begin: seconds where it is on the output's clock, at the input's speed;
      None: as the input says.
  """

  source: source_lib.Source
  start: float
  end: float | None
  fit: str = ""
  streams: list[tuple[Any, int]] = dataclasses.field(default_factory=list)
  begin: fractions.Fraction | None = None

  def clock(self, source: source_lib.Source) -> source_lib.Clock:
    """From the input's times to the output's; moves `source` to the start."""
    return source.clock(self.start, self.end, self.begin)


class Pieces:
  """The pieces of a job.

  Attributes:
    pieces: in order.
    copies: streams of the first input that are in the output.
    alike: whether all pictures are stored in the same way.
  """

  def __init__(
    self, path: str, options: plan.Options, stack: contextlib.ExitStack
  ):
    """Opens all inputs.

    Args:
      path: of the first.
      options: those of the job.
      stack: closes them.

    Raises:
      read.VideoError: one cannot be opened.
    """
    ranges = options.cuts or ((options.start, options.end),)
    self._options, self._stack, self.copies = options, stack, []
    self.pieces = []
    for name in (path, *options.concat):
      for start, end in ranges:
        source = source_lib.Source(name, options.fps)
        stack.callback(source.close)
        self.pieces.append(Piece(source=source, start=start, end=end))
    self.sources = [piece.source for piece in self.pieces]
    if not self.sources[0].live:
      for source in self.sources:
        source.look()
    if len(self.pieces) > 1:
      self.pieces[0].begin = fractions.Fraction(0)
    self.alike = all(
      _stored(source) == _stored(self.sources[0]) for source in self.sources
    )

  def fit(self, tell: Callable[[str], None]) -> None:
    """Plans how pieces get the size of the first; tells of it."""
    first = self.sources[0]
    height, width, aspect = _shown(first)
    for piece in self.pieces[1:]:
      rows, columns, other = _shown(piece.source)
      if (rows, columns, other) == (height, width, aspect):
        continue
      shape = columns * other / aspect, rows  # in pixels of the first
      scales = width / shape[0], height / shape[1]
      crop = self._options.fit == "crop"
      scale = max(scales) if crop else min(scales)
      w, h = (max(2, 2 * round(scale * side / 2)) for side in shape)
      if crop:
        w, h = max(w, width), max(h, height)
        rest = f"crop={width}:{height}"
      else:
        w, h = min(w, width), min(h, height)
        rest = f"pad={width}:{height}:(ow-iw)/2:(oh-ih)/2"
      piece.fit = f"scale={w}:{h}:flags=bicubic+accurate_rnd,{rest},setsar=1"
      how = "fills it, and is cut (--fit pad shows all)"
      if not crop:
        how = "is shown whole, with bars (--fit crop fills the frame)"
      tell(
        f"{piece.source.path}: {columns}x{rows} is put into the"
        f" {width}x{height} of {first.path}; it {how}"
      )

  def choose(self, copies: list[Any], tell: Callable[[str], None]) -> None:
    """Finds the streams that continue those of the first input.

    Args:
      copies: streams of the first that are in the output.
      tell: takes lines for the user.

    Raises:
      read.VideoError: a piece has none that can be copied.
    """
    first, self.copies = self.sources[0], copies
    for piece in self.pieces:
      other = piece.source
      streams = copies
      if other is not first:
        streams = plan.same_streams(first, other, copies)
      both = zip(streams, copies)
      piece.streams = [(s, c.index) for s, c in both if s is not None]
    sounds = lambda s: sum(x.type == "audio" for x in s.others)
    for other in {source.path: source for source in self.sources}.values():
      if self._options.sound and sounds(other) > sounds(first):
        tell(
          f"--concat: sound of {other.path} is left out, {first.path} has"
          f" {sounds(first) or 'none'}; begin with the file that has most"
        )

  @property
  def ends(self) -> list[fractions.Fraction]:
    """Where the pieces begin, and the last one ends, once all are read."""
    begins = [piece.begin or fractions.Fraction(0) for piece in self.pieces]
    return [*begins, self.sources[-1].end]

  def begin(self, ends: list[fractions.Fraction]) -> None:
    """Takes `ends` of an earlier run."""
    if len(self.pieces) > 1:
      for piece, begin in zip(self.pieces, ends):
        piece.begin = begin

  def frames(
    self,
    *,
    pixels: bool,
    cuts: bool,
    skip: int,
    take: Callable[[int, Any], None],
  ) -> Iterator[stream.Frame]:
    """Frames of all pieces, one after the other; sets where each begins.

    Args:
      pixels: convert them to RGB.
      cuts: number the shots.
      skip: so many first frames need no image.
      take: is called with (index of the stream, packet) of what is copied.
    """
    end, shot = fractions.Fraction(0), 0
    for number, piece in enumerate(self.pieces):
      if number:
        piece.begin = end
      index = {s.index: to for s, to in piece.streams}
      frames = piece.source.frames(
        piece.clock(piece.source),
        pixels=pixels,
        cuts=cuts,
        skip=0 if len(self.pieces) > 1 else skip,
        others=[s for s, _ in piece.streams],
        take=lambda packet, index=index: take(
          index[packet.stream.index], packet
        ),
      )
      first = shot
      for frame in self._fitted(frames, piece, pixels):
        shot = frame.shot = first + frame.shot
        yield frame
      end, shot = piece.source.end, shot + 1  # a join is a cut
      if piece.end is not None and piece.begin is not None:
        # Not where its last packet of sound ends, which may be later.
        length = fractions.Fraction(piece.end - piece.start)
        end = min(end, piece.begin + length.limit_denominator(10**6))

  def _fitted(self, frames, piece, pixels) -> Iterator[stream.Frame]:
    """Frames of the size of the first input, in its colours."""
    if not self.alike and piece is not self.pieces[0]:
      frames = (dataclasses.replace(f, picture=None) for f in frames)
    times = collections.deque()  # as they were, exact

    def noted():
      for frame in frames:
        times.append((frame.time, frame.duration))
        yield frame

    tick = fractions.Fraction(1, 10**6)
    for frame in filters.filtered(noted(), piece.fit, flag="--fit", base=tick):
      frame.time, frame.duration = times.popleft()
      yield frame

  def packets(self) -> Iterator[tuple[fractions.Fraction, int, Any]]:
    """(seconds, index of the stream, packet) of what is copied, once more."""
    for piece in self.pieces:
      if piece.streams:
        source = source_lib.Source(piece.source.path)
        self._stack.callback(source.close)  # not before the sink is closed
        index = {s.index: to for s, to in piece.streams}
        same = [source.reader.container.streams[i] for i in index]
        for packet in source.packets(piece.clock(source), same):
          time = source_lib.seconds(packet.dts, packet.time_base)
          yield time, index[packet.stream.index], packet


def _shown(source: source_lib.Source) -> tuple[int, int, float]:
  """Height, width and pixel aspect of an input, upright."""
  info = source.reader.info
  height, width, aspect = info.height, info.width, info.pixel_aspect
  if source.picture is not None and source.reader.turn(source.picture)[0]:
    return width, height, 1 / aspect
  return height, width, aspect


def _stored(source: source_lib.Source) -> Any:
  """What has to be equal for pictures to go into one film as they are."""
  picture = source.picture
  if picture is None:
    return None
  turn = source.reader.turn(picture)
  return _shown(source), turn, picture.format.name, read.colour(picture)
