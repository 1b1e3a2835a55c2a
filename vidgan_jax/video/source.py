"""A video file, clip of images, pipe, URL or camera as a source of frames.

`Source` gives the frames and, on the way, the packets of everything else in it:
sound, subtitles, attachments. Pictures that phones turned are upright from here
on where stages look at pixels; else they stay as they are stored.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import fractions
import functools
import itertools
from typing import Any
from typing import NamedTuple

import av
import numpy as np

from vidgan_jax.video import clips
from vidgan_jax.video import images
from vidgan_jax.video import interlace
from vidgan_jax.video import read
from vidgan_jax.video import sound
from vidgan_jax.video import stream

_LATE = 0.1  # seconds that the pictures may end before what the file promises
_LOOKS = 100  # pictures in which transparency is looked for
_SAMPLE = 2000  # packets in which the first one of every stream is looked for


def exact(time: float | fractions.Fraction) -> fractions.Fraction:
  """Seconds as a fraction, to the microsecond."""
  return fractions.Fraction(time).limit_denominator(10**6)


def is_live(path: str) -> bool:
  """Whether a name means a pipe, a URL or a camera, not a file."""
  return path == "-" or "://" in path or path.startswith("/dev/video")


def hurries(path: str) -> bool:
  """Whether a name means something that does not wait for its reader."""
  url = path.split("://")[0] in ("rtsp", "rtsps", "rtp", "udp", "srt", "rtmp")
  return url or path.startswith("/dev/video")


@dataclasses.dataclass(kw_only=True)
class Clock:
  """From a file's times to the output's; see `Source.clock`.

  Attributes:
    start: seconds from the first picture.
    begin: what the file's clock shows there; None until known.
    length: seconds that are taken from there on, None: all.
    move: is added to times.
  """

  start: fractions.Fraction
  begin: fractions.Fraction | None
  length: fractions.Fraction | None
  move: fractions.Fraction

  def outside(self, time: fractions.Fraction) -> bool:
    """Whether a time of the file is left out."""
    if not self.start and self.length is None:
      return False
    if self.begin is None:
      return True
    late = self.length is not None and time >= self.begin + self.length
    return time < self.begin or late


class _Seen(NamedTuple):
  """What the detector of scene cuts looks at."""

  image: np.ndarray
  time: fractions.Fraction
  frame: stream.Frame


class Source:
  """An open file, clip of images, pipe ('-'), URL or camera.

  Attributes:
    reader: see `read.Reader`.
    live: it cannot be read twice.
    files: what is read, when it is not live.
    images: whether these are images, see `images`.
    stopped: set it, and the frames end here.
    whole: set it, and interlaced pictures are made whole, see `interlace`.
    interlaced: is called at each interlaced picture.
    rehearsed: whether its losses have been told, see `kept.rehearse`.
    resized: frames so far that had another size than the first.
    origin: what the file's clock shows where its first stream begins.
    others: streams besides the picture; their packets can be copied.
    covers: streams of one picture each, which belongs to the whole film.
    picture: the first one, once `frames` has yielded.
    alpha: whether pictures may be transparent.
    clear: whether one of the first `_LOOKS` is.
    end: seconds where the last frame or packet so far ends, on the new clock.
  """

  def __init__(self, path: str, fps: float | None = None):
    """Opens it.

    Args:
      path: of the input.
      fps: frames a second of images.

    Raises:
      read.VideoError: it has no pictures.
    """
    self.path, self.live = path, is_live(path)
    files = None if self.live else images.names(path)
    self._clip = images.Clip(files, fps) if files else None
    self.files, self.images = files or [path], files is not None
    self.stopped = self._busy = self.rehearsed = self.whole = False
    self.interlaced = lambda: None
    self.resized = 0
    self.reader = self._open()
    streams = self.reader.container.streams
    self.covers = [s for s in streams if read.is_cover(s)]
    taken = [self.reader.stream, *self.covers]
    self.others = [s for s in streams if s not in taken]
    self.origin = _origin([self.reader.stream, *self.others])
    self._held = {}  # (container, stream) -> whether it can hold it
    self.picture, self.alpha, self.clear = None, False, False
    self.end = fractions.Fraction(0)

  def _open(self, threads: int = 0) -> read.Reader:
    """Opens it, once more if it is not live."""
    container = _connect(self.path) if self.live else None
    if self._clip:
      container = self._clip.open()
    return read.Reader(self.path, container=container, threads=threads)

  def __enter__(self) -> "Source":
    return self

  def __exit__(self, *exc) -> None:
    self.close()

  def close(self) -> None:
    """Closes it."""
    if not self._busy:  # else a thread waits inside for a camera: never mind
      self.reader.close()
    if self._clip:
      self._clip.close()

  @functools.cached_property
  def samples(self) -> dict[int, Any]:
    """The first packet of streams besides the picture, by index."""
    if self.live:
      return {}
    with self._open(threads=1) as look:
      return _first_packets(look.container, [*self.others, *self.covers])

  @functools.cached_property
  def plays(self) -> int | None:
    """How often moving images are shown, see `images.plays`."""
    return None if self.live or self.images else images.plays(self.path)

  def holds(self, container: str, stream: Any) -> bool:
    """Whether a container can hold a stream of this file as it is."""
    key = container, stream.index
    if key not in self._held:
      packet = self.samples.get(stream.index)
      self._held[key] = sound.holds(container, stream, packet)
    return self._held[key]

  def clock(
    self,
    start: float = 0.0,
    end: float | None = None,
    shift: fractions.Fraction | None = None,
  ) -> "Clock":
    """How times of this file become those of the output; moves to `start`.

    Args:
      start: seconds from the first frame; what is earlier is left out.
      end: seconds; what is not earlier is left out.
      shift: where `start` is to be; None: as the file says, from `origin` on.
    """
    start = exact(start)
    begin = None
    if not self.live and (start or end is not None or shift is not None):
      begin = self._origin(start) + start
    move = -self.origin - start if shift is None else shift - begin
    length = None
    if end is not None:
      length = exact(end) - start
    return Clock(start=start, begin=begin, length=length, move=move)

  def _origin(self, start: fractions.Fraction) -> fractions.Fraction:
    """Time of the first picture; moves on to shortly before `start`."""
    with self._open(threads=1) as look:
      _, first = next(look.pictures())
      if start > 5:
        to = int((first + start - 1) * av.time_base)
        try:
          look.container.seek(to)
          _, time = next(look.pictures())
          if time <= first + start:
            self.reader.container.seek(to)
        except (av.error.FFmpegError, OSError, read.VideoError):
          pass  # read from the beginning
    return first

  def frames(
    self,
    clock: "Clock",
    *,
    pixels: bool = True,
    skip: int = 0,
    others: Iterable[Any] = (),
    take: Callable[[Any], None] | None = None,
  ) -> Iterator[stream.Frame]:
    """Yields the frames.

    Args:
      clock: from `clock`.
      pixels: convert them to RGB.
      skip: so many first frames need no image.
      others: streams to read on the way.
      take: is called with each packet of theirs.

    Raises:
      read.VideoError: there is not one frame.
    """
    count, first = 0, None
    pass_on = lambda packet: self._pass(packet, clock, take)
    for picture, time in self._pictures(others, pass_on):
      if clock.begin is None:
        clock.begin = time + clock.start
      if self.picture is None:
        self.look(picture)
      first = first or self.reader.upright_size(self.picture)
      self.resized += self.reader.upright_size(picture) != first
      if clock.length is not None and time > clock.begin + clock.length + 1:
        break  # not before: the sound may come later than the picture
      if clock.outside(time):
        continue
      frame = stream.Frame(
        time=time + clock.move,
        duration=_duration(self, picture),
        picture=picture,
      )
      if pixels and count >= skip:
        self._convert(frame)
      count += 1
      self.end = max(self.end, frame.time + frame.duration)
      yield frame
    else:
      if not self.stopped:
        _check_end(self, clock, time + _duration(self, picture))
    if not count:
      why = "no frame lies within --start and --end, or a --cut"
      if self.stopped:
        why = "was stopped before the first frame"
      raise read.VideoError(f"{self.path}: {why}")

  def _pictures(self, others, take):
    """Pictures until it is stopped; knows when a thread waits for one."""
    pictures = interlace.whole(
      self.reader.pictures(others, take), self.interlaced, self.whole
    )
    while not self.stopped:
      self._busy = True
      item = next(pictures, None)
      self._busy = False
      if item is None:
        break
      yield item

  def packets(self, clock: "Clock", others: Iterable[Any]) -> Iterator[Any]:
    """Yields the packets of other streams alone, on the new clock."""
    out = []
    if not others:
      return
    try:
      for packet in self.reader.container.demux(*others):
        self._pass(packet, clock, out.append)
        yield from out
        out.clear()
    except (av.error.FFmpegError, OSError):
      return  # where `frames` breaks off as well

  def _pass(self, packet, clock, take) -> None:
    """Puts a packet on the new clock and hands it on."""
    ticks = packet.dts if packet.pts is None else packet.pts
    if ticks is None or not packet.size:
      return
    time = read.seconds(ticks, packet.time_base)
    if clock.outside(time):
      return
    move = round(clock.move / read.seconds(1, packet.time_base))
    packet.pts = ticks + move
    packet.dts = packet.pts if packet.dts is None else packet.dts + move
    duration = read.seconds(packet.duration or 0, packet.time_base)
    self.end = max(self.end, time + clock.move + duration)
    take(packet)

  def look(self, picture: Any = None) -> None:
    """Notes what the first picture is like; finds it itself if not given."""
    if picture is not None:
      self.picture, self.alpha = picture, read.has_alpha(picture.format)
      self.reader.aim(picture)
      return
    with self._open(threads=1) as reader:
      pictures = (picture for picture, _ in reader.pictures())
      self.picture = next(pictures)
      self.reader.aim(self.picture)
      if read.has_alpha(self.picture.format):
        early = itertools.chain([self.picture], pictures)
        rgba = (self.reader.convert(picture, "rgba") for picture in early)
        rgba = itertools.islice(rgba, _LOOKS)
        self.clear = any(image[..., 3].min() < 255 for image in rgba)
        more = self.picture.format.name != "pal8" and next(pictures, None)
        self.alpha = self.clear or bool(more)

  def _convert(self, frame: stream.Frame) -> None:
    """Fills in the image, and alpha."""
    deep = read.is_deep(frame.picture.format)
    pixels = ("rgba", "rgba64le") if self.alpha else ("rgb24", "rgb48le")
    image = self.reader.convert(frame.picture, pixels[deep])
    if self.alpha:
      image, frame.alpha = np.ascontiguousarray(image[..., :3]), image[..., 3]
    frame.image = frame.base = image
    if self.reader.turn(frame.picture) != read.UPRIGHT:
      frame.picture = None


def turn(source: Source) -> tuple[bool, int, int]:
  """How the first picture is turned, see `read.Reader.turn`."""
  if source.picture is None:
    return read.UPRIGHT
  return source.reader.turn(source.picture)


def shown(source: Source) -> tuple[int, int, float]:
  """Height, width and pixel aspect of the first picture, upright."""
  info = source.reader.info
  if turn(source)[0]:
    return info.width, info.height, 1 / info.pixel_aspect
  return info.height, info.width, info.pixel_aspect


def _duration(source: Source, picture: Any) -> fractions.Fraction:
  own = read.seconds(picture.duration or 0, picture.time_base)
  return own or source.reader.step


def _connect(path: str) -> Any:
  """An open container of a live input."""
  name, kind = path, None
  if name == "-":
    name = "pipe:0"
  elif name.startswith("/dev/"):
    kind = "v4l2"
  try:
    return av.open(name, format=kind, timeout=(30, 30))
  except (av.error.FFmpegError, OSError, ValueError) as error:
    raise read.VideoError(
      f"{path}: no video comes ({read.reason(error)})"
    ) from None


def _check_end(source: Source, clock: Clock, end: fractions.Fraction) -> None:
  """Refuses a file that ended, at `end`, before what it promises.

  A header alone does not prove that the file is cut short: it may be wrong,
  the sound longer, the last picture without its duration.
  """
  came = float(max(end, end - clock.begin + clock.start))
  whole = wanted = source.reader.info.duration
  if clock.length is not None:
    wanted = min(wanted, float(clock.start + clock.length))
  if source.live or source.images or wanted - came < _LATE:
    return
  if read.is_cut(source.path, source.reader.info.container):
    raise read.VideoError(
      f"{source.path}: is cut short, {came:.2f} of {whole:.2f} s are there; get"
      f" the whole file, or take what there is with --end {came + 0.01:.2f}"
    )


def _origin(streams: list[Any]) -> fractions.Fraction:
  """Time of the first stream; in ticks of the picture, whose times stay."""
  base = read.seconds(1, streams[0].time_base)
  starts = [
    read.seconds(s.start_time, s.time_base) // base * base
    for s in streams
    if s.type in ("video", "audio") and s.start_time is not None
  ]
  # What begins before 0, as the silence that AAC begins with, is not shown.
  return max(min(starts, default=fractions.Fraction(0)), 0)


def _first_packets(container: Any, streams: list[Any]) -> dict[int, Any]:
  """The first packet of each stream, by index, where one comes soon."""
  streams = [s.index for s in streams if s.type != "attachment"]
  out = {}
  try:
    packets = container.demux(*(container.streams[i] for i in streams))
    for packet in itertools.islice(packets if streams else (), _SAMPLE):
      if packet.size:
        out.setdefault(packet.stream.index, packet)
      if len(out) == len(streams):
        break
  except (av.error.FFmpegError, OSError):
    pass  # where `Source.frames` breaks off as well
  return out


def numbered(
  frames: Iterable[stream.Frame], skip: int
) -> Iterator[stream.Frame]:
  """Numbers the shots of frames, and takes away the first `skip` images."""
  looks = (_Seen(_eight(f.image), f.time, f) for f in frames)
  for count, (seen, shot) in enumerate(clips.cut(looks)):
    seen.frame.shot = shot
    if count < skip:
      seen.frame.image = None
    yield seen.frame


def _eight(image: np.ndarray) -> np.ndarray:
  return image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)
