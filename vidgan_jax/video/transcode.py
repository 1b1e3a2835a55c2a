"""A video file in and another out, with all that is not pixels kept.

`Source` gives a file's frames and, on the way, the packets of everything else
in it; `Sink` encodes frames and takes such packets. Kept are every frame's time
and duration (of variable rate too), odd sizes, the shape of pixels, colour
matrix, range, primaries and transfer, 10 bits, transparency where the codec has
it; sound, subtitles, attachments, chapters and texts, where the container can
hold them. Pictures that phones turned: where no stage looks at pixels the
display matrix is copied; else frames are upright from there on.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import difflib
import fractions
import io
from typing import Any
from typing import NamedTuple

import av
from av.codec import codec as codecs
from av.sidedata import sidedata
from av.video import reformatter
import numpy as np

from vidgan_jax.video import clips
from vidgan_jax.video import images
from vidgan_jax.video import read
from vidgan_jax.video import sound
from vidgan_jax.video import stream
from vidgan_jax.video import write

FORMATS = {
  ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska",
  ".webm": "webm", ".ts": "mpegts", ".m2ts": "mpegts", ".mts": "mpegts",
  ".flv": "flv", ".nut": "nut", ".avi": "avi", ".3gp": "3gp",
}  # fmt: skip
PICTURES = {  # containers of pictures alone, and what encodes them
  "image2": "png", "apng": "apng", "webp": "libwebp_anim", "gif": "gif",
}  # fmt: skip
CODECS = {  # what people call an encoder -> its name
  "h264": "libx264", "avc": "libx264", "x264": "libx264", "h265": "libx265",
  "hevc": "libx265", "x265": "libx265", "av1": "libsvtav1",
  "vp8": "libvpx", "vp9": "libvpx-vp9", "prores": "prores_ks",
}  # fmt: skip
# Good, not lossless: what a generator drew shall not be lost again.
_CRF = {"libx264": 17, "libx265": 17, "libsvtav1": 18, "libvpx-vp9": 18,
        "libvpx": 8}  # fmt: skip
_RGB = (*PICTURES.values(), "ffv1")  # encoders to be given what it is
_ANY_SIZE = ("libvpx", "libvpx-vp9", "prores_ks", *_RGB)
_SMOOTH = (
  reformatter.Interpolation.FULL_CHR_H_INT
  | reformatter.Interpolation.FULL_CHR_H_INP
  | reformatter.Interpolation.ACCURATE_RND
)
_TURNS = ("mp4", "mov", "3gp")  # hold a display matrix
_MADE = ("major_brand", "minor_version", "compatible_brands", "encoder",
         "rotate", "handler_name", "vendor_id")  # fmt: skip
_LIMITED = 1
_LATE = 0.1  # seconds that the pictures may end before what the file promises


def seconds(ticks: int, base: Any) -> fractions.Fraction:
  """Exact seconds; PyAV's rationals differ between its versions."""
  return fractions.Fraction(ticks * base.numerator, base.denominator)


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


def turns(container: str) -> bool:
  """Whether a container can say how pictures are to be turned."""
  return container in _TURNS


class _Seen(NamedTuple):
  """What the detector of scene cuts looks at."""

  image: np.ndarray
  time: fractions.Fraction
  frame: stream.Frame


# ------------------------------------------------------------------ source


