"""A whole file, pipe or camera through stages: the plan and its execution.

  job.process([stage, ...], "in.mp4", "out.mp4", job.Options(crf=16))

The output appears under its name when it is whole. With `resume` it is made in
closed segments in the folder OUT.parts, from which a crashed run goes on: the
input is decoded again, which is cheap, and stages begin with the window where
the last segment ended; but from the start with `fps`, interpolate:fps= and
recurrent stages, where what was written does not say which frames they saw.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import dataclasses
import fractions
import hashlib
import heapq
import io
import itertools
import json
import math
import os
import pathlib
import re
import shutil
import signal
import struct
import sys
import threading
import time
from typing import Any

import av
import numpy as np

from vidgan_jax.store import files
from vidgan_jax.video import edits
from vidgan_jax.video import folder
from vidgan_jax.video import images
from vidgan_jax.video import read
from vidgan_jax.video import sink as sink_lib
from vidgan_jax.video import source as source_lib
from vidgan_jax.video import stream
from vidgan_jax.video import write

_SUFFIXES = {
  **sink_lib.FORMATS, ".gif": "gif", ".webp": "webp", ".apng": "apng",
  ".png": "image2",
}  # fmt: skip
_GIF_RATE = 50  # frames/s; players show faster ones at 10
SEGMENT = 240  # frames between two points where a crashed run can go on
_QUEUE_BYTES = 2**26  # of frames that wait for the encoder, and the stages
_PACKET = struct.Struct("<qqq?q")  # pts, dts, duration, key frame?, bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """What is wanted besides the stages.

  Attributes:
    codec: see `sink_lib.Encoding`; so crf, preset and pix_fmt.
    format: the container, where the output's name does not say; png: a folder
      of images.
    sound: copy it.
    start: seconds of the input from its first frame.
    end: seconds; None: all.
    concat: more inputs, one after the other.
    fps: frames a second of the output, or of images that come in; None: as they
      come, or 25.
    speed: 2 is twice as fast; the sound keeps its pitch.
    mask: see `edits.masked`.
    grow: pixels by which the mask is made larger to each side.
    compare: 'side' or 'split', see `edits.compared`.
    tile: see `stream.Runner`; so chunk.
    memory: bytes for a stage's window, 0: see `_window_memory`.
    resume: work in segments, and go on where an earlier run stopped.
    live: the input does not wait: drop frames rather than fall behind. So it is
      for cameras and rtsp, rtp, udp, srt and rtmp in any case.
  """

  codec: str | None = None
  crf: float | None = None
  preset: str | None = None
  pix_fmt: str | None = None
  format: str | None = None
  sound: bool = True
  start: float = 0.0
  end: float | None = None
  concat: tuple[str, ...] = ()
  fps: float | None = None
  speed: float = 1.0
  mask: str | None = None
  grow: int = 0
  compare: str | None = None
  tile: int = 0
  chunk: int = 0
  memory: int = 0
  resume: bool = False
  live: bool = False


@dataclasses.dataclass(kw_only=True)
class Summary:
  """What was done.

  Attributes:
    frames: written.
    dropped: of a live input, since the stages or the encoder are slower.
    seconds: that it took.
    done: nothing had to be done, see `mark` of `process`.
    marks: seconds after which the frames of --probe were written.
  """

  frames: int = 0
  dropped: int = 0
  seconds: float = 0.0
  done: bool = False
  marks: list[float] = dataclasses.field(default_factory=list)


def process(
  stages: list[Any],
  path: str,
  out: str,
  options: Options | None = None,
  *,
  tell: Callable[[str], None] = lambda text: None,
  progress: Callable[[int, int], None] = lambda done, total: None,
  enough: Callable[[int], bool] = lambda frames: False,
  mark: str | None = None,
) -> Summary:
  """Processes one file, pipe, URL or camera.

  Args:
    stages: see `stream.Stage`; or with a method `frames`, as in `edits`.
    path: what comes in.
    out: where it goes to; appears under this name only when it is whole.
    options: how.
    tell: takes lines for the user.
    progress: takes (frames written, frames in all or 0).
    enough: takes the frames written; True ends the output here.
    mark: with `resume`, a file that says of what the output was made. An output
      of the same is not made again.

  Returns:
    The numbers.

  Raises:
    read.VideoError: it cannot be done; nothing is left under `out`.
  """
  began = time.perf_counter()
  with contextlib.ExitStack() as stack:
    options = options or Options()
    job = _Job(stages, path, out, options, tell, progress, stack, mark)
    job.enough = enough
    if job.summary.done:
      tell(f"{out}: is done, of the same input with the same options")
    elif job.options.resume:
      job.in_segments()
    else:
      job.at_once()
    job.summary.seconds = time.perf_counter() - began
    if job.summary.dropped:
      tell(
        f"{path}: {job.summary.dropped} frames dropped, to keep up with the"
        " input"
      )
    for source in job.sources:
      if source.resized:
        tell(
          f"{source.path}: {source.resized} frames of another size were scaled"
          f" to the {source.picture.width}x{source.picture.height} of the first"
        )
      if source.reader.damaged or source.reader.ended:
        why = source.reader.ended or "they do not decode"
        tell(
          f"{source.path}: {source.reader.damaged} damaged frames left out"
          f" ({why})"
        )
  return job.summary


class _Job:
  """One input on its way to one output."""

  def __init__(self, stages, path, out, options, tell, progress, stack, mark):
    """Opens and checks everything that can be before the work starts."""
    self.options, self.out, self._stack = options, out, stack
    self._tell, self._progress = tell, progress
    self.enough = lambda frames: False
    self.summary = Summary()
    live = source_lib.is_live(path)
    many = not live and images.names(path) is not None
    self.encoding = sink_lib.Encoding(
      container=container(out, options.format, many),
      codec=options.codec,
      crf=options.crf,
      preset=options.preset,
      pix_fmt=options.pix_fmt,
      exact=options.resume,
    )
    self.encoding.encoder()
    self._hurry = options.live or source_lib.hurries(path)
    self._check(path)
    self.sources = []
    for name in (path, *options.concat):
      self.sources.append(source_lib.Source(name, options.fps))
      stack.callback(self.sources[-1].close)
    source = self.source = self.sources[0]
    if not source.live:
      source.look()
    self._overwrites()
    self._plan(stages)
    self._mark = mark if options.resume else None
    self.summary.done = self._mark is not None and self._is_done()
    if self.encoding.container == "image2" and not self.summary.done:
      images.check(images.place(out)[0])
    copy = sink_lib.copyable(
      source, self.encoding.container, audio=options.sound, speed=options.speed,
      tell=tell,
    )  # fmt: skip
    self._copies = [copy]  # streams to copy, of every input
    for other in self.sources[1:]:
      self._copies.append(_same(source, other, copy))
      many = lambda s: sum(x.type == "audio" for x in s.others)
      if options.sound and many(other) > many(source):
        tell(
          f"--concat: sound of {other.path} is left out, {source.path} has"
          f" {many(source) or 'none'}; begin with the file that has most"
        )
    self._packets = collections.deque()  # (index, packet) to be copied
    self._sink = None
    self._shifts = [fractions.Fraction(0)]  # where each input begins

  def _check(self, path: str) -> None:
    """Refuses what cannot work."""
    options, out = self.options, self.out
    live = source_lib.is_live(path) or source_lib.is_live(out)
    kind = self.encoding.container
    mask = options.mask or ""
    suffix = os.path.splitext(mask)[1].lower()
    many = os.path.exists(mask) and suffix not in folder.IMAGES
    chosen = options.codec or options.pix_fmt or options.preset
    for wrong, text in (
      (options.resume and live, "--resume: needs files on both sides"),
      (options.concat and live, "--concat: needs files on both sides"),
      (options.live and not source_lib.is_live(path),
       f"--live: {path} waits; it is for pipes, URLs and cameras"),
      (many and self._hurry,
       f"--mask {mask}: has frames, but those of a live input may be dropped;"
       " give an image or a colour"),
      (kind == "gif" and (chosen or options.crf is not None),
       f"{out}: a GIF has no --codec, --crf, --preset or --pix-fmt"),
      (kind in ("mp4", "mov", "3gp") and out == "-",
       f"--format {options.format}: a pipe cannot hold {kind}, which is written"
       " to its end and then to its beginning; matroska, nut and mpegts can"),
      (kind in ("gif", "image2") and source_lib.is_live(out),
       f"{out}: {kind} needs a file or folder, not a pipe or URL"),
    ):  # fmt: skip
      if wrong:
        raise read.VideoError(text)
    if source_lib.is_live(out):
      return
    target = images.place(out)[0] if kind == "image2" else out
    if os.path.exists(target) and not (
      os.path.isfile(target) or os.path.isdir(target)
    ):
      raise read.VideoError(
        f"{target}: is a device or a pipe, not a file; name a file, or - for a"
        " pipe"
      )
    parent = os.path.dirname(os.path.abspath(target))
    if not os.path.isdir(parent):
      raise read.VideoError(f"{out}: the folder {parent} does not exist")
    if not os.access(parent, os.W_OK):
      raise read.VideoError(f"{out}: the folder {parent} cannot be written to")
    if kind == "image2" and os.path.isfile(target):
      raise read.VideoError(f"{target}: is a file; images go into a folder")
    if kind != "image2" and os.path.isdir(out):
      raise read.VideoError(f"{out}: is a folder, the input is a file")

  def _overwrites(self) -> None:
    """Refuses an output that is an input."""
    if source_lib.is_live(self.out):
      return
    for source in self.sources:
      for file in source.files if os.path.exists(self.out) else ():
        if not source.live and os.path.samefile(file, self.out):
          raise read.VideoError(
            f"{self.out}: is the input; give the output another name"
          )
    for file in self._mask_files() if os.path.exists(self.out) else ():
      if os.path.samefile(file, self.out):
        raise read.VideoError(
          f"{self.out}: is the --mask, or in it; give the output another name"
        )

  def _mask_files(self) -> list[str]:
    """Files that the mask is read from; none if it is a colour."""
    mask = self.options.mask or ""
    if os.path.isdir(mask):
      return sorted(entry.path for entry in os.scandir(mask))
    return [mask] if os.path.exists(mask) else []

  def _plan(self, stages: list[Any]) -> None:
    """Makes runners of stages."""
    options, source = self.options, self.source
    stages = [s for s in stages if s.pixels]
    networks = [i for i, s in enumerate(stages) if isinstance(s, stream.Stage)]
    if options.mask and not any(stages[i].masks for i in networks):
      self._tell(
        f"--mask {options.mask}: changes nothing, no stage here looks at a mask"
        " (as inpaint does)"
      )
    self._stages, self._steps = stages, []
    for i, stage in enumerate(stages):
      if i in networks:
        stage = stream.Runner(
          stage,
          tile=options.tile,
          chunk=options.chunk,
          memory=options.memory or _window_memory(stage),
          deep=i != networks[-1],
          tell=self._tell,
        )
      self._steps.append(stage)
    self.runners = [s for s in self._steps if isinstance(s, stream.Runner)]
    self._pixels = bool(stages or options.mask or options.compare)
    # Images are upright RGB.
    self._pixels |= self.encoding.container in sink_lib.PICTURES
    if source.picture is not None and not sink_lib.turns(
      self.encoding.container
    ):
      turned = source.reader.turn(source.picture) != (False, 1, 1)
      self._pixels = self._pixels or turned
    self._rate = math.prod(r.stage.rate for r in self.runners)
    info = source.reader.info
    height, width = info.height, info.width
    for stage in stages:
      height, width = stage.size(height, width)
      if height * width > read.MAX_PIXELS:
        raise read.VideoError(
          f"{stage.name}: frames of {width}x{height} are beyond the limit of"
          f" {read.MAX_PIXELS} pixels; choose a smaller scale, or --crop"
        )
    fps = fractions.Fraction(info.fps or 25).limit_denominator(1001)
    fps *= self._rate
    bases = [s.reader.stream.time_base for s in self.sources]
    base = fractions.Fraction(
      1, math.lcm(*(b.denominator for b in bases)) * self._rate
    )
    if len({(b.numerator, b.denominator) for b in bases}) == 1:
      base *= bases[0].numerator
    speed = fractions.Fraction(options.speed).limit_denominator(1000)
    self._speed, base, fps = speed, base / speed, fps * speed
    grid, kind = options.fps, self.encoding.container
    if all(s.images for s in self.sources):
      grid = None  # it is the rate that they have already
    asked = [s.fps for s in stages if s.fps]
    if asked and not grid:  # see `phases`
      grid = fractions.Fraction(asked[-1]) * speed
    if kind == "gif" and (grid or fps) > _GIF_RATE:
      grid = _GIF_RATE
      self._tell(f"{self.out}: players of GIF show at most {grid} frames/s")
    if grid:
      fps = fractions.Fraction(grid).limit_denominator(1001)
      base = 1 / fps
    if kind == "gif":
      base = fractions.Fraction(1, 100)
    if kind == "avi":
      base = 1 / fps  # it knows no times, only a rate
    if base.denominator > 2**31 - 1:
      base = fractions.Fraction(1, 10**6)
    self._fps, self._grid, self.time_base = fps, grid, base
    self._size = 8
    if source.picture is not None:
      area = source.picture.height * source.picture.width
      self._size = max(2, min(16, _QUEUE_BYTES // (3 * area)))
    length = info.duration
    if options.end is not None:
      length = min(length or options.end, options.end)
    length = max(0.0, length - options.start) / options.speed
    self.total = round(length * float(fps)) if not options.concat else 0

  def _frames(self, skip: int = 0) -> Iterator[stream.Frame]:
    """The frames to be written; of the first `skip` images may be missing."""
    options, first = self.options, skip
    if self._grid:
      first = 0  # which frames these were is not known before
    needs = []
    for runner in reversed(self.runners):
      needs.append(first)
      first = runner.needs(first)
    drop = self._dropped if self._hurry else None
    frames = stream.background(self._decoded(first), self._size, drop=drop)
    self._stack.callback(_close, frames)  # before the inputs are
    if options.mask:
      frames = edits.masked(frames, options.mask)
      if options.grow:
        frames = edits.grown(frames, options.grow)
    for step in self._steps:
      if isinstance(step, stream.Runner):
        frames = step(frames, needs.pop())
      else:
        frames = step.frames(frames)
    if options.speed != 1:
      frames = edits.faster(frames, self._speed)
    if self._grid:
      frames = edits.at_rate(frames, self._fps)
    if options.compare:
      frames = edits.compared(frames, options.compare)
    return stream.background(edits.finished(frames), self._size, self._drain)

  def _decoded(self, skip: int) -> Iterator[stream.Frame]:
    """Frames of all inputs, one after the other."""
    for source, streams in zip(self.sources, self._copies):
      index = {s.index: c.index for s, c in zip(streams, self._copies[0])}
      take = lambda packet, index=index: self._take(
        index[packet.stream.index], packet
      )
      yield from source.frames(
        self._clock(source),
        pixels=self._pixels,
        cuts=any(runner.temporal for runner in self.runners),
        skip=skip,
        others=streams,
        take=take,
      )
      skip = 0 if len(self.sources) > 1 else skip
      self._shifts.append(source.end)

  def _clock(self, source: source_lib.Source) -> source_lib.Clock:
    """The clock of an input; with several, the next begins where one ends."""
    shift = None
    if len(self.sources) > 1:
      shift = self._shifts[self.sources.index(source)]
    return source.clock(self.options.start, self.options.end, shift)

  def _dropped(self) -> None:
    self.summary.dropped += 1

  def _take(self, index: int, packet: Any) -> None:
    """In the decoder's thread: keeps a packet for the writer's."""
    self._packets.append((index, packet))
    # A long tail of sound shall not pile up.
    while self._sink is not None and len(self._packets) > 4096:
      time.sleep(0.01)

  def _drain(self) -> None:
    """Writes the packets that wait."""
    while self._sink is not None and self._packets:
      index, packet = self._packets.popleft()
      self._sink.append(packet, index)

  def _open(self, path, frame, copy=()) -> sink_lib.Sink:
    encoding = self.encoding
    if encoding.container == "gif":  # a film to choose the palette from
      encoding = sink_lib.Encoding(
        container="matroska", codec="ffv1", pix_fmt="bgra"
      )
    return sink_lib.Sink(
      path,
      encoding,
      self.source,
      frame,
      name=self.out,
      time_base=self.time_base,
      rate=self._fps,
      copy=copy,
      shift=-fractions.Fraction(self.options.start).limit_denominator(10**6),
      speed=self._speed,
      tell=self._tell,
    )

  def _wrote(self) -> None:
    self.summary.frames += 1
    self.summary.marks.append(time.perf_counter())
    del self.summary.marks[:-1000]
    self._progress(self.summary.frames, self.total)

  def at_once(self) -> None:
    """Writes the output in one go."""
    frames = contextlib.closing(self._frames())
    with self._place() as path, frames as frames, self._until_ctrl_c():
      try:
        try:
          for frame in frames:
            if self._sink is None:
              self._sink = self._open(path, frame, self._copies[0])
            self._drain()
            self._sink.write(frame)
            self._wrote()
            if self.enough(self.summary.frames):
              break
        except KeyboardInterrupt:
          if not self.source.live or self._sink is None:
            raise  # else it is how a recording ends
        self._drain()
        self._sink.close()
      except BaseException:
        if self._sink is not None:
          self._sink.abandon()
        raise
      finally:
        self._sink = None

  @contextlib.contextmanager
  def _place(self) -> Iterator[str]:
    """Where to write to; on success it gets the output's name."""
    kind = self.encoding.container
    if source_lib.is_live(self.out):
      yield {"-": "pipe:1"}.get(self.out, self.out)
    elif kind == "image2":
      target, pattern = images.place(self.out)
      with images.filling(target) as temporary:
        # Only the name has a number.
        yield os.path.join(temporary.replace("%", "%%"), pattern)
    else:
      with write.replacing(self.out) as temporary:
        if kind != "gif":
          yield temporary
          return
        film = f"{temporary}.film"
        try:
          yield film
          images.gif(film, temporary)
        finally:
          pathlib.Path(film).unlink(missing_ok=True)

  @contextlib.contextmanager
  def _until_ctrl_c(self) -> Iterator[None]:
    """Lets Ctrl-C end a live input as its own end would, the next one abort."""
    mine = threading.current_thread() is threading.main_thread()
    if not self.source.live or not mine:
      yield
      return

    def stop(*_):
      self.source.stopped = True
      signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
      yield
    finally:
      signal.signal(signal.SIGINT, before)

  # ---- in segments

  def in_segments(self) -> None:
    """Writes closed segments, then joins them; goes on where it stopped."""
    out = self.out
    if self.encoding.container == "image2":
      out, _ = images.place(out)
    parts = pathlib.Path(f"{out}.parts")
    parts.mkdir(exist_ok=True)
    state = self._state(parts)
    if self.source.alpha and self.encoding.encoder().startswith("libvpx"):
      raise read.VideoError(
        "--resume: segments do not hold the transparency of VP8 and VP9; use"
        " --codec ffv1 in .mkv, or leave --resume out"
      )
    if state["ended"] is None:
      self._encode(parts, state)
    self._join(parts, state)
    if self._mark is not None:
      with _writing(pathlib.Path(self._mark)) as file:
        file.write(self._made())
    shutil.rmtree(parts)

  def _is_done(self) -> bool:
    """Whether the output is there, and was made of the same."""
    try:
      return pathlib.Path(self._mark).read_bytes() == self._made()
    except OSError:
      return False

  def _made(self) -> bytes:
    """Of what the output was made, and which file it then was."""
    stat = os.stat(self.out)
    made = f"{self._settings()} {stat.st_size} {stat.st_mtime_ns}"
    return made.encode()

  def _settings(self) -> str:
    """Digest of all that the output depends on."""
    options = dataclasses.asdict(self.options) | {"resume": True, "memory": 0}
    files = [os.path.abspath(f) for s in self.sources for f in s.files]
    files += self._mask_files()
    stats = [os.stat(file) for file in files]
    stages = re.sub(" at 0x[0-9a-f]+", "", repr(self._stages))
    settings = repr([
      stages, sorted(options.items()), files,
      [(s.st_size, s.st_mtime_ns) for s in stats],
    ])  # fmt: skip
    return hashlib.sha256(settings.encode()).hexdigest()

  def _state(self, parts: pathlib.Path) -> dict[str, Any]:
    """What exists already."""
    settings = self._settings()
    try:
      state = json.loads((parts / "manifest.json").read_text())
    except FileNotFoundError:
      state = {"settings": settings, "frames": [], "ended": None}
    except (OSError, ValueError) as error:
      raise read.VideoError(f"{parts}: cannot be read ({error})") from None
    if state["settings"] != settings:
      raise read.VideoError(
        f"{parts}: was made from another input or with other options; give the"
        " same ones, or delete this folder to start anew"
      )
    if state["frames"]:
      self._tell(f"{self.out}: goes on at frame {sum(state['frames'])}")
    return state

  def _encode(self, parts: pathlib.Path, state: dict[str, Any]) -> None:
    """Makes the segments that are missing."""
    skip = sum(state["frames"])
    for runner, tile in zip(self.runners, state.get("tiles", ())):
      runner.tile = tile
    with contextlib.closing(self._frames(skip)) as frames:
      frames = itertools.islice(frames, skip, None)
      for segment in itertools.count(len(state["frames"])):
        piece = itertools.islice(frames, SEGMENT)
        frame = next(piece, None)
        if frame is None:
          break
        self.summary.frames = sum(state["frames"])
        sink = self._open(io.BytesIO(), frame)
        with _writing(parts / f"{segment:06d}") as file:
          for each in itertools.chain([frame], piece):
            _save(file, sink.encode(each))
            self._wrote()
          _save(file, sink.encode(None))
        sink.abandon()
        done = self.summary.frames - sum(state["frames"])
        state |= {
          "frames": [*state["frames"], done],
          "tiles": [runner.tile for runner in self.runners],
          "shape": None if frame.image is None else frame.image.shape,
          "deep": frame.image is not None and frame.image.dtype == np.uint16,
          "alpha": frame.alpha is not None,
        }
        self._note(parts, state)
    state["ended"] = [str(shift) for shift in self._shifts]
    self._note(parts, state)

  def _note(self, parts: pathlib.Path, state: dict[str, Any]) -> None:
    with _writing(parts / "manifest.json") as file:
      file.write(json.dumps(state).encode())

  def _join(self, parts: pathlib.Path, state: dict[str, Any]) -> None:
    """Puts segments and the copied streams together."""
    self.summary.frames = sum(state["frames"])
    self._shifts = [fractions.Fraction(shift) for shift in state["ended"]]
    frame = stream.Frame(time=0, duration=0)
    if state["shape"] is not None:
      kind = np.uint16 if state["deep"] else np.uint8
      frame.image = np.zeros(state["shape"], kind)
      frame.alpha = frame.image[..., 0] if state["alpha"] else None

    def pictures():
      for segment in range(len(state["frames"])):
        for packet in _load(parts / f"{segment:06d}", self.time_base):
          yield packet.dts * self.time_base, None, packet

    def others():
      for name, streams in zip(self.sources, self._copies):
        if streams:
          source = source_lib.Source(name.path)
          self._stack.callback(source.close)  # not before the sink is closed
          same = [source.reader.container.streams[s.index] for s in streams]
          index = {s.index: c.index for s, c in zip(streams, self._copies[0])}
          for packet in source.packets(self._clock(name), same):
            time = source_lib.seconds(packet.dts, packet.time_base)
            yield time, index[packet.stream.index], packet

    with self._place() as path:
      sink = self._open(path, frame, self._copies[0])
      try:
        both = heapq.merge(pictures(), others(), key=lambda item: item[0])
        for _, index, packet in both:
          sink.append(packet, index)
        sink.close()
      except BaseException:
        sink.abandon()
        raise


