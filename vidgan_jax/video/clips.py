"""From a video to records: decode, cut into shots, encode.

A *record* is one shot, or a piece of a long one: every frame an image encoded
by itself, so that a random clip of it costs no decoding of other frames.
Everything streams: memory does not grow with the length of the video.

Shots are cut where the picture changes *abruptly*. On frames shrunk to 32x32,
the mean absolute difference to the frame before must exceed `CHANGE` of the
range and `JUMP` times the median of the last frames, and half the L1 distance
of the colour histograms (64 bins) must exceed `HISTOGRAM`; or the difference
must exceed twice those bounds and the frame after be much like the new one,
whatever the histograms. When the frame after is back to the old picture it was
a flash, and no cut. A gap of more than `GAP` seconds and `JUMP` times the usual
ones between two frames is a cut as well. Dissolves and fades are not cut. A
record has one size: where that of the frames changes, a shot ends in any case.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import dataclasses
import io
import itertools
import os
from typing import Any

import numpy as np
from PIL import Image
from PIL import ImageOps

from vidgan_jax.video import folder
from vidgan_jax.video import images
from vidgan_jax.video import interlace
from vidgan_jax.video import maps
from vidgan_jax.video import read
from vidgan_jax.video import sound

HISTOGRAM = 0.3
CHANGE = 0.06
JUMP = 3.0
GAP = 2.0
SOUND_RATE = 16_000  # samples a second
SOUND_MARGIN = 1.0  # seconds of sound before the first frame, after the last
RECORD_BYTES = 64 * 2**20  # a record ends here too: memory stays flat


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """How videos become records."""

  layout: str = "videos"  # or frames, strips: see folder.scan
  frame_width: int = 0  # strips: width of one frame, 0 = the strip's height
  size: int = 0  # shorter side, 0 = as it is
  upscale: bool = False  # enlarge smaller videos too
  square: bool = False  # centre crop to a square
  fps: float = 0.0  # videos: resample, 0 = as it is; images: their rate
  shots: bool = True  # cut at shot boundaries
  max_frames: int = 256
  min_frames: int = 2
  max_repeats: int = 10_000  # of one picture by `fps`, see `resample`
  deinterlace: bool = True  # videos: see `video.interlace`
  encoding: str = "png"  # or jpeg
  quality: int = 95  # of jpeg
  sound: str = ""  # videos: 'keep' it, or 'require' it; '': without
  sound_offset: float = 0.0  # seconds by which it is heard later


@dataclasses.dataclass(kw_only=True)
class Tally:
  """What became of one source video."""

  frames: int = 0  # decoded
  kept: int = 0  # written
  records: int = 0
  shots: int = 0
  short: int = 0  # pieces left out: fewer than min_frames
  damaged: int = 0
  interlaced: int = 0
  ended: str = ""
  height: int = 0
  width: int = 0
  seconds: float = 0.0
  codec: str = ""
  ids: dict[str, int] = dataclasses.field(default_factory=dict)  # -> pixels
  unmapped: int = 0  # frames without a map
  began: float = 0.0  # seconds of the file's clock at the first frame
  sound: bool = False  # it has sound
  loudest: float = 0.0  # sample of what is kept, of 1
  notes: list[str] = dataclasses.field(default_factory=list)  # for the user

  def note(self, text: str) -> None:
    """Keeps a sentence, once."""
    if text not in self.notes:
      self.notes.append(text)


class Refused(read.VideoError):
  """A source of which nothing is kept."""


# ------------------------------------------------------------------ decoding


def frames(
  root: str | os.PathLike[str],
  source: folder.Source,
  options: Options,
  tally: Tally,
  threads: int = 1,
) -> Iterator[read.Frame | maps.Frame]:
  """Streams a source's frames, resized and cropped, with their maps if any.

  Raises:
    read.VideoError: the source cannot be decoded.
    Refused: its maps are not those of its frames.
  """
  path = os.path.join(os.fspath(root), source.path)
  if options.layout == "videos":
    stream = _film(path, options, tally, threads)
  else:
    stream = _images(path, source, options, tally)
  if source.maps and source.maps.note:
    tally.note(source.maps.note)
  count = 0
  with contextlib.closing(stream):
    for image, time, place in stream:
      count += 1
      ids = _map(source.maps, place, image, tally)
      if options.square:
        image, ids = _square(image), ids if ids is None else _square(ids)
      if tally.height and (tally.height, tally.width) != image.shape[:2]:
        tally.note("where the size of the frames changes, a shot ends")
      tally.height, tally.width = image.shape[:2]
      frame = read.Frame(image, time)
      yield frame if ids is None else maps.Frame(*frame, ids)
  films = source.maps and options.layout == "videos"
  if films and count != len(source.maps.images):
    raise Refused(
      f"it has {count} frames and {len(source.maps.images)} maps: each frame"
      " needs its own, so the video must be of the rate that the maps are of"
    )


def _map(
  own: folder.Maps | None, place: int, image: np.ndarray, tally: Tally
) -> np.ndarray | None:
  """The map of a frame; where it has none, all of it is unknown."""
  if own is None:
    return None
  if own.problem:
    raise Refused(own.problem)
  try:
    ids = maps.at(own, place, *image.shape[:2], tally.note)
  except read.VideoError as error:
    raise Refused(str(error)) from None
  if ids is None:
    tally.unmapped += 1
    ids = np.full(image.shape[:2], maps.UNKNOWN, np.uint8)
  for number, pixels in enumerate(np.bincount(ids.ravel()).tolist()):
    if pixels:
      tally.ids[str(number)] = tally.ids.get(str(number), 0) + pixels
  return ids


def _film(
  path: str, options: Options, tally: Tally, threads: int
) -> Iterator[tuple[np.ndarray, float, int]]:
  """(image, seconds, number) of a video's frames."""
  first = size = None

  def interlaced():
    tally.interlaced += 1
    tally.note(
      "it is interlaced: "
      + ("its lines are made whole" if options.deinterlace else "it has combs")
    )

  with read.Reader(
    path,
    size=options.size or None,
    upscale=options.upscale,
    square_pixels=True,
    threads=threads,
  ) as reader:
    tally.codec = f"{reader.info.container}/{reader.info.codec}"
    try:
      pictures = interlace.whole(
        reader.pictures(), interlaced, options.deinterlace
      )
      for place, (picture, time) in enumerate(pictures):
        if first is None:
          first, tally.began = time, float(time)
        if size != (picture.height, picture.width):
          size = picture.height, picture.width
          reader.aim(picture, anew=True)
        clear = read.has_alpha(picture.format)
        image = reader.convert(picture, "rgba" if clear else "rgb24")
        if clear:
          image = np.asarray(_over_black(Image.fromarray(image), tally))
        yield image, float(time - first), place
    finally:
      tally.damaged, tally.ended = reader.damaged, reader.ended


