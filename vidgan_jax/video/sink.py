"""Frames and copied streams into a file, with all that is not pixels kept.

`Sink` encodes frames and takes the packets of `source.Source`. Kept are every
frame's time and duration (of variable rate too), odd sizes, the shape of
pixels, colour matrix, range, primaries and transfer, 10 bits, transparency
where the codec has it; sound, subtitles, attachments, chapters and texts,
where the container can hold them. Where no stage looks at pixels the display
matrix of a turned picture is copied.
"""

from collections.abc import Callable
from collections.abc import Iterable
import contextlib
import dataclasses
import difflib
import fractions
import io
from typing import Any

import av
from av.codec import codec as codecs
from av.sidedata import sidedata
from av.video import reformatter
import numpy as np

from vidgan_jax.video import kept
from vidgan_jax.video import read
from vidgan_jax.video import sound
from vidgan_jax.video import source as source_lib
from vidgan_jax.video import stream
from vidgan_jax.video import write

FORMATS = {
  ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska",
  ".webm": "webm", ".ts": "mpegts", ".m2ts": "mpegts", ".mts": "mpegts",
  ".flv": "flv", ".nut": "nut", ".avi": "avi", ".3gp": "3gp",
}  # fmt: skip
CODECS = {  # what people call an encoder -> its name
  "h264": "libx264", "avc": "libx264", "x264": "libx264", "h265": "libx265",
  "hevc": "libx265", "x265": "libx265", "av1": "libsvtav1",
  "vp8": "libvpx", "vp9": "libvpx-vp9", "prores": "prores_ks",
}  # fmt: skip
# Good, not lossless: what a generator drew shall not be lost again.
_CRF = {"libx264": 17, "libx265": 17, "libsvtav1": 18, "libvpx-vp9": 18,
        "libvpx": 8}  # fmt: skip
_CLEAR = {"mov": "prores", "matroska": "ffv1"}  # for what is transparent
_RGB = (*kept.PICTURES.values(), "ffv1")  # encoders to be given what it is
_ANY_SIZE = ("libvpx", "libvpx-vp9", "prores_ks", *_RGB)
_SMOOTH = (
  reformatter.Interpolation.FULL_CHR_H_INT
  | reformatter.Interpolation.FULL_CHR_H_INP
  | reformatter.Interpolation.ACCURATE_RND
)
# (fast, best) of the option that says how long an encoder thinks.
_EFFORT = {
  "libx264": ("preset", ("veryfast", "slow")),
  "libx265": ("preset", ("veryfast", "slow")),
  "libsvtav1": ("preset", (10, 4)),
  "libvpx-vp9": ("cpu-used", (6, 1)),
}
TURNS = ("mp4", "mov", "3gp")  # containers that hold a display matrix
_LIMITED = 1
_INTERLACED = 1 << 18 | 1 << 29  # AV_CODEC_FLAG_INTERLACED_DCT, _ME
_BOTTOM_FIRST = 3, 4  # of AVFieldOrder, as it is shown
_ERRORS = (av.error.FFmpegError, OSError, ValueError)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoding:
  """What the user wants of the output; None: chosen here.

  Attributes:
    container: name of a muxer.
    codec: an encoder, by any name of `CODECS` or its own.
    crf: quality, in the codec's own numbers.
    preset: speed, in the codec's own words.
    effort: "fast", "best" (and a lower crf), or "" for neither.
    pix_fmt: how pixels are stored.
    exact: the same frames always give the same bytes. x264's `mbtree` reads
      memory that it never wrote, for frames of some sizes; so it is left out,
      for a few per cent of the rate.
  """

  container: str
  codec: str | None = None
  crf: float | None = None
  preset: str | None = None
  effort: str = ""
  pix_fmt: str | None = None
  exact: bool = False

  def encoder(self) -> str:
    """Name of the encoder.

    Raises:
      read.VideoError: there is none of that name, or the container cannot hold
        what it makes.
    """
    usual = {"webm": "libvpx-vp9", **kept.PICTURES}.get(
      self.container, "libx264"
    )
    name = CODECS.get((self.codec or usual).lower(), self.codec or usual)
    with contextlib.suppress(codecs.UnknownCodecError):
      if codecs.Codec(name, "w").type == "video":
        self._check(name)
        return name
    close = difflib.get_close_matches(name, {*CODECS, *CODECS.values(), "ffv1"})
    raise read.VideoError(
      f"--codec {self.codec}: there is no such encoder of video here; did you"
      f" mean {close[0] if close else 'h264'}?"
    )

  def _check(self, name: str) -> None:
    """Refuses an encoder of what the container cannot hold."""
    kind = "image2pipe" if self.container == "image2" else self.container
    try:
      with av.open(io.BytesIO(), "w", format=kind) as trial:
        trial.add_stream(name)
    except _ERRORS:
      raise read.VideoError(
        f"--codec {name}: {self.container} cannot hold what it makes; .mkv can"
      ) from None

  def options(
    self, encoder: str, known: Iterable[str], params: Iterable[str] = ()
  ) -> dict[str, str]:
    """Options of the encoder.

    Args:
      encoder: its name.
      known: names of its options.
      params: what is said to the library behind it, as 'name=value'.

    Raises:
      read.VideoError: the encoder has no crf or preset.
    """
    out = {"crf": _CRF.get(encoder), "preset": None}
    if encoder == "libsvtav1":
      out["preset"] = 8
    if encoder == "libwebp_anim":
      out["quality"] = 92
    if encoder == "libx265":
      params = ("log-level=error", *params)
    if params:
      out[f"{encoder.removeprefix('lib')}-params"] = ":".join(params)
    if encoder.startswith("libvpx"):
      out |= {"b": 0, "row-mt": 1, "cpu-used": 3} if "9" in encoder else {
        "b": "50M"}  # fmt: skip
    if self.effort and encoder in _EFFORT:
      name, values = _EFFORT[encoder]
      out[name] = values[self.effort == "best"]
    if self.effort == "best" and out["crf"]:
      out["crf"] -= 3
    for name, value in (("crf", self.crf), ("preset", self.preset)):
      if value is not None:
        if name not in known:
          raise read.VideoError(f"--{name}: the encoder {encoder} has none")
        out[name] = value
    if self.exact and encoder == "libx264":
      out["mbtree"] = 0
    return {k: f"{v:g}" if isinstance(v, float) else str(v)
            for k, v in out.items() if v is not None}  # fmt: skip


