"""Frames of a file or a camera through stages, with constant memory.

  decode  ->  bounded queue  ->  stages  ->  bounded queue  ->  encode
                                                  copied packets  ->

A *stage* is what a network, or anything else, does to a piece of video. It says
how far it looks (`halo`), and is only ever shown windows: a few frames of a few
pixels. Of each window the part is kept that saw all that it can see, so that
the result is that of the whole video at once, by construction:

  * windows of one stage have one size (it compiles once). At the borders of the
    frame, and at the ends of a shot, they move inwards instead of shrinking: a
    border that a stage sees is always a real one.
  * the context in time never crosses a scene cut.
  * frames whose sides are not multiples of `align` (or `multiple`) are padded
    by repetition.
  * a stage that does otherwise at a border than within the picture is shown
    frames that go on beyond it, mirrored (`border`).

A chain of stages needs no halo of its own: each stage has its own windows.

A *recurrent* stage sees one frame at a time and what it remembers of those
before, which begins anew with each shot. It remembers whole frames; only where
these do not fit into memory, each tile has a memory of its own, and its borders
may show.
"""

import collections
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import dataclasses
import fractions
import itertools
import queue
import threading
from typing import Any

import numpy as np

from vidgan_jax.video import read


@dataclasses.dataclass(kw_only=True, slots=True)
class Frame:
  """One frame on its way.

  Attributes:
    time: seconds, exact.
    duration: seconds that it is shown.
    shot: frames of one number belong together.
    picture: as decoded, while the result has its size and place: what is
      written when there is no image, or where a stage left it as it was.
    image: (H, W, 3) uint8 or uint16 RGB, upright; None where nothing looks at
      pixels, and for frames whose result exists already.
    alpha: (H, W), like the image, or None.
    base: the image that came in.
    mask: (H, W) bool, True where unknown, or None.
  """

  time: fractions.Fraction
  duration: fractions.Fraction
  shot: int = 0
  picture: Any = None
  image: np.ndarray | None = None
  alpha: np.ndarray | None = None
  base: np.ndarray | None = None
  mask: np.ndarray | None = None


class Step:
  """One step of a chain; a subclass has `frames`, a stream in and one out.

  Attributes:
    name: for messages.
    scale: side of the result / side of the input.
    fps: frames a second of the result, if they lie on a grid of their own, see
      `phases`.
    pixels: False if it leaves all pixels as they are: pictures then go from the
      decoder to the encoder as they are.
    rate: frames of the result for each frame of the input, but the last.
    temporal: whether scene cuts matter.
  """

  name = "step"
  scale = 1
  fps: float | fractions.Fraction | None = None
  pixels: bool | int = True
  rate: int = 1
  temporal = False

  def needs(self, skip: int) -> int:
    """Input frames that may be missing when the first `skip` results are."""
    return skip

  def size(self, height: int, width: int) -> tuple[int, int]:
    """Height and width of the result for those of the input."""
    return self.scale * height, self.scale * width


@dataclasses.dataclass(frozen=True, kw_only=True)
class Voice:
  """A sound that a stage follows.

  Attributes:
    path: of a file, whose sound the result has in place of the film's; '': it
      is that of the film.
    offset: seconds after the first picture at which the file's sound begins.
    rate: samples a second that the stage wants.
  """

  path: str = ""
  offset: float = 0.0
  rate: int = 16_000