def _close(frames: Any) -> None:
  with contextlib.suppress(ValueError):  # a thread still waits for a camera
    frames.close()


@contextlib.contextmanager
def _writing(path: pathlib.Path) -> Iterator[Any]:
  """A file that is there, and on the disk, when the block has ended."""
  try:
    with files.write(path) as temporary, open(temporary, "wb") as file:
      yield file
  except OSError as error:
    raise read.VideoError(
      f"{path}: cannot be written ({read.reason(error)})"
    ) from None


def _save(file: Any, packets: Iterable[Any]) -> None:
  for p in packets:
    data = bytes(p)
    file.write(
      _PACKET.pack(p.pts, p.dts, p.duration or 0, p.is_keyframe, len(data))
    )
    file.write(data)


def _load(path: pathlib.Path, base: fractions.Fraction) -> Iterator[Any]:
  with open(path, "rb") as file:
    while head := file.read(_PACKET.size):
      pts, dts, duration, key, size = _PACKET.unpack(head)
      packet = av.Packet(file.read(size))
      packet.pts, packet.dts, packet.duration = pts, dts, duration
      packet.time_base, packet.is_keyframe = base, key
      yield packet


def container(
  out: str, wanted: str | None = None, images_in: bool = False
) -> str:
  """The muxer of an output, by option or by its name.

  Args:
    out: the name.
    wanted: the option.
    images_in: a name without suffix, or of a folder, is one of images.

  Raises:
    read.VideoError: neither says.
  """
  if wanted:
    return _SUFFIXES.get(f".{wanted.lower()}", wanted)
  if out == "-":
    return "matroska"
  if "://" in out:
    return {"rtmp": "flv"}.get(out.split(":")[0], "mpegts")
  suffix = os.path.splitext(out)[1].lower()
  if images_in and (not suffix or os.path.isdir(out)):
    return "image2"
  if os.path.isdir(out) or out.endswith(os.sep):
    raise read.VideoError(
      f"{out}: is a folder, the input is a file; name a file in it, or images,"
      f" as {os.path.join(out, images.PATTERN)}"
    )
  if suffix in folder.IMAGES and suffix not in _SUFFIXES:
    images.place(out)
  if suffix not in _SUFFIXES:
    raise read.VideoError(
      f"{out}: the suffix {suffix!r} is none of"
      f" {', '.join(_SUFFIXES)}; name the output so, or give --format"
    )
  return _SUFFIXES[suffix]