FILM = Encoding(container="matroska", codec="ffv1", pix_fmt="bgra")  # lossless


class _Pixels:
  """What the encoder is given: the format, size and colours of its pictures.

  Attributes:
    name: of the format.
    form: the format, of 16 x 16 pixels.
    alpha: whether it has transparency.
    shape: (height, width) of the frames.
    pad: rows and columns to be repeated, where the format has no odd sizes.
    size: shape and pad together.
    colours: matrix and range of YUV, (None, None) for RGB.
  """

  def __init__(
    self,
    encoding: Encoding,
    encoder: str,
    source: source_lib.Source,
    frame: stream.Frame,
  ):
    """Chooses them, of the arguments of `Sink`.

    Raises:
      read.VideoError: the encoder does not have the format that is asked for.
    """
    picture = source.picture
    self.shape = _shape(frame, picture)
    self.wants_alpha = frame.alpha is not None or (
      source.alpha and frame.image is None
    )
    self.name = encoding.pix_fmt or _pixels(
      encoder, picture.format, self.wants_alpha, self.shape
    )
    known = [f.name for f in codecs.Codec(encoder, "w").video_formats or ()]
    if known and self.name not in known:
      raise read.VideoError(
        f"--pix-fmt {self.name}: the encoder {encoder} has {', '.join(known)}"
      )
    self.form = form = av.VideoFormat(self.name, 16, 16)
    self.alpha = _clear(form)
    # Colours may be stored for two columns, or two rows, at a time.
    rows, columns = form.chroma_height(16) < 16, form.chroma_width(16) < 16
    even = encoder not in _ANY_SIZE
    self.pad = (
      self.shape[0] % 2 * (rows and even),
      self.shape[1] % 2 * (columns and even),
    )
    self.size = self.shape[0] + self.pad[0], self.shape[1] + self.pad[1]
    matrix, full = 1, _LIMITED
    if not picture.format.is_rgb:
      matrix, full = read.colour(picture)
    self.matrix, self.full = matrix, full
    self.colours = (None, None) if form.is_rgb else (matrix, full)
    self._halved = columns
    self._convert = source.reader.convert
    self._reformatter, self._converter = reformatter.VideoReformatter(), None

  def picture(self, frame: stream.Frame) -> Any:
    """A frame as the encoder wants it, an `av.VideoFrame`."""
    old = frame.picture
    same = (
      old is not None
      and (old.height, old.width) == self.size
      and old.format.name == self.name
    )
    if frame.image is None:
      return old if same else self._stored(old)
    if frame.base is None or not same or not self.name.startswith("yuv"):
      return self._yuv(frame.image, frame.alpha)
    if frame.image is frame.base or np.array_equal(frame.image, frame.base):
      return old
    if self.alpha or frame.image.dtype != frame.base.dtype:
      return self._yuv(frame.image, frame.alpha)
    # Only what the stages changed is converted: what the way to RGB and back
    # loses (half of the colours' samples, what RGB cannot show) stays.
    new, base = self._yuv(frame.image, None), self._yuv(frame.base, None)
    kind = np.uint16 if read.is_deep(new.format) else np.uint8
    most = 2 ** max(c.bits for c in new.format.components) - 1
    for to, of, keep in zip(new.planes, base.planes, old.planes):
      to, of, keep = (_samples(plane, kind) for plane in (to, of, keep))
      change = to.astype(np.int32) - of
      np.clip(change + keep, 0, most, out=change)
      to[:] = change
    return new

  def _stored(self, picture: Any) -> Any:
    """A decoded picture of another size or format than the encoder's."""
    if (picture.height, picture.width) != self.shape:
      return self._yuv(self._convert(picture), None)
    options = {}
    if not picture.format.is_rgb:
      colour = read.colour(picture)
      options["src_colorspace"], options["src_color_range"] = colour
    bicubic = reformatter.Interpolation.BICUBIC
    return self._reformat(picture, self.shape, bicubic, options)

  def _yuv(self, image: np.ndarray, alpha: np.ndarray | None) -> Any:
    """Pixels as a picture of the encoder's format."""
    deep = image.dtype == np.uint16
    pixels = "rgb48le" if deep else "rgb24"
    if self.alpha and alpha is not None:
      image = np.dstack([image, alpha])
      pixels = "rgba64le" if deep else "rgba"
    if any(self.pad):
      rows, columns = self.pad
      image = np.pad(image, ((0, rows), (0, columns), (0, 0)), "edge")
    picture = av.VideoFrame.from_ndarray(
      np.ascontiguousarray(image), format=pixels
    )
    area = reformatter.Interpolation.AREA
    return self._reformat(picture, self.size, area, {})

  def _reformat(self, picture, size, method, options) -> Any:
    matrix, full = self.colours
    if self._halved and picture.format.chroma_width(16) == 16:
      if self._converter is None:
        self._converter = write.Converter(
          *size, self.name, matrix=matrix, full=full,
          read_as=tuple(options.values()) or (0, 0),
        )  # fmt: skip
      return self._converter(picture)
    if matrix is not None:
      options |= {"dst_colorspace": matrix, "dst_color_range": full}
    return self._reformatter.reformat(
      picture,
      width=size[1],
      height=size[0],
      format=self.name,
      interpolation=int(method | _SMOOTH),
      threads=1,
      **options,
    )