class Source:
  """An open file, clip of images, pipe ('-'), URL or camera.

  Attributes:
    reader: see `read.Reader`.
    live: it cannot be read twice.
    files: what is read, when it is not live.
    images: whether these are images, see `images`.
    stopped: set it, and the frames end here.
    resized: frames so far that had another size than the first.
    others: streams besides the picture; their packets can be copied.
    picture: the first one, once `frames` has yielded.
    alpha: whether that is transparent somewhere.
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
    self.stopped = self._busy = False
    self.resized = 0
    self.reader = self._open()
    self.others = [
      s
      for s in self.reader.container.streams
      if s.index != self.reader.stream.index
    ]
    self.picture, self.alpha = None, False
    self.end = fractions.Fraction(0)

  def _open(self, threads: int = 0) -> read.Reader:
    """Opens it, once more if it is not live."""
    container = self._connect() if self.live else None
    if self._clip:
      container = self._clip.open()
    return read.Reader(self.path, container=container, threads=threads)

  def _connect(self) -> Any:
    """An open container of a live input."""
    name, kind = self.path, None
    if name == "-":
      name = "pipe:0"
    elif name.startswith("/dev/"):
      kind = "v4l2"
    try:
      return av.open(name, format=kind, timeout=(30, 30))
    except (av.error.FFmpegError, OSError, ValueError) as error:
      raise read.VideoError(
        f"{self.path}: no video comes ({read.reason(error)})"
      ) from None

  def close(self) -> None:
    """Closes it."""
    if not self._busy:  # else a thread waits inside for a camera: never mind
      self.reader.close()
    if self._clip:
      self._clip.close()

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
      shift: where on the new clock `start` is to be; None: the file's own
        clock, less `start`.
    """
    start = fractions.Fraction(start).limit_denominator(10**6)
    begin = None
    if not self.live and (start or end is not None or shift is not None):
      begin = self._origin(start) + start
    move = -start if shift is None else shift - begin
    length = None
    if end is not None:
      length = fractions.Fraction(end).limit_denominator(10**6) - start
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
    cuts: bool = False,
    skip: int = 0,
    others: Iterable[Any] = (),
    take: Callable[[Any], None] | None = None,
  ) -> Iterator[stream.Frame]:
    """Yields the frames.

    Args:
      clock: from `clock`.
      pixels: convert them to RGB.
      cuts: number the shots.
      skip: so many first frames need no image.
      others: streams to read on the way.
      take: is called with each packet of theirs.

    Raises:
      read.VideoError: there is not one frame.
    """
    plain = self._frames(
      clock, pixels or cuts, 0 if cuts else skip, others, take
    )
    if not cuts:
      yield from plain
      return
    looks = (_Seen(_eight(f.image), f.time, f) for f in plain)
    for count, (seen, shot) in enumerate(clips.cut(looks)):
      seen.frame.shot = shot
      if count < skip:
        seen.frame.image = None
      yield seen.frame

  def _frames(self, clock, convert, skip, others, take):
    """Frames without shots."""
    count = 0
    pass_on = lambda packet: self._pass(packet, clock, take)
    for picture, time in self._pictures(others, pass_on):
      if clock.begin is None:
        clock.begin = time + clock.start
      if self.picture is None:
        self.look(picture)
      size = self.picture.height, self.picture.width
      self.resized += (picture.height, picture.width) != size
      if clock.length is not None and time > clock.begin + clock.length + 1:
        break  # not before: the sound may come later than the picture
      if clock.outside(time):
        continue
      frame = stream.Frame(
        time=time + clock.move,
        duration=self._duration(picture),
        picture=picture,
      )
      if convert and count >= skip:
        self._convert(frame)
      count += 1
      self.end = max(self.end, frame.time + frame.duration)
      yield frame
    else:
      if not self.stopped:
        self._check_end(clock, time + self._duration(picture))
    if not count:
      why = "no frame lies within --start and --end"
      if self.stopped:
        why = "was stopped before the first frame"
      raise read.VideoError(f"{self.path}: {why}")

  def _duration(self, picture) -> fractions.Fraction:
    own = seconds(picture.duration or 0, picture.time_base)
    return own or self.reader.step

  def _check_end(self, clock, end) -> None:
    """Refuses a file that ended, at `end`, before what it promises.

    What it promises alone is no proof: a header may be wrong, the sound longer,
    the last picture without its duration.
    """
    came = float(max(end, end - clock.begin + clock.start))
    whole = wanted = self.reader.info.duration
    if clock.length is not None:
      wanted = min(wanted, float(clock.start + clock.length))
    if self.live or self.images or wanted - came < _LATE:
      return
    if read.is_cut(self.path, self.reader.info.container):
      raise read.VideoError(
        f"{self.path}: is cut short, {came:.2f} of {whole:.2f} s are there; get"
        f" the whole file, or take what there is with --end {came + 0.01:.2f}"
      )

  def _pictures(self, others, take):
    """Pictures until it is stopped; knows when a thread waits for one."""
    pictures = self.reader.pictures(others, take)
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
    time = seconds(ticks, packet.time_base)
    if clock.outside(time):
      return
    move = round(clock.move / seconds(1, packet.time_base))
    packet.pts = ticks + move
    packet.dts = packet.pts if packet.dts is None else packet.dts + move
    last = time + clock.move + seconds(packet.duration or 0, packet.time_base)
    self.end = max(self.end, last)
    take(packet)

  def look(self, picture: Any = None) -> None:
    """Notes what the first picture is like; finds it itself if not given."""
    if picture is None:
      with self._open(threads=1) as reader:
        picture, _ = next(reader.pictures())
    self.reader.aim(picture)
    self.picture, self.alpha = picture, self._transparent(picture)

  def _transparent(self, picture: Any) -> bool:
    """Whether a picture has an alpha channel that says something."""
    if not any(c.is_alpha for c in picture.format.components):
      return False
    return self.reader.convert(picture, "rgba")[..., 3].min() < 255

  def _convert(self, frame: stream.Frame) -> None:
    """Fills in the image, and alpha."""
    deep = is_deep(frame.picture)
    pixels = ("rgba", "rgba64le") if self.alpha else ("rgb24", "rgb48le")
    image = self.reader.convert(frame.picture, pixels[deep])
    if self.alpha:
      image, frame.alpha = np.ascontiguousarray(image[..., :3]), image[..., 3]
    frame.image = frame.base = image
    if self.reader.turn(frame.picture) != (False, 1, 1):
      frame.picture = None


