"""A whole file, pipe or camera through stages: the plan and its execution.

  job.process([stage, ...], "in.mp4", "out.mp4", plan.Options(crf=16))

The output appears under its name when it is whole. With `resume` it is made in
closed segments in the folder OUT.parts, from which a crashed run goes on: the
input is decoded again, which is cheap, and stages begin with the window where
the last segment ended. With `fps`, `filter`, interpolate:fps= or a recurrent
stage it starts over: segments do not record which input frames were consumed.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import fractions
import functools
import math
import signal
import threading
import time
from typing import Any

from vidgan_jax.video import editing
from vidgan_jax.video import edits
from vidgan_jax.video import hearing
from vidgan_jax.video import kept
from vidgan_jax.video import outputs
from vidgan_jax.video import pieces
from vidgan_jax.video import plan
from vidgan_jax.video import read
from vidgan_jax.video import segments
from vidgan_jax.video import sink as sink_lib
from vidgan_jax.video import source as source_lib
from vidgan_jax.video import stream

_QUEUE_BYTES = 2**26  # of frames that wait for the encoder, and the stages


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
  options: plan.Options | None = None,
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
    options = options or plan.Options()
    job = Job(stages, path, out, options, tell, progress, stack, mark)
    job.enough = enough
    if job.summary.done:
      tell(f"{out}: is done, of the same input with the same options")
    elif job.options.resume:
      job.segments.write()
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


class Job:
  """One input on its way to one output."""

  def __init__(self, stages, path, out, options, tell, progress, stack, mark):
    """Opens and checks everything that can be before the work starts."""
    options = hearing.voiced(stages, options)
    self.options, self.out, self.stack = options, out, stack
    self.tell, self._progress = tell, progress
    self.enough = lambda frames: False
    self.summary = Summary()
    quiet = lambda *_: None
    self.again = lambda: Job(
      stages, path, out, options, quiet, quiet, stack, None
    )
    self.encoding = sink_lib.Encoding(
      container=plan.container(out, options.format, path),
      codec=options.codec,
      crf=options.crf,
      preset=options.preset,
      effort=options.effort,
      pix_fmt=options.pix_fmt,
      exact=options.resume,
    )
    self.encoding.encoder()
    self._hurry = options.live or source_lib.hurries(path)
    plan.check(options, path, out, self.encoding.container)
    self.pieces = pieces.Pieces(path, options, stack)
    self.sources = self.pieces.sources
    source = self.source = self.sources[0]
    for name, files in {s.path: s.files for s in self.sources}.items():
      plan.tell_gaps(name, files, tell)
    self.pieces.fit(tell)
    self._anew = bool(
      self.pieces.woven or options.speed != 1 or options.audio_filter
    )
    plan.check_overwrites(out, self.sources, options)
    self.encoding = sink_lib.keeping_alpha(self.encoding, self.source, tell)
    self._plan(hearing.heard(stages, self.pieces, options, tell))
    if options.resume:
      self.segments = segments.Segments(self, mark)
      self.summary.done = self.segments.are_done()
    if not (options.overwrite or self.summary.done):
      if why := outputs.taken(out, self.encoding.container):
        raise read.VideoError(why)
    copy = kept.copyable(
      source, self.encoding.container,
      audio=options.sound and not options.voice, anew=self._anew, tell=tell,
    )  # fmt: skip
    copy += hearing.streams(options, self.encoding.container, tell)
    self.pieces.choose(copy, tell)
    self._packets = collections.deque()  # (index, packet) to be copied
    self._sink = None

  def _plan(self, stages: list[Any]) -> None:
    """Makes runners of stages, and the clock of the output."""
    options, source = self.options, self.source
    stages = [s for s in stages if s.pixels]
    networks = [i for i, s in enumerate(stages) if isinstance(s, stream.Stage)]
    for stage in () if options.mask else [stages[i] for i in networks]:
      if stage.unmasked:
        self.tell(f"{stage.name}: {stage.unmasked}")
    self.stages, self._steps = stages, []
    for i, stage in enumerate(stages):
      if i in networks:
        stage = stream.Runner(
          stage,
          tile=options.tile,
          chunk=options.chunk,
          memory=options.memory or plan.window_memory(stage),
          deep=i != networks[-1],
          tell=self.tell,
        )
      self._steps.append(stage)
    self.runners = [s for s in self._steps if isinstance(s, stream.Runner)]
    kind = self.encoding.container
    info, turned = source.reader.info, source_lib.turn(source) != read.UPRIGHT
    height, width, aspect = source_lib.shown(source)
    made = plan.check_size(stages, height, width)
    asked = [s.fps for s in stages if s.fps]
    if all(s.images for s in self.sources):
      options = dataclasses.replace(options, fps=None)  # they have it already
    self.timing = plan.timing(
      options,
      container=kind,
      fps=info.fps,
      bases=[s.reader.stream.time_base for s in self.sources]
      + [fractions.Fraction(1, 90_000)] * bool(options.filter),  # other rates
      rate=math.prod(s.rate for s in stages if not s.fps),
      asked=asked[-1] if asked else None,
      duration=info.duration,
    )
    self.editing = editing.Editing(
      options,
      timing=self.timing,
      aspect=aspect,
      turned=turned,
      masked=any(stages[i].masks for i in networks),
      total=info.frames,
      clear=sink_lib.is_clear(self.encoding.encoder()),
      length=self.pieces.length,
      tell=self.tell,
    )
    self.editing.check(*made)
    # Images are upright RGB.
    self._pixels = bool(stages) or kind in kept.PICTURES
    self._pixels |= self.editing.pixels or not self.pieces.alike
    if kind not in sink_lib.TURNS:
      self._pixels |= turned
    plan.make_whole(options, self.sources, self._pixels, self.tell)
    if self.timing.limited:
      self.tell(
        f"{self.out}: players of GIF show at most {plan.GIF_RATE} frames/s"
      )
    self._queue = 8
    if source.picture is not None:
      area = source.picture.height * source.picture.width
      self._queue = max(2, min(16, _QUEUE_BYTES // (3 * area)))

  def frames(self, skip: int = 0) -> Iterator[stream.Frame]:
    """The frames to be written; of the first `skip` images may be missing."""
    first = 0 if self.editing.whole else skip
    needs = []
    for step in reversed(self._steps):
      if isinstance(step, stream.Runner):
        needs.append(first)
      first = step.needs(first)
    first = 0 if self.editing.whole_input else first
    drop = self._dropped if self._hurry else None
    frames = self.pieces.frames(
      pixels=self._pixels,
      cuts=any(step.temporal for step in self._steps),
      skip=first,
      # Segments are joined with what `pieces.packets` reads once more.
      take=None if self.options.resume else self._take,
    )
    frames = stream.background(frames, self._queue, drop=drop)
    self.stack.callback(_close, frames)  # before the inputs are
    frames = self.editing.before(frames)
    for step in self._steps:
      if isinstance(step, stream.Runner):
        frames = step(frames, needs.pop())
      else:
        frames = step.frames(frames)
    frames = self.editing.after(frames, self._pixels)
    return stream.background(edits.finished(frames), self._queue, self._drain)

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

  def open(self, path, frame, copy=()) -> sink_lib.Sink:
    encoding = self.encoding
    if encoding.container == "gif":
      encoding = sink_lib.FILM  # to choose the palette from
    make = functools.partial(
      sink_lib.Sink,
      encoding=encoding,
      source=self.source,
      frame=frame,
      name=self.out,
      time_base=self.timing.base,
      rate=self.timing.fps,
      square=self.editing.square,
      copy=copy,
      shift=self.pieces.shift,
      speed=self.timing.speed,
      anew=self._anew,
      audio_filter=self.options.audio_filter or "",
    )
    kept.rehearse(make, self.encoding.container, self.tell)
    return make(path, tell=self.tell)

  def wrote(self) -> None:
    self.summary.frames += 1
    self.summary.marks.append(time.perf_counter())
    del self.summary.marks[:-1000]
    self._progress(self.summary.frames, self.timing.total)

  def at_once(self) -> None:
    """Writes the output in one go."""
    frames = contextlib.closing(self.frames())
    with (
      outputs.place(self.out, self.encoding.container) as path,
      frames as frames,
      self._until_ctrl_c(),
    ):
      try:
        try:
          for frame in frames:
            if self._sink is None:
              self._sink = self.open(path, frame, self.pieces.copies)
            self._drain()
            self._sink.write(frame)
            self.wrote()
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
  def _until_ctrl_c(self) -> Iterator[None]:
    """Lets Ctrl-C end a live input as its own end would, the next one abort."""
    main = threading.current_thread() is threading.main_thread()
    if not self.source.live or not main:
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


def _close(frames: Any) -> None:
  with contextlib.suppress(ValueError):  # a thread still waits for a camera
    frames.close()
