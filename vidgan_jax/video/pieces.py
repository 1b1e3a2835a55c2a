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
import heapq
from typing import Any

from vidgan_jax.video import edits
from vidgan_jax.video import filters
from vidgan_jax.video import plan
from vidgan_jax.video import read
from vidgan_jax.video import soundtrack
from vidgan_jax.video import source as source_lib
from vidgan_jax.video import stream

FITS = ("pad", "crop")
_HELD = 2**29  # bytes of frames that are held to reverse them


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
    times: of its pictures, seconds from the first of the input; these and
      `length` only if the pieces are woven.
    length: seconds that it is shown.
  """

  source: source_lib.Source
  start: fractions.Fraction
  end: fractions.Fraction | None
  fit: str = ""
  streams: list[tuple[Any, int]] = dataclasses.field(default_factory=list)
  begin: fractions.Fraction | None = None
  times: list[fractions.Fraction] = dataclasses.field(default_factory=list)
  length: fractions.Fraction = fractions.Fraction(0)

  def clock(self, source: source_lib.Source) -> source_lib.Clock:
    """From the input's times to the output's; moves `source` to the start."""
    return source.clock(self.start, self.end, self.begin)

  def after(self) -> fractions.Fraction:
    """Where the next piece begins, once this one is read."""
    if self.end is None or self.begin is None:
      return self.source.end
    # Not where its last packet of sound ends, which may be later.
    return min(self.source.end, self.begin + self.end - self.start)


class Pieces:
  """The pieces of a job.

  Attributes:
    pieces: in order.
    copies: streams of the first input that are in the output.
    alike: whether all pictures are stored in the same way.
    woven: whether more is done than to read one piece after the other: then
      sound is encoded anew, and all times are known before.
    length: seconds of all if they are woven, else 0.
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
    ranges = _ranges(options)
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
    self._voices, self.length = [], fractions.Fraction(0)
    crossfade = fractions.Fraction(options.crossfade)
    self._overlap = crossfade.limit_denominator(1000)
    self._strange = _strange(self.sources) if _heard(options) else []
    self.woven = bool(
      options.reverse or options.crossfade or any(options.fade)
      or self._strange or options.voice
    )  # fmt: skip
    if self.woven:
      self._weave()
    self.alike = all(
      _stored(source) == _stored(self.sources[0]) for source in self.sources
    )

  def fit(self, tell: Callable[[str], None]) -> None:
    """Plans how pieces get the size of the first; tells of it."""
    crop = self._options.fit == "crop"
    for piece in self.pieces[1:]:
      piece.fit = _fit(self.sources[0], piece.source, crop, tell)

  def choose(self, copies: list[Any], tell: Callable[[str], None]) -> None:
    """Finds the streams that continue those of the first input.

    Args:
      copies: streams of the first that are in the output.
      tell: takes lines for the user.
    """
    first, self.copies = self.sources[0], copies
    if self.woven:
      self._voices = [s for s in copies if s.type == "audio"]
      copies = [s for s in copies if s.type != "audio"]
    if copies and self._options.reverse:
      names = ", ".join(sorted({s.type for s in copies}))
      tell(f"--reverse: {names} cannot be reversed: left out")
      self.copies, copies = self._voices, []
    for path in dict.fromkeys(self._strange):
      tell(
        f"--concat: the sound of {path} is not like that of {first.path}, or"
        " missing; all of it is encoded anew"
      )
    for piece in self.pieces:
      both = [(_like(first, piece.source, old), old) for old in copies]
      piece.streams = [(s, old.index) for s, old in both if s is not None]
    sounds = lambda s: sum(x.type == "audio" for x in s.others)
    for other in {source.path: source for source in self.sources}.values():
      if _heard(self._options) and sounds(other) > sounds(first):
        tell(
          f"--concat: sound of {other.path} is left out, {first.path} has"
          f" {sounds(first) or 'none'}; begin with the file that has most"
        )

  @property
  def shift(self) -> fractions.Fraction | None:
    """Seconds that chapters of the first input move by; None: they are lost."""
    if self._options.reverse or len(self._options.cuts) > 1:
      return None
    return -self.pieces[0].start

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

  def _weave(self) -> None:
    """Reads the times of all pictures, and plans where each piece is.

    Raises:
      read.VideoError: there are no times, or a piece is too short.
    """
    options, begin, known = self._options, fractions.Fraction(0), {}
    for number, piece in enumerate(self.pieces):
      path = piece.source.path
      if path not in known:
        known[path] = _times(path, options.fps)
      times, end = known[path]
      if piece.end is not None:
        end = min(end, piece.end)
      piece.times = [time for time in times if piece.start <= time < end]
      if not piece.times:
        raise read.VideoError(f"{path}: no frame lies within its range")
      piece.length, piece.begin = end - piece.start, begin
      joins = (number > 0) + (number + 1 < len(self.pieces))
      if piece.length < joins * self._overlap:
        raise read.VideoError(
          f"--crossfade {options.crossfade:g}: {path} has a piece of"
          f" {float(piece.length):.2f} s, which is too short for it"
        )
      begin += piece.length - self._overlap
    self.length = begin + self._overlap
    if self.length < sum(options.fade):
      raise read.VideoError(
        f"--fade: the result is {float(self.length):.2f} s long, too short"
      )

  def frames(
    self,
    *,
    pixels: bool,
    cuts: bool,
    skip: int,
    take: Callable[[int, Any], None] | None,
  ) -> Iterator[stream.Frame]:
    """Frames of all pieces, one after the other; sets where each begins.

    Args:
      pixels: convert them to RGB.
      cuts: number the shots.
      skip: so many first frames need no image.
      take: is called with (index of the stream, packet or frame of sound);
        None: nobody wants these.
    """
    skip = 0 if self.woven or len(self.pieces) > 1 else skip
    frames = self._joined(pixels, 0 if cuts else skip, take)
    if cuts:
      frames = source_lib.numbered(frames, skip)
    tracks = self._tracks() if take else []
    for frame in frames:
      for track in tracks:
        for _, sound in track.until(frame.time):
          take(track.index, sound)
      yield frame
    for track in tracks:
      for _, sound in track.until(None):
        take(track.index, sound)

  def _tracks(self) -> list[soundtrack.Track]:
    return [
      soundtrack.Track(
        self.pieces,
        voice,
        cross=self._options.crossfade,
        backwards=self._options.reverse,
        fades=self._options.fade,
      )
      for voice in self._voices
    ]

  def _joined(self, pixels, skip, take) -> Iterator[stream.Frame]:
    """Frames of all pieces; where they overlap they are mixed."""
    cross, end, tail = self._overlap, fractions.Fraction(0), []
    for number, piece in enumerate(self.pieces):
      if number and not self.woven:
        piece.begin = end
      last = number + 1 == len(self.pieces)
      until = None if last or not cross else self.pieces[number + 1].begin
      before, tail = tail, []
      for frame in self._fitted(self._read(piece, pixels, skip, take), piece):
        if before and frame.time < piece.begin + cross:
          _cross(frame, before, (frame.time - piece.begin) / cross)
        if until is not None and frame.time >= until:
          tail.append(dataclasses.replace(frame, picture=None, base=None))
        else:
          yield frame
      end = piece.after()

  def _read(self, piece, pixels, skip, take) -> Iterator[stream.Frame]:
    """Frames of a piece as the input has them, or backwards."""
    if self._options.reverse:
      return _backwards(piece, pixels, self._options.fps)
    index = {s.index: to for s, to in piece.streams}
    return piece.source.frames(
      piece.clock(piece.source),
      pixels=pixels,
      skip=skip,
      others=[s for s, _ in piece.streams],
      # They are read in any case: they say where the piece ends.
      take=lambda p: take and take(index[p.stream.index], p),
    )

  def _fitted(self, frames, piece) -> Iterator[stream.Frame]:
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
    """(seconds, stream, packet or frame) of all but pictures, once more."""
    return heapq.merge(
      self._copied(),
      *(map(_of(track), track.until(None)) for track in self._tracks()),
      key=lambda item: item[0],
    )

  def _copied(self) -> Iterator[tuple[fractions.Fraction, int, Any]]:
    """The packets among these."""
    for piece in self.pieces:
      if piece.streams:
        source = source_lib.Source(piece.source.path)
        self._stack.callback(source.close)  # not before the sink is closed
        index = {s.index: to for s, to in piece.streams}
        same = [source.reader.container.streams[i] for i in index]
        for packet in source.packets(piece.clock(source), same):
          time = read.seconds(packet.dts, packet.time_base)
          yield time, index[packet.stream.index], packet