def _images(
  path: str, source: folder.Source, options: Options, tally: Tally
) -> Iterator[tuple[np.ndarray, float, int]]:
  """(image, seconds, number) of the frames of a folder or a strip."""
  tally.codec = options.layout
  if options.layout == "strips":
    pictures = _strip(path, options, tally)
  else:
    pictures = _folder(path, source, tally)
  for place, i, picture in pictures:
    height, width = read.fit(
      picture.height, picture.width, options.size, options.upscale
    )
    if picture.size != (width, height):
      smaller = width < picture.width or height < picture.height
      method = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
      picture = picture.resize((width, height), method)
    yield np.asarray(picture), i / (options.fps or 25.0), place


def _square(image: np.ndarray) -> np.ndarray:
  height, width = image.shape[:2]
  side = min(height, width)
  top, left = (height - side) // 2, (width - side) // 2
  return np.ascontiguousarray(image[top : top + side, left : left + side])


def _over_black(picture: Image.Image, tally: Tally) -> Image.Image:
  """RGBA -> RGB: what lies under transparent pixels does not show."""
  if picture.getextrema()[3][0] < 255:
    tally.note("transparent pixels are black")
  black = Image.new("RGBA", picture.size, "black")
  return Image.alpha_composite(black, picture).convert("RGB")


def _picture(path: str, tally: Tally) -> Image.Image:
  """An image file as upright RGB, whatever its name and format say."""
  with images.opened(path) as image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey
      grey = np.asarray(image, np.uint16) >> 8
      return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
      return _over_black(image.convert("RGBA"), tally)
    return image.convert("RGB")


def _folder(
  path: str, source: folder.Source, tally: Tally
) -> Iterator[tuple[int, int, Image.Image]]:
  """(number, place in time, frame); one that is damaged is left out."""
  if missing := folder.missing(source.images):
    tally.note(
      f"by their names, {missing} frames are missing: time passes there"
    )
  times = folder.places(source.images)
  for place, (i, name) in enumerate(zip(times, source.images)):
    try:
      picture = _picture(os.path.join(path, name), tally)
    except read.VideoError as error:
      tally.damaged += 1
      tally.ended = str(error)
      continue
    tally.ended = ""
    yield place, i, picture
  if tally.ended and not tally.frames:
    raise read.VideoError(tally.ended)