def is_deep(picture: Any) -> bool:
  """Whether a picture has more than 8 bits a colour."""
  return max(c.bits for c in picture.format.components) > 8


def _eight(image: np.ndarray) -> np.ndarray:
  return image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)


# ------------------------------------------------------------------ sink


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoding:
  """What the user wants of the output; None: chosen here.

  Attributes:
    container: name of a muxer.
    codec: an encoder, by any name of `CODECS` or its own.
    crf: quality, in the codec's own numbers.
    preset: speed, in the codec's own words.
    pix_fmt: how pixels are stored.
    exact: the same frames always give the same bytes. x264's `mbtree` reads
      memory that it never wrote, for frames of some sizes; so it is left out,
      for a few per cent of the rate.
  """

  container: str
  codec: str | None = None
  crf: float | None = None
  preset: str | None = None
  pix_fmt: str | None = None
  exact: bool = False

  def encoder(self) -> str:
    """Name of the encoder.

    Raises:
      read.VideoError: there is none of that name.
    """
    usual = {"webm": "libvpx-vp9", **PICTURES}.get(self.container, "libx264")
    name = CODECS.get((self.codec or usual).lower(), self.codec or usual)
    try:
      if codecs.Codec(name, "w").type == "video":
        return name
    except ValueError:
      pass
    close = difflib.get_close_matches(name, {*CODECS, *CODECS.values(), "ffv1"})
    raise read.VideoError(
      f"--codec {self.codec}: there is no such encoder of video here; did you"
      f" mean {close[0] if close else 'h264'}?"
    )

  def options(self, encoder: str, known: Iterable[str]) -> dict[str, str]:
    """Options of the encoder.

    Raises:
      read.VideoError: the encoder has no crf or preset.
    """
    out = {"crf": _CRF.get(encoder), "preset": None}
    if encoder == "libsvtav1":
      out["preset"] = 8
    if encoder == "libwebp_anim":
      out["quality"] = 92
    if encoder == "libx265":
      out["x265-params"] = "log-level=error"
    for name, value in (("crf", self.crf), ("preset", self.preset)):
      if value is not None:
        if name not in known:
          raise read.VideoError(f"--{name}: the encoder {encoder} has none")
        out[name] = value
    if self.exact and encoder == "libx264":
      out["mbtree"] = 0
    if encoder.startswith("libvpx"):
      out |= {"b": 0, "row-mt": 1, "cpu-used": 3} if "9" in encoder else {
        "b": "50M"}  # fmt: skip
    return {k: f"{v:g}" if isinstance(v, float) else str(v)
            for k, v in out.items() if v is not None}  # fmt: skip


