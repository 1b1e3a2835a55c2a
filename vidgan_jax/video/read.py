"""Frames of video files, one at a time, with colour, time and shape right.

PyAV behind one door. Whatever the file's name says, the container is judged by
its content; only plain local files are opened (no playlists, no network).

What is taken care of:
  * colour: the stream's own matrix and range are honoured; an untagged file is
    read as BT.709 when it has at least 720 lines or 1280 columns, else BT.601,
    as players do. Left to itself the library reads untagged HD as BT.601.
    High dynamic range is not tone mapped: it looks flat but is not refused.
  * shape: the display matrix (phones: turned or mirrored) is applied; pixels
    that are not square are made square on request; a stream that changes size
    half-way is scaled to the size of its first frame.
  * time: seconds from the first frame, strictly increasing. A missing or
    backward time stamp becomes "one nominal frame after the last".
  * damage: packets that do not decode and frames marked corrupt are left out
    and counted in `Reader.damaged`.
  * memory: constant, whatever the length.
"""

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import fractions
import os
import stat
from typing import Any
from typing import NamedTuple

import av
from av.filter import graph
from av.sidedata import sidedata
from av.video import reformatter
import numpy as np

from vidgan_jax import errors
from vidgan_jax.video import animation

MAX_SIDE = 16_384  # pixels; more is a damaged or hostile header
MAX_PIXELS = 2**26  # 8K has half as many
UPRIGHT = False, 1, 1  # what `Reader.turn` says of pictures stored upright

_STILL = ("image2", "tty", "concat", "hls", "dash", "sdp", "rtsp", "imf")
_SMOOTH = (
  reformatter.Interpolation.FULL_CHR_H_INT
  | reformatter.Interpolation.ACCURATE_RND
)
# AVColorSpace (a tag of the stream) -> matrix of the converter.
_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
# PyAV 19 forgives titles in an unknown encoding by itself.
LENIENT = {"metadata_errors": "replace"} if av.__version__ < "19" else {}
_BT709, _BT601, _MPEG, _JPEG = 1, 5, 1, 2


class VideoError(errors.UserError):
  """A file that cannot be read or written; the message is one sentence."""


class Frame(NamedTuple):
  """One decoded picture."""

  image: np.ndarray  # (H, W, 3) uint8 RGB
  time: float  # seconds from the first frame


@dataclasses.dataclass(frozen=True, kw_only=True)
class Info:
  """What the header claims; the picture's size is the one `frames` yields.

  Headers are often wrong about `frames` and `duration`: use them for progress
  lines, never for allocation.
  """

  path: str
  container: str
  codec: str
  height: int
  width: int
  fps: float  # 0.0 when unknown
  duration: float  # seconds, 0.0 when unknown
  frames: int  # 0 when unknown
  pixel_aspect: float  # width of a stored pixel / its height
  audio: bool