def _strip(
  path: str, options: Options, tally: Tally
) -> Iterator[tuple[int, int, Image.Image]]:
  """(number, place in time, frame)."""
  strip = _picture(path, tally)
  width = options.frame_width or strip.height
  if strip.width % width:
    raise read.VideoError(
      f"{path}: the strip's width {strip.width} is not a multiple of the "
      f"frame's {width} (give --frame-width)"
    )
  for i in range(strip.width // width):
    yield i, i, strip.crop((i * width, 0, (i + 1) * width, strip.height))


# ------------------------------------------------------------------ shots


class _Shots:
  """Decides frame by frame, one frame late, where a new shot begins."""

  def __init__(self):
    self._before = None  # signature of the last frame of the running shot
    self._held = None  # (frame, signature, change, by colour): a new shot?
    self._changes = collections.deque(maxlen=12)

  def push(self, frame: read.Frame) -> list[tuple[read.Frame, bool]]:
    """Takes the next frame; returns those decided, and whether each cuts."""
    signature = _signature(frame.image)
    if self._held is None:
      return self._judge(frame, signature)
    held, held_signature, held_change, by_colour = self._held
    self._held = None
    histogram, back = _distance(self._before, signature)
    flash = back < 0.5 * held_change and histogram < HISTOGRAM
    _, onward = _distance(held_signature, signature)
    if flash or not (by_colour or onward < 0.4 * held_change):
      self._changes.append(onward)
      self._before = signature
      return [(held, False), (frame, False)]
    self._changes.clear()
    self._before = held_signature
    return [(held, True), *self._judge(frame, signature)]

  def _judge(self, frame, signature) -> list[tuple[read.Frame, bool]]:
    if self._before is not None:
      histogram, change = _distance(self._before, signature)
      usual = float(np.median(self._changes)) if self._changes else 0.0
      bound = max(CHANGE, JUMP * usual)
      by_colour = change > bound and histogram > HISTOGRAM
      if by_colour or (change > 2 * bound and len(self._changes) > 2):
        self._held = frame, signature, change, by_colour
        return []
      self._changes.append(change)
    self._before = signature
    return [(frame, False)]

  def flush(self) -> list[tuple[read.Frame, bool]]:
    """The frame still held back at the end."""
    held, self._held = self._held, None
    return [(held[0], held[3])] if held else []


def _signature(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(32x32 picture in [0, 1], its normalised colour histogram of 64 bins)."""
  small = Image.fromarray(image).resize((32, 32), Image.Resampling.BOX)
  small = np.asarray(small)
  bins = small.astype(np.int32) >> 6
  bins = (bins[..., 0] * 4 + bins[..., 1]) * 4 + bins[..., 2]
  histogram = np.bincount(bins.ravel(), minlength=64) / bins.size
  return small.astype(np.float32) / 255, histogram


def _distance(a, b) -> tuple[float, float]:
  return 0.5 * np.abs(a[1] - b[1]).sum(), float(np.abs(a[0] - b[0]).mean())


def cut(
  stream: Iterable[read.Frame], detect: bool = True
) -> Iterator[tuple[read.Frame, int]]:
  """Numbers the shots of a stream of frames: yields (frame, shot from 0).

  Args:
    stream: frames in order.
    detect: look at the pictures and for gaps in time; otherwise only another
      size is a cut.
  """
  stream = iter(stream)
  head = list(itertools.islice(stream, 4))
  # Seconds from frame to frame; of a time-lapse they are all long.
  steps = collections.deque(np.diff([frame.time for frame in head]), maxlen=12)
  shot, last, shots = 0, None, _Shots()
  for frame in itertools.chain(head, stream):
    ends = False
    if last is not None:
      step = frame.time - last.time
      ends = detect and step > max(GAP, JUMP * np.median(steps))
      ends = ends or frame.image.shape != last.image.shape
      steps.append(step)
    last = frame
    if ends:
      for held, new in shots.flush():
        shot += new
        yield held, shot
      shots = _Shots()
      shot += 1
    for decided, new in shots.push(frame) if detect else [(frame, False)]:
      shot += new
      yield decided, shot
  for held, new in shots.flush():
    shot += new
    yield held, shot


def resample(
  stream: Iterable[tuple[read.Frame, int]], fps: float, max_repeats: int
) -> Iterator[tuple[read.Frame, int]]:
  """The frames nearest in time to a regular grid, per shot.

  Args:
    stream: (frame, shot).
    fps: frames per second of the grid, which starts at a shot's first frame.
    max_repeats: more frames than so many are not made of one.

  Yields:
    (frame at its grid time, shot).

  Raises:
    Refused: a gap in time asks for more.
  """
  held = held_shot = None
  start, step, k = 0.0, 0.0, 0

  def until(time):
    nonlocal k
    count = (time - start) * fps - k
    if count > max_repeats:
      raise Refused(
        f"a picture is shown for so long that it would become {count:.0f}"
        f" frames at {fps:g} a second: raise --max-repeats {max_repeats}, or"
        " cut the video there"
      )
    while start + k / fps < time:
      yield held._replace(time=start + k / fps), held_shot
      k += 1

  def finish():  # the last frame is shown for as long as the one before
    if held is not None:
      yield from until(held.time + max(step / 2, 1e-6))

  for frame, shot in stream:
    if held is not None and shot == held_shot:
      step = frame.time - held.time
      yield from until(held.time + step / 2)
    else:
      yield from finish()
      start, step, k = frame.time, 0.0, 0
    held, held_shot = frame, shot
  yield from finish()


# ------------------------------------------------------------------ records


def records(
  root: str | os.PathLike[str],
  source: folder.Source,
  options: Options,
  tally: Tally,
  beat: Callable[[], None] = lambda: None,
  threads: int = 1,
) -> Iterator[dict[str, Any]]:
  """Streams the records of one source video.

  A shot of more than `max_frames` is cut into pieces of at most that many; the
  last two pieces share what is left, so that none is a stump.

  Args:
    root: the folder that was scanned.
    source: one of its sources.
    options: how.
    tally: counts are added to it as they come.
    beat: called after every decoded frame.
    threads: of the decoder.

  Yields:
    Dicts: frames (list of encoded images), times (T,) float32 seconds from
    the record's first frame, start (seconds in the source), shot (int), file;
    of a source with maps also layout (list of encoded maps), and of one with
    sound audio, (S,) int16 of SOUND_RATE, and audio_start, the seconds of its
    first sample.

  Raises:
    read.VideoError: the source cannot be decoded.
    Refused: it lacks the maps or the sound that it must have.
  """
  with contextlib.ExitStack() as stack:
    track = None
    if options.sound:
      track = _track(root, source, options, tally)
      stack.enter_context(track or contextlib.nullcontext())
    pieces = _records(root, source, options, tally, beat, threads)
    for record in stack.enter_context(contextlib.closing(pieces)):
      if options.sound:
        record |= _audio(track, record, options, tally)
      yield record
  if track and tally.records:
    _compare(track, tally)


def _track(
  root: str | os.PathLike[str],
  source: folder.Source,
  options: Options,
  tally: Tally,
) -> sound.Track | None:
  """The sound of a source; None: it has none."""
  try:
    track = sound.Track(os.path.join(root, source.path), SOUND_RATE)
  except sound.NoSoundError:
    if options.sound == "require":
      raise Refused("it has no sound (--sound require)") from None
    tally.note("it has no sound: silence stands for it")
    return None
  except read.VideoError:
    return None  # Who reads the pictures says why.
  tally.sound = True
  return track


def _audio(
  track: sound.Track | None,
  record: dict[str, Any],
  options: Options,
  tally: Tally,
) -> dict[str, Any]:
  """What sounds during a record, and a little before and after it."""
  start = record["start"] - SOUND_MARGIN
  end = record["start"] + float(record["times"][-1]) + SOUND_MARGIN
  if track is None:
    wave = np.zeros(round((end - start) * SOUND_RATE), np.float32)
  else:
    begin = tally.began - options.sound_offset
    wave = track.between(begin + start, begin + end)
  tally.loudest = max(tally.loudest, float(np.abs(wave).max()))
  audio = (wave * 32767).round().astype(np.int16)
  return {"audio": audio, "audio_start": -SOUND_MARGIN}


def _compare(track: sound.Track, tally: Tally) -> None:
  """Says of a sound what a user may not expect."""
  if tally.loudest < 1 / 32767:
    tally.note("its sound is silent: no picture can follow it")
  elif track.seconds and abs(track.seconds - tally.seconds) > 0.5:
    tally.note(
      "its sound is shorter or longer than the picture: what is missing is"
      " silence, what is too much is left out"
    )


def _records(root, source, options, tally, beat, threads):
  """The records of a source, without sound; see `records`."""

  def counted():
    for frame in frames(root, source, options, tally, threads):
      tally.frames += 1
      tally.seconds = frame.time
      beat()
      yield frame

  stream = cut(counted(), options.shots)
  if options.fps and options.layout == "videos":
    stream = resample(stream, options.fps, options.max_repeats)
  most = options.max_frames
  held, held_bytes, shot = [], 0, None  # (encoded image, time, encoded map)

  def take(count):
    nonlocal held, held_bytes
    piece, held = held[:count], held[count:]
    held_bytes = sum(len(e) + len(m) for e, _, m in held)
    if len(piece) < options.min_frames:
      tally.short += 1
      return
    tally.kept += len(piece)
    tally.records += 1
    start = piece[0][1]
    layout = {"layout": [m for *_, m in piece]} if source.maps else {}
    yield layout | {
      "frames": [e for e, *_ in piece],
      "times": np.array([t - start for _, t, _ in piece], np.float32),
      "start": start,
      "shot": shot,
      "file": source.file,
    }

  def finish():
    if len(held) > most:
      yield from take((len(held) + 1) // 2)
    if held:
      yield from take(len(held))

  for frame, number in stream:
    if number != shot:
      yield from finish()
      shot = number
      tally.shots += 1
    encoded = encode(frame.image, options)
    ids = _png(frame.ids) if source.maps else b""
    held.append((encoded, frame.time, ids))
    held_bytes += len(encoded) + len(ids)
    if held_bytes >= RECORD_BYTES:
      yield from take(min(len(held), most))
    elif len(held) == 2 * most:
      yield from take(most)
  yield from finish()


def encode(image: np.ndarray, options: Options) -> bytes:
  """(H, W, 3) uint8 as a PNG (lossless) or JPEG file."""
  if options.encoding != "jpeg":
    return _png(image)
  out = io.BytesIO()
  Image.fromarray(image).save(
    out, "JPEG", quality=options.quality, subsampling=0
  )
  return out.getvalue()


def _png(image: np.ndarray) -> bytes:
  out = io.BytesIO()
  # Of the levels, the best for natural pictures, and four times as fast as the
  # default.
  Image.fromarray(image).save(out, "PNG", compress_level=2)
  return out.getvalue()


def decode(encoded: Iterable[bytes]) -> np.ndarray:
  """Encoded images of one size -> (T, H, W, 3) uint8; grey becomes RGB."""
  return np.stack(
    [np.asarray(Image.open(io.BytesIO(e)).convert("RGB")) for e in encoded]
  )


def serialize(example: dict[str, Any]) -> list[bytes]:
  """A flat dict as a serialized `tf.train.Example`, without TensorFlow.

  Workers start fast and stay small this way; the encoded frames are not
  copied.

  Args:
    example: values are int, float, str, bytes, list of bytes, float array, or
      int16 array, which is kept as its bytes.

  Returns:
    Pieces whose concatenation is the message.
  """
  entries = []
  for key in sorted(example):
    value = example[key]
    if isinstance(value, int | np.integer):
      feature = _field(3, _field(1, [_varint(int(value))]))
    elif isinstance(value, np.ndarray) and value.dtype == np.int16:
      feature = _field(1, _field(1, [value.astype("<i2").tobytes()]))
    elif isinstance(value, float | np.ndarray):
      feature = _field(2, _field(1, [np.asarray(value, "<f4").tobytes()]))
    else:
      value = [value] if isinstance(value, str | bytes) else value
      value = [v.encode() if isinstance(v, str) else v for v in value]
      feature = _field(1, [piece for v in value for piece in _field(1, [v])])
    entries += _field(1, _field(1, [key.encode()]) + _field(2, feature))
  return _field(1, entries)


def _varint(value: int) -> bytes:
  value &= 2**64 - 1
  out = bytearray()
  while value > 127:
    out.append(value & 127 | 128)
    value >>= 7
  out.append(value)
  return bytes(out)


def _field(number: int, pieces: list[bytes]) -> list[bytes]:
  """A length-delimited field of a protocol buffer, as pieces."""
  size = sum(map(len, pieces))
  return [bytes([number << 3 | 2]) + _varint(size), *pieces]