class Sink:
  """An output file: one picture stream and copies of others."""

  def __init__(
    self,
    path: str | io.BytesIO,
    encoding: Encoding,
    source: Source,
    frame: stream.Frame,
    *,
    name: str,
    time_base: fractions.Fraction,
    rate: fractions.Fraction,
    copy: Iterable[Any] = (),
    shift: fractions.Fraction = fractions.Fraction(0),
    speed: fractions.Fraction = fractions.Fraction(1),
    tell: Callable[[str], None] = lambda text: None,
  ):
    """Opens the file and writes its head.

    Args:
      path: to write to.
      encoding: how.
      source: what the frames come from; colours and texts are taken over.
      frame: the first one to be written; it says the size.
      name: what to call the file in messages.
      time_base: seconds, of which all times are multiples.
      rate: frames a second, for the encoder's planning.
      copy: streams of the source, from `copyable`.
      shift: seconds that chapters are moved by.
      speed: by which all but the frames is made faster here.
      tell: takes lines for the user.

    Raises:
      read.VideoError: it cannot be written like this.
    """
    self.name, self._time_base = name, time_base
    self._convert = source.reader.convert
    self._pts, self._durations = None, {}
    self._dts, self._speed = {}, speed
    self._reformatter, self._converter = reformatter.VideoReformatter(), None
    encoder = encoding.encoder()
    try:
      self._container = av.open(
        path,
        "w",
        format=encoding.container,
        container_options=_container_options(encoding, source),
        **read.LENIENT,
      )
    except (av.error.FFmpegError, OSError, ValueError) as error:
      raise self._failed(error) from None
    try:
      self._stream = self._container.add_stream(
        encoder, rate=rate.limit_denominator(65_535)
      )
      self._describe(encoding, encoder, source, frame, tell)
      self._copies, self._voices = {}, {}
      for old in copy:
        if old.type == "audio" and (
          speed != 1 or not sound.holds(encoding.container, old)
        ):
          voice = sound.Voice(self._container, encoding.container, old, speed)
          self._voices[old.index] = voice
          new = voice.stream
        else:
          new = self._container.add_stream_from_template(old)
        self._copies[old.index] = new
        new.metadata.update(_texts(old.metadata))
        new.disposition = old.disposition
      self._container.metadata.update(_texts(source.reader.container.metadata))
      self._container.set_chapters(
        _moved(source.reader.container.chapters(), shift, speed)
      )
      self._container.start_encoding()
    except (av.error.FFmpegError, OSError, ValueError) as error:
      self.abandon()
      raise self._failed(error) from None
    except BaseException:
      self.abandon()
      raise

  def _describe(self, encoding, encoder, source, frame, tell) -> None:
    """Settings of the picture stream."""
    picture, codec = source.picture, self._stream.codec_context
    shape = _shape(frame, picture)
    alpha = source.alpha and (frame.alpha is not None or frame.image is None)
    self._pix_fmt = encoding.pix_fmt or _pixels(
      encoder, picture.format, alpha, shape
    )
    known = [f.name for f in codecs.Codec(encoder, "w").video_formats or ()]
    if known and self._pix_fmt not in known:
      raise read.VideoError(
        f"--pix-fmt {self._pix_fmt}: the encoder {encoder} has"
        f" {', '.join(known)}"
      )
    form = av.VideoFormat(self._pix_fmt, 16, 16)
    self._alpha = any(c.is_alpha for c in form.components)
    texts = _texts(source.reader.stream.metadata)
    if not self._alpha:
      texts.pop("alpha_mode", None)
    self._stream.metadata.update(texts)
    if alpha and not self._alpha:
      tell(
        f"{self.name}: transparency is lost ({encoder} has none; --codec ffv1"
        " in .mkv, prores --pix-fmt yuva444p10le in .mov or vp9 in .webm keep"
        " it)"
      )
    if is_deep(picture) and max(c.bits for c in form.components) <= 8:
      tell(
        f"{self.name}: {picture.format.name} becomes {self._pix_fmt}, 8 bits"
      )
    if encoder in ("libx264", "libx265") and not encoding.pix_fmt:
      if form.chroma_width(16) == 16:
        tell(f"{self.name}: few players show {self._pix_fmt}, which keeps all"
             " samples of colour; --pix-fmt yuv420p is for all")  # fmt: skip
    across = form.chroma_width(16) < 16 and encoder not in _ANY_SIZE
    down = form.chroma_height(16) < 16 and encoder not in _ANY_SIZE
    self._shape = shape
    self._pad = (shape[0] % 2 * down, shape[1] % 2 * across)
    if any(self._pad):
      tell(f"{self.name}: {self._pix_fmt} has no odd sizes; a row or column is"
           " repeated")  # fmt: skip
    self._size = shape[0] + self._pad[0], shape[1] + self._pad[1]
    self._stream.height, self._stream.width = self._size
    self._stream.pix_fmt = self._pix_fmt
    codec.time_base = self._time_base
    own = {option.name for option in codec.supported_options.private}
    codec.options = encoding.options(encoder, own)
    codec.thread_count, codec.thread_type = 0, "AUTO"  # not only slices
    matrix, full = 1, _LIMITED
    if not picture.format.is_rgb:
      matrix, full = read.colour(picture)
    self._colours = (None, None) if form.is_rgb else (matrix, full)
    self._halved = form.chroma_width(16) < 16
    tag = int(picture.colorspace)
    codec.colorspace = 0 if form.is_rgb else matrix if tag in (0, 2, 3) else tag
    codec.color_range = 2 if form.is_rgb else full
    codec.color_primaries = picture.color_primaries
    codec.color_trc = picture.color_trc
    aspect = source.reader.info.pixel_aspect
    transpose, *_ = turn = source.reader.turn(picture)
    if frame.image is not None:
      aspect = 1 / aspect if transpose else aspect
    elif turn != (False, 1, 1) and encoding.container in _TURNS:
      matrix9 = picture.side_data[sidedata.Type.DISPLAYMATRIX]
      self._stream.set_display_matrix(np.frombuffer(bytes(matrix9), np.int32))
    if aspect != 1:
      codec.sample_aspect_ratio = fractions.Fraction(aspect).limit_denominator(
        32_767
      )
    try:
      codec.open(strict=False)
    except (av.error.FFmpegError, OSError, ValueError) as error:
      given = [k for k in ("crf", "preset") if getattr(encoding, k) is not None]
      given = "".join(f" --{k} {codec.options[k]}" for k in given)
      raise read.VideoError(
        f"{self.name}: the encoder {encoder} cannot be opened"
        f"{given and f' with{given}'} ({read.reason(error)}); `ffmpeg -h"
        f" encoder={encoder}` tells what it takes"
      ) from None

  def write(self, frame: stream.Frame) -> None:
    """Encodes a frame and writes what that gives; times must increase.

    Raises:
      read.VideoError: the file cannot be written.
    """
    for packet in self.encode(frame):
      self.append(packet)

  def encode(self, frame: stream.Frame | None) -> list[Any]:
    """Encodes a frame, or with None all that are held back, into packets.

    Raises:
      read.VideoError: the encoder fails.
    """
    try:
      picture = None
      if frame is not None:
        picture = self._picture(frame)
        pts = round(frame.time / self._time_base)
        if self._pts is not None:
          pts = max(pts, self._pts + 1)
        self._pts = pts
        self._durations[pts] = round(frame.duration / self._time_base)
        picture.pts, picture.time_base = pts, self._time_base
        picture.pict_type = 0  # what the input's was is no order
      packets = self._stream.encode(picture)
    except (av.error.FFmpegError, OSError, ValueError) as error:
      raise self._failed(error) from None
    for packet in packets:
      packet.duration = self._durations.pop(packet.pts, 0) or packet.duration
    return packets

  def _picture(self, frame: stream.Frame) -> Any:
    """A frame as the encoder wants it."""
    old = frame.picture
    same = (
      old is not None
      and (old.height, old.width) == self._size
      and old.format.name == self._pix_fmt
    )
    if frame.image is None:
      return old if same else self._stored(old)
    if frame.base is None or not same or not self._pix_fmt.startswith("yuv"):
      return self._yuv(frame.image, frame.alpha)
    if frame.image is frame.base or np.array_equal(frame.image, frame.base):
      return old
    if self._alpha or frame.image.dtype != frame.base.dtype:
      return self._yuv(frame.image, frame.alpha)
    # Only what the stages changed is converted: what the way to RGB and back
    # loses (half of the colours' samples, what RGB cannot show) stays.
    new, base = self._yuv(frame.image, None), self._yuv(frame.base, None)
    kind = np.uint16 if is_deep(new) else np.uint8
    most = 2 ** max(c.bits for c in new.format.components) - 1
    for to, of, keep in zip(new.planes, base.planes, old.planes):
      to, of, keep = (_samples(plane, kind) for plane in (to, of, keep))
      change = to.astype(np.int32) - of
      np.clip(change + keep, 0, most, out=change)
      to[:] = change
    return new

  def _stored(self, picture: Any) -> Any:
    """A decoded picture of another size or format than the encoder's."""
    if (picture.height, picture.width) != self._shape:
      return self._yuv(self._convert(picture), None)
    options = {}
    if not picture.format.is_rgb:
      colour = read.colour(picture)
      options["src_colorspace"], options["src_color_range"] = colour
    bicubic = reformatter.Interpolation.BICUBIC
    return self._reformat(picture, self._shape, bicubic, options)

  def _yuv(self, image: np.ndarray, alpha: np.ndarray | None) -> Any:
    """Pixels as a picture of the encoder's format."""
    deep = image.dtype == np.uint16
    pixels = "rgb48le" if deep else "rgb24"
    if self._alpha and alpha is not None:
      image = np.dstack([image, alpha])
      pixels = "rgba64le" if deep else "rgba"
    if any(self._pad):
      rows, columns = self._pad
      image = np.pad(image, ((0, rows), (0, columns), (0, 0)), "edge")
    picture = av.VideoFrame.from_ndarray(
      np.ascontiguousarray(image), format=pixels
    )
    area = reformatter.Interpolation.AREA
    return self._reformat(picture, self._size, area, {})

  def _reformat(self, picture, size, method, options) -> Any:
    matrix, full = self._colours
    if self._halved and picture.format.chroma_width(16) == 16:
      if self._converter is None:
        self._converter = write.Converter(
          *size, self._pix_fmt, matrix=matrix, full=full,
          read_as=tuple(options.values()) or (0, 0),
        )  # fmt: skip
      return self._converter(picture)
    if matrix is not None:
      options |= {"dst_colorspace": matrix, "dst_color_range": full}
    return self._reformatter.reformat(
      picture,
      width=size[1],
      height=size[0],
      format=self._pix_fmt,
      interpolation=int(method | _SMOOTH),
      threads=1,
      **options,
    )

  def append(self, packet: Any, copied_from: int | None = None) -> None:
    """Writes a packet: an encoded one, or one of another stream as it is.

    Args:
      packet: of `encode`, or of the stream number `copied_from`.
      copied_from: index of a stream that is copied.

    Raises:
      read.VideoError: the file cannot be written.
    """
    if copied_from in self._voices:
      for new in self._voices[copied_from](packet):
        self._mux(new)
      return
    if copied_from is not None:
      packet.stream = self._copies[copied_from]
      if self._speed != 1:
        packet.pts = round(packet.pts / self._speed)
        packet.dts = round(packet.dts / self._speed)
        packet.duration = round((packet.duration or 0) / self._speed)
    else:
      packet.stream = self._stream
    self._mux(packet)

  def _mux(self, packet: Any) -> None:
    """Writes a packet whose stream is one of the output."""
    new = packet.stream
    last = self._dts.get(new.index)
    if last is not None and packet.dts <= last:  # muxers refuse these
      packet.dts = last + 1
      packet.pts = max(packet.pts, packet.dts)
    self._dts[new.index] = packet.dts
    try:
      self._container.mux(packet)
    except (av.error.FFmpegError, OSError, ValueError) as error:
      raise self._failed(error) from None

  def close(self) -> None:
    """Completes the file.

    Raises:
      read.VideoError: it cannot be written.
    """
    if self._pts is not None:
      for packet in self.encode(None):
        self.append(packet)
    for voice in self._voices.values():
      for packet in voice.finish():
        self._mux(packet)
    try:
      self._container.close()
    except (av.error.FFmpegError, OSError, ValueError) as error:
      raise self._failed(error) from None

  def abandon(self) -> None:
    """Closes a file that is not to be kept."""
    try:
      self._container.close()
    except (av.error.FFmpegError, OSError, ValueError):
      pass

  def _failed(self, error: BaseException) -> read.VideoError:
    return read.VideoError(
      f"{self.name}: cannot be written ({read.reason(error)})"
    )


