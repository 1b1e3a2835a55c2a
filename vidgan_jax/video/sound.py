"""Sound that cannot be copied: decoded, at another speed, encoded anew.

The pitch stays: libav's `atempo` cuts the wave into short pieces and lays them
over one another where they fit best (WSOLA: Verhelst and Roelands, 1993, "An
overlap-add technique based on waveform similarity", section 3).
"""

from collections.abc import Iterator
from collections.abc import Sequence
import fractions
import io
import os
from typing import Any

import av
from av.codec import codec as codecs
import numpy as np

from vidgan_jax.video import filters
from vidgan_jax.video import read

_ENCODERS = {"mp3": "libmp3lame", "opus": "libopus"}
_USUAL = ("aac", "libopus")
# Some files count channels and do not name them.
UNNAMED = {
  "1 channels": "mono", "2 channels": "stereo", "3 channels": "2.1",
  "4 channels": "4.0", "5 channels": "5.0", "6 channels": "5.1",
  "7 channels": "6.1", "8 channels": "7.1",
}  # fmt: skip
_MOST = 192_000  # bits a second and channel
_SLACK = 0.02  # seconds by which a piece of sound may miss its time
_FASTEST = 2.0  # of one filter; beyond, it skips pieces of the wave
_ERRORS = (av.error.FFmpegError, OSError, ValueError)


def holds(container: str, stream: Any, packet: Any = None) -> bool:
  """Whether a container can hold a stream's packets as they are.

  Args:
    container: name of a muxer.
    stream: of an input.
    packet: one of its packets. Muxers write some heads at the end, and MPEG-TS
      takes what nobody can read, so a file of this packet is made and opened.
  """
  codec = stream.codec_context
  if stream.type == "attachment":
    return container == "matroska"  # WebM's muxer takes them and writes none
  if codec is not None and not _is_safe(container, codec.name):
    return False
  try:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as trial:
      new = trial.add_stream_from_template(stream)
      trial.start_encoding()
      if packet is not None:
        packet = copied(packet)
        packet.stream = new
        trial.mux(packet)
    return packet is None or _is_read(file, container, stream.type, codec)
  except _ERRORS:
    return False


def _is_read(file: io.BytesIO, container: str, kind: str, codec: Any) -> bool:
  """Whether a file that was written has such a stream, of this codec if any."""
  name = codec and codec.codec.canonical_name
  with av.open(io.BytesIO(file.getvalue()), format=container) as trial:
    return any(
      s.type == kind
      and (not name or s.codec_context.codec.canonical_name == name)
      for s in trial.streams
    )


def _is_safe(container: str, codec: str) -> bool:
  """Whether a muxer refuses what it cannot write; FLV's aborts the process."""
  return container != "flv" or not codec.startswith("pcm_")


def copied(packet: Any) -> Any:
  """A copy of a packet for a file of its own, at the time 0."""
  copy = av.Packet(bytes(packet))
  copy.pts = copy.dts = 0
  copy.time_base, copy.duration = packet.time_base, packet.duration
  copy.is_keyframe = True
  return copy


def encoder(container: str, stream: Any) -> str | None:
  """The encoder for a stream's sound: of its own codec, or AAC, or Opus.

  Args:
    container: name of a muxer.
    stream: of an input.

  Returns:
    Its name; None when the sound cannot be decoded, or not be put in there.
  """
  if stream.codec_context is None:
    return None
  own = stream.codec_context.codec.canonical_name
  if own.startswith("pcm") and container == "mp4":
    own = "aac"  # which every player of MP4 knows
  for name in (_ENCODERS.get(own, own), *_USUAL):
    try:
      codec = codecs.Codec(name, "w")
      if codec.experimental or not _is_safe(container, name):
        continue
      file = io.BytesIO()
      with av.open(file, "w", format=container) as trial:
        new = _add(trial, name, stream)
        trial.mux(new.encode(_silence(new.codec_context)))
        trial.mux(new.encode(None))
      if _is_read(file, container, "audio", new.codec_context):
        return name
    except _ERRORS:
      pass
  return None


def _silence(codec: Any) -> Any:
  """A short frame that an encoder takes."""
  frame = av.AudioFrame(codec.format.name, codec.layout.name, 1024)
  for plane in frame.planes:
    plane.update(bytes(plane.buffer_size))
  frame.sample_rate, frame.pts = codec.sample_rate, 0
  return frame


def _add(container: Any, name: str, old: Any) -> Any:
  """Adds a stream like the old one, as near as the encoder can."""
  codec, was = codecs.Codec(name, "w"), old.codec_context
  rates = sorted(codec.audio_rates or [was.rate])
  rate = next((r for r in rates if r >= was.rate), rates[-1])
  layout = UNNAMED.get(was.layout.name, was.layout.name)
  new = container.add_stream(name, rate=rate, layout=layout)
  if was.bit_rate:  # of PCM more than some encoders take
    new.bit_rate = min(was.bit_rate, _MOST * new.layout.nb_channels)
  return new


