"""Animated WebP as a film, since libav reads only still ones."""

import fractions
import tempfile
from typing import Any

import av
import numpy as np
from PIL import Image

_ANIMATED = 0x02  # of the flags in the header VP8X; WebP container, RFC 9649
_CLOCK = fractions.Fraction(1, 1000)  # seconds


def is_animated(path: str) -> bool:
  """Whether a file is a WebP that moves."""
  with open(path, "rb") as file:
    head = file.read(21)
  names = head[:4], head[8:16]
  moves = len(head) == 21 and bool(head[20] & _ANIMATED)
  return names == (b"RIFF", b"WEBPVP8X") and moves


def open_webp(path: str, most: int, **options: Any) -> Any:
  """An open `av` container of the same pictures, times and transparency.

  Args:
    path: of an animated WebP.
    most: pixels of a frame; more are refused before they are decoded.
    options: of `av.open`.

  Raises:
    OSError: it is damaged, or too large.
  """
  with open(path, "rb") as file:
    head = file.read(30)
  width, height = (1 + int.from_bytes(head[i : i + 3], "little")
                   for i in (24, 27))  # fmt: skip
  if width * height > most:
    raise OSError(f"frames of {width}x{height} are beyond the limit")
  # Until the container lets go of it; it has no name on the disk.
  film = tempfile.TemporaryFile(prefix="vidgan-")
  time = 0
  with (
    Image.open(path) as image,
    av.open(
      film, "w", format="mov", options={"movie_timescale": "1000"}
    ) as out,
  ):
    stream = out.add_stream("qtrle", rate=1000)
    stream.height, stream.width = image.height, image.width
    stream.pix_fmt = "argb" if image.mode == "RGBA" else "rgb24"
    stream.codec_context.time_base = _CLOCK
    for index in range(image.n_frames):
      image.seek(index)
      image.load()
      pixels = np.asarray(image.convert("RGBA"))
      picture = av.VideoFrame.from_ndarray(pixels, "rgba")
      picture = picture.reformat(format=stream.pix_fmt)
      picture.pts, picture.time_base = time, _CLOCK
      length = max(1, image.info["duration"])
      for packet in stream.encode(picture):
        packet.duration = length
        out.mux(packet)
      time += length
    out.mux(stream.encode(None))
  film.seek(0)
  return av.open(film, **options)