def _ranges(
  options: plan.Options,
) -> list[tuple[fractions.Fraction, fractions.Fraction | None]]:
  """(start, end) of what is taken of each input."""
  return [
    (source_lib.exact(start), None if end is None else source_lib.exact(end))
    for start, end in options.cuts or ((options.start, options.end),)
  ]


def _heard(options: plan.Options) -> bool:
  """Whether the sound of the inputs is in the output."""
  return options.sound and not options.voice


def _stored(source: source_lib.Source) -> Any:
  """What has to be equal for pictures to go into one film as they are."""
  picture = source.picture
  if picture is None:
    return None
  form, colour = picture.format.name, read.colour(picture)
  turn = source_lib.turn(source)
  return source_lib.shown(source), turn, form, colour


def _fit(
  first: source_lib.Source,
  other: source_lib.Source,
  crop: bool,
  tell: Callable[[str], None],
) -> str:
  """Filters that give frames of an input the size of the first; tells of it."""
  height, width, aspect = source_lib.shown(first)
  rows, columns, wide = source_lib.shown(other)
  if (rows, columns, wide) == (height, width, aspect):
    return ""
  shape = columns * wide / aspect, rows  # in pixels of the first
  scales = width / shape[0], height / shape[1]
  scale = max(scales) if crop else min(scales)
  w, h = (max(2, 2 * round(scale * side / 2)) for side in shape)
  if crop:
    w, h = max(w, width), max(h, height)
    rest = f"crop={width}:{height}"
    how = "fills it, and is cut (--fit pad shows all)"
  else:
    w, h = min(w, width), min(h, height)
    rest = f"pad={width}:{height}:(ow-iw)/2:(oh-ih)/2"
    how = "is shown whole, with bars (--fit crop fills the frame)"
  tell(
    f"{other.path}: {columns}x{rows} is put into the {width}x{height} of"
    f" {first.path}; it {how}"
  )
  return f"scale={w}:{h}:flags=bicubic+accurate_rnd,{rest},setsar=1"