def _samples(plane: Any, kind: Any) -> np.ndarray:
  """A plane's own memory as (height, width)."""
  rows = np.frombuffer(plane, kind).reshape(plane.height, -1)
  return rows[:, : plane.width]


def _shape(frame: stream.Frame, picture: Any) -> tuple[int, int]:
  if frame.image is not None:
    return frame.image.shape[:2]
  return picture.height, picture.width


def _pixels(encoder: str, form: Any, alpha: bool, shape: Any) -> str:
  """The encoder's pixel format that is nearest to the source's."""
  source = form.name
  if encoder in PICTURES.values():
    deep = max(c.bits for c in form.components) > 8 and encoder.endswith("png")
    if encoder == "libwebp_anim":
      return "bgra"  # the library's own, better, way to 4:2:0
    return ("rgba" if alpha else "rgb24", "rgba64be" if alpha else "rgb48be")[
      deep
    ]
  known = codecs.Codec(encoder, "w").video_formats
  if not known:
    return source
  forms = [av.VideoFormat(f.name, 16, 16) for f in known]
  odd = (shape[0] % 2 or shape[1] % 2) and encoder not in _ANY_SIZE

  def fits(form, colours=True):
    clear = any(c.is_alpha for c in form.components) and (
      not alpha
      # The only one of those it lists that it can really code.
      or (encoder.startswith("libvpx") and form.name != "yuva420p")
    )
    # Players know little of H.264 and the like but YUV.
    strange = encoder not in _RGB and (
      form.is_rgb or form.name.startswith(("gray", "nv"))
    )
    halved = form.chroma_width(16) < 16 or form.chroma_height(16) < 16
    full = form.name.startswith("yuvj") and not source.startswith("yuvj")
    return not (clear or strange or full or (halved and odd and colours))

  names = [f.name for f in forms if fits(f)]
  names = names or [f.name for f in forms if fits(f, False)]
  names = names or [f.name for f in forms]
  best, _ = codecs.find_best_pix_fmt_of_list(names, source, alpha)
  return best.name