class Stage(Step):
  """A step that is shown windows of frames by a `Runner`, and calls nothing.

  A subclass sets what differs from the values below, as class attributes,
  dataclass fields or properties, and defines `__call__`.

  Attributes:
    rate: frames of the result are (T - 1) * rate + 1.
    halo: (pixels, frames before, frames after) that a pixel of the result looks
      at. With a rate, frames between i and i+1 look at i - before to i + after.
    align: input pixels, of which offsets and sizes of windows are multiples.
    multiple: input pixels, of which the sides of a frame are made multiples,
      itself one of `align`.
    border: input pixels by which frames are mirrored beyond their borders
      before they are cut, a multiple of `align`; the result has none of them.
    masks: whether it looks at the mask.
    keeps: whether it leaves what a mask does not hide as it is: windows that
      hide nothing are then copied. It has the rate and the scale 1.
    unmasked: what a user is told who gives none, '' if it does without.
    voice: the sound that it follows; None: it is deaf.
    looks_back: whether it is shown the first frame of a shot beside each other.
    cost: bytes of working memory an input pixel and frame.
    compiled: whether it is a program that has to be compiled first.
    recurrent: whether it is called, frame after frame, with one argument more,
      its state, None at the start of a shot, and returns the result and the
      next state. Its halo is that of one frame.
  """

  align = multiple = 1
  halo = (0, 0, 0)
  border = 0
  masks = True
  cost: float = 512
  compiled = recurrent = keeps = looks_back = False
  unmasked = ""
  voice: Voice | None = None

  def hear(self, wave: np.ndarray) -> "Stage":
    """The stage that follows this sound, see `voice`.

    Args:
      wave: (S,) float32 of `voice.rate`, the first sample at time 0.
    """
    del wave
    return self

  def hides(self, image: np.ndarray) -> np.ndarray | None:
    """(h, w) bool, the mask of a whole frame where a user gives none."""
    del image
    return None

  def look(self, frames: list[Frame], first: Frame) -> "Stage":
    """The stage for windows of these frames, which knows what none shows.

    Args:
      frames: T whole ones; images are (h, w, 3) uint8 or uint16, see
        `to_float`.
      first: of their shot; without `looks_back` its image may be missing.
    """
    del frames, first
    return self

  def masked(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mask of a whole frame, with what no window shows in it.

    Args:
      image: (h, w, 3) uint8 or uint16.
      mask: (h, w) bool.

    Returns:
      (h, w, 1), cut like the frame: bool, or numbers that are 0 where it is
      False.
    """
    del image
    return mask[..., None]

  def __call__(
    self, video: np.ndarray, times: np.ndarray, mask: np.ndarray | None
  ) -> np.ndarray:
    """(T, h, w, 3) float32 in [-1, 1] -> (T', H, W, 3).

    Args:
      video: a window.
      times: (T,) seconds from the first frame of the shot.
      mask: (T, h, w, 1) float32, 1 where unknown, or None; the numbers of
        `masked`, if it makes any.
    """
    raise NotImplementedError(f"{type(self).__name__} defines no __call__.")


# ------------------------------------------------------------------ threads


def background(
  items: Iterable[Any],
  size: int,
  idle: Callable[[], None] = lambda: None,
  drop: Callable[[], None] | None = None,
) -> Iterator[Any]:
  """Runs an iterator in a thread of its own, at most `size` items ahead.

  Args:
    items: what to iterate over; an exception of it is raised here.
    size: of the queue.
    idle: is called now and then while there is nothing.
    drop: when given, the iterator is never kept waiting: where the queue is
      full the oldest item is dropped, and this called.
  """
  box, stop = queue.Queue(size), threading.Event()

  def put(item, error, end) -> bool:
    hurry = drop is not None and not end
    while not stop.is_set():
      try:
        box.put((item, error, end), timeout=0 if hurry else 0.1)
        return True
      except queue.Full:
        if hurry:
          with contextlib.suppress(queue.Empty):
            box.get_nowait()
            drop()
    return False

  def work():
    iterator, error = iter(items), None
    try:
      for item in iterator:
        if not put(item, None, False):
          break
    except BaseException as e:
      error = e
    finally:
      if isinstance(iterator, Generator):
        iterator.close()
    put(None, error, True)

  thread = threading.Thread(target=work, daemon=True)
  thread.start()
  try:
    while True:
      try:
        item, error, end = box.get(timeout=0.1)
      except queue.Empty:
        idle()
        continue
      if error is not None:
        raise error
      if end:
        return
      yield item
  finally:
    stop.set()
    thread.join(timeout=5)  # a camera may never answer


# ------------------------------------------------------------------ windows


def spans(size: int, window: int, halo: int) -> Iterator[tuple[int, int, int]]:
  """Covers a line: yields (start of the window, kept from, kept to).

  All windows are min(window, size) long and lie inside; every kept place has
  `halo` places of context on both sides, or the end of the line.
  """
  low = 0
  while low < size:
    start = max(0, min(low - halo, size - window))
    end = min(start + window, size)
    high = size if end == size else end - halo
    yield start, low, high
    low = high


class Runner:
  """Runs one stage over a stream of frames.

  Attributes:
    tile: side of the kept part of a window in input pixels; chosen from
      `memory` at the first frame when 0, halved when memory runs out.
    window: frames that the stage sees at a time.
  """

  def __init__(
    self,
    stage: Stage,
    *,
    tile: int = 0,
    chunk: int = 0,
    memory: int = 2**30,
    deep: bool = False,
    tell: Callable[[str], None] = lambda text: None,
  ):
    """Plans the windows.

    Args:
      stage: what to run.
      tile: input pixels, 0 = as large as `memory` allows.
      chunk: frames whose result is kept of each window, 0 = 8, or more when
        the stage looks far.
      memory: bytes that a window may take.
      deep: the result has 16 bits whatever came in.
      tell: takes a line for the user.
    """
    self.stage, self.tile, self._memory = stage, tile, memory
    pixels, self._before, self._after = stage.halo
    if stage.rate > 1:
      self._after = max(self._after, 1)
    around = self._before + self._after
    self._recurrent = stage.recurrent
    self._states = {}  # of a recurrent stage: corner of the tile -> state
    self.window = (chunk or max(8, 2 * around)) + around
    if self._recurrent:
      self.window = 1
    self._halo = -(-pixels // stage.align) * stage.align
    self._deep = deep
    self._tell, self._waits = tell, stage.compiled

  @property
  def step(self) -> int:
    """Frames of the result that come with each window."""
    return (self.window - self._before - self._after) * self.stage.rate

  @property
  def temporal(self) -> bool:
    """Whether scene cuts matter."""
    return self._recurrent or self._before + self._after > 0

  def needs(self, skip: int) -> int:
    """Input frames that may be missing when the first `skip` results are."""
    if self._recurrent or self.stage.looks_back:
      return 0  # it remembers all, or the first
    return max(0, skip // self.stage.rate - self.window)

  def __call__(self, frames: Iterable[Frame], skip: int = 0) -> Iterator[Frame]:
    """Yields the results; of the first `skip` the image may be None."""
    rate, count, last = self.stage.rate, 0, None
    if self._recurrent:
      skip = 0
    # Those held across the cut before may not be counted yet.
    done = lambda ahead: count + ahead + rate - 1 <= skip
    for _, shot in itertools.groupby(frames, key=lambda frame: frame.shot):
      held = last
      for frame in self._shot(shot, done):
        if held is not None:  # nothing is made up across a cut
          count += rate - 1
          yield from between(held, frame, [held] * (rate - 1))
          held = None
        count += 1
        last = frame if rate > 1 else None
        yield frame

  def _shot(
    self, frames: Iterable[Frame], done: Callable[[int], bool]
  ) -> Iterator[Frame]:
    """Results of one shot, window by window."""
    buffer, first = collections.deque(maxlen=self.window), None
    seen = kept = 0
    self._states.clear()
    for frame in frames:
      first = frame if first is None else first
      buffer.append(frame)
      seen += 1
      if seen == max(0, kept - self._before) + self.window:
        start, end = seen - len(buffer), seen - self._after
        yield from self._results(list(buffer), kept - start, end - start, first,
                                 done)  # fmt: skip
        kept = end
    if kept < seen:
      start = seen - len(buffer)
      yield from self._results(list(buffer), kept - start, seen - start, first,
                               done)  # fmt: skip

  def _results(self, frames, low, high, first, done) -> Iterator[Frame]:
    """Results of frames[low:high], and those between them and the next."""
    rate, scale = self.stage.rate, self.stage.scale
    total = (high - low) * rate - (rate - 1) * (high == len(frames))
    images = [None] * total
    if not done(total):
      images = self._images(frames, low * rate, total, first)
    grow = lambda x: x if x is None else x.repeat(scale, 0).repeat(scale, 1)
    for i in range(low, high):
      frame = frames[i]
      mine = images[(i - low) * rate : (i - low + 1) * rate]
      new = dataclasses.replace(frame, image=mine[0], mask=grow(frame.mask))
      if scale > 1 or rate > 1:
        new.picture = None
      yield new
      if len(mine) > 1:
        copies = [dataclasses.replace(new, image=image) for image in mine[1:]]
        yield from between(new, frames[i + 1], copies)

  def _images(self, frames, start, count, first) -> np.ndarray:
    """(count, H, W, 3) results from number `start` of this window on."""
    height, width = frames[0].image.shape[:2]
    if not self.tile:
      self.cover(height, width)
      if self._recurrent and self.tile + 2 * self._halo < max(height, width):
        self._tell_tiles("whole frames do not fit into memory")
    while True:
      try:
        return self._tiles(frames, start, count, first, height, width)
      except Exception as error:
        small = self.tile // 2
        if not _out_of_memory(error):
          raise
        self.tile = min(small, max(height, width) // 2)
        if self.tile < 16:
          raise read.VideoError(
            f"{self.stage.name}: memory does not suffice for a tile of 16"
            f" pixels and {self.window} frames; give --chunk 1"
          ) from error
      # Outside the handler, which keeps the failed arrays alive.
      self._states.clear()
      self._tell_tiles("out of memory")

  def cover(self, height: int, width: int) -> tuple[tuple[int, int], Any, Any]:
    """Covers a frame and its border with windows; chooses the tile once.

    Returns:
      (height, width) of each window, and the `spans` of rows and of columns.
    """
    align, halo = self.stage.align, self._halo
    up = lambda size, to: -(-size // to) * to
    edge, whole = 2 * self.stage.border, max(align, self.stage.multiple)
    sizes = [up(size + edge, whole) for size in (height, width)]
    if not self.tile:
      cost = self.stage.cost * self.window
      side = int((self._memory / cost) ** 0.5) - 2 * halo
      self.tile = max(64, side // 32 * 32)
      if sizes[0] * sizes[1] * cost <= self._memory:
        self.tile = max(self.tile, *sizes)
    window = up(self.tile + 2 * halo, align)
    rows, columns = (list(spans(size, window, halo)) for size in sizes)
    return tuple(min(window, size) for size in sizes), rows, columns

  def _tell_tiles(self, why: str) -> None:
    text = f"{self.stage.name}: {why}, tiles of {self.tile}"
    if self._recurrent:
      text += ", which remember each for itself: their borders may show"
    self._tell(text)

  def _tiles(self, frames, start, count, first, height, width) -> np.ndarray:
    stage, s, edge = self.stage, self.stage.scale, self.stage.border
    (high, wide), rows, columns = self.cover(height, width)
    height, width = height + 2 * edge, width + 2 * edge
    if self._waits:
      self._waits = False
      self._tell(
        f"{stage.name}: compiling for {len(frames)} frames of {wide}x{high};"
        " seconds if it is kept from before, else up to some minutes"
      )
    kind = np.uint16 if self._deep else frames[0].image.dtype
    out = np.empty((count, height * s, width * s, 3), kind)
    times = np.array([float(f.time - first.time) for f in frames])
    stage = stage.look(frames, first)
    images = [_mirrored(f.image, edge) for f in frames]
    masks = [stage.hides(f.image) if f.mask is None else f.mask for f in frames]
    if masks[0] is not None:
      pad = lambda a: _padded(a, 0, 0, rows[-1][2], columns[-1][2])
      masks = [
        stage.masked(pad(image), pad(_mirrored(mask, edge)))
        for image, mask in zip(images, masks)
      ]
    for y, y0, y1 in rows:
      for x, x0, x1 in columns:
        cut = lambda a, y=y, x=x: _padded(a, y, x, high, wide)
        video = to_float(np.stack([*map(cut, images)]))
        mask = None
        if masks[0] is not None:
          mask = np.stack([*map(cut, masks)])
          hidden = mask[start : start + count, y0 - y : y1 - y, x0 - x : x1 - x]
          mask = mask.astype(np.float32) if mask.dtype == bool else mask
        if stage.keeps and mask is not None and not hidden.any():
          got = video
        elif self._recurrent:
          state = self._states.get((y, x))
          got, self._states[y, x] = stage(video, times, mask, state)
        else:
          got = stage(video, times, mask)
        got = np.asarray(got, np.float32)
        if not np.isfinite(got.sum()):
          raise read.VideoError(
            f"{stage.name}: made a NaN or an infinity; the weights are damaged,"
            " or of a run that diverged"
          )
        got = got[start : start + count]
        y1, x1 = min(y1, height), min(x1, width)
        out[:, y0 * s : y1 * s, x0 * s : x1 * s] = to_integer(
          got[:, (y0 - y) * s : (y1 - y) * s, (x0 - x) * s : (x1 - x) * s],
          kind,
        )
    edge *= s
    whole = out[:, edge : height * s - edge, edge : width * s - edge]
    return np.ascontiguousarray(whole)


def between(frame: Frame, after: Frame, copies: list[Frame]) -> Iterator[Frame]:
  """Gives copies times between two frames, and shares out the duration."""
  step = (after.time - frame.time) / (len(copies) + 1)
  frame.duration = step
  for k, copy in enumerate(copies, 1):
    yield dataclasses.replace(
      copy, time=frame.time + k * step, duration=step, picture=None
    )


def _mirrored(a: np.ndarray, edge: int) -> np.ndarray:
  """(h, w, ...) with so many pixels more on each side."""
  if not edge:
    return a
  return np.pad(a, ((edge, edge),) * 2 + ((0, 0),) * (a.ndim - 2), "reflect")


def _padded(a: np.ndarray, y: int, x: int, height: int, width: int):
  """a[y:y+height, x:x+width], repeating the last row and column."""
  a = a[y : y + height, x : x + width]
  rows, columns = height - a.shape[0], width - a.shape[1]
  if not rows and not columns:
    return a
  return np.pad(a, ((0, rows), (0, columns)) + ((0, 0),) * (a.ndim - 2), "edge")


def _out_of_memory(error: BaseException) -> bool:
  return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def to_float(image: np.ndarray) -> np.ndarray:
  """uint8 or uint16 -> float32 in [-1, 1]."""
  out = image.astype(np.float32)
  out *= 2 / np.iinfo(image.dtype).max
  out -= 1
  return out


def to_integer(video: np.ndarray, kind: Any) -> np.ndarray:
  """float32 in [-1, 1] -> the nearest of uint8 or uint16; clips."""
  most = np.iinfo(kind).max
  out = video * np.float32(most / 2)
  out += np.float32(most / 2 + 0.5)
  return np.clip(out, 0, most, out=out).astype(kind)
