"""Clips to files: MP4, GIF, WebP, PNG; frame by frame with constant memory.

  with write.Writer("out.mp4", fps=25) as out:
    for frame in frames:            # (H, W, 3) uint8
      out.append(frame)
  write.write("strip.png", video)   # a film strip of a short clip

The file appears under its name only when it is whole. MP4 is H.264 4:2:0 in
BT.709 limited range, and tagged so: every player shows the colours that were
given. Odd sizes are padded by repeating the last row or column, since 4:2:0 has
no odd sizes. GIF and WebP loop for ever; each GIF frame has a palette of its
own. WebP joins equal frames into one that is shown longer.
"""

from collections.abc import Iterator
import contextlib
import fractions
import io
import os
import struct
from typing import Any

import av
import numpy as np
from PIL import Image

from vidgan_jax import errors
from vidgan_jax.store import files
from vidgan_jax.video import read
from vidgan_jax.video import sound as sound_lib

MOVING = (".mp4", ".gif", ".webp")
SUFFIXES = (*MOVING, ".png")
_BT709, _LIMITED = 1, 1


def write(
  path: str | os.PathLike[str],
  video: np.ndarray,
  fps: float = 25.0,
  *,
  crf: int = 18,
  scale: int = 1,
) -> None:
  """Writes a whole clip in the format that the name's suffix says.

  Args:
    path: ends in .mp4, .gif, .webp or, for a film strip, .png.
    video: (T, H, W, 3) uint8.
    fps: frames per second; a strip has none.
    crf: quality of H.264, 0 (lossless but for the chroma) to 51.
    scale: enlarge by this whole number, without blur.

  Raises:
    read.VideoError: the suffix is unknown or the file cannot be written.
  """
  video = np.asarray(video)
  if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8:
    raise ValueError(
      f"a video is (T, H, W, 3) uint8, not {video.shape} {video.dtype}"
    )
  if _suffix(path, SUFFIXES) == ".png":
    if not len(video):
      raise read.VideoError(f"{path}: no frame was given")
    image = Image.fromarray(_enlarge(strip(video), scale))
    with replacing(path) as temporary:
      image.save(temporary, "PNG")
    return
  with Writer(path, fps, crf=crf, scale=scale) as out:
    for frame in video:
      out.append(frame)


class Writer:
  """Takes frames one by one; use as a context manager.

  On leaving the block the file is completed and put in its place; when the
  block raises, nothing is left.
  """

  def __init__(
    self,
    path: str | os.PathLike[str],
    fps: float = 25.0,
    *,
    crf: int = 18,
    scale: int = 1,
    sound: str | os.PathLike[str] | None = None,
  ):
    """Nothing is opened before the block is entered.

    Args:
      path: ends in .mp4, .gif or .webp.
      fps: frames per second. GIF counts in hundredths of a second and players
        go no faster than 50.
      crf: quality of H.264, 0 to 51.
      scale: enlarge by this whole number, without blur.
      sound: a file whose sound the video gets, as far as it is long; of .mp4.

    Raises:
      read.VideoError: the suffix is unknown, or holds no sound.
      ValueError: an argument out of range.
    """
    self._kind = _suffix(path, MOVING)
    if not 0 < fps <= 1000:
      raise errors.UserError(f"fps={fps} is not in (0, 1000]")
    if not 0 <= crf <= 51:
      raise errors.UserError(f"crf={crf} is not in [0, 51]")
    if scale < 1 or scale != int(scale):
      raise errors.UserError(
        f"scale={scale} is not a whole number of at least 1"
      )
    self.path = os.fspath(path)
    self.frames = 0  # written so far
    self._fps, self._crf, self._scale = fps, crf, int(scale)
    self._shape = None
    if sound is not None and self._kind != ".mp4":
      raise read.VideoError(f"{path}: a file of this kind holds no sound")
    self._sound = sound

  def __enter__(self) -> "Writer":
    self._place = replacing(self.path)
    self._sink = None
    self._temporary = self._place.__enter__()
    return self

  def append(self, frame: np.ndarray) -> None:
    """Adds a frame (H, W, 3) uint8, of the size of the first."""
    frame = np.asarray(frame)
    if self._shape is None:
      if frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise ValueError(f"a frame is (H, W, 3), not {frame.shape}")
      self._shape = frame.shape
    if frame.shape != self._shape or frame.dtype != np.uint8:
      raise ValueError(
        f"{self.path}: frame {self.frames} is {frame.shape} {frame.dtype}, the"
        f" first was {self._shape} uint8"
      )
    image = np.ascontiguousarray(_enlarge(frame, self._scale))
    try:
      if self._sink is None:
        kind = _Gif if self._kind == ".gif" else _Encoder
        self._sink = kind(
          self._temporary,
          self._kind,
          image.shape,
          self._fps,
          self._crf,
          self._sound,
        )
      self._sink.append(image)
    except (av.error.FFmpegError, OSError) as error:
      raise _failed(self.path, error) from error
    self.frames += 1

  def __exit__(self, kind, error, trace) -> None:
    try:
      if self._sink is not None:
        self._sink.close()
      elif kind is None:
        raise read.VideoError(f"{self.path}: no frame was given")
    except (av.error.FFmpegError, OSError) as problem:
      self._place.__exit__(type(problem), problem, None)
      if kind is None:
        raise _failed(self.path, problem) from problem
      return
    except read.VideoError as problem:
      self._place.__exit__(type(problem), problem, None)
      raise
    self._place.__exit__(kind, error, trace)