def fit(
  height: int, width: int, size: int | None, upscale: bool = False
) -> tuple[int, int]:
  """(height, width) scaled so that the shorter side is `size`.

  Args:
    height: lines.
    width: columns.
    size: wanted shorter side; None leaves the picture as it is.
    upscale: also enlarge pictures that are smaller.

  Returns:
    The new (height, width), each at least 1.
  """
  short = min(height, width)
  if not size or short == size or (short < size and not upscale):
    return height, width
  scale = lambda side: max(1, (2 * side * size + short) // (2 * short))
  return scale(height), scale(width)


def _method(old: tuple[int, int], new: tuple[int, int]) -> int:
  """How pixels become fewer, by areas, or more."""
  fewer = new[0] < old[0] or new[1] < old[1]
  kinds = reformatter.Interpolation
  return int((kinds.AREA if fewer else kinds.BICUBIC) | _SMOOTH)


def resize(image: np.ndarray, size: int) -> np.ndarray:
  """(H, W, 3) uint8 -> the same, as `Reader` gives it of this `size`."""
  height, width = fit(*image.shape[:2], size, upscale=True)
  picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
  method = _method(image.shape[:2], (height, width))
  return picture.reformat(
    width=width, height=height, interpolation=method
  ).to_ndarray()


class Reader:
  """An open video file: iterate once over its `Frame`s.

  Attributes:
    info: what the header claims.
    damaged: packets and frames left out so far because they do not decode.
    ended: why reading stopped before the end of the file, or ''.
    side_data: of a picture, see `_SideData`.
  """

  def __init__(
    self,
    path: str | os.PathLike[str],
    *,
    size: int | None = None,
    upscale: bool = False,
    square_pixels: bool = False,
    threads: int = 0,
    container: Any = None,
  ):
    """Opens the file.

    Args:
      path: a local file; with `container`, what to call it.
      size: shorter side of the frames, by area averaging; None: as stored.
      upscale: with `size`, also enlarge smaller videos (bicubic).
      square_pixels: undo non-square pixels by resizing the width.
      threads: decoder threads; 0 chooses (at most 8; fewer for large frames,
        each thread holds several).
      container: an open `av` container to read instead, as of a pipe or a
        camera.

    Raises:
      VideoError: not a video, or one beyond the limits of this module.
    """
    self.path = os.fspath(path)
    self.damaged = 0
    self.ended = ""
    self._size, self._upscale = size, upscale
    self.side_data = _SideData()
    self._turn = None, UPRIGHT  # the last picture, and how it is turned
    self._target = None  # (height, width) of every upright frame
    self._reformatter = reformatter.VideoReformatter()
    self._local = container is None
    self.container = container or _opened(self.path)
    try:
      self._open(square_pixels, threads)
    except BaseException:
      self.close()
      raise

  def _open(self, square_pixels: bool, threads: int) -> None:
    """Chooses the stream, checks it against the limits and fills `info`."""
    container = self.container
    stream = _pictures_of(container, self.path, self._local)
    codec = stream.codec_context
    height, width = codec.height, codec.width
    self._decoder = _decoder(stream, threads)
    aspect = stream.sample_aspect_ratio or codec.sample_aspect_ratio
    aspect = float(aspect) if aspect else 1.0
    if not 0.1 <= aspect <= 10:
      aspect = 1.0
    self._aspect = aspect if square_pixels else 1.0
    fps = float((rate := _rate(stream)) or 0)
    self.step = fractions.Fraction(1, 25)  # seconds of a nominal frame
    if fps >= 0.1:
      self.step = fractions.Fraction(rate.denominator, rate.numerator)
    duration = 0.0
    if stream.duration and stream.time_base:
      duration = float(stream.duration * stream.time_base)
    elif container.duration:
      duration = container.duration / av.time_base
    self.stream = stream
    shown = self._fit(height, width) if height and width else (0, 0)
    self.info = Info(
      path=self.path,
      container=container.format.name,
      codec=codec.name,
      height=shown[0],
      width=shown[1],
      fps=fps,
      duration=max(duration, 0.0),
      frames=max(stream.frames or 0, 0),
      pixel_aspect=aspect,
      audio=bool(container.streams.audio),
    )

  def __enter__(self) -> "Reader":
    return self

  def __exit__(self, *exc) -> None:
    self.close()

  def close(self) -> None:
    """Closes the file; safe to call twice."""
    self.container.close()

  def seek(self, time: fractions.Fraction) -> None:
    """Goes to a key picture at or before a time; call it before reading.

    Which one depends on the container, and some stay where they are: compare
    the times that `pictures` yields. They are the same from wherever one begins
    only if the container stores all of them, as MP4 and Matroska do. What comes
    before the first key picture may be broken.

    Args:
      time: of a picture, from `pictures`.
    """
    try:
      self.container.seek(int(time / self.stream.time_base), stream=self.stream)
    except (av.error.FFmpegError, OSError):
      pass  # It stays where it is.

  def __iter__(self) -> Iterator[Frame]:
    """Yields every frame; raises VideoError when there is not one."""
    first = None
    for picture, time in self.pictures():
      first = time if first is None else first
      yield Frame(self.convert(picture), float(time - first))

  def pictures(
    self, others: Any = (), take: Callable[[Any], None] | None = None
  ) -> Iterator[tuple[av.VideoFrame, fractions.Fraction]]:
    """Yields every picture as it is stored, and its exact time in seconds.

    Args:
      others: more streams to read on the way.
      take: is called with each packet of theirs.

    Raises:
      VideoError: there is not one picture.
    """
    last = None
    for picture in self._decoded(others, take):
      if picture.pts is None:
        time = fractions.Fraction(0) if last is None else last + self.step
      else:
        time = seconds(picture.pts, picture.time_base)
      if last is not None and time <= last:
        time = last + self.step
      last = time
      yield picture, time
    if last is None:
      why = self.ended or (
        f"all {self.damaged} packets are damaged" if self.damaged else "empty"
      )
      raise VideoError(f"{self.path}: not one frame can be decoded ({why})")

  def _decoded(
    self, others: Any, take: Callable[[Any], None] | None
  ) -> Iterator[av.VideoFrame]:
    """Frames in display order, past damaged packets."""
    packets = self.container.demux(self.stream, *others)
    while True:
      try:
        packet = next(packets, None)
      except (av.error.FFmpegError, OSError, MemoryError) as error:
        self.ended = f"the container breaks off: {reason(error)}"
        return
      if packet is None:
        return
      if packet.stream.index != self.stream.index:
        take(packet)
        continue
      # The empty packet at the end drains the decoder, which may stumble over
      # several bad frames it still holds.
      for _ in range(1 if packet.size else 64):
        try:
          pictures = self._decoder.decode(packet)
        except EOFError:
          break
        except (av.error.FFmpegError, OSError, MemoryError) as error:
          self.damaged += 1
          self.ended = f"the decoder says: {reason(error)}"
          continue
        for picture in pictures:
          if picture.is_corrupt:
            self.damaged += 1
          else:
            self.ended = ""
            yield picture
        if not packet.size:
          break

  def _fit(self, height: int, width: int) -> tuple[int, int]:
    """Stored size -> wanted size, square pixels included."""
    if self._aspect >= 1:  # never throw away resolution: stretch, don't shrink
      width = max(1, round(width * self._aspect))
    else:
      height = max(1, round(height / self._aspect))
    return fit(height, width, self._size, self._upscale)

  def aim(self, picture: av.VideoFrame, anew: bool = False) -> None:
    """Gives all pictures the size that this one gets; once, or `anew`."""
    if anew or not self._target:
      self._target = self._fit(*self.upright_size(picture))

  def convert(
    self, picture: av.VideoFrame, pixels: str = "rgb24"
  ) -> np.ndarray:
    """Decoded picture -> upright pixels of the common size.

    Args:
      picture: from `pictures`.
      pixels: 'rgb24', 'rgba', 'rgb48le' or 'rgba64le'.

    Returns:
      (H, W, 3 or 4) uint8 or uint16, full range.
    """
    height, width = picture.height, picture.width
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
      raise VideoError(f"{self.path}: a frame of {width}x{height} is too large")
    self.aim(picture)
    turn = self.turn(picture)
    new_height, new_width = self._target[::-1] if turn[0] else self._target
    options = {}
    if not picture.format.is_rgb:
      options["src_colorspace"], options["src_color_range"] = colour(picture)
      options["dst_color_range"] = _JPEG
    try:
      image = self._reformatter.reformat(
        picture,
        width=new_width,
        height=new_height,
        format=pixels,
        interpolation=_method((height, width), (new_height, new_width)),
        threads=1,
        **options,
      ).to_ndarray()
    except (av.error.FFmpegError, ValueError, MemoryError) as error:
      raise VideoError(
        f"{self.path}: frames of format {picture.format.name} cannot be"
        f" converted ({reason(error)})"
      ) from None
    return _upright(image, *turn)

  def turn(self, picture: av.VideoFrame) -> tuple[bool, int, int]:
    """How `convert` turns a picture: (transpose?, step of y, step of x)."""
    # It is asked for several times of each picture, also by another thread.
    known = self._turn
    if known[0] is not picture:
      known = self._turn = picture, _orientation(self.side_data(picture))
    return known[1]

  def upright_size(self, picture: av.VideoFrame) -> tuple[int, int]:
    """(height, width) of a picture as it is shown, in its own pixels."""
    size = picture.height, picture.width
    return size[::-1] if self.turn(picture)[0] else size


class _SideData:
  """What pictures say beside their pixels, of the kinds that PyAV knows.

  One kind that it does not know, as EXIF, hides all others from it: so filters
  drop what comes behind the last one known.
  """

  def __init__(self):
    self._filters = {}  # a kind of picture -> what looks at it

  def __call__(self, picture: av.VideoFrame) -> dict[sidedata.Type, bytes]:
    kind = picture.format.name, picture.height, picture.width
    # Taken out meanwhile: the threads that read and that write come here.
    nodes = self._filters.pop(kind, None) or _known_sides(*kind)
    nodes.push(picture)
    # Not `picture.side_data`, which ties the picture into a cycle that only the
    # garbage collector frees, hundreds of frames later.
    sides = sidedata.SideDataContainer(nodes.pull())
    self._filters[kind] = nodes
    # By type: what iterating gives is not the same in PyAV 18 and 19.
    given = ((side, sides.get(side)) for side in sidedata.Type)
    return {side: bytes(data) for side, data in given if data is not None}


def _opened(path: str) -> Any:
  """Opens a local file and nothing else."""
  try:
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
      raise VideoError(
        f"{path}: is a pipe or a device, and a file is needed, which can be"
        f" read twice; process reads a pipe as -, as in `... - OUT < {path}`"
      )
    if os.path.getsize(path) == 0:
      raise VideoError(f"{path}: the file is empty")
    if animation.is_animated(path):
      return animation.open_webp(path, MAX_PIXELS, **LENIENT)
    # 'file:' keeps names such as 'concat:x' or '-a.mp4' plain names.
    return av.open(
      "file:" + os.path.abspath(path),
      options={"protocol_whitelist": "file"},
      **LENIENT,
    )
  except (av.error.FFmpegError, OSError, MemoryError) as error:
    raise VideoError(f"{path}: not a video ({reason(error)})") from None


def _rate(stream: Any) -> Any:
  """Frames a second, or None."""
  # Some containers give their clock as the average, 60000 for DV.
  rates = stream.average_rate, stream.guessed_rate, stream.base_rate
  return next((r for r in rates if r and 0.01 <= r <= 1000), None)


def _decoder(stream: Any, threads: int) -> Any:
  """What decodes a stream, with so many threads; 0 chooses."""
  codec = stream.codec_context
  large = codec.width * codec.height > 2**22
  threads = threads or min(os.cpu_count() or 1, 8)
  codec.thread_count = min(threads, 2) if large else threads
  codec.thread_type = "FRAME" if codec.thread_count > 1 else "NONE"
  codec.options = {**codec.options, "max_pixels": str(MAX_PIXELS)}
  decoder = codec
  other = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(codec.name)
  texts = {key.lower(): text for key, text in stream.metadata.items()}
  if texts.get("alpha_mode") == "1" and other in av.codecs_available:
    # The usual decoders leave out the transparency.
    decoder = av.CodecContext.create(other, "r")
    decoder.thread_count = codec.thread_count
  return decoder


def _pictures_of(container: Any, path: str, local: bool) -> Any:
  """The stream of pictures, checked against the limits.

  Args:
    container: open.
    path: for messages.
    local: it is a file, of which a still picture is refused.

  Raises:
    VideoError: there is none, or one that is too large.
  """
  name = container.format.name
  still = name in _STILL or (name.endswith("_pipe") and name != "webp_pipe")
  if still and local:
    raise VideoError(
      f"{path}: holds a still picture, a text or a playlist ({name}),"
      " not a video"
    )
  pictures = [
    s
    for s in container.streams.video
    if not is_cover(s) and s.codec_context is not None
  ]
  if not pictures:
    kinds = sorted({s.type for s in container.streams}) or ["nothing"]
    raise VideoError(
      f"{path}: no video stream that can be decoded (holds"
      f" {', '.join(kinds)}; a cover picture does not count)"
    )
  best = container.streams.best("video")
  largest = max(pictures, key=lambda s: (s.width or 0) * (s.height or 0))
  stream = best if best in pictures else largest
  codec = stream.codec_context
  height, width = codec.height, codec.width
  if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
    raise VideoError(
      f"{path}: frames of {width}x{height} are beyond the limit of"
      f" {MAX_SIDE} pixels a side and {MAX_PIXELS} in all"
    )
  return stream


def is_cover(stream: Any) -> bool:
  """Whether a stream is the picture on the cover of a film."""
  return bool(stream.disposition & av.stream.Disposition.attached_pic)


def frames(
  path: str | os.PathLike[str],
  *,
  size: int | None = None,
  upscale: bool = False,
  square_pixels: bool = False,
  threads: int = 0,
) -> Iterator[Frame]:
  """Streams the frames of a video file with constant memory.

  Args:
    path: a local file in any container and codec PyAV reads.
    size: shorter side of the frames; None: as stored.
    upscale: with `size`, also enlarge smaller videos.
    square_pixels: undo non-square pixels.
    threads: decoder threads, 0 chooses.

  Yields:
    `Frame(image (H, W, 3) uint8 RGB, time in seconds)`, all of one size.

  Raises:
    VideoError: not a video, or not one frame of it can be decoded.
  """
  with Reader(
    path,
    size=size,
    upscale=upscale,
    square_pixels=square_pixels,
    threads=threads,
  ) as reader:
    yield from reader


def probe(path: str | os.PathLike[str]) -> Info:
  """What the file's header claims, without decoding it.

  The size is that of the stored picture, before it is turned upright.

  Raises:
    VideoError: not a video.
  """
  with Reader(path, threads=1) as reader:
    return reader.info


def is_cut(path: str, container: str) -> bool:
  """Whether a file is shorter than it says itself, as after half a download.

  Args:
    path: a local file.
    container: `Info.container`. MP4 and its kin and Matroska say how long their
      parts are; files of others are taken to be whole.
  """
  length = {"mov": _atom, "mat": _element}.get(container[:3])
  size, end = os.path.getsize(path), 0
  with open(path, "rb") as file:
    while length and end < size:
      file.seek(end)
      part = length(file.read(16).ljust(16, b"\0"))
      if not part:
        return False  # it goes on to the end, wherever that is
      end += part
  return end > size


def _atom(head: bytes) -> int:
  """Bytes of a part of an MP4 file, 0 if it does not say."""
  long = int.from_bytes(head[:4], "big") == 1
  return int.from_bytes(head[8:] if long else head[:4], "big")


def _element(head: bytes) -> int:
  """Bytes of a part of a Matroska file, 0 if it does not say."""
  at = 9 - head[0].bit_length()  # behind its name; the size is as long as
  size = 9 - head[at].bit_length()  # the zeros before its first one say
  most = 2 ** (7 * size) - 1
  value = int.from_bytes(head[at : at + size], "big") & most
  return 0 if value == most else at + size + value


def has_alpha(form: Any) -> bool:
  """Whether pictures of an `av` format can be transparent."""
  # A palette's colours can be.
  return form.name == "pal8" or any(c.is_alpha for c in form.components)


def is_deep(form: Any) -> bool:
  """Whether an `av` format has more than 8 bits a colour."""
  return max(c.bits for c in form.components) > 8


def colour(picture: av.VideoFrame) -> tuple[int, int]:
  """(matrix, range) by which the converter is to read a picture's YUV."""
  hd = picture.height >= 720 or picture.width >= 1280
  matrix = _MATRIX.get(int(picture.colorspace), _BT709 if hd else _BT601)
  name = picture.format.name
  full = name.startswith(("gray", "yuvj"))
  return matrix, int(picture.color_range) or (_JPEG if full else _MPEG)


def seconds(ticks: int, base: Any) -> fractions.Fraction:
  """Exact seconds; PyAV's rationals differ between its versions."""
  return fractions.Fraction(ticks * base.numerator, base.denominator)


def reason(error: BaseException) -> str:
  """The library's words without error numbers and file names."""
  system = isinstance(error, OSError | av.error.FFmpegError)
  text = (error.strerror if system else None) or str(error) or "no reason"
  return text.strip()


def graph_of(
  pix_fmt: str, height: int, width: int, *steps: tuple[str, str]
) -> graph.Graph:
  """Filters of libavfilter, one after another, for pictures of one kind.

  Args:
    pix_fmt: the format of the pictures.
    height: lines.
    width: columns.
    steps: name and options of each filter.
  """
  nodes = graph.Graph()
  nodes.link_nodes(
    nodes.add_buffer(
      format=pix_fmt, height=height, width=width,
      time_base=fractions.Fraction(1, 1000),
    ),
    *(nodes.add(*step) for step in steps),
    nodes.add("buffersink"),
  ).configure()  # fmt: skip
  return nodes


def _known_sides(*kind: Any) -> graph.Graph:
  """Filters that drop side data of the kinds that PyAV does not know."""
  last = max(side.value for side in sidedata.Type)
  unknown = range(last + 1, last + 33)
  return graph_of(*kind, *(("sidedata", f"delete:type={i}") for i in unknown))


def _orientation(side_data: dict[Any, bytes]) -> tuple[bool, int, int]:
  """What the display matrix asks for: (transpose?, step of y, step of x).

  The matrix maps stored (x, y) to shown (a x + c y, b x + d y). Angles that
  are not near a quarter turn are nonsense in practice and are ignored.
  """
  matrix = side_data.get(sidedata.Type.DISPLAYMATRIX)
  if matrix is None:
    return UPRIGHT
  a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].astype(float)
  straight, turned = abs(a) + abs(d), abs(b) + abs(c)
  if min(straight, turned) > 0.2 * max(straight, turned):
    return UPRIGHT
  transpose = turned > straight
  x, y = (c, b) if transpose else (a, d)
  return transpose, -1 if y < 0 else 1, -1 if x < 0 else 1


def _upright(image: np.ndarray, transpose: bool, y: int, x: int) -> np.ndarray:
  """Transposes, then reverses the axes whose step is -1."""
  image = image.swapaxes(0, 1) if transpose else image
  return np.ascontiguousarray(image[::y, ::x])