class Sink:
  """An output file: one picture stream and copies of others.

  Attributes:
    copies: index of a stream of the source -> the stream that copies it.
  """

  def __init__(
    self,
    path: str | io.BytesIO,
    encoding: Encoding,
    source: source_lib.Source,
    frame: stream.Frame,
    *,
    name: str,
    time_base: fractions.Fraction,
    rate: fractions.Fraction,
    square: bool = False,
    copy: Iterable[Any] = (),
    shift: fractions.Fraction | None = fractions.Fraction(0),
    speed: fractions.Fraction = fractions.Fraction(1),
    anew: bool = False,
    audio_filter: str = "",
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
      square: the pixels were made square.
      copy: streams of the source, from `kept.copyable`.
      shift: seconds that chapters are moved by; None: leave them out.
      speed: by which all but the frames is made faster here.
      anew: encode all sound anew.
      audio_filter: filters of libavfilter for it.
      tell: takes lines for the user.

    Raises:
      read.VideoError: it cannot be written like this.
    """
    self.name, self._time_base = name, time_base
    self._pts, self._durations = None, {}
    self._even = tell if encoding.container == "avi" else None
    self._dts, self._speed = {}, speed
    self._anew, self._audio_filter = anew, audio_filter
    self.copies, self._voices = {}, {}  # index of the source's stream -> ours
    encoder = encoding.encoder()
    try:
      self._container = av.open(
        path,
        "w",
        format=encoding.container,
        container_options=_container_options(path, encoding, source),
        **read.LENIENT,
      )
    except _ERRORS as error:
      raise self._failed(error) from None
    try:
      self._stream = self._container.add_stream(
        encoder, rate=rate.limit_denominator(65_535)
      )
      self._describe(encoding, encoder, source, frame, square, tell)
      for old in copy:
        self._copy(old, encoding.container, source)
      covers = _covers(self._container, encoding.container, source)
      self._container.metadata.update(
        kept.texts(source.reader.container.metadata)
      )
      if encoding is FILM:
        self._container.metadata["plays"] = str(source.plays or 0)
      if shift is not None:
        shift -= source.origin
        self._container.set_chapters(
          _moved(source.reader.container.chapters(), shift, speed)
        )
      self._container.start_encoding()
      for packet in covers:
        self._container.mux(packet)
    except _ERRORS as error:
      self.abandon()
      raise self._failed(error) from None
    except BaseException:
      self.abandon()
      raise

  def _describe(self, encoding, encoder, source, frame, square, tell) -> None:
    """Settings of the picture stream."""
    picture, codec = source.picture, self._stream.codec_context
    pixels = self._pixels = _Pixels(encoding, encoder, source, frame)
    texts = kept.texts(source.reader.stream.metadata)
    if not pixels.alpha:
      texts.pop("alpha_mode", None)
    self._stream.metadata.update(texts)
    _tell_pixels(self.name, encoding, encoder, source, pixels, tell)
    self._stream.height, self._stream.width = pixels.size
    self._stream.pix_fmt = pixels.name
    codec.time_base = self._time_base
    own = {option.name for option in codec.supported_options.private}
    params = _hdr(encoder, source.reader.side_data(picture))
    if picture.interlaced_frame and not source.whole and frame.image is None:
      params += _interlaced(codec, encoder, source)
    codec.options = encoding.options(encoder, own, params)
    codec.thread_count, codec.thread_type = 0, "AUTO"  # not only slices
    tag = int(picture.colorspace)
    if tag in (0, 2, 3):  # unknown or reserved
      tag = pixels.matrix
    codec.colorspace = 0 if pixels.form.is_rgb else tag
    codec.color_range = 2 if pixels.form.is_rgb else pixels.full
    codec.color_primaries = picture.color_primaries
    codec.color_trc = picture.color_trc
    turned = source_lib.turn(source) != read.UPRIGHT
    aspect = source.reader.info.pixel_aspect
    if frame.image is not None:
      aspect = source_lib.shown(source)[2]
    elif turned and encoding.container in TURNS:
      matrix9 = source.reader.side_data(picture)[sidedata.Type.DISPLAYMATRIX]
      self._stream.set_display_matrix(np.frombuffer(matrix9, np.int32))
    aspect = fractions.Fraction(aspect).limit_denominator(32_767)
    if aspect != 1 and not square:
      codec.sample_aspect_ratio = aspect
    try:
      codec.open(strict=False)
    except _ERRORS as error:
      given = [k for k in ("crf", "preset") if getattr(encoding, k) is not None]
      given = "".join(f" --{k} {codec.options[k]}" for k in given)
      raise read.VideoError(
        f"{self.name}: the encoder {encoder} cannot be opened"
        f"{given and f' with{given}'} ({read.reason(error)}); `ffmpeg -h"
        f" encoder={encoder}` tells what it takes"
      ) from None

  def _copy(self, old: Any, container: str, source: source_lib.Source) -> None:
    """Adds a stream of the source that is not its picture."""
    if old.type != "audio" or (not self._anew and source.holds(container, old)):
      new = self._container.add_stream_from_template(old)
      self.copies[old.index] = new
    else:
      voice = sound.Voice(
        self._container, container, old, self._speed, self._audio_filter
      )
      self._voices[old.index] = voice
      new = voice.stream
    new.metadata.update(kept.texts(old.metadata))
    new.disposition = old.disposition

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
        picture = self._pixels.picture(frame)
        pts = round(frame.time / self._time_base)
        if self._pts is not None:
          pts = max(pts, self._pts + 1)
          if self._even and pts > self._pts + 1:
            self._even(f"{self.name}: AVI has one rate; times of frames move")
            self._even = None
        self._pts = pts
        self._durations[pts] = round(frame.duration / self._time_base)
        picture.pts, picture.time_base = pts, self._time_base
        picture.pict_type = 0  # the encoder chooses its own picture types
      packets = self._stream.encode(picture)
    except _ERRORS as error:
      raise self._failed(error) from None
    for packet in packets:
      packet.duration = self._durations.pop(packet.pts, 0) or packet.duration
    return packets

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
      packet.stream = self.copies[copied_from]
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
    except _ERRORS as error:
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
    except _ERRORS as error:
      raise self._failed(error) from None

  def abandon(self) -> None:
    """Closes a file that is not to be kept."""
    with contextlib.suppress(*_ERRORS):
      self._container.close()

  def _failed(self, error: BaseException) -> read.VideoError:
    return read.VideoError(
      f"{self.name}: cannot be written ({read.reason(error)})"
    )


def _tell_pixels(name, encoding, encoder, source, pixels, tell) -> None:
  """Says what pixels lose in the encoder's format."""
  form = pixels.form
  if pixels.wants_alpha and not pixels.alpha:
    later = "" if source.clear else ", if some comes later,"
    tell(
      f"{name}: transparency{later} is lost ({pixels.name} of {encoder} has"
      " none; .webm keeps it, --codec ffv1 in .mkv, --codec prores in .mov)"
    )
  if read.is_deep(source.picture.format) and not read.is_deep(form):
    tell(f"{name}: {source.picture.format.name} becomes {pixels.name}, 8 bits")
  if encoder in ("libx264", "libx265") and not encoding.pix_fmt:
    if form.chroma_width(16) == 16:
      tell(f"{name}: few players show {pixels.name}, which keeps all"
           " samples of colour; --pix-fmt yuv420p is for all")  # fmt: skip
  if any(pixels.pad):
    tell(f"{name}: {pixels.name} has no odd sizes; a row or column is"
         " repeated")  # fmt: skip


def _covers(out: Any, container: str, source: source_lib.Source) -> list[Any]:
  """Adds pictures of covers; returns the packets to be written first."""
  packets = []
  for old in source.covers if kept.holds_covers(container) else ():
    if old.index not in source.samples:
      continue
    packet = sound.copied(source.samples[old.index])
    if container == "matroska":  # which has them as attachments
      kind = {"mjpeg": "jpeg"}.get(old.name, old.name)
      name = f"cover.{kind.replace('jpeg', 'jpg')}"
      out.add_attachment(name, f"image/{kind}", bytes(packet))
      continue
    packet.stream = out.add_stream_from_template(old)
    packet.stream.disposition = old.disposition
    packets.append(packet)
  return packets


def _interlaced(
  codec: Any, encoder: str, source: source_lib.Source
) -> list[str]:
  """Lets an encoder keep fields apart; returns what its library is told."""
  old = source.reader.stream.codec_context
  # DV does not say it: its bottom lines are first (IEC 61834).
  codec.field_order = 3 if old.name == "dvvideo" else old.field_order
  codec.flags |= _INTERLACED
  bottom = encoder == "libx264" and codec.field_order in _BOTTOM_FIRST
  return ["bff=1"] if bottom else []


def _hdr(encoder: str, sides: dict[Any, bytes]) -> list[str]:
  """What encoders are told of the screen an HDR film was made on, and of light.

  The numbers are those of SMPTE ST 2086 and CTA-861.3: chromaticities x, y of
  R, G, B and white, the most and least luminance of the screen in cd/m2, the
  most light of a pixel and the most mean light of a frame. AV1's library takes
  them as they are, the others as multiples of 1/50000 and 1/10000.
  """
  names = {"libx264": ("mastering-display", "cll"),
           "libx265": ("master-display", "max-cll"),
           "libsvtav1": ("mastering-display", "content-light")}  # fmt: skip
  if encoder not in names:
    return []
  screen, light = names[encoder]
  out = []
  data = sides.get(sidedata.Type.MASTERING_DISPLAY_METADATA)
  # AVMasteringDisplayMetadata: 10 fractions and 2 flags, which are there.
  values = np.frombuffer(data or bytes(88), np.int32)
  if values[20] and values[21]:
    colours = values[:16].reshape(4, 2, 2)
    colours = colours[..., 0] / colours[..., 1]
    least, most = values[16:20:2] / values[17:20:2]
    pair = lambda a, b: f"({a:.8g},{b:.8g})"
    if encoder != "libsvtav1":
      colours, least, most = 50_000 * colours, 10_000 * least, 10_000 * most
      pair = lambda a, b: f"({round(a)},{round(b)})"
    r, g, b, white = (pair(*xy) for xy in colours)
    out.append(f"{screen}=G{g}B{b}R{r}WP{white}L{pair(most, least)}")
  data = sides.get(sidedata.Type.CONTENT_LIGHT_LEVEL)
  if data:
    pixel, frame = np.frombuffer(data, np.uint32)[:2]
    out.append(f"{light}={pixel},{frame}")
  return out


def _samples(plane: Any, kind: Any) -> np.ndarray:
  """A plane's own memory as (height, width)."""
  rows = np.frombuffer(plane, kind).reshape(plane.height, -1)
  return rows[:, : plane.width]


def _shape(frame: stream.Frame, picture: Any) -> tuple[int, int]:
  if frame.image is not None:
    return frame.image.shape[:2]
  picture = frame.picture or picture  # filters may have made another size
  return picture.height, picture.width


def _clear(form: Any) -> bool:
  return any(component.is_alpha for component in form.components)


def keeping_alpha(
  encoding: Encoding, source: source_lib.Source, tell: Callable[[str], None]
) -> Encoding:
  """With an encoder that keeps transparency, where nobody chose another."""
  codec = _CLEAR.get(encoding.container)
  chosen = encoding.codec, encoding.crf, encoding.preset, encoding.pix_fmt
  if not (codec and source.clear) or any(x is not None for x in chosen):
    return encoding
  tell(
    f"{source.path}: is transparent, which {codec} keeps; --codec h264 gives a"
    " smaller file without"
  )
  return dataclasses.replace(encoding, codec=codec)


def is_clear(encoder: str) -> bool:
  """Whether an encoder can keep transparency."""
  forms = codecs.Codec(encoder, "w").video_formats or ()
  return any(_clear(form) for form in forms)


def _pixels(encoder: str, form: Any, alpha: bool, shape: Any) -> str:
  """The encoder's pixel format that is nearest to the source's."""
  source = form.name
  if encoder in kept.PICTURES.values():
    deep = read.is_deep(form) and encoder.endswith("png")
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
    clear = _clear(form) and (
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
  if alpha:
    names = [f.name for f in forms if f.name in names and _clear(f)] or names
  best, _ = codecs.find_best_pix_fmt_of_list(names, source, alpha)
  return best.name


def _container_options(
  path: str | io.BytesIO, encoding: Encoding, source: source_lib.Source
) -> dict[str, str]:
  # Else Matroska gives each file a random name of its own.
  exact = {"fflags": "+bitexact"} if encoding.exact else {}
  if encoding.container not in ("mp4", "mov", "3gp"):
    name = {"webp": "loop", "apng": "plays"}.get(encoding.container)
    return exact | ({name: str(source.plays or 0)} if name else {})
  flags = "+faststart" if isinstance(path, str) else ""  # reads its own file
  keys = kept.texts(source.reader.container.metadata)
  if any("." in key for key in keys):  # com.apple.quicktime.location and such
    flags += "+use_metadata_tags"
  return exact | ({"movflags": flags} if flags else {})


def _moved(chapters: list[Any], shift: Any, speed: Any) -> list[Any]:
  """Chapters on another clock; those that end before it begins are left out."""
  out = []
  for chapter in chapters:
    ticks = shift / read.seconds(1, chapter["time_base"])
    start, end = (round((chapter[k] + ticks) / speed) for k in ("start", "end"))
    if end > 0:
      out.append({**chapter, "start": max(start, 0), "end": end})
  return out