class Converter:
  """To YUV whose samples of colour lie where decoders look for them.

  With half as many samples of colour as of brightness across, those of H.264
  and its kin lie on the left one of each two pixels. Left to itself the library
  puts them in the middle, and all colours come back half a pixel to the left.
  """

  def __init__(
    self,
    height: int,
    width: int,
    pix_fmt: str,
    *,
    matrix: int = _BT709,
    full: int = _LIMITED,
    read_as: tuple[int, int] = (0, 0),
  ):
    """Says what to make.

    Args:
      height: of the result.
      width: of the result.
      pix_fmt: a YUV format.
      matrix: of the result, a number of AVColorSpace.
      full: its range, 1 limited or 2 full.
      read_as: (matrix, range) of what is given, when it is YUV; 0: as it says.
    """
    self._scale = (
      f"w={width}:h={height}:flags=area+accurate_rnd+full_chroma_inp"
      f":in_color_matrix={read_as[0] or -1}:in_range={read_as[1]}"
      f":out_color_matrix={matrix}:out_range={full}:out_chroma_loc=left"
    )
    self._pix_fmt = pix_fmt
    self._from, self._graph = None, None

  def __call__(self, picture: av.VideoFrame) -> av.VideoFrame:
    """The picture in the new format."""
    kind = picture.format.name, picture.height, picture.width
    if kind != self._from:
      self._from = kind
      self._graph = read.graph_of(
        *kind, ("scale", self._scale), ("format", self._pix_fmt)
      )
    picture.pts = 0
    self._graph.push(picture)
    return self._graph.pull()


class _Encoder:
  """MP4 and WebP by PyAV."""

  def __init__(
    self, path: str, kind: str, shape: Any, fps: float, crf: int, sound: Any
  ):
    height, width, _ = shape
    self._rate = fractions.Fraction(fps).limit_denominator(65_535)
    self._mp4 = kind == ".mp4"
    self._count = 0
    if self._mp4:
      self._container = av.open(
        path, "w", format="mp4", options={"movflags": "+faststart"}
      )
      stream = self._container.add_stream("libx264", rate=self._rate)
      stream.pix_fmt = "yuv420p"
      stream.options = {"crf": str(crf), "preset": "medium"}
      height, width = height + height % 2, width + width % 2
      codec = stream.codec_context
      codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
      codec.color_range = _LIMITED
      codec.thread_type = "AUTO"  # whole frames, and not only slices
      self._convert = Converter(height, width, "yuv420p")
    else:
      self._container = av.open(path, "w", format="webp", options={"loop": "0"})
      stream = self._container.add_stream("libwebp_anim", rate=self._rate)
      stream.pix_fmt = "bgra"  # the library's own, better, way to 4:2:0
      stream.options = {"quality": "92"}
    stream.height, stream.width = height, width
    stream.codec_context.time_base = 1 / self._rate
    self._stream, self._voice = stream, None
    if sound is not None:
      self._heard = av.open(os.fspath(sound))
      old = self._heard.streams.audio[0]
      speed = fractions.Fraction(1)
      self._voice = sound_lib.Voice(self._container, "mp4", old, speed)
      self._packets = [p for p in self._heard.demux(old) if p.pts is not None]

  def append(self, image: np.ndarray) -> None:
    if self._mp4:
      rows, columns = image.shape[0] % 2, image.shape[1] % 2
      image = np.pad(image, ((0, rows), (0, columns), (0, 0)), "edge")
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    frame = self._convert(frame) if self._mp4 else frame.reformat(format="bgra")
    frame.pts, frame.time_base = self._count, 1 / self._rate
    self._count += 1
    self._container.mux(self._stream.encode(frame))
    if self._voice is not None:
      self._speak(self._count / self._rate)

  def _speak(self, until: fractions.Fraction) -> None:
    """Adds the sound up to a time, seconds."""
    while (
      self._packets
      and self._packets[0].pts * (self._packets[0].time_base) < until
    ):
      self._container.mux(self._voice(self._packets.pop(0)))

  def close(self) -> None:
    try:
      self._container.mux(self._stream.encode(None))
      if self._voice is not None:
        self._container.mux(self._voice.finish())
        self._heard.close()
    finally:
      self._container.close()