def decode(path: str | os.PathLike[str], rate: int) -> np.ndarray:
  """The first stream of sound of a file, all channels in one.

  Args:
    path: of a sound or a video.
    rate: samples a second of the result.

  Returns:
    (S,) float32 in [-1, 1]; sample 0 is at the start of the file. What an
    encoder has put before it is left out, what is missing there is silent.

  Raises:
    VideoError: there is none, or it cannot be decoded.
  """
  with Track(path, rate) as track:
    parts = list(track.parts())
    if not parts:
      raise read.VideoError(f"{track.path}: its sound is empty")
    begin = round(track.start * rate)
    return _laid(parts, begin, parts[-1][0] + len(parts[-1][1]) - begin)


class NoSoundError(read.VideoError):
  """A file has no sound."""


class Track:
  """The first stream of sound of a file, all channels in one, piece by piece.

  Times are those of the file's clock, which its pictures go by as well. Where
  they leave a gap, as where a packet is damaged, it is silent.

  Attributes:
    path: of the file.
    start: seconds at which the file starts.
    seconds: how long the sound is by the header; None: that does not say.
  """

  def __init__(self, path: str | os.PathLike[str], rate: int):
    """Opens the file.

    Args:
      path: of a sound or a video.
      rate: samples a second to make of it.

    Raises:
      NoSoundError: there is none.
      VideoError: the file cannot be read.
    """
    self.path, self._rate = os.fspath(path), rate
    # (number of its first sample, samples) of what may be asked for again.
    self._held: list[tuple[int, np.ndarray]] = []
    self._rest = self.parts()
    try:
      self._container = av.open(self.path)
    except _ERRORS as error:
      raise self._unreadable(error) from None
    if not self._container.streams.audio:
      self.close()
      raise NoSoundError(f"{self.path}: it has no sound")
    self.start = (self._container.start_time or 0) / av.time_base
    stream = self._container.streams.audio[0]
    self.seconds = stream.duration and float(stream.duration * stream.time_base)

  def __enter__(self) -> "Track":
    return self

  def __exit__(self, *exc) -> None:
    self.close()

  def close(self) -> None:
    """Closes the file."""
    self._container.close()

  def between(self, start: float, end: float) -> np.ndarray:
    """A piece of the sound; silent where the file has none.

    Args:
      start: seconds; not before that of an earlier call.
      end: likewise.

    Returns:
      (S,) float32 in [-1, 1].

    Raises:
      VideoError: nothing of it can be decoded.
    """
    begin, count = round(start * self._rate), round((end - start) * self._rate)
    self._held = [(k, x) for k, x in self._held if k + len(x) > begin]
    while not self._held or self._held[-1][0] < begin + count:
      part = next(self._rest, None)
      if part is None:
        break
      if part[0] + len(part[1]) > begin:
        self._held.append(part)
    return _laid(self._held, begin, count)

  def parts(self) -> Iterator[tuple[int, np.ndarray]]:
    """All of it in turn: (number of the first sample, samples).

    Raises:
      VideoError: nothing of it can be decoded.
    """
    resampler, kind, place, due = None, None, None, 0.0
    for frame in self._frames():
      this = frame.format.name, frame.layout.name, frame.sample_rate
      time = due if frame.time is None else frame.time
      # Containers round times, and clocks drift: little by little it is let be.
      if this != kind or abs(time - due) > _SLACK:
        for wave in _waves(resampler, None):
          yield place, wave
          place += len(wave)
        resampler, kind = av.AudioResampler("fltp", "mono", self._rate), this
        place, due = round(time * self._rate), time
      due += frame.samples / frame.sample_rate
      for wave in _waves(resampler, frame):
        yield place, wave
        place += len(wave)
    for wave in _waves(resampler, None):
      yield place, wave
      place += len(wave)

  def _frames(self) -> Iterator[av.AudioFrame]:
    """Decoded pieces; a packet that cannot be decoded is left out."""
    problem, count = None, 0
    try:
      for packet in self._container.demux(self._container.streams.audio[0]):
        try:
          for frame in packet.decode():
            count += 1
            yield frame
        except av.error.FFmpegError as error:
          problem = error
    except (av.error.FFmpegError, OSError) as error:
      problem = error
    if problem and not count:
      raise self._unreadable(problem)

  def _unreadable(self, error: Exception) -> read.VideoError:
    return read.VideoError(f"{self.path}: its sound cannot be read ({error})")


def _waves(resampler: Any, frame: Any) -> list[np.ndarray]:
  """What a resampler, if there is one, makes of a frame, or of the end."""
  pieces = resampler.resample(frame) if resampler else ()
  return [piece.to_ndarray()[0] for piece in pieces]