def _same(first, other, copy) -> list[Any]:
  """The other input's streams that continue those of the first.

  Raises:
    read.VideoError: they are of another kind.
  """
  size = lambda s: (s.reader.info.width, s.reader.info.height)
  if size(first) != size(other):
    raise read.VideoError(
      "--concat: {}x{} of {} and {}x{} of {} do not go together".format(
        *size(first), first.path, *size(other), other.path
      )
    )

  def kind(s):
    codec = s.codec_context
    about = [s.type, codec and codec.name]
    if s.type == "audio":
      about += [codec.sample_rate, codec.layout.name]
    return about

  out = []
  for old in copy:
    rank = [s for s in first.others if s.type == old.type].index(old)
    like = [s for s in other.others if s.type == old.type]
    if rank >= len(like) or kind(like[rank]) != kind(old):
      raise read.VideoError(
        f"--concat: {other.path} has no stream like {kind(old)} of"
        f" {first.path}, so it cannot be copied; leave the sound out with"
        " --no-audio"
      )
    out.append(like[rank])
  return out


def _window_memory(stage: stream.Stage) -> int:
  """Bytes that a stage's windows may be planned in: a quarter of what is free.

  On a CPU half a GiB is enough: beyond its caches, larger windows are slower
  (docs/results.md, section 8). But a recurrent stage remembers whole frames.
  """
  try:
    if "jax" in sys.modules:
      stats = sys.modules["jax"].local_devices()[0].memory_stats()
      if stats and "bytes_limit" in stats:
        return (stats["bytes_limit"] - stats["bytes_in_use"]) // 4
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
  except (AttributeError, OSError, ValueError, RuntimeError):
    free = 2**32
  if stage.recurrent:
    return free // 4
  return min(free // 4, 2**29)