class _Gif:
  """An animated GIF, spliced from single ones.

  Pillow can write a whole animation but holds all frames meanwhile, and merges
  equal ones.
  """

  def __init__(
    self, path: str, kind: str, shape: Any, fps: float, crf: int, sound: Any
  ):
    del kind, crf, sound
    self._fps, self._count, self._shown = fps, 0, 0
    self._file = open(path, "wb")
    size = struct.pack("<HH", shape[1], shape[0])
    # No global palette; loop for ever.
    self._file.write(b"GIF89a" + size + b"\x70\0\0")
    self._file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0")

  def append(self, image: np.ndarray) -> None:
    self._count += 1
    delay = max(2, round(100 * self._count / self._fps) - self._shown)
    self._shown += delay
    picture = Image.fromarray(image).quantize(
      256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
    )
    single = io.BytesIO()
    picture.save(single, "GIF", interlace=0)
    data = single.getvalue()
    colours = 2 << (data[10] & 7)
    palette = data[13 : 13 + 3 * colours]
    at = 13 + 3 * colours
    while data[at] == 0x21:  # extensions: label, blocks, an empty block
      at += 2
      while data[at]:
        at += data[at] + 1
      at += 1
    descriptor = data[at : at + 9] + bytes([0x80 | data[10] & 7])
    self._file.write(b"\x21\xf9\x04\x04" + struct.pack("<H", delay) + b"\0\0")
    self._file.write(descriptor + palette + data[at + 10 : -1])

  def close(self) -> None:
    with self._file:
      self._file.write(b"\x3b")


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[str]:
  """A temporary name beside the real one, see `files.write`."""
  with files.write(path) as temporary:
    yield str(temporary)


def strip(video: np.ndarray) -> np.ndarray:
  """(T, H, W, 3) -> film strip (H, T*W, 3), time from left to right."""
  t, h, w, c = video.shape
  return video.transpose(1, 0, 2, 3).reshape(h, t * w, c)


def grid(videos: np.ndarray, columns: int | None = None) -> np.ndarray:
  """Clips side by side as one clip.

  Args:
    videos: (N, T, H, W, 3).
    columns: clips in a row; None: as square as can be.

  Returns:
    (T, rows * H, columns * W, 3), row by row; missing clips are black.
  """
  n, t, h, w, c = videos.shape
  columns = columns or int(np.ceil(np.sqrt(n)))
  rows = -(-n // columns)
  blank = np.zeros((rows * columns - n, t, h, w, c), videos.dtype)
  tiles = np.concatenate([videos, blank]).reshape(rows, columns, t, h, w, c)
  tiles = tiles.transpose(2, 0, 3, 1, 4, 5)
  return tiles.reshape(t, rows * h, columns * w, c)


def _enlarge(image: np.ndarray, scale: int) -> np.ndarray:
  """(H, W, C) -> (scale * H, scale * W, C) by repetition."""
  return image if scale == 1 else image.repeat(scale, 0).repeat(scale, 1)


def _suffix(path: str | os.PathLike[str], known: tuple[str, ...]) -> str:
  suffix = os.path.splitext(os.fspath(path))[1].lower()
  if suffix not in known:
    raise read.VideoError(
      f"{path}: the suffix {suffix!r} is not one of {', '.join(known)}"
    )
  return suffix


def _failed(path: str, error: BaseException) -> read.VideoError:
  return read.VideoError(f"{path}: cannot be written ({read.reason(error)})")