def _laid(
  parts: Sequence[tuple[int, np.ndarray]], begin: int, count: int
) -> np.ndarray:
  """(count,) float32 in [-1, 1] from sample `begin` on; else silent."""
  out = np.zeros(max(count, 0), np.float32)
  for place, wave in parts:
    first = place - begin
    wave = wave[max(-first, 0) :][: max(count - max(first, 0), 0)]
    out[max(first, 0) :][: len(wave)] = wave
  return out.clip(-1, 1)


class Voice:
  """One stream of sound on its way.

  Attributes:
    stream: of the output.
  """

  def __init__(
    self,
    out: Any,
    container: str,
    old: Any,
    speed: fractions.Fraction,
    text: str = "",
  ):
    """Adds a stream to the output.

    Args:
      out: an `av` container that is written.
      container: name of its muxer.
      old: the stream of the input, or of the first of several.
      speed: 2 is twice as fast.
      text: filters of libavfilter.
    """
    self.stream = _add(out, encoder(container, old), old)
    self._speed, self._old, self._graph = speed, None, None
    self._text = text
    self._heard = 0  # samples of the input so far
    # Samples of the output: place of the next one, and where they are to end.
    self._next, self._end = None, 0

  def __call__(self, packet: Any) -> Iterator[Any]:
    """Packets of the output for one of the input, or for a frame."""
    if isinstance(packet, av.AudioFrame):
      yield from self._pushed([packet])
      return
    if packet.stream is not self._old:
      yield from self._decoded(None)
      self._old = packet.stream
    yield from self._decoded(packet)

  def finish(self) -> Iterator[Any]:
    """The last packets."""
    yield from self._decoded(None)
    if self._graph is not None:
      self._graph.push(None)
      yield from self._encoded()
    if self._next is not None:
      yield from self.stream.encode(None)

  def _decoded(self, packet: Any) -> Iterator[Any]:
    """Decodes a packet, or what the decoder still holds."""
    if self._old is None:
      return
    try:
      frames = self._old.decode(packet)
    except (av.error.FFmpegError, OSError, EOFError):
      return  # a damaged packet is silence: the filter fills it in
    yield from self._pushed(frames)

  def _pushed(self, frames: Any) -> Iterator[Any]:
    """Packets for decoded frames."""
    for frame in frames:
      self._time(frame)
      if self._graph is None:
        self._plan(frame)
      self._graph.push(frame)
      yield from self._encoded()

  def _time(self, frame: Any) -> None:
    """Lets a frame count time in its own samples, and notes its end."""
    rate, base = frame.sample_rate, frame.time_base
    if frame.pts is None or base is None:  # what the decoder still held
      frame.pts = self._heard
    else:
      frame.pts = round(read.seconds(frame.pts, base) * rate)
    frame.time_base = fractions.Fraction(1, rate)
    self._heard = frame.pts + frame.samples
    self._end = self._place(self._heard, rate)

  def _place(self, samples: int, rate: int) -> int:
    """From a number of samples of the input to that of the output."""
    ours = self.stream.codec_context.rate
    return round(fractions.Fraction(samples * ours, rate) / self._speed)

  def _plan(self, frame: Any) -> None:
    """Builds the filters for frames like this."""
    rate, layout = frame.sample_rate, frame.layout.name
    layout = UNNAMED.get(layout, layout)
    ours = self.stream.codec_context.rate
    texts = [
      "aresample=async=1",  # gaps stay gaps
      f"aformat=sample_rates={ours}:channel_layouts={layout}",
      "apad=pad_dur=1",  # `atempo` swallows the end
    ]
    left = float(self._speed)
    while left != 1:
      step = min(max(left, 0.5), _FASTEST)
      texts.append(f"atempo={step!r}")
      left /= step
    first = (
      f"sample_fmt={frame.format.name}:sample_rate={rate}"
      f":channel_layout={layout}:time_base={frame.time_base}"
    )
    if self._text:
      texts.append(self._text)
    self._graph = filters.built(
      ",".join(texts),
      "--audio-filter",
      ("abuffer", first),
      ("aformat", f"sample_rates={ours}:channel_layouts={layout}"),
    )
    self._next = self._place(frame.pts, rate)

  def _encoded(self) -> Iterator[Any]:
    """Encodes what the filters have ready."""
    while True:
      try:
        frame = self._graph.pull()
      except (BlockingIOError, EOFError):
        return
      if frame.samples > self._end - self._next:
        frame = _shorter(frame, self._end - self._next)
        if frame is None:
          continue
      frame.pts = self._next
      frame.time_base = fractions.Fraction(1, frame.sample_rate)
      self._next += frame.samples
      yield from self.stream.encode(frame)


def _shorter(frame: Any, samples: int) -> Any:
  """The first samples of a frame; None when there are none."""
  if samples <= 0:
    return None
  wave = frame.to_ndarray()
  if not frame.format.is_planar:
    samples *= frame.layout.nb_channels
  new = av.AudioFrame.from_ndarray(
    wave[:, :samples], frame.format.name, frame.layout.name
  )
  new.sample_rate = frame.sample_rate
  return new