def _of(track: soundtrack.Track) -> Callable[[Any], Any]:
  return lambda item: (item[0], track.index, item[1])


def _strange(sources: list[source_lib.Source]) -> list[str]:
  """Inputs whose sound does not continue that of the first."""
  return [
    source.path
    for source in sources
    for s in sources[0].others
    if s.type == "audio" and _like(sources[0], source, s) is None
  ]


def _like(first: source_lib.Source, other: source_lib.Source, old: Any) -> Any:
  """The stream of an input that continues one of the first, or None."""

  def kind(s):
    codec = s.codec_context
    about = [s.type, codec and codec.name]
    if s.type == "audio":
      about += [codec.sample_rate, codec.layout.name]
    return about

  rank = [s for s in first.others if s.type == old.type].index(old)
  like = [s for s in other.others if s.type == old.type]
  if rank < len(like) and kind(like[rank]) == kind(old):
    return like[rank]
  return None


def _times(
  path: str, fps: float | None
) -> tuple[list[fractions.Fraction], fractions.Fraction]:
  """Seconds of all pictures from the first one on, and where the last ends."""
  with source_lib.Source(path, fps) as source:
    source.look()
    reader = source.reader
    base = reader.stream.time_base
    # The packets themselves are let go of.
    ticks = {
      p.pts: p.duration or 0
      for p in reader.container.demux(reader.stream)
      if p.size
    }
  first = source.picture.pts
  if None in ticks or first is None:
    raise read.VideoError(
      f"{path}: not all pictures have times, so it cannot be reversed or faded;"
      " make an .mp4 of it first (vidgan process identity)"
    )
  order = sorted(tick for tick in ticks if tick >= first)
  last = read.seconds(ticks[order[-1]], base) or reader.step
  times = [read.seconds(tick - first, base) for tick in order]
  return times, times[-1] + last


def _backwards(
  piece: Piece, pixels: bool, fps: float | None
) -> Iterator[stream.Frame]:
  """Frames of a piece from its last on, a window at a time.

  A frame from t to u of a piece that ends at e is shown from e - u to e - t.
  """
  info = piece.source.reader.info
  most = max(8, _HELD // (5 * max(1, info.height * info.width)))
  times = piece.times
  start = piece.start
  end = after = start + piece.length
  for low in reversed(range(0, len(times), most)):
    high = low + most
    # Between two frames, so that no rounding moves one to the wrong side.
    a = start if low == 0 else (times[low - 1] + times[low]) / 2
    b = end if high >= len(times) else (times[high - 1] + times[high]) / 2
    with source_lib.Source(piece.source.path, fps) as source:
      source.look()
      source.whole = piece.source.whole
      source.interlaced = piece.source.interlaced
      a = source_lib.exact(a)
      frames = list(source.frames(source.clock(a, b, a), pixels=pixels))
    while frames:
      frame = frames.pop()
      begin, frame.time = frame.time, piece.begin + end - after
      frame.duration, after = after - begin, begin
      yield frame


def _cross(frame: stream.Frame, before: list[stream.Frame], share: Any) -> None:
  """Mixes a frame with the one of another piece that was shown at its time."""
  was = before[0]
  for other in before:
    was = other if other.time <= frame.time else was
  frame.image = edits.mixed(was.image, frame.image, float(share))
  if frame.alpha is not None and was.alpha is not None:
    frame.alpha = edits.mixed(was.alpha, frame.alpha, float(share))
