"""Sound that is cut, joined, faded or reversed, made before the pictures.

All samples of a stream of the output lie in a temporary file, 4 bytes each, so
that memory does not grow with the film: an hour of stereo at 48 kHz takes
1.4 GB of disk.
"""

from collections.abc import Iterator
import fractions
import itertools
import tempfile
from typing import Any

import av
import numpy as np

from vidgan_jax.video import read
from vidgan_jax.video import sound
from vidgan_jax.video import source as source_lib

_BLOCK = 1024  # samples of a frame
_GAP = 0.1  # seconds; a smaller difference of clocks is not a gap
_ERRORS = (av.error.FFmpegError, OSError, EOFError, ValueError)


class Voice:
  """The first sound of a file of its own, like a stream of an input.

  Attributes:
    index: that no stream of an input has.
  """

  index, type = -1, "audio"

  def __init__(self, path: str, offset: float):
    """Opens the file, in which there is a sound.

    Args:
      path: of the file.
      offset: seconds of the output at which it begins.
    """
    self.metadata, self._path, self._offset = {}, path, offset
    self._container = av.open(path)
    stream = self._container.streams.audio[0]
    self.codec_context = stream.codec_context
    self.disposition = stream.disposition

  def frames(self) -> Iterator[tuple[Any, fractions.Fraction]]:
    """(frame, seconds by which its time moves)."""
    with av.open(self._path) as container:
      start = fractions.Fraction(container.start_time or 0, av.time_base)
      move = source_lib.exact(self._offset) - start
      for frame in container.decode(audio=0):
        yield frame, move


class Track:
  """One stream of sound of the output, in the form of the first input's.

  Attributes:
    index: of that stream.
  """

  def __init__(
    self, pieces: list[Any], stream: Any, *, cross: float, backwards: bool,
    fades: tuple[float, float],
  ):  # fmt: skip
    """Decodes all of it.

    Args:
      pieces: see `pieces.Piece`, with their lengths; one that has no such
        stream is silent.
      stream: of the first input.
      cross: seconds by which pieces overlap.
      backwards: each piece is reversed.
      fades: seconds at the beginning and the end.
    """
    codec = stream.codec_context
    self.index, self._rate = stream.index, codec.sample_rate
    self._layout = sound.UNNAMED.get(codec.layout.name, codec.layout.name)
    end = pieces[-1].begin + pieces[-1].length
    shape = max(1, round(end * self._rate)), codec.layout.nb_channels
    self._file = tempfile.TemporaryFile(prefix="vidgan-")
    self._wave = np.memmap(self._file, np.float32, "w+", shape=shape)
    self._fades = fades
    self._next = 0  # sample of the next frame
    if isinstance(stream, Voice):
      self._add(stream.frames(), 0, end, (0.0, 0.0), False)
      return
    first = pieces[0].source.others
    number = [s for s in first if s.type == "audio"].index(stream)
    for piece in pieces:
      ramps = (cross * (piece is not pieces[0]),
               cross * (piece is not pieces[-1]))  # fmt: skip
      frames = self._decoded(piece, number)
      end = piece.begin + piece.length
      self._add(frames, piece.begin, end, ramps, backwards)

  def _add(self, frames, begin, end, ramps, backwards) -> None:
    """Adds sound where it is to be heard, from `begin` to `end` seconds."""
    low, high = (round(t * self._rate) for t in (begin, end))
    for start, wave in self._placed(frames):
      if backwards:
        start, wave = low + high - start - len(wave), wave[::-1]
      skip = max(0, low - start)
      wave = wave[skip : max(skip, high - start)]
      start += skip
      place = np.arange(start, start + len(wave))
      wave = wave * _gain(place, low, high, ramps, self._rate)
      self._wave[start : start + len(wave)] += wave

  def _placed(self, frames) -> Iterator[tuple[int, np.ndarray]]:
    """(first sample on the output's clock, (n, channels)) of frames."""
    mix = av.AudioResampler("fltp", self._layout, self._rate)
    at = None
    for frame, move in frames:
      if frame.pts is not None:
        time = frame.pts * read.seconds(1, frame.time_base) + move
        place = round(time * self._rate)
        if at is None or abs(place - at) > _GAP * self._rate:
          at = place
      at = at or 0
      frame.pts = None
      for part in mix.resample(frame):
        wave = part.to_ndarray().T
        yield at, wave
        at += len(wave)

  def _decoded(self, piece, number) -> Iterator[tuple[Any, int]]:
    """(frame, 0) of a piece, whose times are those of the output."""
    with source_lib.Source(piece.source.path) as source:
      like = [s for s in source.others if s.type == "audio"]
      if number >= len(like):
        return
      heard = like[number]
      packets = source.packets(piece.clock(source), [heard])
      for packet in itertools.chain(packets, [None]):  # None: what is held
        try:
          frames = heard.decode(packet)
        except _ERRORS:
          continue  # silence
        for frame in frames:
          yield frame, 0

  def until(self, time: fractions.Fraction | None) -> Iterator[tuple[Any, Any]]:
    """(seconds, frame) of what begins before a time, or of all that is left."""
    total = len(self._wave)
    while self._next < total:
      now = fractions.Fraction(self._next, self._rate)
      if time is not None and now > time:
        return
      wave = self._wave[self._next : self._next + _BLOCK]
      place = np.arange(self._next, self._next + len(wave))
      wave = wave * _gain(place, 0, total, self._fades, self._rate)
      frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(wave.T, np.float32), "fltp", self._layout
      )
      frame.sample_rate, frame.pts = self._rate, self._next
      frame.time_base = fractions.Fraction(1, self._rate)
      self._next += len(wave)
      yield now, frame


def _gain(place, low, high, ramps, rate) -> np.ndarray:
  """Rises from 0 at `low` and falls to 0 at `high`, (n, 1)."""
  gain = np.ones(len(place), np.float32)
  for ramp, distance in zip(ramps, (place - low, high - place)):
    if ramp:
      gain *= np.clip(distance / (ramp * rate), 0, 1)
  return gain[:, None]