def copyable(
  source: Source,
  container: str,
  *,
  audio: bool = True,
  speed: float = 1.0,
  tell: Callable[[str], None] = lambda text: None,
) -> list[Any]:
  """The source's other streams that a container can hold.

  Args:
    source: of the streams.
    container: name of a muxer.
    audio: those of sound as well.
    speed: other than 1 the sound is encoded anew; so it is when no container
      of films can hold it as it is.
    tell: takes lines for the user.

  Raises:
    read.VideoError: it cannot hold the sound, but another can.
  """
  kept, left = [], []
  for s in source.others:
    if s.type == "audio" and not audio:
      continue
    if container in PICTURES:
      left.append(s.type)
      continue
    if source.reader.container.chapters() and s.type == "data":
      continue  # the chapters' titles, which are written anew
    name = getattr(s.codec_context, "name", None) or "unknown"
    fits = sound.holds(container, s)
    if fits and (s.type != "audio" or speed == 1):
      kept.append(s)
      continue
    if s.type == "audio":
      if speed == 1 and sound.holds("matroska", s):
        raise read.VideoError(
          f"{source.path}: its sound ({name}) cannot be put into {container};"
          " name the output .mkv, or leave the sound out with --no-audio"
        )
      encoder = sound.encoder(container, s)
      if encoder:
        kept.append(s)
        if not fits:
          tell(f"{source.path}: {container} cannot hold sound of {name}, which"
               f" is encoded anew ({encoder})")  # fmt: skip
        continue
    left.append(f"{s.type} ({name})")
  if left:
    tell(f"{source.path}: {container} cannot hold {', '.join(left)}: left out")
  return kept


def _container_options(encoding: Encoding, source: Source) -> dict[str, str]:
  # Else Matroska gives each file a random name of its own.
  exact = {"fflags": "+bitexact"} if encoding.exact else {}
  if encoding.container not in ("mp4", "mov", "3gp"):
    forever = {"webp": {"loop": "0"}, "apng": {"plays": "0"}}
    return exact | forever.get(encoding.container, {})
  flags = "+faststart"
  keys = source.reader.container.metadata.keys() - {*_MADE}
  if any("." in key for key in keys):  # com.apple.quicktime.location and such
    flags += "+use_metadata_tags"
  return exact | {"movflags": flags}


def _texts(metadata: dict[str, str]) -> dict[str, str]:
  return {
    key: value
    for key, value in metadata.items()
    if key.lower() not in _MADE and not key.upper().startswith("DURATION")
  }


def _moved(chapters: list[Any], shift: Any, speed: Any) -> list[Any]:
  """Chapters on another clock; those that end before it begins are left out."""
  out = []
  for chapter in chapters:
    ticks = shift / seconds(1, chapter["time_base"])
    start, end = (round((chapter[k] + ticks) / speed) for k in ("start", "end"))
    if end > 0:
      out.append({**chapter, "start": max(start, 0), "end": end})
  return out
